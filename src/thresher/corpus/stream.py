"""A corpus read from records: fields mapped, every record accounted for.

Long documents are split as they are read (`thresher.corpus.split`).
"""

from __future__ import annotations

import logging
import math
import re
from copy import copy
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import msgspec

from thresher.corpus.base import DocnoSet, Fingerprint, complaint
from thresher.errors import ConfigError, InputError
from thresher.records import Passage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_log = logging.getLogger(__name__)
OnError = Literal["raise", "skip"]
ID_FIELDS = ("docno", "docid", "doc_id", "document_id", "_id", "id", "pid", "passage_id", "cord_uid")
_OF_DOCUMENTS, _OF_PASSAGES = ("docid", "doc_id", "document_id"), ("pid", "passage_id")
TEXT_FIELDS = ("text", "contents", "body", "passage", "segment", "content", "passage_text")
TITLE_FIELDS = ("title",)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_VECTOR = 64
"""A list of more numbers is a vector, not metadata."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record of a file, and its fields.

    Attributes:
        source: the file.
        line: 1-based line or record number.
        fields: name to value, as the format has it.
    """

    source: str
    line: int
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Problem:
    """A record that is not a passage.

    Attributes:
        source: the file.
        line: 1-based line or record number.
        reason: a key of `thresher.corpus.REASONS`.
        message: what is wrong, and how to mend it.
        expected: it is counted and no error, whatever `on_error` says (a picture in a folder of documents).
    """

    source: str
    line: int
    reason: str
    message: str
    expected: bool = False


@dataclass(frozen=True, slots=True)
class Lead:
    """The first record of a file of which only a later part is read: it names the fields, and is not a passage here.

    Attributes:
        row: the record.
    """

    row: Row


@dataclass(slots=True)
class FieldMap:
    """Which fields hold docno, text and title.

    Names that are not given are found in the first record of a file: the first of the usual names it has.

    Attributes:
        id_field: name of the docno field; empty to find it.
        text_field: name of the text field; empty to find it.
        title_field: name of the title field; empty to find it. A record without it has no title.
        titled: whether some record had the title field.
    """

    id_field: str = ""
    text_field: str = ""
    title_field: str = ""
    titled: bool = False
    _found: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _vectors: set[str] = field(default_factory=set)

    def learn(self, row: Row) -> None:
        """Find the fields of a file in this record."""
        names = self._names(row.fields)
        if "" not in names[:2]:
            self._found = {row.source: names}

    def passage(self, row: Row) -> Passage | Problem:
        """The passage a record holds, or what is wrong with it. Other fields become metadata."""
        names = self._found.get(row.source)
        if names is None:
            names = self._names(row.fields)
            if "" in names[:2]:
                return self._missing(
                    row, "docno" if not names[0] else "text", ID_FIELDS if not names[0] else TEXT_FIELDS
                )
            self._found = {row.source: names}
        docno, text, title = (row.fields.get(name) for name in names)
        if text is None and title is not None and names[1] in row.fields:
            text = ""  # a title alone is enough
        if docno is None or text is None:
            return self._missing(row, *(("docno", (names[0],)) if docno is None else ("text", (names[1],))))
        if type(docno) is int:
            docno = str(docno)
        if title is None:
            title = ""
        if not (isinstance(docno, str) and isinstance(text, str) and isinstance(title, str)):
            strings = zip(names, (docno, text, title), strict=True)
            name, value = next((name, value) for name, value in strings if not isinstance(value, str))
            message = f"field {name!r} holds {value!r:.60}, a {type(value).__name__}; it must be a string"
            return Problem(row.source, row.line, "wrong-type", message)
        if not docno or docno.split() != [docno] or _CONTROL.search(docno):
            message = (
                f"docno {docno!r:.200} is empty or holds white space or control characters, which run files cannot "
                "carry; choose another identifier field or replace them (NUL bytes: convert the file to UTF-8)"
            )
            return Problem(row.source, row.line, "invalid-docno", message)
        self.titled = self.titled or names[2] in row.fields
        rest = {
            name: _as_json(value)
            for name, value in row.fields.items()
            if name not in names and not _is_missing(value) and not self._is_vector(name, value, row)
        }
        return Passage(docno, text, title, rest)

    def _names(self, fields: Mapping[str, object]) -> tuple[str, str, str]:
        docno = self.id_field or _first(ID_FIELDS, fields)
        if not self.id_field and docno.lower() in _OF_DOCUMENTS:
            docno = _first(_OF_PASSAGES, fields) or docno
        return (
            docno,
            self.text_field or _first(TEXT_FIELDS, fields),
            self.title_field or _first(TITLE_FIELDS, fields) or "title",
        )

    def _is_vector(self, name: str, value: object, row: Row) -> bool:
        """Whether a value is an embedding, which no index keeps as text; said once a field."""
        if name == "vector" and isinstance(value, dict) and name not in self._vectors:
            self._vectors.add(name)
            _log.warning(
                "%s: field 'vector' holds weighted terms, which become metadata and are not searched; to search them, "
                "give the file as encoded passages (--encoded, encode.source)",
                row.source,
            )
        if not isinstance(value, list) or _numbers(value) <= _VECTOR:
            return False
        if name not in self._vectors:
            self._vectors.add(name)
            _log.warning(
                "%s: field %r holds vectors (%d numbers in record %d), which are left out of the metadata",
                row.source, name, _numbers(value), row.line,
            )  # fmt: skip
        return True

    @staticmethod
    def _missing(row: Row, what: str, wanted: tuple[str, ...]) -> Problem:
        option = "id_field" if what == "docno" else "text_field"
        if len(wanted) == 1 and wanted[0] in row.fields:
            message = f"field {wanted[0]!r} for the {what} is null; fill it, or leave the record out"
            return Problem(row.source, row.line, "missing-field", message)
        message = (
            f"no field {' or '.join(map(repr, wanted))} for the {what}; the record has "
            f"{', '.join(map(repr, row.fields)) or 'no fields'} (name another with {option})"
        )
        return Problem(row.source, row.line, "missing-field", message)


