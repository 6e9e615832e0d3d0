"""Adaptive by uncertainty: ask again only where it is uncertain whether a candidate is among the first k.

The idea is AcuRank's (Yoon et al., NeurIPS 2025, arXiv 2505.18512): keep a belief about every candidate's strength, and
spend the next comparisons on those whose probability of being among the first k is neither near 0 nor near 1. The rest
differs:

- **Belief.** AcuRank updates TrueSkill ratings window by window, so the result depends on the order of the windows.
  Here the belief is a Bradley-Terry posterior with the first stage as its prior, given all answers at once, in which an
  ordered window counts what it is worth (`thresher.rerank.plans.belief`).
- **Rounds.** The calls are divided evenly over `rounds`, so the depth is known beforehand. The first round covers all
  candidates, the others the uncertain ones, and the last one the best `window` candidates, since what users see is
  their order and not only who they are. A round that has more calls than windows asks again, in other partitions; by
  default every window is shown shuffled.
- **Stopping.** When fewer than `enough` candidates are uncertain, the next round is the last.

P(among the first k) of candidate i is P(x_i > t), where t is such that the probabilities add up to k, as in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.checks import real, whole
from thresher.rerank.plans.belief import Belief
from thresher.rerank.plans.plan import Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    import numpy as np
    from numpy.typing import NDArray

BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class AcuRank:
    """Order windows of the candidates whose place is uncertain, in a few rounds.

    Attributes:
        window: passages in one comparison, at most, at least 2.
        calls: comparisons in all, at most.
        rounds: sequential rounds, at most.
        tolerance: a candidate is uncertain if its probability of being among the first k is between this and 1 minus
            this, 0 to 0.5.
        enough: with fewer uncertain candidates, the next round is the last.
        spread: standard deviation of a strength before any answer, in log-odds.
        slope: how fast expected strengths fall with the logarithm of the first stage's rank, at least 0.
        shuffled: show every window in a random order. Otherwise those that cover a round's candidates for the first
            time are shown the likeliest first, which suits a weak judge that keeps much of the order it is shown.
    """

    window: int = 20
    calls: int = 20
    rounds: int = 3
    tolerance: float = 0.02
    enough: int = 10
    spread: float = 2.0
    slope: float = 1.0
    shuffled: bool = True

    def __post_init__(self) -> None:
        whole("window", self.window, 2)
        setting("calls", self.calls, 1)
        setting("rounds", self.rounds, 1)
        setting("enough", self.enough, 0)
        real("tolerance", self.tolerance, 0.0, 0.5)
        real("spread", self.spread, 1e-3, 1e3)
        real("slope", self.slope, 0.0, 1e3)

    @property
    def name(self) -> str:
        """`acurank` with its settings."""
        return (
            f"acurank:window={self.window},calls={self.calls},rounds={self.rounds},tolerance={self.tolerance},"
            f"enough={self.enough},spread={self.spread},slope={self.slope}{'' if self.shuffled else ',shuffled=false'}"
        )

    def bound(self, n: int, k: int) -> Spent:
        """`calls` comparisons in `rounds` batches."""
        if n < 2:
            return Spent()
        return Spent.alike(self.calls, min(self.window, n), min(self.rounds, self.calls))

    def exact_top(self, n: int, k: int) -> int:
        """None: it rests on probabilities."""
        return min(n, 1) if n < 2 else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Cover all candidates, then those that are uncertain, then the best."""
        if n < 2:
            return Placement.of(range(n))
        belief = Belief(range(n), self.spread, self.slope)
        group, left, last = list(range(n)), self.calls, self.rounds == 1
        try:
            for after in range(self.rounds, 0, -1):
                asked = self._windows(group, left // after, rng)[:left]
                answers = yield [Order(window) for window in asked]
                left -= len(asked)
                belief.update([answer for answer in answers if answer is not None])
                if last or not left:
                    break
                unsure = self._unsure(belief, min(k, n))
                last = after == 2 or len(unsure) < self.enough
                group = belief.order[: self.window] if last or len(unsure) < 2 else unsure
        except Stop:
            pass
        return belief.placement()

    def _unsure(self, belief: Belief, k: int) -> list[int]:
        """Candidates of which it is uncertain whether they are among the first k, the likeliest first."""
        chances = among_first(belief.mean, belief.deviations(), k)
        return sorted(
            (item for item, chance in enumerate(chances) if self.tolerance < chance < 1.0 - self.tolerance),
            key=lambda item: (-chances[item], item),
        )

    def _windows(self, group: Sequence[int], calls: int, rng: Random) -> list[tuple[int, ...]]:
        """Windows that cover the group, as often as `calls` allows and at least once.

        First every c-th candidate is dealt to one of c windows, so that they are equally strong; then neighbours share
        a window; then windows are drawn.
        """
        count = -(-len(group) // self.window)
        made: list[list[int]] = []
        for time in range(max(calls // count, 1)):
            if time == 1:
                made += [list(group[len(group) * i // count : len(group) * (i + 1) // count]) for i in range(count)]
            else:
                drawn = group if time == 0 else rng.sample(group, len(group))
                made += [list(drawn[i::count]) for i in range(count)]
        kept = 0 if self.shuffled else count
        return [
            tuple(window if at < kept else rng.sample(window, len(window)))
            for at, window in enumerate(made)
            if len(window) > 1
        ]


def among_first(mean: NDArray[np.float64], deviation: NDArray[np.float64], k: int) -> list[float]:
    """P(x_i > t) for Gaussian x, with t such that the probabilities add up to k; 1 for all if there are no more than k.

    Args:
        mean: float64[n].
        deviation: float64[n], positive.
        k: at least 1.
    """
    if k >= len(mean):
        return [1.0] * len(mean)
    pairs = list(zip(mean.tolist(), (deviation * math.sqrt(2.0)).tolist(), strict=True))
    low, high = min(m - 9 * d for m, d in pairs), max(m + 9 * d for m, d in pairs)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        total = sum(math.erfc((middle - m) / d) for m, d in pairs) / 2
        low, high = (middle, high) if total > k else (low, middle)
    return [math.erfc((low - m) / d) / 2 for m, d in pairs]
