"""Records as a format gives them, and how their fields become a passage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from thresher.records import Passage

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_FIELDS = ("docno", "docid", "doc_id", "_id", "id", "pid")
TEXT_FIELDS = ("text", "contents", "body", "passage", "segment", "content")
TITLE_FIELDS = ("title",)


@dataclass(frozen=True, slots=True)
class Row:
    """A record: where it stands, and its fields.

    Attributes:
        source: the file.
        line: 1-based line or record number.
        fields: name to value, as the format has it.
    """

    source: str
    line: int
    fields: Mapping[str, Any]


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
        for name, value in ((id_field, docno), (text_field, text), (title_field, title or "")):
            if not isinstance(value, str):
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
        return Passage(docno, text, title or "", rest)

    def _names(self, fields: Mapping[str, Any]) -> tuple[str, str, str]:
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