def _first(names: Iterable[str], fields: Mapping[str, object]) -> str:
    """The first of `names` that is a field, as it is written, or if none is, without regard to case; empty if none."""
    names = tuple(names)
    lower = {name.lower(): name for name in reversed(list(fields))}
    return next((name for name in names if name in fields), "") or next(
        (lower[name] for name in names if name in lower), ""
    )


def _numbers(values: list[object]) -> int:
    """How many numbers a list holds, or the lists in it; 0 where it holds anything else."""
    count = 0
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool):
            count += 1
        elif isinstance(value, list) and (inner := _numbers(value)):
            count += inner
        else:
            return 0
    return count


def _is_missing(value: object) -> bool:
    return value in (None, "", {}, []) or (isinstance(value, float) and math.isnan(value))


def _as_json(value: object) -> object:
    """A value as JSON has it: text, a number, true, false, a list or an object; text of what JSON has no form for."""
    if isinstance(value, str | bool | int | float):
        return value
    try:
        if isinstance(value, date | time):
            return value.isoformat()
        if isinstance(value, Decimal):
            return float(value) if Decimal(repr(float(value))) == value else str(value)
        if isinstance(value, timedelta | UUID):
            return str(value)
        made: object = msgspec.json.decode(msgspec.json.encode(value))
        return made
    except (TypeError, ValueError, OverflowError, RecursionError, ArithmeticError):
        return str(value)


