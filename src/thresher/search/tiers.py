"""Two tiers of one corpus: when the second is searched, and how the answers of both are merged.

Passages pruned for low quality are in the second tier, cheaply indexed. A query escalates to it always, unless the
tiers are calibrated: then a linear function of routing features (`thresher.search.routing`) says how much of the joint
top-k the first tier is likely to miss. Its weights and threshold come from logged queries without judgements: both
tiers are searched for each, and the target is the share of the joint top-k, weighted by the discount of nDCG, that only
the second tier has.

Tiers made by the same encoder have comparable scores (each tier quantises its impacts with its own scale) and are
merged by score, then docno. Otherwise the passages of the second tier take the scores that the first tier has at the
ranks where they would stand if both tiers were samples of one ranking; ties go by docno there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import shown, whole
from thresher.errors import InputError
from thresher.index.transaction import Transaction
from thresher.records import Query, SparseBatch
from thresher.search.queries import listed, to_row
from thresher.search.routing import (
    FEATURES,
    LIST_FEATURES,
    RoutingModel,
    missed_share,
    routing_features,
    score_features,
)
from thresher.search.searcher import explain, is_exact
from thresher.search.statistics import Bm25Statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.encode import QueryEncoder
    from thresher.index.layout import Layout
    from thresher.search.index import Index
    from thresher.search.queries import AnyQuery, Vocabulary
    from thresher.search.results import Explanation
    from thresher.search.searcher import Found, TierSearcher

_ROUNDING = 1 + 1e-6
"""Upper bounds are compared with scores after this factor: query weights are float32."""


@dataclass(frozen=True, slots=True)
class Part:
    """One tier's answer.

    Attributes:
        layout: the tier.
        docs: uint32[n], internal ids, best first.
        scores: float64[n].
        exact: whether it is the tier's exact top-k.
        explanations: how it was found, if `explain` was given.
    """

    layout: Layout
    docs: NDArray[np.uint32]
    scores: NDArray[np.float64]
    exact: bool
    explanations: tuple[Explanation, ...]

    @classmethod
    def of(cls, searcher: TierSearcher, found: Found, alpha: float, explained: bool) -> Part:
        """What `searcher` found with bounds scaled by `alpha`."""
        docs, scores, row = found
        return cls(searcher.layout, docs, scores, is_exact(row, alpha), (explain(row),) if explained else ())


class Whole:
    """A tier as statistics count it: nothing of it is deleted."""

    deleted = deleted_counts = None

    def __init__(self, layout: Layout) -> None:
        self.layout = layout


class TierTerms:
    """One numbering of the terms of tiers that one encoder made: the first tier's ids, then the second's.

    Args:
        tiers: the vocabularies.
    """

    def __init__(self, tiers: Sequence[Vocabulary]) -> None:
        self._tiers = tuple(tiers)

    def __len__(self) -> int:
        return sum(map(len, self._tiers))

    def find(self, term: str) -> int:
        """The id of `term`, -1 where no tier knows it."""
        before = 0
        for tier in self._tiers:
            if (number := tier.find(term)) >= 0:
                return before + number
            before += len(tier)
        return -1

    def term(self, number: int) -> str:
        """The string of the term with this id."""
        first = len(self._tiers[0])
        return self._tiers[0].term(number) if number < first else self._tiers[1].term(number - first)

    def local(self, part: int, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids within a tier of terms with these ids, int64[n]; -1 for those it lacks."""
        find, known = self._tiers[part].find, len(self)
        return np.array([find(self.term(t)) if 0 <= t < known else -1 for t in ids.tolist()], np.int64)


