import math
import sys

import numpy as np
import pytest

from thresher.errors import InputError, MissingExtraError
from thresher.evaluate.resampling import bootstrap_interval, randomisation
from thresher.evaluate.significance import (
    effect_size,
    equivalence,
    holm,
    mean_interval,
    non_inferiority,
    paired_t,
    unseen_share,
)

stats = pytest.importorskip("scipy.stats", reason="the eval extra is not installed")

DIFFERENCES = np.random.default_rng(5).normal(0.004, 0.05, 43)


def test_a_t_test_without_scipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingExtraError, match=r"thresher\[eval\]"):
        paired_t(DIFFERENCES)
    assert 0 <= randomisation(DIFFERENCES) <= 1


def test_the_t_test_and_the_intervals_agree_with_scipy():
    expected = stats.ttest_1samp(DIFFERENCES, 0.0)
    assert paired_t(DIFFERENCES) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)
    interval = mean_interval(DIFFERENCES, level=0.9)
    low, high = expected.confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-9)
    one_sided = stats.ttest_1samp(DIFFERENCES, -0.02, alternative="greater")
    claim = non_inferiority(DIFFERENCES, 0.02)
    assert claim.p == pytest.approx(one_sided.pvalue, rel=1e-9)
    assert claim.low == pytest.approx(one_sided.confidence_interval(0.95).low, rel=1e-9)
    upper = stats.ttest_1samp(DIFFERENCES, 0.02, alternative="less")
    assert equivalence(DIFFERENCES, 0.02).p == pytest.approx(max(one_sided.pvalue, upper.pvalue), rel=1e-9)


@pytest.mark.parametrize("margin", [0.005, 0.01, 0.015, 0.02, 0.03])
def test_equivalence_is_the_90_percent_interval_inside_the_margin(margin):
    claim = equivalence(DIFFERENCES, margin)
    assert claim.proven == (-margin < claim.interval.low and claim.interval.high < margin)
    assert claim.interval.level == pytest.approx(0.9)
    below = non_inferiority(DIFFERENCES, margin)
    assert below.proven == (below.low > -margin)
    assert below.low == pytest.approx(claim.interval.low)


def test_the_exact_randomisation_test_counts_every_exchange():
    d = [0.3, 0.1, 0.2, -0.1, 0.4]
    sums = [sum((1 - 2 * s) * x for s, x in zip(signs, d, strict=True)) for signs in np.ndindex(*(2,) * 5)]
    assert randomisation(d) == sum(abs(total) >= sum(d) - 1e-12 for total in sums) / 32
    assert randomisation(d, alternative="greater") == sum(total >= sum(d) - 1e-12 for total in sums) / 32
    assert randomisation([0.0] * 100 + d) == randomisation(d)  # ties change nothing, so it stays exact
    assert randomisation([0.0, 0.0]) == 1.0
    assert randomisation([1.0] * 10, alternative="less") == 1.0


def test_the_sampled_randomisation_test_is_seeded_and_near_the_t_test():
    p = randomisation(DIFFERENCES, seed=3)
    assert p == randomisation(DIFFERENCES, seed=3)
    assert p != randomisation(DIFFERENCES, seed=4)
    assert p == pytest.approx(paired_t(DIFFERENCES)[1], abs=0.03)
    shifted = randomisation(DIFFERENCES, center=-0.02, alternative="greater")
    assert shifted == pytest.approx(non_inferiority(DIFFERENCES, 0.02).p, abs=0.005)
    sampled = randomisation(DIFFERENCES[:12], rounds=4000)  # 4,096 patterns
    assert sampled == pytest.approx(randomisation(DIFFERENCES[:12], rounds=4096), abs=0.03)


def test_equal_differences_have_no_spread():
    assert paired_t([0.0] * 5) == (0.0, 1.0)
    assert paired_t([0.1] * 5) == (math.inf, 0.0)
    assert paired_t([-0.1] * 5) == (-math.inf, 0.0)
    assert (equivalence([0.0] * 5, 0.01).p, equivalence([0.1] * 5, 0.01).p) == (0.0, 1.0)
    assert non_inferiority([-0.01] * 5, 0.01).p == 0.5


def simulated(n, sd, mean, draws, seed):
    return np.random.default_rng(seed).normal(mean, sd, (draws, n))


