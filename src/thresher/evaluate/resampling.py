"""Tests and intervals of per-topic values that draw at random, and assume no distribution. Topics are the sample.

    randomisation         H0: the systems can be exchanged within topics (Fisher; Smucker, Allan and Carterette, CIKM
                          2007); all 2^n exchanges where there are few, else a seeded sample
    bootstrap             the interval of a mean by topics drawn with replacement: the percentiles of the means (Efron,
                          1979), or those corrected for bias and skewness (BCa; Efron, 1987)

BCa is scipy's (extra `eval`). The others need numpy only: scipy's `permutation_test` does not leave out differences of
0, so that fewer tests are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import require
from thresher.evaluate.significance import Interval, check_level, checked_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

Alternative = Literal["two-sided", "greater", "less"]

_BLOCK = 1 << 22  # random numbers held at a time


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
    d = checked_values(differences) - center
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


@checked_call(rounds=1, seed=0)
def bootstrap_interval(
    values: ArrayLike,
    *,
    level: float = 0.95,
    rounds: int = 10_000,
    seed: int = 0,
    method: Literal["percentile", "bca"] = "percentile",
) -> Interval:
    """A bootstrap interval of a mean: topics drawn with replacement.

    By percentiles it is slightly narrower than the t interval at a few dozen topics; it assumes no normal means and
    stays within the range of the values. `bca` follows skewed values better.

    Args:
        values: float[n].
        level: .95 for 95 %.
        rounds: resamples.
        seed: of the resamples.
        method: percentiles, or bias-corrected and accelerated ones.

    Raises:
        InputError: fewer than two values, one that is not finite, or a level out of range.
        MissingExtraError: `bca`, and scipy is not installed.
    """
    x = checked_values(values)
    check_level(level)
    if (x == x[0]).all():
        return Interval(float(x[0]), float(x[0]), level)
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // x.size)
    if method == "bca":
        stats = require("scipy.stats", extra="eval", purpose="a BCa interval")
        found = stats.bootstrap(  # `random_state`: the name of `rng` that scipy 1.11 knows too
            (x,), np.mean, confidence_level=level, n_resamples=rounds, batch=step, method="BCa", random_state=generator
        )
        return Interval(float(found.confidence_interval.low), float(found.confidence_interval.high), level)
    means = np.concatenate(
        [
            x[generator.integers(0, x.size, size=(min(step, rounds - start), x.size))].mean(axis=1)
            for start in range(0, rounds, step)
        ]
    )
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(low), float(high), level)


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
