"""`/v2/rerank`, `/v1/rerank`, `/rerank` and `/score`: posted texts scored for a query, in the dialects of others."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi import APIRouter, Depends, Request

from thresher.errors import InputError
from thresher.serve.bodies import Document, check_documents, check_query, written
from thresher.serve.dialects.faults import speak, tei
from thresher.serve.dialects.reranking import (
    AnyRerank,
    RerankBody,
    ScoreBody,
    TeiBody,
    is_tei,
    ranked,
    ranked_for_tei,
    scored_pairs,
)
from thresher.serve.services import Services
from thresher.serve.work import left_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.pipeline.text_ranker import TextRanker, TextScore
    from thresher.serve.settings import ServeSettings

Results = dict[str, object] | list[dict[str, object]]
"""Of Jina's and of TEI's."""


async def _whose(request: Request) -> None:
    """Have errors written as TEI's where the request is."""
    with suppress(ValueError):  # what is not JSON is refused when the body is read
        if is_tei(await request.json()):
            speak(request, tei)


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["rerank"])

    @routes.post("/v2/rerank", response_model=dict[str, object])
    async def rerank_v2(body: RerankBody, request: Request) -> Document:
        """Documents in order of their relevance, with the sentences that matter where asked for (Cohere)."""
        return await services.work.run(written(reranked), services, body, request=request)

    @routes.post("/v1/rerank", response_model=Results, dependencies=[Depends(_whose)])
    @routes.post("/rerank", response_model=Results, dependencies=[Depends(_whose)])
    async def rerank(body: AnyRerank, request: Request) -> Document:
        """Documents in order of their relevance (Jina, vLLM), or texts (text-embeddings-inference)."""
        if isinstance(body, TeiBody):
            return await services.work.run(written(reranked_for_tei), services, body, request=request)
        return await services.work.run(written(reranked), services, body, request=request)

    @routes.post("/v1/score", response_model=dict[str, object])
    @routes.post("/score", response_model=dict[str, object])
    async def score(body: ScoreBody, request: Request) -> Document:
        """The scores of pairs of texts (vLLM)."""
        return await services.work.run(written(scored), services, body, request=request)

    return routes


def reranked(services: Services, body: RerankBody) -> dict[str, object]:
    """The answer to a request with documents."""
    settings, texts = services.settings, body.texts()
    ranker = services.models.ranker(body.model)
    check_asked(body.query, settings)
    check_documents(settings, "document", texts, some=True, whole=False)
    scores = read(ranker, body.query, texts, settings, body.max_tokens_per_doc, spans=body.spans)
    return ranked(body, ranker.model, scores, tokens_of(ranker, [body.query], scores))


def reranked_for_tei(services: Services, body: TeiBody) -> list[dict[str, object]]:
    """The answer to a request with texts."""
    settings, ranker = services.settings, services.models.ranker()
    check_asked(body.query, settings)
    check_documents(settings, "text", body.texts, some=True, whole=False)
    texts = [fitting(ranker, text, body, settings) for text in body.texts]
    return ranked_for_tei(body, read(ranker, body.query, texts, settings))


def scored(services: Services, body: ScoreBody) -> dict[str, object]:
    """The answer to a request with pairs."""
    settings, (queries, texts) = services.settings, body.sides()
    ranker = services.models.ranker(body.model)
    check_documents(settings, "document", texts, some=True, whole=False)
    if len(queries) not in (1, len(texts)):
        raise InputError(f"there are {len(queries)} queries and {len(texts)} documents; give one query, or as many")
    for query in queries:
        check_asked(query, settings)
    places: dict[str, list[int]] = {}
    for place in range(len(texts)):
        places.setdefault(queries[place if len(queries) > 1 else 0], []).append(place)
    found: dict[int, TextScore] = {}
    for query, at in places.items():
        part = read(ranker, query, [texts[place] for place in at], settings, body.max_tokens_per_doc)
        found |= dict(zip(at, part, strict=True))
    scores = [found[place] for place in range(len(texts))]
    return scored_pairs(ranker.model, scores, tokens_of(ranker, queries, scores))


def read(
    ranker: TextRanker,
    query: str,
    texts: Sequence[str],
    settings: ServeSettings,
    max_tokens: int | None = None,
    *,
    spans: bool = False,
) -> list[TextScore]:
    """The scores of texts, as much of each as is read, in the time that the request has left."""
    most = min(max_tokens or settings.max_document_tokens, settings.max_document_tokens)
    left = left_ms()
    cut = [text[: settings.max_document_characters] for text in texts]
    return ranker.read(query, cut, spans=spans, max_tokens=most, seconds=None if left is None else left / 1000)


def tokens_of(ranker: TextRanker, queries: Sequence[str], scores: Sequence[TextScore]) -> int:
    """Word pieces of queries and of what was read of texts."""
    return sum(ranker.encoder.count_tokens(queries)) + sum(one.tokens for one in scores)


def check_asked(query: str, settings: ServeSettings) -> None:
    """Refuse a query that is empty or too long.

    Raises:
        InputError: it is.
    """
    if not query.strip():
        raise InputError("the query is empty")
    check_query(settings, query)


def fitting(ranker: TextRanker, text: str, body: TeiBody, settings: ServeSettings) -> str:
    """The text, without what is not read of it.

    Raises:
        InputError: it is too long, and the request does not allow to truncate it.
    """
    most, start = settings.max_document_tokens, (body.truncation_direction or "right").lower() == "right"
    if len(text) <= min(most, settings.max_document_characters):
        return text  # a word piece has at least one character
    longest = settings.max_document_characters
    part = text[:longest] if start else text[-longest:]
    (encoding,) = ranker.encoder.minilm.encodings([part])
    tokens = len(encoding.ids)
    if (tokens > most or part != text) and not body.truncate:
        raise InputError(f"a text has {tokens:,} tokens; at most {most:,} are allowed without truncate")
    if tokens <= most:
        return part
    return part[: encoding.offsets[most - 1][1]] if start else part[encoding.offsets[-most][0] :]
