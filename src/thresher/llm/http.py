"""What every HTTP backend needs: keys, addresses, one client for each event loop, and Retry-After.

Keys are read from the environment or a callable at the moment of the call. A key is never an argument, an attribute, or
part of a name, cache key, manifest, log or error; what servers answer is scrubbed of it before it becomes a message.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote, urlsplit

from thresher.errors import ConfigError, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx2

HIDDEN = "***"
CONNECTIONS = 64
"""The most open connections of a client, by default."""

KEEP_ALIVE = 300.0
"""Seconds an idle connection stays open."""

C = TypeVar("C")


@dataclass(frozen=True, slots=True, repr=False)
class KeySource:
    """Where a key comes from.

    Attributes:
        source: the name of an environment variable, or a function without arguments that returns the key.
        required: whether a missing variable is an error; local servers need no key.

    Raises:
        ConfigError: the source is neither.
    """

    source: str | Callable[[], str]
    required: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.source, str) and not self.source.isidentifier():
            raise ConfigError(
                "a key is given as the name of an environment variable or as a function, never as the key itself"
            )

    def read(self) -> str:
        """The key; empty if none is set and none is required.

        Raises:
            ConfigError: the variable is required and not set.
        """
        if not isinstance(self.source, str):
            return self.source()
        key = os.environ.get(self.source, "")
        if not key and self.required:
            raise ConfigError(f"the environment variable {self.source} is not set; it must hold the server's key")
        return key

    def __repr__(self) -> str:
        return f"KeySource({self.source if isinstance(self.source, str) else 'a function'})"


def checked_url(url: str) -> str:
    """A server's address without a trailing slash.

    Raises:
        ConfigError: it is not http(s), or contains a user, password or query, which would be secrets in a name.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("a server's address must start with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ConfigError(
            f"the address of {parts.hostname} contains a user, password or query; give keys through the environment"
        )
    return url.rstrip("/")


def scrub(text: str, *keys: str) -> str:
    """`text` with every key, plain or URL-encoded, replaced by asterisks."""
    for key in keys:
        for form in {key, quote(key, safe="")} if key else ():
            text = text.replace(form, HIDDEN)
    return text


def retry_after_seconds(value: str | None) -> float | None:
    """The seconds in a Retry-After header: a number, or the time until a date; None if it is neither."""
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def http_client(connections: int, timeout: float) -> httpx2.AsyncClient:
    """A client that keeps at most `connections` connections open and follows no redirects.

    Raises:
        MissingExtraError: httpx2 is not installed.
    """
    httpx = require("httpx2", extra="llm", purpose="calling a model server")
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE
    )
    client: httpx2.AsyncClient = httpx.AsyncClient(limits=limits, timeout=timeout, follow_redirects=False)
    return client


class PerLoop(Generic[C]):
    """One client for each event loop, made on first use, since connections belong to a loop.

    Args:
        make: makes a client.
        close: closes it.
    """

    def __init__(self, make: Callable[[], C], close: Callable[[C], Awaitable[None]]) -> None:
        self._make, self._close = make, close
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, C] = weakref.WeakKeyDictionary()

    def get(self) -> C:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._make()
        return self._clients[loop]

    async def aclose(self) -> None:
        """Close the running loop's client."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await self._close(client)

    def close(self) -> None:
        """Close the client that synchronous callers used."""
        from thresher.llm.background import run_in_background

        run_in_background(self.aclose())
