"""`Replica`: one place where a shard answers: this process, a process of its own, or a server.

A request is handed over and its answer waited for as a `Future`, so that a coordinator can wait for several at once,
give up waiting, and ask another replica meanwhile. Ray actors are in `thresher.distributed.actors`.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

import msgspec

from thresher.checks import shown
from thresher.distributed.messages import CommitGoneError, Message, read_answer, written
from thresher.distributed.shard import Shard
from thresher.errors import InputError, ShardError, ThresherError, require
from thresher.llm.keys import Key, KeySource
from thresher.search.index import Index

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import ModuleType

    import httpx2

_BEHIND = 1024
"""Requests that a process has not answered, at most."""
_FITS = 32_768
"""Bytes of a request that an empty pipe takes at once."""
_SIDE_BY_SIDE = 16
"""Requests to one server at a time."""
_STARTING = 60.0
"""Seconds that a process may take to open its shard."""


class Replica(Protocol):
    """Where a shard answers."""

    @property
    def name(self) -> str:
        """Names it in errors and in partial answers."""
        ...

    def submit(self, request: Message, seconds: float) -> Future[Message]:
        """Hand a request over; the answer may be given up after some seconds. Errors are the future's."""
        ...

    def close(self) -> None:
        """Stop answering."""
        ...


class LocalReplica:
    """A shard in this process.

    Args:
        path: its folder.
        pool: threads that answer; None where the caller's thread does.
        follow: take up new commits.
    """

    def __init__(self, path: str | Path, pool: ThreadPoolExecutor | None = None, *, follow: bool = False) -> None:
        self.name = str(path)
        self._index = Index.open(path, follow=follow)
        self._shard, self._pool = Shard(lambda: self._index), pool

    def submit(self, request: Message, seconds: float) -> Future[Message]:
        """Answer, in this thread or another."""
        if self._pool is not None:
            return self._pool.submit(self._shard.call, request)
        done: Future[Message] = Future()
        try:
            done.set_result(self._shard.call(request))
        except Exception as err:
            done.set_exception(err)
        return done

    def refresh(self) -> None:
        """Take up the last commit."""
        self._index.refresh()

    def close(self) -> None:
        """Release the files."""
        self._index.close()


