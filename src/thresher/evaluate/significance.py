"""Tests, claims and intervals by Student's t for per-topic values and differences. Topics are the sample.

With d_1 .. d_n the differences between two systems on the same topics, m their mean, s their standard deviation
(n - 1 in the denominator) and se = s / sqrt(n):

    paired t              two-sided, H0: the mean difference is 0
    equivalence (TOST)    H0: |mean| >= margin; both one-sided t tests must reject (Schuirmann, 1987), which is the
                          same as the 1 - 2 alpha interval lying inside (-margin, margin)
    non-inferiority       H0: mean <= -margin; the lower of the two tests, or the lower end of the one-sided interval
    Holm                  p values of a family adjusted so that the chance of any false claim stays alpha (Holm, 1979)

Failing to find a difference does not prove equivalence, and a system may be non-inferior and significantly worse at
once. The t distribution is scipy's (extra `eval`). Tests and intervals that draw at random, and assume no distribution,
are in `thresher.evaluate.resampling`; how many topics a claim needs is in `thresher.evaluate.power`.
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


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; `level` is .95 for 95 %."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Claim:
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
class Equivalence(Claim):
    """The claim that two systems differ by less than `margin` either way.

    Attributes:
        interval: of the mean difference, at level 1 - 2 alpha.
    """

    interval: Interval


@dataclass(frozen=True, slots=True)
class NonInferiority(Claim):
    """The claim that a system is not worse than its baseline by `margin` or more.

    Attributes:
        low: lower end of the one-sided interval of the mean difference, at level 1 - alpha. Its negative is the
            smallest margin that these data prove.
    """

    low: float


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


@checked_call
def equivalence(differences: ArrayLike, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Two one-sided t tests (TOST) that the mean difference lies inside (-margin, margin).

    Raises:
        InputError: fewer than two differences, one that is not finite, or a margin or alpha out of range.
    """
    d = checked_values(differences)
    check_claim(margin, alpha)
    mean, error = float(d.mean()), _standard_error(d)
    p = max(_tail(mean + margin, error, d.size), _tail(margin - mean, error, d.size))
    return Equivalence(margin, alpha, p, mean_interval(d, level=1.0 - 2.0 * alpha))


@checked_call
def non_inferiority(differences: ArrayLike, margin: float, *, alpha: float = 0.05) -> NonInferiority:
    """One-sided t test that the mean difference (system minus baseline) is above -margin.

    Raises:
        InputError: fewer than two differences, one that is not finite, or a margin or alpha out of range.
    """
    d = checked_values(differences)
    check_claim(margin, alpha)
    mean, error = float(d.mean()), _standard_error(d)
    low = mean - t_quantile(1.0 - alpha, d.size - 1) * error
    return NonInferiority(margin, alpha, _tail(mean + margin, error, d.size), low)


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
