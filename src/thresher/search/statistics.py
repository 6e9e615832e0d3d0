"""BM25's collection statistics over the live passages of an index, and the IDF that weighs queries by them.

A BM25 passage keeps the part of its weight that comes from term frequency and length (`thresher.encode.bm25`); the IDF
ln(1 + (N - df + 1/2) / (df + 1/2)) is a factor of the query's weight. N counts the live passages with at least one term
and df those that contain the term, over all parts of the index that one encoder made, so that adding and deleting
passages moves scores as building the index anew does. A factor is computed once for each term and kept. Terms of a
learned encoder that are in the same index (`thresher.encode.hybrid`) hold their whole weight: their factor is 1.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher._lazy import njit
from thresher.encode.bm25 import idf
from thresher.encode.hybrid import LEARNED
from thresher.index.uninvert import count_postings
from thresher.search.queries import refuse_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.index.layout import Layout


class CountedPart(Protocol):
    """A part of an index, and what was deleted of it."""

    @property
    def layout(self) -> Layout:
        """Its files."""

    @property
    def deleted(self) -> NDArray[np.bool_] | None:
        """bool[passages] by number of the passage; None where none is deleted."""

    @property
    def deleted_counts(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]] | None:
        """Ascending term ids and how many deleted passages contain each, uint32[m] both; None where none is deleted."""


class TermNumbers(Protocol):
    """The term ids of a collection of parts."""

    def __len__(self) -> int: ...

    def term(self, number: int) -> str:
        """The string of the term with this id."""

    def local(self, part: int, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids in the `part`-th part of terms with these ids, int64[n]; -1 for terms it lacks."""


class Bm25Statistics:
    """Statistics of the live passages in parts that one BM25 encoder made. Safe to share between threads.

    Args:
        parts: the parts, in the order of the collection.
        vocabulary: the collection's term ids. With one part they are the part's own.
    """

    def __init__(self, parts: Sequence[CountedPart], vocabulary: TermNumbers) -> None:
        self._parts, self._vocabulary = tuple(parts), vocabulary
        # by term id + 1, NaN until it is needed; the first and the last are of unknown terms, whose weights stay
        self._factors = np.full(len(vocabulary) + 2, np.nan)
        self._factors[0] = self._factors[-1] = 1.0

    @property
    def passages(self) -> int:
        """Live passages with at least one term."""
        return self._live[0]

    @property
    def average_length(self) -> float:
        """Terms, with repetitions, of an average live passage that has any; 0 where none has."""
        passages, tokens = self._live
        return tokens / passages if passages else 0.0

    @cached_property
    def _live(self) -> tuple[int, int]:
        """Live passages with at least one term, and their terms."""
        return live_lengths(self._parts)

    def factors(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """The IDF of terms, float64[n]: 1 for those of a learned encoder, 0 for ids that are no term's, such as -1."""
        self._compute(ids)
        known = (ids >= 0) & (ids < len(self._factors) - 2)
        return np.where(known, self._factors.take(ids + 1, mode="clip"), 0.0)

    def weigh(
        self, ids: NDArray[np.int64], weights: NDArray[np.float32], indptr: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Query weights times the IDF of their terms, rounded to float32.

        Args:
            ids: int64[n], -1 for unknown terms, whose weights stay as they are.
            weights: float32[n], their weights.
            indptr: int64[q + 1], where each query begins; by default there is one.

        Raises:
            InputError: a weight is negative or not finite; says which query's.
        """
        product = np.empty(len(ids), np.float32)
        if not multiply(self._factors, ids, weights, product):  # a factor was not needed before, or a weight is refused
            bad = np.flatnonzero(~((weights >= 0) & np.isfinite(weights)))
            if len(bad):
                bounds = np.array((0, len(ids)), np.int64) if indptr is None else indptr
                query = int(np.searchsorted(bounds, bad[0], side="right")) - 1
                refuse_weight(query, weights[bounds[query] : bounds[query + 1]])
            self._compute(ids)
            multiply(self._factors, ids, weights, product)
        return product

    def _compute(self, ids: NDArray[np.int64]) -> None:
        """Keep the factors of these ids."""
        terms = len(self._factors) - 2
        wanted = np.unique(ids[(ids >= 0) & (ids < terms)])
        wanted = wanted[np.isnan(self._factors[wanted + 1])]
        learned = [number for number in wanted.tolist() if self._vocabulary.term(number).startswith(LEARNED)]
        if learned:
            self._factors[np.array(learned) + 1] = 1.0
            wanted = wanted[np.isnan(self._factors[wanted + 1])]
        df = np.zeros(len(wanted), np.int64)
        for number, part in enumerate(self._parts):
            local = self._vocabulary.local(number, wanted) if len(self._parts) > 1 else wanted
            has = local >= 0
            df[has] += live_postings(part, local[has])
        found = idf(self.passages, df)
        found[df == 0] = 0.0
        self._factors[wanted + 1] = found


@njit(cache=True, nogil=True)
def multiply(
    factors: NDArray[np.float64], ids: NDArray[np.int64], weights: NDArray[np.float32], product: NDArray[np.float32]
) -> bool:
    """Whether all factors and weights are finite and not negative; compiled, since numpy takes longer for a few terms.

    Args:
        factors: float64[terms + 2], by term id + 1; ids below and above take the first and the last.
        ids: int64[n].
        weights: float32[n].
        product: float32[n], filled with factor x weight, multiplied in float64.
    """
    fine = True
    for i in range(ids.shape[0]):
        factor = factors[min(max(ids[i] + 1, 0), factors.shape[0] - 1)]
        fine = fine and 0 <= factor < np.inf and 0 <= weights[i] < np.inf
        product[i] = np.float32(factor * np.float64(weights[i]))
    return fine


def live_lengths(parts: Sequence[CountedPart]) -> tuple[int, int]:
    """Live passages of BM25 parts with at least one term, and the number of their terms with repetitions."""
    passages = tokens = 0
    for part in parts:
        own, terms = part.layout.token_counts
        if part.deleted is not None and part.layout.tokens is not None:
            gone = part.layout.tokens[part.deleted]
            own, terms = own - int(np.count_nonzero(gone)), terms - int(gone.sum(dtype=np.int64))
        passages, tokens = passages + own, tokens + terms
    return passages, tokens


def live_postings(part: CountedPart, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n]: how many live passages of a part contain each of these terms, which are its own."""
    found = count_postings(part.layout, ids)
    if part.deleted_counts is not None and len(part.deleted_counts[0]):
        terms, counts = part.deleted_counts
        at = np.minimum(np.searchsorted(terms, ids), len(terms) - 1)
        found -= np.where(terms[at] == ids, counts[at], 0).astype(np.int64)
    return found
