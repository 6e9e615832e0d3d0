"""The first stage: candidates from the index, or those the caller brought."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal, Protocol

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.pipeline.shared import encoded
from thresher.pipeline.stage import StageReport
from thresher.search.any_index import AnyIndex, IndexRanking
from thresher.search.index import Index

if TYPE_CHECKING:
    from thresher.pipeline.shared import QueryEncoder
    from thresher.pipeline.stage import Counts, State
    from thresher.ranking import Ranking
    from thresher.records import Query
    from thresher.search.any_index import By

LEAST_MS = 100.0
"""Milliseconds that a search may take at least, however late it is: without candidates there is no answer."""


class Searches(Protocol):
    """Anything that finds passages for a query."""

    def search(self, query: Query, k: int) -> Ranking:
        """The k best passages."""
        ...


class SearchStage:
    """Candidates by sparse score, dense score, or both fused.

    Args:
        index: an `Index`, one in shards (`ShardedIndex`), or any object with their `search(query, k)`.
        depth: candidates.
        tiers: which tiers of the index are searched, as `Index.search`.
        first: `sparse`, `dense`, or `both` joined by reciprocal rank fusion.
        recall: the share of the exact candidates to expect, as `Index.search`; None for exactly.
        query_encoder: makes queries' vectors, in place of the encoder that the index names.
    """

    name = "search"

    def __init__(
        self,
        index: AnyIndex | Searches,
        *,
        depth: int = 1000,
        tiers: Literal["auto", "both", "first"] = "auto",
        first: By = "sparse",
        recall: float | None = None,
        query_encoder: QueryEncoder | None = None,
    ) -> None:
        self.index, self.depth, self.tiers, self.first = index, depth, tiers, first
        self.recall, self.query_encoder = recall, query_encoder

    def over(self, index: AnyIndex) -> SearchStage:
        """The same search of another view of the index."""
        made = copy.copy(self)
        made.index = index
        return made

    @checked_call
    def predict(self, state: State) -> float:
        """Milliseconds a search takes."""
        return state.costs.predict(self.name)

    @checked_call
    def run(self, state: State) -> StageReport:
        """Find the candidates."""
        if state.given is not None:
            state.start(state.given)
            return StageReport(self.name, counts={"candidates": len(state.given)})
        started = state.deadline.worked()
        ranking = self._found(state, max(self.depth, state.k))
        state.start(ranking)
        state.costs.observe(self.name, state.deadline.worked() - started)
        reason = _cut(ranking)
        return StageReport(
            self.name,
            "cut" if reason else "done",
            exact=ranking.exact,
            reason=reason,
            counts={"candidates": len(ranking), **_work(self.index, ranking)},
        )

    def _found(self, state: State, depth: int) -> Ranking:
        query = state.query
        if not isinstance(self.index, AnyIndex):
            if (state.where, state.allow, state.tiers, state.recall) != (None,) * 4:
                raise InputError(f"where, allow, tiers and recall are of an Index's search; {self.index!r} is none")
            return self.index.search(query, depth)
        vector = None
        if self.first != "sparse" and isinstance(self.index, Index):
            encoder = self.query_encoder or self.index.dense_encoder
            # no stage after this one works without candidates
            vector = encoded(encoder, query.text, state.deadline, patient=True)
        return self.index.search(
            query,
            depth,
            tiers=state.tiers or self.tiers,
            recall=state.recall or self.recall,
            explain=True,
            by=self.first,
            vector=vector,
            where=state.where,
            allow=state.allow,
            deadline_ms=max(state.deadline.left(), LEAST_MS),
        )


def _cut(ranking: Ranking) -> str:
    """Why a ranking is not complete; empty where it is."""
    if not isinstance(ranking, IndexRanking) or ranking.complete:
        return ""
    if ranking.missing_shards:
        return f"shards that did not answer: {', '.join(ranking.missing_shards)}"
    return "the deadline passed before everything was searched"


def _work(index: AnyIndex | Searches, ranking: Ranking) -> Counts:
    if not (isinstance(index, AnyIndex) and isinstance(ranking, IndexRanking)):
        return {}
    names = ("terms", "postings", "scored", "blocks", "visited")
    counts: Counts = {name: sum(getattr(one, name) for one in ranking.explanations) for name in names}
    if not ranking.exact and ranking.expected_recall is not None:
        counts["expected_recall"] = ranking.expected_recall
    if index.tiered:
        counts |= {"escalated": int(ranking.escalated), "tier_2": int((ranking.tiers == 2).sum())}
    return counts
