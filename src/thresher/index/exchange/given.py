"""Encoded passages in files of other systems: what the readers of all formats share. Checked, never repaired."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.checks import shown
from thresher.encode.query_side import QuerySide, TermsOnly
from thresher.encode.terms import LinearScale
from thresher.errors import InputError
from thresher.files import COMPRESSED
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.exchange.facts import Facts

CHUNK = 1024
"""Passages that are yielded at a time."""
LARGEST = float(np.finfo(np.float32).max)
NUMBERED = 1 << 24
"""The most terms of a vocabulary of numbers."""
BYTE, WORD = 255, 65_535
"""The largest impacts of 8 and 16 bits."""


class Names(NamedTuple):
    """What is known of a file from elsewhere: from the files alongside it, or from the caller.

    Attributes:
        docnos: of its passages, in order; None where the file has its own, or row numbers serve.
        vocabulary: the terms by id; None where the file has its own.
        facts: of the index it was exported from; None where they are not known, or the file holds them.
    """

    docnos: Sequence[str] | None = None
    vocabulary: Sequence[str] | None = None
    facts: Facts | None = None


class GivenVectors:
    """Passages with their weighted terms; can be iterated again and again, in the same order.

    Attributes:
        path: the file or folder.
        vocabulary: the term strings by term id.
        named: whether the data names its terms; if not, the vocabulary is their numbers as text.
        facts: of the index that the data was exported from; None where they are not known.
        tokens: uint32[passages], terms of each passage with repetitions where weights are BM25's; else None.
    """

    path: Path
    vocabulary: tuple[str, ...]
    named = True
    facts: Facts | None = None
    tokens: NDArray[np.uint32] | None = None

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        raise NotImplementedError

    @cached_property
    def docnos(self) -> Sequence[str]:
        """The docno of each passage, in order; reads the data once."""
        return [passage.docno for passages, _ in self for passage in passages]

    @cached_property
    def impacts(self) -> LinearScale | None:
        """The scale by which weights are whole impacts; None where they are not, and an index fits one.

        Reads the data once where it does not say. Whole weights up to 255 need no scale: an index keeps them.
        """
        if self.facts is not None:
            return self.facts.impacts
        largest = 0.0
        for _, batch in self:
            if not bool((batch.weights == np.rint(batch.weights)).all()):
                return None
            largest = max(largest, float(batch.weights.max(initial=0)))
        return LinearScale(1.0, 16) if BYTE < largest <= WORD else None

    @property
    def query_side(self) -> QuerySide:
        """Queries are weighted terms: the data says nothing of an encoder."""
        return TermsOnly(self.vocabulary, f"weighted-terms({self.path.name})")

    def numbers_of_words(self) -> Mapping[str, int]:
        """Term ids by string.

        Raises:
            InputError: a term occurs twice in the vocabulary.
        """
        numbers = {term: number for number, term in enumerate(self.vocabulary)}
        if len(numbers) < len(self.vocabulary):
            seen: set[str] = set()
            twice = next(term for term in self.vocabulary if term in seen or seen.add(term))  # type: ignore[func-returns-value]
            raise InputError(f"term {shown(twice)} occurs twice in the vocabulary", str(self.path))
        return numbers


def weights_of(impacts: NDArray[np.integer], facts: Facts | None) -> NDArray[np.float32]:
    """float32[n]: what stored impacts are worth."""
    scale = 1.0 if facts is None else facts.scale
    return (impacts.astype(np.float64) * scale).astype(np.float32)


def passage_of(
    docno: object, text: object, title: object, source: str, number: int, metadata: object = None
) -> Passage:
    """The passage of a record; its text, title and metadata may be null, and its docno a number.

    Raises:
        InputError: one is something else; names the record.
    """
    docno = str(docno) if isinstance(docno, int) and not isinstance(docno, bool) else docno
    for name, value in (("docno", docno), ("text", "" if text is None else text), ("title", title or "")):
        if not isinstance(value, str):
            raise InputError(f"the {name} is {shown(value)}; it must be a string", source, number)
    if metadata is not None and not isinstance(metadata, dict):
        raise InputError(f"the metadata is {shown(metadata)}; it must be an object", source, number)
    try:
        return Passage(str(docno), str(text or ""), str(title or ""), metadata or {})
    except InputError as err:
        raise InputError(str(err.args[0]), source, number) from None


def check_weight(term: str, weight: object, source: str, number: int) -> None:
    """Check a weight: a number that float32 holds, and not negative. What is 0, also as float32, is left out later.

    Raises:
        InputError: it is something else; names the record.
    """
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight <= LARGEST
    if not good:
        raise InputError(
            f"term {shown(term)} has the weight {shown(weight)}; a weight is a finite number of at least 0",
            source,
            number,
        )


def numbered(count: int, path: Path) -> tuple[str, ...]:
    """A vocabulary of numbers, for data that does not name its terms.

    Raises:
        InputError: there would be more than 16,777,216.
    """
    if count > NUMBERED:
        raise InputError(
            f"terms are numbered up to {count - 1}, but not named; give their names (vocabulary)", str(path)
        )
    return tuple(str(number) for number in range(count))


def plain_name(path: Path) -> str:
    """The name without the suffix of a compression."""
    for suffix in COMPRESSED:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.name
