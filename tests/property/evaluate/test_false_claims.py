"""Tests and claims are false no more often than alpha says, in 2,000 draws where nothing is to be found."""

import math

import numpy as np
import pytest

from thresher.evaluate.resampling import randomisation
from thresher.evaluate.significance import equivalence, holm, non_inferiority, paired_t

pytest.importorskip("scipy.special", reason="the eval extra is not installed")

DRAWS = 2000
ALPHA = 0.05
MOST = ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / DRAWS)
"""Two standard errors of the simulation on top."""
MARGIN = 0.02
TOPICS = (20, 43, 97)


def normal(rng, shape, mean):
    return rng.normal(mean, 0.05, shape)


def zeros_and_normal(rng, shape, mean):
    """85 % of the topics unchanged, as after random pruning of 2 % of the passages."""
    return np.where(rng.random(shape) < 0.15, rng.normal(mean / 0.15, 0.1, shape), 0.0)


def zeros_and_losses(rng, shape, mean):
    """68 % of the topics unchanged, and few of the others lose most."""
    return np.where(rng.random(shape) < 0.32, -rng.beta(1, -0.32 / mean - 1, shape), 0.0)


def share_of_claims(test, draw, n, mean):
    rng = np.random.default_rng(n)
    return np.mean([test(d) for d in draw(rng, (DRAWS, n), mean)])


@pytest.mark.parametrize("n", TOPICS)
@pytest.mark.parametrize("draw", [normal, zeros_and_normal])
def test_significance_where_there_is_no_difference(draw, n):
    assert share_of_claims(lambda d: paired_t(d)[1] < ALPHA, draw, n, 0.0) <= MOST
    assert share_of_claims(lambda d: randomisation(d, rounds=99) < ALPHA, draw, n, 0.0) <= MOST


@pytest.mark.parametrize("n", TOPICS)
def test_claims_at_the_margin_with_normal_differences(n):
    for method in ("t", "skew"):
        found = share_of_claims(lambda d, m=method: non_inferiority(d, MARGIN, method=m).proven, normal, n, -MARGIN)
        assert found <= MOST, method
    for mean in (-MARGIN, MARGIN):
        assert share_of_claims(lambda d: equivalence(d, MARGIN, method="skew").proven, normal, n, mean) <= MOST


@pytest.mark.parametrize("draw", [zeros_and_normal, zeros_and_losses])
def test_claims_at_the_margin_where_most_topics_are_unchanged(draw):
    """Student's t claims too much there, and the correction for skewness does not, given 43 topics."""
    for n in (43, 97):
        assert share_of_claims(lambda d: non_inferiority(d, MARGIN).proven, draw, n, -MARGIN) > MOST
        assert share_of_claims(lambda d: non_inferiority(d, MARGIN, method="skew").proven, draw, n, -MARGIN) <= MOST


def test_the_bounded_claim_where_no_other_is_valid():
    """One topic in 25 loses .5; often none of the sample does."""
    rng = np.random.default_rng(1)
    for n in (97, 323):
        draws = np.where(rng.random((400, n)) < 0.04, -0.5, 0.0)
        most = ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / 400)
        assert np.mean([non_inferiority(d, MARGIN, method="bounded", worst=0.5).proven for d in draws]) <= most


def test_a_family_makes_any_false_claim_no_more_often_than_alpha():
    rng = np.random.default_rng(2)
    shared = rng.normal(0.0, 0.05, (DRAWS, 1, 43))
    families = 0.7 * shared + rng.normal(0.0, 0.05, (DRAWS, 4, 43))  # systems of one kind win on the same topics
    assert np.mean([min(holm([paired_t(d)[1] for d in one])) < ALPHA for one in families]) <= MOST
    assert np.mean([min(paired_t(d)[1] for d in one) < ALPHA for one in families]) > 2 * ALPHA
