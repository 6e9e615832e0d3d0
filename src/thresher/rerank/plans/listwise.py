"""Listwise plans: sliding windows from the end of the list to its top, and a single window.

Sliding windows are RankGPT's (Sun et al., EMNLP 2023, arXiv 2304.09542): order the last w candidates, move up by s,
until the window reaches the top. The last window is clamped at the top and then overlaps the one before by more;
public code that ends before it leaves the best passage out of the top ranks for every n not aligned with s.

One pass is 1 + ceil((n - w)/s) sequential comparisons. It makes the first w - s ranks exact and no more, since a window
passes on that many passages. p passes make min(p(w - s), w) ranks exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.rerank.plans.plan import Order, Placement, Steps, Stop

if TYPE_CHECKING:
    from random import Random

    from thresher.rerank.plans.plan import Tiers


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
        if self.window < 2 or not 1 <= self.stride <= self.window or self.passes < 1:
            raise InputError(
                "window must be at least 2, stride 1 to the window and passes at least 1; got "
                f"window={self.window}, stride={self.stride} and passes={self.passes}"
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
        if self.window is not None and self.window < 2:
            raise InputError(f"window must be at least 2, or None for all candidates; got {self.window}")

    @property
    def name(self) -> str:
        """`single` with its settings."""
        return "single:window=all" if self.window is None else f"single:window={self.window}"

    def max_calls(self, n: int, k: int) -> int:
        """One, or none if there is nothing to order."""
        return 1 if n > 1 else 0

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
