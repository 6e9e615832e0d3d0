"""Tests, claims and intervals by Student's t for per-topic values and differences. Topics are the sample.

With d_1 .. d_n the differences between two systems on the same topics, m their mean, s their standard deviation
(n - 1 in the denominator) and se = s / sqrt(n):

    paired t              two-sided, H0: the mean difference is 0
    equivalence (TOST)    H0: |mean| >= margin; both one-sided t tests must reject (Schuirmann, 1987), which is the
                          same as the 1 - 2 alpha interval lying inside (-margin, margin)
    non-inferiority       H0: mean <= -margin; the lower of the two tests, or the lower end of the one-sided interval
    effect size           m / s, in standard deviations, with Hedges' correction for small samples and its interval
    Holm                  p values of a family adjusted so that the chance of any false claim stays alpha (Holm, 1979)

Failing to find a difference does not prove equivalence, and a system may be non-inferior and significantly worse at
once. A claim is tested in one of three ways (`method`), for which docs/evaluation.md has the simulations:

    t          Student's t. Where most differences are 0 and the rest are mostly losses, as between a pruned index and
               its full one, it claims more often than alpha says: the mean of a sample with few large losses goes with
               a small s.
    skew       the largest p value of Student's t, of t corrected for skewness by Hall's transformation (Hall, "On the
               removal of skewness by transformation", JRSS B 54, 1992), and, if fewer than 10 topics differ, of the
               corrected t with one more topic that loses as much as the worst; t alone if no topic loses. With g the
               skewness of the differences and z = (m - m0) / s, the corrected t is
               sqrt(n) (z + g z^2 / 3 + g^2 z^3 / 27 + g / (6 n)).
    bounded    no assumption but a largest loss of a topic, `worst`: the bets of `thresher.evaluate.sequential`. Small
               margins need hundreds of topics.

No test sees what no topic shows: of n topics, none may have shown a kind of loss that a share of 1 - alpha^(1/n) of all
topics has (`unseen_share`).

The t distributions are scipy's (extra `eval`), from `scipy.special`, which loads in half the time of `scipy.stats`;
scipy has no Holm. Tests and intervals that draw at random, and assume no distribution, are in
`thresher.evaluate.resampling`; how many topics a claim needs is in `thresher.evaluate.power`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import InputError, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Kind = Literal["equivalence", "non-inferiority"]
Method = Literal["t", "skew", "bounded"]
FEW = 10
"""Topics that differ, below which `skew` reckons with one more that loses as much as the worst."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; `level` is .95 for 95 %."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class MarginClaim:
    """A claim about the mean difference of two systems, tested.

    Attributes:
        margin: in the unit of the measure.
        alpha: accepted chance of a false claim.
        p: one-sided p value; where both sides are tested, the larger of the two.
        p_adjusted: p adjusted for a family of claims; None where the claim stands alone.
    """

    margin: float
    alpha: float
    p: float
    p_adjusted: float | None = field(default=None, kw_only=True)

    @property
    def proven(self) -> bool:
        """Whether the (adjusted) p value is below alpha."""
        return (self.p if self.p_adjusted is None else self.p_adjusted) < self.alpha


@dataclass(frozen=True, slots=True)
class Equivalence(MarginClaim):
    """The claim that two systems differ by less than `margin` either way.

    Attributes:
        interval: of the mean difference, at level 1 - 2 alpha.
    """

    interval: Interval


@dataclass(frozen=True, slots=True)
class NonInferiority(MarginClaim):
    """The claim that a system is not worse than its baseline by `margin` or more.

    Attributes:
        low: lower end of the one-sided interval of the mean difference, at level 1 - alpha. Its negative is the
            smallest margin that these data prove.
    """

    low: float


@dataclass(frozen=True, slots=True)
class Effect:
    """A mean difference in standard deviations of the differences.

    Attributes:
        value: Hedges' g of paired differences: m / s, times a correction for the bias of small samples.
        interval: of the true mean in true standard deviations, by the noncentral t distribution.
    """

    value: float
    interval: Interval


@checked_call
def paired_t(differences: ArrayLike) -> tuple[float, float]:
    """The statistic and two-sided p value of the paired t test.

    Differences that are all equal have no spread: p is 1 where they are 0, else 0.

    Raises:
        InputError: fewer than two differences, or one that is not finite.
        MissingExtraError: scipy is not installed.
    """
    d = checked_values(differences)
    mean, error = float(d.mean()), _standard_error(d)
    if error == 0.0:
        return (0.0, 1.0) if mean == 0.0 else (math.copysign(math.inf, mean), 0.0)
    statistic = mean / error
    return statistic, min(1.0, 2.0 * _upper_tail(abs(statistic), d.size - 1))


