"""`Toolbox`: what the tools do. Each method is a call of the library in a thread, and gives one result that fits."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakKeyDictionary

from thresher.context.pruner import ContextPruner
from thresher.errors import InputError, MissingExtraError, ThresherError
from thresher.records import Hit, Passage, Span
from thresher.search.index import Index
from thresher.serve.bodies import check_documents, check_k, check_query
from thresher.serve.handles import Handles, expanded, owner_of
from thresher.serve.late import UNCOUNTED, LateHost
from thresher.serve.mcp.rendering import (
    Budget,
    Draft,
    Shown,
    as_metadata,
    expansion,
    information,
    joined,
    order,
    passages,
)
from thresher.serve.mcp.results import (
    NOTICE,
    AskResult,
    IndexInfo,
    PassagesResult,
    QuotedField,
    Ranked,
    RerankResult,
    neutral,
    one_line,
)
from thresher.serve.refusals import not_found
from thresher.serve.served import Served, scores_of
from thresher.serve.settings import ServeSettings
from thresher.serve.work import Work, left_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.distributed.door import Reaching
    from thresher.search.any_index import AnyIndex
    from thresher.serve.handles import Expanded
    from thresher.serve.keys import Caller

T = TypeVar("T")
Spans = tuple[Span, ...]

_log = logging.getLogger(__name__)
LEAST_TOKENS = 256
"""Of a result: fewer would hold little more than what every result says."""
_FALLBACK = "lexical"
"""What scores texts where the models of the ranker are not there."""
_FRAME, _PASSAGE_FRAME = 120, 90
"""Tokens, about, of a result and of a passage besides its text."""
_TRIAL = "-" * 22
"""As long as a handle of a text, and of no fewer tokens."""
_VALUES = 8
"""Frequent values that are told of a field."""
WHERE = (
    "Only passages whose metadata match, such as: lang = en and year >= 2020 and not source in (a, 'b c'). "
    "Comparisons: = != < <= > >= in, exists; for lists: any, all; joined by and, or, not and parentheses."
)


class Toolbox:
    """The tools over one index. Every call sees the last commit, and only what its caller may see.

    Args:
        path: the index's directory, or the file that lists its shards.
        name: what results call it; by default the directory's name.
        settings: limits, threads, the deadline of a call.
        max_tokens: of a result, where the call does not say.
        device: for models.
        cache: where the costs of stages are kept between processes.
        reaching: how shards are reached.

    Raises:
        ArtifactError: there is no index.
        ShardError: a shard does not answer.
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        path: Path,
        name: str = "",
        settings: ServeSettings | None = None,
        *,
        max_tokens: int = 2000,
        device: str = "auto",
        cache: Path | None = None,
        reaching: Reaching | None = None,
    ) -> None:
        self.settings = settings or ServeSettings()
        self.host = LateHost(name or Path(os.path.realpath(path)).name, path, device, cache, reaching)
        self.work = Work(self.settings.threads, self.settings.queue, UNCOUNTED, self.settings.deadline_ms)
        self.handles = Handles(self.settings.max_handle_bytes, self.settings.handle_seconds)
        self.max_tokens = max(LEAST_TOKENS, max_tokens)
        self._infos: WeakKeyDictionary[AnyIndex, IndexInfo] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """A method's result, computed in a thread; the work stops early where the caller no longer waits."""
        return await self.work.run(call, *args)

    def served(self, caller: Caller) -> Served:
        """The last commit, as far as the caller may see it.

        Raises:
            RefusedError: nothing of it.
        """
        if caller.indexes is not None and self.host.name not in caller.indexes:
            raise not_found("this key may not use this index")
        hosted = self.host.hosted
        with suppress(Exception):  # it is logged, and the last good commit is there
            hosted.refresh()
        self.host.schema = hosted.index.schema
        return Served(hosted, caller)

    def told(self, error: Exception) -> str:
        """What a client is told of an error: one line, without paths of this machine, safe to be read by a model.

        Of an error that is not the library's own only that there was one: its message may hold anything.
        """
        if not isinstance(error, ThresherError):
            return "the server failed; its log has the cause"
        return one_line(str(error).replace(str(self.host.path), self.host.name), 1000)

    def search(self, caller: Caller, query: str, k: int, where: str | None, max_tokens: int | None) -> Shown:
        """The k best passages by the index's first stage, all cut to the same length."""
        self._check(query, k)
        served = self.served(caller)
        drafts = [
            Draft(
                hit.docno,
                hit.title,
                hit.text,
                _all_of(hit.text),
                self._handle(served, hit.docno, hit.text),
                score=hit.score,
                metadata=as_metadata(hit.metadata),
            )
            for hit in served.search(query, k, where=where or None)
        ]
        return passages(
            drafts,
            "evenly",
            self._budget(served, max_tokens),
            f"{len(drafts)} passages of the index {served.name}, best first, by search alone.",
            partial(PassagesResult, NOTICE, served.name, served.index.commit),
        )

    def ask(self, caller: Caller, query: str, k: int, where: str | None, max_tokens: int | None) -> Shown:
        """The passages that answer a query by all stages, cut to the sentences that help."""
        self._check(query, k)
        served, most = self.served(caller), self._tokens(max_tokens)
        answer = served.ask(
            query, k, max_context_tokens=max(40, most - _FRAME - k * _PASSAGE_FRAME), where=where or None
        )
        if answer.errors:
            _log.warning("stages failed: %s", answer.errors)
        drafts = [
            Draft(
                one.docno,
                one.title,
                one.original,
                one.spans,
                self._handle(served, one.docno, one.original),
                confidence=None if one.confidence is None else round(one.confidence, 3),
                metadata=as_metadata(one.metadata),
            )
            for one in answer.passages
        ]
        heading = f"{len(drafts)} passages of the index {served.name}, best first, cut to the sentences that help."
        if answer.withheld:
            heading = "Passages were found, but none seems to answer: put the query in other words, or try search."
        made = partial(
            AskResult,
            NOTICE,
            served.name,
            served.index.commit,
            None if answer.confidence is None else round(answer.confidence, 3),
            answer.withheld,
            [*answer.skipped, *answer.errors],
        )
        return passages(drafts, "from the first", self._budget(served, max_tokens), heading, made)

    def expand(
        self, caller: Caller, handle: str | None, docno: str | None, whole: bool, max_tokens: int | None
    ) -> Shown:
        """What is not shown of a passage, or all of it."""
        served = self.served(caller)
        if bool(handle) == bool(docno):
            raise InputError("give either a handle, as it came with a passage, or a docno of the index")
        if handle:
            found = self.handles.open(handle, owner_of(caller), lambda _, docno: served.index.passage(docno))
        else:
            found = expanded(served.name, served.index.passage(docno or ""))
        if whole:
            found = replace(found, kept=())
        draft = Draft(
            found.docno,
            found.title,
            found.text,
            found.dropped,
            self._following(served, found),
            reference="".join(found.text[span.start : span.end] for span in found.dropped),
            trial=_TRIAL if found.index is None else "",
        )
        return expansion(draft, found.index, self._budget(served, max_tokens), "" if whole else handle or "")

    def rerank(
        self,
        caller: Caller,
        query: str,
        docnos: Sequence[str] | None,
        texts: Sequence[str] | None,
        top_n: int | None,
        max_tokens: int | None,
    ) -> Shown:
        """Passages or texts in the order of their relevance."""
        self._check(query, 1)
        served = self.served(caller)
        given = self._given(served, docnos, texts)
        scorer, scores = self._scored(query, [one.contents if isinstance(one, Passage) else one.text for one in given])
        best = sorted(range(len(given)), key=lambda place: (-scores[place], place))[: top_n or len(given)]
        made = partial(RerankResult, NOTICE, served.name, served.index.commit, scorer)
        budget = self._budget(served, max_tokens)
        if texts is not None:
            return order([Ranked(n, place, round(scores[place], 4)) for n, place in enumerate(best, 1)], budget, made)
        drafts = [
            Draft(
                given[place].docno,
                given[place].title,
                given[place].text,
                _all_of(given[place].text),
                self._handle(served, given[place].docno, given[place].text),
                score=scores[place],
                metadata=as_metadata(given[place].metadata),
            )
            for place in best
        ]
        heading = f"{len(drafts)} passages of the index {served.name} in order of relevance."
        return passages(drafts, "evenly", budget, heading, partial(made, order=[]))

    def prune(
        self,
        caller: Caller,
        query: str,
        docnos: Sequence[str] | None,
        texts: Sequence[str] | None,
        threshold: float | str | None,
        max_tokens: int | None,
    ) -> Shown:
        """Passages or texts cut to the sentences that help with a query."""
        self._check(query, 1)
        served, most = self.served(caller), self._tokens(max_tokens)
        given = self._given(served, docnos, texts)
        pruner, default = served.pruner
        found = pruner.select(
            scores_of(pruner, query, given),
            threshold=default if threshold is None else threshold,
            max_tokens=max(40, most - _FRAME - len(given) * _PASSAGE_FRAME // 2),
        )
        drafts = [
            Draft(
                one.docno,
                one.title,
                one.original,
                one.spans,
                self._handle(served, one.docno, one.original)
                if texts is None
                else self._text_handle(served, one.docno, one.original),
                score=one.relevance,
                metadata=as_metadata(source.metadata),
                trial="" if texts is None else _TRIAL,
            )
            for one, source in zip(found, given, strict=True)
            if one.spans
        ]
        heading = f"What helps with the query: something of {len(drafts)} of {len(given)} passages, in their order."
        made = partial(PassagesResult, NOTICE, served.name, served.index.commit)
        return passages(drafts, "from the first", self._budget(served, max_tokens), heading, made)

    def index_info(self, caller: Caller, max_tokens: int | None) -> Shown:
        """What the index holds and how it is searched."""
        served = self.served(caller)
        with self._lock:
            info = self._infos.get(served.index)
        if info is None:
            info = self._info(served)
            with self._lock:
                self._infos[served.index] = info
        if not caller.restricted:  # it speaks of all passages, and may change without a commit
            info = replace(info, certificate=one_line(self.host.hosted.certificate.now().sentence, 1000))
        return information(info, self._budget(served, max_tokens))

    def _info(self, served: Served) -> IndexInfo:
        index, pipeline = served.index, served.pipeline
        schema = index.schema
        return IndexInfo(
            notice=NOTICE,
            index=served.name,
            commit=index.commit,
            passages=len(index),
            stages=[stage.name for stage in pipeline.stages],
            stages_off={name: one_line(reason) for name, reason in pipeline.off.items()},
            tiers=2 if index.tiered else 1,
            vectors=isinstance(index, Index) and index.vectors is not None,
            certificate="",
            where=WHERE,
            fields=len(schema),
            quoted=[
                QuotedField(neutral(name), kind, [one_line(str(value), 60) for value in self._values(served, name)])
                for name, kind in schema.items()
            ],
        )

    def _values(self, served: Served, name: str) -> Sequence[object]:
        try:
            return list(served.facets(name))[:_VALUES]
        except InputError:
            return []

    def _check(self, query: str, k: int) -> None:
        check_query(self.settings, query)
        check_k(self.settings, k)

    def _tokens(self, max_tokens: int | None) -> int:
        return self.max_tokens if max_tokens is None else max_tokens

    def _budget(self, served: Served, max_tokens: int | None) -> Budget:
        return Budget(self._tokens(max_tokens), served.pipeline.count_tokens)

    def _scored(self, query: str, texts: Sequence[str]) -> tuple[str, list[float]]:
        """What scores texts, and their scores: the ranker of posted texts, or BM25 where its models are not there."""
        try:
            ranker = self.host.models.ranker()
            left = left_ms()
            return ranker.model, ranker.score(query, texts, seconds=None if left is None else left / 1000)
        except MissingExtraError:
            found = ContextPruner(_FALLBACK).score(query, texts)
            return found.scorer, [one.relevance for one in found.passages]

    def _given(self, served: Served, docnos: Sequence[str] | None, texts: Sequence[str] | None) -> list[Passage | Hit]:
        if (docnos is None) == (texts is None):
            raise InputError("give either docnos of the index, or texts")
        if docnos is not None:
            check_documents(self.settings, "docno", docnos)
            return list[Passage | Hit](served.index.passages(docnos))
        check_documents(self.settings, "text", texts or ())
        return [Hit(str(place), 0.0, place + 1, text) for place, text in enumerate(texts or ())]

    def _handle(self, served: Served, docno: str, text: str) -> Callable[[Spans], str]:
        owner = owner_of(served.caller)
        return lambda shown: self.handles.of_passage(served.name, docno, text, shown, owner)

    def _text_handle(self, served: Served, docno: str, text: str) -> Callable[[Spans], str]:
        owner = owner_of(served.caller)
        return lambda shown: self.handles.of_text(docno, "", text, shown, owner)

    def _following(self, served: Served, found: Expanded) -> Callable[[Spans], str]:
        """A handle of what is left of a passage once some more of it is shown; empty where nothing is."""

        def handle(shown: Spans) -> str:
            both = replace(found, kept=joined(sorted((*found.kept, *shown), key=lambda span: span.start)))
            if not both.dropped:
                return ""
            if both.index is None:
                return self._text_handle(served, both.docno, both.text)(both.kept)
            return self._handle(served, both.docno, both.text)(both.kept)

        return handle


def _all_of(text: str) -> Spans:
    return (Span(0, len(text)),) if text else ()
