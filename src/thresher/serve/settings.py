"""`ServeSettings`: where a server listens, who may ask, and how much it takes."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from thresher.serve.keys import Key


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Settings of a server. Sizes are in bytes or code points as named, times in seconds or milliseconds as named.

    Attributes:
        host, port: the address. Port 0 takes a free one.
        keys: who may ask; none lets everybody who reaches the server ask, but not change an index.
        without_key: listen beyond this machine although there is no key.
        cors: origins whose pages may send requests from a browser; none by default.
        workers: calls of the library that run side by side; 0 for four a core. Models compute the calls that wait for
            them as one batch, so there are more threads than cores.
        queue: requests that may wait for a worker; one more is answered 429.
        deadline_ms: milliseconds that a request without a deadline of its own may take; 0 for no limit.
        refresh_seconds: how often the server looks for a new commit of its indexes.
        drain_seconds: how long requests in flight may take after the signal to stop.
        linger_seconds: how long new requests are still accepted after the signal, with `Connection: close`.
        max_body_bytes: of a request.
        max_buffered_bytes: of all requests' bodies that are held at a time; one more is answered 503.
        max_header_bytes: of a request's line and headers.
        max_depth: levels of lists and objects in a request.
        max_documents: documents, texts or inputs in one request.
        max_document_characters: of each of them.
        max_document_tokens: word pieces that a reranker reads of each of them; what follows is not read.
        max_query_characters: of a query.
        max_k: passages that a request may ask for.
        max_handle_bytes: of texts that requests brought along, kept for their handles; the oldest make room.
        handle_seconds: how long such a text is kept.
        header_seconds: how long a client may take to send a request's headers.
        body_seconds: how long a client may take to send a request's body.
        keep_alive_seconds: how long a connection without a request is kept open.
        send_seconds: how long a client may take to read a piece of the answer.
        connections: open connections; one more is answered 503.
        shard: answer the requests of coordinators, for which the indexes are shards (`thresher.distributed`).
        log: write a line of JSON on standard output for each request.

    Raises:
        ConfigError: a number is out of range, an origin is not one, or the server would listen beyond this machine
            without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[Key, ...] = field(default=(), repr=False)
    without_key: bool = False
    cors: tuple[str, ...] = ()
    workers: int = 0
    queue: int = 128
    deadline_ms: float = 0.0
    refresh_seconds: float = 1.0
    drain_seconds: float = 30.0
    linger_seconds: float = 0.5
    max_body_bytes: int = 16 * 2**20
    max_buffered_bytes: int = 256 * 2**20
    max_header_bytes: int = 32 * 2**10
    max_depth: int = 60
    max_documents: int = 1000
    max_document_characters: int = 200_000
    max_document_tokens: int = 4096
    max_query_characters: int = 20_000
    max_k: int = 1000
    max_handle_bytes: int = 64 * 2**20
    handle_seconds: float = 3600.0
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    keep_alive_seconds: int = 65
    send_seconds: float = 30.0
    connections: int = 1000
    shard: bool = False
    log: bool = True

    def __post_init__(self) -> None:
        at_least = {"port": 0, "workers": 0, "queue": 0, "deadline_ms": 0, "linger_seconds": 0, "drain_seconds": 0}
        for name, value in ((name, getattr(self, name)) for name in self.__slots__):
            if isinstance(value, int | float) and not isinstance(value, bool):
                least = at_least.get(name, 1 if isinstance(value, int) else 0.001)
                if not least <= value < 2**63:
                    raise ConfigError(f"{name} is {value!r}; give a number of at least {least}")
        if self.port > 65535:
            raise ConfigError(f"port is {self.port}; ports end at 65535")
        for origin in self.cors:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"the origin {origin!r} is none that a browser sends; write it as https://app.example.org, with a "
                    "port where it is not the usual one, and without a slash at the end"
                )
        if not (self.keys or self.without_key or is_loopback(self.host)):
            raise ConfigError(
                f"the server would listen on {self.host!r}, beyond this machine, and let everybody ask: name the "
                "environment variable that holds a key with --api-key-env, or say --without-key"
            )

    @property
    def threads(self) -> int:
        """Worker threads."""
        return self.workers or 4 * (os.cpu_count() or 1)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
