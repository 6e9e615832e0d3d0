"""One ranking: what it holds, how it is cut, taken apart and fused, and that texts come from where it came from."""

import numpy as np
import pytest

from thresher.errors import ConfigError, InputError
from thresher.fusion import normalise_scores
from thresher.ranking import Ranking, Run, fuse, fuse_runs
from thresher.records import Hit, Passage
from thresher.texts import HeldPassages

A = Ranking.from_pairs([("a", 3.0), ("b", 2.0), ("c", 1.0)])
B = Ranking.from_pairs([("c", 90.0), ("a", 50.0)])


class Numbered:
    """Three passages that know their numbers, and count how often they are asked for."""

    def __init__(self):
        self.asked = 0

    def docnos_at(self, numbers):
        self.asked += 1
        return [f"d{n}" for n in numbers.tolist()]

    def passages_at(self, numbers):
        return [Passage(f"d{n}", f"text {n}", metadata={"n": str(n)}) for n in numbers.tolist()]

    def passages(self, docnos):
        return [Passage(docno, f"text {docno[1:]}") for docno in docnos]


def test_hits_carry_rank_score_and_text():
    held = HeldPassages([Passage("a", "alpha", "A"), Passage("b", "beta")])
    ranking = Ranking(["b", "a"], [2.0, 1.0], passages=held)
    assert list(ranking) == [Hit("b", 2.0, 1, "beta"), Hit("a", 1.0, 2, "alpha", "A")]
    assert ranking[-1].rank == 2
    assert [p.docno for p in ranking.passages()] == ["b", "a"]
    assert Ranking.from_hits(ranking)[0] == ranking[0]


def test_docnos_of_numbers_are_looked_up_once_and_only_when_needed():
    source = Numbered()
    ranking = Ranking.of_numbers(source, np.array([2, 0]), np.array([5.0, 4.0]))
    assert len(ranking) == 2
    assert source.asked == 0
    assert ranking[0] == Hit("d2", 5.0, 1, "text 2", metadata={"n": "2"})
    assert ranking.docnos == ranking.docnos == ["d2", "d0"]
    assert source.asked == 1
    assert ranking.cut(1).numbers.tolist() == [2]


def test_without_texts_hits_are_bare_and_asking_for_texts_says_how_to_give_them():
    assert A[0] == Hit("a", 3.0, 1)
    with pytest.raises(InputError, match="with_passages"):
        A.passages()
    assert A.with_passages(Numbered()).cut(0).passages() == []
    with pytest.raises(InputError, match="no numbers"):
        _ = A.numbers


def test_cut_and_slice_and_take_give_rankings():
    assert A.cut(2).docnos == A[:2].docnos == ["a", "b"]
    assert A.cut(9) is A
    assert A[::-1].pairs() == [("c", 1.0), ("b", 2.0), ("a", 3.0)]
    assert A.take([2, 0], [9.0, 8.0], source="rerank").pairs() == [("c", 9.0), ("a", 8.0)]
    with pytest.raises(InputError, match="k must be a whole number, at least 0; got -1"):
        A.cut(-1)


def test_scores_are_one_a_docno_and_fall_by_one_where_none_are_given():
    assert Ranking(["x", "y"]).scores.tolist() == [2.0, 1.0]
    with pytest.raises(InputError, match="2 docnos has 3 scores"):
        Ranking(["x", "y"], [1.0, 2.0, 3.0])


def test_rankings_are_equal_by_docnos_and_scores():
    assert Ranking.from_pairs(A.pairs()) == A
    assert A != B
    assert repr(A) == "<Ranking: 3 passages: a, b, c>"
    assert repr(Ranking([])) == "<Ranking: empty>"


def test_a_run_is_a_mapping_of_rankings():
    run = A.to_run("q1")
    assert run["q1"] is A
    assert list(run) == ["q1"]
    assert repr(run) == "<Run 'thresher': 1 query>"


def test_reciprocal_ranks_add_up():
    fused = A.fuse(B)
    assert fused.docnos == ["a", "c", "b"]
    assert fused.scores[0] == 1 / 61 + 1 / 62
    runs = fuse_runs([Run({"q": A}), Run({"q": B, "r": B.cut(1)})])
    assert runs["q"] == fused
    assert runs["r"].docnos == ["c"]


def test_weights_apply_to_normalised_scores_and_an_absent_passage_gets_the_floor():
    assert fuse([A, B], how="min-max", weights=[0.25, 0.75]).pairs() == [("c", 0.75), ("a", 0.25), ("b", 0.125)]


def test_equal_scores_are_ordered_by_docno():
    assert Ranking(["b"]).fuse(Ranking(["a"])).docnos == ["a", "b"]


def test_a_fused_ranking_is_exact_where_all_are():
    assert A.fuse(B).exact
    assert not A.fuse(Ranking(["z"], exact=False)).exact


def test_normalisations():
    scores = np.array([1.0, 2.0, 5.0])
    assert normalise_scores(scores, "min-max").tolist() == [0.0, 0.25, 1.0]
    assert abs(normalise_scores(scores, "z-score").mean()) < 1e-12
    assert normalise_scores(scores, "none").tolist() == [1.0, 2.0, 5.0]
    assert normalise_scores(np.ones(3), "min-max").tolist() == [0.0, 0.0, 0.0]
    assert normalise_scores(np.ones(3), "z-score").tolist() == [0.0, 0.0, 0.0]


def test_wrong_settings_of_fusion_are_refused():
    with pytest.raises(InputError, match="2 rankings"):
        fuse([A, B], weights=[1.0])
    with pytest.raises(ConfigError, match="unknown way to fuse"):
        fuse([A, B], how="rank")
    with pytest.raises(InputError, match="above 0"):
        A.fuse(B, k=0)
