"""`Served`: what one request sees of an index: one commit from beginning to end, and what its caller may see of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from thresher.context.pruner import ContextPruner
from thresher.distributed.door import Opened
from thresher.pipeline.deadline import stop_if_abandoned
from thresher.pipeline.pipeline import Pipeline
from thresher.pipeline.select import SelectStage
from thresher.search.any_index import IndexRanking
from thresher.search.index import Index
from thresher.serve.work import left_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.context.pruned import Scores
    from thresher.distributed.opened_shards import OnMissing
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.pipeline.answer import Answer
    from thresher.pipeline.pipeline import OnStage
    from thresher.pipeline.stage import StageReport, State
    from thresher.ranking import Ranking
    from thresher.records import Hit, Passage
    from thresher.search.any_index import By
    from thresher.search.effort import Effort
    from thresher.search.queries import AnyQuery, Tiers
    from thresher.serve.hosted import Current, Hosted
    from thresher.serve.keys import Caller

_FALLBACK = "lexical"
"""What scores sentences where the index's pipeline has nothing that does."""
_STEP = 32
"""Passages whose sentences are scored at a time."""
MISSING = "Thresher-Missing-Shards"
"""Header of an answer that lacks shards: their names, percent-encoded, with commas between them."""


class Served:
    """An index as one request sees it: one commit, and only what its caller may see.

    Args:
        hosted: the index.
        caller: who asks.
        at: a commit of it, which is then neither compared with the index's baseline nor replaced by it.

    Attributes:
        name: of the index.
        caller: who asks.
        hosted: the index, or its baseline where that has taken its place.
        falls_back: it has.
        missing: the shards that answers of this request lack.
    """

    def __init__(self, hosted: Hosted, caller: Caller, *, at: Current | None = None) -> None:
        self.name, self.caller, self.hosted = hosted.name, caller, hosted
        self._shadow = hosted.shadow if at is None else None
        self.falls_back = self._shadow is not None and self._shadow.falls_back
        if self._shadow is not None and self.falls_back:
            self.hosted = self._shadow.host
        self._now = at or self.hosted.now
        self.missing: tuple[str, ...] = ()

    @property
    def whole(self) -> Opened:
        """The commit, with what the caller may not see."""
        return self._now.index

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: `MISSING` where it lacks shards."""
        return {MISSING: ",".join(quote(one, safe="/:#") for one in self.missing)} if self.missing else {}

    def _lacks(self, shards: Sequence[str]) -> None:
        """Take note of shards that an answer lacks, and count the first time that it lacks any."""
        if shards and not self.missing:
            self.hosted.partial()
        self.missing = tuple(dict.fromkeys((*self.missing, *map(self.hosted.told, shards))))

    @cached_property
    def index(self) -> Opened:
        """The view of the index. The first use may take a while, so use it in `Work.run`."""
        return self._now.view(self.caller)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline over that view."""
        return self._now.pipeline.over(self.index)

    @property
    def pruner(self) -> tuple[ContextPruner, float | str]:
        """What scores sentences, and the threshold from which they are kept, as the index's settings say."""
        stage = next((one for one in self.pipeline.stages if isinstance(one, SelectStage)), None)
        return (ContextPruner(_FALLBACK), "balanced") if stage is None else (stage.pruner, stage.threshold)

    def ask(
        self,
        query: str,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        candidates: Ranking | Sequence[Hit] | None = None,
        where: Filter | None = None,
        tiers: Tiers | None = None,
        recall: float | None = None,
        without: Sequence[str] = (),
        on_stage: OnStage | None = None,
    ) -> Answer:
        """As `Pipeline.ask` of `Pipeline.without`, in the time that the request has left."""

        def each(report: StageReport, state: State, seconds: float) -> None:
            found = state.signals.get("search")
            if isinstance(found, IndexRanking):
                self._lacks(found.missing_shards)
            if on_stage is not None:
                on_stage(report, state, seconds)

        answer = self.pipeline.without(*without).ask(
            query,
            k,
            max_context_tokens=max_context_tokens,
            deadline_ms=left_ms(),
            min_score=min_score,
            precision=precision,
            candidates=candidates,
            where=where,
            tiers=tiers,
            recall=recall,
            on_stage=each,
        )
        if self._shadow is not None and candidates is None:

            def again(other: Served) -> Ranking:
                there = {stage.name for stage in other.pipeline.stages}
                pipeline = other.pipeline.without(*(name for name in without if name in there))
                return pipeline.ask(query, k, where=where, deadline_ms=0).ranking

            self._shadow.watch(self, answer.ranking, again, complete=not answer.skipped and not answer.errors)
        return answer

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        by: By = "sparse",
        effort: Effort | None = None,
        recall: float | None = None,
        where: Filter | None = None,
        explain: bool = False,
        on_missing: OnMissing | None = None,
    ) -> IndexRanking:
        """As `Index.search`, by the deadline of the request; `on_missing` as `ShardedIndex.search`."""
        index = self.index
        search = index.search if isinstance(index, Index) else partial(index.search, on_missing=on_missing)
        found: IndexRanking = search(
            query,
            k,
            tiers=tiers,
            by=by,
            effort=effort,
            recall=recall,
            deadline_ms=left_ms(),
            where=where,
            explain=explain,
        )
        self._lacks(found.missing_shards)
        if self._shadow is not None:

            def again(other: Served) -> IndexRanking:
                return other.index.search(query, k, by=by, where=where)

            self._shadow.watch(self, found, again, complete=found.complete)
        return found

    def facets(
        self,
        field: str,
        query: AnyQuery | None = None,
        where: Filter | None = None,
        on_missing: OnMissing | None = "error",
    ) -> dict[Value, int]:
        """As `Index.facets`; without the shards that do not answer only where that is asked for."""
        if isinstance(self.index, Index):
            return self.index.facets(field, query, where=where)
        counts, missing = self.index.counted(field, query, where=where, deadline_ms=left_ms(), on_missing=on_missing)
        self._lacks(missing)
        return counts


def scores_of(pruner: ContextPruner, query: str, passages: Sequence[Passage | Hit]) -> Scores:
    """The scores of all sentences, some passages at a time: in between it is seen whether the caller still waits.

    Raises:
        AbandonedError: it does not.
    """
    scores = pruner.score(query, passages[:_STEP])
    for first in range(_STEP, len(passages), _STEP):
        stop_if_abandoned()
        more = pruner.score(query, passages[first : first + _STEP])
        scores = replace(scores, passages=scores.passages + more.passages)
    return scores
