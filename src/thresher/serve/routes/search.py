"""`/search`: passages for a query, and facets."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from thresher.errors import InputError
from thresher.serve.served import Served
from thresher.serve.services import Services


class SearchBody(BaseModel):
    """A search.

    Attributes:
        query: any text.
        index: the name of an index; the first by default.
        k: passages.
        by: `sparse`, by weighted terms; `dense`, by vectors; `both`, the two fused.
        where: only passages whose metadata match this filter, a mapping or a text.
        facets: fields whose values are counted over all passages that share a term with the query.
        texts: whether hits have their texts.
        deadline_ms: milliseconds from the request's arrival; 0 for no limit.
    """

    model_config = ConfigDict(extra="forbid")

    query: str
    index: str | None = None
    k: int = Field(default=10, ge=1)
    by: Literal["sparse", "dense", "both"] = "sparse"
    where: dict[str, object] | str | None = None
    facets: list[str] = Field(default=[], max_length=20)
    texts: bool = True
    deadline_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["search"])

    @routes.post("/search")
    async def search(body: SearchBody, request: Request) -> dict[str, object]:
        """The k best passages for a query."""
        settings = services.settings
        if body.k > settings.max_k:
            raise InputError(f"k is {body.k}; this server gives at most {settings.max_k} passages")
        if len(body.query) > settings.max_query_characters:
            raise InputError(f"the query has {len(body.query):,} characters; at most "
                             f"{settings.max_query_characters:,} are allowed")  # fmt: skip
        served = services.served(request, body.index)
        return await services.work.run(found, served, body, request=request, deadline_ms=body.deadline_ms)

    return routes


def found(served: Served, body: SearchBody) -> dict[str, object]:
    """The document that answers a search."""
    ranking = served.search(body.query, body.k, by=body.by, where=body.where)
    hits = [
        {
            "rank": hit.rank,
            "docno": hit.docno,
            "score": hit.score,
            **({"title": hit.title, "text": hit.text} if body.texts else {}),
            "metadata": dict(hit.metadata),
            "aliases": list(hit.aliases),
        }
        for hit in ranking
    ]
    document: dict[str, object] = {
        "index": served.name, "commit": served.index.commit, "exact": ranking.exact, "hits": hits
    }  # fmt: skip
    if body.facets:
        counted = {field: served.facets(field, body.query, body.where) for field in body.facets}
        document["facets"] = {
            field: [{"value": value, "count": count} for value, count in values.items()]
            for field, values in counted.items()
        }
    return document
