"""`/retrieval`: the external knowledge contract of Dify and RAGFlow.

https://docs.dify.ai/en/use-dify/knowledge/external-knowledge-api: `knowledge_id` is the name of an index. A record's
`content` is what the pipeline keeps of a passage. Its `score` is the passage's `confidence`, the highest probability
that one of its sentences helps with the query (0 for a passage that the deadline left unread); where no stage scores
sentences it is the passage's search score as a share of the best one's. Records come in the order of the ranking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from thresher.serve.bodies import Document, check_k, check_query
from thresher.serve.conditions import MetadataCondition, as_filter
from thresher.serve.handles import owner_of
from thresher.serve.refusals import not_found
from thresher.serve.served import Served
from thresher.serve.services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.pipeline.answer import Answer, AnswerPassage


OURS = ("docno", "handle")
"""What a record's metadata has besides the passage's own."""


class RetrievalSetting(BaseModel):
    """How much is wanted.

    Attributes:
        top_k: records at most.
        score_threshold: the least score.
    """

    model_config = ConfigDict(extra="ignore")

    top_k: int | None = Field(default=None, ge=1)
    score_threshold: float | None = Field(default=0.0, ge=0, le=1)


class RetrievalBody(BaseModel):
    """A request as Dify sends it.

    Attributes:
        knowledge_id: the name of an index.
        query: any text.
        retrieval_setting: how much is wanted.
        metadata_condition: which passages are wanted.
    """

    model_config = ConfigDict(extra="ignore")

    knowledge_id: str
    query: str
    retrieval_setting: RetrievalSetting = Field(default_factory=RetrievalSetting)
    metadata_condition: MetadataCondition | None = None


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["dialects"], default_response_class=Document)

    @routes.post("/retrieval")
    async def retrieval(body: RetrievalBody, request: Request) -> Document:
        """The passages of an index that help with a query."""
        check_k(services.settings, body.retrieval_setting.top_k, "top_k")
        check_query(services.settings, body.query)
        if not body.knowledge_id:
            raise not_found("knowledge_id is empty; give the name of an index")
        served = services.served(request, body.knowledge_id)

        def answered() -> Answer:
            where = as_filter(body.metadata_condition, served.index)
            return served.ask(body.query, body.retrieval_setting.top_k, where=where)

        answer = await services.work.run(answered, request=request)
        request.state.usage = answer.usage
        least = body.retrieval_setting.score_threshold or 0.0
        return Document({"records": records(services, served, answer, least)}, headers=served.headers)

    return routes


def records(services: Services, served: Served, answer: Answer, least: float) -> list[dict[str, object]]:
    """The passages of which something is kept and that reach a score, as the contract has them."""
    owner = owner_of(served.caller)

    def metadata(one: AnswerPassage) -> dict[str, object]:
        handle = services.handles.of_passage(served.name, one.docno, one.original, one.spans, owner)
        return {**renamed(one.metadata), "docno": one.docno, "handle": handle}

    return [
        {"content": one.text, "score": score, "title": one.title or one.docno, "metadata": metadata(one)}
        for one, score in zip(answer.passages, scores(answer.passages), strict=True)
        if one.spans and score >= least
    ]


def renamed(metadata: Mapping[str, object]) -> dict[str, object]:
    """A passage's metadata, where fields that have our names get an underscore behind, so that none is lost."""
    found = {name: value for name, value in metadata.items() if name not in OURS}
    for name in OURS:
        if name in metadata:
            free = f"{name}_"
            while free in found:
                free += "_"
            found[free] = metadata[name]
    return found


def scores(passages: Sequence[AnswerPassage]) -> list[float]:
    """A score of 0 to 1 for each passage, as this module's description says."""
    found = [one.confidence for one in passages]
    if any(one is not None for one in found):
        return [round(min(1.0, max(0.0, one or 0.0)), 6) for one in found]
    searched = [max(0.0, one.scores.get("search", 0.0)) for one in passages]
    best = max(searched, default=0.0)
    return [round(one / best, 6) if best else 0.0 for one in searched]
