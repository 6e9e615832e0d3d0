"""`AnyIndex` and `IndexRanking`: what an index in one directory and one in shards have in common.

Pipelines and servers take either. `thresher.search.index` has the one, `thresher.distributed.sharded` the other, and
`thresher.distributed.door` opens whichever is at a path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from thresher.ranking import Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.index.fields import Value
    from thresher.index.filters import Filter, Where
    from thresher.records import Passage
    from thresher.search.effort import Effort
    from thresher.search.queries import AnyQuery, Tiers
    from thresher.search.results import Explanation

By: TypeAlias = Literal["sparse", "dense", "both"]
Allow: TypeAlias = "Sequence[str] | NDArray[np.bool_]"
"""Docnos, or a mask by passage number."""


class IndexRanking(Ranking):
    """The passages that an index found: score descending, then docno in bytewise ascending order.

    Attributes:
        complete: False where a deadline, or a part of the index that did not answer, cut the search short.
        escalated: whether the second tier was searched.
        explanations: how each tier that was searched answered, if `explain` was given.
        missing_shards: the shards that did not answer, of an index in shards.
    """

    __slots__ = ("complete", "escalated", "explanations")

    complete: bool
    escalated: bool
    explanations: tuple[Explanation, ...]

    @property
    def missing_shards(self) -> tuple[str, ...]:
        """None: it is of an index in one directory."""
        return ()

    @property
    def tiers(self) -> NDArray[np.uint8]:
        """uint8[n]: the tier of each passage, 1 or 2."""
        raise NotImplementedError

    @property
    def expected_recall(self) -> float | None:
        """Share of the exact answer to expect, on average: 1 where it is exact; None where nothing is known."""
        return 1.0 if self.exact else None


class AnyIndex(ABC):
    """An open index that answers queries from one commit; see `Index` and `ShardedIndex` for arguments and errors.

    Attributes:
        scope: what the passages of a restricted view match; None for all passages.
    """

    scope: Where | None

    @abstractmethod
    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        recall: float | None = None,
        deadline_ms: float | None = None,
        plan: str = "auto",
        explain: bool = False,
        by: By = "sparse",
        vector: NDArray[np.floating] | None = None,
        where: Filter | None = None,
        allow: Allow | None = None,
    ) -> IndexRanking:
        """The k best passages for `query`."""

    @abstractmethod
    def facets(
        self,
        field: str,
        query: AnyQuery | None = None,
        *,
        where: Filter | None = None,
        allow: Allow | None = None,
    ) -> dict[Value, int]:
        """How many passages have each value of a metadata field, most first, then by value."""

    @abstractmethod
    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, in their order."""

    def passage(self, docno: str) -> Passage:
        """The passage with this docno; errors as `passages`."""
        return self.passages([docno])[0]

    @abstractmethod
    def any_passage(self) -> Passage | None:
        """One of the passages; None where there is none."""

    @abstractmethod
    def restricted(self, where: Filter) -> Self:
        """A view of the passages that match `where`."""

    @abstractmethod
    def pinned(self) -> Self:
        """A view of this commit, which a later `refresh` of this index does not change."""

    @abstractmethod
    def refresh(self) -> bool:
        """Take up the last commit. Returns whether it is another than before."""

    @abstractmethod
    def close(self) -> None:
        """Release files, processes and connections."""

    @property
    @abstractmethod
    def commit(self) -> int:
        """A number that grows with every commit."""

    @property
    @abstractmethod
    def schema(self) -> dict[str, str]:
        """The metadata fields that filters and facets may name, with their types."""

    @property
    @abstractmethod
    def tiered(self) -> bool:
        """Whether it has a second tier with passages."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """The recipe it was built with."""

    @abstractmethod
    def __len__(self) -> int:
        """Passages in all tiers, without those that are deleted."""