def test_intervals_cover_the_mean_as_often_as_they_say():
    draws = simulated(30, 0.1, 0.2, 600, seed=11)
    for level in (0.8, 0.95):
        covered = np.mean([(i := mean_interval(x, level=level)).low <= 0.2 <= i.high for x in draws])
        assert covered == pytest.approx(level, abs=0.04)
    covered = np.mean([(i := bootstrap_interval(x, rounds=500, seed=1)).low <= 0.2 <= i.high for x in draws[:300]])
    assert covered == pytest.approx(0.94, abs=0.04)


def test_false_claims_come_as_often_as_alpha_says():
    at_the_margin = simulated(43, 0.05, -0.02, 1500, seed=12)
    assert np.mean([non_inferiority(d, 0.02).proven for d in at_the_margin]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([equivalence(d, 0.02).proven for d in at_the_margin]) == pytest.approx(0.05, abs=0.015)
    no_difference = simulated(43, 0.05, 0.0, 1500, seed=13)
    assert np.mean([paired_t(d)[1] < 0.05 for d in no_difference]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([randomisation(d, rounds=400) < 0.05 for d in no_difference[:500]]) == pytest.approx(0.05, abs=0.03)


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(InputError, match=r"1\.5 is not a p value"):
        holm([0.2, 1.5])


def test_the_bootstrap_is_seeded_and_near_the_t_interval():
    first = bootstrap_interval(DIFFERENCES, seed=2)
    assert first == bootstrap_interval(DIFFERENCES, seed=2)
    assert first != bootstrap_interval(DIFFERENCES, seed=3)
    wide = mean_interval(DIFFERENCES)
    assert (first.low, first.high) == pytest.approx((wide.low, wide.high), abs=0.002)


def test_the_effect_size_is_hedges_g_and_its_interval_inverts_the_noncentral_t():
    effect = effect_size(DIFFERENCES, level=0.9)
    n, statistic = DIFFERENCES.size, paired_t(DIFFERENCES)[0]
    assert effect.value == pytest.approx(DIFFERENCES.mean() / DIFFERENCES.std(ddof=1) * (1 - 3 / (4 * n - 5)), rel=1e-3)
    ends = (effect.interval.low * n**0.5, effect.interval.high * n**0.5)
    assert stats.nct.sf(statistic, n - 1, ends[0]) == pytest.approx(0.05, abs=1e-4)
    assert stats.nct.cdf(statistic, n - 1, ends[1]) == pytest.approx(0.05, abs=1e-4)
    assert effect.interval.low < effect.value < effect.interval.high
    opposite = effect_size(-DIFFERENCES, level=0.9)
    assert opposite.value == -effect.value
    assert opposite.interval.low == pytest.approx(-effect.interval.high, rel=1e-4)
    assert effect_size([0.25] * 5) is None
    assert effect_size([0.1, 0.3]).value == pytest.approx(0.2 / (0.02**0.5))


def test_the_effect_size_is_unbiased_and_its_interval_covers():
    draws = simulated(8, 1.0, 0.7, 1500, seed=21)
    found = [effect_size(d) for d in draws]
    assert np.mean([one.value for one in found]) == pytest.approx(0.7, abs=0.04)  # m / s alone is .79
    assert np.mean([one.interval.low <= 0.7 <= one.interval.high for one in found]) == pytest.approx(0.95, abs=0.015)


def with_rare_losses(n, seed, rate=0.15):
    rng = np.random.default_rng(seed)
    return -np.where(rng.random(n) < rate, rng.beta(1, 6.5, n), 0.0)


@pytest.mark.parametrize("method", ["t", "skew", "bounded"])
@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1])
def test_a_claim_is_proven_where_its_interval_says(method, margin):
    for d in (DIFFERENCES, with_rare_losses(97, 1), with_rare_losses(43, 2), -with_rare_losses(43, 3), [0.0] * 400):
        claim = non_inferiority(d, margin, method=method)
        assert claim.proven == (claim.low > -margin)
        both = equivalence(d, margin, method=method)
        assert both.proven == (-margin < both.interval.low and both.interval.high < margin)
        assert both.p >= claim.p


