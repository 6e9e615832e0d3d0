"""A corpus read from records: fields mapped, documents split, every record accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from thresher.corpus.base import DocnoSet, Fingerprint, complaint
from thresher.corpus.rows import FieldMap, Problem, Row
from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from thresher.records import Passage

OnError = Literal["raise", "skip"]


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
        once: the records can be read only once (a pipe); a second iteration is an error instead of a wait.

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
                self._account(Problem(row.source, row.line, *wrong), skipped)
                continue
            fingerprint.add(passage)
            yield passage
            if len(seen) == self._limit:
                break
        self._finish(fields, len(seen), skipped, fingerprint.hexdigest())

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order; reads the corpus if nobody has yet."""
        if not self._fingerprint:
            for _ in self:
                pass
        return self._fingerprint

    def _passages(self, fields: FieldMap, skipped: dict[str, int]) -> Iterator[tuple[Row, Passage]]:
        for row in self._read():
            passage = row if isinstance(row, Problem) else fields.passage(row)
            if isinstance(passage, Problem):
                self._account(passage, skipped)
            elif isinstance(row, Row):
                for part in (passage,) if self._split is None else self._split(passage):
                    yield row, part

    def _account(self, problem: Problem, skipped: dict[str, int]) -> None:
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
