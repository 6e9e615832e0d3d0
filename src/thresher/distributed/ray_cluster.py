"""The executor of a Ray cluster: a task of Ray for each task of a build.

Ray finds a node with the cores (and accelerators) that a task asks for, starts nodes where its autoscaler is told to,
and gives a task whose node is lost to another one. Twice as many tasks are handed over as the cluster can run, so
that a build of many shards does not fill Ray's queue. Nothing but names goes through Ray: results are in the work
folder, which all nodes see.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from thresher.checks import real, whole
from thresher.distributed.executors import limit_threads
from thresher.errors import ThresherError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thresher.distributed.task import Task

_AHEAD = 2
"""Tasks that wait in Ray for each that can run."""


class RayExecutor:
    """Runs tasks on a Ray cluster.

    Args:
        address: as `ray.init` takes it: `auto`, `ray://HOST:PORT`, ... Empty for the cluster this process is connected
            to; without one a cluster is started on this machine.
        cpus: cores that a task asks for, and threads that it uses.
        gpus: accelerators that a task asks for, or a part of one; give `device="cuda"` to the build as well.
        in_flight: tasks handed over at a time; 0 for twice as many as the cluster can run, and at least 16, which an
            autoscaler sees as demand.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: a number is out of range.
        ThresherError: there is no cluster at the address.
    """

    def __init__(self, address: str = "", *, cpus: int = 1, gpus: float = 0.0, in_flight: int = 0) -> None:
        self.cpus, self.gpus = whole("cpus", cpus, 1), real("gpus", gpus, 0)
        self._wanted = whole("in_flight", in_flight, 0)
        self._ray = require("ray", extra="ray", purpose="building on a Ray cluster")
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=address or None, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError, OSError) as err:
                raise ThresherError(f"there is no Ray cluster at {address or 'this machine'}: {err}") from err

    @property
    def in_flight(self) -> int:
        """Tasks handed over at a time."""
        if self._wanted:
            return self._wanted
        slots = [int(self._ray.cluster_resources().get("CPU", 1) // self.cpus)]
        if self.gpus:
            slots.append(int(self._ray.cluster_resources().get("GPU", 0) // self.gpus))
        return max(_AHEAD * min(slots), 16)

    def map(self, function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
        """As `Executor.map`. A task whose node or process is lost is done again, however often."""
        ray, cpus = self._ray, self.cpus

        def run_one(task: Task) -> None:
            limit_threads(cpus)
            function(task)

        remote = ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_retries=-1)(run_one)
        waiting = list(reversed(tasks))
        running: dict[object, Task] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.in_flight:
                    task = waiting.pop()
                    running[remote.remote(task)] = task
                finished, _ = ray.wait(list(running), num_returns=1)
                for one in finished:
                    task = running.pop(one)
                    try:
                        ray.get(one)
                    except ray.exceptions.RayTaskError as err:
                        raise _cause(err) from err
                    except (ray.exceptions.RaySystemError, ray.exceptions.RayError):
                        if not task.done:  # the result is lost with its node: made again
                            waiting.append(task)
                            continue
                    yield task
        finally:
            for one in running:
                with suppress(Exception):
                    ray.cancel(one)


def _cause(error: BaseException) -> BaseException:
    """What a task raised, without Ray's wrapping."""
    found = getattr(error, "cause", None)
    return found if isinstance(found, ThresherError | OSError) else error
