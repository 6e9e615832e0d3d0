"""Listwise plans: sliding windows from the end of the list to its head, and a single window.

Sliding windows are RankGPT's (Sun et al., EMNLP 2023, arXiv 2304.09542): order the last w candidates, move up by s,
until the window has reached the head. The last window is clamped at the head and then holds more old places than
the others; public code that ends before it leaves the best passage out of the head for every n not aligned with s.

One pass is 1 + ceil((n - w)/s) asks that wait for each other, and makes the first w - s ranks exact, no more: that
many passages a window hands on. p passes make min(p(w - s), w) ranks exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.rerank.asks import Order
from thresher.rerank.plans.plan import Course, Ranking, Stop

if TYPE_CHECKING:
    from random import Random

    from thresher.rerank.asks import Tiers


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Order overlapping windows from the end of the list to its head.

    Attributes:
        window: w, passages in one ask, at least 2.
        stride: s, places the window moves up, 1 to w.
        passes: how often the whole list is walked.
    """

    window: int = 20
    stride: int = 10
    passes: int = 1

    def __post_init__(self) -> None:
        if self.window < 2 or not 1 <= self.stride <= self.window or self.passes < 1:
            raise InputError(
                f"window={self.window}, stride={self.stride}, passes={self.passes}: a window holds at least two "
                "passages, a stride is 1 to the window, and there is at least one pass"
            )

    @property
    def name(self) -> str:
        """`sliding` with its settings."""
        passes = "" if self.passes == 1 else f",passes={self.passes}"
        return f"sliding:window={self.window},stride={self.stride}{passes}"

    def max_calls(self, n: int, k: int) -> int:
        """1 + ceil((n - w)/s) a pass."""
        return self.passes * len(self.windows(n))

    def exact_top(self, n: int, k: int) -> int:
        """All where one window holds all, else min(p(w - s), w)."""
        return n if n <= self.window else min(self.passes * (self.window - self.stride), self.window)

    def windows(self, n: int) -> list[tuple[int, int]]:
        """The half-open windows of one pass over n candidates, in the order they are asked."""
        if n < 2:
            return []
        ends = range(n, 0, -self.stride)
        spans = []
        for end in ends:
            spans.append((max(end - self.window, 0), end))
            if spans[-1][0] == 0:
                break
        return spans

    def run(self, n: int, k: int, rng: Random) -> Course[Ranking]:
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
        return Ranking((*head, *((item,) for item in order[sum(map(len, head)) :])))


@dataclass(frozen=True, slots=True)
class SinglePass:
    """One ask over the head of the list.

    Attributes:
        window: the first `window` candidates are ordered, None for all of them; the others stay where they are.
    """

    window: int | None = 20

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 2:
            raise InputError(f"window={self.window}: a window holds at least two passages, None all")

    @property
    def name(self) -> str:
        """`single` with its settings."""
        return "single:window=all" if self.window is None else f"single:window={self.window}"

    def max_calls(self, n: int, k: int) -> int:
        """One, none where there is nothing to order."""
        return 1 if n > 1 else 0

    def exact_top(self, n: int, k: int) -> int:
        """All where the window holds all; nothing is known of what it does not hold."""
        return n if self.window is None or n <= self.window else 0

    def run(self, n: int, k: int, rng: Random) -> Course[Ranking]:
        """Ask once."""
        if n < 2:
            return Ranking.of(range(n))
        size = n if self.window is None else min(self.window, n)
        try:
            (answer,) = yield [Order(tuple(range(size)))]
        except Stop:
            answer = None
        if answer is None:
            return Ranking.of(range(n))
        return Ranking((*answer.tiers, *((item,) for item in range(size, n))))
