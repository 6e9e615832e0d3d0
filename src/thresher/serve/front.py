"""`Front`: ASGI middleware that knows who asks, counts and logs every request, and answers every error.

Only the middleware for CORS lies around it, so that pages of allowed origins may read errors too.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from thresher.serve.dialects.faults import written
from thresher.serve.keys import caller_of
from thresher.serve.metrics import log_request, trace
from thresher.serve.refusals import forbidden, headers_of, status_of, unavailable, unknown_key
from thresher.serve.settings import is_loopback
from thresher.serve.work import GONE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from thresher.serve.services import Services

_log = logging.getLogger(__name__)
_PLAIN_HOST = re.compile(r"[A-Za-z0-9_.-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
OPEN = frozenset({"/", "/health", "/ready", "/favicon.ico"})
"""Paths for which no key is asked."""
PROBES = frozenset({"/health", "/ready"})
"""Paths that are asked every few seconds for ever: no lines in the access log, which they would fill."""
CROWDED = "crowded"
"""In a request's state: it came on a connection beyond the limit, so it is refused and the connection closed."""
OPEN_BELOW = "/page/"
"""The same for the files of the search page."""


class Front:
    """Serves requests with an id, a caller, a line in the log, and an answer whatever happens.

    Args:
        app: what comes next.
        services: keys, metrics.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["arrived"], state["request_id"] = time.perf_counter(), _request_id(scope)
        # GET and HEAD have the same routes; the HTTP server sends no body where its own scope says HEAD
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        crowded = state.get(CROWDED, False)
        answer = _Answer(send, state["request_id"], closes=lambda: crowded or self._services.work.draining)
        try:
            if crowded:
                self._services.metrics.refused.labels("connections").inc()
                raise unavailable("the server has as many connections as it takes; ask again later")
            self._check_host(scope)
            state["caller"] = self._caller(scope)
            await self._app(inner, receive, answer.send)
        except Exception as err:
            if answer.status:  # it was begun: the connection is closed, so that the client sees that it is not complete
                _log.exception("the answer to %s failed", scope["path"])
                raise
            await answer.fail(scope, self._services, err)
        finally:
            self._account({**inner, "method": scope["method"]}, answer.status)

    def _check_host(self, scope: Scope) -> None:
        """Refuse what a page of the web sends under its own name to a server that anybody on this machine may ask."""
        settings = self._services.settings
        if settings.keys or settings.without_key:
            return
        given = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
        host = urlsplit(f"//{given}").hostname or "" if _PLAIN_HOST.fullmatch(given) else ""
        if host != settings.host.lower() and not is_loopback(host):
            raise forbidden(
                "this server has no key, so it answers only those who call it localhost; set a key with --api-key-env"
            )

    def _caller(self, scope: Scope) -> object:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        found = caller_of(self._services.settings.keys, given.decode("latin-1"))
        path: str = scope["path"]
        if found is None and scope["method"] != "OPTIONS" and path not in OPEN and not path.startswith(OPEN_BELOW):
            raise unknown_key()
        return found

    def _account(self, scope: Scope, status: int) -> None:
        state, services = scope["state"], self._services
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.perf_counter() - state["arrived"]
        services.metrics.answered(route, status, seconds)
        usage = state.get("usage")
        if usage is not None:
            services.metrics.observe(usage)
        caller = state.get("caller")
        fields: dict[str, str | int] = {"method": scope["method"], "route": route, "status": status}
        attributes: dict[str, str | int] = {
            "http.request.method": scope["method"], "http.route": route, "http.response.status_code": status,
        }  # fmt: skip
        trace(f"{scope['method']} {route}", state["arrived"], attributes, usage, scope["headers"])
        if services.settings.log and not (route in PROBES and status in (200, 503)):
            stages = {} if usage is None else {one.stage: round(one.seconds * 1000, 2) for one in usage.stages}
            log_request({
                "id": state["request_id"], **fields, "ms": round(seconds * 1000, 2),
                "caller": getattr(caller, "name", ""), **({"stages": stages} if stages else {}),
            })  # fmt: skip


class _Answer:
    """The answer while it is sent."""

    def __init__(self, send: Send, request_id: str, closes: object) -> None:
        self._send, self._id, self._closes = send, request_id, closes
        self.status = 0

    async def send(self, message: Message) -> None:
        """Send a part; the first gets the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
            if callable(self._closes) and self._closes():
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def fail(self, scope: Scope, services: Services, error: Exception) -> None:
        """Answer with an error, in the shape of the path's dialect."""
        if status_of(error) == GONE:
            self.status = GONE
            return
        status, message = told(error, services, self._id)
        status, document = written(scope["path"], status, message, scope.get("state", {}).get("shape"))
        body = json.dumps(document).encode()
        given = [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
        given += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": given})
        await self.send({"type": "http.response.body", "body": body})


def told(error: Exception, services: Services, request_id: str) -> tuple[int, str]:
    """The status of an error, and what a client is told of it: no path of this machine, of a failure only the id.

    A failure is logged with its traceback, and counted by the error's class.
    """
    status, message = status_of(error), str(error)
    if status == 500:
        _log.error("request %s failed", request_id, exc_info=error)
        services.metrics.failures.labels(type(error).__name__).inc()
        message = f"the server failed; its log has the cause under {request_id}"
    for hosted in services.hosts():
        message = hosted.told(message)
    return status, message


def _request_id(scope: Scope) -> str:
    """The client's own `X-Request-ID` where it is plain, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    text = given.decode("latin-1")
    plain = 0 < len(text) <= 64 and text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    return text if plain else secrets.token_hex(8)
