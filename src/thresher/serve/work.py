"""`Work`: calls of the library in worker threads, behind a bounded queue, under each request's deadline.

A request waits in the order of arrival. It is refused at once where the queue is full (429) or where waiting is
expected to take half of its time (503), and later where its turn does not come while there is time for a call of its
kind (503). A request whose client has gone away leaves the queue; if it runs already, a pipeline stops before its next
stage and the result is dropped.

The bookkeeping is done in the event loop's thread alone; `left_ms` is read in the workers'.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import os
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from thresher.errors import InputError
from thresher.pipeline.deadline import abandoned_if
from thresher.serve.refusals import RefusedError, too_many, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request

    from thresher.serve.metrics import Metrics

T = TypeVar("T")

GONE = 499
"""Status, in the log, of a request whose client went away."""
_GRACE = 0.01
"""Seconds after its deadline at which a call that still runs is no longer waited for."""
_QUEUED = 0.5
"""Of the time that a request has left, what it may be expected to spend in the queue: the rest is for its answer."""
_WEIGHT = 0.1
"""Of the last call in the mean duration of its kind."""
_FORGETS = 1.02
"""What becomes of the least duration with each call that takes longer."""
_WANTED = 0.9
"""What becomes of it with each call that is not made because so much time is not left."""
_MARGIN = 0.005
"""Seconds before its deadline at which a call is told that the time is over, at first and at least: its answer is still
to be written."""
_MOST_MARGIN = 0.1
_EASES = 0.998
"""What becomes of the margin after a call in time; a late one adds half of its delay: so few are late."""
_SHARE = 0.25
"""Of a request's time that the margin may take."""


class _Turn:
    """A request's place in the queue, and what its call needs to know."""

    def __init__(self, kind: str, arrived: float, due: float, margin: float) -> None:
        self.kind, self.arrived, self.due = kind, arrived, due
        self.began = math.inf
        self.margin = min(margin, _SHARE * (due - arrived))
        self.gone = self.started = False
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.due - time.perf_counter()


_turn: ContextVar[_Turn | None] = ContextVar("thresher_turn", default=None)


def left_ms() -> float | None:
    """Milliseconds that the request which this thread works for has left; None for no limit, at least 1 otherwise."""
    turn = _turn.get()
    return None if turn is None or turn.due == math.inf else max(1.0, (turn.left() - turn.margin) * 1000)


