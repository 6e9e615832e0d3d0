"""The probability of being among the first k: what it adds up to, what it follows, and that it comes true."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.llm.budget import Budget
from thresher.records import Hit, Query
from thresher.rerank.aggregate.confidence import confidence, evidence
from thresher.rerank.plans.designs import blocks
from thresher.rerank.plans.plan import Answer, Best, Order, Prefer, Rate
from thresher.rerank.reranker import Reranker
from training.rerank.simulated import SimulatedJudge, Simulation, perfect


def asked(n, utilities, seed, *, noise=1.0, replicas=4, block=10):
    rng = random.Random(seed)
    judge = Simulation(noise=noise).judging(utilities, rng) if noise else perfect(utilities)
    return [judge(Order(shown)) for shown in blocks(n, block, replicas, rng)]


@settings(max_examples=40)
@given(n=st.integers(2, 40), k=st.integers(1, 45), seed=st.integers(0, 2**20), share=st.sampled_from([0.0, 0.5, 0.99]))
def test_it_is_a_probability_that_adds_up_to_k_and_does_not_depend_on_arrival(n, k, seed, share):
    answers = asked(n, [float(i % 4) for i in range(n)], seed)
    found = confidence(n, answers, k, correlated=share)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.sum() == pytest.approx(min(k, n))
    assert np.array_equal(found, confidence(n, [None, *answers[::-1]], k, correlated=share))


def test_candidates_without_a_comparison_have_none():
    found = confidence(6, [Answer(((0,), (1,), (2,))), Answer(((4,),), 0.5)], 2)
    assert np.isnan(found[3:]).all()
    assert found[0] > found[1] > found[2]
    assert np.isnan(confidence(6, [None], 2)).all()
    assert confidence(0, [], 2).shape == (0,)
    assert confidence(3, [Answer(((0,), (1,)))], 5).tolist()[:2] == [1.0, 1.0]


def test_equals_share_what_there_is():
    answers = [Answer((tuple(range(start, start + 5)),)) for start in (0, 5, 3)]
    assert confidence(10, answers, 4) == pytest.approx(np.full(10, 0.4), abs=0.02)


def test_a_judge_that_is_right_leaves_little_doubt_and_correlated_errors_leave_more():
    """The best of a hundred by a perfect judge: sure if errors are drawn anew, less so the more of them stay."""
    utilities = [float(100 - i) for i in range(100)]
    answers = asked(100, utilities, 1, noise=0.0, block=20)
    sure = [confidence(100, answers, 10, correlated=share) for share in (0.0, 0.5, 0.9)]
    assert sure[0][:7].min() > 0.9
    assert sure[0][13:].max() < 0.2
    assert sure[0][:5].mean() > sure[1][:5].mean() > sure[2][:5].mean()


@pytest.mark.parametrize("lasting", [0.0, 0.5])
def test_what_is_said_to_be_likely_comes_true_as_often(lasting):
    """Of the candidates said to be in with 80 to 90 %, about as many are; where part of the errors stays, as well."""
    rng = np.random.default_rng(7)
    said, true = [], []
    for seed in range(100):
        utilities = rng.choice([0.0, 0.0, 0.0, 1.5, 3.0, 4.5], size=50) + rng.normal(0, 0.05, 50)
        believed = utilities + rng.normal(0, np.pi * np.sqrt(lasting / (1 - lasting) / 6), 50)
        found = confidence(50, asked(50, believed.tolist(), seed), 10, correlated=lasting)
        said += found.tolist()
        true += (utilities >= np.sort(utilities)[-10]).tolist()
    said, true = np.array(said), np.array(true)
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 1.0)):
        here = (said >= low) & (said <= high)
        assert here.sum() >= 20
        assert abs(said[here].mean() - true[here].mean()) < 0.12, (low, said[here].mean(), true[here].mean())


def test_a_choice_says_nothing_about_the_rest():
    chosen = evidence(Best((3, 1, 2)), Answer(((1,), (3, 2))))
    assert (chosen.tiers, chosen.named) == (((1,), (3, 2)), 1)
    whole = Answer(((1,), (3,), (2,)))
    assert evidence(Best((3, 1, 2)), whole) is whole
    pair = Answer(((1,), (2,)))
    assert evidence(Prefer((1, 2)), pair) is pair
    assert evidence(Order((1, 2)), None) is None
    assert evidence(Rate((1,)), Answer(((1,),), 0.5)) is None


def test_refusals_name_what_is_wrong():
    with pytest.raises(InputError, match="correlated must be"):
        confidence(3, [], correlated=1.0)
    with pytest.raises(InputError, match="k must be"):
        confidence(3, [], 0)
    with pytest.raises(InputError, match="correlated must be"):
        Reranker(SimulatedJudge({}), correlated=2.0)


def hits(n):
    return [Hit(f"d{i}", float(n - i), i + 1, f"text {i}") for i in range(n)]


@pytest.mark.parametrize("plan", ["sliding", "jointrank-head", "setwise-heap:children=3", "pairwise-heap"])
def test_a_reranker_is_surer_of_what_it_places_first(plan):
    truth = {"q": {f"d{i}": float(i) for i in range(40)}}
    result = Reranker(SimulatedJudge(truth), plan, k=5, correlated=0.0).rank(Query("q", "q"), hits(40))
    assert len(result.confidence) == 40
    known = [p for p in result.confidence if p is not None]
    assert all(0 <= p <= 1 for p in known)
    assert np.mean(result.confidence[:5]) > 0.5 > np.mean(known[10:])
    doubtful = Reranker(SimulatedJudge(truth), plan, k=5).rank(Query("q", "q"), hits(40))
    assert [hit.docno for hit in doubtful] == [hit.docno for hit in result]
    assert np.mean(doubtful.confidence[:5]) < np.mean(result.confidence[:5])


def test_ratings_compare_nothing_and_a_reranker_that_asked_nothing_knows_nothing():
    truth = {"q": {f"d{i}": float(i) for i in range(40)}}
    assert Reranker(SimulatedJudge(truth), "pointwise").rank(Query("q", "q"), hits(40)).confidence is None
    none = Reranker(SimulatedJudge(truth), "jointrank", budget=Budget(calls=0)).rank(Query("q", "q"), hits(40))
    assert none.confidence is None
