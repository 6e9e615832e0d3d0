"""Every interval that is printed holds the true value about as often as its level says, in draws of known truth."""

import numpy as np
import pytest

from thresher.evaluate.resampling import bootstrap_interval
from thresher.evaluate.significance import equivalence, mean_interval, non_inferiority

DRAWS = 1500


def normal(rng, n):
    return rng.normal(0.1, 0.2, n), 0.1


def like_ndcg(rng, n):
    return rng.beta(1.2, 0.8, n), 1.2 / 2.0


def mostly_zero(rng, n):
    """Differences of two systems that agree on most topics."""
    return np.where(rng.random(n) < 0.5, 0.0, rng.normal(0.02, 0.1, n)), 0.01


def share_covered(draw, n, interval):
    rng = np.random.default_rng(7)
    found = [(interval(values), truth) for values, truth in (draw(rng, n) for _ in range(DRAWS))]
    return np.mean([low <= truth <= high for (low, high), truth in found])


def ends(interval):
    return interval.low, interval.high


@pytest.mark.parametrize("draw", [normal, like_ndcg, mostly_zero])
@pytest.mark.parametrize("n", [20, 43, 97])
def test_the_t_interval_of_a_mean_covers_it(draw, n):
    covered = share_covered(draw, n, lambda values: ends(mean_interval(values)))
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("draw", [normal, like_ndcg])
def test_the_bootstrap_interval_is_slightly_narrow(draw):
    covered = share_covered(draw, 43, lambda values: ends(bootstrap_interval(values, rounds=400)))
    assert 0.91 <= covered <= 0.97


def test_the_interval_of_equivalence_covers_at_twice_alpha():
    covered = share_covered(normal, 43, lambda values: ends(equivalence(values, 0.05).interval))
    assert 0.87 <= covered <= 0.93


def test_the_lower_end_of_non_inferiority_covers_at_alpha():
    covered = share_covered(normal, 43, lambda values: (non_inferiority(values, 0.05).low, np.inf))
    assert 0.93 <= covered <= 0.97
