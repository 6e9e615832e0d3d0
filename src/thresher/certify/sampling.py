"""`Sampler`: which live queries are compared, and the thread that compares them, off their callers' way.

The n-th live query is chosen if a hash of the seed and n is small: a repeated query is chosen as often as its share of
the traffic says, which a hash of its text would not do, and the choice can be repeated.

Comparisons wait in a short queue for one thread. What does not fit, and what does not get its turn within some seconds,
is dropped and counted. Where the caller says when there is capacity to spare, comparisons run only then, and stop
between two stages where there no longer is.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Final

from thresher.pipeline.deadline import AbandonedError, abandoned_if

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.certify.certificate import Subject
    from thresher.certify.running import Running

    Sides = tuple[Subject, Subject]
    Comparison = Callable[[], tuple[float, Sides]]
    """The loss of a query, and the commits that it was asked of."""

_log = logging.getLogger(__name__)
ROOM: Final = 64
"""Comparisons that wait."""
_PATIENCE: Final = 10.0
"""Seconds that a comparison waits for spare capacity."""
_TICK: Final = 0.5
_POLL: Final = 0.005


class Sampler:
    """Chooses live queries, and compares their answers in a thread of its own.

    Args:
        running: what the losses go to.
        room: comparisons that may wait.
        spare: whether there is capacity for a comparison now.
    """

    def __init__(self, running: Running, *, room: int = ROOM, spare: Callable[[], bool] = lambda: True) -> None:
        self.running, self._spare = running, spare
        self._queue: queue.Queue[Comparison] = queue.Queue(room)
        self._pending, self._closing = 0, threading.Event()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        settings = running.settings
        self._limit = round(settings.share * 2**64)
        self._seed = settings.seed

    def draw(self) -> bool:
        """Whether the live query that came now is to be compared."""
        digest = hashlib.blake2b(f"{self._seed}:{self.running.number()}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._limit

    def offer(self, comparison: Comparison) -> None:
        """Compare when there is time; dropped where there is no room."""
        with self._change:
            if self._closing.is_set():
                self.running.drop()
                return
            try:
                self._queue.put_nowait(comparison)
            except queue.Full:
                self.running.drop()
                return
            self._pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="thresher-shadow", daemon=True)
                self._thread.start()

    def flush(self, seconds: float = 60.0) -> bool:
        """Wait until every comparison that was offered has been made; whether that was so in time."""
        with self._change:
            return self._change.wait_for(lambda: self._pending == 0, seconds)

    def close(self, seconds: float = 1.0) -> None:
        """Drop what waits, stop what runs before its next stage, and write the state."""
        with self._change:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
            self.running.drop()
        self.running.close()

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                comparison = self._queue.get(timeout=_TICK)
            except queue.Empty:
                comparison = None
            if comparison is not None:
                self._compare(comparison)
                with self._change:
                    self._pending -= 1
                    self._change.notify_all()
            try:
                self.running.look()
                self.running.keep()
            except Exception:
                _log.exception("the state of the shadow test could not be kept")

    def _compare(self, comparison: Comparison) -> None:
        until = time.monotonic() + _PATIENCE
        while not self._closing.is_set() and time.monotonic() < until:
            if not self._spare():
                self._closing.wait(_POLL)
                continue
            try:
                with abandoned_if(lambda: self._closing.is_set() or not self._spare()):
                    loss, sides = comparison()
                self.running.add(loss, *sides)
            except AbandonedError:
                continue
            except Exception as err:
                _log.info("a shadow comparison failed: %s", type(err).__name__)  # its message may quote the query
                self.running.fail()
            return
        self.running.drop()
