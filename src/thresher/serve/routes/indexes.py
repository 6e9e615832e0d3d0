"""`/indexes/NAME`: what an index holds, how good its passages are, and its commits, for keys that see all of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Query, Request

from thresher.errors import ArtifactError
from thresher.search.index import Index
from thresher.search.overview import kept_commits, overview, quality_of
from thresher.serve.bodies import Document
from thresher.serve.refusals import not_found, not_in_shards, unavailable
from thresher.serve.routes.status import shards_of
from thresher.serve.services import Services

if TYPE_CHECKING:
    from thresher.serve.served import Served


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(prefix="/indexes", tags=["status"], default_response_class=Document)
    qualities = Qualities()

    def whole(request: Request, name: str) -> Served:
        services.require_unrestricted(request)
        return services.served(request, name)

    @routes.get("/{name}")
    async def index(name: str, request: Request) -> Document:
        """Counts of an index, its encoder, fields, recipe, stages, and certificate where it has one."""
        served = whole(request, name)

        def document() -> dict[str, object]:
            pipeline, told = served.pipeline, served.hosted.certificate.now().document
            stages = {"stages": [stage.name for stage in pipeline.stages], "without": pipeline.off}
            return {"name": name, **_counts(served), **stages, "certificate": told}

        return Document(await services.work.run(document, request=request))

    @routes.get("/{name}/quality")
    async def quality(
        name: str,
        request: Request,
        bins: Annotated[int, Query(ge=1, le=200)] = 20,
        examples: Annotated[int, Query(ge=0, le=50)] = 3,
    ) -> Document:
        """A histogram of the quality of some passages, with examples of what pruning put aside."""
        served = whole(request, name)
        return Document(await services.work.run(qualities.of, served, bins, examples, request=request))

    @routes.get("/{name}/commits")
    async def commits(name: str, request: Request) -> Document:
        """The commits that are kept, newest first."""
        served = whole(request, name)
        index = served.hosted.one_piece("each shard has commits of its own; `thresher info` lists those of a folder")
        return Document({"commits": await services.work.run(kept_commits, index, request=request)})

    @routes.get("/{name}/shadow")
    async def shadow(name: str, request: Request) -> Document:
        """What requests have shown that were asked on the unpruned index too."""
        whole(request, name)
        compared = services.hosted[name].shadow
        if compared is None:
            raise not_found(f"the index {name!r} is not compared with another; start the server with --shadow")
        return Document((await services.work.run(compared.report, request=request)).as_json())

    return routes


def _counts(served: Served) -> dict[str, object]:
    """What an index holds, as `overview`; of one in shards what its coordinator knows."""
    index = served.index
    if isinstance(index, Index):
        return overview(index)
    return {
        "commit": index.commit,
        "passages": len(index),
        "fields": dict(index.schema),
        "recipe": index.recipe.model_dump(mode="json", exclude_defaults=True),
        "shards": shards_of(served),
    }


def _computed(served: Served, index: Index, bins: int, examples: int) -> dict[str, object] | None:
    try:
        return quality_of(index, bins=bins, examples=examples, device=served.hosted.device)
    except ArtifactError:
        served.hosted.refresh()
        if served.hosted.index is index:
            raise
        raise unavailable("the index was built again meanwhile; ask again") from None


class Qualities:
    """The last answer for each commit, since a model may have read hundreds of passages for it.

    A commit is known by its open index and not by its number: an index that was built again begins with 1 again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: WeakKeyDictionary[Index, tuple[tuple[int, int], dict[str, object]]] = WeakKeyDictionary()

    def of(self, served: Served, bins: int, examples: int) -> dict[str, object]:
        """As `quality_of`.

        Raises:
            RefusedError: 501, the index is in shards; 404, it was not pruned by an estimator; 503, another request is
                having it computed: those that waited would hold a worker each; or it was built again meanwhile.
        """
        index, asked = served.index, (bins, examples)
        if not isinstance(index, Index):
            raise not_in_shards(served.name, "ask the server of one shard for the quality of its passages")
        known = self._found.get(index)
        if known is not None and known[0] == asked:
            return known[1]
        if not self._lock.acquire(blocking=False):
            raise unavailable("the quality of passages is being computed for another request; ask again later", 2.0)
        try:
            made = _computed(served, index, bins, examples)
            if made is None:
                raise not_found(f"the index {served.name!r} was not pruned by a quality estimator: it has no scores")
            self._found[index] = asked, made
            return made
        finally:
            self._lock.release()
