"""What `Index.search` returns: a ranking whose docnos and texts are read from the index on first access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from thresher.search.index import Index


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one tier answered a query.

    Attributes:
        plan: `term-at-a-time` if everything was scored, `block-max` if only blocks that could matter were, `auto` if
            these or their whole superblocks were.
        terms: query terms known to the index.
        postings: postings in their lists.
        scored: postings that were scored; of dense terms, all in the superblocks that were visited.
        blocks: blocks of the collection.
        visited: blocks that had to be scored: all, or those whose bounds reached the threshold.
        superblocks: superblocks in which blocks were scored.
        whole_superblocks: superblocks that were scored whole.
        threshold: a score that k passages were known to reach before any was scored; next to 0 where none was known.
        bound: a score that no passage can exceed: the sum of the terms' largest parts.
    """

    plan: str
    terms: int
    postings: int
    scored: int
    blocks: int
    visited: int
    superblocks: int
    whole_superblocks: int
    threshold: float
    bound: float


class SearchRanking(Ranking):
    """The passages an index found: score descending, then docno in bytewise ascending order.

    Attributes:
        exact: whether this is provably what scoring every passage of the index by its stored impacts would give.
        escalated: whether the second tier was searched.
        explanations: how each tier that was searched answered, if `explain` was given.
    """

    __slots__ = ("_docs", "_tiers", "escalated", "explanations")

    def __init__(  # sets the fields of a Ranking itself: this runs once a query
        self,
        index: Index,
        docs: NDArray[np.uint32] | None,
        numbers: NDArray[np.int64] | None,
        scores: NDArray[np.float64],
        exact: bool,
        tiers: NDArray[np.uint8] | None = None,
        escalated: bool = False,
        explanations: tuple[Explanation, ...] = (),
    ) -> None:
        """Internal ids of the first tier, or passage numbers over all tiers, with their scores."""
        self._docnos = None
        self._numbers = numbers
        self._passages = index
        self.scores = scores
        self.exact = exact
        self.source = "search"
        self._docs = docs
        self._tiers = tiers
        self.escalated = escalated
        self.explanations = explanations

    @property
    def numbers(self) -> NDArray[np.int64]:
        """int64[n]: numbers of the passages in the order they were indexed; the second tier's follow the first's.

        Raises:
            DamagedArtifactError: the index maps an id to a passage it does not have.
        """
        if self._numbers is None:
            index, docs = self._passages, self._docs
            self._numbers = index.layouts[0].numbers_of(docs)  # type: ignore[union-attr]  # made by an Index
        return self._numbers

    @property
    def numbered(self) -> bool:
        """Always: it comes from an index."""
        return True

    @property
    def tiers(self) -> NDArray[np.uint8]:
        """uint8[n]: the tier of each passage, 1 or 2."""
        if self._tiers is None:
            self._tiers = np.ones(len(self), np.uint8)
        return self._tiers

    def take(
        self, places: ArrayLike, scores: ArrayLike | None = None, *, exact: bool | None = None, source: str = ""
    ) -> SearchRanking:
        """As `Ranking.take`, keeping the tiers."""
        at, kept = self._taken(places, scores)
        made = SearchRanking(
            self._passages,  # type: ignore[arg-type]  # made by an Index
            None,
            self.numbers[at],
            kept,
            self.exact if exact is None else exact,
            None if self._tiers is None else self._tiers[at],
            self.escalated,
            self.explanations,
        )
        made.source = source or self.source
        if self._docnos is not None:
            docnos: Sequence[str] = self._docnos
            made._docnos = [docnos[i] for i in at.tolist()]
        return made