def test_the_correction_for_skewness_never_proves_more_than_t_and_costs_nothing_where_there_is_none():
    skewed = with_rare_losses(97, 4)
    assert non_inferiority(skewed, 0.05, method="skew").p > 2 * non_inferiority(skewed, 0.05).p
    symmetric = np.concatenate([DIFFERENCES, 2 * DIFFERENCES.mean() - DIFFERENCES])
    plain = non_inferiority(symmetric, 0.02)
    assert non_inferiority(symmetric, 0.02, method="skew").p == pytest.approx(plain.p)
    assert non_inferiority(-skewed, 0.05, method="skew").p >= non_inferiority(-skewed, 0.05).p


def test_where_few_topics_differ_one_more_loss_is_reckoned_with():
    few, enough = np.zeros(43), np.zeros(43)
    few[:2] = enough[:2] = (-0.2, 0.2)
    enough[2:10] = -1e-9
    claim, as_it_is = (non_inferiority(d, 0.02, method="skew") for d in (few, enough))
    assert claim.p > 1.5 * as_it_is.p
    assert claim.low < as_it_is.low
    assert non_inferiority([0.0] * 43, 0.02, method="skew").proven  # equal rankings


def test_the_bounded_claim_needs_topics_or_a_smaller_worst_loss():
    assert not non_inferiority([0.0] * 192, 0.02, method="bounded").proven
    assert non_inferiority([0.0] * 193, 0.02, method="bounded").proven
    assert non_inferiority([0.0] * 60, 0.02, method="bounded", worst=0.25).proven
    assert non_inferiority([1.0, 0.0] * 100, 0.02, method="bounded").proven  # gains have no bound
    with pytest.raises(InputError, match=r"a topic loses 0\.5, more than the worst loss that was given: 0\.25"):
        non_inferiority([0.0, -0.5], 0.02, method="bounded", worst=0.25)
    with pytest.raises(InputError, match="must be below the worst loss"):
        non_inferiority([0.0, 0.0], 0.3, method="bounded", worst=0.25)


def test_what_no_topic_shows_may_be_in_three_of_n():
    assert unseen_share(43) == pytest.approx(0.0673, abs=1e-4)
    assert (1 - unseen_share(97)) ** 97 == pytest.approx(0.05)


def test_the_bca_interval_is_seeded_and_leans_to_the_long_side():
    skewed = with_rare_losses(60, 5, rate=0.5)
    found = bootstrap_interval(skewed, method="bca", seed=2, rounds=4000)
    assert found == bootstrap_interval(skewed, method="bca", seed=2, rounds=4000)
    plain = bootstrap_interval(skewed, seed=2, rounds=4000)
    assert found.low < plain.low < found.high < plain.high
    assert bootstrap_interval([0.5] * 4, method="bca").low == 0.5


def test_decisions_equal_those_of_statsmodels():
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(31)
    claims = []
    for n in (20, 43, 97):
        for _ in range(40):
            d = rng.normal(rng.choice([0.0, 0.01, 0.02]), 0.05, n)
            margin = rng.choice([0.015, 0.02, 0.03])
            p, _, _ = weightstats.ttost_paired(d, np.zeros(n), -margin, margin)
            claim = equivalence(d, margin)
            assert claim.p == pytest.approx(p, rel=1e-9)
            assert claim.proven == (p < 0.05)
            claims.append(claim.p)
    rejected, adjusted, _, _ = multitest.multipletests(claims[:30], alpha=0.05, method="holm")
    assert holm(claims[:30]) == pytest.approx(adjusted)
    assert [p < 0.05 for p in holm(claims[:30])] == rejected.tolist()
    assert 0 < sum(p < 0.05 for p in claims) < len(claims)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: paired_t([0.1]), "two topics or more"),
        (lambda: paired_t([[0.1, 0.2]]), "one dimension"),
        (lambda: randomisation([0.1, math.nan]), "value 1 is nan"),
        (lambda: equivalence(DIFFERENCES, 0.0), "margin must be above 0"),
        (lambda: non_inferiority(DIFFERENCES, 0.02, alpha=0.5), "alpha must be between 0 and 0.5, got 0.5"),
        (lambda: mean_interval(DIFFERENCES, level=95), "level must be .* got 95"),
    ],
)
def test_senseless_arguments_are_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
