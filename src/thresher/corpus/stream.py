"""A corpus read from records: fields mapped, documents split, every record accounted for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from thresher.corpus.base import DocnoSet, Fingerprint, complaint
from thresher.errors import ConfigError, InputError
from thresher.records import Passage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

OnError = Literal["raise", "skip"]
ID_FIELDS = ("docno", "docid", "doc_id", "_id", "id", "pid")
TEXT_FIELDS = ("text", "contents", "body", "passage", "segment", "content")
TITLE_FIELDS = ("title",)


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
    """A record that is no passage.

    Attributes:
        source: the file.
        line: 1-based line or record number.
        reason: a key of `thresher.corpus.REASONS`.
        message: what is wrong, and how to mend it.
    """

    source: str
    line: int
    reason: str
    message: str


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
        id_field, text_field, title_field = names
        fields = row.fields
        docno, text, title = fields.get(id_field), fields.get(text_field), fields.get(title_field)
        if docno is None or text is None:
            return self._missing(row, *(("docno", (id_field,)) if docno is None else ("text", (text_field,))))
        if type(docno) is int:
            docno = str(docno)
        title = title or ""
        if not (isinstance(docno, str) and isinstance(text, str) and isinstance(title, str)):
            strings = ((id_field, docno), (text_field, text), (title_field, title))
            name, value = next((name, value) for name, value in strings if not isinstance(value, str))
            message = f"field {name!r} holds {value!r:.60}, a {type(value).__name__}; it must be a string"
            return Problem(row.source, row.line, "wrong-type", message)
        if not docno or docno.split() != [docno]:
            message = (
                f"docno {docno!r} is empty or holds white space, which TREC run files cannot carry; "
                "choose another identifier field or replace the white space"
            )
            return Problem(row.source, row.line, "invalid-docno", message)
        self.titled = self.titled or title_field in fields
        rest = {
            name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in fields.items()
            if name not in names and value not in (None, "", {}, [])
        }
        return Passage(docno, text, title, rest)

    def _names(self, fields: Mapping[str, object]) -> tuple[str, str, str]:
        return (
            self.id_field or next((name for name in ID_FIELDS if name in fields), ""),
            self.text_field or next((name for name in TEXT_FIELDS if name in fields), ""),
            self.title_field or next((name for name in TITLE_FIELDS if name in fields), "title"),
        )

    @staticmethod
    def _missing(row: Row, what: str, wanted: tuple[str, ...]) -> Problem:
        option = "id_field" if what == "docno" else "text_field"
        message = (
            f"no field {' or '.join(map(repr, wanted))} for the {what}; the record has "
            f"{', '.join(map(repr, row.fields)) or 'no fields'} (name another with {option})"
        )
        return Problem(row.source, row.line, "missing-field", message)


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
        limit: stop after so many passages; 0 for all.
        once: the records can be read only once (a pipe); a second iteration is then an error.

    Raises:
        ConfigError: an option is none of those.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Iterable[Row | Problem]],
        *,
        id_field: str = "",
        text_field: str = "",
        title_field: str = "",
        on_error: OnError = "raise",
        split: Callable[[Passage], Iterable[Passage]] | None = None,
        limit: int = 0,
        once: bool = False,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {on_error!r}; known are: raise, skip")
        if limit < 0:
            raise ConfigError(f"limit is {limit}; it must be 0 (all passages) or more")
        self.name = name
        self.skipped: Mapping[str, int] = {}
        self._read = read
        self._fields = (id_field, text_field, title_field)
        self._skip = on_error == "skip"
        self._split = split
        self._limit = limit
        self._once = once
        self._begun = False
        self._fingerprint = ""

    def __iter__(self) -> Iterator[Passage]:
        """The passages in order.

        Raises:
            InputError: a record is no passage (unless those are skipped), or the corpus is not what it was at the last
                iteration.
        """
        if self._once and self._begun:
            raise InputError("a pipe can be read only once; save it to a file and give that", self.name)
        self._begun = True
        seen = DocnoSet()
        skipped: dict[str, int] = {}
        fingerprint = Fingerprint()
        fields = FieldMap(*self._fields)
        for row, passage in self._passages(fields, skipped):
            wrong = complaint(passage)
            if wrong is None and not seen.add(passage.docno):
                wrong = "duplicate-docno", f"docno {passage.docno!r} came before; docnos must be unique"
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

    def _passages(self, fields: FieldMap, skipped: dict[str, int]) -> Iterator[tuple[Row, Passage]]:
        for row in self._read():
            passage = row if isinstance(row, Problem) else fields.passage(row)
            if isinstance(passage, Problem):
                self._refuse(passage, skipped)
            elif isinstance(row, Row):
                for part in (passage,) if self._split is None else self._split(passage):
                    yield row, part

    def _refuse(self, problem: Problem, skipped: dict[str, int]) -> None:
        if not self._skip:
            raise InputError(problem.message, problem.source, problem.line)
        skipped[problem.reason] = skipped.get(problem.reason, 0) + 1

    def _finish(self, fields: FieldMap, count: int, skipped: dict[str, int], fingerprint: str) -> None:
        if fields.title_field and count and not fields.titled:
            raise InputError(f"none of {count:,} records has the title field {fields.title_field!r}", self.name)
        if self._fingerprint and fingerprint != self._fingerprint:
            raise InputError(
                "the corpus changed between two readings; build again when nothing writes to it", self.name
            )
        self.skipped = skipped
        self._fingerprint = fingerprint
