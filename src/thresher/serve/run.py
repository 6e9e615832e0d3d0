"""`run`: the application behind uvicorn, with signals that drain it and connections that may not be slow for ever."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from thresher.serve.front import CROWDED

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from fastapi import FastAPI

    from thresher.serve.services import Services
    from thresher.serve.settings import ServeSettings


_QUIET = 10
"""Turns of the event loop without a new connection after which the server stops listening: a connection that was just
accepted is read in the next ones."""


class Guarded(H11Protocol):
    """HTTP over one connection, which is closed where headers do not come, or an answer is not read, in time.

    A request on a connection beyond the limit is marked, so that `Front` refuses it as its route's dialect has it.
    """

    header_seconds = 10.0
    send_seconds = 30.0
    most = 1000
    _headers: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self.app_state: dict[str, object] = {**self.app_state, CROWDED: True}
        self._headers = self.loop.call_later(self.header_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take what came; the clock of the headers runs from a request's first byte until its headers are complete."""
        if self._headers is None and self._idle():
            self._headers = self.loop.call_later(self.header_seconds, self.transport.abort)
        super().data_received(data)
        if not self._idle():
            self._headers = _stop(self._headers)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def pause_writing(self) -> None:
        """Start the clock of the client that does not read."""
        super().pause_writing()
        self._sending = self._sending or self.loop.call_later(self.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._sending = _stop(self._sending)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._headers, self._sending = _stop(self._headers), _stop(self._sending)
        super().connection_lost(exc)


def _waiting(listening: Sequence[int]) -> bool:
    """Whether there are connections that have not been accepted."""
    poll = select.poll()
    for one in listening:
        poll.register(one, select.POLLIN)
    return bool(poll.poll(0))


def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer any longer."""
    if timer is not None:
        timer.cancel()
    return None


class Server(uvicorn.Server):
    """Uvicorn's server. The first TERM or INT drains it, the second stops it at once.

    While it drains, `/ready` says no and every answer closes its connection. New requests are served for
    `linger_seconds` more, so that whoever sends them has the time to notice; those that have begun are finished.

    Args:
        app: made by `create_app`.
        settings: the address, limits.
        started: called once the server listens.

    Attributes:
        loop: the event loop, once it listens.
    """

    def __init__(
        self,
        app: FastAPI,
        settings: ServeSettings,
        *,
        started: Callable[[Server, Services], None] = lambda *_: None,
    ) -> None:
        limits = {
            "header_seconds": settings.header_seconds, "send_seconds": settings.send_seconds,
            "most": settings.connections,
        }  # fmt: skip
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=type("Guarded", (Guarded,), limits),
                ws="none",
                loop="asyncio",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=settings.keep_alive_seconds,
                timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
                h11_max_incomplete_event_size=settings.max_header_bytes,
            )
        )
        self._services: Services = app.state.services
        self._linger, self._drain, self._started = settings.linger_seconds, settings.drain_seconds, started
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._started(self, self._services)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, once what had come by then is taken: the kernel resets connections that were not accepted."""
        end = time.monotonic() + self._drain
        quiet = 0
        while quiet < _QUIET and time.monotonic() < end:
            await asyncio.sleep(0)
            listening = [one.fileno() for server in self.servers for one in server.sockets]
            quiet = 0 if _waiting(listening) else quiet + 1
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals; one that drained the server is not raised again when it has ended."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: drain, or stop."""
        if self._services.work.draining or self.loop is None:
            self.should_exit = self.force_exit = True
            logging.getLogger("uvicorn.error").disabled = True  # it would report each request that is cut off
            return
        self.loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Stop, once what has begun is finished; for the loop's thread."""
        self._services.work.draining = True
        asyncio.get_running_loop().call_later(self._linger, self._end)

    def _end(self) -> None:
        self.should_exit = True

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
