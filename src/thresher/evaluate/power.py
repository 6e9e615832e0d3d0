"""How many topics, or live queries, a claim needs, and the smallest margin that those at hand can prove.

    smallest_margin       what n topics prove with a given power, where the true difference is 0
    topics_needed         how many topics prove a margin with a given power
    power_sentence        both, as one sentence for people
    queries_to_prove      how many live queries `thresher.evaluate.sequential` needs to prove a margin
    queries_to_notice     how many it needs after a drift to notice that the margin is exceeded

The first three are arithmetic: with differences of standard deviation s, a claim at margin e is proven with
probability P(Z <= (e + d) / (s / sqrt(n)) - t[1 - alpha, n - 1]), d the true difference, and for equivalence both sides
must hold; the simulated power is within .01 of it from 10 topics on. The others simulate, because a sequential test has
no such formula.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import floats, shown
from thresher.errors import InputError
from thresher.evaluate.sequential import BETS, MONEY, RICH, bet_on_loss, check_test, still_to_enter
from thresher.evaluate.significance import check_claim, t_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from thresher.evaluate.significance import Kind

_MOST = 1 << 40
"""Topics beyond which none are counted."""


@checked_call
def smallest_margin(
    sd: float, n: int, *, claim: Kind = "non-inferiority", power: float = 0.8, alpha: float = 0.05
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
        MissingExtraError: scipy is not installed.
    """
    if n < 2:
        raise InputError(f"power needs two topics or more, got n={n}")
    _check_power(sd, power, 1.0, alpha)
    z = NormalDist().inv_cdf(power if claim == "non-inferiority" else (1.0 + power) / 2.0)
    return (t_quantile(1.0 - alpha, n - 1) + z) * sd / math.sqrt(n)


@checked_call
def topics_needed(
    sd: float,
    margin: float,
    *,
    claim: Kind = "non-inferiority",
    power: float = 0.8,
    alpha: float = 0.05,
    difference: float = 0.0,
) -> int:
    """The fewest topics that prove a margin with probability `power`.

    Args:
        sd: standard deviation of the per-topic differences to be expected.
        margin: in the unit of the measure.
        claim: what is to be proven.
        power: probability of proving it.
        alpha: accepted chance of a false claim.
        difference: the true mean difference, system minus baseline: below 0 where something is lost.

    Raises:
        InputError: the true difference is outside the margin, which no number of topics can prove; a negative sd; or
            power, margin or alpha out of range.
        MissingExtraError: scipy is not installed.
    """
    _check_power(sd, power, margin, alpha)
    if difference <= -margin or (claim == "equivalence" and difference >= margin):
        raise InputError(f"no number of topics proves a margin of {margin:g} where the difference is {difference:g}")
    few, many = 1, 2
    while _power(sd, many, margin, difference, claim, alpha) < power and many < _MOST:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if _power(sd, middle, margin, difference, claim, alpha) < power:
            few = middle
        else:
            many = middle
    return many


@checked_call
def power_sentence(
    sd: float,
    n: int,
    margin: float,
    *,
    claim: Kind = "non-inferiority",
    power: float = 0.8,
    alpha: float = 0.05,
    unit: str = "topics",
) -> str:
    """What n topics can prove, and how many the margin needs, in one sentence for people.

    "70 topics can prove a margin of .015 at this variance; you have 43, which prove .020."

    Args:
        sd: standard deviation of the per-topic differences.
        n: topics at hand.
        margin: the margin that is to be proven.
        claim: what is to be proven.
        power: probability of proving it, where the true difference is 0.
        alpha: accepted chance of a false claim.
        unit: what is counted, in the plural.

    Raises:
        InputError: as `smallest_margin` and `topics_needed`.
        MissingExtraError: scipy is not installed.
    """
    needed = topics_needed(sd, margin, claim=claim, power=power, alpha=alpha)
    least = math.ceil(smallest_margin(sd, n, claim=claim, power=power, alpha=alpha) * 1000.0 - 1e-9) / 1000.0
    wanted, proves = f"can prove a margin of {_decimal(margin)}", f"which prove {_decimal(least)}"
    if needed <= n:
        return f"You have {n:,} {unit}, {proves} at this variance; {needed:,} {wanted}."
    return f"{needed:,} {unit} {wanted} at this variance; you have {n:,}, {proves}."


@checked_call(runs=1, seed=0, limit=1)
def queries_to_prove(
    losses: ArrayLike,
    margin: float,
    *,
    low: float = -1.0,
    high: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
    runs: int = 400,
    seed: int = 0,
    limit: int = 20_000,
) -> int | None:
    """How many queries it takes until a share `power` of simulated runs has been `proven`; None beyond `limit`.

    Args:
        losses: float[n], a sample of what is to be expected, from which every run draws with replacement.
        margin: as of `SequentialTest`, like `low`, `high` and `alpha`.
        low: the smallest loss there can be.
        high: the largest loss there can be.
        alpha: accepted chance of a false claim.
        power: share of the runs.
        runs: simulated runs; the share is right to about half of 1 / sqrt(runs).
        seed: of the draws.
        limit: queries of a run.

    Raises:
        InputError: there is no loss, one is outside [low, high], or another argument is out of range.
    """
    sample = _checked_sample(losses, margin, low, high, alpha, power)
    rates = BETS / (high - margin)
    wealth = np.ones((runs, BETS.size))

    def won(draw: NDArray[np.float64], _: int) -> NDArray[np.bool_]:
        np.multiply(wealth, 1.0 - rates * (draw[:, None] - margin), out=wealth)
        np.minimum(wealth, RICH, out=wealth)
        rich: NDArray[np.bool_] = wealth @ MONEY >= 1.0 / alpha
        return rich

    times = first_times(won, _draws(sample, runs, limit, np.random.default_rng(seed)), runs)
    return reached(times, power)


