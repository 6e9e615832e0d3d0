"""JointRank: overlapping blocks ordered in parallel, then one ranking out of all their pairs.

Algorithm: JointRank (Dedov, ICTIR 2025, arXiv 2506.22262) with its equi-replicate design: r shuffled
passes over the candidates are cut into blocks of b. All blocks are one batch, so the depth is 1. The default
aggregation is Bradley-Terry with a Gaussian penalty, which is finite on any data (the plain model is not, and on
acyclic data public code then returns the input order).

Optionally the head of that ranking is ordered again in several shuffled windows at once (depth 2), combined by Borda:
under a noisy judge, asking about the head again is worth more than covering the tail better.

Where we differ: any n works. There are ceil(r n/b) blocks of exactly b passages, none holding one twice; a block that
straddles two rounds of shuffling takes from the next round what it does not hold yet, so every passage is in at least
r blocks.
No exactness is promised; eval/results/rerank-plans.md has the measured regret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thresher.errors import InputError
from thresher.rerank.aggregate import borda, bradley_terry, win_rate, wins
from thresher.rerank.asks import Order
from thresher.rerank.plans.plan import Course, Ranking, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from thresher.rerank.asks import Answer


@dataclass(frozen=True, slots=True)
class JointRank:
    """Order overlapping blocks in parallel, aggregate, and optionally order the head again.

    Attributes:
        block: b, passages in one ask, at least 2.
        replicas: r, in how many blocks every passage is, at least 1.
        aggregation: "bradley-terry" or "win-rate".
        penalty: lambda of the Bradley-Terry model.
        windows: how many shuffled windows over the head follow, 0 for none. A single window is shown in the order
            found so far.
        head: how many passages such a window holds.
    """

    block: int = 20
    replicas: int = 4
    aggregation: Literal["bradley-terry", "win-rate"] = "bradley-terry"
    penalty: float = 0.1
    windows: int = 0
    head: int = 20

    def __post_init__(self) -> None:
        if self.block < 2 or self.replicas < 1 or self.windows < 0 or self.head < 2 or not self.penalty > 0:
            raise InputError(
                f"block={self.block}, replicas={self.replicas}, windows={self.windows}, head={self.head}, "
                f"penalty={self.penalty}: blocks and heads hold at least 2, replicas are at least 1, windows are "
                "not negative, the penalty is positive"
            )
        if self.aggregation not in ("bradley-terry", "win-rate"):
            raise InputError(f"aggregation={self.aggregation!r} is neither 'bradley-terry' nor 'win-rate'")

    @property
    def name(self) -> str:
        """`jointrank` with its settings."""
        rule = f"penalty={self.penalty}" if self.aggregation == "bradley-terry" else "aggregation=win-rate"
        windows = f",windows={self.windows},head={self.head}" if self.windows else ""
        return f"jointrank:block={self.block},replicas={self.replicas},{rule}{windows}"

    def max_calls(self, n: int, k: int) -> int:
        """ceil(r n/b) blocks (r where one block holds all), and the windows."""
        return (_block_count(n, self.block, self.replicas) + self.windows) if n > 1 else 0

    def exact_top(self, n: int, k: int) -> int:
        """All where every block holds all; else nothing is promised."""
        return n if n <= self.block else 0

    def run(self, n: int, k: int, rng: Random) -> Course[Ranking]:
        """Order all blocks at once, aggregate, order the head again."""
        if n < 2:
            return Ranking.of(range(n))
        try:
            answers = yield [Order(block) for block in blocks(n, self.block, self.replicas, rng)]
        except Stop:
            return Ranking.of(range(n))
        ranking = self._aggregate(n, [answer for answer in answers if answer is not None])
        if not self.windows:
            return ranking
        head = ranking.order[: min(self.head, n)]
        shown = [head] if self.windows == 1 else [tuple(rng.sample(head, len(head))) for _ in range(self.windows)]
        try:
            again = yield [Order(window) for window in shown]
        except Stop:
            return ranking
        return _with_head(ranking, head, [answer for answer in again if answer is not None])

    def _aggregate(self, n: int, answers: Sequence[Answer]) -> Ranking:
        if not answers:
            return Ranking.of(range(n))
        table = wins(n, answers)
        if self.aggregation == "win-rate":
            return Ranking.by_score(dict(enumerate(win_rate(table).tolist())))
        strengths, errors = bradley_terry(table, self.penalty)
        # Passages with the same record have strengths that differ by rounding alone; 9 digits make them ties.
        ranking = Ranking.by_score(dict(enumerate(strengths.round(9).tolist())))
        return Ranking(ranking.tiers, ranking.scores, tuple(float(errors[item]) for item in ranking.order))


def blocks(n: int, size: int, replicas: int, rng: Random) -> list[tuple[int, ...]]:
    """Blocks of `size` distinct positions of n that hold every position at least `replicas` times.

    Where one block holds everything, it comes `replicas` times, shuffled differently.
    """
    if n <= size:
        return [tuple(rng.sample(range(n), n)) for _ in range(replicas)]
    result: list[tuple[int, ...]] = []
    queue: list[int] = []
    for _ in range(_block_count(n, size, replicas)):
        block = queue[:size]
        queue = queue[size:]
        if len(block) < size:
            held = set(block)
            fresh = rng.sample(range(n), n)
            borrowed = [item for item in fresh if item not in held][: size - len(block)]
            queue = [item for item in fresh if item not in set(borrowed)]
            block += borrowed
        result.append(tuple(rng.sample(block, size)))
    return result


def _block_count(n: int, size: int, replicas: int) -> int:
    return replicas if n <= size else -(-replicas * n // size)


def _with_head(ranking: Ranking, head: tuple[int, ...], answers: Sequence[Answer]) -> Ranking:
    """The ranking with its head reordered by the Borda count of the windows, ties by the ranking before."""
    if not answers:
        return ranking
    counts = borda(head, answers)
    place = {item: rank for rank, item in enumerate(head)}
    order = sorted(head, key=lambda item: (-counts[item], place[item]))
    return Ranking.of((*order, *ranking.order[len(head) :]))
