"""`/shard/...`: what a coordinator asks of an index that is one shard of several, see `thresher.distributed`.

The routes are for coordinators of the same release, and not in the documentation of the interface. They are there with
`ServeSettings.shard` only, for keys that may see all of the index: statistics and scores are those of the whole index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec.structs import replace

from thresher.distributed.messages import REQUESTS, CommitGoneError, Message, TopRequest, read_request, written
from thresher.distributed.shard import Shard
from thresher.errors import ConfigError
from thresher.search.index import Index
from thresher.serve.refusals import RefusedError, forbidden, not_found
from thresher.serve.services import Services
from thresher.serve.work import left_ms

if TYPE_CHECKING:
    from thresher.serve.hosted import Hosted

JSON = "application/json"


def router(services: Services) -> APIRouter:
    """The routes of this module; none where the server is not to answer coordinators."""
    routes = APIRouter(tags=["shard"])
    if not services.settings.shard:
        return routes
    shards = {name: _shard_of(hosted) for name, hosted in services.hosted.items()}

    @routes.post("/shard/{route}", include_in_schema=False)
    async def shard(route: str, request: Request, index: str | None = None) -> Response:
        """The answer to a coordinator's request."""
        served = services.served(request, index)
        if served.caller.where is not None:
            raise forbidden("a shard answers keys that may see all of it, and this one is limited by a filter")
        asked = _read(route, await request.body())
        limit = asked.deadline_ms if isinstance(asked, TopRequest) else None
        answer = await services.work.run(_answer, shards[served.name], asked, request=request, deadline_ms=limit)
        return Response(answer, media_type=JSON)

    return routes


def _shard_of(hosted: Hosted) -> Shard:
    """What answers for an index.

    Raises:
        ConfigError: it is in shards itself.
    """
    if not isinstance(hosted.index, Index):
        raise ConfigError(f"{hosted.path} lists shards, so it is not itself a shard; serve it without --shard")
    return Shard(lambda: hosted.one_piece("coordinators ask the shards themselves"))


def _read(route: str, body: bytes) -> Message:
    """The request that a body holds.

    Raises:
        RefusedError: there is no such route, or the body holds something else.
    """
    if route not in REQUESTS:
        raise not_found(f"shards are asked for {', '.join(REQUESTS)}; not for {route!r}")
    try:
        return read_request(route, body)
    except msgspec.MsgspecError as err:
        raise RefusedError(f"the body is not a request for {route}: {err}", 422) from None


def _answer(shard: Shard, asked: Message) -> bytes:
    """The answer as JSON; a search is told what its request has left, so that one that is cut short is still sent.

    Raises:
        RefusedError: the commit that is asked for is not open any more.
    """
    left = left_ms()
    if isinstance(asked, TopRequest) and left is not None:
        asked = replace(asked, deadline_ms=left)
    try:
        return written(shard.call(asked))
    except CommitGoneError as err:
        raise RefusedError(str(err), 410) from None
