"""What every model server needs: addresses, one client for each event loop, and one way to post JSON.

An answer costs bounded memory and time: at most `ANSWER_BYTES` (and six bytes for each byte sent, for servers that
repeat the passages) are read and unpacked, within the time limit. Redirects are not followed. An error is read in
the dialects of several servers, and one that is reported under status 200 is an error.

What a server says becomes a message or an answer only without the key, see `thresher.llm.keys`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from thresher.errors import ConfigError, MissingExtraError, ModelError, require
from thresher.llm.background import PerLoop
from thresher.llm.model import RefusedRequestError, TransientModelError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import httpx2

    from thresher.llm.keys import Key, KeySource
    from thresher.llm.model import Json

    Hook = Callable[[list[tuple[str, object]]], object]

CONNECTIONS = 64
"""The most open connections of a client, by default."""

KEEP_ALIVE = 300.0
"""Seconds an idle connection stays open."""

ANSWER_BYTES = 4 << 20
"""The most bytes of an answer, unpacked, besides six for each byte of the request."""

ERROR_BYTES = 64 << 10
"""The most bytes read of an error."""

MESSAGE = 500
"""The most characters of a server's own words in a message."""

TRANSIENT = frozenset((408, 409, 424, 425, 429, *range(500, 600))) - {501}
"""Statuses after which the same request may succeed; 501 says that the server has no such thing."""

NOT_RUN = frozenset((429, 503))
"""Statuses of requests that certainly were not worked on, and cost nothing."""

DEPTH = 64
"""The most levels of an answer."""


def server_url(base: str, version: str, endpoints: Sequence[str]) -> str:
    """The address to which an endpoint is appended: `base` as people write it, with its version.

    Spaces around it, a trailing slash, an endpoint and a repeated version are dropped. A version in `base` stays; one
    is added if there is none and `base` is a bare host, or if `version` begins with a slash.

    Args:
        base: with or without version and endpoint: `http://host:8000`, `https://host/api/v1/`, `http://host/v1/rerank`.
        version: added where `base` has none, as `v1`; `/v1` if also after another path; empty for none.
        endpoints: what `base` may end with, as `/rerank`.

    Raises:
        ConfigError: it is not an http(s) address, or contains a user, password, query or fragment.
    """
    if not isinstance(base, str) or not base.strip():
        raise ConfigError(f"a server's address must be text such as http://localhost:8000/v1; got {_shown(base)}")
    base = base.strip()
    parts = host = port = None
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError:
        pass
    if parts is None or (host and port is None and parts.netloc.rpartition("]")[2].rpartition("@")[2].count(":") > 1):
        _bad_url(base, "it cannot be read; a port is 1 to 65535, and an IPv6 address stands in brackets")
    if parts.scheme not in ("http", "https"):
        _bad_url(base, "it must start with http:// or https://")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        _bad_url(base, "it contains a user, password, query or fragment; give keys through the environment")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not host or port == 0 or not all(char.isprintable() and not char.isspace() for char in base):
        _bad_url(base, "a host and a port of 1 to 65535 are expected, without spaces")
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/")
    for endpoint in endpoints:
        path = path.removesuffix(endpoint)
    path = re.sub(r"(/v\d+)\1+$", r"\1", path)
    if version and not re.search(r"/v\d\w*(/|$)", path) and (not path or version.startswith("/")):
        path += f"/{version.lstrip('/')}"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _bad_url(base: str, why: str) -> NoReturn:
    raise ConfigError(f"{_shown(base)} is not the address of a server: {why}")


def _shown(base: object) -> str:
    """An address for a message, without what may be a secret."""
    if not isinstance(base, str):
        return type(base).__name__
    cut = re.sub(r"[?#].*", "?***", re.sub(r"^.*@", "***@", base, flags=re.DOTALL), flags=re.DOTALL)
    return repr(cut[:200]) if re.search(r"[/.:]", cut) else "this"  # a lone word may be a key in the wrong place


