"""Which passages of an open index may be returned: those that are live, in the view's scope, and pass the filters.

A mask is made once for a part, a filter and its deletes, and kept while it is among the last `HELD` asked for there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from thresher.search.searcher import TierSearcher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.index.collection import Part
    from thresher.index.filters import Where
    from thresher.search.kernels.types import Allowed

HELD = 16
"""Filters whose masks a part keeps."""


class Mask(NamedTuple):
    """The passages of one part that may be returned.

    Attributes:
        numbers: bool[passages of the part] by number within it; None where all may.
        allowed: the same for the query processor, by internal id; None where all may.
        empty: whether none may be returned.
    """

    numbers: NDArray[np.bool_] | None
    allowed: Allowed | None
    empty: bool


ALL = Mask(None, None, False)
Masks: TypeAlias = "tuple[Mask, ...] | None"
"""One for each part of a collection; None where all passages of all parts may be returned."""


class SearchedPart:
    """A part with its searcher and the masks that were asked for. Safe to share between threads.

    Args:
        part: a tier of a segment.
        number: its place among the parts of the collection.
        earlier: the same segment and tier in the commit before, whose open files, compiled calls and masks are reused.
    """

    def __init__(self, part: Part, number: int, earlier: SearchedPart | None = None) -> None:
        self.part, self.number = part, number
        self.size, self.start, self.tier, self.layout = part.size, part.start, part.tier, part.layout
        self.searcher: TierSearcher = TierSearcher(part.layout) if earlier is None else earlier.searcher
        same = earlier is not None and earlier.part.segment.deletes == part.segment.deletes
        self._held: OrderedDict[str, Mask] = earlier._held if earlier is not None and same else OrderedDict()
        self._lock: threading.Lock = earlier._lock if earlier is not None and same else threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder the part was made with, empty where the index holds none."""
        encoder = self.layout.manifest.fields.get("encoder")
        if self.layout.encoder is None or not isinstance(encoder, dict):
            return ""
        return str(encoder.get("fingerprint", ""))

    def numbers_of(self, docs: NDArray[np.uint32]) -> NDArray[np.int64]:
        """int64[n]: the numbers in the collection of passages by their internal ids.

        Raises:
            DamagedArtifactError: the part maps an id to a passage that it does not have.
        """
        sources = self.layout.sources
        numbers: NDArray[np.int64] = (docs if sources is None else sources[docs]).astype(np.int64)
        if sources is not None and len(numbers) and int(numbers.max()) >= self.size:
            return self.layout.numbers_of(docs)  # which raises
        numbers += self.start
        return numbers

    def mask(self, where: Where | None) -> Mask:
        """The live passages that pass `where`, which fits the schema."""
        if where is None and self.part.deleted is None:
            return ALL
        key = "" if where is None else where.key
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held
        made = self.made(self._numbers(where))
        with self._lock:
            self._held[key] = made
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        return made

    def made(self, numbers: NDArray[np.bool_] | None) -> Mask:
        """The mask of the passages with these numbers, bool[passages of the part]."""
        if numbers is None or numbers.all():
            return ALL
        return Mask(numbers, self.searcher.allow(numbers), not numbers.any())

    def _numbers(self, where: Where | None) -> NDArray[np.bool_] | None:
        deleted = self.part.deleted
        if where is None:
            return None if deleted is None else ~deleted
        found = self.part.columns.mask(where)
        return found if deleted is None else found & ~deleted


def joined(parts: Sequence[SearchedPart], masks: Masks) -> NDArray[np.bool_] | None:
    """The passages that may be returned by their numbers in the collection, bool[numbers]; None where all may."""
    if masks is None:
        return None
    return np.concatenate(
        [
            np.ones(part.size, bool) if mask.numbers is None else mask.numbers
            for part, mask in zip(parts, masks, strict=True)
        ]
    )


def compact(masks: Sequence[Mask]) -> Masks:
    """The masks, None where all passages may be returned."""
    return None if all(mask is ALL or mask.numbers is None for mask in masks) else tuple(masks)
