"""Callers in many threads and event loops share calls of a function that takes many items, such as a model.

Nothing waits for a batch to fill: a thread of the batcher's own calls the function with what has been submitted, and
what comes while it runs is in the next batch. So a lone caller waits for no one, and under load the batches are as
large as they may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from thresher.errors import BudgetExhaustedError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

In = TypeVar("In")
Out = TypeVar("Out")

PATIENCE = 10.0
"""Seconds after which a request without a deadline is due, when it is decided who goes first."""


class _Request(Generic[In, Out]):
    """What one caller submitted, and what became of it.

    Args:
        items: arguments of the function.
        seconds: until the caller goes; None for a caller who stays.
        tell: called once there is an outcome, in the thread of `loop` where that is given.
        loop: the caller's event loop; None for a caller that blocks.
    """

    def __init__(
        self,
        items: Sequence[In],
        seconds: float | None,
        tell: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.items, self.seconds, self.tell, self.loop = list(items), seconds, tell, loop
        self.due = time.monotonic() + (PATIENCE if seconds is None else seconds)
        self.left = False  # the caller has gone: the time is over, or it was cancelled
        self.results: list[Out] | None = None
        self.error: BaseException | None = None

    @property
    def wanted(self) -> bool:
        """Whether the caller still waits for the results."""
        return not self.left and (self.seconds is None or time.monotonic() < self.due)

    def outcome(self) -> list[Out]:
        """The results; raises what the function raised, or that the time is over."""
        if self.error is not None:
            raise self.error
        if self.results is None:
            raise BudgetExhaustedError(f"the deadline of {self.seconds} seconds was reached before there was a result")
        return self.results


class Batcher(Generic[In, Out]):
    """Lets callers share calls of a function of many items, such as an encoder, a reader or a language model.

    Requests with the nearest deadline go first. The results of an item must not depend on what else is in the batch
    by more than the callers can bear.

    Args:
        function: gives one result for each item, in order; called by one thread at a time. A batch in which it raises
            is tried again request by request, so that an error reaches only the caller whose items cause it.
        limit: most items in a call; a request with more is a call of its own.

    Example:
        batcher = Batcher(encoder.encode_passages, 64)
        vectors = batcher.submit(["glacier caves"], seconds=0.2)  # in any thread
        vectors = await batcher.asubmit(["glacier caves"])  # in any event loop
    """

    def __init__(self, function: Callable[[list[In]], Iterable[Out]], limit: int) -> None:
        self._function, self._limit = function, limit
        self._closed = False
        self._renew()
        _batchers.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Request[In, Out]] = []
        self._running = False
        self._pool: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"function": self._function, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["function"], state["limit"])  # type: ignore[misc]

    def submit(self, items: Sequence[In], *, seconds: float | None = None) -> list[Out]:
        """The results of `items`, in order. Blocks; an interrupted caller's items are not computed.

        Args:
            items: arguments of the function.
            seconds: the deadline, from now; None for no limit. What has not begun by then is not computed.

        Raises:
            BudgetExhaustedError: there was no result within `seconds`.
            ModelError: the batcher is closed, or the function gave another number of results than of items.
            Exception: what the function raised for these items.
        """
        if not items:
            return []
        done = threading.Event()
        request: _Request[In, Out] = _Request(items, seconds, done.set)
        try:
            self._add(request)
            self._start()
            done.wait(seconds)
        finally:
            request.left = True
        return request.outcome()

    async def asubmit(self, items: Sequence[In], *, seconds: float | None = None) -> list[Out]:
        """As `submit`, without blocking the event loop; the items of a cancelled task are not computed."""
        if not items:
            return []
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        request: _Request[In, Out] = _Request(items, seconds, done.set, loop)
        try:
            self._add(request)
            loop.call_soon(self._start)  # after the other tasks that are ready, so that they share the first batch
            async with asyncio.timeout(seconds):
                await done.wait()
        except TimeoutError:
            pass
        finally:
            request.left = True
        return request.outcome()

    def close(self) -> None:
        """Refuse the requests that wait and those to come; a batch that runs is finished."""
        with self._lock:
            self._closed = True
            refused, self._waiting = self._waiting, []
            if self._pool is not None:
                self._pool.shutdown(wait=False)
        for request in refused:
            request.error = ModelError(_CLOSED)
        _deliver(refused)

    def _add(self, request: _Request[In, Out]) -> None:
        with self._lock:
            if self._closed:
                raise ModelError(_CLOSED)
            self._waiting.append(request)

    def _start(self) -> None:
        """See to it that the thread is at work."""
        with self._lock:
            if self._running or self._closed or not self._waiting:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="thresher-model")
            self._pool.submit(self._work)
            self._running = True

    def _work(self) -> None:
        batch = self._next()
        while batch:
            self._run(batch)
            # the next one first: or it would hold some of what the callers submit next, but not all
            done, batch = batch, self._next()
            _deliver(done)

    def _next(self) -> list[_Request[In, Out]]:
        """The next batch, taken from what waits; empty if nothing does."""
        with self._lock:
            batch: list[_Request[In, Out]] = []
            others: list[_Request[In, Out]] = []
            size = 0
            for request in sorted((one for one in self._waiting if one.wanted), key=lambda one: one.due):
                fits = not batch or size + len(request.items) <= self._limit
                (batch if fits else others).append(request)
                size += len(request.items) if fits else 0
            self._waiting, self._running = others, bool(batch)
            return batch

    def _run(self, batch: list[_Request[In, Out]]) -> None:
        items = [item for request in batch for item in request.items]
        try:
            results = list(self._function(items))
            if len(results) != len(items):
                name = getattr(self._function, "__qualname__", "the model")
                raise ModelError(f"{name} gave {len(results)} results for {len(items)} items")
        except BaseException as err:  # whatever it is, its caller waits for it
            if len(batch) == 1:
                batch[0].error = err
                return
            for request in batch:
                if request.wanted:
                    self._run([request])
        else:
            for request in batch:
                request.results, results = results[: len(request.items)], results[len(request.items) :]


_CLOSED = "the model is closed; open it again to use it"


def _deliver(batch: list[_Request[In, Out]]) -> None:
    """Tell the callers; those of one event loop at once, so that what they submit next is in one batch again."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Request[In, Out]]] = {}
    for request in batch:
        by_loop.setdefault(request.loop, []).append(request)
    for loop, requests in by_loop.items():
        if loop is None:
            _tell(requests)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks are gone
                loop.call_soon_threadsafe(_tell, requests)


def _tell(requests: list[_Request[In, Out]]) -> None:
    for request in requests:
        request.tell()


_batchers: weakref.WeakSet[Batcher[Any, Any]] = weakref.WeakSet()


def _after_fork() -> None:
    """Neither threads nor the callers that wait survive a fork."""
    for batcher in list(_batchers):
        batcher._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
