"""The uncertainty plan: within its calls, honest about what it knows, and close to right under a perfect judge."""

import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import InputError
from thresher.rerank.aggregate import wins
from thresher.rerank.aggregate.likelihood import bradley_terry, posterior_variances
from thresher.rerank.plans import plan_from_name
from thresher.rerank.plans.acurank import AcuRank, among_first
from thresher.rerank.plans.plan import Answer, drive
from training.rerank.simulated import Simulation, perfect


@given(
    n=st.integers(0, 120), k=st.integers(1, 20), window=st.integers(2, 25), calls=st.integers(1, 30),
    rounds=st.integers(1, 6), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_it_stays_within_its_calls_and_rounds_and_covers_all_first(n, k, window, calls, rounds, seed):
    plan = AcuRank(window, calls, rounds)
    shown: list = []
    truth = perfect(random.Random(seed).sample(range(n), n))

    def judge(ask):
        shown.append(ask.items)
        return truth(ask)

    ranking, spent = drive(plan, n, judge, k=k, seed=seed)
    assert sorted(ranking.order) == list(range(n))
    bound = plan.bound(n, k)
    assert spent.calls <= bound.calls == (calls if n > 1 else 0)
    assert spent.depth <= bound.depth
    assert spent.passages <= bound.passages
    assert all(2 <= len(set(items)) == len(items) <= window for items in shown)
    count = -(-n // window)
    if n > 1 and calls >= count and n % count == 0 and n // count > 1:
        assert sorted(item for items in shown[:count] for item in items) == list(range(n))


def test_the_regret_under_a_perfect_judge_is_small():
    """20 calls over 100 candidates in random order: nearly all of the best 10, and most of their order."""
    found = places = 0
    for seed in range(20):
        utilities = random.Random(seed).sample(range(100), 100)
        ranking, spent = drive(AcuRank(), 100, perfect(utilities), seed=seed)
        assert (spent.calls, spent.depth) == (20, 3)
        top = [99 - utilities[item] for item in ranking.order[:10]]
        found += sum(rank < 10 for rank in top)
        places += sum(abs(rank - place) for place, rank in enumerate(top))
    assert found >= 0.95 * 200
    assert places <= 1.0 * 200


def test_more_is_asked_where_it_is_uncertain():
    utilities = [float(-i) for i in range(100)]
    asked = [0] * 100
    truth = perfect(utilities)

    def judge(ask):
        for item in ask.items:
            asked[item] += 1
        return truth(ask)

    drive(AcuRank(), 100, judge)
    assert min(asked[:15]) > max(asked[60:])


@given(n=st.integers(2, 60), limit=st.integers(0, 12), kind=st.integers(0, 3), seed=st.integers(0, 2**20))
def test_it_survives_every_judge_and_stop(n, limit, kind, seed):
    rng = random.Random(seed)
    judges = [
        lambda ask: Answer(tuple((item,) for item in rng.sample(ask.items, len(ask.items)))),
        lambda ask: Answer((ask.items,)),
        lambda ask: None,
        Simulation(noise=1.0, malformed=0.6).judging([float(i % 4) for i in range(n)], rng),
    ]
    ranking, spent = drive(AcuRank(calls=10), n, judges[kind], max_calls=limit, seed=seed)
    assert sorted(ranking.order) == list(range(n))
    assert spent.calls <= min(limit, 10)
    if limit == 0 or kind == 2:
        assert ranking.order == tuple(range(n))


@given(n=st.integers(2, 40), k=st.integers(1, 45), seed=st.integers(0, 2**20))
def test_chances_add_up_to_k_and_are_tails_of_one_threshold(n, k, seed):
    rng = np.random.default_rng(seed)
    mean, deviation = rng.normal(size=n), rng.uniform(0.1, 2.0, n)
    chances = among_first(mean, deviation, k)
    assert sum(chances) == pytest.approx(min(k, n), abs=1e-6)
    if k < n:  # each chance implies a threshold; it is the same for all
        inverse = NormalDist().inv_cdf
        told = [one for one in zip(mean, deviation, chances, strict=True) if 1e-6 < one[2] < 1 - 1e-6]
        implied = [m - d * inverse(chance) for m, d, chance in told]
        assert not told or max(implied) - min(implied) < 1e-4


@given(n=st.integers(1, 12), penalty=st.floats(0.05, 2.0), seed=st.integers(0, 2**20))
def test_the_posterior_is_the_mode_and_the_curvature_there(n, penalty, seed):
    rng = np.random.default_rng(seed)
    table = np.triu(rng.integers(0, 4, (n, n)), 1) + np.tril(rng.integers(0, 4, (n, n)), -1) * 0.5
    expected = rng.normal(size=n)
    theta = bradley_terry(table, penalty, expected)

    def gradient(at):
        p = 1.0 / (1.0 + np.exp(at[None, :] - at[:, None]))
        return (table - (table + table.T) * p).sum(axis=1) - penalty * (at - expected)

    assert np.abs(gradient(theta)).max() < 1e-6
    step = 1e-5
    hessian = np.array([(gradient(theta + step * e) - gradient(theta - step * e)) / (2 * step) for e in np.eye(n)])
    assert posterior_variances(table, theta, penalty) == pytest.approx(np.diag(np.linalg.inv(-hessian)), rel=1e-4)


def test_one_answer_counts_less_than_its_pairs():
    """With full weight, one window of 20 would make nearly all of its members certain."""
    table = wins(20, [Answer(tuple((item,) for item in range(20)))])
    for weight, least in ((3 / 21, 8), (1.0, 0)):
        theta = bradley_terry(weight * table, 0.25, np.zeros(20))
        chances = among_first(theta, np.sqrt(posterior_variances(weight * table, theta, 0.25)), 10)
        unsure = sum(0.02 < chance < 0.98 for chance in chances)
        assert unsure >= least
    assert unsure < 10


@pytest.mark.parametrize(
    "bad", ["window=1", "calls=0", "rounds=0", "tolerance=0.6", "enough=-1", "spread=0", "slope=-1"]
)
def test_settings_are_checked(bad):
    with pytest.raises(InputError, match=bad.partition("=")[0]):
        plan_from_name(f"acurank:{bad}")
    assert plan_from_name(AcuRank(10, 9).name) == AcuRank(10, 9)


def test_the_first_windows_are_shown_in_the_order_so_far_if_they_are_not_shuffled():
    plan = AcuRank(shuffled=False)
    assert plan_from_name(plan.name) == plan
    shown: list = []

    def judge(ask):
        shown.append(ask.items)
        return Answer(tuple((item,) for item in ask.items))

    ranking, _ = drive(plan, 100, judge)
    assert shown[:5] == [tuple(range(i, 100, 5)) for i in range(5)]
    assert len(set(shown)) == len(shown)  # a repetition would come from the cache
    copied = drive(AcuRank(), 100, judge)[0].order
    kept = [sum(item < 10 for item in order[:10]) for order in (ranking.order, copied)]
    assert kept[0] > kept[1]  # of a judge that repeats what it is shown, the first stage's order is left
