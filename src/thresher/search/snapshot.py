"""What an `Index` answers from: one commit, opened, which never changes.

Parts that one encoder made share one numbering of their terms, and scores of both tiers compare where one encoder made
both. A snapshot of a later commit takes over what both have: open files, compiled calls, masks, encoders, vectors.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import DamagedArtifactError, InputError
from thresher.index.filters import Where
from thresher.publish import MANIFEST
from thresher.ranking import Run
from thresher.records import SparseBatch
from thresher.search.best import merged
from thresher.search.effort import EXACT_LIMITS
from thresher.search.parts import ALL, SearchedPart, compact, joined
from thresher.search.promises import Promises
from thresher.search.queries import listed, qids_of, refuse_weight
from thresher.search.results import SearchRanking, StoredPassages
from thresher.search.routing import RoutingModel
from thresher.search.tiers import Tier, TierAnswer, TierPair, Wanted
from thresher.search.vocabulary import Encoders, TermSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.index.collection import Collection
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.search.parts import Mask, Masks
    from thresher.search.queries import AnyQuery, Tiers
    from thresher.search.searcher import TierSearcher
    from thresher.vectors.retrieve import DenseIndex
    from thresher.vectors.store import VectorStore


class Snapshot:
    """One commit, open for searching. Safe to share between threads.

    Args:
        collection: the commit.
        scope: what passages must match to be found at all; None for all.
        model: decides when the second tier is searched, in place of the commit's own.
        earlier: a snapshot of the same index, of which everything is taken over that has not changed.

    Attributes:
        parts: the tiers of its segments, in the order of the passages' numbers.
        stored: its passages.
        first: the first tier.
        second: the second, None where it has no passages.
        pair: both, None where there is one.
        masks: which passages a search without filters may return; None where all.
        only: the searcher of the only part, None where there are several.
        allowed: which of its passages may be returned; None for all.
        promises: the recall that can be promised.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        scope: Where | None = None,
        model: RoutingModel | None = None,
        earlier: Snapshot | None = None,
    ) -> None:
        self.collection, self.scope, self.given_model = collection, scope, model
        known = {} if earlier is None else {(part.part.segment.name, part.tier): part for part in earlier.parts}
        self.parts: tuple[SearchedPart, ...] = tuple(
            SearchedPart(part, number, known.get((part.segment.name, part.tier)))
            for number, part in enumerate(collection.parts)
        )
        self.encoders: Encoders = Encoders() if earlier is None else earlier.encoders
        self.stored: StoredPassages = StoredPassages.of(collection, scope, None if earlier is None else earlier.stored)
        self.masks = self._masks(scope)
        self.first, self.second = self._tiers()
        self.model = routing_of(collection) if model is None else model
        self.pair = None if self.second is None else TierPair(self.first, self.second, self.model)
        self.only: TierSearcher | None = self.parts[0].searcher if len(self.parts) == 1 else None
        self.allowed = None if self.only is None or self.masks is None else self.masks[0].allowed
        self.promises: Promises = Promises(collection, None if earlier is None else earlier.promises)
        self._neighbours_before: DenseIndex | None = None if earlier is None else earlier.known_neighbours()

    def _tiers(self) -> tuple[Tier, Tier | None]:
        """The first tier and the second; one space of terms where one encoder made both."""
        firsts = [part for part in self.parts if part.tier == 1]
        seconds = [part for part in self.parts if part.tier == 2 and part.size]
        docno, (first, *_) = self.stored.docno, firsts
        if seconds and first.fingerprint == seconds[0].fingerprint != "":
            both = TermSpace([part for part in self.parts if part.tier == 1 or part.size], self.encoders)
            return Tier(firsts, both, docno), Tier(seconds, both, docno)
        space = TermSpace(firsts, self.encoders)
        second = Tier(seconds, TermSpace(seconds, self.encoders), docno) if seconds else None
        return Tier(firsts, space, docno), second

    def _masks(self, where: Where | None) -> Masks:
        return compact([part.mask(where) for part in self.parts])

    def masked(self, where: Filter | None, allow: object) -> Masks:
        """Which passages a search with these filters may return.

        Raises:
            InputError: a field does not exist or has another type; or `allow` is neither docnos nor a mask.
        """
        masks = self.masks
        if where is not None:
            masks = self._masks(self.narrowed(where))
        if allow is None:
            return masks
        wanted = self._wanted(allow)
        made: list[Mask] = []
        for i, part in enumerate(self.parts):
            own = wanted[part.start : part.start + part.size]
            numbers = None if masks is None else masks[i].numbers
            made.append(part.made(own if numbers is None else own & numbers))
        return compact(made)

    def narrowed(self, where: Filter) -> Where:
        """The filter, and what the scope asks for.

        Raises:
            InputError: a field does not exist or has another type.
        """
        parsed = Where.parse(where)
        parsed.check(self.collection.schema)
        return parsed if self.scope is None else self.scope & parsed

    def _wanted(self, allow: object) -> NDArray[np.bool_]:
        """bool[numbers]: the passages that `allow` names."""
        total = int(self.stored.starts[-1])
        if isinstance(allow, np.ndarray) and allow.dtype == np.bool_:
            if allow.shape != (total,):
                raise InputError(
                    f"allow is a mask of the shape {allow.shape}; give docnos, or one True or False for each passage "
                    "number, those of deleted passages included"
                )
            return allow
        if isinstance(allow, str | bytes):
            raise InputError(f"allow must be a list of docnos or a mask by passage number; got {allow!r}")
        wanted = np.zeros(total, bool)
        numbers = self.stored.numbers(allow)  # type: ignore[arg-type]  # checked there
        wanted[numbers[numbers >= 0]] = True
        return wanted

    def answer(self, query: AnyQuery, wanted: Wanted, tiers: str, masks: Masks) -> SearchRanking:
        """The best passages for one query."""
        first, pair = self.first, self.pair
        terms, given = first.space.row(query)
        weights = first.space.weigh(terms, given)
        if pair is None:
            return self._ranking(first.top(terms, weights, wanted, masks), tiered=False)
        kept = first.top(terms, weights, wanted.best(pair.first_depth(wanted.k, tiers)), masks)
        if not pair.escalates(terms, weights, kept, wanted.k, tiers):
            return self._first_only(pair, terms, weights, kept, wanted.k)
        if not pair.comparable:
            terms, given = pair.second.space.row(pair.second_query(query, terms, given))
            weights = pair.second.space.weigh(terms, given)
        return self._merged(pair, kept, pair.second.top(terms, weights, wanted, masks), wanted.k)

    def answer_batch(
        self, queries: Sequence[AnyQuery] | SparseBatch, wanted: Wanted, tiers: str, masks: Masks, threads: int
    ) -> Run:
        """The best passages for each query; qids as `Index.search_batch`."""
        first, pair = self.first, self.pair
        asked = listed(queries)
        qids = qids_of(asked)
        indptr, terms, given = first.space.batch(asked)
        weights = first.space.weigh(terms, given, indptr)
        wide = wanted if pair is None else wanted.best(pair.first_depth(wanted.k, tiers))
        found = first.top_batch((indptr, terms, weights), wide, masks, threads)
        if pair is None:
            return Run({qid: self._ranking(one, tiered=False) for qid, one in zip(qids, found, strict=True)})
        bounds = list(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True))
        each = [(terms[low:high], weights[low:high]) for low, high in bounds]
        through = [i for i, kept in enumerate(found) if pair.escalates(*each[i], kept, wanted.k, tiers)]
        texts = [None] * len(each) if isinstance(asked, SparseBatch) else asked
        raw = [(terms[low:high], given[low:high]) for low, high in bounds]
        rows = pair.second.space.batch([pair.second_query(texts[i], *raw[i]) for i in through])
        rows = (rows[0], rows[1], pair.second.space.weigh(rows[1], rows[2], rows[0]))
        second = dict(zip(through, pair.second.top_batch(rows, wanted, masks, threads), strict=True))
        made = {}
        for i, (qid, kept) in enumerate(zip(qids, found, strict=True)):
            if i in second:
                made[qid] = self._merged(pair, kept, second[i], wanted.k)
            else:
                made[qid] = self._first_only(pair, *each[i], kept, wanted.k)
        return Run(made)

    def _ranking(self, found: TierAnswer, *, tiered: bool) -> SearchRanking:
        return SearchRanking(
            self.stored,
            None,
            found.numbers,
            found.scores,
            found.exact,
            None,
            tiered,
            found.explanations,
            found.complete,
        )

    def _first_only(
        self, pair: TierPair, terms: NDArray[np.int64], weights: NDArray[np.float32], kept: TierAnswer, k: int
    ) -> SearchRanking:
        exact = kept.exact and pair.settled(terms, weights, kept, k)
        return self._ranking(
            TierAnswer(kept.numbers[:k], kept.scores[:k], exact, kept.explanations, kept.complete), tiered=False
        )

    def _merged(self, pair: TierPair, kept: TierAnswer, pruned: TierAnswer, k: int) -> SearchRanking:
        return self._ranking(pair.merge(kept, pruned, k), tiered=True)

    def facets(self, field: str, query: AnyQuery | None, masks: Masks) -> dict[Value, int]:
        """Passages by value of a field, of those that share a term with the query; of all without one."""
        return self.counted(field, None if query is None else self._terms_of(query), masks)

    def counted(self, field: str, terms: dict[int, NDArray[np.int64]] | None, masks: Masks) -> dict[Value, int]:
        """Passages by value of a field, of those that hold one of the terms of their part, by its ids; None for all."""
        total: dict[Value, int] = {}
        for part in self.parts:
            mask = ALL if masks is None else masks[part.number]
            if mask.empty or not part.size:
                continue
            numbers = mask.numbers
            if terms is not None:
                numbers = part.searcher.matches(terms[part.number], mask.allowed).astype(bool)
            for value, count in part.part.columns.counts(field, numbers).items():
                total[value] = total.get(value, 0) + count
        return total

    def _terms_of(self, query: AnyQuery) -> dict[int, NDArray[np.int64]]:
        """By part: the ids that the query's terms of positive weight have there."""
        found: dict[int, NDArray[np.int64]] = {}
        first, pair = self.first.space, self.pair
        terms, weights = first.row(query)
        spaces = [(first, terms, weights)]
        if pair is not None and not pair.comparable:
            spaces.append((pair.second.space, *pair.second.space.row(pair.second_query(query, terms, weights))))
        for space, ids, given in spaces:
            if not (np.isfinite(given) & (given >= 0)).all():
                refuse_weight(0, given)
            kept = ids[space.weigh(ids, given) > 0]
            found |= zip((part.number for part in space.parts), space.vocabulary.locals(kept), strict=True)
        return found

    def checked_vectors(self) -> VectorStore:
        """The dense vectors.

        Raises:
            InputError: there are none.
        """
        if self.stored.vectors is None:
            raise InputError(
                f"the index {self.collection.path} has no vectors; build it with a [vectors] table in its recipe"
            )
        return self.stored.vectors

    @cached_property
    def neighbours(self) -> DenseIndex:
        """The index of its vectors."""
        from thresher.vectors.retrieve import DenseIndex

        return DenseIndex.over(self.checked_vectors(), earlier=self._neighbours_before)

    def known_neighbours(self) -> DenseIndex | None:
        """The index of vectors that was made last, for this commit or one before."""
        known: DenseIndex | None = self.__dict__.get("neighbours")
        return known or self._neighbours_before

    def dense(self, vector: NDArray[np.floating], k: int, masks: Masks) -> SearchRanking:
        """The k passages whose vectors are nearest to the query's, float[dimensions]."""
        vectors, neighbours = self.checked_vectors(), self.neighbours
        asked, allowed = vectors.checked_query(vector), joined(self.parts, masks)
        numbers, scores = np.zeros(0, np.int64), np.zeros(0)
        if k and len(vectors) and (allowed is None or allowed.any()):
            (found,) = neighbours.search(asked[None], k, passages=self.stored, allowed=allowed)
            numbers, scores = found.numbers, found.scores
        every = np.ones(int(self.stored.starts[-1]), bool) if allowed is None else allowed
        made = SearchRanking(
            self.stored, None, numbers, scores, vectors.lacking(every) == 0, None, self.pair is not None
        )
        made.source = "dense"
        return made

    def found(self, ranking: SearchRanking) -> bool:
        """Whether a ranking came from this commit, seen in this scope."""
        return ranking.stored is self.stored

    def with_neighbours(
        self,
        ranking: SearchRanking,
        query: AnyQuery,
        vector: NDArray[np.floating],
        count: int,
        tiers: Tiers,
        masks: Masks,
    ) -> SearchRanking:
        """As `Index.with_neighbours`, for a ranking of this commit."""
        if tiers == "first" and self.pair is not None:
            kept = masks or (ALL,) * len(self.parts)
            masks = tuple(
                part.made(np.zeros(part.size, bool)) if part.tier == 2 else mask
                for part, mask in zip(self.parts, kept, strict=True)
            )
        near = self.dense(vector, count, masks).numbers
        more = near[~np.isin(near, ranking.numbers)]
        if not len(more):
            return ranking
        allowed = np.zeros(int(self.stored.starts[-1]), bool)
        allowed[more] = True
        wanted = Wanted(len(more), EXACT_LIMITS, "auto", False)
        found = self.answer(query, wanted, "first" if tiers == "first" else "both", self.masked(None, allowed))
        # what was not among the best scores no more than the last of them; scores of two tiers may not compare
        most = float(ranking.scores[-1]) if len(ranking) else np.inf
        apart = more[~np.isin(more, found.numbers)]
        numbers = np.concatenate([found.numbers, apart])
        scores = np.concatenate([np.minimum(found.scores, most), np.zeros(len(apart))])
        docno = self.stored.docno
        order = sorted(range(len(numbers)), key=lambda i: (-scores[i], docno(int(numbers[i]))))
        both = [(ranking.numbers, ranking.scores), (numbers[order], scores[order])]
        return ranking.joined(*merged(both, len(ranking) + len(more), docno), exact=ranking.exact and found.exact)


def routing_of(collection: Collection) -> RoutingModel | None:
    """The calibration of the tiers that a commit holds; None where there is none.

    Raises:
        DamagedArtifactError: it cannot be read.
    """
    routing = collection.commit.routing
    if routing is None:
        return None
    try:
        return RoutingModel.from_json(routing)
    except (ValueError, KeyError, TypeError, OverflowError) as err:
        problem = f"its routing cannot be read ({err}); run `thresher calibrate tiers` again"
        raise DamagedArtifactError(str(collection.path / MANIFEST), problem) from err
