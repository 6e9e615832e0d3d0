"""Two tiers of one corpus: when the second is searched, and how the answers of both are merged.

Passages pruned for low quality are in the second tier, cheaply indexed. A query escalates to it always, unless the
tiers are calibrated: then a linear function of routing features (`thresher.search.routing`) says how much of the joint
top-k the first tier is likely to miss. Its weights and threshold come from logged queries without judgements: both
tiers are searched for each, and the target is the share of the joint top-k, weighted by the discount of nDCG, that only
the second tier has.

Tiers made by the same encoder have comparable scores (each tier quantises its impacts with its own scale) and are
merged by score, then docno. Otherwise the passages of the second tier take the scores that the first tier has at the
ranks where they would stand if both tiers were samples of one ranking; ties go by docno there too.

A tier is one part of each segment. The largest part is searched first, and the k-th score found so far is what passages
of the other parts must reach. Answers are merged by score, then docno in bytewise order; docnos are read only where
passages of different parts tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.checks import shown, whole
from thresher.errors import InputError
from thresher.index.transaction import Transaction
from thresher.records import Query, SparseBatch
from thresher.search.best import Best, merged
from thresher.search.kernels.types import COMPLETE, FOREVER
from thresher.search.parts import ALL
from thresher.search.queries import listed
from thresher.search.recall import FIELD
from thresher.search.results import Explanation
from thresher.search.routing import (
    FEATURES,
    LIST_FEATURES,
    RoutingModel,
    missed_share,
    routing_features,
    score_features,
)
from thresher.search.searcher import explain, is_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.index.layout import Layout
    from thresher.search.index import Index
    from thresher.search.kernels.types import Limits
    from thresher.search.parts import Masks, SearchedPart
    from thresher.search.queries import AnyQuery
    from thresher.search.vocabulary import TermSpace

ROUNDING = 1 + 1e-6
"""Upper bounds are compared with scores after this factor: query weights are float32."""


class Wanted(NamedTuple):
    """What is wanted of a tier; see `Index.search`."""

    k: int
    limits: Limits
    plan: str
    explain: bool
    deadline: int = FOREVER

    def best(self, k: int) -> Wanted:
        """The same for another k."""
        return self._replace(k=k)


class TierAnswer(NamedTuple):
    """What one tier found.

    Attributes:
        numbers: int64[n], passage numbers in the collection, best first.
        scores: float64[n].
        exact: whether it is the tier's exact top-k.
        explanations: how it was found, if `explain` was given; one at most.
        complete: whether no deadline cut it short.
    """

    numbers: NDArray[np.int64]
    scores: NDArray[np.float64]
    exact: bool
    explanations: tuple[Explanation, ...]
    complete: bool = True


class Tier:
    """The parts of one tier. Safe to share between threads.

    Args:
        parts: in the order of the collection; at least one.
        space: the terms of the parts that their encoder made, these among them.
        docno: the UTF-8 of the docno of a passage by its number in the collection.
    """

    def __init__(self, parts: Sequence[SearchedPart], space: TermSpace, docno: Callable[[int], bytes]) -> None:
        self.parts, self.space, self.docno = tuple(parts), space, docno
        self.size = sum(part.size for part in self.parts)
        self.live = sum(part.part.live for part in self.parts)
        self.places = [space.parts.index(part) for part in self.parts]
        self._order = sorted(range(len(self.parts)), key=lambda i: -self.parts[i].size)

    def top(
        self,
        terms: NDArray[np.int64],
        weights: NDArray[np.float32],
        wanted: Wanted,
        masks: Masks,
        least: float = 0.0,
    ) -> TierAnswer:
        """The k best passages for terms by their ids in the collection, of those whose scores reach `least`."""
        x, most, dropped = wanted, wanted.limits.terms, 0
        if most < len(terms) and not x.limits.candidates and not self.space.vocabulary.same:
            terms, weights, dropped = self.space.heaviest(terms, weights, most)
        own = self.space.vocabulary.locals(terms)
        best, rows = Best(x.k, least), []
        for i in self._order:
            part = self.parts[i]
            mask = ALL if masks is None else masks[part.number]
            if mask.empty:
                continue
            query = own[self.places[i]], weights
            docs, scores, row = part.searcher.top(*query, x.k, x.limits, x.plan, mask.allowed, best.least, x.deadline)
            rows.append(row)
            best.add(part, docs, scores)
        told = _explained(rows, terms, self._known(own)) if x.explain else ()
        exact = not dropped and all(is_exact(row) for row in rows)
        numbers, scores = best.merged(self.docno)
        return TierAnswer(numbers, scores, exact, told, all(row[COMPLETE] for row in rows))

    def top_batch(
        self,
        rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
        wanted: Wanted,
        masks: Masks,
        threads: int,
        least: Sequence[float] | None = None,
    ) -> list[TierAnswer]:
        """As `top` for each row of (indptr, terms, weights), over `threads` threads; `least` has a score for each."""
        x, (indptr, terms, weights) = wanted, rows
        n = len(indptr) - 1
        dropped = np.zeros(n, np.int64)
        if x.limits.terms < len(terms) and not x.limits.candidates and not self.space.vocabulary.same:
            (indptr, terms, weights), dropped = self.space.heaviest_rows(rows, x.limits.terms)
        own = self.space.vocabulary.locals(terms)
        best = [Best(x.k) for _ in range(n)] if least is None else [Best(x.k, one) for one in least]
        told: list[list[list[float]]] = [[] for _ in range(n)]
        for i in self._order:
            part = self.parts[i]
            mask = ALL if masks is None else masks[part.number]
            if mask.empty:
                continue
            asked = (indptr, own[self.places[i]], weights)
            reach = np.array([one.least for one in best])
            found = part.searcher.top_batch(asked, x.k, x.limits, x.plan, threads, mask.allowed, reach, x.deadline)
            for q, (docs, scores, row) in enumerate(found):
                told[q].append(row)
                best[q].add(part, docs, scores)
        made = []
        for q in range(n):
            numbers, scores = best[q].merged(self.docno)
            exact = not dropped[q] and all(is_exact(row) for row in told[q])
            low, high = int(indptr[q]), int(indptr[q + 1])
            known = self._known([one[low:high] for one in own]) if x.explain else 0
            how = _explained(told[q], terms[low:high], known) if x.explain else ()
            made.append(TierAnswer(numbers, scores, exact, how, all(row[COMPLETE] for row in told[q])))
        return made

    def _known(self, own: Sequence[NDArray[np.int64]]) -> int:
        """How many of a query's terms a part of the tier knows."""
        known = reduce(np.maximum, [own[place] for place in self.places])
        return int((known >= 0).sum())


