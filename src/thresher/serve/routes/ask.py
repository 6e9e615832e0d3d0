"""`/ask`: a query answered by the whole pipeline, in one document or stage by stage as server-sent events."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from thresher.distributed.sharded import ShardedIndex
from thresher.errors import ThresherError
from thresher.serve.bodies import Body, Document, Where, check_k, check_query, dumped
from thresher.serve.dialects.faults import written
from thresher.serve.front import told
from thresher.serve.handles import owner_of
from thresher.serve.served import Served
from thresher.serve.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from thresher.pipeline.answer import Answer, AnswerPassage
    from thresher.pipeline.stage import StageReport, State
    from thresher.records import Usage

    Event = tuple[str, dict[str, object]]
    """Name and data."""

EVENTS = "text/event-stream"
_RANKED = 10
"""Passages of a stage's ranking in an event, where the request does not say."""
_FIRST = ("index", "commit", "query", "qid", "passages", "context", "tokens", "confidence", "withheld")
"""What of an answer is in the event `passages`; the rest is in the event `usage`."""


class AskBody(Body):
    """A query to answer.

    Attributes:
        query: any text.
        k: passages to hand over; by default as the index's settings say, and so the other limits.
        max_context_tokens: tokens they may cost together.
        min_score: least probability of being relevant that passages must have, by the index's calibrated reranker.
        precision: least expected precision of the passages together, by the same probabilities.
        where: only passages whose metadata match this filter, a mapping or a text.
        tiers: of an index with two tiers, `both`, only the `first`, or `auto`; by default as the index's settings say.
        recall: share of the exact candidates to expect, above 0 and below 1; by default as the index's settings say.
        without: names of stages that are left out.
        ranking: passages of each stage's ranking that are told.
        texts: tell them with titles and texts.
    """

    query: str
    k: int | None = Field(default=None, ge=1)
    max_context_tokens: int | None = Field(default=None, ge=1)
    min_score: float | None = Field(default=None, ge=0, le=1)
    precision: float | None = Field(default=None, ge=0, le=1)
    where: Where | None = None
    tiers: Literal["auto", "both", "first"] | None = None
    recall: float | None = Field(default=None, gt=0, lt=1)
    without: list[str] = Field(default=[], max_length=20)
    ranking: int = Field(default=0, ge=0)
    texts: bool = False


def router(services: Services) -> APIRouter:
    """The routes of this module."""
    routes = APIRouter(tags=["ask"], default_response_class=Document)

    @routes.post("/ask", response_model=None, responses={200: {"content": {"application/json": {}, EVENTS: {}}}})
    async def ask(body: AskBody, request: Request) -> Document | StreamingResponse:
        """What the index has to say on a query; as events where the client accepts text/event-stream."""
        check_k(services.settings, body.k)
        check_k(services.settings, body.ranking, "ranking")
        check_query(services.settings, body.query)
        asked = Asked(services, services.served(request, body.index), body)
        if EVENTS not in request.headers.get("accept", ""):
            document = await services.work.run(asked.document, request=request, deadline_ms=body.deadline_ms)
            request.state.usage = asked.usage
            return Document(document, headers=asked.headers)
        events = await services.work.stream(asked.tell, request=request, deadline_ms=body.deadline_ms)
        first = await anext(events)  # so that what is wrong with the request has a status
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **asked.headers}
        return StreamingResponse(lines(services, request, asked, first, events), media_type=EVENTS, headers=headers)

    return routes


class Asked:
    """One query on its way.

    Args:
        services: handles.
        served: the index.
        body: the request.

    Attributes:
        usage: of the stages, once there is an answer.
    """

    def __init__(self, services: Services, served: Served, body: AskBody) -> None:
        self._handles, self._served, self._body = services.handles, served, body
        self.usage: Usage | None = None

    @property
    def headers(self) -> dict[str, str]:
        """As of `Served`, once candidates were found."""
        return self._served.headers

    def document(self) -> dict[str, object]:
        """The answer."""
        rankings: dict[str, object] = {}

        def note(report: StageReport, state: State, _: float) -> None:
            rankings[report.stage] = ranked(state, self._body.ranking, texts=self._body.texts)

        answer = self._answer(note if self._body.ranking else None)
        return answer | ({"rankings": rankings} if self._body.ranking else {})

    def tell(self, emit: Callable[[Event], None]) -> None:
        """The answer as events, each as soon as it is known."""

        def on_stage(report: StageReport, state: State, seconds: float) -> None:
            told = {
                "stage": report.stage,
                "outcome": report.outcome,
                "exact": report.exact,
                "reason": reason_of(report, self._served),
                "milliseconds": round(seconds * 1000, 3),
                "counts": dict(report.counts),
                "ranking": ranked(state, self._body.ranking or _RANKED, texts=self._body.texts),
            }
            emit(("stage", told))

        answer = self._answer(on_stage)
        emit(("passages", {name: answer[name] for name in _FIRST}))
        emit(("usage", {name: value for name, value in answer.items() if name not in _FIRST}))
        emit(("done", {}))

    def _answer(self, on_stage: Callable[[StageReport, State, float], None] | None) -> dict[str, object]:
        body, served = self._body, self._served
        answer = served.ask(
            body.query,
            body.k,
            max_context_tokens=body.max_context_tokens,
            min_score=body.min_score,
            precision=body.precision,
            where=body.where,
            tiers=body.tiers,
            recall=body.recall,
            without=body.without,
            on_stage=on_stage,
        )
        self.usage = answer.usage
        stages = tuple(replace(one, reason=reason_of(one, served)) for one in answer.stages)
        answer = replace(answer, stages=stages)
        return {
            "index": served.name,
            "commit": served.index.commit,
            **answer.as_json(),
            **({"missing_shards": list(served.missing)} if isinstance(served.index, ShardedIndex) else {}),
            "context": answer.context,
            "passages": self._passages(answer),
        }

    def _passages(self, answer: Answer) -> list[dict[str, object]]:
        def handle(one: AnswerPassage) -> str:
            owner = owner_of(self._served.caller)
            return self._handles.of_passage(self._served.name, one.docno, one.original, one.spans, owner)

        return [{**one.as_json(), "handle": handle(one)} for one in answer.passages]


def reason_of(report: StageReport, served: Served) -> str:
    """Why a stage went as it did, as a client may know it: no path of this machine, and no text of another's error."""
    if report.error is None or isinstance(report.error, ThresherError):
        return served.hosted.told(report.reason)
    return "the stage failed; the server's log has the cause"


def ranked(state: State, count: int, *, texts: bool) -> list[dict[str, object]]:
    """The first passages of the ranking so far, with the scores that each has."""
    head = state.ranking.cut(count)
    scores = {name: state.signal(name, head).tolist() for name in state.signals}
    read = state.passages(head) if texts else []
    return [
        {
            "rank": place + 1,
            "docno": docno,
            "scores": {name: round(of[place], 6) for name, of in scores.items() if of[place] == of[place]},
            **({"title": read[place].title, "text": read[place].text} if texts else {}),
        }
        for place, docno in enumerate(head.docnos)
    ]


async def lines(
    services: Services, request: Request, asked: Asked, first: Event, events: AsyncIterator[Event]
) -> AsyncIterator[bytes]:
    """Events as they are sent. An answer that fails when it has begun ends with the event `error`."""
    yield _line(*first)
    try:
        async for name, data in events:
            yield _line(name, data)
        request.state.usage = asked.usage
    except Exception as err:
        status, message = told(err, services, request.state.request_id)
        status, document = written(request.url.path, status, message)
        yield _line("error", {**document, "status": status})


def _line(name: str, data: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), dumped(data))