@checked_call(worst=0)
def equivalence(
    differences: ArrayLike, margin: float, *, alpha: float = 0.05, method: Method = "t", worst: float = 1.0
) -> Equivalence:
    """Two one-sided tests (TOST) that the mean difference lies inside (-margin, margin).

    Args:
        differences: float[n].
        margin: in the unit of the measure.
        alpha: accepted chance of a false claim.
        method: how either side is tested; see the module.
        worst: largest difference of a topic either way, for `bounded`.

    Raises:
        InputError: fewer than two differences, one that is not finite or beyond `worst`, or a margin or alpha out of
            range.
        MissingExtraError: scipy is not installed.
    """
    d = checked_values(differences)
    check_claim(margin, alpha)
    below, low = _one_sided(d, margin, alpha, method, worst)
    above, high = _one_sided(-d, margin, alpha, method, worst)
    return Equivalence(margin, alpha, max(below, above), Interval(low, -high, 1.0 - 2.0 * alpha))


@checked_call(worst=0)
def non_inferiority(
    differences: ArrayLike, margin: float, *, alpha: float = 0.05, method: Method = "t", worst: float = 1.0
) -> NonInferiority:
    """One-sided test that the mean difference (system minus baseline) is above -margin.

    Args:
        differences: float[n].
        margin: in the unit of the measure.
        alpha: accepted chance of a false claim.
        method: how it is tested; see the module.
        worst: largest loss of a topic, for `bounded`.

    Raises:
        InputError: fewer than two differences, one that is not finite or a loss beyond `worst`, or a margin or alpha
            out of range.
        MissingExtraError: scipy is not installed.
    """
    d = checked_values(differences)
    check_claim(margin, alpha)
    return NonInferiority(margin, alpha, *_one_sided(d, margin, alpha, method, worst))


@checked_call
def unseen_share(n: int, *, alpha: float = 0.05) -> float:
    """The largest share of all topics of which n drawn at random may, with chance alpha, include none: about 3 / n.

    Raises:
        InputError: there is no topic, or alpha is out of range.
    """
    if n < 1:
        raise InputError(f"there must be at least one topic, got n={n}")
    check_claim(1.0, alpha)
    return float(1.0 - alpha ** (1.0 / n))


@checked_call
def effect_size(differences: ArrayLike, *, level: float = 0.95) -> Effect | None:
    """The mean difference in standard deviations of the differences; None where all differences are equal.

    m / s is biased away from 0 in small samples; the correction is Gamma(v / 2) / (sqrt(v / 2) Gamma((v - 1) / 2)) with
    v = n - 1 (Hedges, 1981), from three topics on. The interval holds all d for which a noncentral t distribution with
    the noncentrality d sqrt(n) has the observed t inside its central `level`.

    Raises:
        InputError: fewer than two differences, one that is not finite, or a level out of range.
        MissingExtraError: scipy is not installed.
    """
    d = checked_values(differences)
    check_level(level)
    error, degrees = _standard_error(d), d.size - 1
    if error == 0.0:
        return None
    special = require("scipy.special", extra="eval", purpose="the interval of an effect size")
    statistic, root = float(d.mean()) / error, math.sqrt(d.size)
    log_bias = math.lgamma(degrees / 2.0) - math.lgamma((degrees - 1) / 2.0) if degrees > 1 else 0.0
    correction = math.exp(log_bias) / math.sqrt(degrees / 2.0) if degrees > 1 else 1.0
    low, high = (float(special.nctdtrinc(degrees, (1.0 + side * level) / 2.0, statistic)) / root for side in (1, -1))
    return Effect(correction * statistic / root, Interval(low, high, level))


@checked_call
def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The t interval of a mean: of one system's values, or of differences.

    Raises:
        InputError: fewer than two values, one that is not finite, or a level out of range.
    """
    x = checked_values(values)
    check_level(level)
    half = t_quantile((1.0 + level) / 2.0, x.size - 1) * _standard_error(x)
    return Interval(float(x.mean()) - half, float(x.mean()) + half, level)


@checked_call
def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: reject where one is below alpha. Valid under any dependence.

    Raises:
        InputError: a p value outside [0, 1].
    """
    if strange := [p for p in p_values if not 0.0 <= p <= 1.0]:
        raise InputError(f"{strange[0]!r} is not a p value")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for i, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - i) * p_values[at]))
        adjusted[at] = largest
    return adjusted


