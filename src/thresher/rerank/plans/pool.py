"""Choice pools: order hundreds of candidates by one choice among all of them, asked several times in other orders.

Made for decision models, which choose among up to 255 options in one read and return the probability of each: the
probabilities order the whole pool. Anything that answers `Order` will do.

*Option order.* Where an option stands in its list changes its probability. So a pool is asked `repeats` times with its
passages shuffled, every second time in the reverse of the order before, which cancels a bias that is linear in the
place. The repeats are one batch: a decision model answers them in one request, about one state. A single repeat shows
the passages in the order known so far. The orders become one by `thresher.rerank.aggregate`.

*More candidates than a pool holds.* They are dealt to pools like cards, so that each gets its share of good ones, and
the first `overlap` of them are in every pool. Each pool passes on its first k, or as many as fill one pool together,
and the next round goes on with those, until one pool holds all. Strengths of different pools are made comparable by
taking off the mean strength of the passages that all have in common; they order those that are left behind. With n
candidates there are about log(n / pool) rounds more than one.

Exact: under a judge that is always right the first k ranks are right, half a pool of them at most, since no passage
among the first k has k better ones in its pool. If one pool holds all candidates, all ranks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import shown, whole
from thresher.errors import InputError
from thresher.rerank.aggregate import AGGREGATORS, aggregate
from thresher.rerank.plans.plan import Answer, Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ChoicePool:
    """Order pools of candidates, each several times, and go on with the best of every pool.

    Attributes:
        pool: passages in one choice, at least 2; vendors take 208 to 255.
        repeats: how often each pool is asked, in different orders.
        overlap: passages that are in every pool, where there are several; a quarter of a pool at most.
        aggregation: how the orders of a pool become one, a name of `thresher.rerank.aggregate`.
    """

    pool: int = 250
    repeats: int = 4
    overlap: int = 10
    aggregation: str = "bradley-terry"

    def __post_init__(self) -> None:
        whole("pool", self.pool, 2)
        setting("repeats", self.repeats, 1)
        whole("overlap", self.overlap)
        if self.aggregation not in AGGREGATORS:
            raise InputError(f"aggregation={shown(self.aggregation)} must be one of {', '.join(AGGREGATORS)}")

    @property
    def name(self) -> str:
        """`choice-pool` with its settings."""
        rule = "" if self.aggregation == "bradley-terry" else f",aggregation={self.aggregation}"
        return f"choice-pool:pool={self.pool},repeats={self.repeats},overlap={self.overlap}{rule}"

    def bound(self, n: int, k: int) -> Spent:
        """Every round asks each of its pools `repeats` times."""
        spent = Spent()
        while n > self.pool:
            pools, common = self._pools(n)
            questions = pools * self.repeats
            spent += Spent(questions, (n + (pools - 1) * common) * self.repeats, 1, questions)
            n = pools * self._kept(pools, k)
        return spent + (Spent.alike(self.repeats, n, 1) if n > 1 else Spent())

    def exact_top(self, n: int, k: int) -> int:
        """All in one pool; k, or half a pool if that is less, in several."""
        return n if n <= self.pool else min(k, self.pool // 2)

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Ask pools until one holds all that are left."""
        alive, behind = list(range(n)), list[int]()
        while len(alive) > self.pool:
            pools, common = self._pools(len(alive))
            dealt = [alive[:common] + alive[common + number :: pools] for number in range(pools)]
            try:
                strengths = yield from self._ask(dealt, rng)
            except Stop:
                return Placement.of([*alive, *behind])
            values = _comparable(alive, dealt, strengths, alive[:common])
            order = sorted(alive, key=lambda item: (-values[item], item))
            kept = self._passed_on(order, dealt, strengths, self._kept(pools, k))
            alive, behind = (
                [item for item in order if item in kept],
                [item for item in order if item not in kept] + behind,
            )
        if len(alive) < 2:
            return Placement.of([*alive, *behind])
        try:
            (found,) = yield from self._ask([alive], rng)
        except Stop:
            return Placement.of([*alive, *behind])
        return Placement.by_score(dict(zip(alive, found.tolist(), strict=True)), behind)

    def _ask(self, pools: Sequence[Sequence[int]], rng: Random) -> Steps[list[NDArray[np.float64]]]:
        """The strength of each passage of each pool, aligned with it."""
        answers = yield [Order(order) for pool in pools for order in self._orders(pool, rng)]
        found = []
        for number, pool in enumerate(pools):
            own = answers[number * self.repeats : (number + 1) * self.repeats]
            found.append(aggregate(self.aggregation, len(pool), _within(pool, own)).scores)
        return found

    def _orders(self, pool: Sequence[int], rng: Random) -> list[tuple[int, ...]]:
        """The orders in which a pool is shown."""
        if self.repeats == 1:
            return [tuple(pool)]
        orders: list[tuple[int, ...]] = []
        for number in range(self.repeats):
            orders.append(orders[-1][::-1] if number % 2 else tuple(rng.sample(pool, len(pool))))
        return orders

    def _pools(self, n: int) -> tuple[int, int]:
        """How many pools n candidates take, and how many passages these have in common."""
        common = min(self.overlap, self.pool // 4)
        return -(-(n - common) // (self.pool - common)), common

    def _kept(self, pools: int, k: int) -> int:
        """How many of each pool go on: k, or as many as fill one pool together, and never more than half."""
        return min(max(k, self.pool // pools), self.pool // 2)

    def _passed_on(
        self,
        order: Sequence[int],
        dealt: Sequence[Sequence[int]],
        strengths: Sequence[NDArray[np.float64]],
        each: int,
    ) -> set[int]:
        """The first `each` passages of every pool, and the next best in place of those that several pools passed on."""
        kept: set[int] = set()
        for pool, values in zip(dealt, strengths, strict=True):
            best = sorted(zip((-values).tolist(), pool, strict=True))
            kept |= {item for _, item in best[:each]}
        spare = (item for item in order if item not in kept)
        missing = each * len(dealt) - len(kept)
        return kept | {item for item, _ in zip(spare, range(missing), strict=False)}


def _within(pool: Sequence[int], answers: Iterable[Answer | None]) -> list[Answer]:
    """Answers about a pool, with places in the pool instead of positions."""
    place = {item: number for number, item in enumerate(pool)}
    return [
        Answer(tuple(tuple(place[item] for item in tier) for tier in answer.tiers), None, answer.named)
        for answer in answers
        if answer is not None
    ]


def _comparable(
    alive: Sequence[int],
    dealt: Sequence[Sequence[int]],
    strengths: Sequence[NDArray[np.float64]],
    common: Sequence[int],
) -> dict[int, float]:
    """The strength of every passage on the scale on which the common ones have a mean of 0 in each pool."""
    sums, counts = dict.fromkeys(alive, 0.0), dict.fromkeys(alive, 0)
    for pool, values in zip(dealt, strengths, strict=True):
        base = float(np.mean(values[: len(common)])) if common else 0.0  # they are the first of each pool
        for item, value in zip(pool, values.tolist(), strict=True):
            sums[item] += value - base
            counts[item] += 1
    return {item: sums[item] / counts[item] for item in alive}
