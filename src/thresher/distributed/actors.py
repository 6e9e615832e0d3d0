"""`RayReplica`: a shard in a Ray actor, on whichever node of the cluster has room for it.

Every node must see the shard's folder under the same path, as on a shared file system.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from thresher.distributed.shard import Shard
from thresher.errors import ShardError, ThresherError, require
from thresher.search.index import Index

if TYPE_CHECKING:
    from thresher.distributed.messages import Message

_CALLS = 4
"""Requests that an actor answers side by side."""
_STARTING = 120.0
"""Seconds that an actor may take to start and to open its shard; a node may have to start first."""


class _ShardActor:
    """What runs in the actor."""

    def open(self, path: str) -> ThresherError | None:
        """Open the shard; returns the error where that fails, since Ray reports one raised by `__init__` as a death."""
        try:
            self._index = Index.open(path, follow=True)
        except ThresherError as err:
            return err
        self._shard = Shard(lambda: self._index)
        return None

    def call(self, request: Message) -> Message | ThresherError:
        """The answer to a request, or the error that it is: Ray would wrap one that is raised."""
        try:
            return self._shard.call(request)
        except ThresherError as err:
            return err


class _Call(Protocol):
    def remote(self, request: Message) -> _Reference: ...


class _Reference(Protocol):
    def future(self) -> Future[Message | ThresherError]: ...


class _Open(Protocol):
    def remote(self, path: str) -> object: ...


class _Handle(Protocol):
    open: _Open
    call: _Call


class RayReplica:
    """A shard in an actor. Ray is started where it does not run yet.

    Args:
        path: the shard's folder.

    Raises:
        MissingExtraError: the extra `ray` is not installed.
        ShardError: the actor could not open the shard in time, or died.
        ThresherError: the shard cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._ray = require("ray", extra="ray", purpose="searching shards in Ray actors")
        self.name = str(path)
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False, include_dashboard=False)
        actor = self._ray.remote(_ShardActor).options(max_concurrency=_CALLS, num_cpus=0)
        self._actor = cast("_Handle", actor.remote())
        try:
            problem = self._ray.get(self._actor.open.remote(str(Path(path).absolute())), timeout=_STARTING)
        except self._ray.exceptions.RayError as err:
            problem = ShardError(f"the actor of the shard {path} did not start ({type(err).__name__})")
        if problem is not None:
            self.close()
            raise problem

    def submit(self, request: Message, seconds: float) -> Future[Message]:
        """Call the actor."""
        made: Future[Message] = Future()

        def done(future: Future[Message | ThresherError]) -> None:
            error = future.exception()
            if error is not None:
                made.set_exception(ShardError(f"the actor of the shard {self.name} failed ({type(error).__name__})"))
                return
            answer = future.result()
            if isinstance(answer, ThresherError):
                made.set_exception(answer)
            else:
                made.set_result(answer)

        self._actor.call.remote(request).future().add_done_callback(done)
        return made

    def close(self) -> None:
        """End the actor."""
        self._ray.kill(self._actor)