def checked_values(values: ArrayLike) -> NDArray[np.float64]:
    """Per-topic values as float64[n].

    Raises:
        InputError: fewer than two, or one that is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2:
        raise InputError(f"a test needs the values of two topics or more in one dimension, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InputError(f"value {int(np.argmin(np.isfinite(x)))} is {x[np.argmin(np.isfinite(x))]}, not finite")
    return x


def check_claim(margin: float, alpha: float) -> None:
    """Check what a claim is tested with.

    Raises:
        InputError: the margin is not above 0, or alpha not between 0 and 0.5.
    """
    if not 0.0 < margin < math.inf:
        raise InputError(f"the margin must be above 0, in the unit of the measure; got {margin}")
    if not 0.0 < alpha < 0.5:
        raise InputError(f"alpha must be between 0 and 0.5, got {alpha}")


def check_level(level: float) -> None:
    """Check the level of an interval.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"the level must be between 0 and 1 (0.95 for 95 %), got {level}")


def _standard_error(x: NDArray[np.float64]) -> float:
    if (x == x[0]).all():  # the mean of equal numbers may miss them by a rounding
        return 0.0
    return float(x.std(ddof=1)) / math.sqrt(x.size)


def _one_sided(
    d: NDArray[np.float64], margin: float, alpha: float, method: Method, worst: float
) -> tuple[float, float]:
    """The p value of H0: mean <= -margin, and the lower end of the one-sided interval of the mean."""
    if method == "bounded":
        return _bounded(d, margin, alpha, worst)
    mean, error, reach = float(d.mean()), _standard_error(d), t_quantile(1.0 - alpha, d.size - 1)
    p, low = _tail(mean + margin, error, d.size), mean - reach * error
    if method == "skew" and error > 0.0 and d.min() < 0.0:
        samples = [d, np.append(d, d.min())] if np.count_nonzero(d) < FEW else [d]
        corrected = [_skew_corrected(x, margin, alpha) for x in samples]
        p, low = max(p, *(one[0] for one in corrected)), min(low, *(one[1] for one in corrected))
    return p, low


def _skew_corrected(d: NDArray[np.float64], margin: float, alpha: float) -> tuple[float, float]:
    n, mean, sd = d.size, float(d.mean()), float(d.std(ddof=1))
    root = math.sqrt(n)
    skewness = float(((d - mean) ** 3).mean()) / sd**3 * n**2 / ((n - 1) * max(1, n - 2))
    corrected = root * _without_skewness((mean + margin) / sd, skewness, n)
    reach = t_quantile(1.0 - alpha, n - 1) / root
    return _upper_tail(corrected, n - 1), mean - sd * _with_skewness(reach, skewness, n)


def _without_skewness(z: float, skewness: float, n: int) -> float:
    """Hall's transformation of a mean in standard deviations; it rises with z."""
    return z + skewness * z**2 / 3.0 + skewness**2 * z**3 / 27.0 + skewness / (6.0 * n)


def _with_skewness(h: float, skewness: float, n: int) -> float:
    """The z whose transformation is h."""
    if abs(skewness) < 1e-6:
        return h - skewness / (6.0 * n)
    return 3.0 / skewness * (math.cbrt(1.0 + skewness * (h - skewness / (6.0 * n))) - 1.0)


def _bounded(d: NDArray[np.float64], margin: float, alpha: float, worst: float) -> tuple[float, float]:
    from thresher.evaluate.sequential import first_disproven, log_factors, log_wealth

    if margin >= worst:
        raise InputError(f"the margin must be below the worst loss of a topic, {worst:g}; got {margin:g}")
    if (least := float(d.min())) < -worst:
        raise InputError(f"a topic loses {-least:g}, more than the worst loss that was given: {worst:g}")
    once = np.ones(d.size, dtype=np.int64)
    p = math.exp(min(0.0, -log_wealth(log_factors(-d, margin, worst), once)))
    return p, -first_disproven(-d, once, float((-d).min()), worst, -math.log(alpha))


def _tail(excess: float, error: float, n: int) -> float:
    """P(T > excess / error) with n - 1 degrees of freedom."""
    if error == 0.0:
        return 0.0 if excess > 0.0 else (1.0 if excess < 0.0 else 0.5)
    return _upper_tail(excess / error, n - 1)


def _upper_tail(t: float, degrees: int) -> float:
    """P(T > t) of Student's t distribution."""
    special = require("scipy.special", extra="eval", purpose="a t test")
    return float(special.stdtr(degrees, -t))


def t_quantile(probability: float, degrees: int) -> float:
    """The t that a share `probability` of Student's t distribution lies below."""
    special = require("scipy.special", extra="eval", purpose="a t interval")
    return float(special.stdtrit(degrees, probability))
