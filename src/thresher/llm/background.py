"""One event loop in a daemon thread, for synchronous callers of asynchronous code.

A single long-lived loop, rather than one a call, lets connections be kept between calls, and works where the caller
already runs a loop (a notebook). A forked child starts its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run_in_background(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end on the background loop; an interrupt of the caller cancels it."""
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
