"""The deadline of an answer: the time left, what stages are predicted to cost, and what therefore still runs.

A cost is a rate (milliseconds a unit: a query, a token) with its mean deviation, both running means in which a new
observation has a weight of one tenth. A prediction is the rate plus three mean deviations: an answer that is late is
worse than one with a passage less. The time that a query waits for another to be done with the model is left out. Since
a stage that is skipped gives no observation, each time one is skipped its rate moves two thirds of the way to the
fastest seen, so that a burst of slow queries is forgotten after a query or two; it moves to 0 where the stage was seen
only once, since models load and kernels compile then.

Before a stage its predicted cost is compared with the time left (`Deadline.refuses`); a model that reads passages reads
half of those that fit, then half of those that still fit (`part_that_fits`), so that a wrong prediction late in the
stage concerns a passage or two. Half is rounded up to an even number: two cores read two passages as fast as one. Those
that are predicted to take half of the time left at most are read at once.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from thresher.durable import write_atomic
from thresher.errors import ThresherError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from thresher.pipeline.stage import Stage

_WEIGHT = 0.1  # of a new observation, once there are ten
_CAUTION = 3.0
_KNOWN = 2  # observations that make a rate


_abandoned: ContextVar[Callable[[], bool] | None] = ContextVar("thresher_abandoned", default=None)


class AbandonedError(ThresherError):
    """An answer that its caller no longer waits for."""


@contextmanager
def abandoned_if(asked: Callable[[], bool]) -> Iterator[None]:
    """Inside the block, pipelines stop before a stage, and between batches, once `asked` says so."""
    token = _abandoned.set(asked)
    try:
        yield
    finally:
        _abandoned.reset(token)


def is_abandoned() -> Callable[[], bool]:
    """What says, in any thread, whether the caller of this one no longer waits."""
    return _abandoned.get() or (lambda: False)


def stop_if_abandoned() -> None:
    """Raise where the caller no longer waits.

    Raises:
        AbandonedError: so it is.
    """
    if is_abandoned()():
        raise AbandonedError("the caller no longer waits for this answer")


class Deadline:
    """The time that is left for an answer.

    Args:
        milliseconds: from `started` on; None for no limit.
        started: when the query came, by `clock`.
        clock: seconds that only grow.

    Attributes:
        reserved: milliseconds kept for later stages.
        waited: milliseconds spent waiting for other queries so far.
    """

    def __init__(
        self, milliseconds: float | None, started: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.milliseconds = milliseconds
        self.reserved = self.waited = 0.0
        self._started, self._clock = started, clock

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.milliseconds is not None

    def now(self) -> float:
        """Seconds by the clock."""
        return self._clock()

    def spent(self) -> float:
        """Milliseconds since the query came."""
        return (self._clock() - self._started) * 1000

    def worked(self) -> float:
        """Milliseconds since the query came, without those spent waiting for other queries."""
        return self.spent() - self.waited

    def left(self) -> float:
        """Milliseconds left, without those reserved; infinite without a limit, negative when the time is over."""
        return math.inf if self.milliseconds is None else self.milliseconds - self.spent() - self.reserved

    def refuses(self, needed: float) -> str:
        """Why something that needs this many milliseconds does not fit; empty if it does."""
        left = self.left()
        return f"predicted to take {needed:.0f} ms, {max(0.0, left):.0f} ms left" if needed > left else ""


def part_that_fits(n: int, predict: Callable[[int], float], deadline: Deadline) -> int:
    """How many of `n` items to work on next, from the front: all of them where there is no deadline.

    Args:
        n: items.
        predict: milliseconds that a number of items from the front is predicted to take.
        deadline: the time left.
    """
    if not deadline.limited:
        return n
    fit = fitting(n, predict, deadline.left())
    easy = 2 * predict(fit) <= deadline.left()
    return fit if fit <= 2 or easy else -(-fit // 4) * 2


def fitting(n: int, predict: Callable[[int], float], left: float) -> int:
    """How many of `n` items from the front are predicted to be done in the milliseconds left."""
    fit = 0
    while fit < n and predict(fit + 1) <= left:
        fit += 1
    return fit


class Costs:
    """Running estimates of what work costs, by name. Safe to share between threads."""

    def __init__(self) -> None:
        self._rates: dict[str, tuple[float, float, int, float]] = {}  # rate, deviation, observations, fastest
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        with self._lock:
            return {"_rates": dict(self._rates)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._rates, self._lock = state["_rates"], threading.Lock()

    def known(self, work: str) -> bool:
        """Whether the cost of this work was ever observed."""
        return work in self._rates

    def predict(self, work: str, units: float = 1.0) -> float:
        """Milliseconds that `units` of the work will take at most; 0 where it was never observed."""
        rate, deviation, _, _ = self._rates.get(work, (0.0, 0.0, 0, 0.0))
        return units * (rate + _CAUTION * deviation)

    def observe(self, work: str, milliseconds: float, units: float = 1.0) -> None:
        """Record how long `units` of the work took."""
        if units <= 0:
            return
        seen = milliseconds / units
        with self._lock:
            rate, deviation, count, fastest = self._rates.get(work, (seen, 0.0, 0, seen))
            weight = max(_WEIGHT, 1 / (count + 1))
            deviation += weight * (abs(seen - rate) - deviation)
            self._rates[work] = (rate + weight * (seen - rate), deviation, count + 1, min(fastest, seen))

    def relax(self, work: str) -> None:
        """Predict less next time: the work was skipped for its predicted cost."""
        with self._lock:
            if work in self._rates:
                rate, deviation, count, fastest = self._rates[work]
                least = fastest if count >= _KNOWN else 0.0
                self._rates[work] = (least + (rate - least) / 3, deviation / 3, count, fastest)

    def clear(self) -> None:
        """Forget every observation."""
        with self._lock:
            self._rates.clear()

    def load(self, file: Path, name: str) -> bool:
        """Take the rates saved under `name`; whether there were any. A file that cannot be read counts as none."""
        try:
            saved = json.loads(file.read_bytes())[name]
            rates = {s: (float(r), float(d), min(int(n), 10), float(f)) for s, (r, d, n, f) in saved.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        if not all(math.isfinite(x) and x >= 0 for rate in rates.values() for x in rate):
            return False
        with self._lock:
            self._rates |= rates
        return bool(rates)

    def save(self, file: Path, name: str) -> bool:
        """Save the rates under `name`, leaving other names alone; whether the file could be written."""
        try:
            document = json.loads(file.read_bytes())
            document = document if isinstance(document, dict) else {}
        except (OSError, ValueError, RecursionError):
            document = {}
        with self._lock:
            document[name] = dict(self._rates)
        try:
            write_atomic(file, json.dumps(document, indent=1) + "\n")
        except OSError:
            return False
        return True


def costs_name(stages: Sequence[Stage]) -> str:
    """What costs are saved under: the stages with their models, and the number of cores."""
    models = [getattr(getattr(stage, "reader", None), "work", "") for stage in stages]
    named = [f"{stage.name} ({model})" if model else stage.name for stage, model in zip(stages, models, strict=True)]
    return f"{', '.join(named)}; {os.cpu_count()} cores"
