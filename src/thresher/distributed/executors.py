"""Who runs the tasks of a build: processes of this machine, any processes on one folder, or a Ray cluster.

    LocalExecutor(4)                          `local:4`         processes of this machine
    FolderExecutor("/shared/work")            `folder:PATH`     every process that runs the same build on that folder
    RayExecutor()                             `ray[:ADDRESS]`   a Ray cluster

An executor is a class with the method `map`. Tasks are pure functions whose results are named by content
(`thresher.distributed.task`), so an executor may run one twice, lose it and run it again, or find it done.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context
from typing import TYPE_CHECKING, Protocol

from thresher.checks import whole
from thresher.errors import ConfigError, ThresherError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from multiprocessing.process import BaseProcess
    from types import TracebackType

    from thresher.distributed.task import Task

KNOWN = "local[:WORKERS], folder:PATH, ray[:ADDRESS]"
_DEATHS = 20
"""Times that worker processes may die, with nothing finished in between, before a build gives up."""
_RAISED = 1
"""Exit code of a process that ended by an exception outside of a task, and so before its first."""
_UNGUARDED = 'Worker processes import the script that starts them, so it has to build under: if __name__ == "__main__":'
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
"""The last is of tokenizers, which otherwise use every core whatever torch is told."""


class Executor(Protocol):
    """Runs tasks."""

    def map(self, function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
        """Have `function` called with every task, by this process or others; yield each that is done, in any order.

        Raises:
            ThresherError, OSError: as a task raised it.
        """


class LocalExecutor:
    """Processes of this machine, which live until `close`.

    Args:
        workers: how many; 0 for one a core.
        threads: of each; 0 for its share of the cores.

    Raises:
        InputError: a number is negative.
        ConfigError: a worker process makes one while it imports the script that started it.
    """

    def __init__(self, workers: int = 0, threads: int = 0) -> None:
        if getattr(current_process(), "_inheriting", False):  # multiprocessing's own mark of such an import
            raise ConfigError(_UNGUARDED)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = whole("workers", workers, 0) or cores
        self.threads = whole("threads", threads, 0) or max(cores // self.workers, 1)
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
        """As `Executor.map`. Where a worker process dies, what it and its neighbours were at is done again."""
        left, deaths = list(tasks), 0
        while left:
            pool = self._open()
            running: dict[Future[None], Task] = {}
            workers: list[BaseProcess] = []
            try:
                running = {pool.submit(function, task): task for task in left}
                workers = list((pool._processes or {}).values())
                pending = set(running)
                while pending:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                        left.remove(running[future])
                        deaths = 0
                        yield running[future]
            except BrokenProcessPool as err:
                self.close()
                if any(worker.exitcode == _RAISED for worker in workers):
                    raise ThresherError(f"a worker could not start, for the reason above. {_UNGUARDED}") from err
                deaths += 1
                if deaths > _DEATHS:
                    raise ThresherError(
                        f"worker processes died {deaths} times, and nothing was finished in between; the system ends "
                        "processes that need too much memory: take fewer workers or more shards"
                    ) from err
            except BaseException:
                for future in running:
                    future.cancel()
                raise

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=limit_threads, initargs=(self.threads,)
            )
        return self._pool

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def limit_threads(threads: int) -> None:
    """Let this process, which has loaded nothing that computes, use this number of threads."""
    for name in _THREADS:
        os.environ[name] = str(threads)


def executor_named(name: str) -> Executor:
    """The executor that a name says: `local`, `local:4`, `folder:/shared/work`, `ray`, `ray:ADDRESS`.

    Raises:
        ConfigError: there is none of that name, or it lacks its argument.
        MissingExtraError: Ray is not installed.
    """
    kind, _, argument = name.partition(":")
    if kind == "local" and (not argument or (argument.isascii() and argument.isdigit() and 0 < int(argument) < 4096)):
        return LocalExecutor(int(argument or 0))
    if kind == "folder" and argument:
        from thresher.distributed.shared_folder import FolderExecutor

        return FolderExecutor(argument)
    if kind == "ray":
        from thresher.distributed.ray_cluster import RayExecutor

        return RayExecutor(argument)
    raise ConfigError(f"the executor {name!r} is not known, or lacks its argument; known are: {KNOWN}")
