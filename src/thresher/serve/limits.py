"""`Limits`: an ASGI middleware that reads a request's body before the routes do, as much of it as is allowed.

Refused are bodies that are too large (by their declared length, before any of it is read; otherwise as soon as they
are), that come too slowly, that are compressed, that are not UTF-8, and that are nested too deeply for a parser.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

from thresher.serve.refusals import RefusedError, unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from thresher.serve.settings import ServeSettings

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
"""A string, or one without an end: were that no match, it would be looked for again from each quote in it."""
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_AT_ONCE = 64 * 2**10
"""Bytes of a body that are checked without a thread: this takes a few milliseconds at worst."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Limits:
    """Hands whole, checked bodies to the application.

    Args:
        app: what comes next.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            RefusedError: a limit is passed.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._check_headers(scope, headers)
        named = {name: value for name, value in headers if name.startswith((b"content-", b"transfer-"))}
        if not (named.get(b"content-length", b"0").strip(b"0") or b"transfer-encoding" in named):
            await self._app(scope, receive, send)
            return
        self._check_declared(named)
        holder = _Body(receive)
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while holder.more:
                    size = await holder.read()
                    self._held += size  # not in one statement: other requests count while this one waits
                    self._check_size(holder.size)
            if holder.size > _AT_ONCE:  # in a thread, so that other requests go on meanwhile
                await asyncio.to_thread(self._check_content, holder.body)
            else:
                self._check_content(holder.body)
            await self._app(scope, holder.replay, send)
        except TimeoutError:
            if holder.more:
                limit = f"{self._settings.body_seconds:g} s"
                raise RefusedError(f"the request's body did not come within {limit}", 408) from None
            raise
        finally:
            self._held -= holder.size

    def _check_headers(self, scope: Scope, headers: list[tuple[bytes, bytes]]) -> None:
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in headers)
        if size > self._settings.max_header_bytes:
            most = f"at most {self._settings.max_header_bytes:,} bytes are allowed"
            raise RefusedError(f"the request's line and headers have {size:,} bytes; {most}", 431)

    def _check_declared(self, named: dict[bytes, bytes]) -> None:
        coding = named.get(b"content-encoding", b"identity").strip().lower()
        if coding not in (b"identity", b""):
            raise RefusedError("compressed requests are not accepted; send the body as it is", 415)
        kind = named.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
            raise RefusedError("send JSON with the header 'Content-Type: application/json'", 415)
        length = named.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._settings.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> RefusedError:
        most = self._settings.max_body_bytes
        return RefusedError(f"the request's body has more than {most:,} bytes, which is the most allowed", 413)

    def _check_size(self, size: int) -> None:
        if size > self._settings.max_body_bytes:
            raise self._too_large()
        if self._held > self._settings.max_buffered_bytes:
            raise unavailable("the server holds as much of other requests as it can; ask again later")

    def _check_content(self, body: bytes) -> None:
        try:
            body.decode()
        except UnicodeDecodeError as err:
            raise RefusedError(f"the request's body is not UTF-8 at byte {err.start}", 400) from None
        depth, most = nesting(body, self._settings.max_depth), self._settings.max_depth
        if depth > most:
            raise RefusedError(f"lists and objects of the request are nested more than {most} deep", 400)
        if _SURROGATE.search(body) and not _is_unicode(body):
            raise RefusedError("the request holds half of a surrogate pair, which is not a character", 400)


def _is_unicode(body: bytes) -> bool:
    """Whether the strings of a JSON text can be encoded; what is not JSON is for the routes to say."""
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    except ValueError:
        pass
    return True


class _Body:
    """A body while it is read, and again afterwards."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._parts: list[bytes] = []
        self.body = b""
        self.size, self.more, self._given = 0, True, False

    async def read(self) -> int:
        """Read one piece; its size."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise RefusedError("the client went away", 499)
        part: bytes = message.get("body", b"")
        self._parts.append(part)
        self.size += len(part)
        self.more = message.get("more_body", False)
        if not self.more:
            self.body = b"".join(self._parts)
            self._parts.clear()
        return len(part)

    async def replay(self) -> Message:
        """The whole body, then what comes after it."""
        if self._given:
            return await self._receive()
        self._given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


def nesting(body: bytes, most: int) -> int:
    """The levels of lists and objects of a JSON text; it is exact only where there are more than `most` brackets.

    It takes time in proportion to the length, whatever the text. Of a text whose brackets do not pair, at least half.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return 0
    rest, depth = _STRING.sub(b"", body).translate(_ONE_KIND, _NO_BRACKETS), 0
    while depth <= most and b"[]" in rest:  # takes away the innermost level
        rest, depth = rest.replace(b"[]", b""), depth + 1
    return max(depth, rest.count(b"["))
