"""Tests, intervals and power for per-topic values and per-topic differences. Topics are the sample.

With d_1 .. d_n the differences between two systems on the same topics, m their mean, s their standard deviation
(n - 1 in the denominator) and se = s / sqrt(n):

    paired t              two-sided, H0: the mean difference is 0
    randomisation         the same H0 by exchanging the systems within topics at random (Fisher; Smucker, Allan and
                          Carterette, CIKM 2007); all 2^n exchanges where there are few, else a seeded sample
    equivalence (TOST)    H0: |mean| >= margin; both one-sided t tests must reject (Schuirmann, 1987), which is the
                          same as the 1 - 2 alpha interval lying inside (-margin, margin)
    non-inferiority       H0: mean <= -margin; the lower of the two tests, or the lower end of the one-sided interval
    smallest margin       what a test of n topics proves with a given power if the true difference is 0
    Holm                  p values of a family adjusted so that the chance of any false claim stays alpha (Holm, 1979)

Failing to find a difference does not prove equivalence, and a system may be non-inferior and significantly worse at
once. The t distribution is scipy's (extra `eval`); the randomisation test, the bootstrap and Holm's method need numpy
only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import InputError, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

Claim = Literal["equivalence", "non-inferiority"]
Alternative = Literal["two-sided", "greater", "less"]

_BLOCK = 1 << 22  # random numbers held at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval; `level` is .95 for 95 %."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The claim that two systems differ by less than `margin` either way.

    Attributes:
        margin: in the unit of the measure.
        alpha: accepted chance of a false claim.
        p: the larger of the two one-sided p values.
        interval: of the mean difference, at level 1 - 2 alpha.
        p_adjusted: p adjusted for a family of claims; None where the claim stands alone.
    """

    margin: float
    alpha: float
    p: float
    interval: Interval
    p_adjusted: float | None = None

    @property
    def proven(self) -> bool:
        """Whether the (adjusted) p value is below alpha."""
        return (self.p if self.p_adjusted is None else self.p_adjusted) < self.alpha


@dataclass(frozen=True, slots=True)
class NonInferiority:
    """The claim that a system is not worse than its baseline by `margin` or more.

    Attributes:
        margin: in the unit of the measure.
        alpha: accepted chance of a false claim.
        p: one-sided p value.
        low: lower end of the one-sided interval of the mean difference, at level 1 - alpha. Its negative is the
            smallest margin that these data prove.
        p_adjusted: p adjusted for a family of claims; None where the claim stands alone.
    """

    margin: float
    alpha: float
    p: float
    low: float
    p_adjusted: float | None = None

    @property
    def proven(self) -> bool:
        """Whether the (adjusted) p value is below alpha."""
        return (self.p if self.p_adjusted is None else self.p_adjusted) < self.alpha


@checked_call
def paired_t(differences: ArrayLike) -> tuple[float, float]:
    """The statistic and two-sided p value of the paired t test.

    Differences that are all equal have no spread: p is 1 where they are 0, else 0.

    Raises:
        InputError: fewer than two differences, or one that is not finite.
        MissingExtraError: scipy is not installed.
    """
    d = _checked(differences)
    mean, error = float(d.mean()), _standard_error(d)
    if error == 0.0:
        return (0.0, 1.0) if mean == 0.0 else (math.copysign(math.inf, mean), 0.0)
    statistic = mean / error
    return statistic, min(1.0, 2.0 * _upper_tail(abs(statistic), d.size - 1))


@checked_call(rounds=1, seed=0)
def randomisation(
    differences: ArrayLike,
    *,
    center: float = 0.0,
    alternative: Alternative = "two-sided",
    rounds: int = 10_000,
    seed: int = 0,
) -> float:
    """The p value of the paired randomisation test of H0: the differences are symmetric about `center`.

    The mean is compared with the means under random signs of d - center. Where the non-zero differences have no more
    than `rounds` sign patterns, all are counted and p is exact; else p = (as extreme + 1) / (rounds + 1).
    Non-inferiority at margin e is `center=-e, alternative="greater"`.

    Args:
        differences: float[n].
        center: the mean under H0.
        alternative: which means count as extreme.
        rounds: random sign patterns.
        seed: seed of the patterns.

    Raises:
        InputError: fewer than two differences, or one that is not finite.
    """
    d = _checked(differences) - center
    d = d[d != 0.0]  # whose sign changes nothing
    observed = float(d.sum())
    slack = 1e-12 * float(np.abs(d).sum())  # sums of the same numbers in another order are the same
    exact = 2**d.size <= rounds
    extreme = total = 0
    for signs in _all_signs(d.size) if exact else _random_signs(d.size, rounds, seed):
        sums = signs @ d
        if alternative == "two-sided":
            hits = np.abs(sums) >= abs(observed) - slack
        elif alternative == "greater":
            hits = sums >= observed - slack
        else:
            hits = sums <= observed + slack
        extreme += int(np.count_nonzero(hits))
        total += signs.shape[0]
    return extreme / total if exact else (extreme + 1) / (total + 1)