class RecordCorpus:
    """Passages made of records, read anew at every iteration.

    Args:
        name: where the records come from.
        read: gives the records, from the first one at every call.
        id_field: field of the docno; empty to find it by its usual names.
        text_field: field of the text; likewise.
        title_field: field of the title; likewise. A record without it has no title.
        on_error: `raise`, or `skip` to leave a bad record out and count it.
        split: gives the passages of a document, if documents are to be split.
        limit: stop after this many passages; 0 for all.
        once: the records can be read only once (a pipe); a second iteration is then an error.

    Attributes:
        format: the format to read it by again, where its place alone might later mean another; empty otherwise.
        fields: types of metadata that the values do not show; empty for records.
        progress: show a bar while it is read, with the time left; only a folder of documents can.

    Raises:
        ConfigError: an option is none of those.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Iterable[Row | Problem | Lead]],
        *,
        id_field: str = "",
        text_field: str = "",
        title_field: str = "",
        on_error: OnError = "raise",
        split: Callable[[Passage], Iterable[Passage]] | None = None,
        limit: int = 0,
        once: bool = False,
    ) -> None:
        if not isinstance(on_error, str) or on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {on_error!r}; known are: raise, skip")
        if limit < 0:
            raise ConfigError(f"limit is {limit}; it must be 0 (all passages) or more")
        self.name = name
        self.skipped: Mapping[str, int] = {}
        self.format = ""
        self.fields: dict[str, str] = {}
        self.documents = 0
        self.progress = False
        self._read = read
        self._fields = (id_field, text_field, title_field)
        self._skip = on_error == "skip"
        self._split = split
        self._limit = limit
        self._once = once
        self._begun = False
        self._partial = False
        self._fingerprint = ""

    def part(self, read: Callable[[], Iterable[Row | Problem | Lead]]) -> RecordCorpus:
        """A part of this corpus: with its settings, the records that `read` gives from the first one at every call."""
        made = copy(self)
        made._read, made._partial, made._once, made._begun, made._fingerprint = read, True, False, False, ""
        return made

    def __iter__(self) -> Iterator[Passage]:
        """The passages in order.

        Raises:
            InputError: a record is not a passage (unless those are skipped), or the corpus has changed since the last
                iteration.
        """
        return self.passages()

    def passages(self, complaint_of: Callable[[Passage], str] | None = None) -> Iterator[Passage]:
        """The passages in order, as iterating gives them.

        Args:
            complaint_of: says what else is wrong with a passage; empty where nothing is.

        Raises:
            InputError: as for iterating; or of a passage that `complaint_of` refuses, with file and line.
        """
        if self._once and self._begun:
            raise InputError("a pipe can be read only once; save it to a file and give that", self.name)
        self._begun = True
        self.documents = 0
        seen = DocnoSet()
        skipped: dict[str, int] = {}
        fingerprint = Fingerprint()
        fields = FieldMap(*self._fields)
        for row, passage in self._passages(fields, skipped):
            wrong = complaint(passage)
            if wrong is None and complaint_of is not None and (refused := complaint_of(passage)):
                wrong = "wrong-type", refused
            if wrong is None and not seen.add(passage.docno):
                others = [name for name in ID_FIELDS if row.fields.get(name) not in (None, passage.docno)]
                hint = f", or name another field with id_field ({', '.join(others)})" if others else ""
                wrong = "duplicate-docno", f"docno {passage.docno!r:.200} came before; docnos must be unique{hint}"
            if wrong is not None:
                self._refuse(Problem(row.source, row.line, *wrong), skipped)
                continue
            fingerprint.add(passage)
            yield passage
            if len(seen) == self._limit:
                break
        self._finish(fields, len(seen), skipped, fingerprint.hexdigest())

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order; reads the corpus if not read yet."""
        if not self._fingerprint:
            for _ in self:
                pass
        return self._fingerprint

    @property
    def is_split(self) -> bool:
        """Whether documents are split into passages."""
        return self._split is not None

    def _passages(self, fields: FieldMap, skipped: dict[str, int]) -> Iterator[tuple[Row, Passage]]:
        for row in self._read():
            if isinstance(row, Lead):
                fields.learn(row.row)
                continue
            passage = row if isinstance(row, Problem) else fields.passage(row)
            if isinstance(passage, Problem):
                self._refuse(passage, skipped)
            elif isinstance(row, Row):
                self.documents += self._split is not None
                for part in (passage,) if self._split is None else self._split(passage):
                    yield row, part

    def _refuse(self, problem: Problem, skipped: dict[str, int]) -> None:
        if not self._skip and not problem.expected:
            raise InputError(problem.message, problem.source, problem.line)
        skipped[problem.reason] = skipped.get(problem.reason, 0) + 1

    def _finish(self, fields: FieldMap, count: int, skipped: dict[str, int], fingerprint: str) -> None:
        if fields.title_field and count and not fields.titled and not self._partial:
            raise InputError(f"none of {count:,} records has the title field {fields.title_field!r}", self.name)
        if self._fingerprint and fingerprint != self._fingerprint:
            raise InputError(
                "the corpus changed between two readings; build again when nothing writes to it", self.name
            )
        self.skipped = skipped
        self._fingerprint = fingerprint