def _explained(rows: Sequence[list[float]], terms: NDArray[np.int64], known: int) -> tuple[Explanation, ...]:
    """How the parts of a tier answered, added up; the parts that no passage may be returned of were not asked."""
    told = [explain(row) for row in rows]
    if len(told) == 1:
        return (told[0],)
    plans = dict.fromkeys(one.plan for one in told)
    return (
        Explanation(
            plan=", ".join(plans),
            terms=min(known, len(terms)),
            postings=sum(one.postings for one in told),
            scored=sum(one.scored for one in told),
            blocks=sum(one.blocks for one in told),
            visited=sum(one.visited for one in told),
            superblocks=sum(one.superblocks for one in told),
            whole_superblocks=sum(one.whole_superblocks for one in told),
            threshold=max((one.threshold for one in told), default=0.0),
            bound=max((one.bound for one in told), default=0.0),
            first_terms=max((one.first_terms for one in told), default=0),
            rescored=sum(one.rescored for one in told),
        ),
    )


class TierPair:
    """A first and a second tier, and the model that decides when the second is searched; None always searches both."""

    def __init__(self, first: Tier, second: Tier, model: RoutingModel | None) -> None:
        self.first, self.second, self.model = first, second, model
        self.comparable = first.space is second.space
        """Whether the scores of the tiers compare: the same encoder made both."""

    def first_depth(self, k: int, tiers: str) -> int:
        """Passages wanted of the first tier; a calibrated model needs as many as it was calibrated on."""
        return max(k, self.model.k) if tiers == "auto" and self.model is not None else k

    def escalates(
        self, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: TierAnswer, k: int, tiers: str
    ) -> bool:
        """Whether a query with this answer of the first tier escalates to the second.

        Args:
            terms: ids in the collection, int64[n].
            weights: float32[n], as passages are scored.
            kept: the first tier's answer.
            k: passages wanted.
            tiers: as `Index.search`.
        """
        if not kept.complete:
            return False
        if tiers != "auto":
            return tiers == "both"
        if self.model is None or len(kept.scores) < k:
            return True
        return self.model.escalates(self.features(terms, weights, kept.scores, self.model.k))

    def features(
        self, terms: NDArray[np.int64], weights: NDArray[np.float32], scores: NDArray[np.float64], k: int
    ) -> NDArray[np.float64]:
        """Routing features, float64[len(FEATURES)]; those about the second tier are all 1 if scores do not compare.

        Args:
            terms: ids in the collection, int64[n].
            weights: float32[n], as passages are scored.
            scores: float64[m], of the first tier's answer.
            k: length of the answer.

        Raises:
            DamagedArtifactError: the lists of a tier do not fit its counts.
        """
        if not self.comparable:
            return np.concatenate([score_features(scores, k), np.ones(len(LIST_FEATURES))])
        ids, own = self._known(terms, weights)
        return routing_features(scores, own, list_statistics(self.first, ids), list_statistics(self.second, ids), k)

    def settled(self, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: TierAnswer, k: int) -> bool:
        """Whether the second tier provably cannot change the first's k best passages.

        The sum of weight x largest impact bounds every score of the second tier (MaxScore: Turtle and Flood,
        Information Processing and Management 1995).
        """
        if k == 0:
            return True
        if not self.comparable:
            return False
        ids, own = self._known(terms, weights)
        return is_settled(own, list_statistics(self.second, ids)[:, 0], kept.scores, k)

    def merge(self, kept: TierAnswer, pruned: TierAnswer, k: int) -> TierAnswer:
        """The k best of both. Exact only where scores compare, or one tier found nothing."""
        scores = pruned.scores
        if not self.comparable:
            scores = interleaved(kept.scores, pruned.scores, self.first.live, self.second.live)
        numbers, best = merged([(kept.numbers, kept.scores), (pruned.numbers, scores)], k, self.first.docno)
        one_scale = self.comparable or not len(kept.scores) or not len(pruned.scores)
        exact = kept.exact and pruned.exact and one_scale
        how, complete = kept.explanations + pruned.explanations, kept.complete and pruned.complete
        return TierAnswer(numbers, best, exact, how, complete)

    def translated(self, terms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Term ids of the first tier as those of the second, by the terms' strings; -1 for unknown ones."""
        own, find = self.first.space.vocabulary, self.second.space.vocabulary.find
        known = len(own)
        return np.array([find(own.term(t)) if 0 <= t < known else -1 for t in terms.tolist()], np.int64)

    def second_query(self, query: AnyQuery | None, terms: NDArray[np.int64], weights: NDArray[np.float32]) -> AnyQuery:
        """The query as the second tier takes it; `terms` and `weights` are the first tier's, as they were given."""
        if self.comparable:  # term ids are the same in both: a text need not be encoded again
            return terms, weights
        if isinstance(query, str | Query | Mapping):
            return query
        return self.translated(terms), weights

    def _known(
        self, terms: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The terms that the collection has."""
        known = (terms >= 0) & (terms < len(self.first.space.vocabulary))
        return terms[known].astype(np.int64), weights[known]


def is_settled(weights: NDArray[np.float32], largest: NDArray[np.float64], scores: NDArray[np.float64], k: int) -> bool:
    """Whether a second tier with these largest products of its lists cannot change the k best, as `TierPair.settled`.

    Args:
        weights: float32[terms], the query's.
        largest: float64[terms], of the second tier's lists, in units of scores.
        scores: float64[n], of the first tier's answer.
        k: passages wanted, above 0.
    """
    bound = float((weights.astype(np.float64) * largest).sum()) * ROUNDING
    return bound == 0 or (len(scores) >= k and bound < float(scores[k - 1]))


def interleaved(kept: NDArray[np.float64], pruned: NDArray[np.float64], first: int, second: int) -> NDArray[np.float64]:
    """Scores for the second tier's passages: the j-th, from 0, belongs at rank (j + 1/2) x first / second.

    There it takes the first tier's score, linearly interpolated; beyond the first tier's last passage, that score
    falls off with the rank.

    Args:
        kept: float64[n], scores of the first tier's answer.
        pruned: float64[m], the second tier's.
        first: live passages of the first tier.
        second: live passages of the second.
    """
    if not len(kept):
        return pruned
    n = len(kept)
    ranks = (np.arange(len(pruned)) + 0.5) * first / max(second, 1)
    beyond = kept[-1] * n / np.maximum(ranks + 1, n)
    return np.where(ranks <= n - 1, np.interp(ranks, np.arange(n), kept), beyond)


def list_statistics(tier: Tier, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest and tenth impact of each term's list, in units of scores, and its postings: float64[terms, 3].

    Over several parts: the largest, the largest tenth, and the postings of all; deleted passages count.

    Args:
        tier: whose lists.
        ids: int64[terms], in the collection.

    Raises:
        DamagedArtifactError: its lists do not fit its counts.
    """
    total = np.zeros((len(ids), 3))
    own = tier.space.vocabulary.locals(ids)
    for part, place in zip(tier.parts, tier.places, strict=True):
        known = own[place] >= 0
        found = np.zeros((len(ids), 3))
        found[known] = _statistics_of(part.layout, own[place][known])
        total = np.concatenate([np.maximum(total[:, :2], found[:, :2]), total[:, 2:] + found[:, 2:]], axis=1)
    return total


def _statistics_of(layout: Layout, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """`list_statistics` of one part, by its own ids."""
    starts, rows, postings = layout.starts, layout.rows[ids], layout.postings_of(ids)
    impacts = np.zeros((len(ids), 2))
    impacts[rows >= 0] = layout.kth[rows[rows >= 0], :2]
    for i in np.flatnonzero(rows < 0).tolist():  # too short for a row, and for a tenth posting
        impacts[i, 0] = layout.impacts[starts[ids[i]] : starts[ids[i] + 1]].max(initial=0)
    return np.concatenate([impacts * layout.counts.scale, postings[:, None].astype(np.float64)], axis=1)


def calibrate_tiers(index: Index, queries: Iterable[AnyQuery], rate: float = 0.3, *, k: int = 10) -> RoutingModel:
    """Fit the routing model on logged queries, without judgements, and write it into the index.

    About `rate` of queries like these will escalate: those whose first-tier answers are likely to miss most. Queries
    that decided what was pruned miss less than others will; calibrate on queries that did not. What
    `calibrate_recall` measured before goes.

    Args:
        index: an index with a second tier. `index.refresh()` takes up the calibration.
        queries: the logged queries; both tiers are searched for each.
        rate: share of them that should escalate, in [0, 1].
        k: passages of an answer.

    Raises:
        InputError: the index has no second tier, or there are no queries.
        ConfigError: the rate is out of range.
    """
    model = fit_model(index, queries, rate, k=k)
    with Transaction(index.path) as transaction:
        measured = {FIELD: None} if transaction.base.fields.get(FIELD) else {}  # with another routing
        transaction.commit(routing=model.as_json(), **measured)
    return model


def fit_model(index: Index, queries: Iterable[AnyQuery], rate: float, *, k: int = 10) -> RoutingModel:
    """As `calibrate_tiers`, without writing."""
    if not hasattr(index, "with_routing"):
        raise InputError(f"tiers are calibrated in an open Index; got {shown(index)}")
    k, now = whole("k", k, 1), index._now
    if now.pair is None:
        raise InputError(
            f"the index {index.path} has no second tier to calibrate; build it with [prune] rest = 'tier-2'"
        )
    if k > len(index):
        raise InputError(f"k is {shown(k)}, but the index holds {len(index)} passages")
    table, missed = [], []
    asked = listed(queries)
    if isinstance(asked, SparseBatch):
        raise InputError("tiers are calibrated on a list of queries, not on a SparseBatch")
    for query in asked:
        terms, weights = index.terms(query)
        first = index.search((terms, weights), k, tiers="first")
        joint = index.search(query, k, tiers="both")
        table.append(now.pair.features(terms, now.first.space.weigh(terms, weights), first.scores, k))
        missed.append(missed_share(first.docnos, joint.docnos, k))
    return RoutingModel.fit(np.array(table).reshape(-1, len(FEATURES)), np.array(missed), rate, k)
