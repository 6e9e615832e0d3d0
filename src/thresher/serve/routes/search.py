"""`/search`: passages for a query; `/facets`: how many passages have each value of a field."""

from __future__ import annotations

import time
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from thresher.distributed.sharded import ShardedIndex
from thresher.records import Usage
from thresher.search.effort import Effort
from thresher.serve.bodies import Body, Document, Where, check_k, check_query
from thresher.serve.served import Served
from thresher.serve.services import Services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.distributed.opened_shards import OnMissing


class SearchBody(Body):
    """A search.

    Attributes:
        query: any text.
        k: passages.
        by: `sparse`, by weighted terms; `dense`, by vectors; `both`, the two fused.
        tiers: of an index with two tiers, `both`, only the `first`, or `auto`.
        recall: share of the exact answer to expect, above 0 and below 1; exact by default.
        where: only passages whose metadata match this filter, a mapping or a text.
        facets: fields whose values are counted over all passages that share a term with the query.
        texts: whether hits have their titles and texts.
        explain: say how each tier that was searched answered.
        effort: limits to what is done, as `Effort.parse` reads them: `terms=10,candidates=100`; none by default.
        on_missing: of an index in shards, whether an answer that lacks one is an `error` (503) or sent as `partial`; by
            default as the server was started.
    """

    query: str
    k: int = Field(default=10, ge=1)
    by: Literal["sparse", "dense", "both"] = "sparse"
    tiers: Literal["auto", "both", "first"] = "auto"
    recall: float | None = Field(default=None, gt=0, lt=1)
    where: Where | None = None
    facets: list[str] = Field(default=[], max_length=20)
    texts: bool = True
    explain: bool = False
    effort: str | None = None
    on_missing: Literal["error", "partial"] | None = None


class FacetsBody(Body):
    """Values to count.

    Attributes:
        fields: of the metadata.
        query: count the passages that share a term with it; all passages by default.
        where: only passages whose metadata match this filter.
        limit: values of each field, those that most passages have; all by default.
    """

    fields: list[str] = Field(max_length=20)
    query: str | None = None
    where: Where | None = None
    limit: int | None = Field(default=None, ge=1)


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["search"], default_response_class=Document)

    @routes.post("/search")
    async def search(body: SearchBody, request: Request) -> Document:
        """The k best passages for a query."""
        check_k(services.settings, body.k)
        check_query(services.settings, body.query)
        served = services.served(request, body.index)
        document, request.state.usage = await services.work.run(
            found, served, body, request=request, deadline_ms=body.deadline_ms
        )
        return Document(document, headers=served.headers)

    @routes.post("/facets")
    async def facets(body: FacetsBody, request: Request) -> Document:
        """How many passages have each value of some fields, most first."""
        check_query(services.settings, body.query or "")
        served = services.served(request, body.index)

        def document() -> dict[str, object]:
            counts = counted(served, body.fields, body.query, body.where, body.limit)
            return {"index": served.name, "commit": served.index.commit, "facets": counts}

        return Document(await services.work.run(document, request=request, deadline_ms=body.deadline_ms))

    return routes


def found(served: Served, body: SearchBody) -> tuple[dict[str, object], Usage]:
    """The document that answers a search, and what its stages took."""
    began = time.perf_counter()
    ranking = served.search(
        body.query,
        body.k,
        by=body.by,
        tiers=body.tiers,
        effort=None if body.effort is None else Effort.parse(body.effort),
        recall=body.recall,
        where=body.where,
        explain=body.explain,
        on_missing=body.on_missing,
    )
    searched = time.perf_counter()
    hits = [
        {
            "rank": hit.rank,
            "docno": hit.docno,
            "score": hit.score,
            "tier": int(tier),
            **({"title": hit.title, "text": hit.text} if body.texts else {}),
            "metadata": dict(hit.metadata),
            "aliases": list(hit.aliases),
        }
        for hit, tier in zip(ranking, ranking.tiers, strict=True)
    ]
    read = time.perf_counter()
    usage = Usage().with_stage("search", searched - began).with_stage("texts", read - searched)
    document: dict[str, object] = {
        "index": served.name,
        "commit": served.index.commit,
        "exact": ranking.exact,
        "expected_recall": ranking.expected_recall,
        "complete": ranking.complete,
        "escalated": ranking.escalated,
        "hits": hits,
    }
    if body.facets:
        document["facets"] = counted(served, body.facets, body.query, body.where, on_missing=body.on_missing)
        usage = usage.with_stage("facets", time.perf_counter() - read)
    if body.explain:
        document["explanations"] = [asdict(one) for one in ranking.explanations]
    if isinstance(served.index, ShardedIndex):
        document["missing_shards"] = list(served.missing)
        document["complete"] = ranking.complete and not served.missing
    return document, usage


def counted(
    served: Served,
    fields: Sequence[str],
    query: str | None,
    where: Where | None,
    limit: int | None = None,
    on_missing: OnMissing | None = "error",
) -> dict[str, object]:
    """The values of some fields with their counts, as JSON has them."""
    found = {field: islice(served.facets(field, query, where, on_missing).items(), limit) for field in fields}
    return {field: [{"value": value, "count": count} for value, count in values] for field, values in found.items()}
