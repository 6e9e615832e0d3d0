"""An event loop in a background thread, and clients that belong to event loops.

`run_in_background` serves synchronous callers of asynchronous code. One long-lived loop keeps connections between calls
and works where the caller already runs a loop (a notebook). A forked child starts its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

T = TypeVar("T")
C = TypeVar("C")

HEAD_START = 0.5
"""Seconds that requests wait at most for the one that finds out what a server accepts."""

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run_in_background(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the background loop and return its result; an interrupt of the caller cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="thresher-loop", daemon=True).start()
            _loops.clear()
            _loops[os.getpid()] = loop
        return loop


class PerLoop(Generic[C]):
    """One client for each event loop, made on first use, since connections belong to a loop.

    Args:
        make: makes a client.
        close: closes it.
    """

    def __init__(self, make: Callable[[], C], close: Callable[[C], Awaitable[None]]) -> None:
        self._make, self._close = make, close
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, C] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[PerLoop[C]], tuple[Callable[[], C], Callable[[C], Awaitable[None]]]]:
        return PerLoop, (self._make, self._close)

    def get(self) -> C:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._make()
        return self._clients[loop]

    async def aclose(self) -> None:
        """Close the running loop's client."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await self._close(client)

    def close(self) -> None:
        """Close the client that synchronous callers used."""
        run_in_background(self.aclose())


@dataclass(slots=True)
class Turn:
    """One request under a `Leader`; `settled` is set to False if it is still unknown what the server accepts."""

    settled: bool = True


class Leader:
    """Lets one request go ahead of others while it is unknown what a server accepts, so that not all are refused.

    Belongs to one event loop. The others wait for the request ahead, for `HEAD_START` seconds at most.
    """

    def __init__(self) -> None:
        self._settled = False
        self._ahead: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait until a request may be sent, and take note of how it went."""
        ahead = await self._enter()
        turn = Turn()
        try:
            yield turn
        finally:
            if ahead is not None:
                self._ahead = None
                ahead.set_result(None)
            if ahead is not None or not turn.settled:
                self._settled = turn.settled

    async def _enter(self) -> asyncio.Future[None] | None:
        """Wait; returns what the others wait for if this request is the one ahead."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HEAD_START
        while not self._settled:
            if self._ahead is None:
                self._ahead = loop.create_future()
                return self._ahead
            if loop.time() >= until:
                break
            await asyncio.wait([self._ahead], timeout=until - loop.time())
        return None


async def no_end(_: object) -> None:
    """Nothing to close; for `PerLoop` of what needs no closing."""