@checked_call
def equivalence(differences: ArrayLike, margin: float, *, alpha: float = 0.05) -> Equivalence:
    """Two one-sided t tests (TOST) that the mean difference lies inside (-margin, margin).

    Raises:
        InputError: fewer than two differences, one that is not finite, or a margin or alpha out of range.
    """
    d = _checked(differences)
    _check_claim(margin, alpha)
    mean, error = float(d.mean()), _standard_error(d)
    p = max(_tail(mean + margin, error, d.size), _tail(margin - mean, error, d.size))
    return Equivalence(margin, alpha, p, mean_interval(d, level=1.0 - 2.0 * alpha))


@checked_call
def non_inferiority(differences: ArrayLike, margin: float, *, alpha: float = 0.05) -> NonInferiority:
    """One-sided t test that the mean difference (system minus baseline) is above -margin.

    Raises:
        InputError: fewer than two differences, one that is not finite, or a margin or alpha out of range.
    """
    d = _checked(differences)
    _check_claim(margin, alpha)
    mean, error = float(d.mean()), _standard_error(d)
    low = mean - _quantile(1.0 - alpha, d.size - 1) * error
    return NonInferiority(margin, alpha, _tail(mean + margin, error, d.size), low)


@checked_call
def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """The t interval of a mean: of one system's values, or of differences.

    Raises:
        InputError: fewer than two values, one that is not finite, or a level out of range.
    """
    x = _checked(values)
    _check_level(level)
    half = _quantile((1.0 + level) / 2.0, x.size - 1) * _standard_error(x)
    return Interval(float(x.mean()) - half, float(x.mean()) + half, level)


@checked_call(rounds=1, seed=0)
def bootstrap_interval(values: ArrayLike, *, level: float = 0.95, rounds: int = 10_000, seed: int = 0) -> Interval:
    """The percentile bootstrap interval of a mean: topics drawn with replacement (Efron, 1979).

    Slightly narrower than the t interval at a few dozen topics; it assumes no normal means and stays within the range
    of the values.

    Args:
        values: float[n].
        level: .95 for 95 %.
        rounds: resamples.
        seed: of the resamples.

    Raises:
        InputError: fewer than two values, one that is not finite, or a level out of range.
    """
    x = _checked(values)
    _check_level(level)
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // x.size)
    means = np.concatenate(
        [
            x[generator.integers(0, x.size, size=(min(step, rounds - start), x.size))].mean(axis=1)
            for start in range(0, rounds, step)
        ]
    )
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(low), float(high), level)


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


@checked_call
def smallest_margin(
    sd: float, n: int, *, claim: Claim = "non-inferiority", power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest margin that n topics prove with probability `power` where the true difference is 0.

    (t[1 - alpha, n - 1] + z) * sd / sqrt(n), with z the normal quantile at `power` for non-inferiority and at
    (1 + power) / 2 for equivalence, where either side can fail.

    Args:
        sd: standard deviation of the per-topic differences to be expected.
        n: topics.
        claim: what is to be proven.
        power: probability of proving it.
        alpha: accepted chance of a false claim.

    Raises:
        InputError: fewer than two topics, a negative sd, or power or alpha out of range.
    """
    if n < 2 or not 0.0 <= sd < math.inf:
        raise InputError(f"power needs two topics or more and a standard deviation of 0 or more, got n={n}, sd={sd}")
    if not 0.0 < power < 1.0:
        raise InputError(f"power must be between 0 and 1, got {power}")
    _check_claim(1.0, alpha)
    z = NormalDist().inv_cdf(power if claim == "non-inferiority" else (1.0 + power) / 2.0)
    return (_quantile(1.0 - alpha, n - 1) + z) * sd / math.sqrt(n)


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 2:
        raise InputError(f"a test needs the values of two topics or more in one dimension, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InputError(f"value {int(np.argmin(np.isfinite(x)))} is {x[np.argmin(np.isfinite(x))]}, not finite")
    return x


def _check_claim(margin: float, alpha: float) -> None:
    if not 0.0 < margin < math.inf:
        raise InputError(f"the margin must be above 0, in the unit of the measure; got {margin}")
    if not 0.0 < alpha < 0.5:
        raise InputError(f"alpha must be between 0 and 0.5, got {alpha}")


def _check_level(level: float) -> None:
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


def _quantile(probability: float, degrees: int) -> float:
    """The t that a share `probability` of Student's t distribution lies below."""
    special = require("scipy.special", extra="eval", purpose="a t interval")
    return float(special.stdtrit(degrees, probability))


def _all_signs(n: int) -> Iterator[NDArray[np.float64]]:
    patterns = np.arange(2**n, dtype=np.int64)
    yield _signs((patterns[:, None] >> np.arange(n)) & 1)


def _random_signs(n: int, rounds: int, seed: int) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    for start in range(0, rounds, step):
        yield _signs(generator.integers(0, 2, size=(min(step, rounds - start), n), dtype=np.int8))


def _signs(bits: NDArray[np.int8] | NDArray[np.int64]) -> NDArray[np.float64]:
    return 1.0 - 2.0 * bits.astype(np.float64)
