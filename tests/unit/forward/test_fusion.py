import numpy as np
import pytest

from thresher.errors import ConfigError, InputError
from thresher.forward.fusion import fuse, normalise_scores, reciprocal_rank_fusion
from thresher.records import Run, ScoredDoc


def run(**rankings):
    return Run({qid: tuple(ScoredDoc(*row) for row in rows) for qid, rows in rankings.items()})


A = run(q=[("a", 3.0), ("b", 2.0), ("c", 1.0)])
B = run(q=[("c", 90.0), ("a", 50.0)], r=[("z", 1.0)])


def test_reciprocal_ranks_add_up():
    fused = reciprocal_rank_fusion([A, B], k=60)
    assert [row.docno for row in fused.rankings["q"]] == ["a", "c", "b"]
    assert fused.rankings["q"][0].score == 1 / 61 + 1 / 62
    assert [row.docno for row in fused.rankings["r"]] == ["z"]


def test_weights_apply_to_normalised_scores_and_an_absent_document_gets_the_floor():
    fused = fuse([A, B], [0.25, 0.75])
    assert {row.docno: row.score for row in fused.rankings["q"]} == {"c": 0.75, "a": 0.25, "b": 0.125}


def test_equal_scores_are_broken_by_docno():
    fused = reciprocal_rank_fusion([run(q=[("b", 1.0)]), run(q=[("a", 1.0)])])
    assert [row.docno for row in fused.rankings["q"]] == ["a", "b"]


def test_normalisations_are_what_they_say():
    scores = np.array([1.0, 2.0, 5.0])
    assert normalise_scores(scores, "min-max").tolist() == [0.0, 0.25, 1.0]
    assert abs(normalise_scores(scores, "z-score").mean()) < 1e-12
    assert normalise_scores(scores, "none").tolist() == [1.0, 2.0, 5.0]
    assert normalise_scores(np.ones(3), "min-max").tolist() == [0.0, 0.0, 0.0]
    assert normalise_scores(np.ones(3), "z-score").tolist() == [0.0, 0.0, 0.0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="2 runs"):
        fuse([A, B], [1.0])
    with pytest.raises(ConfigError, match="unknown normalisation"):
        fuse([A, B], [1.0, 1.0], normalise="rank")
    with pytest.raises(InputError, match="above 0"):
        reciprocal_rank_fusion([A], k=0)
