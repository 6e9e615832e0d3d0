"""A client of HTTP that costs little, so that many of them in one process measure the server and not each other."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TICK = 0.005
_LARGEST = 2**20


class LostError(Exception):
    """A request that was sent and got no whole answer."""


class Client:
    """Posts JSON over one connection, which is kept, and opened again where the server has closed it.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def post(self, path: str, document: dict[str, Any]) -> tuple[int, float]:
        """The status, and the seconds to wait before the next request (`Retry-After`).

        Raises:
            ConnectionError: the server does not listen.
            LostError: the connection ended before the answer did.
        """
        if self._ends is not None and self._ends[0].at_eof():
            self._close()
        if self._ends is None:
            self._ends = await asyncio.open_connection(self._host, self._port, limit=_LARGEST)
        reader, writer = self._ends
        body = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\nContent-Length: "
        writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            await reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError) as err:
            self._close()
            raise LostError(str(err)) from err
        if headers.get("connection") == "close":
            self._close()
        return int(first.split(" ")[1]), float(headers.get("retry-after", 0))

    def _close(self) -> None:
        if self._ends is not None:
            self._ends[1].close()
            self._ends = None


@asynccontextmanager
async def lags() -> AsyncIterator[list[float]]:
    """Seconds by which this event loop is late, every few milliseconds: as much may be wrong with what it measures."""
    found: list[float] = []

    async def look() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            found.append(time.perf_counter() - began - _TICK)

    looking = asyncio.create_task(look())
    try:
        yield found
    finally:
        looking.cancel()
