"""A document as its readers give it: one text, and the blocks in it in order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from thresher.records import Span

if TYPE_CHECKING:
    from array import array

Kind = Literal["heading", "prose", "code", "table", "list", "gap"]
GAP = 160
"""Characters left out between two blocks that keep them from sharing a passage; fewer stay in its slice."""
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the text that belongs together.

    Attributes:
        start: its first code point.
        end: one past its last.
        kind: `gap` is text that is left out (navigation, a table of contents), which no passage may span.
        level: of a heading; smaller is higher.
        heading: the words of a heading; one without ends the section before it.
        anchor: the fragment of a link to a heading; empty where there is none.
        shown: a heading that is text as well, as the signature of a function is.
        parts: the items of a list or the rows of a table.
        page: of a PDF, from 1.
    """

    start: int
    end: int
    kind: Kind
    level: int = 0
    heading: str = ""
    anchor: str = ""
    shown: bool = False
    parts: tuple[Span, ...] = ()
    page: int = 0


@dataclass(slots=True)
class Document:
    """What a reader makes of a file.

    Attributes:
        text: for Markdown, reStructuredText, text and source the decoded file; else what was extracted from it.
        blocks: in order, disjoint; what is in none (markup, blank lines) is not lost where it is between two.
        title: of the whole, where the file states one apart from its headings.
        fields: front matter and the like.
        origin: the place in the decoded file of each character of the text, where they differ (HTML); int64 array.
    """

    text: str
    blocks: list[Block] = field(default_factory=list)
    title: str = ""
    fields: dict[str, object] = field(default_factory=dict)
    origin: array[int] | None = None

    def leave_out(self, start: int, end: int) -> None:
        """Note that `text[start:end]` is not to be read; short pieces may stay within a passage."""
        if end - start > GAP:
            self.blocks.append(Block(start, end, "gap"))


class UnreadableError(Exception):
    """A file that cannot be read; its reason is a key of `thresher.corpus.REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Lines:
    """The lines of a text with their places, ends as CommonMark has them: CR, LF, or both."""

    def __init__(self, text: str) -> None:
        self.text = text
        ends = [found.end() for found in _LINE_END.finditer(text)]
        self.starts = [0, *ends]
        if self.starts[-1] != len(text):
            self.starts.append(len(text))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> str:
        """A line without its end."""
        return self.text[self.starts[number] : self.starts[number + 1]].rstrip("\r\n")

    def span(self, first: int, after: int) -> Span:
        """Lines `first` to `after` - 1, without blank lines and white space at their end."""
        start, end = self.starts[first], self.starts[min(after, len(self))]
        return Span(start, start + len(self.text[start:end].rstrip()))

    def indent(self, number: int) -> int:
        """Columns of white space that a line begins with."""
        line = self[number].expandtabs(8)
        return len(line) - len(line.lstrip())

    def is_blank(self, number: int) -> bool:
        """Whether a line is empty but for white space."""
        return not self[number].strip()


_NOT_IN_SLUG = re.compile(r"[^\w\- ]")
_NOT_IN_NAME = re.compile(r"[^\w.:-]+")
_LONGEST_SLUG = 80


def slug(heading: str) -> str:
    """The fragment that GitHub and others link a heading by: lower case, no punctuation, hyphens for spaces."""
    made = _NOT_IN_SLUG.sub("", heading.strip().lower())
    return "-".join(made.split())[:_LONGEST_SLUG] or "section"


def name_slug(name: str) -> str:
    """The address of what a signature names: as it is, but for what cannot be in a docno."""
    return _NOT_IN_NAME.sub("-", name).strip("-.")[:_LONGEST_SLUG] or "section"
