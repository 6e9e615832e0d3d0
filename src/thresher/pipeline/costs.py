"""What stages cost on this machine, learnt from what they took, and the time that is left.

A stage's cost is a rate (milliseconds a unit: a query, a token read) with the mean deviation from it, both running
means that weigh a new observation by a tenth. A prediction is the rate raised by three mean deviations: a late answer
is worse than a passage less. A stage that is left out teaches nothing, and a bad hour would be remembered for ever; so
each time its rate moves a tenth of the way to the fastest seen. Rates are kept in the user's cache directory, by model
and number of threads, so that the next process need not learn them again.
"""

from __future__ import annotations

import json
import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from thresher.errors import ConfigError
from thresher.files import cache_folder, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WEIGHT = 0.1  # of a new observation, once there are ten
_CAUTION = 3.0


def costs_path() -> Path:
    """`THRESHER_CACHE/costs.json`, or the same under the user's cache directory."""
    folder = cache_folder()
    if folder is None:
        raise ConfigError("there is no home directory to keep costs in; set THRESHER_CACHE to a folder")
    return folder / "costs.json"


class Deadline:
    """Time that is left for an answer.

    Args:
        milliseconds: from `started` on; None for no limit.
        started: when the query came, by `clock`.
        clock: seconds that only grow.
    """

    def __init__(self, milliseconds: float | None, started: float, clock: Callable[[], float]) -> None:
        self.milliseconds = milliseconds
        self._started, self._clock = started, clock

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.milliseconds is not None

    def now(self) -> float:
        """Seconds by the clock."""
        return self._clock()

    def left(self) -> float:
        """Milliseconds that are left; infinite without a limit, below zero when it is over."""
        if self.milliseconds is None:
            return math.inf
        return self.milliseconds - (self._clock() - self._started) * 1000


class Costs:
    """Running estimates of what stages cost. Safe to share between threads."""

    def __init__(self) -> None:
        self._rates: dict[str, tuple[float, float, int, float]] = {}  # rate, deviation, observations, fastest
        self._lock = threading.Lock()

    def known(self, stage: str) -> bool:
        """Whether the stage's cost was ever observed."""
        return stage in self._rates

    def predict(self, stage: str, units: float = 1.0) -> float:
        """Milliseconds that `units` of the stage take at most, as far as is known; 0 where nothing is."""
        rate, deviation, _, _ = self._rates.get(stage, (0.0, 0.0, 0, 0.0))
        return units * (rate + _CAUTION * deviation)

    def observe(self, stage: str, milliseconds: float, units: float = 1.0) -> None:
        """Learn that `units` of the stage took so long."""
        if units <= 0:
            return
        seen = milliseconds / units
        with self._lock:
            rate, deviation, count, fastest = self._rates.get(stage, (seen, 0.0, 0, seen))
            weight = max(_WEIGHT, 1 / (count + 1))
            deviation += weight * (abs(seen - rate) - deviation)
            self._rates[stage] = (rate + weight * (seen - rate), deviation, count + 1, min(fastest, seen))

    def relax(self, stage: str) -> None:
        """The stage was left out because of what it is predicted to cost: predict a little less next time."""
        with self._lock:
            if stage in self._rates:
                rate, deviation, count, fastest = self._rates[stage]
                kept = 1 - _WEIGHT
                self._rates[stage] = (fastest + kept * (rate - fastest), kept * deviation, count, fastest)

    def load(self, path: Path, name: str) -> bool:
        """Take the rates kept under `name`; whether there were any. A file that cannot be read counts as none."""
        try:
            kept: dict[str, Any] = json.loads(path.read_bytes())[name]
            rates = {s: (float(r), float(d), min(int(n), 10), float(f)) for s, (r, d, n, f) in kept.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        if not all(math.isfinite(x) and x >= 0 for rate in rates.values() for x in rate):
            return False
        with self._lock:
            self._rates |= rates
        return True

    def save(self, path: Path, name: str) -> None:
        """Keep the rates under `name`. A directory that may not be written is left alone: rates can be learnt again."""
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                document = json.loads(path.read_bytes())
                document = document if isinstance(document, dict) else {}
            except (OSError, ValueError):
                document = {}
            with self._lock:
                document[name] = dict(self._rates)
            write_atomic(path, json.dumps(document, indent=1) + "\n")
