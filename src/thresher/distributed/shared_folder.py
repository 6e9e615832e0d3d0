"""The executor of plain clusters: every process that runs the same build on one folder takes tasks from it.

Nothing but the folder is shared, which may be on NFS: any number of machines, Slurm tasks or terminals run the same
command. A process takes a task by making its lock, a file that only one can make (`O_EXCL`), and writes into it from
time to time. A lock that was not written to for `lease` seconds belongs to a process that has died: another one takes
it away by renaming it, which only one can do, and does the task again. Times are compared by the clock of the file
system alone, so the clocks of the machines do not matter. Should two processes do the same task after all, both make
the same files, and the first result stays (`thresher.distributed.task`).
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from thresher.checks import path_of, real

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from thresher.distributed.task import Task

LOCKS = "locks"
LEASE = 60.0
"""Seconds after which a lock that is not written to is of a process that died."""
_BEATS = 6
"""Times that a lock is written to in that time."""
_POLL = 0.5


class FolderExecutor:
    """Takes tasks from a folder, as do others.

    Args:
        folder: the work folder, on storage that all processes see; made if missing.
        lease: seconds after which a lock that is not written to counts as left behind.

    Raises:
        InputError: the lease is not above 0.
    """

    def __init__(self, folder: str | Path, lease: float = LEASE) -> None:
        self.folder = path_of(folder).absolute()
        self.lease = real("lease", lease, 1e-3)
        self._own = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def map(self, function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
        """As `Executor.map`: runs the tasks that no other process is at, and waits for the rest."""
        (self.folder / LOCKS).mkdir(parents=True, exist_ok=True)
        left = list(tasks)
        turn = hash(self._own) % max(len(left), 1)
        left = left[turn:] + left[:turn]  # so that processes that start together try different ones first
        while left:
            before = len(left)
            for task in list(left):
                if not task.done:
                    with self._locked(task) as mine:
                        if mine and not task.done:
                            function(task)
                if task.done:
                    left.remove(task)
                    yield task
            if len(left) == before:
                time.sleep(min(_POLL, self.lease / _BEATS))

    @contextmanager
    def _locked(self, task: Task) -> Iterator[bool]:
        """Hold the lock of a task; yields whether it is held."""
        lock = self.folder / LOCKS / task.name
        if not self._make(lock) and not (self._is_left(lock) and self._take_away(lock) and self._make(lock)):
            yield False
            return
        over = Event()
        beating = Thread(target=self._beat, args=(lock, over), daemon=True)
        beating.start()
        try:
            yield True
        finally:
            over.set()
            beating.join()
            with suppress(OSError):
                if lock.read_text(encoding="utf-8") == self._own:
                    lock.unlink()

    def _make(self, lock: Path) -> bool:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(self._own)
        return True

    def _beat(self, lock: Path, over: Event) -> None:
        while not over.wait(self.lease / _BEATS):
            with suppress(OSError):  # the lock was taken away: the result is the same whoever makes it
                os.utime(lock)

    def _is_left(self, lock: Path) -> bool:
        """Whether a lock was not written to for the time of a lease, by the clock of the file system."""
        probe = lock.with_name(f".now-{self._own}")
        try:
            changed = lock.stat().st_mtime
            probe.touch()
            now = probe.stat().st_mtime
        except FileNotFoundError:
            return False
        finally:
            probe.unlink(missing_ok=True)
        return now - changed > self.lease

    def _take_away(self, lock: Path) -> bool:
        """Remove a lock that was left behind; False where another process did."""
        away = lock.with_name(f".left-{uuid.uuid4().hex}")
        try:
            lock.rename(away)
        except FileNotFoundError:
            return False
        left = self._is_left(away)
        if not left:  # another process took the old one away, and this is its own
            with suppress(OSError):
                os.link(away, lock)
        away.unlink(missing_ok=True)
        return left
