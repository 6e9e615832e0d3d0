"""Statistics of terms over all shards: the IDF that queries are weighed by, and bounds of each shard's scores.

What the shards say of a term is kept until one of them has another commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.encode.bm25 import idf
from thresher.encode.hybrid import LEARNED
from thresher.search.queries import refuse_weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.distributed.messages import Lists

MOST = 200_000
"""Terms that are kept; more are asked for again."""


class Entry(NamedTuple):
    """A term over all shards.

    Attributes:
        known: whether a shard has it.
        factor: what query weights are multiplied by.
        lists: float64[shards, 2, 3]: by shard and tier, largest and tenth impact in units of scores, and postings.
    """

    known: bool
    factor: float
    lists: NDArray[np.float64]


class Query(NamedTuple):
    """A query with its final weights, as passages are scored with them.

    Attributes:
        terms: those that a shard has, in the order given; one may come twice.
        weights: float32[n].
        lists: float64[n, shards, 2, 3], see `Entry`.
        dropped: terms that were left out since they weigh less than others.
    """

    terms: tuple[str, ...]
    weights: NDArray[np.float32]
    lists: NDArray[np.float64]
    dropped: int = 0

    def heaviest(self, most: int) -> Query:
        """The `most` heaviest terms, as `TermSpace.heaviest` takes them."""
        sums: dict[str, float] = {}
        for term, weight in zip(self.terms, self.weights.tolist(), strict=True):
            if weight > 0:
                sums[term] = sums.get(term, 0.0) + weight
        if len(sums) <= most:
            return self
        total = {term: np.float32(weight) for term, weight in sums.items()}
        kept = sorted(total, key=lambda term: (-total[term], term))[:most]
        lists = self.lists[[self.terms.index(term) for term in kept]]
        return Query(tuple(kept), np.array([total[term] for term in kept], np.float32), lists, len(sums) - most)

    def bounds(self, tier: int) -> NDArray[np.float64]:
        """float64[shards]: what no score of a shard exceeds, but for rounding."""
        bound: NDArray[np.float64] = self.weights.astype(np.float64) @ self.lists[:, :, tier - 1, 0]
        return bound

    def statistics(self, tier: int) -> NDArray[np.float64]:
        """float64[n, 3]: as `thresher.search.tiers.list_statistics` of one index over all shards."""
        own = self.lists[:, :, tier - 1]
        return np.concatenate([own[:, :, :2].max(axis=1, initial=0.0), own[:, :, 2:].sum(axis=1)], axis=1)


class SharedTerms:
    """The terms of one space over all shards. Safe to share between threads.

    Args:
        shards: how many there are.
        lexical: whether queries are weighed by BM25's IDF.
        counted: live passages with at least one term, of all shards.
    """

    def __init__(self, shards: int, lexical: bool, counted: int) -> None:
        self.shards, self.lexical, self.counted = shards, lexical, counted
        self._known: dict[str, Entry] = {}

    def known(self, terms: Iterable[str]) -> dict[str, Entry]:
        """What is known of these terms; the shards must be asked about the others."""
        known = self._known  # another thread may begin a new one
        return {term: known[term] for term in dict.fromkeys(terms) if term in known}

    def learned(self, terms: Sequence[str], answers: Mapping[int, Lists]) -> dict[str, Entry]:
        """What the shards say of terms; kept where all of them answered."""
        table = np.zeros((len(terms), self.shards, 2, 3))
        known, live = np.zeros(len(terms), bool), np.zeros(len(terms), np.int64)
        for shard, answer in answers.items():
            known |= np.array(answer.known, bool)
            if answer.live:
                live += np.array(answer.live, np.int64)
            for tier, rows in enumerate((answer.first, answer.second)):
                if rows:
                    table[:, shard, tier] = np.array(rows)
        factors = idf(self.counted, live) if self.lexical else np.ones(len(terms))
        factors = np.where(live == 0, 0.0, factors) if self.lexical else factors
        made = {
            term: Entry(bool(known[i]), 1.0 if term.startswith(LEARNED) else float(factors[i]), table[i])
            for i, term in enumerate(terms)
        }
        if len(answers) == self.shards:
            if len(self._known) > MOST:
                self._known = {}
            self._known.update(made)
        return made

    def query(
        self, number: int, terms: Sequence[str], weights: NDArray[np.float32], known: Mapping[str, Entry]
    ) -> Query:
        """A query as passages are scored.

        Args:
            number: its place among those asked, for errors.
            terms: by their strings.
            weights: float32[n], as they were given.
            known: the entry of each term.

        Raises:
            InputError: a weight is negative or not finite.
        """
        if not (np.isfinite(weights) & (weights >= 0)).all():
            refuse_weight(number, weights)
        entries = [known[term] for term in terms]
        kept = [i for i, entry in enumerate(entries) if entry.known]
        factors = np.array([entries[i].factor for i in kept])
        final = weights[kept]
        if self.lexical:
            final = (factors * final.astype(np.float64)).astype(np.float32)
        lists = np.stack([entries[i].lists for i in kept]) if kept else np.zeros((0, self.shards, 2, 3))
        return Query(tuple(terms[i] for i in kept), final, lists)
