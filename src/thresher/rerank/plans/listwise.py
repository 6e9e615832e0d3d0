"""Plans that show a group of passages at a time: sliding windows and a single window (listwise), and setwise plans.

Sliding windows are RankGPT's (Sun et al., EMNLP 2023, arXiv 2304.09542): order the last w candidates, move up by s,
until the window reaches the top. The last window is clamped at the top and then overlaps the one before by more;
public code that ends before it leaves the best passage out of the top ranks for every n not aligned with s.

One pass is 1 + ceil((n - w)/s) sequential comparisons. It makes the first w - s ranks exact and no more, since a window
passes on that many passages. p passes make min(p(w - s), w) ranks exact.

Setwise plans show c + 1 passages and want the best (Zhuang et al., SIGIR 2024, arXiv 2310.09497).

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

from thresher.checks import whole
from thresher.errors import InputError
from thresher.rerank.plans.heap import Heap, sift_bound
from thresher.rerank.plans.plan import Best, Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from random import Random

    from thresher.rerank.plans.plan import Tiers

LARGEST_GROUP = 25  # c + 1 passages are labelled A to Z


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Order overlapping windows from the end of the list to its top.

    Attributes:
        window: w, passages in one comparison, at least 2.
        stride: s, places the window moves up, 1 to w.
        passes: passes over the whole list.
    """

    window: int = 20
    stride: int = 10
    passes: int = 1

    def __post_init__(self) -> None:
        whole("window", self.window, 2)
        setting("passes", self.passes, 1)
        if whole("stride", self.stride, 1) > self.window:
            raise InputError(f"stride must be at most the window, {self.window}; got {self.stride}")

    @property
    def name(self) -> str:
        """`sliding` with its settings."""
        passes = "" if self.passes == 1 else f",passes={self.passes}"
        return f"sliding:window={self.window},stride={self.stride}{passes}"

    def bound(self, n: int, k: int) -> Spent:
        """1 + ceil((n - w)/s) a pass, one after the other."""
        spans = self.windows(n) * self.passes
        return Spent(len(spans), sum(end - start for start, end in spans), len(spans), len(spans))

    def exact_top(self, n: int, k: int) -> int:
        """All if one window holds all candidates, else min(p(w - s), w)."""
        return n if n <= self.window else min(self.passes * (self.window - self.stride), self.window)

    def windows(self, n: int) -> list[tuple[int, int]]:
        """The half-open windows of one pass over n candidates, in order."""
        if n < 2:
            return []
        ends = range(n, 0, -self.stride)
        spans = []
        for end in ends:
            spans.append((max(end - self.window, 0), end))
            if spans[-1][0] == 0:
                break
        return spans

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Order in place, window by window."""
        order = list(range(n))
        head: Tiers = ()
        try:
            for start, end in self.windows(n) * self.passes:
                (answer,) = yield [Order(tuple(order[start:end]))]
                if answer is not None:
                    order[start:end] = answer.order
                head = answer.tiers if answer is not None and start == 0 else ()
        except Stop:
            pass
        return Placement((*head, *((item,) for item in order[sum(map(len, head)) :])))


@dataclass(frozen=True, slots=True)
class SinglePass:
    """One comparison of the first candidates.

    Attributes:
        window: the first `window` candidates are ordered, None for all; the others stay in place.
    """

    window: int | None = 20

    def __post_init__(self) -> None:
        if self.window is not None:
            whole("window", self.window, 2)

    @property
    def name(self) -> str:
        """`single` with its settings."""
        return "single:window=all" if self.window is None else f"single:window={self.window}"

    def bound(self, n: int, k: int) -> Spent:
        """One question, or none if there is nothing to order."""
        return Spent.alike(1 if n > 1 else 0, n if self.window is None else min(self.window, n), 1)

    def exact_top(self, n: int, k: int) -> int:
        """All if the window holds all candidates, else none."""
        return n if self.window is None or n <= self.window else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Make the one comparison."""
        if n < 2:
            return Placement.of(range(n))
        size = n if self.window is None else min(self.window, n)
        try:
            (answer,) = yield [Order(tuple(range(size)))]
        except Stop:
            answer = None
        if answer is None:
            return Placement.of(range(n))
        return Placement((*answer.tiers, *((item,) for item in range(size, n))))


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

    def bound(self, n: int, k: int) -> Spent:
        """One comparison a node visited."""
        visits, in_a_row = sift_bound(n, k, self.children)
        return Spent.alike(visits, min(self.children + 1, n), in_a_row)

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

    def bound(self, n: int, k: int) -> Spent:
        """The heap sort of k, and for each other candidate one screening and its climb."""
        if k < 1:
            return Spent()
        k = min(n, k)
        visits, in_a_row = sift_bound(k, k, self.children)
        screening = (n - k) * (1 + -(-(k - 1) // self.children))
        return Spent.alike(visits + screening, min(self.children + 1, n), in_a_row + screening)

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
    if not 2 <= whole("children", children, 2) <= LARGEST_GROUP:
        raise InputError(f"children must be 2 to {LARGEST_GROUP}, got {children}")