@checked_call(runs=1, seed=0, limit=1, after=0)
def queries_to_notice(
    losses: ArrayLike,
    drift: float,
    margin: float,
    *,
    after: int = 500,
    depth: float = 0.5,
    low: float = -1.0,
    high: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
    runs: int = 400,
    seed: int = 0,
    limit: int = 20_000,
) -> int | None:
    """How many queries after a drift it is `lost` in a share `power` of simulated runs; None beyond `limit`.

    Args:
        losses: float[n], a sample from the good time, from which every run draws with replacement.
        drift: by how much the mean loss rises.
        margin: as of `SequentialTest`, like `low`, `high` and `alpha`.
        after: good queries before the drift.
        depth: the loss rises by this much, or to `high`, in a random share of the queries: that which gives the drift.
        low: the smallest loss there can be.
        high: the largest loss there can be.
        alpha: accepted chance of a false alarm.
        power: share of the runs, among those without a false alarm before the drift.
        runs: simulated runs; the share is right to about half of 1 / sqrt(runs).
        seed: of the draws.
        limit: queries of a run after the drift.

    Raises:
        InputError: there is no loss, one is outside [low, high], losses of `depth` cannot make such a drift, or another
            argument is out of range.
    """
    sample = _checked_sample(losses, margin, low, high, alpha, power)
    rng = np.random.default_rng(seed)
    worse = np.minimum(sample + depth, high)
    gain = float((worse - sample).mean())
    if not 0.0 < drift <= gain:
        raise InputError(f"a drift of {drift:g} needs losses that rise by more: a depth of {depth:g} gives {gain:g}")
    rates = BETS / (margin - low)
    wealth = np.zeros((runs, BETS.size))

    def won(draw: NDArray[np.float64], before: int) -> NDArray[np.bool_]:
        wealth[:] = bet_on_loss(wealth, before, rates * (draw[:, None] - margin))
        rich: NDArray[np.bool_] = wealth @ MONEY + still_to_enter(before + 1) >= 1.0 / alpha
        return rich

    def drawn() -> Iterator[NDArray[np.float64]]:
        yield from _draws(sample, runs, after, rng)
        for rows in _places(sample.size, runs, limit, rng):
            yield np.where(rng.random(runs) < drift / gain, worse[rows], sample[rows])

    times = first_times(won, drawn(), runs)
    return reached(times[times > after] - after, power)


def _places(size: int, runs: int, steps: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """int64[runs] at each step: random places in a sample."""
    block = max(1, (1 << 18) // runs)
    for start in range(0, steps, block):
        yield from rng.integers(0, size, size=(min(block, steps - start), runs))


def _draws(
    sample: NDArray[np.float64], runs: int, steps: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    for rows in _places(sample.size, runs, steps, rng):
        yield sample[rows]


def first_times(
    won: Callable[[NDArray[np.float64], int], NDArray[np.bool_]], draws: Iterator[NDArray[np.float64]], runs: int
) -> NDArray[np.float64]:
    """float64[runs]: the query, counted from 1, at which each run crossed its threshold; inf where it did not.

    Args:
        won: takes the losses float64[runs] of one query, and the number of queries before; whether each run is past
            its threshold.
        draws: the losses of each query.
        runs: simulated runs.
    """
    times = np.full(runs, np.inf)
    for before, draw in enumerate(draws):
        times[won(draw, before) & np.isinf(times)] = before + 1
        if np.isfinite(times).all():
            break
    return times


def reached(times: NDArray[np.float64], power: float) -> int | None:
    """The time by which a share `power` of the runs has crossed."""
    if not times.size:
        return None
    time = float(np.sort(times)[math.ceil(power * times.size) - 1])
    return int(time) if math.isfinite(time) else None


def _checked_sample(
    losses: ArrayLike, margin: float, low: float, high: float, alpha: float, power: float
) -> NDArray[np.float64]:
    check_test(margin, low, high, alpha)
    if not 0.0 < power < 1.0:
        raise InputError(f"power must be between 0 and 1, got {power}")
    sample = floats("losses", losses)
    if not sample.size or not ((sample >= low) & (sample <= high)).all():
        raise InputError(f"losses must be numbers from {low:g} to {high:g}, at least one; got {shown(losses)}")
    return sample


def _power(sd: float, n: int, margin: float, difference: float, claim: Kind, alpha: float) -> float:
    """The probability that n topics prove a margin."""
    if sd == 0.0:
        return 1.0
    error, reach = sd / math.sqrt(n), t_quantile(1.0 - alpha, n - 1)
    normal = NormalDist()
    lower = normal.cdf((margin + difference) / error - reach)
    if claim == "non-inferiority":
        return lower
    return max(0.0, lower + normal.cdf((margin - difference) / error - reach) - 1.0)


def _check_power(sd: float, power: float, margin: float, alpha: float) -> None:
    if not 0.0 <= sd < math.inf:
        raise InputError(f"power needs a standard deviation of 0 or more, got sd={sd}")
    if not 0.0 < power < 1.0:
        raise InputError(f"power must be between 0 and 1, got {power}")
    check_claim(margin, alpha)


def _decimal(value: float) -> str:
    """A figure as people write it here: three decimals or what it has, without the zero in front."""
    text = f"{value:.3f}" if round(value, 3) == round(value, 9) else f"{value:g}"
    return text.removeprefix("0") if text.startswith("0.") else text
