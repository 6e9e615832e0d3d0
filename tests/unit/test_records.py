"""Values check themselves."""

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.records import Passage, Span, SparseBatch, Usage


def test_contents_joins_title_and_text():
    assert Passage("d", "text", "title").contents == "title text"
    assert Passage("d", "text").contents == "text"


@pytest.mark.parametrize("docno", ["", "a b", " a", "a\n"])
def test_a_docno_must_survive_a_run_file(docno):
    with pytest.raises(InputError, match="docno"):
        Passage(docno, "text")


def test_a_sparse_batch_refuses_arrays_that_do_not_fit():
    indptr = np.array([0, 2], np.int64)
    terms, weights = np.array([1, 5], np.uint32), np.array([0.5, 1], np.float32)
    assert len(SparseBatch(indptr, terms, weights)) == 1
    with pytest.raises(InputError, match="weights is float64"):
        SparseBatch(indptr, terms, weights.astype(np.float64))
    with pytest.raises(InputError, match="start at 0 and end"):
        SparseBatch(np.array([0, 3], np.int64), terms, weights)
    with pytest.raises(InputError, match="2 terms but 1 weights"):
        SparseBatch(indptr, terms, weights[:1])
    with pytest.raises(InputError, match="one-dimensional"):
        SparseBatch(indptr, terms.reshape(1, 2), weights)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2)])
def test_a_span_goes_forward(start, end):
    with pytest.raises(InputError):
        Span(start, end)


def test_a_ledger_grows_by_stages_and_stays_itself():
    first = Usage().with_stage("encode", 1.5, passages=3)
    second = first.with_stage("index", 0.5)
    assert first.seconds == 1.5
    assert second.seconds == 2.0
    assert [stage.stage for stage in second.stages] == ["encode", "index"]
