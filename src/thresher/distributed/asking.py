"""One search over shards: queries to weighted terms, rounds of requests, answers merged, tiers routed.

A round asks some shards for each query, those whose bound is best first, and the k-th score found by then goes with the
requests of the next. Shards in this thread are asked one by one; those that work side by side in two rounds, the most
promising quarter first, which is not waited for once it is slow. All ways give the same answer.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias, cast

import numpy as np

from thresher.distributed.gathering import first_of, gather
from thresher.distributed.messages import (
    FIRST,
    SECOND,
    Asked,
    CommitGoneError,
    EncodeRequest,
    Lists,
    ListsRequest,
    Row,
    Rows,
    Top,
    TopRequest,
)
from thresher.distributed.shard_ranking import ShardedPassages, ShardedRanking
from thresher.errors import InputError, ShardError
from thresher.records import Query as TextQuery
from thresher.records import SparseBatch
from thresher.search.queries import named_row, to_row
from thresher.search.results import Explanation
from thresher.search.routing import LIST_FEATURES, routing_features, score_features
from thresher.search.tiers import ROUNDING, interleaved, is_settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.distributed.gathering import ShardReplicas
    from thresher.distributed.messages import Found, Message
    from thresher.distributed.opening import State
    from thresher.distributed.sharded import ShardedIndex
    from thresher.distributed.shared_terms import Query
    from thresher.search.effort import Effort
    from thresher.search.queries import AnyQuery, Tiers

Named: TypeAlias = "tuple[list[str], NDArray[np.float32]]"
"""A query's terms by their strings, and their weights as they were given."""
Failed: TypeAlias = "dict[int, Exception]"

_QUARTER = 4
"""Of the shards that work side by side, one in this many is asked in the first round."""
_SHARE = 0.25
"""Of the time that is left, what the first round may take at most, and what statistics may."""


class Options(NamedTuple):
    """How shards are asked.

    Attributes:
        share: send the k-th score so far along.
        hedge: ask replicas of slow shards.
        in_turn: one shard after another, since all answer in this thread.
    """

    share: bool
    hedge: bool
    in_turn: bool


class _Collected:
    """The best passages of one query, of one tier, so far."""

    def __init__(self, k: int, least: float) -> None:
        self.k, self.least = k, least
        self.found: list[tuple[int, Found]] = []
        self._scores: list[float] = []

    def add(self, shard: int, found: Found) -> None:
        """Add a shard's answer."""
        self.found.append((shard, found))
        if found.docnos:
            self._scores = sorted(self._scores + list(found.scores))[-self.k :]
            if len(self._scores) == self.k:
                self.least = max(self.least, self._scores[0])


class TierAnswer(NamedTuple):
    """What one tier found for one query, over all shards.

    Attributes:
        docnos, scores, shards: of the passages, best first; float64[n] and int64[n].
        exact: whether it is the tier's exact top-k.
        complete: whether every shard answered in full.
        explanations: how it was found; one at most.
    """

    docnos: list[str]
    scores: NDArray[np.float64]
    shards: NDArray[np.int64]
    exact: bool
    complete: bool
    explanations: tuple[Explanation, ...]


