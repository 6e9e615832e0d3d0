"""`ShardedRanking`: what a sharded index found, and where its texts are fetched from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from thresher.records import Passage
from thresher.search.any_index import IndexRanking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from thresher.distributed.messages import Text

_AHEAD = 32
"""Passages of a ranking that are fetched together."""


class Fetches(Protocol):
    """What has the texts of all shards."""

    def fetch(self, docnos: Sequence[str], shards: Sequence[int] | None = None) -> list[Text]:
        """The passages with these docnos; `shards` says where each is."""
        ...


class ShardedPassages:
    """The texts of one ranking, fetched when they are looked at, some at a time.

    Args:
        index: has them.
        docnos: of the ranking, best first.
        shards: int64[n], the shard of each.
    """

    def __init__(self, index: Fetches, docnos: Sequence[str], shards: NDArray[np.int64]) -> None:
        self._index, self._docnos = index, list(docnos)
        self._shards = shards
        self._places = {docno: place for place, docno in enumerate(self._docnos)}
        self._held: dict[str, Text] = {}

    def _texts(self, docnos: Sequence[str]) -> list[Text]:
        wanted = [docno for docno in dict.fromkeys(docnos) if docno not in self._held]
        if len(wanted) == 1 and wanted[0] in self._places:
            place = self._places[wanted[0]]
            wanted = [docno for docno in self._docnos[place : place + _AHEAD] if docno not in self._held]
        known = [docno for docno in wanted if docno in self._places]
        others = [docno for docno in wanted if docno not in self._places]
        if known:
            at = [int(self._shards[self._places[docno]]) for docno in known]
            self._held |= {text.docno: text for text in self._index.fetch(known, at)}
        if others:
            self._held |= {text.docno: text for text in self._index.fetch(others)}
        return [self._held[docno] for docno in docnos]

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos.

        Raises:
            InputError: no shard has one.
            ShardError: a shard does not answer.
        """
        return [passage_of(text) for text in self._texts(docnos)]

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """The docnos of the duplicates that were folded into these passages; errors as `passages`."""
        return [text.aliases for text in self._texts(docnos)]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Pickled with the texts: the shards are not reached from elsewhere."""
        held = self._texts(self._docnos)
        return _unpickled, (
            [passage_of(text) for text in held], {text.docno: text.aliases for text in held if text.aliases},
        )  # fmt: skip


def _unpickled(passages: list[Passage], aliases: dict[str, tuple[str, ...]]) -> object:
    from thresher.texts import HeldPassages

    return HeldPassages(passages, aliases)


def passage_of(text: Text) -> Passage:
    """The passage that a shard sent."""
    return Passage(text.docno, text.text, text.title, json.loads(text.metadata))


class ShardedRanking(IndexRanking):
    """The passages that a sharded index found: score descending, then docno in bytewise ascending order.

    Attributes:
        exact: whether it is what one index over all passages would give.
        complete: whether every shard answered in full; False where one was missing or a deadline cut it short.
        missing_shards: the shards that did not answer.
        escalated: whether the second tier was searched.
        explanations: how each tier that was searched answered, over all shards, if `explain` was given.
        tiers: uint8[n], the tier of each passage, 1 or 2.
        shards: int64[n], the shard of each passage.
    """

    __slots__ = ("missing_shards", "shards", "tiers")

    missing_shards: tuple[str, ...]
    tiers: NDArray[np.uint8]
    shards: NDArray[np.int64]
