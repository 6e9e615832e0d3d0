"""Tests that may be looked at after every query: is the mean loss below a margin, and has it risen above it?

A p value is computed once, when the data are complete; whoever looks at it after every query and stops when it is
small is wrong far more often than alpha says. The tests here hold at every look, as long as losses lie in
[low, high], for any distribution of theirs. Each keeps the wealth of gamblers who start with 1 in total and bet
against a hypothesis at odds that are fair or worse if it is true, so that the chance that they ever own 1 / alpha is
at most alpha (Ville's inequality). With y = loss - margin:

    proven   H0: the mean loss is the margin or more. A gambler with the fixed bet b multiplies his wealth by
             1 - b y at each loss, 0 < b < 1 / (high - margin).
    lost     H0: the mean loss was never above the margin. He multiplies it by 1 + b y, 0 < b < 1 / (margin - low), and
             a share T(j - 1) - T(j) of the money enters the game at query j, T(j) = 1 / log2(j + 2), so that what
             was won since a drift began is not outweighed by what a long good time cost. The sum needs no history:
             wealth = (wealth + share) (1 + b y).

This is the betting of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 86,
2024), with a mixture over fixed bets, and for `lost` a mixture over start times, as in the e-detectors of Shin, Ramdas
and Rinaldo (2023), but with shares that add up to 1, so that alpha bounds a false alarm over all time and not only how
often one comes. Fifteen bets in equal ratio, with money in proportion to the bet, were chosen by simulation
(eval/significance.py): that paper's predictable plug-in bets need up to a quarter fewer queries where losses hardly
vary, and up to two fifths more where they do. Shares by 1 / (j (j + 1)) need a quarter more after 5,000 good queries.

Fixed bets have two more merits. The claim also holds where the mean changes with time: with chance 1 - alpha,
whenever `proven` is true the average of the (conditional) mean losses so far is below the margin, since the product of
the expected factors 1 - b (mean - margin) is at most 1 where that average is not below it (means, arithmetic and
geometric). And their wealth depends on the losses, not on their order, so that counts of losses, rounded to a
thousandth of the range in the direction that proves less, are all that is kept: whole numbers, which no number of
queries makes inexact, from which `interval` finds all means that are not disproven (a confidence sequence).

No test can be quick with a small margin: if all losses are 0, a mean of `margin` can still hide in rare losses of
`high`, and log(alpha) / log(1 - margin / high) queries are needed to see one (149 at margin .02, high 1, alpha .05);
this test needs 193.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeGuard

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import floats, real, shown
from thresher.errors import InputError
from thresher.evaluate.significance import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

Outcome = Literal["proven", "undecided", "lost"]

BETS = 0.99 * 1.5 ** -np.arange(15.0)
"""float64[15]: bets, as shares of the largest that cannot lose everything."""
MONEY = BETS / BETS.sum()
"""float64[15]: what each bet starts with."""
_CELLS = 1000
"""Parts of the range that losses are counted in."""
RICH = 1e100
"""Wealth beyond this is cut down to it: no alpha asks for more."""


class SequentialTest:
    """A running test of the losses of queries, each in [low, high], that may be read after every query.

        test = SequentialTest(0.02)
        test.add(0.0)          # once a query: the baseline's nDCG minus the system's, or 1 - overlap
        test.outcome           # "proven", "undecided" or "lost"

    Args:
        margin: the mean loss that would matter, between low and high.
        low: the smallest loss there can be: -1 for differences of a measure, 0 for 1 - overlap.
        high: the largest loss there can be.
        alpha: accepted chance that `proven` is ever wrong, and that `lost` is ever wrong: alpha for each.

    Attributes:
        n: losses added.
        lost_at: the query at which the margin was found to be exceeded, counted from 1; None while it is not.

    Raises:
        InputError: the margin is not between low and high, or alpha not between 0 and 0.5.
    """

    __slots__ = ("_counts", "_log_factors", "_total", "_wealth", "alpha", "high", "lost_at", "low", "margin", "n")

    @checked_call
    def __init__(self, margin: float, *, low: float = -1.0, high: float = 1.0, alpha: float = 0.05) -> None:
        check_test(margin, low, high, alpha)
        self.margin, self.low, self.high, self.alpha = margin, low, high, alpha
        self.n = 0
        self.lost_at: int | None = None
        self._total = 0.0
        self._wealth = np.zeros(BETS.size)  # of each bet against "never above the margin"
        self._counts = np.zeros(2 * _CELLS + 1, dtype=np.int64)  # at 2 i: losses at the i-th line; 2 i + 1: above it
        self._log_factors: NDArray[np.float64] | None = None

    def add(self, loss: float) -> None:
        """Count one query's loss. Costs the same however many came before.

        Raises:
            InputError: it is not a number from low to high.
        """
        slack = 1e-9 * (self.high - self.low)  # of rounding
        x = min(max(real("a loss", loss, self.low - slack, self.high + slack), self.low), self.high)
        place = (x - self.low) / (self.high - self.low) * _CELLS
        line = round(place)
        self._counts[2 * line if abs(place - line) < 1e-9 else 2 * math.floor(place) + 1] += 1
        self._wealth = bet_on_loss(self._wealth, self.n, BETS / (self.margin - self.low) * (x - self.margin))
        self._total += x
        self.n += 1
        if self.lost_at is None and self.e_lost >= 1.0 / self.alpha:
            self.lost_at = self.n

    def extend(self, losses: ArrayLike) -> None:
        """Count several losses, in the order of the queries."""
        for loss in floats("losses", losses).tolist():
            self.add(loss)

    @property
    def mean(self) -> float:
        """The mean loss so far; NaN before the first."""
        return self._total / self.n if self.n else math.nan

    @property
    def e_proven(self) -> float:
        """The e-value against "the mean loss is the margin or more": 1 / e is a p value valid at every look."""
        if self._log_factors is None:
            self._log_factors = log_factors(self._upper_values(), self.margin, self.high)
        return min(math.exp(min(log_wealth(self._log_factors, self._counts), 300.0)), RICH)

    @property
    def e_lost(self) -> float:
        """The e-value against "the mean loss was never above the margin": 1 / e is a p value valid at every look."""
        return float(self._wealth @ MONEY) + still_to_enter(self.n)

    @property
    def proven(self) -> bool:
        """Whether it is proven that the average loss so far is below the margin."""
        return self.e_proven >= 1.0 / self.alpha

    @property
    def lost(self) -> bool:
        """Whether it is, or was, proven that the mean loss exceeded the margin at some time; a new test forgets it."""
        return self.lost_at is not None

    @property
    def outcome(self) -> Outcome:
        """`lost` if that was ever shown, also after a longer time in which `proven` held; then `proven`."""
        if self.lost:
            return "lost"
        return "proven" if self.proven else "undecided"

    def interval(self) -> Interval:
        """The mean losses that are not disproven, at level 1 - 2 alpha: each end is wrong, ever, with chance alpha.

        The upper end is below the margin exactly where `proven` is true. Losses are rounded outwards to a thousandth
        of the range, so that the interval does not become narrower than that.
        """
        counts = np.flatnonzero(self._counts)
        held = self._counts[counts]
        upper, lower = self._upper_values()[counts], self._upper_values(up=False)[counts]
        needed = math.log(1.0 / self.alpha)
        high = first_disproven(upper, held, self.low, self.high, needed)
        low = -first_disproven(-lower, held, -self.high, -self.low, needed)
        return Interval(low, high, 1.0 - 2.0 * self.alpha)

    def more_to_prove(self, most: int = 10_000_000) -> int | None:
        """How many more losses prove the margin, if they are distributed as those so far.

        Before the first loss it is the number that proves it if each is the smallest there can be. None where it is
        lost, where losses like these prove nothing, or where more than `most` are needed.
        """
        if self.lost:
            return None
        seen = self._counts if self.n else np.eye(1, self._counts.size, dtype=np.int64)[0]
        places = np.flatnonzero(seen)
        factors = log_factors(self._upper_values()[places], self.margin, self.high)
        share = seen[places] / seen[places].sum()

        def proves(n: int) -> bool:
            return log_wealth(factors, share * n) >= math.log(1.0 / self.alpha)

        few, many = self.n, self.n + 1
        if proves(few):
            return 0
        while not proves(many):
            few, many = many, many + 2 * (many - self.n)
            if many - self.n > most:
                return None
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if proves(middle) else (middle, many)
        return many - self.n

    def as_json(self) -> dict[str, object]:
        """The state as plain JSON, at most about 20 KB; `from_json` continues from it exactly."""
        places = np.flatnonzero(self._counts)
        return {
            "margin": self.margin,
            "low": self.low,
            "high": self.high,
            "alpha": self.alpha,
            "n": self.n,
            "total": self._total,
            "lost_at": self.lost_at,
            "wealth": self._wealth.tolist(),
            "counts": [[int(place), int(self._counts[place])] for place in places],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, object]) -> SequentialTest:
        """The test whose `as_json` this is.

        Raises:
            InputError: it is not such a state, or a damaged one.
        """
        try:
            margin, low, high, alpha = (_number(state[name]) for name in ("margin", "low", "high", "alpha"))
            test = cls(margin, low=low, high=high, alpha=alpha)
            counts = np.array(state["counts"], dtype=np.int64).reshape(-1, 2)
            if not (counts >= 0).all():
                raise ValueError("a count is below 0")
            test._counts[counts[:, 0]] = counts[:, 1]
            test._wealth = np.array(state["wealth"], dtype=np.float64)
            test._total, test.n = _number(state["total"]), int(_number(state["n"]))
            if test._wealth.shape != BETS.shape or not (np.isfinite(test._wealth) & (test._wealth >= 0.0)).all():
                raise ValueError(f"wealth must be {BETS.size} numbers of 0 or more")
            if test._counts.sum() != test.n:
                raise ValueError(f"it counts {test._counts.sum()} losses of {test.n}")
            test.lost_at = None if state["lost_at"] is None else int(_number(state["lost_at"]))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as err:
            what = f"no field {err}" if isinstance(err, KeyError) else str(err)
            raise InputError(f"this is not the state of a sequential test ({what}): {shown(state)}") from err
        return test

    def __repr__(self) -> str:
        return f"SequentialTest(margin={self.margin:g}, n={self.n}, mean={self.mean:.4g}, outcome={self.outcome!r})"

    def _upper_values(self, *, up: bool = True) -> NDArray[np.float64]:
        """float64[2 * _CELLS + 1]: the loss that stands for each count: the line itself, or the next one up or down."""
        lines = (np.arange(2 * _CELLS + 1) + (1 if up else 0)) // 2
        return self.low + (self.high - self.low) * lines / _CELLS


def bet_on_loss(wealth: NDArray[np.float64], before: int, stakes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The wealth float64[..., 15] after one more loss, with the share that enters.

    Args:
        wealth: float64[..., 15], before.
        before: losses before this one.
        stakes: float64[..., 15]: b (loss - margin).
    """
    share = still_to_enter(before) - still_to_enter(before + 1)
    made: NDArray[np.float64] = np.minimum((wealth + share) * (1.0 + stakes), RICH)
    return made


