"""What a search returns: hits, read from the index when they are looked at, and an account of the work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from thresher.errors import DamagedArtifactError
from thresher.records import Hit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thresher.index.layout import Layout


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query was answered.

    Attributes:
        plan: `auto` where blocks and whole tiles were scored as bounds asked, `term-at-a-time` where all tiles were,
            `block-max` where only blocks were.
        terms: query terms known to the index.
        postings: postings in their lists.
        scored: postings that were scored; of dense terms, all in the tiles that were entered.
        blocks: blocks of the collection.
        visited: blocks that had to be scored: all, or those whose bounds reached the threshold.
        tiles: tiles (superblocks) in which blocks were scored.
        whole: tiles that were scored whole.
        threshold: a score that k passages were known to reach before any was scored; next to 0 where none was known.
        bound: a score that no passage can exceed: the sum of the terms' largest parts.
    """

    plan: str
    terms: int
    postings: int
    scored: int
    blocks: int
    visited: int
    tiles: int
    whole: int
    threshold: float
    bound: float


class SearchResult(Sequence[Hit]):
    """Hits, best first: score descending, then docno in bytewise ascending order.

    Hits are made when they are looked at; `docnos` and `scores` are cheaper where texts are not needed.

    Attributes:
        docs: uint32[hits], internal ids.
        scores: float64[hits].
        exact: the hits are those that scoring every passage would give.
        explanation: how the query was answered, where it was asked to explain.
    """

    __slots__ = ("_layout", "_sources", "docs", "exact", "explanation", "scores")

    def __init__(
        self,
        layout: Layout,
        docs: NDArray[np.uint32],
        scores: NDArray[np.float64],
        exact: bool,
        explanation: Explanation | None = None,
    ) -> None:
        self._layout = layout
        self._sources: NDArray[np.uint32] | None = None
        self.docs = docs
        self.scores = scores
        self.exact = exact
        self.explanation = explanation

    def __len__(self) -> int:
        return int(self.docs.shape[0])

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        number = int(self.sources[at])
        title, text, metadata = unpack_passage(self._layout, number)
        return Hit(self._layout.docnos[number], float(self.scores[at]), at + 1, text, title, metadata)

    @property
    def sources(self) -> NDArray[np.uint32]:
        """uint32[hits]: numbers of the passages in the order they were indexed.

        Raises:
            DamagedArtifactError: the index maps a document to a passage it does not have.
        """
        if self._sources is None:
            sources = self._layout.sources
            numbers = self.docs if sources is None else sources[self.docs]
            if numbers.shape[0] and int(numbers.max()) >= self._layout.counts.passages:
                raise DamagedArtifactError(str(self._layout.path / "sources"), "names a passage that is not there")
            self._sources = numbers
        return self._sources

    @property
    def docnos(self) -> list[str]:
        """Docnos of the hits, best first."""
        store = self._layout.docnos
        return [store[number] for number in self.sources.tolist()]

    def __repr__(self) -> str:
        return f"<SearchResult: {len(self)} hits, {'exact' if self.exact else 'approximate'}>"


def unpack_passage(layout: Layout, number: int) -> tuple[str, str, dict[str, str]]:
    """Title, text and metadata of passage `number`.

    Raises:
        DamagedArtifactError: what is stored is not what the builder wrote.
    """
    try:
        title, text, *rest = json.loads(layout.passages.raw(number).decode("utf-8", "surrogatepass"))
        metadata = rest[0] if rest else {}
        if not (isinstance(title, str) and isinstance(text, str) and isinstance(metadata, dict)):
            raise TypeError("not a title, a text and metadata")
    except (ValueError, TypeError) as err:
        problem = f"passage {number} cannot be read ({err}); rebuild the index"
        raise DamagedArtifactError(str(layout.path / "passages.bytes"), problem) from err
    return title, text, metadata