class Times:
    """How long calls take, by kind: one that changes an index takes longer than a search, and happens seldom."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}  # mean and least seconds

    def learn(self, kind: str, seconds: float) -> None:
        """Take note of a call."""
        mean, least = self._known.get(kind, (seconds, seconds))
        self._known[kind] = mean + _WEIGHT * (seconds - mean), min(seconds, least * _FORGETS)

    def relax(self, kind: str) -> None:
        """Expect less: a call was not made since its deadline was too near, which teaches nothing."""
        if kind in self._known:
            mean, least = self._known[kind]
            self._known[kind] = mean, least * _WANTED

    def mean(self, kind: str) -> float:
        """Seconds that a call takes; 0 where there was none."""
        return self._known.get(kind, (0.0, 0.0))[0]

    def least(self, kind: str) -> float:
        """Seconds that the quickest of the last calls took; 0 where there was none."""
        return self._known.get(kind, (0.0, 0.0))[1]

    def left(self, kind: str, spent: float) -> float:
        """Seconds that a call is expected to go on which has run for some: at least half as long again."""
        return max(self.mean(kind) - spent, spent / 2)


class Work:
    """Runs calls in threads, as many side by side as there are threads.

    Args:
        threads: calls side by side.
        queue: requests that may wait.
        metrics: what is counted.
        deadline_ms: of requests without one; 0 for none.

    Attributes:
        draining: the server is about to stop.
        times: how long calls take.
    """

    def __init__(self, threads: int, queue: int, metrics: Metrics, deadline_ms: float = 0.0) -> None:
        self.threads, self.queue, self.deadline_ms = threads, queue, deadline_ms
        self.draining = False
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="thresher-serve")
        self._waiting: deque[_Turn] = deque()
        self._running: set[_Turn] = set()
        self.times, self._margin = Times(), _MARGIN

    async def run(
        self,
        call: Callable[..., T],
        *args: object,
        request: Request | None = None,
        deadline_ms: float | None = None,
        **kwargs: object,
    ) -> T:
        """The result of `call(*args, **kwargs)`, computed in a worker thread.

        Args:
            call: of the library. `left_ms` tells it how much time is left.
            args: its arguments.
            request: what it is done for; its client is watched, and its arrival starts the clock.
            deadline_ms: milliseconds from the arrival; 0 for no limit, None for the server's own.
            kwargs: its arguments.

        Raises:
            RefusedError: the queue is full, the deadline cannot be met, or the client has
                gone away.
            Exception: what the call raised.
        """
        turn = self._admitted(call, request, deadline_ms)
        gone = None if request is None else asyncio.ensure_future(_disconnected(request))
        try:
            await self._wait(turn, gone)
            result = self._started(turn, partial(call, *args, **kwargs))
            return await self._finished(turn, result, gone)
        finally:
            self._left(turn)
            if gone is not None:
                gone.cancel()

    async def stream(
        self,
        call: Callable[[Callable[[T], None]], object],
        *,
        request: Request | None = None,
        deadline_ms: float | None = None,
    ) -> AsyncIterator[T]:
        """What `call(emit)` emits, as it comes; arguments and errors as `run`.

        It is waited for here until the call starts, so that a refusal still has a status.
        """
        turn, loop = self._admitted(call, request, deadline_ms), asyncio.get_running_loop()
        gone = None if request is None else asyncio.ensure_future(_disconnected(request))
        try:
            await self._wait(turn, gone)
        except BaseException:
            self._left(turn)
            raise
        finally:
            if gone is not None:
                gone.cancel()
        events: asyncio.Queue[tuple[T] | None] = asyncio.Queue()

        def emit(event: T) -> None:
            loop.call_soon_threadsafe(events.put_nowait, (event,))

        result = self._started(turn, partial(call, emit))
        result.add_done_callback(lambda _: events.put_nowait(None))
        return self._events(turn, result, events)

    async def _events(
        self, turn: _Turn, result: asyncio.Future[object], events: asyncio.Queue[tuple[T] | None]
    ) -> AsyncIterator[T]:
        try:
            while (event := await events.get()) is not None:
                yield event[0]
            result.result()
        finally:
            self._left(turn)

    def _admitted(self, call: Callable[..., object], request: Request | None, deadline_ms: float | None) -> _Turn:
        """A place in the queue."""
        arrived = time.perf_counter() if request is None else getattr(request.state, "arrived", time.perf_counter())
        limit = self.deadline_ms if deadline_ms is None else deadline_ms
        kind = getattr(call, "__qualname__", "")
        turn = _Turn(kind, arrived, arrived + limit / 1000 if limit else math.inf, self._margin)
        expected = self.expected_wait()
        if len(self._running) >= self.threads and len(self._waiting) >= self.queue:
            self._metrics.refused.labels("queue full").inc()
            raise too_many(expected)
        if _QUEUED * turn.left() <= expected:
            self._metrics.refused.labels("deadline").inc()
            raise unavailable("waiting for the request's turn would take too much of its deadline", expected)
        if len(self._running) < self.threads:
            self._running.add(turn)
            turn.come.set_result(None)
        else:
            self._waiting.append(turn)
        self._show()
        return turn

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def spare(self) -> bool:
        """Whether there are cores to spare: no request waits, and fewer run than half of the cores."""
        return not (self.draining or self._waiting) and len(self._running) < max(1, (os.cpu_count() or 1) // 2)

    def expected_wait(self) -> float:
        """Seconds that a request which comes now is expected to wait, by what calls of each kind take."""
        if len(self._running) < self.threads:
            return 0.0
        now = time.perf_counter()
        free = [self.times.left(turn.kind, max(0.0, now - turn.began)) for turn in self._running]
        heapq.heapify(free)  # when each thread is free
        for turn in self._waiting:
            heapq.heapreplace(free, free[0] + self.times.mean(turn.kind))
        return free[0]

    async def _wait(self, turn: _Turn, gone: asyncio.Future[None] | None) -> None:
        """Until the turn has come, while there is time for a call of its kind."""
        least = self.times.least(turn.kind)
        await _any_of(turn.come, gone, turn.left() - least)
        if turn.come.done() and turn.left() >= least:
            self._metrics.waited.observe(time.perf_counter() - turn.arrived)
            return
        self.times.relax(turn.kind)
        raise self._given_up(gone, "the request's turn did not come while there was time for an answer")

    def _started(self, turn: _Turn, call: Callable[[], T]) -> asyncio.Future[T]:
        """The call in a thread; the next request's turn comes when it ends, whether it is still waited for or not."""
        context = copy_context()
        turn.started, turn.began = True, time.perf_counter()

        def work() -> T:
            _turn.set(turn)
            with abandoned_if(lambda: turn.gone):
                return call()

        def ended(future: asyncio.Future[T]) -> None:
            error = None if future.cancelled() else future.exception()  # taken note of, also where no request waits
            if not isinstance(error, InputError):
                self._learn(turn)
            self._release(turn)

        future = asyncio.get_running_loop().run_in_executor(self._pool, context.run, work)
        future.add_done_callback(ended)
        return future

    def _learn(self, turn: _Turn) -> None:
        """Take note of how long a call took, and how late it was."""
        self.times.learn(turn.kind, time.perf_counter() - turn.began)
        if turn.due != math.inf:
            late = -turn.left()
            margin = self._margin + late / 2 if late > 0 else self._margin * _EASES
            self._margin = min(_MOST_MARGIN, max(_MARGIN, margin))

    async def _finished(self, turn: _Turn, result: asyncio.Future[T], gone: asyncio.Future[None] | None) -> T:
        await _any_of(result, gone, turn.left() + _GRACE)
        if result.done():
            return result.result()
        raise self._given_up(gone)

    def _given_up(
        self, gone: asyncio.Future[None] | None, reason: str = "the deadline was over before there was an answer"
    ) -> RefusedError:
        if gone is not None and gone.done():
            self._metrics.dropped.inc()
            return RefusedError("the client went away", GONE)
        self._metrics.refused.labels("deadline").inc()
        return unavailable(reason, self.expected_wait())

    def _left(self, turn: _Turn) -> None:
        """This turn is no longer waited for."""
        turn.gone = True
        if turn.started:  # the call gives the worker back
            return
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.come.done():
            turn.started = True
            self._release(turn)

    def _release(self, ended: _Turn) -> None:
        self._running.remove(ended)
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.come.done():
                self._running.add(turn)
                turn.come.set_result(None)
                break
        self._show()

    def _show(self) -> None:
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))

    def close(self) -> None:
        """Stop the threads once their calls have ended; calls that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _any_of(first: asyncio.Future[T], other: asyncio.Future[None] | None, seconds: float) -> None:
    """Until one of two is done, or the time is over."""
    if first.done():
        return
    both: set[asyncio.Future[object]] = {first} if other is None else {first, other}  # type: ignore[arg-type]
    await asyncio.wait(
        both, timeout=None if seconds == math.inf else max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED
    )


async def _disconnected(request: Request) -> None:
    """Until the client has gone away."""
    receive: Callable[[], Awaitable[dict[str, object]]] = request.receive
    while (await receive())["type"] != "http.disconnect":
        pass