def still_to_enter(n: int) -> float:
    """The share of the money that has not entered the game after n losses."""
    return 1.0 / math.log2(n + 2)


def log_factors(losses: NDArray[np.float64], margin: float, high: float) -> NDArray[np.float64]:
    """float64[15, len(losses)]: the logarithm of what each bet that the mean is below `margin` makes of each loss."""
    return np.log1p(BETS[:, None] / (high - margin) * (margin - losses))


def log_wealth(log_factors: NDArray[np.float64], counts: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """The logarithm of what all bets together have made of the losses, of each of which there are `counts`."""
    parts = log_factors @ counts.astype(np.float64) + np.log(MONEY)
    largest = float(parts.max())
    return largest + math.log(float(np.exp(parts - largest).sum()))


def first_disproven(
    losses: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float, needed: float
) -> float:
    """The smallest mean that the bets disprove, high if there is none; they disprove each larger one as well."""
    below, above = low, high
    while above - below > 1e-10 * (high - low):
        middle = (below + above) / 2.0
        if log_wealth(log_factors(losses, middle, high), counts) >= needed:
            above = middle
        else:
            below = middle
    return above


def check_test(margin: float, low: float, high: float, alpha: float) -> None:
    """Check what a sequential test is made with.

    Raises:
        InputError: the margin is not between low and high, or alpha not between 0 and 0.5.
    """
    if not -math.inf < low < margin < high < math.inf:
        raise InputError(f"the margin must be between low and high, got margin={margin}, low={low}, high={high}")
    if not 0.0 < alpha < 0.5:
        raise InputError(f"alpha must be between 0 and 0.5, got {alpha}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    if not _is_number(value):
        raise TypeError(f"{shown(value)} is not a number")
    return value
