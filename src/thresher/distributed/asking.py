"""One search over shards: queries to weighted terms, rounds of requests, answers merged, tiers routed.

A round asks some shards for each query, those whose bound is best first, and the k-th score found by then goes with the
requests of the next. Shards in this thread are asked one by one; those that work side by side in two rounds, the most
promising quarter first, which is not waited for once it is slow. All ways give the same answer.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from thresher.distributed.merging import Collected, TierAnswer, best_places, merged_parts
from thresher.distributed.messages import FIRST, SECOND, Asked, Top, TopRequest
from thresher.distributed.shard_ranking import ShardedPassages, ShardedRanking
from thresher.distributed.weighing import Weighing
from thresher.records import SparseBatch
from thresher.search.routing import LIST_FEATURES, routing_features, score_features
from thresher.search.tiers import ROUNDING, interleaved, is_settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.distributed.opening import State
    from thresher.distributed.sharded import ShardedIndex
    from thresher.distributed.shared_terms import Query
    from thresher.distributed.weighing import Failed
    from thresher.search.effort import Effort
    from thresher.search.queries import AnyQuery, Tiers

_QUARTER = 4
"""Of the shards that work side by side, one in this many is asked in the first round."""
_MARGIN, _LARGEST_MARGIN = 0.2, 0.02
"""Of the time that is left, and seconds at most, what is kept for an answer that is cut short to arrive in time."""
_SHORTEST = 1e-6
"""Seconds of the shortest deadline, since 0 is none."""


@dataclass
class Asking:
    """The arguments of a search, checked; see `ShardedIndex.search`.

    Attributes:
        due: when to stop waiting, by `time.monotonic`.
        patience: seconds after which a shard that has not answered one of the requests is missing, without a deadline
            too.
    """

    k: int
    tiers: Tiers
    effort: Effort
    plan: str
    where: str
    allow: tuple[str, ...] | None
    explain: bool
    threads: int
    due: float
    patience: float = math.inf

    def rankings(
        self, index: ShardedIndex, state: State, queries: Sequence[AnyQuery]
    ) -> tuple[list[ShardedRanking], Failed]:
        """The best passages for each query, and the shards that are missing from the answers.

        Raises:
            CommitGoneError: a shard has another commit than `state` says.
            InputError: a query, or another argument, is wrong.
        """
        search = _Search(self, index, state)
        return search.rankings(queries)

    def positive_terms(self, index: ShardedIndex, state: State, query: AnyQuery) -> tuple[tuple[str, ...], ...]:
        """By tier, the terms of a query that weigh anything."""
        search = _Search(self, index, state)
        tiers = (FIRST, SECOND)[: len(state.live)]
        found = {space: search.weighed([query], space)[0] for space in {state.space(tier) for tier in tiers}}
        return tuple(
            tuple(term for term, weight in zip(one.terms, one.weights, strict=True) if weight > 0)
            for one in (found[state.space(tier)] for tier in tiers)
        )


def rows_of(queries: Sequence[AnyQuery] | SparseBatch) -> Sequence[AnyQuery]:
    """Queries one by one."""
    if not isinstance(queries, SparseBatch):
        return queries
    bounds = zip(queries.indptr[:-1].tolist(), queries.indptr[1:].tolist(), strict=True)
    return [(queries.terms[low:high], queries.weights[low:high]) for low, high in bounds]


class _Search(Weighing):
    """One search: its rounds, and the tiers of its answers."""

    def rankings(self, queries: Sequence[AnyQuery]) -> tuple[list[ShardedRanking], Failed]:
        x, state, model = self.x, self.state, self.state.model
        first = self.weighed(queries, FIRST)
        depth = max(x.k, model.k) if state.tiered and x.tiers == "auto" and model is not None else x.k
        kept = self.top(FIRST, first, depth, [0.0] * len(first))
        if not state.tiered:
            return [self._ranking(one, FIRST, escalated=False) for one in kept], self.failed
        through = [i for i, one in enumerate(kept) if self._escalates(first[i], one)]
        second = [first[i] for i in through]
        if not state.comparable and through:
            second = self.weighed([queries[i] for i in through], SECOND)
        least = [self._least(kept[i]) if state.comparable else 0.0 for i in through]
        pruned = dict(zip(through, self.top(SECOND, second, x.k, least), strict=True))
        made = []
        for i, one in enumerate(kept):
            if i in pruned:
                made.append(self._merged(one, pruned[i]))
            else:
                exact = one.exact and self._settled(first[i], one)
                cut = one._replace(
                    docnos=one.docnos[: x.k], scores=one.scores[: x.k], shards=one.shards[: x.k], exact=exact
                )
                made.append(self._ranking(cut, FIRST, escalated=False))
        return made, self.failed

    def _least(self, kept: TierAnswer) -> float:
        """What passages of the second tier must reach to be among the k best of both."""
        k = self.x.k
        return float(kept.scores[k - 1]) if self.options.share and 0 < k <= len(kept.scores) else 0.0

    def top(self, tier: int, queries: Sequence[Query], k: int, least: Sequence[float]) -> list[TierAnswer]:
        """The k best passages of a tier for each query, of those that reach `least`."""
        collected = [Collected(k, one) for one in least]
        bounds = [query.bounds(tier) * ROUNDING for query in queries]
        orders = [
            [shard for shard in np.argsort(-bound, kind="stable").tolist() if bound[shard] > 0] for bound in bounds
        ]
        most, place = max(map(len, orders), default=0), 0
        late: dict[int, list[int]] = {}
        while place < most and k:
            size = self._round(place, most)
            asked = {shard: list(own) for shard, own in late.items()}
            for q, order in enumerate(orders):
                for shard in order[place : place + size]:
                    if shard not in self.failed and not bounds[q][shard] < collected[q].least:
                        asked.setdefault(shard, []).append(q)
            place += size
            late = self._ask(tier, k, queries, asked, collected, last=place >= most)
        return [
            merged_parts(one.found, k, query, whole=not self.failed, explain=self.x.explain)
            for query, one in zip(queries, collected, strict=True)
        ]

    def _round(self, place: int, most: int) -> int:
        """How many shards are asked next for each query."""
        if self.options.in_turn and self.options.share:
            return 1
        if not self.options.share or place:
            return most - place
        return max(1, most // _QUARTER)

    def _ask(
        self,
        tier: int,
        k: int,
        queries: Sequence[Query],
        asked: Mapping[int, list[int]],
        collected: Sequence[Collected],
        *,
        last: bool,
    ) -> dict[int, list[int]]:
        """Ask shards for some queries each, and add what they find; those to ask again, since a round was too short."""
        x = self.x
        requests = {
            shard: TopRequest(
                sha256=self.state.facts[shard].sha256,
                tier=tier,
                k=k,
                queries=tuple(
                    Asked(queries[q].terms, tuple(queries[q].weights.tolist()), self._shared(collected[q])) for q in own
                ),
                plan=x.plan,
                effort=str(x.effort),
                where=x.where,
                allow=x.allow,
                explain=x.explain,
                threads=x.threads,
                deadline_ms=self._time_of_a_shard(),
            )
            for shard, own in asked.items()
        }
        answers = self.gathered(requests, x.due if last else self.share_of_time())
        for shard, answer in answers.items():
            for q, found in zip(asked[shard], cast("Top", answer).found, strict=True):
                collected[q].add(shard, found)
        late = {} if last else {shard: own for shard, own in asked.items() if shard not in answers}
        for shard in late:
            self.failed.pop(shard, None)
        return late

    def _time_of_a_shard(self) -> float:
        """Milliseconds in which a shard answers with what it has found by then; 0 for no limit.

        It is less than what is left, so that the answer is here in time: one that is cut short is worth more than none.
        """
        if self.x.due == math.inf:
            return 0.0
        left = max(self.x.due - time.monotonic(), 0.0)
        return max(left - min(_MARGIN * left, _LARGEST_MARGIN), _SHORTEST) * 1000

    def _shared(self, collected: Collected) -> float:
        return collected.least if self.options.share else 0.0

    def _statistics(self, query: Query) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return query.statistics(FIRST), query.statistics(SECOND)

    def _escalates(self, query: Query, kept: TierAnswer) -> bool:
        """As `TierPair.escalates`, on what all shards say."""
        tiers, model = self.x.tiers, self.state.model
        if not kept.complete and not self.failed:
            return False  # the deadline has passed
        if tiers != "auto":
            return tiers == "both"
        if model is None or len(kept.scores) < self.x.k:
            return True
        if not self.state.comparable:
            ones = np.ones(len(LIST_FEATURES))
            return model.escalates(np.concatenate([score_features(kept.scores, model.k), ones]))
        features = routing_features(kept.scores, query.weights, *self._statistics(query), model.k)
        return model.escalates(features)

    def _settled(self, query: Query, kept: TierAnswer) -> bool:
        """As `TierPair.settled`."""
        if self.x.k == 0 or not self.state.comparable:
            return self.x.k == 0
        return is_settled(query.weights, query.statistics(SECOND)[:, 0], kept.scores, self.x.k)

    def _merged(self, kept: TierAnswer, pruned: TierAnswer) -> ShardedRanking:
        """As `TierPair.merge`."""
        live, comparable, k = self.state.live, self.state.comparable, self.x.k
        scores = pruned.scores if comparable else interleaved(kept.scores, pruned.scores, live[0], live[1])
        docnos, both = kept.docnos + pruned.docnos, np.concatenate([kept.scores, scores])
        order = best_places(docnos, both, k)
        one_scale = comparable or not kept.docnos or not pruned.docnos
        tiers = np.repeat(np.array([FIRST, SECOND], np.uint8), [len(kept.docnos), len(pruned.docnos)])
        answer = TierAnswer(
            [docnos[i] for i in order],
            both[order],
            np.concatenate([kept.shards, pruned.shards])[order],
            kept.exact and pruned.exact and one_scale,
            kept.complete and pruned.complete,
            kept.explanations + pruned.explanations,
        )
        return self._ranking(answer, tiers[order], escalated=True)

    def _ranking(self, found: TierAnswer, tiers: NDArray[np.uint8] | int, *, escalated: bool) -> ShardedRanking:
        source = ShardedPassages(self.index, found.docnos, found.shards)
        made = ShardedRanking(found.docnos, found.scores, exact=found.exact, source="search", passages=source)
        made.complete, made.escalated, made.explanations = found.complete, escalated, found.explanations
        made.missing_shards = tuple(self.shards[shard].name for shard in sorted(self.failed))
        made.complete = made.complete and not made.missing_shards
        made.tiers = np.full(len(found.docnos), tiers, np.uint8) if isinstance(tiers, int) else tiers
        made.shards = found.shards
        return made