def retry_after_seconds(value: str | None) -> float | None:
    """The seconds in a Retry-After header: a number, or the time until a date; None if it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
        return max(seconds, 0.0) if seconds == seconds else None  # noqa: PLR0124  (NaN)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max((when - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def error_message(document: object) -> str:
    """The words of an error in the dialects of OpenAI, vLLM, TEI and FastAPI; empty if there are none."""
    if isinstance(document, str):
        return document
    if isinstance(document, list):
        return "; ".join(filter(None, map(error_message, document[:5])))
    if not isinstance(document, dict):
        return ""
    for name in ("error", "message", "msg", "detail", "errors"):
        if words := error_message(document.get(name)):
            place = document.get("param") or document.get("loc")
            place = ".".join(map(str, place)) if isinstance(place, list) else place
            return f"{place}: {words}" if isinstance(place, str) and place and place not in words else words
    return ""


def reported_error(document: object) -> object:
    """The error that an answer of status 200 reports, None if it reports none."""
    if not isinstance(document, dict):
        return None
    if document.get("error"):
        error = document["error"]
        return error if isinstance(error, dict) else {**document, "error": error}
    choices = document.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict) and choices[0].get("error"):
        error = choices[0]["error"]
        return error if isinstance(error, dict) else {"error": error}
    if document.get("object") == "error" or not ({"choices", "results", "usage"} & set(document)):
        return document if error_message(document) else None
    return None


def code_of(error: object) -> int | None:
    """The status that an error names as a number, as text, or by a word; None if it names none."""
    if not isinstance(error, dict):
        return None
    words = ""
    for name in ("code", "status", "status_code", "statusCode", "type", "error_type"):
        value = error.get(name)
        if isinstance(value, str) and re.fullmatch(r"\s*[1-5]\d\d\s*", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value < 600:
            return value
        words += f" {value}".lower()
    if re.search(r"rate.?limit|too.?many|overload", words):
        return 429
    if re.search(r"invalid|not.?found|auth|permission|denied|quota|unsupported|validation|bad.?request", words):
        return 400
    return None


def http_client(connections: int, timeout: float) -> httpx2.AsyncClient:
    """A client that keeps at most `connections` connections open and follows no redirects.

    Raises:
        MissingExtraError: httpx2 is not installed, or a proxy of the environment needs another package.
        ConfigError: a proxy or certificate file of the environment cannot be used.
    """
    httpx = require("httpx2", extra="llm", purpose="calling a model server")
    logging.getLogger("httpcore2.http11").addFilter(_no_headers)
    logging.getLogger("httpx2").addFilter(_no_reason)
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE
    )
    failure: Exception
    try:
        client: httpx2.AsyncClient = httpx.AsyncClient(
            verify=_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            limits=limits,
            timeout=timeout,
            follow_redirects=False,
        )
    except Exception as err:  # the environment is read here, and can hold anything
        failure = _environment_problem(err)
    else:
        return client
    raise failure


@cache
def _certificates(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """The certificates that are trusted, loaded once for each value of the variables that name them."""
    context: ssl.SSLContext = require("httpx2", extra="llm", purpose="calling a model server").create_ssl_context()
    return context


def _no_headers(record: logging.LogRecord) -> bool:
    """Whether a log record shows no headers of an answer, which may repeat the key."""
    return "receive_response_headers" not in record.getMessage()


def _no_reason(record: logging.LogRecord) -> bool:
    """Empty the reason phrase of an answer in a log record: it is the server's text, and may repeat the key."""
    if isinstance(record.args, tuple) and "HTTP Request" in str(record.msg):
        record.args = (*record.args[:-1], "")
    return True


def proxy_variables() -> dict[str, str]:
    """The variables of the environment that name a proxy, and their values."""
    names = [f"{scheme}_proxy" for scheme in ("all", "http", "https")]
    return {name: os.environ[name] for low in names for name in (low.upper(), low) if os.environ.get(name)}


