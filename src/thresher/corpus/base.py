"""The seam between a corpus and what reads it, and the corpus held in memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from thresher.records import Passage

REASONS = {
    "malformed": "the record is not what its format says",
    "invalid-utf8": "bytes that are not UTF-8, or half of a surrogate pair",
    "missing-field": "a field the passage is made of is not there",
    "wrong-type": "a field holds something that is no text",
    "invalid-docno": "a docno that is empty or holds white space",
    "duplicate-docno": "a docno that an earlier passage has",
    "empty-text": "neither title nor text",
}
"""Why a record can be left out, by the name it is counted under."""


class Corpus(Protocol):
    """Passages that can be iterated again and again, in the same order."""

    @property
    def name(self) -> str:
        """Where they come from, for people."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """Records left out in the last full iteration, by reason (a key of `REASONS`)."""

    def __iter__(self) -> Iterator[Passage]: ...

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order; reads the corpus if nobody has yet."""


class Fingerprint:
    """sha256 over docno, title and text of passages, each preceded by its length, so that no two corpora share one."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, passage: Passage) -> None:
        """Take in the next passage."""
        docno, title, text = passage.docno.encode(), passage.title.encode(), passage.text.encode()
        self._digest.update(b"%d %d %d\n%b%b%b" % (len(docno), len(title), len(text), docno, title, text))

    def hexdigest(self) -> str:
        """The fingerprint of the passages so far."""
        return self._digest.hexdigest()


def fingerprint_of(passages: Iterable[Passage]) -> str:
    """The fingerprint of these passages in this order."""
    fingerprint = Fingerprint()
    for passage in passages:
        fingerprint.add(passage)
    return fingerprint.hexdigest()


def complaint(passage: Passage) -> tuple[str, str] | None:
    """Why a passage cannot be indexed, as (reason, message); None where it can."""
    if not passage.text.strip() and not passage.title.strip():
        return "empty-text", f"passage {passage.docno!r} has neither title nor text; leave it out, or skip such records"
    for value in (passage.docno, passage.title, passage.text):
        try:
            value.encode()
        except UnicodeEncodeError as err:
            found = value[err.start]
            return (
                "invalid-utf8",
                f"passage {passage.docno!r} holds {found!r}, half of a surrogate pair, which is no text",
            )
    return None


class MemoryCorpus:
    """Passages held in memory.

    Args:
        passages: read once, here.
        name: where they come from.

    Raises:
        InputError: a docno comes twice, or a passage has no text; names the record.
    """

    def __init__(self, passages: Iterable[Passage], name: str = "memory") -> None:
        self.name = name
        self.skipped: Mapping[str, int] = {}
        self._passages = tuple(passages)
        self._fingerprint = ""
        seen: set[str] = set()
        for number, passage in enumerate(self._passages, 1):
            wrong = complaint(passage)
            if wrong is not None:
                raise InputError(wrong[1], name, number)
            if passage.docno in seen:
                raise InputError(f"docno {passage.docno!r} comes twice; docnos must be unique", name, number)
            seen.add(passage.docno)

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._passages)

    def __len__(self) -> int:
        return len(self._passages)

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order."""
        if not self._fingerprint:
            self._fingerprint = fingerprint_of(self._passages)
        return self._fingerprint
