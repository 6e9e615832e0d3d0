"""SlideGAR: sliding windows that also compare neighbours of what ranked high, at the same number of calls.

Source: SlideGAR (Rathee, MacAvaney, Anand, ECIR 2025, arXiv 2501.09186). A window of w passages moves *down* the list
and keeps its first w - s; the s places that become free go in turn to neighbours of those kept and to the next
candidates of the first stage. w + s(m - 1) passages are compared in m calls, as many as a sliding window compares, but
half of them are passages the first stage did not find or ranked too low to be read.

Differences from the paper, and why:

- **Only the first windows move down** (`explore`, by default 2). Then all that is known is one list, the kept passages
  first, after them the candidates not compared yet by reciprocal rank fusion of the first stage's order and the
  neighbours', and the other calls slide *up* that list as RankGPT does. Moving down all the way (`explore=all`, the
  paper) puts the last, least likely passages into the window that decides the top, where one error promotes them; a
  window that moves up makes them win several times. On TREC DL 2021 with errors, `explore=all` behind SPLADE++ is worse
  than a plain sliding window, and `explore=2` better (eval/results/slidegar.md).
- **All windows count** (`aggregation=posterior`): kept passages are compared again and again, and the strengths that
  explain all answers and the first stage's order are less noisy than the last answer. `last-window` takes the order of
  the last answers alone.
- Neighbours of several passages are joined by a weighted sum; see `thresher.rerank.neighbours`.

Without neighbours it is a sliding window whose first windows move down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from thresher.checks import real, shown, whole
from thresher.errors import InputError
from thresher.rerank.aggregate import AGGREGATORS, aggregate
from thresher.rerank.plans.belief import Belief
from thresher.rerank.plans.plan import Expand, Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from thresher.rerank.plans.plan import Answer

POSTERIOR, LAST_WINDOW = "posterior", "last-window"
FUSION = 60
"""Added to ranks before reciprocals are taken, as reciprocal rank fusion does."""


@dataclass(frozen=True, slots=True)
class SlideGar:
    """Explore from the top with neighbours, then slide a window up over the best of what is known.

    Attributes:
        window: w, passages in one comparison, at least 2.
        stride: s, places of a window that are given to other passages, 1 to w - 1.
        pool: passages compared, at least w; None for as many as there are candidates.
        explore: windows that move down before the others move up, at least 1; None for all, as published.
        aggregation: how all answers become one ranking: "posterior" (`thresher.rerank.plans.belief`), one of
            `thresher.rerank.aggregate`, or "last-window".
        spread: of the posterior: standard deviation of a strength before any answer, in log-odds.
        slope: of the posterior: how fast expected strengths fall with the logarithm of the rank.
    """

    expands: ClassVar[bool] = True

    window: int = 20
    stride: int = 10
    pool: int | None = None
    explore: int | None = 2
    aggregation: str = POSTERIOR
    spread: float = 2.0
    slope: float = 1.0

    def __post_init__(self) -> None:
        whole("window", self.window, 2)
        if whole("stride", self.stride, 1) >= self.window:
            raise InputError(f"stride must be less than the window, {self.window}; got {self.stride}")
        if self.pool is not None:
            setting("pool", self.pool, self.window)
        if self.explore is not None:
            setting("explore", self.explore, 1)
        if self.aggregation not in (known := (POSTERIOR, LAST_WINDOW, *AGGREGATORS)):
            raise InputError(f"there is no aggregation {shown(self.aggregation)}; choose from {', '.join(known)}")
        real("spread", self.spread, 1e-3, 1e3)
        real("slope", self.slope, 0.0, 1e3)

    @property
    def name(self) -> str:
        """`slidegar` with its settings."""
        pool = "" if self.pool is None else f",pool={self.pool}"
        explore = "all" if self.explore is None else self.explore
        rule = f"aggregation={self.aggregation}"
        if self.aggregation == POSTERIOR:
            rule = f"spread={self.spread},slope={self.slope}"
        return f"slidegar:window={self.window},stride={self.stride}{pool},explore={explore},{rule}"

    def bound(self, n: int, k: int) -> Spent:
        """1 + ceil((m - w)/s) calls, one after the other, to compare m passages: as a sliding window."""
        calls = self._calls(n)
        return Spent.alike(calls, self.window, calls)

    def exact_top(self, n: int, k: int) -> int:
        """All if one window holds all; w - s of all candidates compared if the last windows decide, else none."""
        if n <= self.window and self._calls(n) < 2:
            return n
        compared = self.pool is None or self.pool >= n
        return self.window - self.stride if compared and self.aggregation == LAST_WINDOW else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Move down, adding neighbours, then up."""
        if n < 2:
            return Placement.of(range(n))
        state = _State(list(range(n)), n, n)
        calls = self._calls(n)
        down = calls if self.explore is None else min(self.explore, calls)
        try:
            yield from self._down(state, down, calls)
            yield from self._up(state, calls - down)
        except Stop:
            pass
        return self._placed(state)

    def _calls(self, n: int) -> int:
        """Calls for n candidates."""
        if n < 2:
            return 0
        return 1 + max(-(-((self.pool or n) - self.window) // self.stride), 0)

    def _down(self, state: _State, windows: int, calls: int) -> Steps[None]:
        """The windows that move down. Each is followed by the neighbours that the next ones compare."""
        kept = self.window - self.stride
        free = self.window
        for made in range(1, windows + 1):
            state.top += state.take(free, by_rank=made % 2 == 1)
            if free < self.window and len(state.top) <= kept:
                return  # nothing was left to add
            yield from state.order(0, len(state.top))
            state.top, state.dropped = state.top[:kept], state.top[kept:] + state.dropped
            free = self.stride
            last = made == windows
            if made < calls and (last or made % 2 == 1):
                yield from state.expand(self.stride * (calls - made if last else 1))

    def _up(self, state: _State, windows: int) -> Steps[None]:
        """The windows that move up, over what was kept and as many others as they reach."""
        if windows:
            state.top += state.take_fused(self.stride * windows)
        end = len(state.top)
        while windows and end > 1:
            start = max(end - self.window, 0)
            yield from state.order(start, end)
            if start == 0:
                return
            end -= self.stride

    def _placed(self, state: _State) -> Placement:
        """The placement, from the answers so far."""
        informed = [answer for answer in state.answers if answer is not None]
        if not informed:
            return Placement.of(range(state.total))
        order = [*state.top, *state.dropped, *state.fused()]
        if self.aggregation == LAST_WINDOW:
            return Placement.of(order)
        if self.aggregation == POSTERIOR:
            belief = Belief(state.ranks(), self.spread, self.slope)
            belief.update(informed)
            values = belief.mean.tolist()
        else:
            values = aggregate(self.aggregation, state.total, informed).scores.tolist()
        compared = {item for answer in informed for item in answer.order}
        return Placement.by_score(
            {item: values[item] for item in compared}, (item for item in order if item not in compared)
        )


@dataclass(slots=True)
class _State:
    """What is known so far.

    Attributes:
        queue: candidates of the first stage that were not compared, in its order.
        given: candidates of the first stage.
        total: candidates in all.
        near: neighbours that were not compared, the nearest first.
        top: what is being compared, best first.
        dropped: compared and left behind, best first.
        answers: to every window.
        found_at: rank of a neighbour that is not of the first stage, among the neighbours and behind what it is near.
    """

    queue: list[int]
    given: int
    total: int
    near: list[int] = field(default_factory=list)
    top: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    answers: list[Answer | None] = field(default_factory=list)
    found_at: dict[int, int] = field(default_factory=dict)

    def ranks(self) -> list[int]:
        """What a candidate's rank was before any answer: in the first stage, or behind what was compared."""
        return [self.found_at.get(item, item) for item in range(self.total)]

    def order(self, start: int, end: int) -> Steps[None]:
        """Order the places [start, end) of the top; without an answer they stay as they are."""
        (answer,) = yield [Order(tuple(self.top[start:end]))]
        self.answers.append(answer)
        if answer is not None:
            self.top[start:end] = answer.order

    def expand(self, count: int) -> Steps[None]:
        """Find neighbours of the top that were not compared; of those found before, only the nearest still count."""
        known = frozenset(range(self.total)).difference(self.queue, self.near)
        (answer,) = yield [Expand(tuple(self.top), count, known)]
        if answer is not None:
            found = set(answer.order)
            for place, item in enumerate(answer.order):
                if item >= self.given:
                    self.found_at.setdefault(item, len(self.top) + place)
            self.near = [*answer.order, *(item for item in self.near if item not in found)]
            self.total = max(self.total, *(item + 1 for item in found), 0)

    def take(self, count: int, *, by_rank: bool) -> list[int]:
        """The next `count` candidates: of the first stage, or neighbours, and of the other where there are too few."""
        first, second = (self.queue, self.near) if by_rank else (self.near, self.queue)
        taken = list(dict.fromkeys((*first[:count], *second)))[:count]
        self._drop(taken)
        return taken

    def take_fused(self, count: int) -> list[int]:
        """The first `count` candidates that were not compared."""
        taken = self.fused()[:count]
        self._drop(taken)
        return taken

    def fused(self) -> list[int]:
        """The candidates that were not compared, by reciprocal ranks in the first stage and among the neighbours."""
        values: dict[int, float] = {}
        for listed in (self.queue, self.near):
            for place, item in enumerate(listed):
                values[item] = values.get(item, 0.0) + 1.0 / (FUSION + place)
        return sorted(values, key=lambda item: (-values[item], item))

    def _drop(self, taken: Sequence[int]) -> None:
        gone = set(taken)
        self.queue = [item for item in self.queue if item not in gone]
        self.near = [item for item in self.near if item not in gone]
