"""Texts for a run: from an index, which finds passages by docno, or from one pass over a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from thresher.errors import InputError
from thresher.ranking import HeldPassages, Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.records import Passage


class PassageIndex(Protocol):
    """An index that finds passages by docno."""

    def __contains__(self, docno: object) -> bool:
        """Whether it holds the passage."""

    def passages(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages with these docnos, in their order."""


def texts_of_corpus(run: Run, source: str | Path, depth: int | None) -> dict[str, Passage]:
    """The passages of the first `depth` of every ranking (None for all), by docno; reading stops when all are found."""
    from thresher.corpus import open_corpus

    missing = {docno for ranking in run.values() for docno in ranking.docnos[:depth]}
    found: dict[str, Passage] = {}
    for passage in open_corpus(source):
        if passage.docno in missing:
            missing.remove(passage.docno)
            found[passage.docno] = passage
            if not missing:
                break
    return found


def with_texts(run: Run, passages: PassageIndex | Mapping[str, Passage], depth: int | None) -> Run:
    """The run with rankings that find their texts in `passages`.

    Args:
        run: rankings of docnos, best first.
        passages: an `Index` (which must stay open), or passages by docno.
        depth: the first `depth` of every ranking must have a passage, None for all.

    Raises:
        InputError: one of them has none.
    """
    for qid, ranking in run.items():
        for rank, docno in enumerate(ranking.docnos[:depth], 1):
            if docno not in passages:
                raise InputError(
                    f"query {qid!r}: no passage for {docno!r} at rank {rank}; give the corpus or index that the run "
                    "was made on"
                )
    source = HeldPassages(passages.values()) if isinstance(passages, Mapping) else passages
    return Run({qid: ranking.with_passages(source) for qid, ranking in run.items()}, run.tag)