def _environment_problem(err: Exception) -> Exception:
    """What is wrong with the environment, by the variable's name and without its value (a proxy has passwords)."""
    if isinstance(err, OSError | ssl.SSLError):
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if file := os.environ.get(name):
                return ConfigError(f"{name} names {file!r}, which holds no certificates ({err}); correct or unset it")
        return ConfigError(f"the system's certificates cannot be loaded: {err}")
    proxies = proxy_variables()
    socks = [name for name, value in proxies.items() if value.lower().startswith("socks")]
    if isinstance(err, ImportError) and socks:
        return MissingExtraError(
            f"{socks[0]} names a SOCKS proxy, which needs the package socksio. Install it with: pip install "
            "'httpx2[socks]', or unset the variable"
        )
    known = ("http://", "https://", "socks5://", "socks5h://")
    for name, value in proxies.items():
        if "://" in value and not value.lower().startswith(known):
            return ConfigError(f"{name} is not the address of a proxy (http:// or socks5://); correct or unset it")
    return ConfigError(
        f"{' or '.join(proxies) or 'the environment'} is not the address of a proxy; correct or unset it"
    )


class JsonServer:
    """A server that is posted JSON and answers JSON. One request is one attempt.

    Args:
        where: how messages name the server.
        key: where its key comes from.
        timeout: seconds after which a request without a whole answer has failed.
        connections: the most open connections.

    Raises:
        ConfigError: a number is out of range.
        MissingExtraError: httpx2 is not installed.
    """

    def __init__(self, where: str, key: KeySource, timeout: float, connections: int) -> None:
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not number or not 0 < timeout <= 1e6:
            raise ConfigError(f"timeout must be a number of seconds above 0 and up to 1e6, got {timeout!r}")
        if not isinstance(connections, int) or connections < 1:
            raise ConfigError(f"connections must be a whole number of at least 1, got {connections!r}")
        require("httpx2", extra="llm", purpose="calling a model server")
        self.where, self.key, self.timeout, self.connections = where, key, float(timeout), connections
        self._clients = PerLoop(lambda: http_client(connections, timeout), lambda client: client.aclose())

    def __reduce__(self) -> tuple[type[JsonServer], tuple[str, KeySource, float, int]]:
        return JsonServer, (self.where, self.key, self.timeout, self.connections)

    async def post(self, url: str, body: Json, hook: Hook | None = None) -> object:
        """The decoded answer to one request.

        Args:
            url: where.
            body: of the request.
            hook: makes an object of its names and values; by default the last of equal names counts.

        Raises:
            TransientModelError: no connection, no answer in time, an answer that is not JSON, or status 408, 409, 424,
                425, 429 or 5xx.
            RefusedRequestError: any other status.
            ModelError: an answer that is too large or nested too deep, or a certificate that is not accepted.
            ConfigError: the key or the environment cannot be used.
        """
        key = self.key.read()
        outcome = await self._exchange(url, body, key, hook)
        if isinstance(outcome, ModelError):
            raise outcome  # outside of any except block, so that it carries no exception that holds the headers
        return outcome

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        await self._clients.aclose()

    def close(self) -> None:
        """Close the connections that synchronous callers used."""
        self._clients.close()

    async def _exchange(self, url: str, body: Json, key: Key, hook: Hook | None) -> object:
        """The answer, or what went wrong as an exception that is not raised."""
        httpx = require("httpx2", extra="llm", purpose="calling a model server")
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        client = self._clients.get()
        try:
            async with (
                asyncio.timeout(self.timeout),
                client.stream("POST", url, content=data, headers=headers, auth=key.sign) as response,
            ):
                success = 200 <= response.status_code < 300
                limit = ANSWER_BYTES + 6 * len(data) if success else ERROR_BYTES
                answer = await _limited(response, limit)
            if success and len(answer) > limit:
                return ModelError(f"{self.where} sent an answer of more than {limit >> 20} MiB, which was not read")
            return self._read(response.status_code, response.headers, answer[:limit], key, hook)
        except zlib.error as err:
            return TransientModelError(f"{self.where} sent an answer that cannot be unpacked ({err})")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as err:  # OSError: also a TimeoutError
            return self._broken(err, key)

    def _broken(self, err: Exception, key: Key) -> ModelError:
        """An error of the connection as one of ours, without the key."""
        httpx = require("httpx2", extra="llm", purpose="calling a model server")
        if isinstance(err, TimeoutError | httpx.TimeoutException) and not isinstance(err, httpx.ConnectTimeout):
            return TransientModelError(f"{self.where} did not answer within {self.timeout:g} s")
        reason = key.hide(one_line(str(err)))[:MESSAGE]
        if isinstance(err, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
            if "CERTIFICATE" in reason.upper():
                return ModelError(f"{self.where} has a certificate that is not accepted ({reason})")
            proxies = " or ".join(proxy_variables())
            through = f"; the environment sets a proxy in {proxies}" if proxies else ""
            return TransientModelError(f"{self.where} cannot be reached ({reason}{through})", may_have_run=False)
        if isinstance(err, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
            return ModelError(f"{self.where} cannot be asked ({type(err).__name__})")
        return TransientModelError(f"{self.where} broke the connection ({type(err).__name__}: {reason})")

    def _read(self, status: int, headers: Mapping[str, str], answer: bytes, key: Key, hook: Hook | None) -> object:
        """A whole answer as JSON without the key, or the error it is."""
        document: object = None
        try:
            document = json.loads(answer, object_pairs_hook=hook)
            if _is_deep(document):
                raise RecursionError
            document = key.hidden(document)
        except RecursionError:
            return ModelError(f"{self.where} sent an answer that is nested too deep")
        except ValueError as err:
            if 200 <= status < 300:
                start = one_line(key.hide(answer[:MESSAGE].decode("utf-8", "replace")))[:80]
                problem = f"{type(err).__name__}; it begins with {start!r}"
                return TransientModelError(f"{self.where} sent an answer that is not JSON ({problem})")
        wait = retry_after_seconds(headers.get("retry-after"))
        if not 200 <= status < 300:
            said = error_message(document) or key.hide(answer.decode("utf-8", "replace"))
            if 300 <= status < 400:
                said = f"a redirect, which is not followed; give the final address. {said}"
            return self._error(status, f"status {status}", said, document, wait)
        if (error := reported_error(document)) is not None:
            code = code_of(error)
            return self._error(code, "an error", error_message(error) or "no message", error, wait)
        return document

    def _error(self, status: int | None, kind: str, said: str, document: object, wait: float | None) -> ModelError:
        said = one_line(said)[:MESSAGE]
        message = f"{self.where} answered with {kind}: {said}"
        if status is not None and status not in TRANSIENT:
            return RefusedRequestError(message, status, said)
        if "insufficient_quota" in json.dumps(document, default=str)[:ERROR_BYTES]:
            return RefusedRequestError(message, 402, said)
        return TransientModelError(message, wait, may_have_run=status not in NOT_RUN)


def _is_deep(document: object) -> bool:
    """Whether decoded JSON is nested deeper than any answer, so that walking it would end in a RecursionError."""
    level = [document]
    for _ in range(DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [value for values in inner for value in values]
        if not level:
            return False
    return True


async def _limited(response: httpx2.Response, limit: int) -> bytes:
    """The body, unpacked; a byte more than `limit` of it if it is longer."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise zlib.error(f"content encoding {encoding[:40]!r}, which was not asked for")
    unpack = None if encoding in ("", "identity") else zlib.decompressobj(47)  # 47: gzip or zlib, by its header
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk if unpack is None else unpack.decompress(chunk, limit + 1 - len(data))
        if len(data) > limit:
            break
    return bytes(data[: limit + 1])
