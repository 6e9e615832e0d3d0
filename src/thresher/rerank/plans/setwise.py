"""Setwise plans: one comparison shows c + 1 passages and wants the best (Zhuang et al., SIGIR 2024, arXiv 2310.09497).

*Heap sort* is the c-ary heap of the paper. *Insertion* (Podolak et al., arXiv 2504.10509) sorts the first k and then
shows the worst of them, first, with the next c candidates: if it stays the best, all c are out; a winner enters the
top and climbs.

The public code of insertion, when it knows only the winner of a group, swaps the winner to the group's top and leaves
a top list that is no longer sorted, so its top-k is not exact. Here a group that a newcomer climbs is ordered by an
`Order`, and of the candidates shown only the winner (and those the answer placed below the worst of the top) leave the
queue, so the top-k is exact whether or not the judge orders the whole group.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.rerank.plans.plan import Best, Heap, Order, Placement, Steps, Stop, sift_bound

if TYPE_CHECKING:
    from random import Random

LARGEST_GROUP = 25  # c + 1 passages are labelled A to Z


@dataclass(frozen=True, slots=True)
class SetwiseHeap:
    """Heap sort on a c-ary heap.

    Attributes:
        children: c, the challengers shown with an incumbent in one comparison, 2 to 25.
    """

    children: int = 3

    def __post_init__(self) -> None:
        _check_group(self.children)

    @property
    def name(self) -> str:
        """`setwise-heap` with its settings."""
        return f"setwise-heap:children={self.children}"

    def max_calls(self, n: int, k: int) -> int:
        """One comparison a node visited."""
        return sift_bound(n, k, self.children)

    def exact_top(self, n: int, k: int) -> int:
        """The first k."""
        return min(n, k)

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Build the heap and extract k."""
        heap = Heap(list(range(n)), self.children, _best)
        try:
            yield from heap.build()
            yield from heap.extract(k)
        except Stop:
            pass
        return Placement.of(heap.order(k))


@dataclass(frozen=True, slots=True)
class SetwiseInsertion:
    """Sort the first k, then insert every other candidate that beats the worst of them.

    Attributes:
        children: c, the candidates shown with the worst of the top in one comparison, 2 to 25.
    """

    children: int = 3

    def __post_init__(self) -> None:
        _check_group(self.children)

    @property
    def name(self) -> str:
        """`setwise-insertion` with its settings."""
        return f"setwise-insertion:children={self.children}"

    def max_calls(self, n: int, k: int) -> int:
        """The heap sort of k, and for each other candidate one screening and its climb."""
        if k < 1:
            return 0
        k = min(n, k)
        return sift_bound(k, k, self.children) + (n - k) * (1 + -(-(k - 1) // self.children))

    def exact_top(self, n: int, k: int) -> int:
        """The first k."""
        return min(n, k)

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Heap-sort the first k, then screen the rest in first-stage order."""
        k = min(n, k)
        heap = Heap(list(range(k)), self.children, _best)
        top: list[int] = []
        out: list[int] = []
        queue = deque(range(k, n))
        try:
            yield from heap.build()
            yield from heap.extract(k)
            top = heap.order(k)
            if top:
                yield from self._screen(top, queue, out)
        except Stop:
            top = top or heap.order(k)
        return Placement.of((*top, *sorted((*out, *queue))))

    def _screen(self, top: list[int], queue: deque[int], out: list[int]) -> Steps[None]:
        """Compare the worst of the top with the next c candidates until the queue is empty."""
        while queue:
            group = [queue.popleft() for _ in range(min(self.children, len(queue)))]
            try:
                (answer,) = yield [Best((top[-1], *group))]
            except Stop:
                queue.extendleft(reversed(group))
                raise
            if answer is None or (best := _first(answer.tiers[0], (top[-1], *group))) == top[-1]:
                out.extend(group)
                continue
            placed = answer.order if len(answer.tiers) == len(group) + 1 else ()
            beaten = placed[placed.index(top[-1]) + 1 :] if placed else ()
            out.extend(beaten)
            queue.extendleft(item for item in reversed(group) if item != best and item not in beaten)
            out.append(top[-1])
            top[-1] = best
            yield from self._climb(top)

    def _climb(self, top: list[int]) -> Steps[None]:
        """Move the last of the top up, ordering it with the c above it at a time, until one of them beats it."""
        newcomer, end = top[-1], len(top)
        while end > 1:
            start = max(end - 1 - self.children, 0)
            (answer,) = yield [Order(tuple(top[start:end]))]
            if answer is None:
                return
            top[start:end] = answer.order
            if top[start] != newcomer:
                return
            end = start + 1


def _best(items: tuple[int, ...]) -> Steps[int]:
    """The best of `items`; a tie or no information goes to the better first-stage rank."""
    (answer,) = yield [Best(items)]
    return min(items) if answer is None else min(answer.tiers[0])


def _first(tier: tuple[int, ...], shown: tuple[int, ...]) -> int:
    return min(tier, key=shown.index)


def _check_group(children: int) -> None:
    if not 2 <= children <= LARGEST_GROUP:
        raise InputError(f"children must be 2 to {LARGEST_GROUP}, got {children}")