class ProcessReplica:
    """A shard in a process of its own, which maps the same files. It answers one request after another.

    Args:
        path: the shard's folder.

    Attributes:
        process: the process.

    Raises:
        ShardError: the process could not open the shard in time.
        ThresherError: the shard cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self.process = context.Process(target=_answer_requests, args=(other, str(path)), daemon=True)
        self.process.start()
        other.close()
        self._waiting: dict[int, Future[Message]] = {}
        self._unsent: SimpleQueue[tuple[int, bytes, float] | None] = SimpleQueue()
        self._numbers, self._lock, self._gone = count(), threading.Lock(), False
        if not self._pipe.poll(_STARTING):
            self.close()
            raise ShardError(f"the process of the shard {path} did not start within {_STARTING:g} s")
        try:
            problem = self._pipe.recv()
        except (EOFError, OSError):
            problem = ShardError(f"the process of the shard {path} ended as it started; its errors are on stderr")
        if problem is not None:
            self.close()
            raise problem
        for work in (self._read, self._write):
            threading.Thread(target=work, name=f"thresher-shard-{self.process.pid}", daemon=True).start()

    def submit(self, request: Message, seconds: float) -> Future[Message]:
        """Send a request, or leave it to a thread where the pipe could be full: a stopped process takes nothing."""
        made: Future[Message] = Future()
        with self._lock:
            number, behind = next(self._numbers), len(self._waiting)
            gone = self._gone
            if not gone and behind < _BEHIND:
                content = ForkingPickler.dumps((number, request))
                self._waiting[number] = made
                if behind or len(content) > _FITS:
                    self._unsent.put((number, bytes(content), time.monotonic() + seconds))
                    return made
                try:
                    self._pipe.send_bytes(content)
                    return made
                except (OSError, ValueError):
                    gone = bool(self._waiting.pop(number, None))
        what = "has ended; open the index again" if gone else f"has not answered the last {behind:,} requests"
        made.set_exception(ShardError(f"the process of the shard {self.name} {what}"))
        return made

    def _write(self) -> None:
        """Send what was left to this thread, and drop what is overdue."""
        while (unsent := self._unsent.get()) is not None:
            number, content, due = unsent
            error = ShardError(f"the process of the shard {self.name} did not take a request in time")
            if time.monotonic() < due:
                try:
                    self._pipe.send_bytes(content)
                    continue
                except (OSError, ValueError):
                    error = ShardError(f"the process of the shard {self.name} has ended; open the index again")
            with self._lock:
                future = self._waiting.pop(number, None)
            if future is not None:
                future.set_exception(error)

    def _read(self) -> None:
        """Take answers until the process is gone."""
        while True:
            try:
                number, answer = self._pipe.recv()
            except (EOFError, OSError):
                break
            with self._lock:
                future = self._waiting.pop(number, None)
            if future is None:
                continue
            if isinstance(answer, Message):
                future.set_result(answer)
            else:
                future.set_exception(answer)
        with self._lock:
            self._gone, left, self._waiting = True, self._waiting, {}
        for future in left.values():
            future.set_exception(ShardError(f"the process of the shard {self.name} ended before it answered"))

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._gone = True
        self._unsent.put(None)
        self.process.kill()  # it only reads, and one that is stopped would not notice anything else
        self.process.join()
        self._pipe.close()


def _answer_requests(pipe: Connection, path: str) -> None:
    """What the process of a shard does."""
    try:
        with Index.open(path, follow=True) as index:
            shard = Shard(lambda: index)
            pipe.send(None)
            while True:
                number, request = pipe.recv()
                try:
                    answer: Message | Exception = shard.call(request)
                except ThresherError as err:
                    answer = err
                except Exception as err:
                    answer = ShardError(f"the shard {path} failed ({type(err).__name__}: {err})")
                pipe.send((number, answer))
    except ThresherError as err:
        pipe.send(err)
    except (EOFError, OSError, KeyboardInterrupt):
        return


class HttpReplica:
    """A shard at a server, which was started with `thresher serve --shard`.

    Args:
        url: of the server; `#NAME` at the end names its index.
        key_env: environment variable that holds the key; empty for none.
        timeout: seconds after which an answer is no longer waited for.

    Raises:
        MissingExtraError: the extra `llm`, whose HTTP client this uses, is not installed.
        ConfigError: the key cannot be read.
    """

    def __init__(self, url: str, *, key_env: str = "", timeout: float = 30.0) -> None:
        httpx = self._httpx = require("httpx2", extra="llm", purpose="asking shards over HTTP")
        base, _, self._index = url.partition("#")
        self.name, self._timeout = url, timeout
        key = KeySource(key_env, required=True).read() if key_env else Key()
        self._hide = key.hide
        limits = httpx.Limits(max_connections=_SIDE_BY_SIDE, max_keepalive_connections=_SIDE_BY_SIDE)
        self._client: httpx2.Client = httpx.Client(
            base_url=base.rstrip("/"), auth=key.sign, limits=limits, timeout=timeout, trust_env=False
        )
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="thresher-shards")

    def submit(self, request: Message, seconds: float) -> Future[Message]:
        """Post a request from a thread."""
        return self._pool.submit(self._ask, request, min(seconds, self._timeout))

    def _ask(self, request: Message, seconds: float) -> Message:
        httpx: ModuleType = self._httpx
        route = type(request).route  # type: ignore[attr-defined]  # every request has one
        parameters = {"index": self._index} if self._index else {}
        headers = {"Content-Type": "application/json"}
        try:
            answer = self._client.post(
                f"/shard/{route}", content=written(request), params=parameters, headers=headers, timeout=seconds
            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as err:
            problem = self._hide(f"{type(err).__name__}: {err}")
        else:
            return self._read(route, answer.status_code, answer.content)
        raise ShardError(f"the shard {self.name} did not answer ({problem})")

    def _read(self, route: str, status: int, content: bytes) -> Message:
        """The answer, or the error that it is."""
        try:
            if status == 200:
                return read_answer(route, content)
            document = msgspec.json.decode(content)
            said = self._hide(str(document["error"]["message"]))
        except (msgspec.MsgspecError, TypeError, KeyError) as err:
            raise ShardError(f"{self.name} is not a thresher server with shards (status {status}: {err})") from None
        if status == 410:
            raise CommitGoneError(said)
        if status in (400, 422):
            raise InputError(said)
        hint = "; start it with `thresher serve --shard`" if status == 404 else ""
        raise ShardError(f"the shard {self.name} answered with status {status}: {said}{hint}")

    def close(self) -> None:
        """Close its connections; requests that are on their way are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def checked_address(value: object) -> str:
    """The address of a replica.

    Raises:
        InputError: it is neither a path nor a URL.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise InputError(f"a shard is a folder or the URL of a server; got {shown(value)}")
