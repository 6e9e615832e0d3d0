"""The tools over streamable HTTP: who is let in, how much they may send, and the server that listens.

The door refuses requests without a key that is known, from pages of other origins, and beyond the limits of
`ServeSettings`; the protocol's own checks of the Host header follow. A session belongs to the key that began it.
"""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.transport_security import TransportSecuritySettings
from starlette.middleware.cors import CORSMiddleware

from thresher.serve.dialects.faults import written
from thresher.serve.keys import caller_of
from thresher.serve.limits import Limits
from thresher.serve.mcp.face import mcp_server
from thresher.serve.refusals import RefusedError, forbidden, not_found, status_of, unknown_key
from thresher.serve.run import Server
from thresher.serve.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from thresher.serve.mcp.toolbox import Toolbox
    from thresher.serve.settings import ServeSettings

_log = logging.getLogger(__name__)
PATH = "/mcp"
HEALTH = "/health"
_HEADERS = [
    "authorization", "content-type", "last-event-id", "mcp-method", "mcp-name", "mcp-protocol-version", "mcp-session-id"
]  # fmt: skip
"""What a page's client sends beside the headers that browsers allow."""


class Door:
    """An ASGI application that lets some requests through to another.

    Args:
        app: what comes next.
        box: settings, and the work that a stopping server waits for.
    """

    def __init__(self, app: ASGIApp, box: Toolbox) -> None:
        self._app, self._settings = Limits(app, box.settings), box.settings
        self.state = SimpleNamespace(services=box)
        self._outer: ASGIApp = self._answer
        if box.settings.cors:  # around the door, so that a page may read refusals too
            self._outer = CORSMiddleware(
                self._answer, allow_origins=list(box.settings.cors), allow_methods=["GET", "POST", "DELETE"],
                allow_headers=_HEADERS, expose_headers=["mcp-session-id"],
            )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._outer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if scope["path"] == HEALTH:
                await _send(sending, 200, {"status": "ok"}, {})
                return
            self._check(scope)
            await self._app(scope, receive, sending)
        except Exception as err:
            if begun:
                raise
            if not isinstance(err, RefusedError):
                _log.exception("a request failed")
            message = str(err) if isinstance(err, RefusedError) else "the server failed; its log has the cause"
            status, document = written(PATH, status_of(err), message)
            await _send(sending, status, document, err.headers if isinstance(err, RefusedError) else {})

    def _check(self, scope: Scope) -> None:
        """Refuse who may not come in; note who comes."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin", "")
        if origin and origin not in self._settings.cors and not self._own(origin):
            raise forbidden("pages of this origin may not use the server; allow it with --cors")
        given = headers.get(b"authorization", "")
        caller = caller_of(self._settings.keys, given)
        if caller is None:
            raise unknown_key()
        if scope["path"] != PATH:
            raise not_found(f"there is nothing here; the protocol is served at {PATH}")
        if self._settings.keys:
            scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=caller.name, scopes=[]))

    def _own(self, origin: str) -> bool:
        """Whether a page was served by this machine, to a server that only this machine reaches."""
        return is_loopback(self._settings.host) and is_loopback(urlsplit(origin).hostname or "")


async def _send(send: Send, status: int, document: dict[str, object], headers: dict[str, str]) -> None:
    body = json.dumps(document).encode()
    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    given += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


def mcp_app(box: Toolbox) -> Door:
    """The ASGI application that serves a toolbox at `/mcp`."""
    settings = box.settings
    app = mcp_server(box).streamable_http_app(
        streamable_http_path=PATH,
        host=settings.host,
        max_request_body_size=settings.max_body_bytes,
        transport_security=_hosts(settings),
    )
    return Door(app, box)


def _hosts(settings: ServeSettings) -> TransportSecuritySettings:
    """Which Host headers are served: this machine's names where no key is asked, else all (the door sees to origins).

    A page of the web that has its own name resolve to this machine sends its own name.
    """
    if settings.keys or settings.without_key:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    names = ["127.0.0.1", "localhost", "[::1]", f"[{settings.host}]" if ":" in settings.host else settings.host]
    origins = [f"{scheme}://{name}" for name in names for scheme in ("http", "https")]
    return TransportSecuritySettings(
        allowed_hosts=[*names, *(f"{name}:*" for name in names)],
        allowed_origins=[*settings.cors, *origins, *(f"{origin}:*" for origin in origins)],
    )


def http_server(box: Toolbox, started: Callable[[Server], None] = lambda _: None) -> Server:
    """A server on the address of the settings; `run()` serves until the signal to stop."""
    return Server(mcp_app(box), box.settings, started=lambda server, _: started(server))
