"""What the builder stores is what the quantisation module says, and long work can be watched."""

import numpy as np
import pytest

from thresher.encode.terms import fit_scale
from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.records import Passage, SparseBatch
from thresher.search import Index


def built(path, weights, *, bits=8, progress=False):
    """An index of one passage a weight, all of one term."""
    n = len(weights)
    batch = SparseBatch(np.arange(n + 1, dtype=np.int64), np.zeros(n, np.uint32), np.asarray(weights, np.float32))
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, ["grain"], bits=bits, progress=progress)
        builder.add([Passage(f"{number:04d}", "text") for number in range(n)], batch)
        draft.fields["counts"] = builder.finish()
    return Index.open(path)


def stored(searcher, n):
    """Scores of the one term at weight 1, in the order the passages came: impact times scale."""
    return [hit.score for hit in sorted(searcher.search({"grain": 1.0}, n), key=lambda hit: hit.docno)]


@pytest.mark.parametrize("bits", [8, 16])
def test_impacts_are_those_of_the_quantisation_module(tmp_path, bits):
    weights = np.random.default_rng(0).lognormal(0, 1.5, 300).astype(np.float32)
    scale = fit_scale(float(weights.max()), bits)
    wanted = scale.quantize(weights).astype(np.float64) * scale.scale
    assert stored(built(tmp_path / "index", weights, bits=bits), 300) == wanted.tolist()
    assert wanted.min() < wanted.max()


def test_whole_weights_that_fit_are_stored_as_they_are(tmp_path):
    weights = [3.0, 1.0, 200.0]
    assert stored(built(tmp_path / "index", weights), 3) == weights


def test_progress_is_shown_only_where_it_is_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("thresher.index.builder.BAR_DELAY", 0)
    built(tmp_path / "quiet", [1.0, 2.0])
    assert capsys.readouterr().err == ""
    built(tmp_path / "watched", [1.0, 2.0], progress=True)
    assert "ordering" in capsys.readouterr().err
