"""Win rates, Bradley-Terry and Borda against what they are defined to be."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.rerank.plans.jointrank import borda, bradley_terry, win_rate, wins
from thresher.rerank.plans.plan import Answer


def answers(n, size, count, seed):
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        items = rng.sample(range(n), size)
        tiers, start = [], 0
        while start < size:
            width = rng.choice((1, 1, 1, 2))
            tiers.append(tuple(items[start : start + width]))
            start += width
        made.append(Answer(tuple(tiers), named=rng.choice((-1, size - 1))))
    return made


@given(n=st.integers(2, 12), count=st.integers(0, 6), seed=st.integers(0, 2**20))
def test_wins_are_counted_pair_by_pair(n, count, seed):
    size = min(n, 5)
    made = answers(n, size, count, seed)
    expected = np.zeros((n, n))
    for answer in made:
        order = answer.order
        tier = {item: t for t, items in enumerate(answer.tiers) for item in items}
        for i, a in enumerate(order):
            for j, b in enumerate(order):
                if i == j or (i >= answer.named and j >= answer.named):
                    continue
                expected[a, b] += 0.5 if tier[a] == tier[b] else float(tier[a] < tier[b])
    assert np.array_equal(wins(n, made), expected)


@given(n=st.integers(2, 12), count=st.integers(0, 6), seed=st.integers(0, 2**20), penalty=st.sampled_from([0.1, 1.0]))
def test_bradley_terry_is_at_its_maximum(n, count, seed, penalty):
    """The gradient of the penalised log-likelihood is zero, on any data, unbeaten passages included."""
    table = wins(n, answers(n, min(n, 5), count, seed))
    theta, errors = bradley_terry(table, penalty)
    p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    gradient = (table - (table + table.T) * p).sum(axis=1) - penalty * theta
    assert np.abs(gradient).max() < 1e-7
    assert abs(theta.sum()) < 1e-6
    assert np.isfinite(theta).all()
    assert (errors > 0).all()


def test_bradley_terry_on_a_chain_keeps_the_order():
    theta, _ = bradley_terry(wins(5, [Answer(tuple((i,) for i in (3, 1, 4, 0, 2)))]))
    assert np.argsort(-theta).tolist() == [3, 1, 4, 0, 2]


def test_win_rates_are_shares_and_a_half_without_pairs():
    table = wins(4, [Answer(((0,), (1,), (2,)))])
    assert win_rate(table).tolist() == pytest.approx([1.0, 0.5, 0.0, 0.5])


def test_borda_counts_who_is_below():
    assert borda((0, 1, 2), [Answer(((2,), (0,), (1,)))]) == {2: 2.0, 0: 1.0, 1: 0.0}
    assert borda((0, 1, 2), [Answer(((2, 0), (1,)))]) == {2: 1.5, 0: 1.5, 1: 0.0}
    assert borda((0, 1, 2), [Answer(((2,), (0,), (1,)), named=1)]) == {2: 2.0, 0: 0.5, 1: 0.5}
