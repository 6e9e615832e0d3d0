"""`/embed_sparse`, `/embed`, `/v1/embeddings` and `/v1/models`: posted texts as vectors or weighted terms."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from fastapi import APIRouter, Request

from thresher.errors import InputError
from thresher.pipeline.deadline import Deadline, stop_if_abandoned
from thresher.pipeline.shared import passage_vectors
from thresher.serve.bodies import Document, check_documents, written
from thresher.serve.dialects.encoding import EmbedBody, EmbeddingsBody, described, embedded, listed, weighted
from thresher.serve.models import STEP
from thresher.serve.refusals import not_found, unavailable
from thresher.serve.services import Services
from thresher.serve.work import left_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.encode.dense import MiniLMEncoder
    from thresher.serve.settings import ServeSettings


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["encode"])

    @routes.post("/v1/embeddings", response_model=dict[str, object])
    async def embeddings(body: EmbeddingsBody, request: Request) -> Document:
        """Vectors of texts (OpenAI)."""
        return await services.work.run(written(openai_vectors), services, body, request=request)

    @routes.post("/embed", response_model=list[list[float]])
    async def embed(body: EmbedBody, request: Request) -> Document:
        """Vectors of texts (text-embeddings-inference)."""

        def vectors() -> list[list[float]]:
            texts = checked(body.texts(), services.settings)
            found = vectors_of(services.models.dense(), texts).astype(np.float32)
            return [row.tolist() for row in found]

        return await services.work.run(written(vectors), request=request)

    @routes.post("/embed_sparse", response_model=list[list[dict[str, int | float]]])
    async def embed_sparse(body: EmbedBody, request: Request) -> Document:
        """Weighted terms of texts (text-embeddings-inference)."""

        def terms() -> list[list[dict[str, int | float]]]:
            texts = checked(body.texts(), services.settings)
            return weighted(services.models.sparse(texts, queries=body.prompt_name == "query"))

        return await services.work.run(written(terms), request=request)

    @routes.get("/v1/models")
    async def models() -> dict[str, object]:
        """The models that a request may name."""
        return listed(services.models.names)

    @routes.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, object]:
        """One of them."""
        if name not in services.models.names:
            raise not_found(f"there is no model {name!r} here; there are {', '.join(services.models.names)}")
        return described(name)

    return routes


def openai_vectors(services: Services, body: EmbeddingsBody) -> dict[str, object]:
    """The answer to a request of OpenAI's.

    Raises:
        InputError: the input holds token ids, or other dimensions are asked for.
    """
    encoder = services.models.dense(body.model)
    given = [body.input] if isinstance(body.input, str) else body.input
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) < len(given):
        raise InputError(
            "input holds token ids, of a vocabulary that this model does not have; send texts "
            "(LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False)"
        )
    if body.dimensions not in (None, encoder.dimensions):
        raise InputError(f"dimensions is {body.dimensions}; {encoder.name} has {encoder.dimensions}, and no fewer")
    checked(texts, services.settings)
    vectors, tokens = vectors_of(encoder, texts), sum(encoder.count_tokens(texts))
    return embedded(vectors, encoder.name, tokens, body.encoding_format)


def vectors_of(encoder: MiniLMEncoder, texts: Sequence[str]) -> NDArray[np.floating]:
    """Vectors of texts, float[n, dimensions], computed together with those of other requests.

    Raises:
        RefusedError: the deadline is over.
        AbandonedError: the client has gone away.
    """
    deadline = Deadline(left_ms(), time.perf_counter())
    parts = []
    for first in range(0, len(texts), STEP):
        stop_if_abandoned()
        part = passage_vectors(encoder, texts[first : first + STEP], deadline)
        if part is None:
            raise unavailable("the deadline was over before all texts were encoded")
        parts.append(part)
    return np.concatenate(parts)


def checked(texts: list[str], settings: ServeSettings) -> list[str]:
    """The texts of a request.

    Raises:
        InputError: there are none, or too many, or one is too long.
    """
    check_documents(settings, "text", texts, some=True)
    return texts
