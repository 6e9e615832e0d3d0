"""JointRank: overlapping blocks ordered in parallel, then one ranking from all their pairs.

Algorithm: JointRank (Dedov, ICTIR 2025, arXiv 2506.22262): overlapping blocks after a design of `designs.py`, all in
one batch, so the depth is 1. Optionally the top of that ranking is ordered again in several shuffled windows at once
(depth 2): under a noisy judge, comparing the top again is worth more than covering the tail better. No exactness is
promised; eval/results/rerank-study.md has the measured regret.

The answers become one strength a passage by any aggregator of `thresher.rerank.aggregate`; regularised Bradley-Terry is
the default. Blocks and windows are aggregated together, which orders the top better than the windows alone; the
passages in the windows stay before the others, since only they were compared again. The exceptions are the aggregators
that count shares of wins and ask not against whom: among strong passages a share is smaller, so there the windows alone
order the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from thresher.checks import real, shown, whole
from thresher.errors import InputError
from thresher.rerank.aggregate import AGGREGATORS, aggregate
from thresher.rerank.aggregate.shares import borda_counts
from thresher.rerank.plans.designs import DESIGNS, Design, blocks
from thresher.rerank.plans.plan import Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.rerank.plans.plan import Answer

SHARES = ("win-rate", "borda", "copeland")
"""Aggregators that do not ask against whom a passage won."""


@dataclass(frozen=True, slots=True)
class JointRank:
    """Order overlapping blocks in parallel, aggregate, and optionally order the top again.

    Attributes:
        block: b, passages in one comparison, at least 2.
        replicas: r, how many blocks a passage is in, at least 1; `designs.py` says how exactly each design keeps it.
        aggregation: "bradley-terry", or another name of `thresher.rerank.aggregate`.
        penalty: lambda of the Bradley-Terry model.
        first_stage: how much the first-stage order counts in it, 0 for nothing; 1 with `penalty` 3 is sensible for a
            judge whose errors repeat.
        windows: how many shuffled windows over the top follow, 0 for none. A single window is shown in the order
            found so far.
        head: how many passages at the top such a window holds.
        design: which passages share a block, a name in `designs.py`.
    """

    block: int = 20
    replicas: int = 4
    aggregation: str = "bradley-terry"
    penalty: float = 0.1
    windows: int = 0
    head: int = 20
    design: Design = "equi-replicate"
    first_stage: float = 0.0

    def __post_init__(self) -> None:
        whole("block", self.block, 2)
        whole("head", self.head, 2)
        setting("replicas", self.replicas, 1)
        setting("windows", self.windows, 0)
        real("penalty", self.penalty, 1e-9, 1e9)
        real("first_stage", self.first_stage, 0.0, 100.0)
        if self.aggregation not in AGGREGATORS:
            raise InputError(f"aggregation={shown(self.aggregation)} must be one of {', '.join(AGGREGATORS)}")
        if self.design not in DESIGNS:
            raise InputError(f"design={self.design!r} is unknown; choose from {', '.join(DESIGNS)}")

    @property
    def name(self) -> str:
        """`jointrank` with its settings."""
        rule = f"penalty={self.penalty}" if self.aggregation == "bradley-terry" else f"aggregation={self.aggregation}"
        rule += f",first_stage={self.first_stage}" if self.first_stage else ""
        windows = f",windows={self.windows},head={self.head}" if self.windows else ""
        design = "" if self.design == "equi-replicate" else f",design={self.design}"
        return f"jointrank:block={self.block},replicas={self.replicas},{rule}{windows}{design}"

    def bound(self, n: int, k: int) -> Spent:
        """The blocks of the design, and the windows."""
        if n < 2:
            return Spent()
        sizes = [len(block) for block in blocks(n, self.block, self.replicas, Random(0), self.design)]  # noqa: S311
        return Spent(len(sizes), sum(sizes), 1, len(sizes)) + Spent.alike(self.windows, min(self.head, n), 1)

    def exact_top(self, n: int, k: int) -> int:
        """All if every block holds all candidates and the first stage does not count, else none."""
        return n if n <= self.block and not self.first_stage else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Order all blocks at once, aggregate, and order the top again."""
        if n < 2:
            return Placement.of(range(n))
        try:
            answers = yield [Order(block) for block in blocks(n, self.block, self.replicas, rng, self.design)]
        except Stop:
            return Placement.of(range(n))
        placement = self._aggregate(n, [answer for answer in answers if answer is not None])
        if not self.windows:
            return placement
        head = placement.order[: min(self.head, n)]
        asked = [head] if self.windows == 1 else [tuple(rng.sample(head, len(head))) for _ in range(self.windows)]
        try:
            again = yield [Order(window) for window in asked]
        except Stop:
            return placement
        if self.aggregation not in SHARES:
            return self._aggregate(n, [answer for answer in (*answers, *again) if answer is not None], head)
        return _with_head(placement, head, [answer for answer in again if answer is not None])

    def _aggregate(self, n: int, answers: Sequence[Answer], head: Sequence[int] = ()) -> Placement:
        """Place all by their strength, the head before the others."""
        if not answers:
            return Placement.of(range(n))
        by_model = self.aggregation == "bradley-terry"
        settings = {"penalty": self.penalty, "first_stage": self.first_stage} if by_model else {}
        found = aggregate(self.aggregation, n, answers, **settings)
        scores = dict(enumerate(found.scores.tolist()))
        first = Placement.by_score({item: scores.pop(item) for item in head})
        rest = Placement.by_score(scores)
        values = tuple(accumulate((*(first.scores or ()), *(rest.scores or ())), min))
        placement = Placement((*first.tiers, *rest.tiers), values)
        errors = None if found.errors is None else tuple(found.errors[[*placement.order]].tolist())
        return Placement(placement.tiers, values, errors)


def jointrank_head(
    block: int = 20,
    replicas: int = 2,
    aggregation: str = "bradley-terry",
    penalty: float = 0.1,
    windows: int = 5,
    head: int = 20,
    design: Design = "equi-replicate",
    first_stage: float = 0.0,
) -> JointRank:
    """JointRank with two replicas and five shuffled windows over the top 20."""
    return JointRank(block, replicas, aggregation, penalty, windows, head, design, first_stage)


def _with_head(placement: Placement, head: tuple[int, ...], answers: Sequence[Answer]) -> Placement:
    """The placement with its top reordered by the Borda count of the windows, ties in the order before."""
    if not answers:
        return placement
    counts = borda_counts(head, answers)
    place = {item: rank for rank, item in enumerate(head)}
    order = sorted(head, key=lambda item: (-counts[item], place[item]))
    return Placement.of((*order, *placement.order[len(head) :]))
