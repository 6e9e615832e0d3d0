import numpy as np
import pytest

from thresher.errors import InputError
from thresher.ranking import Ranking
from thresher.vectors.interpolate import rocchio
from thresher.vectors.store import VectorStore


@pytest.fixture
def index(tmp_path):
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.8]], np.float32)
    return VectorStore.build(
        tmp_path / "f", [vectors], docnos=["a#0", "b#0", "c#0", "c#1"], document_of=lambda name: name.split("#")[0]
    )


def test_the_query_moves_to_the_mean_of_its_feedback_and_keeps_its_length(index):
    moved = rocchio(index, np.array([2.0, 0, 0]), index.find(["a", "b"]), weight=2.0)
    expected = np.array([2.0, 0, 0]) + 2.0 * np.array([0.5, 0.5, 0])
    assert moved.dtype == np.float32
    assert np.allclose(moved, 2 * expected / np.linalg.norm(expected))


def test_of_a_document_with_several_vectors_the_nearest_counts(index):
    moved = rocchio(index, np.array([0, 1.0, 0]), index.find(["c"]))
    assert np.allclose(moved, np.array([0, 1.6, 0.8]) / np.linalg.norm([1.6, 0.8]), atol=1e-3)


def test_without_feedback_or_weight_the_query_stays(index):
    query = np.array([0.1, 0.2, 0.3], np.float32)
    assert np.array_equal(rocchio(index, query, index.find([])), query)
    assert np.array_equal(rocchio(index, query, index.find(["a"]), weight=0), query)


def test_feedback_that_cancels_the_query_leaves_it(index):
    query = np.array([-1.0, 0, 0], np.float32)
    assert np.array_equal(rocchio(index, query, index.find(["a"])), query)


def test_bad_input_is_named(index):
    with pytest.raises(InputError, match=r"weight of the feedback must be .*; got -1"):
        rocchio(index, np.ones(3), index.find(["a"]), weight=-1)
    with pytest.raises(InputError, match=r"weight of the feedback must be .*; got nan"):
        rocchio(index, np.ones(3), index.find(["a"]), weight=float("nan"))


def test_feedback_brings_up_what_resembles_the_first_passage(tmp_path):
    vectors = np.array([[0.7, 0.714, 0], [0.6, 0, 0.8], [0, 1, 0]], np.float32)
    index = VectorStore.build(tmp_path / "g", [vectors], docnos=["first", "other", "like-first"])
    ranking = Ranking.from_pairs([(docno, 0.0) for docno in ("first", "other", "like-first")])
    query = np.array([1.0, 0, 0], np.float32)
    before = index.interpolate(ranking, query, alpha=0)
    after = index.interpolate(ranking, rocchio(index, query, index.find(["first"]), weight=9.0), alpha=0)
    assert [row.docno for row in before] == ["first", "other", "like-first"]
    assert [row.docno for row in after] == ["first", "like-first", "other"]