@dataclass
class Asking:
    """The arguments of a search, checked; see `ShardedIndex.search`.

    Attributes:
        due: when to stop waiting, by `time.monotonic`.
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

    def rankings(
        self, index: ShardedIndex, state: State, queries: Sequence[AnyQuery] | SparseBatch
    ) -> tuple[list[ShardedRanking], Failed]:
        """The best passages for each query, and the shards that are missing from the answers.

        Raises:
            CommitGoneError: a shard has another commit than `state` says.
            InputError: a query, or another argument, is wrong.
        """
        search = _Search(self, index, state)
        return search.rankings(list(_each(queries)))

    def positive_terms(self, index: ShardedIndex, state: State, query: AnyQuery) -> tuple[tuple[str, ...], ...]:
        """By tier, the terms of a query that weigh anything."""
        search = _Search(self, index, state)
        tiers = (FIRST, SECOND)[: len(state.live)]
        found = {space: search.weighed([query], space)[0] for space in {state.space(tier) for tier in tiers}}
        return tuple(
            tuple(term for term, weight in zip(one.terms, one.weights, strict=True) if weight > 0)
            for one in (found[state.space(tier)] for tier in tiers)
        )


def _each(queries: Sequence[AnyQuery] | SparseBatch) -> Sequence[AnyQuery]:
    if not isinstance(queries, SparseBatch):
        return queries
    bounds = zip(queries.indptr[:-1].tolist(), queries.indptr[1:].tolist(), strict=True)
    return [(queries.terms[low:high], queries.weights[low:high]) for low, high in bounds]


class _Search:
    """One search while it goes on."""

    def __init__(self, asking: Asking, index: ShardedIndex, state: State) -> None:
        self.x, self.index, self.state = asking, index, state
        self.shards, self.options = index.shards, index.options
        self.failed: Failed = {}

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

    def weighed(self, queries: Sequence[AnyQuery], space: int) -> list[Query]:
        """Queries with their final weights, in the space of terms of a tier."""
        rows = self._named(queries, space)
        terms = self.state.spaces[space - 1]
        missing, more = terms.missing(term for names, _ in rows for term in names), {}
        if missing:
            due = self._share_of_time()
            requests = {
                i: ListsRequest(one.sha256, missing, space)
                for i, one in enumerate(self.state.facts)
                if i not in self.failed
            }
            answers = self._gathered(requests, due)
            more = terms.learned(missing, {i: cast("Lists", answer) for i, answer in answers.items()})
        found = [terms.query(i, names, weights, more) for i, (names, weights) in enumerate(rows)]
        effort = self.x.effort
        if effort.terms is None or effort.candidates or self.state.by_ids:
            return found  # shards with one vocabulary drop the same terms themselves
        return [query.heaviest(effort.terms) for query in found]

    def _named(self, queries: Sequence[AnyQuery], space: int) -> list[Named]:
        """Queries as terms by their strings, with weights as they were given."""
        texts = {
            i: query.text if isinstance(query, TextQuery) else query
            for i, query in enumerate(queries)
            if isinstance(query, str | TextQuery)
        }
        found: dict[int, Named] = {}
        if texts:
            rows: Sequence[Row] = [Row((), ()) for _ in texts]
            try:
                answer = first_of(self._answering(space), EncodeRequest(tuple(texts.values()), space), self.x.due)
                rows = cast("Rows", answer).rows
            except ShardError as err:  # none answered in time, so all are missing
                self.failed |= dict.fromkeys(range(len(self.shards)), err)
            for i, row in zip(texts, rows, strict=True):
                found[i] = list(row.terms), np.array(row.weights, np.float32)
        for i, query in enumerate(queries):
            if i not in texts:
                found[i] = named_row(query) if hasattr(query, "items") else self._of_ids(query)  # type: ignore[arg-type]
        return [found[i] for i in range(len(queries))]

    def _answering(self, tier: int) -> list[ShardReplicas]:
        """The shards that have a tier, those that have failed already last."""
        having = [i for i, one in enumerate(self.state.facts) if len(one.passages) >= tier]
        return [self.shards[i] for i in sorted(having, key=lambda i: i in self.failed)]

    def _of_ids(self, query: AnyQuery) -> Named:
        """A query of term ids, where these mean the same in all shards.

        Raises:
            InputError: they do not.
        """
        ids, weights = to_row(query, _Nothing(), _no_encoder)
        if len(ids) and not self.state.by_ids:
            raise InputError(
                "term ids differ from shard to shard here; give the terms by their strings, as ShardedIndex.terms does"
            )
        wanted = tuple(ids.tolist())
        names = self.index.names(wanted) if wanted else ()
        known = [i for i, name in enumerate(names) if name is not None]
        return [str(names[i]) for i in known], weights[known]

    def _share_of_time(self) -> float:
        """When a part of the search that comes first is no longer waited for."""
        if self.x.due == math.inf:
            return math.inf
        now = time.monotonic()
        return now + _SHARE * max(self.x.due - now, 0.0)

    def _gathered(self, requests: Mapping[int, Message], due: float) -> dict[int, Message]:
        """Answers; shards that have none are missing from here on.

        Raises:
            CommitGoneError: a shard has another commit.
        """
        found = gather(self.shards, requests, due=due, hedge=self.options.hedge, watch=self.index.watch)
        for error in found.failed.values():
            if isinstance(error, CommitGoneError):
                raise error
        self.failed |= found.failed
        return found.answers

    def top(self, tier: int, queries: Sequence[Query], k: int, least: Sequence[float]) -> list[TierAnswer]:
        """The k best passages of a tier for each query, of those that reach `least`."""
        collected = [_Collected(k, one) for one in least]
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
        return [self._merged_parts(query, one, k) for query, one in zip(queries, collected, strict=True)]

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
        collected: Sequence[_Collected],
        *,
        last: bool,
    ) -> dict[int, list[int]]:
        """Ask shards for some queries each, and add what they find; those to ask again, since a round was too short."""
        x = self.x
        left = 0.0 if x.due == math.inf else max((x.due - time.monotonic()) * 1000, 1.0)
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
                deadline_ms=left,
            )
            for shard, own in asked.items()
        }
        answers = self._gathered(requests, x.due if last else self._share_of_time())
        for shard, answer in answers.items():
            for q, found in zip(asked[shard], cast("Top", answer).found, strict=True):
                collected[q].add(shard, found)
        late = {} if last else {shard: own for shard, own in asked.items() if shard not in answers}
        for shard in late:
            self.failed.pop(shard, None)
        return late

    def _shared(self, collected: _Collected) -> float:
        return collected.least if self.options.share else 0.0

    def _merged_parts(self, query: Query, collected: _Collected, k: int) -> TierAnswer:
        """The best of all shards: by score, then docno."""
        found = collected.found
        docnos = [docno for _, one in found for docno in one.docnos]
        scores = np.array([score for _, one in found for score in one.scores])
        shards = np.repeat(np.array([shard for shard, _ in found], np.int64), [len(one.docnos) for _, one in found])
        order = best_places(docnos, scores, k)
        chosen = [docnos[i] for i in order]
        if len(set(chosen)) < len(chosen):
            twice = Counter(chosen).most_common(1)[0][0]
            raise InputError(f"docno {twice!r} is in two shards; the shards of an index share no passage")
        told = _joined([Explanation(**row) for _, one in found for row in one.told], len(query.terms))  # type: ignore[arg-type]
        exact = all(one.exact for _, one in found) and not self.failed and not query.dropped
        complete = all(one.complete for _, one in found) and not self.failed
        return TierAnswer(chosen, scores[order], shards[order], exact, complete, told if self.x.explain else ())

    def _statistics(self, query: Query) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return query.statistics(FIRST), query.statistics(SECOND)

    def _escalates(self, query: Query, kept: TierAnswer) -> bool:
        """As `TierPair.escalates`, on what all shards say."""
        tiers, model = self.x.tiers, self.state.model
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


def best_places(docnos: Sequence[str], scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Places of the k best: by score, then by docno, whose code points order as their UTF-8 does."""
    places = np.arange(len(scores))
    if 0 < k < len(scores):
        places = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    order = sorted(places.tolist(), key=lambda i: (-scores[i], docnos[i]))[:k]
    return np.array(order, np.int64)


def _joined(told: Sequence[Explanation], terms: int) -> tuple[Explanation, ...]:
    """How the shards of a tier answered, added up."""
    values: dict[str, object] = {}
    for name in (field.name for field in fields(Explanation)):
        own = [getattr(one, name) for one in told]
        if name == "plan":
            values[name] = ", ".join(dict.fromkeys(own))
        else:
            values[name] = max(own, default=0.0) if name in ("threshold", "bound", "first_terms") else sum(own)
    return (Explanation(**{**values, "terms": terms}),)  # type: ignore[arg-type]  # by the names of its fields


class _Nothing:
    """A vocabulary without terms: a query of ids needs none."""

    def find(self, term: str) -> int:
        """No term is known."""
        return -1


def _no_encoder() -> NoReturn:
    raise InputError("a query of term ids has no text")
