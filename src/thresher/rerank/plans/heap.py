"""The heap of the heap-sort plans.

The heap-sort plans share a c-ary `Heap` whose comparisons are yielded to the caller. Node i has the children
c*i + 1 ... c*i + c. Building starts at the last parent and works up. Subtrees of one level are independent, so their
sifts run in lockstep: the comparisons are those of the sequential algorithm, the depth is less. A comparison is any
generator `pick(items)` that returns the best of `items`, the incumbent first. Unlike heap sort as published for
reranking, a comparison that ends in a tie or without an answer goes to the better first-stage rank, not to the
incumbent. After each extraction the incumbent at the root is the last leaf, so "a tie keeps the incumbent" would give
the second rank to one of the worst candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.rerank.plans.plan import parallel

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.rerank.plans.plan import Steps


@dataclass(slots=True)
class Heap:
    """Candidates in heap order, and those already taken from the top, best first.

    Attributes:
        items: positions in heap order.
        children: of each node.
        pick: compares positions and returns the best.
        taken: positions extracted so far, best first.
        resting: the heap before the sift in progress, for `order` after a stop.
    """

    items: list[int]
    children: int
    pick: Callable[[tuple[int, ...]], Steps[int]]
    taken: list[int] = field(default_factory=list)
    resting: list[int] = field(default_factory=list)

    def build(self) -> Steps[None]:
        """Sift every node, deepest level first."""
        for level in reversed(_levels(len(self.items), self.children)):
            yield from parallel([self._sift(node) for node in level if self._first_child(node) < len(self.items)])

    def extract(self, k: int) -> Steps[None]:
        """Move the k best from the top to `taken`. The k-th needs no sift after it."""
        while self.items and len(self.taken) < k:
            self.resting = self.items[1:]  # used if a stop interrupts the sift
            self.taken.append(self.items[0])
            last = self.items.pop()
            if self.items:
                self.items[0] = last
                if len(self.taken) < k:
                    yield from self._sift(0)
                    self.resting = list(self.items)

    def order(self, k: int) -> list[int]:
        """All candidates: those taken, then the rest, in first-stage order if k were taken, else level by level."""
        if len(self.taken) == k:
            return self.taken + sorted(self.items)
        return self.taken + (self.resting if self.taken else self.items)

    def _first_child(self, node: int) -> int:
        return self.children * node + 1

    def _sift(self, node: int) -> Steps[None]:
        """Move the item at `node` down below every child that beats it."""
        while True:
            first = self._first_child(node)
            below = range(first, min(first + self.children, len(self.items)))
            if not below:
                return
            best = yield from self.pick((self.items[node], *(self.items[child] for child in below)))
            if best == self.items[node]:
                return
            winner = next(child for child in below if self.items[child] == best)
            self.items[node], self.items[winner] = self.items[winner], self.items[node]
            node = winner


def sift_bound(n: int, k: int, children: int) -> tuple[int, int]:
    """The most node visits (one `pick` each) it takes to build a heap of n and extract k, and how many in a row."""
    if n < 2:
        return 0, 0
    heights = [0] * n
    for node in range((n - 2) // children, -1, -1):
        heights[node] = 1 + heights[children * node + 1]
    building = sum(heights[level[0]] for level in _levels(n, children))
    extraction = 0
    for size in range(n - 1, max(n - k, 0), -1):
        node = 0
        while (node := children * node + 1) < size:
            extraction += 1
    return sum(heights) + extraction, building + extraction


def _levels(n: int, children: int) -> list[range]:
    """The nodes of an n-item heap by depth."""
    levels, start, width = [], 0, 1
    while start < n:
        levels.append(range(start, min(start + width, n)))
        start, width = start + width, width * children
    return levels
