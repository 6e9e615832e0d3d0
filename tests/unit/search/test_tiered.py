"""Two tiers: the margin test, the joint ranking, and that everything is found where the second tier is asked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.build.stream import build_index
from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError, InputError
from thresher.records import Passage
from thresher.search.routing import MARGINS, SIGNS, MarginTest, margins, missed_share, signs
from thresher.search.searcher import Searcher
from thresher.search.tiers import TieredSearcher, calibrate

WORDS = [f"w{i}" for i in range(30)]


def passages(n, seed):
    rng = np.random.default_rng(seed)
    return [Passage(f"p{seed}-{i}", " ".join(rng.choice(WORDS, 12))) for i in range(n)]


@pytest.fixture(scope="module")
def tiers(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiers")
    build_index(path / "one", passages(40, 1))
    build_index(path / "two", passages(40, 2))
    return TieredSearcher(Searcher.open(path / "one"), Searcher.open(path / "two"))


@given(st.lists(st.floats(0.01, 100), max_size=20), st.integers(1, 10))
def test_margins_are_finite_and_do_not_mind_the_scale_but_for_the_best(values, k):
    scores = np.sort(np.array(values))[::-1]
    found = margins(scores, k)
    assert found.shape == (len(MARGINS),)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(margins(scores * 7, k)[1:], found[1:], atol=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 30))
def test_prospects_bound_what_the_second_tier_holds(seed, terms, k):
    rng = np.random.default_rng(seed)
    weights = rng.random(terms) + 0.1
    tiers = [rng.random((40, terms)) * (rng.random((40, terms)) < 0.4) for _ in range(2)]
    answers = [np.sort((tier @ weights)[(tier @ weights) > 0])[::-1] for tier in tiers]
    lists = [np.stack([-np.sort(-tier, axis=0)[0], -np.sort(-tier, axis=0)[9], (tier > 0).sum(0)], 1) for tier in tiers]
    found = dict(zip(SIGNS, signs(answers[0], weights, *lists, k), strict=True))
    assert all(np.isfinite(value) for value in found.values())
    best = answers[1][0] if len(answers[1]) else 0.0
    if len(answers[0]) >= k:
        last = answers[0][k - 1]
        assert min(found["most"], 4) >= min(best / last, 4) - 1e-9
        assert found["surely"] <= min(best / last, 4) + 1e-9
        assert found["surely_ten"] <= found["surely"]
    assert 0 <= found["share"] <= 1
    assert 0 <= found["reach"] <= 1 + 1e-9


def test_an_answer_the_second_tier_cannot_change_never_goes_on():
    table = np.random.default_rng(0).normal(size=(50, len(SIGNS)))
    test = MarginTest.fit(table, np.linspace(0, 1, 50), 1.0)
    weights, held = np.array([1.0]), np.array([[9.0, 8.0, 20.0]])
    assert not test.unsure(signs([9.0] * 10, weights, held, np.array([[7.0, 6.0, 20.0]])))
    assert test.unsure(signs([9.0] * 10, weights, held, np.array([[9.5, 6.0, 20.0]]))) == (
        test.doubt(signs([9.0] * 10, weights, held, np.array([[9.5, 6.0, 20.0]]))[None])[0] > test.threshold
    )


def test_tiers_of_one_encoder_compare_the_lists_of_both(tiers):
    same = TieredSearcher(tiers.first, tiers.first)
    terms = same.first.terms("w1 w2")
    found = dict(zip(SIGNS, same.signs(terms, same.first.search(terms, 10), 10), strict=True))
    assert found["most"] >= 1  # the bound of the same list reaches its own scores
    assert found["share"] == pytest.approx(0.5)
    assert found["reach"] == pytest.approx(1)
    other = dict(zip(SIGNS, tiers.signs(terms, tiers.first.search(terms, 10), 10), strict=True))
    assert other["most"] == other["share"] == 1  # scores do not compare


def test_terms_no_tier_knows_are_ignored(tiers):
    same = TieredSearcher(tiers.first, tiers.first, calibrate(tiers, ["w1 w2", "w3"], 0.5))
    assert same.comparable
    ids, weights = same.first.terms("w1 w2")
    strange = (np.array([*ids, 10**9, -5]), np.array([*weights, 1.0, 1.0], np.float32))
    assert same.search(strange).docnos == same.search((ids, weights)).docnos


def test_a_tier_whose_rows_lead_astray_is_refused(tmp_path):
    build_index(tmp_path / "one", passages(40, 1))
    build_index(tmp_path / "two", passages(40, 1))
    kinds = tmp_path / "two" / "kinds"
    kinds.write_bytes(b"\xff" * kinds.stat().st_size)
    pair = TieredSearcher(Searcher.open(tmp_path / "one"), Searcher.open(tmp_path / "two"))
    assert pair.comparable
    with pytest.raises(DamagedArtifactError, match="two/kinds: "):
        calibrate(pair, ["w1 w2"], 0.5)
    terms = pair.first.terms("w1 w2")
    with pytest.raises(DamagedArtifactError, match="two/kinds: "):
        pair.signs(terms, pair.first.search(terms, 10), 10)


def test_the_missed_share_weighs_by_rank():
    assert missed_share(["a", "b"], ["a", "b"], 2) == 0
    assert missed_share([], ["a"], 10) == 1
    assert missed_share(["b"], ["a", "b"], 2) > missed_share(["a"], ["a", "b"], 2) > 0
    assert missed_share(["a"], [], 10) == 0


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_the_test_lets_the_calibrated_share_through_and_those_that_miss_most(rate):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(200, len(SIGNS)))
    missed = np.clip(table[:, 2] * 0.3 + 0.4, 0, 1)
    test = MarginTest.fit(table, missed, rate)
    through = test.doubt(table) > test.threshold
    assert through.sum() == rate * 200
    if 0 < rate < 1:
        assert missed[through].mean() > missed[~through].mean() + 0.2
    again = MarginTest.from_json(test.as_json())
    np.testing.assert_array_equal(again.doubt(table), test.doubt(table))


def test_the_rate_can_be_set_again_on_other_queries():
    rng = np.random.default_rng(1)
    table, other = rng.normal(size=(100, len(SIGNS))), rng.normal(1.0, 2.0, size=(60, len(SIGNS)))
    test = MarginTest.fit(table, rng.random(100), 0.3)
    again = test.at_rate(other, 0.1)
    assert (again.doubt(other) > again.threshold).sum() == 6
    np.testing.assert_array_equal(again.weights, test.weights)


def test_with_the_second_tier_every_passage_can_be_found(tiers):
    everything = {p.docno for p in passages(40, 1)} | {p.docno for p in passages(40, 2)}
    found = set()
    for word in WORDS:
        result = tiers.search(word, 80, second="always")
        assert result.fell_through
        assert [hit.rank for hit in result] == list(range(1, len(result) + 1))
        assert all(a.score >= b.score for a, b in pairwise(result))
        found |= set(result.docnos)
    assert found == everything


def test_the_margin_test_decides_and_both_ways_can_be_forced(tiers):
    queries = [f"{a} {b}" for a, b in pairwise(WORDS)]
    tiers = TieredSearcher(tiers.first, tiers.second, calibrate(tiers, queries, 0.3))
    through = [tiers.search(q).fell_through for q in queries]
    assert sum(through) <= 0.3 * len(queries)
    assert sum(through) >= 1
    never = tiers.search(queries[0], second="never")
    assert never.docnos == tiers.first.search(queries[0], 10).docnos


def test_what_cannot_be_done_is_said(tiers, tmp_path):
    with pytest.raises(ConfigError, match="no margin test"):
        tiers.search("w1")
    with pytest.raises(ConfigError, match="'sometimes'"):
        tiers.search("w1", second="sometimes")
    with pytest.raises(ArtifactError, match="no second tier"):
        TieredSearcher.open(tmp_path)
    with pytest.raises(ConfigError, match=r"rate of 1\.5"):
        MarginTest.fit(np.zeros((2, len(SIGNS))), np.zeros(2), 1.5)
    with pytest.raises(InputError, match="at least one"):
        MarginTest.fit(np.zeros((0, len(SIGNS))), np.zeros(0), 0.5)


def test_without_a_margin_test_comparable_tiers_are_one_list_and_others_fill_up(tiers):
    assert not tiers.comparable  # each tier has statistics of its own
    kept = tiers.first.search("w1", 80)
    filled = tiers.search_uncalibrated("w1", 80)
    assert filled.docnos[: len(kept)] == kept.docnos
    assert filled.tiers == (1,) * len(kept) + (2,) * (len(filled) - len(kept))
    assert all(
        a > b or (a == b and s == t) for (a, s), (b, t) in pairwise(zip(filled.scores, filled.tiers, strict=True))
    )
    assert not tiers.search_uncalibrated("w1", 1).fell_through
    same = TieredSearcher(tiers.first, tiers.first)
    assert same.comparable
    assert same.search_uncalibrated("w1", 5).fell_through


@pytest.mark.parametrize("k", [1, 5, 40, 200])
def test_candidates_of_tiers_that_do_not_compare_are_interleaved_by_the_tiers_sizes(tiers, k):
    kept, pruned = tiers.first.search("w1", k), tiers.second.search("w1", k)
    found = tiers.candidates("w1", k, explain=True)
    assert len(found) == min(k, len(kept) + len(pruned))
    assert [d for d, t in zip(found.docnos, found.tiers, strict=True) if t == 1] == kept.docnos[: found.tiers.count(1)]
    assert [d for d, t in zip(found.docnos, found.tiers, strict=True) if t == 2] == pruned.docnos[
        : found.tiers.count(2)
    ]
    assert (np.diff(found.scores) <= 0).all()
    ratio = len(tiers.first) / len(tiers.second)
    for place, tier in enumerate(found.tiers):  # one of the second tier stands behind as many of the first as it would
        if tier == 2:
            before = found.tiers[:place]
            standing = (before.count(2) + 0.5) * ratio
            assert before.count(1) >= min(standing, len(kept))
            assert before.count(1) <= standing + 1 or kept.scores[before.count(1) - 1] == found.scores[place]
    assert len(found.explanations) == 2


def test_candidates_of_tiers_that_compare_are_one_list(tiers):
    same = TieredSearcher(tiers.first, tiers.first)
    assert same.candidates("w1", 7).docnos == same.search("w1", 7, second="always").docnos
    calibrated = TieredSearcher(tiers.first, tiers.second, MarginTest.fit(np.zeros((2, len(SIGNS))), np.zeros(2), 0.5))
    assert calibrated.candidates("w1", 7).docnos == calibrated.search("w1", 7).docnos


def test_hits_are_made_from_the_tier_they_come_from_and_the_search_can_be_explained(tiers):
    result = tiers.search("w1 w2", 6, second="always", explain=True)
    assert len(result.explanations) == 2
    for hit, tier in zip(result, result.tiers, strict=True):
        assert hit.docno.startswith(f"p{tier}-")
        assert hit.text
    assert [hit.docno for hit in result[:3]] == result.docnos[:3]
