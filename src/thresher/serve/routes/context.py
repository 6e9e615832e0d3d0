"""`/context`: passages pruned to the sentences that help with a query; `/expand`: what was dropped of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from thresher.context.pruned import join_passages
from thresher.records import Hit, Span
from thresher.serve.bodies import Body, Document, check_documents, check_query
from thresher.serve.handles import expanded, owner_of
from thresher.serve.served import Served, scores_of
from thresher.serve.services import Services

if TYPE_CHECKING:
    from thresher.context.pruned import PrunedPassage
    from thresher.records import Passage


class Posted(BaseModel):
    """A passage that a request brings along.

    Attributes:
        text: the passage.
        docno: what it is called; its position by default.
        title: a title or heading.
    """

    model_config = ConfigDict(extra="forbid")

    text: str
    docno: str | None = None
    title: str = ""

    @property
    def all(self) -> str:
        """Its texts together: the title is read with every sentence."""
        return f"{self.docno or ''}{self.title}{self.text}"


class ContextBody(Body):
    """Passages to prune: one of `texts`, `passages` and `docnos`.

    Attributes:
        query: any text.
        texts: passages as texts.
        passages: passages with titles.
        docnos: passages that are in the index.
        threshold: keep sentences that score at least this, or as a preset says; by default as the index's settings say.
        max_tokens: over all passages together.
        keep_title: a passage of which something is kept keeps its title.
        min_keep: sentences that each passage keeps at least.
        ellipsis: replaces what was dropped.
    """

    query: str
    texts: list[str] | None = None
    passages: list[Posted] | None = None
    docnos: list[str] | None = None
    threshold: float | str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    keep_title: bool = True
    min_keep: int = Field(default=0, ge=0)
    ellipsis: str = Field(default="", max_length=100)

    @model_validator(mode="after")
    def _one_of_three(self) -> ContextBody:
        if sum(one is not None for one in (self.texts, self.passages, self.docnos)) != 1:
            raise ValueError("give one of texts, passages and docnos")
        return self


class ExpandBody(Body):
    """A handle, or a passage of the index.

    Attributes:
        handle: as it came with a pruned passage.
        docno: a passage.
        spans: what was kept of it, ranges of code points; nothing by default.
    """

    handle: str | None = None
    docno: str | None = None
    spans: list[tuple[int, int]] = Field(default=[])

    @model_validator(mode="after")
    def _one_of_two(self) -> ExpandBody:
        if (self.handle is None) == (self.docno is None):
            raise ValueError("give a handle, or a docno")
        if self.handle is not None and (self.spans or self.index):
            raise ValueError("a handle knows its index and its spans; give these with a docno only")
        return self


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["context"], default_response_class=Document)

    @routes.post("/context")
    async def context(body: ContextBody, request: Request) -> Document:
        """Passages with what helps with a query, and a handle each, with which /expand gives back the rest."""
        check_query(services.settings, body.query)
        check_documents(services.settings, "text", body.texts or [])
        check_documents(services.settings, "passage", [one.all for one in body.passages or []])
        check_documents(services.settings, "docno", body.docnos or [])
        served = services.served(request, body.index)
        return Document(
            await services.work.run(pruned, services, served, body, request=request, deadline_ms=body.deadline_ms)
        )

    @routes.post("/expand")
    async def expand(body: ExpandBody, request: Request) -> Document:
        """A passage as it was before it was pruned, and what was dropped of it."""

        def passage_of(name: str, docno: str) -> Passage:
            return services.served(request, name).index.passage(docno)

        def document() -> dict[str, object]:
            if body.handle is not None:
                return services.handles.open(body.handle, owner_of(services.caller(request)), passage_of).as_json()
            served = services.served(request, body.index)
            spans = [Span(start, end) for start, end in body.spans]
            return expanded(served.name, served.index.passage(body.docno or ""), spans).as_json()

        return Document(await services.work.run(document, request=request, deadline_ms=body.deadline_ms))

    return routes


def pruned(services: Services, served: Served, body: ContextBody) -> dict[str, object]:
    """The document that answers a request for context."""
    pruner, default = served.pruner
    passages = _passages(served, body)
    found = pruner.select(
        scores_of(pruner, body.query, passages),
        threshold=default if body.threshold is None else body.threshold,
        max_tokens=body.max_tokens,
        keep_title=body.keep_title,
        min_keep=body.min_keep,
        ellipsis=body.ellipsis,
    )
    owner = owner_of(served.caller)

    def handle(one: PrunedPassage, given: Passage | Hit) -> str:
        if body.docnos is not None:
            return services.handles.of_passage(served.name, one.docno, one.original, one.spans, owner)
        return services.handles.of_text(one.docno, given.title, one.original, one.spans, owner)

    text = join_passages(found)
    return {
        "query": body.query,
        "scorer": pruner.scorer.name,
        "threshold": found[0].threshold if found else None,
        "passages": [
            _as_json(one) | {"handle": handle(one, given)} for one, given in zip(found, passages, strict=True)
        ],
        "context": text,
        "tokens": pruner.count_tokens(text) if text else 0,
        "original_tokens": sum(one.original_tokens for one in found),
    }


def _passages(served: Served, body: ContextBody) -> list[Passage | Hit]:
    """What is to be pruned. Posted docnos may be any text, so these passages are hits."""
    if body.docnos is not None:
        return list(served.index.passages(body.docnos))
    posted = body.passages or [Posted(text=text) for text in body.texts or []]
    return [
        Hit(str(place) if one.docno is None else one.docno, 0.0, place + 1, one.text, one.title)
        for place, one in enumerate(posted)
    ]


def _as_json(one: PrunedPassage) -> dict[str, object]:
    return {
        "docno": one.docno,
        "title": one.title,
        "text": one.text,
        "spans": [[span.start, span.end] for span in one.spans],
        "sentences": [
            {"start": span.start, "end": span.end, "score": round(score, 6), "kept": kept}
            for span, score, kept in zip(one.sentences, one.scores, one.keep, strict=True)
        ],
        "relevance": one.relevance,
        "tokens": one.tokens,
        "original_tokens": one.original_tokens,
    }