class TierPair:
    """A first and a second tier, and the model that decides when the second is searched; None always searches both."""

    def __init__(self, first: TierSearcher, second: TierSearcher, model: RoutingModel | None) -> None:
        self.first, self.second, self.model = first, second, model
        self.vocabulary = TierTerms([first.vocabulary, second.vocabulary])

    @cached_property
    def _encoder(self) -> QueryEncoder:
        loaded = self.second.encoder
        bound = getattr(loaded, "with_vocabulary", None)
        return loaded if bound is None else bound(self.second.vocabulary.find)

    def load_encoder(self) -> QueryEncoder:
        """What turns query texts into weighted terms of the second tier, where another encoder made it."""
        return self._encoder

    @cached_property
    def statistics(self) -> Bm25Statistics | None:
        """Of a second tier that another encoder made, where that is BM25."""
        if self.comparable or not self.second.layout.counts.idf:
            return None
        return Bm25Statistics([Whole(self.second.layout)], TierTerms([self.second.vocabulary]))

    @cached_property
    def comparable(self) -> bool:
        """Whether the scores of the tiers compare: the same encoder made both."""
        return self.first.fingerprint == self.second.fingerprint != ""

    def first_depth(self, k: int, tiers: str) -> int:
        """Passages wanted of the first tier; a calibrated model needs as many as it was calibrated on."""
        return max(k, self.model.k) if tiers == "auto" and self.model is not None else k

    def escalates(self, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: Part, k: int, tiers: str) -> bool:
        """Whether a query with this answer of the first tier escalates to the second."""
        if tiers != "auto":
            return tiers == "both"
        if self.model is None or len(kept.docs) < k:
            return True
        return self.model.escalates(self.features(terms, weights, kept, self.model.k))

    def features(
        self, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: Part, k: int
    ) -> NDArray[np.float64]:
        """Routing features, float64[len(FEATURES)]; those about the second tier are all 1 if scores do not compare.

        Raises:
            DamagedArtifactError: the lists of a tier do not fit its counts.
        """
        if not self.comparable:
            return np.concatenate([score_features(kept.scores, k), np.ones(len(LIST_FEATURES))])
        known = terms >= 0
        ids, own = terms[known], weights[known]
        first, second = (self.vocabulary.local(tier, ids) for tier in (0, 1))
        return routing_features(
            kept.scores, own, list_statistics(self.first.layout, first), list_statistics(self.second.layout, second), k
        )

    def settled(self, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: Part, k: int) -> bool:
        """Whether the second tier provably cannot change the first's k best passages.

        The sum of weight x largest impact bounds every score of the second tier (MaxScore: Turtle and Flood,
        Information Processing and Management 1995).
        """
        if k == 0:
            return True
        if not self.comparable:
            return False
        known = terms >= 0
        own = weights[known]
        largest = list_statistics(self.second.layout, self.vocabulary.local(1, terms[known]))[:, 0]
        bound = float((own.astype(np.float64) * largest).sum()) * _ROUNDING
        return bound == 0 or (len(kept.docs) >= k and bound < float(kept.scores[k - 1]))

    def merge(self, kept: Part, pruned: Part, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k best of both: places int64[n] in the first tier's answer followed by the second's, and scores."""
        if self.comparable:
            return _by_score(kept, pruned, k, pruned.scores)
        return _by_score(kept, pruned, k, self._interleaved(kept, pruned))

    def _interleaved(self, kept: Part, pruned: Part) -> NDArray[np.float64]:
        """Scores for the second tier's passages: the j-th, from 0, belongs at rank (j + 1/2) x |first| / |second|.

        There it takes the first tier's score, linearly interpolated; beyond the first tier's last passage, that score
        falls off with the rank.
        """
        if not len(kept.scores):
            return pruned.scores
        n = len(kept.scores)
        ranks = (np.arange(len(pruned.scores)) + 0.5) * len(self.first) / len(self.second)
        beyond = kept.scores[-1] * n / np.maximum(ranks + 1, n)
        return np.where(ranks <= n - 1, np.interp(ranks, np.arange(n), kept.scores), beyond)

    def translated(self, terms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Term ids of the first tier as those of the second, by the terms' strings; -1 for unknown ones."""
        known, find = len(self.first.vocabulary), self.second.vocabulary.find
        return np.array(
            [find(self.first.vocabulary.term(t)) if 0 <= t < known else -1 for t in terms.tolist()], np.int64
        )

    def second_query(self, query: AnyQuery | None, terms: NDArray[np.int64], weights: NDArray[np.float32]) -> AnyQuery:
        """The query as the second tier takes it; `terms` and `weights` are the first tier's."""
        if self.comparable:  # a text need not be encoded again
            return self.vocabulary.local(1, terms), weights
        if isinstance(query, str | Query | Mapping):
            return query
        return self.translated(terms), weights

    def second_row(
        self, query: AnyQuery, terms: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The query's terms in the second tier and the weights that it is searched with."""
        ids, own = to_row(self.second_query(query, terms, weights), self.second.vocabulary, self.load_encoder)
        return ids, self.weighed(ids, own)

    def weighed(self, terms: NDArray[np.int64], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """Query weights as the second tier is searched with; those of one encoder are weighed already."""
        return weights if self.statistics is None else self.statistics.weigh(terms, weights)


def _by_score(
    kept: Part, pruned: Part, k: int, others: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """By score, `others` for those of `pruned`, then docno in bytewise order; docnos are read for ties only."""
    scores = np.concatenate([kept.scores, others])
    order = np.argsort(-scores, kind="stable")
    if k < len(order):
        order = order[: int(np.searchsorted(-scores[order], -scores[order[k - 1]], side="right")) if k else 0]
    ordered = scores[order]
    tied = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(tied):
        at = np.union1d(tied, tied + 1)
        n, rows = len(kept.docs), order[at]
        parts = [(kept, rows[rows < n], 0), (pruned, rows[rows >= n] - n, n)]
        names = {
            place + before: part.layout.docnos.raw(number)
            for part, places, before in parts
            for place, number in zip(places.tolist(), part.layout.numbers_of(part.docs[places]).tolist(), strict=True)
        }
        own, other = rows[rows < n].tolist(), rows[rows >= n].tolist()  # each tier's own order stays
        order[at] = list(merge(own, other, key=lambda place: (-scores[place], names[place])))
    order = order[:k]
    return order, scores[order]


def list_statistics(layout: Layout, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest and tenth impact of each term's list, in units of scores, and its postings: float64[terms, 3].

    All are 0 for ids that are no term's.

    Raises:
        DamagedArtifactError: its lists do not fit its counts.
    """
    known = (ids >= 0) & (ids < layout.counts.terms)
    if not known.all():
        found = np.zeros((len(ids), 3))
        found[known] = list_statistics(layout, ids[known])
        return found
    starts, rows, postings = layout.starts, layout.rows[ids], layout.postings_of(ids)
    impacts = np.zeros((len(ids), 2))
    impacts[rows >= 0] = layout.kth[rows[rows >= 0], :2]
    for i in np.flatnonzero(rows < 0).tolist():  # too short for a row, and for a tenth posting
        impacts[i, 0] = layout.impacts[starts[ids[i]] : starts[ids[i] + 1]].max(initial=0)
    return np.concatenate([impacts * layout.counts.scale, postings[:, None].astype(np.float64)], axis=1)


def calibrate_tiers(index: Index, queries: Iterable[AnyQuery], rate: float = 0.3, *, k: int = 10) -> RoutingModel:
    """Fit the routing model on logged queries, without judgements, and write it into the index.

    About `rate` of queries like these will escalate: those whose first-tier answers are likely to miss most. Queries
    that decided what was pruned miss less than others will; calibrate on queries that did not.

    Args:
        index: an index with a second tier. Open it again to use the calibration.
        queries: the logged queries; both tiers are searched for each.
        rate: share of them that should escalate, in [0, 1].
        k: passages of an answer.

    Raises:
        InputError: the index has no second tier, or there are no queries.
        ConfigError: the rate is out of range.
    """
    model = fit_model(index, queries, rate, k=k)
    with Transaction(index.path) as transaction:
        transaction.commit(routing=model.as_json())
    return model


def fit_model(index: Index, queries: Iterable[AnyQuery], rate: float, *, k: int = 10) -> RoutingModel:
    """As `calibrate_tiers`, without writing."""
    if not hasattr(index, "layouts"):
        raise InputError(f"tiers are calibrated in an open Index; got {shown(index)}")
    k, pair = whole("k", k, 1), index._pair
    if pair is None:
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
        weights = index.weighed(terms, weights)
        joint = index.search(query, k, tiers="both")
        kept = Part(index.layouts[0], np.empty(0, np.uint32), first.scores, True, ())
        table.append(pair.features(terms, weights, kept, k))
        missed.append(missed_share(first.docnos, joint.docnos, k))
    return RoutingModel.fit(np.array(table).reshape(-1, len(FEATURES)), np.array(missed), rate, k)
