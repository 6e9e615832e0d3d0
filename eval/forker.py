"""`Forker`: a process that has loaded what jobs need, and forks a child for each, which starts at once.

    with Forker("eval.living_jobs:warm_up") as forker:
        job = forker.start("eval.living_jobs:add", path, 7)
        job.kill()
        print(job.wait())

The process runs `warm_up` once: modules are imported and kernels loaded before it forks. It must not start threads that
live on, since a child has none of them.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: 0, or minus the signal that ended it.
        value: what the function returned.
        error: the name of the class of the exception it raised, "" where it raised none.
        message: what the exception says.
        trace: its traceback.
    """

    status: int
    value: Any = None
    error: str = ""
    message: str = ""
    trace: str = ""


@dataclass(slots=True)
class Job:
    """A running child."""

    pid: int
    file: Path
    answers: IO[bytes]
    outcome: Outcome | None = None

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.outcome is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Outcome:
        """How it ended, when it has."""
        if self.outcome is None:
            status = os.waitstatus_to_exitcode(int(self.answers.readline()))
            self.outcome = Outcome(status)
            if status == 0:
                self.outcome = pickle.loads(self.file.read_bytes())  # noqa: S301  (written by a child of ours)
            self.file.unlink(missing_ok=True)
        return self.outcome


class Forker:
    """Jobs one after another, each in a child of one warm process.

    Args:
        warm_up: `module:function` that the process calls before the first job.
        environment: variables to set in the process beside those of this one.
    """

    def __init__(self, warm_up: str = "", environment: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="thresher-jobs-")
        self._count = 0
        path = os.pathsep.join(one or "." for one in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "eval.forker", warm_up],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        )

    def start(self, function: str, *arguments: object) -> Job:
        """Run `module:function` with these arguments, which must pickle; the job before it must have ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._count += 1
        file = Path(self._folder.name) / str(self._count)
        pickle.dump((function, arguments, str(file)), self._process.stdin)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError("the process that forks has ended")
        return Job(int(line), file, self._process.stdout)

    def run(self, function: str, *arguments: object) -> Outcome:
        """Run a job to its end."""
        return self.start(function, *arguments).wait()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def __enter__(self) -> Forker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _named(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def _serve(warm_up: str) -> None:
    """Fork a child for each job that comes on standard input; say its number, and how it ended."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what jobs print
    if warm_up:
        _named(warm_up)()
    while True:
        try:
            function, arguments, file = pickle.load(jobs)  # noqa: S301
        except EOFError:
            return
        pid = os.fork()
        if pid == 0:
            _work(function, arguments, Path(file))
        print(pid, file=answers, flush=True)
        print(os.waitpid(pid, 0)[1], file=answers, flush=True)


def _work(function: str, arguments: tuple[Any, ...], file: Path) -> None:
    """Run a job in the child, and end the child."""
    try:
        outcome = Outcome(0, _named(function)(*arguments))
    except BaseException as err:
        outcome = Outcome(0, None, type(err).__name__, str(err), traceback.format_exc())
    file.write_bytes(pickle.dumps(outcome))
    os._exit(0)


if __name__ == "__main__":
    from eval.forker import _serve as serve  # so that what is pickled belongs to the module, not to `__main__`

    serve(sys.argv[1])
