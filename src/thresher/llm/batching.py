"""Requests that arrive one by one, answered in batches by a function that blocks.

Whatever waits when the worker is free becomes one batch, up to a size. The work runs in a thread of its own, so the
event loop stays free and a cancelled request does not wait for the batch it is in.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

In = TypeVar("In")
Out = TypeVar("Out")


class Batcher(Generic[In, Out]):
    """Collects items and answers them together.

    Args:
        work: answers a batch, aligned; called in one thread at a time.
        size: the largest batch.
    """

    def __init__(self, work: Callable[[Sequence[In]], Sequence[Out]], size: int) -> None:
        self._work = work
        self._size = size
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="thresher-model")
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, deque[tuple[In, asyncio.Future[Out]]]] = (
            weakref.WeakKeyDictionary()
        )
        self._running: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = (
            weakref.WeakKeyDictionary()
        )

    async def submit(self, item: In) -> Out:
        """The answer to one item, worked out together with whatever else is waiting."""
        loop = asyncio.get_running_loop()
        queue = self._queues.setdefault(loop, deque())
        future: asyncio.Future[Out] = loop.create_future()
        queue.append((item, future))
        task = self._running.get(loop)
        if task is None or task.done():
            self._running[loop] = loop.create_task(self._drain(queue))
        return await future

    async def _drain(self, queue: deque[tuple[In, asyncio.Future[Out]]]) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # let everything that is ready to submit do so
        while queue:
            batch: list[tuple[In, asyncio.Future[Out]]] = []
            while queue and len(batch) < self._size:
                entry = queue.popleft()
                if not entry[1].done():  # cancelled while it waited
                    batch.append(entry)
            if not batch:
                return
            try:
                results = await loop.run_in_executor(self._pool, self._work, [item for item, _ in batch])
            except Exception as err:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(err)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
            await asyncio.sleep(0)

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
