"""The search page at `/`: a static bundle, served from the package. It asks the other routes as any client does."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from fastapi import APIRouter, Request, Response

from thresher.serve.refusals import not_found

if TYPE_CHECKING:
    from thresher.serve.services import Services

START: Final = "search.html"
ICON: Final = "icon.svg"
KINDS: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Media types by the end of a file's name; other files in the bundle are not served."""
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the URL holds the query
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # asked again each time, by its tag: a new release shows at once
}


class File(NamedTuple):
    """A file of the bundle: its bytes, media type and entity tag."""

    body: bytes
    kind: str
    tag: str


def bundle() -> dict[str, File]:
    """The files of the page by name."""
    found: dict[str, File] = {}
    for file in files("thresher.serve").joinpath("page").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None and file.is_file():
            body = file.read_bytes()
            found[file.name] = File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return found


def router(_: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(include_in_schema=False)
    there = bundle()

    def answer(name: str, request: Request) -> Response:
        if name not in there:
            raise not_found(f"the search page has no file {name!r}")
        file = there[name]
        headers = {**HEADERS, "etag": file.tag}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.kind, headers=headers)

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def start(request: Request) -> Response:
        """The search page."""
        return answer(START, request)

    @routes.api_route("/favicon.ico", methods=["GET", "HEAD"])
    async def icon(request: Request) -> Response:
        """Its icon."""
        return answer(ICON, request)

    @routes.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        """A file that it consists of."""
        return answer(name, request)

    return routes
