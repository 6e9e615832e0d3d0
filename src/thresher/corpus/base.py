"""The interface of a corpus, checks of its passages, and the corpus held in memory."""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.records import Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

REASONS = {
    "malformed": "the record is not what its format says",
    "invalid-utf8": "bytes that are not UTF-8, or half of a surrogate pair",
    "missing-field": "a field the passage is made of is not there",
    "wrong-type": "a field does not hold text",
    "invalid-docno": "a docno that is empty or holds white space",
    "duplicate-docno": "a docno that an earlier passage has",
    "empty-text": "neither title nor text",
    "near-empty-file": "a document with next to no text, as a scan or a redirect has",
    "binary-file": "a document whose bytes are no text",
    "damaged-file": "a document that cannot be parsed or unpacked",
    "locked-file": "a document that is encrypted",
    "oversized-file": "a document longer than THRESHER_MAX_LINE allows, or that takes too long to read",
    "unreadable-file": "a document that the system refuses to read",
    "unreadable-folder": "a folder that the system refuses to list",
    "needs-extra-files": "PDF or DOCX, which the extra `files` reads",
    "other-format-file": "a file in a folder of documents that is none",
    "generated-file": "an index or search page of a documentation generator",
    "broken-link": "a symbolic link that leads nowhere",
    "symlink-loop": "a symbolic link to a folder that it is in",
    "linked-twice": "a symbolic link to what is read by another name",
}
"""Why a record can be left out, by the name it is counted under."""

_HALVES = struct.Struct("=QQ")
_RECENT = 1 << 11
"""Hashes that gather before they are merged into an array."""


class Corpus(Protocol):
    """Passages that can be iterated again and again, in the same order."""

    @property
    def name(self) -> str:
        """Human-readable name of the source."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """Records left out in the last full iteration, by reason (a key of `REASONS`)."""

    def __iter__(self) -> Iterator[Passage]: ...

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order; reads the corpus if not read yet."""


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


@checked_call
def fingerprint_of(passages: Iterable[Passage]) -> str:
    """The fingerprint of these passages in this order."""
    fingerprint = Fingerprint()
    for passage in passages:
        fingerprint.add(passage)
    return fingerprint.hexdigest()


def complaint(passage: Passage) -> tuple[str, str] | None:
    """Why a passage cannot be indexed, as (reason, message); None where it can."""
    wrong = _wrong_type(passage)
    if wrong:
        return "wrong-type", wrong
    if not passage.text.strip() and not passage.title.strip():
        return "empty-text", f"passage {passage.docno!r} has neither title nor text; leave it out, or skip such records"
    for value in (passage.docno, passage.title, passage.text):
        try:
            value.encode()
        except UnicodeEncodeError as err:
            found = value[err.start]
            return (
                "invalid-utf8",
                f"passage {passage.docno!r} holds {found!r}, half of a surrogate pair, which is not text",
            )
    return None


def _wrong_type(passage: object) -> str:
    """What of a passage is not of the type that `Passage` says; empty where all is."""
    if not isinstance(passage, Passage):
        return f"{passage!r:.60} is a {type(passage).__name__}, not a thresher.Passage"
    if not all(isinstance(name, str) for name in passage.metadata):
        return f"the metadata of passage {passage.docno!r:.60} is {passage.metadata!r:.60}; it must map names to values"
    for name, value in passage.metadata.items():
        try:
            _ = value if isinstance(value, str) else json.dumps(value)
        except (TypeError, ValueError, RecursionError) as err:
            return f"metadata {name!r:.60} of passage {passage.docno!r:.60} is {value!r:.60}, which is not JSON ({err})"
    return ""


def checked(passages: Iterable[Passage], name: str, *, texts: bool = True) -> Iterator[Passage]:
    """The passages, each checked before it is handed on.

    Args:
        passages: read once.
        name: where they come from, for messages.
        texts: whether every passage must have a title or text.

    Raises:
        InputError: a docno occurs twice, a string holds half of a surrogate pair, or a passage has no text; names the
            record.
    """
    if not hasattr(passages, "__iter__"):
        raise InputError(f"{passages!r:.60} is not a corpus; give passages, or open a file with open_corpus", name)
    seen = DocnoSet()
    for number, passage in enumerate(passages, 1):
        wrong = complaint(passage)
        if wrong is not None and (texts or wrong[0] != "empty-text"):
            raise InputError(wrong[1], name, number)
        if not seen.add(passage.docno):
            raise InputError(f"docno {passage.docno!r} occurs twice; docnos must be unique", name, number)
        yield passage


class MemoryCorpus:
    """Passages held in memory.

    Args:
        passages: read once, here.
        name: where they come from.

    Raises:
        InputError: a docno occurs twice, or a passage has no text; names the record.
    """

    def __init__(self, passages: Iterable[Passage], name: str = "memory") -> None:
        if not isinstance(name, str):
            raise InputError(f"the name of a corpus must be text, got {name!r:.60}")
        self.name = name
        self.skipped: Mapping[str, int] = {}
        self._passages = tuple(checked(passages, name))
        self._fingerprint = ""

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._passages)

    def __len__(self) -> int:
        return len(self._passages)

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order."""
        if not self._fingerprint:
            self._fingerprint = fingerprint_of(self._passages)
        return self._fingerprint


class DocnoSet:
    """A set of docnos that can only grow, in 16 bytes each: their 128-bit hashes in sorted arrays.

    New hashes gather in a Python set, which is merged into a sorted array when it is full; there are few arrays. Two
    different docnos are taken for one with a probability below n^2 / 2^129, which is 10^-21 for a thousand million
    docnos, so a match is not verified against the text.
    """

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._runs: list[tuple[array[int], array[int]]] = []  # halves of the hashes, sorted by the first half
        self._merged = 0

    def __len__(self) -> int:
        return self._merged + len(self._recent)

    def add(self, docno: str) -> bool:
        """Add `docno`; False where it was there already."""
        key = hashlib.blake2b(docno.encode(), digest_size=16).digest()
        if key in self._recent:
            return False
        if self._runs:
            first, second = _HALVES.unpack(key)
            for firsts, seconds in self._runs:
                place = bisect_left(firsts, first)
                while place < len(firsts) and firsts[place] == first:
                    if seconds[place] == second:
                        return False
                    place += 1
        self._recent.add(key)
        if len(self._recent) >= _RECENT:
            self._merge()
        return True

    def _merge(self) -> None:
        both = np.frombuffer(b"".join(self._recent), np.uint64).reshape(-1, 2)
        self._merged += len(both)
        self._recent = set()
        while self._runs and len(self._runs[-1][0]) <= 8 * len(both):
            both = np.concatenate([both, np.stack([np.asarray(half) for half in self._runs.pop()], axis=1)])
        both = both[np.argsort(both[:, 0])]
        self._runs.append((array("Q", both[:, 0].tobytes()), array("Q", both[:, 1].tobytes())))
