"""Rerank requests and answers in the shapes of Cohere, Jina, vLLM and text-embeddings-inference (TEI).

Cohere, Jina and vLLM send `documents` and differ in what else they know; one request model takes all of it, one answer
has what each of them reads, and keys that none of them knows are ignored. TEI sends `texts` and gets a bare list.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from thresher.rerank.calibration import worth_reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.pipeline.text_ranker import TextScore

TEI_KEYS = frozenset({"texts"})
"""What a request has that is TEI's."""


class TextDocument(BaseModel):
    """A document with its text in a field; other fields are not read."""

    text: str


class RelevantSpans(BaseModel):
    """Which sentences an answer names.

    Attributes:
        mode: whether it names any.
        threshold: the least score, included.
        max_spans: of a document, at most.
    """

    mode: Literal["enabled", "disabled"]
    threshold: float = Field(default=0.1, ge=0, le=1)
    max_spans: int | None = Field(default=None, ge=1)


class RerankBody(BaseModel):
    """A request of Cohere's, Jina's or vLLM's.

    Attributes:
        query: any text.
        documents: what is scored, in full; one or several.
        model: a ranker's name; the best by default.
        top_n: results, best first; all documents where it is left out or 0.
        return_documents: whether results have the texts.
        max_tokens_per_doc: word pieces that are read of a document, from its start.
        relevant_spans: whether results have the sentences that matter, and which.
        min_score: results have at least this score; without it every document has a result.
        precision: as many first results as have this mean score, which is their expected precision.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{
        "query": "what separates grain from chaff?", "documents": ["A thresher does.", "Chaff is light."]
    }]})  # fmt: skip

    query: str
    documents: list[str | TextDocument] | str
    model: str | None = None
    top_n: int | None = Field(default=None, ge=0)
    return_documents: bool | None = None
    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    relevant_spans: RelevantSpans | None = None
    min_score: float | None = Field(default=None, ge=0, le=1)
    precision: float | None = Field(default=None, ge=0, le=1)

    def texts(self) -> list[str]:
        """The texts of the documents."""
        given = [self.documents] if isinstance(self.documents, str) else self.documents
        return [one if isinstance(one, str) else one.text for one in given]

    @property
    def spans(self) -> bool:
        """Whether sentences are asked for."""
        return self.relevant_spans is not None and self.relevant_spans.mode == "enabled"


class TeiBody(BaseModel):
    """A request of TEI's.

    Attributes:
        query: any text.
        texts: what is scored.
        truncate: read the texts that are too long in part; they are refused otherwise.
        truncation_direction: the end that is left out, the right one by default.
        raw_scores: give log-odds.
        return_text: whether results have the texts.
    """

    query: str
    texts: list[str]
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: bool | None = None
    return_text: bool | None = None


def _kind(body: object) -> str:
    """Whose request it is."""
    return "@texts" if isinstance(body, TeiBody) or (isinstance(body, dict) and is_tei(body)) else "@documents"


def is_tei(body: object) -> bool:
    """Whether a request is TEI's."""
    return isinstance(body, dict) and "documents" not in body and not TEI_KEYS.isdisjoint(body)


AnyRerank: TypeAlias = Annotated[
    Annotated[RerankBody, Tag("@documents")] | Annotated[TeiBody, Tag("@texts")], Discriminator(_kind)
]


class ScoreBody(BaseModel):
    """A request of vLLM's for the scores of pairs: `text_1` and `text_2`, or `queries` and `documents` (or `items`).

    One text on the left is paired with each on the right; otherwise there are as many on both sides.
    """

    model: str | None = None
    text_1: list[str] | str | None = None
    text_2: list[str] | str | None = None
    queries: list[str] | str | None = None
    documents: list[str] | str | None = None
    items: list[str] | str | None = None
    data_1: list[str] | str | None = None
    data_2: list[str] | str | None = None
    max_tokens_per_doc: int | None = Field(default=None, ge=1)

    def sides(self) -> tuple[list[str], list[str]]:
        """Queries and documents."""
        left = next((one for one in (self.text_1, self.queries, self.data_1) if one is not None), [])
        right = next((one for one in (self.text_2, self.documents, self.items, self.data_2) if one is not None), [])
        return _several(left), _several(right)


def _several(given: list[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else given


def best_first(scores: Sequence[TextScore]) -> list[int]:
    """Places, best first; equal scores in the order of the request."""
    return sorted(range(len(scores)), key=lambda place: (-scores[place].raw, place))


def ranked(body: RerankBody, model: str, scores: Sequence[TextScore], tokens: int) -> dict[str, object]:
    """The answer to `documents`.

    Args:
        body: the request.
        model: the ranker's name.
        scores: of each document.
        tokens: word pieces of the query and of what was read of the documents.
    """
    texts, order = body.texts(), best_first(scores)
    worth = worth_reading([scores[place].score for place in order], body.min_score, body.precision)
    results = [
        {
            "index": place,
            "relevance_score": scores[place].score,
            **({"document": {"text": texts[place]}} if body.return_documents else {}),
            **_relevant(body.relevant_spans if body.spans else None, scores[place]),
        }
        for place in order[: min(len(worth), body.top_n or len(order))]
    ]
    return {
        "id": str(uuid.uuid4()),
        "model": model,
        "results": results,
        "usage": _usage(tokens),
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": tokens, "output_tokens": 0},
        },
    }


def _relevant(asked: RelevantSpans | None, score: TextScore) -> dict[str, object]:
    """The sentences that reach the threshold, best first; nothing where none does."""
    if asked is None:
        return {}
    found = sorted((one for one in score.spans if one[1] >= asked.threshold), key=lambda one: (-one[1], one[0].start))
    spans = [{"start": span.start, "end": span.end, "score": value} for span, value in found[: asked.max_spans]]
    return {"relevant_spans": spans} if spans else {}


def ranked_for_tei(body: TeiBody, scores: Sequence[TextScore]) -> list[dict[str, object]]:
    """The answer to `texts`."""
    return [
        {
            "index": place,
            "score": scores[place].raw if body.raw_scores else scores[place].score,
            **({"text": body.texts[place]} if body.return_text else {}),
        }
        for place in best_first(scores)
    ]


def scored_pairs(model: str, scores: Sequence[TextScore], tokens: int) -> dict[str, object]:
    """VLLM's answer to pairs of texts."""
    return {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [{"index": place, "object": "score", "score": one.score} for place, one in enumerate(scores)],
        "usage": _usage(tokens),
    }


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
