"""Two tiers: the routing model, the joint ranking, and that every passage is found when both are searched."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.indexes import as_tiers, segment_of
from thresher.build.stream import build_index
from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.records import Passage
from thresher.search import Index, SearchRanking, calibrate_tiers
from thresher.search.effort import EXACT_LIMITS
from thresher.search.routing import (
    FEATURES,
    SCORE_FEATURES,
    RoutingModel,
    missed_share,
    routing_features,
    score_features,
)
from thresher.search.tiers import Wanted, fit_model

WORDS = [f"w{i}" for i in range(30)]


def passages(n, seed, words=12):
    rng = np.random.default_rng(seed)
    return [Passage(f"p{seed}-{i}", " ".join(rng.choice(WORDS, words))) for i in range(n)]


def pair_of(one, two):
    return as_tiers(Index.open(one), Index.open(two))


def with_model(index, model):
    return index.with_routing(model)


def weighed(tier, query):
    """A query as a tier scores it."""
    ids, given = tier.space.row(query)
    return ids, tier.space.weigh(ids, given)


def twice(index):
    """An index whose tiers are the same passages, so that scores compare."""
    return as_tiers(index, index)


def features(index, terms, k=10):
    found = index.search(terms, k, tiers="first")
    pair = index._now.pair
    return pair.features(terms[0], pair.first.space.weigh(*terms), found.scores, k)


@pytest.fixture(scope="module")
def tiers(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiers")
    build_index(path / "one", passages(40, 1), "bm25")
    build_index(path / "two", passages(40, 2, words=11), "bm25")  # another average length: another encoder
    return pair_of(path / "one", path / "two")


@given(st.lists(st.floats(0.01, 100), max_size=20), st.integers(1, 10))
def test_score_features_are_finite_and_only_the_best_depends_on_the_scale(values, k):
    scores = np.sort(np.array(values))[::-1]
    found = score_features(scores, k)
    assert found.shape == (len(SCORE_FEATURES),)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(score_features(scores * 7, k)[1:], found[1:], atol=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 30))
def test_list_features_bound_what_the_second_tier_holds(seed, terms, k):
    rng = np.random.default_rng(seed)
    weights = rng.random(terms) + 0.1
    tiers = [rng.random((40, terms)) * (rng.random((40, terms)) < 0.4) for _ in range(2)]
    answers = [np.sort((tier @ weights)[(tier @ weights) > 0])[::-1] for tier in tiers]
    lists = [np.stack([-np.sort(-tier, axis=0)[0], -np.sort(-tier, axis=0)[9], (tier > 0).sum(0)], 1) for tier in tiers]
    found = dict(zip(FEATURES, routing_features(answers[0], weights, *lists, k), strict=True))
    assert all(np.isfinite(value) for value in found.values())
    best = answers[1][0] if len(answers[1]) else 0.0
    if len(answers[0]) >= k:
        last = answers[0][k - 1]
        assert min(found["most"], 4) >= min(best / last, 4) - 1e-9
        assert found["surely"] <= min(best / last, 4) + 1e-9
        assert found["surely_ten"] <= found["surely"]
    assert 0 <= found["share"] <= 1
    assert 0 <= found["reach"] <= 1 + 1e-9


def test_an_answer_the_second_tier_cannot_change_never_escalates():
    table = np.random.default_rng(0).normal(size=(50, len(FEATURES)))
    test = RoutingModel.fit(table, np.linspace(0, 1, 50), 1.0)
    weights, held = np.array([1.0]), np.array([[9.0, 8.0, 20.0]])
    assert not test.escalates(routing_features([9.0] * 10, weights, held, np.array([[7.0, 6.0, 20.0]])))
    assert test.escalates(routing_features([9.0] * 10, weights, held, np.array([[9.5, 6.0, 20.0]]))) == (
        test.predict(routing_features([9.0] * 10, weights, held, np.array([[9.5, 6.0, 20.0]]))[None])[0]
        > test.threshold
    )


def test_tiers_of_one_encoder_compare_the_lists_of_both(tiers):
    same = twice(tiers)
    terms = same.terms("w1 w2")
    found = dict(zip(FEATURES, features(same, terms), strict=True))
    assert found["most"] >= 1  # the bound of the same list reaches its own scores
    assert found["share"] == pytest.approx(0.5)
    assert found["reach"] == pytest.approx(1)
    other = dict(zip(FEATURES, features(tiers, terms), strict=True))
    assert other["most"] == other["share"] == 1  # scores do not compare


def test_terms_no_tier_knows_are_ignored(tiers):
    same = with_model(twice(tiers), fit_model(tiers, ["w1 w2", "w3"], 0.5))
    ids, weights = same.terms("w1 w2")
    strange = (np.array([*ids, 10**9, -5]), np.array([*weights, 1.0, 1.0], np.float32))
    assert same.search(strange) == same.search((ids, weights))


def test_a_tier_whose_rows_do_not_fit_its_counts_is_refused(tmp_path):
    build_index(tmp_path / "one", passages(40, 1), "bm25")
    build_index(tmp_path / "two", passages(40, 1), "bm25")
    kinds = segment_of(tmp_path / "two") / "kinds"
    kinds.write_bytes(b"\xff" * kinds.stat().st_size)
    pair = pair_of(tmp_path / "one", tmp_path / "two")
    with pytest.raises(DamagedArtifactError, match=r"two/segments/.*/kinds: "):
        fit_model(pair, ["w1 w2"], 0.5)
    with pytest.raises(DamagedArtifactError, match=r"two/segments/.*/kinds: "):
        features(pair, pair.terms("w1 w2"))


def test_the_missed_share_weighs_by_rank():
    assert missed_share(["a", "b"], ["a", "b"], 2) == 0
    assert missed_share([], ["a"], 10) == 1
    assert missed_share(["b"], ["a", "b"], 2) > missed_share(["a"], ["a", "b"], 2) > 0
    assert missed_share(["a"], [], 10) == 0


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_the_calibrated_share_escalates_and_those_that_miss_most(rate):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(200, len(FEATURES)))
    missed = np.clip(table[:, 2] * 0.3 + 0.4, 0, 1)
    test = RoutingModel.fit(table, missed, rate)
    through = test.predict(table) > test.threshold
    assert through.sum() == rate * 200
    if 0 < rate < 1:
        assert missed[through].mean() > missed[~through].mean() + 0.2
    again = RoutingModel.from_json(test.as_json())
    np.testing.assert_array_equal(again.predict(table), test.predict(table))


def test_the_rate_can_be_set_again_on_other_queries():
    rng = np.random.default_rng(1)
    table, other = rng.normal(size=(100, len(FEATURES))), rng.normal(1.0, 2.0, size=(60, len(FEATURES)))
    test = RoutingModel.fit(table, rng.random(100), 0.3)
    again = test.at_rate(other, 0.1)
    assert (again.predict(other) > again.threshold).sum() == 6
    np.testing.assert_array_equal(again.weights, test.weights)


def test_with_both_tiers_every_passage_can_be_found(tiers):
    everything = {p.docno for p in passages(40, 1)} | {p.docno for p in passages(40, 2)}
    found = set()
    for word in WORDS:
        result = tiers.search(word, 80, tiers="both")
        assert result.escalated
        assert [hit.rank for hit in result] == list(range(1, len(result) + 1))
        assert all(a.score >= b.score for a, b in pairwise(result))
        found |= set(result.docnos)
    assert found == everything


def test_the_routing_model_decides_and_both_ways_can_be_forced(tiers):
    queries = [f"{a} {b}" for a, b in pairwise(WORDS)]
    calibrated = with_model(tiers, fit_model(tiers, queries, 0.3))
    assert calibrated.calibrated
    full = [q for q in queries if len(tiers.search(q, tiers="first")) == 10]
    escalated = sum(calibrated.search(q).escalated for q in full)
    assert 1 <= escalated <= 0.3 * len(queries)
    only = calibrated.search(queries[0], tiers="first")
    assert not only.escalated
    assert only.tiers.tolist() == [1] * len(only)
    assert calibrated.search(queries[0], tiers="both").escalated


def test_a_first_tier_with_fewer_than_k_hits_always_escalates(tiers):
    never = RoutingModel.fit(np.zeros((2, len(FEATURES))), np.zeros(2), 0.0)
    calibrated = with_model(tiers, never)
    hits = len(tiers.search("w1", 80, tiers="first"))
    assert not calibrated.search("w1", hits).escalated
    assert calibrated.search("w1", hits + 1).escalated
    batch = calibrated.search_batch(["w1"], hits + 1)
    assert batch["0"].escalated


def test_an_uncalibrated_index_searches_both_tiers(tiers):
    assert not tiers.calibrated
    assert tiers.search("w1", 1).escalated
    assert tiers.search("w1", 5) == tiers.search("w1", 5, tiers="both")


def test_what_cannot_be_done_is_an_error(tiers, tmp_path):
    with pytest.raises(InputError, match="'sometimes'"):
        tiers.search("w1", tiers="sometimes")
    build_index(tmp_path / "one", passages(4, 1), "bm25")
    with Index.open(tmp_path / "one") as one:
        with pytest.raises(InputError, match="'sometimes'"):
            one.search("w1", tiers="sometimes")
        with pytest.raises(InputError, match="no second tier"):
            calibrate_tiers(one, ["w1"], 0.5)
        assert one.search("w1", tiers="both") == one.search("w1", tiers="first")
    with pytest.raises(ConfigError, match=r"got 1\.5"):
        RoutingModel.fit(np.zeros((2, len(FEATURES))), np.zeros(2), 1.5)
    with pytest.raises(InputError, match="at least one"):
        RoutingModel.fit(np.zeros((0, len(FEATURES))), np.zeros(0), 0.5)


@pytest.mark.parametrize("k", [1, 5, 40, 200])
def test_tiers_whose_scores_do_not_compare_are_interleaved_by_their_sizes(tiers, k):
    now = tiers._now
    kept, pruned = (
        SearchRanking(now.stored, None, found.numbers, found.scores, True)
        for tier in (now.first, now.second)
        for found in [tier.top(*weighed(tier, "w1"), Wanted(k, EXACT_LIMITS, "auto", False), None)]
    )
    found = tiers.search("w1", k, explain=True)
    assert not found.exact
    assert len(found) == min(k, len(kept) + len(pruned))
    counted = found.tiers.tolist()
    for tier, part in ((1, kept), (2, pruned)):
        assert [d for d, t in zip(found.docnos, counted, strict=True) if t == tier] == part.docnos[
            : counted.count(tier)
        ]
    assert (np.diff(found.scores) <= 0).all()
    ratio = now.first.size / now.second.size
    for place, tier in enumerate(counted):  # behind as many of the first tier as in one ranking of both
        if tier == 2:
            before = counted[:place]
            standing = (before.count(2) + 0.5) * ratio
            assert before.count(1) >= min(standing, len(kept))
            assert before.count(1) <= standing + 1 or kept.scores[before.count(1) - 1] == found.scores[place]
    assert len(found.explanations) == 2


def test_hits_are_read_from_their_tier_and_the_search_can_be_explained(tiers):
    result = tiers.search("w1 w2", 6, tiers="both", explain=True)
    assert len(result.explanations) == 2
    for hit, tier in zip(result, result.tiers.tolist(), strict=True):
        assert hit.docno.startswith(f"p{tier}-")
        assert hit.text == tiers.passage(hit.docno).text
    assert [hit.docno for hit in result[:3]] == result.docnos[:3]
    assert result.cut(3).tiers.tolist() == result.tiers.tolist()[:3]


def test_term_ids_are_looked_up_in_the_second_tier_by_their_strings(tmp_path):
    build_index(tmp_path / "one", [Passage("a", "grain wheat"), Passage("b", "wheat")], "bm25")
    build_index(
        tmp_path / "two", [Passage("c", "zebra"), Passage("d", "wheat chaff apple"), Passage("e", "grain")], "bm25"
    )
    index = pair_of(tmp_path / "one", tmp_path / "two")
    terms = index.terms({"wheat": 1.0})
    assert set(index.search(terms).docnos) == {"a", "b", "d"}
    assert index.search({"wheat": 1.0}) == index.search(terms)
    assert set(index.search_batch([terms])["0"].docnos) == {"a", "b", "d"}
