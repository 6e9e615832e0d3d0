"""reStructuredText to blocks, by its lines.

Section titles are lines with an adornment, in levels by the order in which adornments appear. A directive with text of
its own (a note, a version) is a block or, where it is long, the blocks within it; one that describes an object
(`function`, `class`, `option`) is a section whose signature is text. What is left out: comments, link targets,
substitutions, field lists at the head, and directives that only place other pages, pictures or settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import Block, Document, Lines, slug
from thresher.corpus.files.plain import paragraphs

if TYPE_CHECKING:
    from thresher.corpus.files.blocks import Kind

_ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1{1,}\s*")
_DIRECTIVE = re.compile(r"\s*\.\.\s+(?:\|[^|]+\|\s+)?(?P<name>[\w][\w:+.-]*?)::(?:\s+(?P<argument>.*))?$")
_EXPLICIT = re.compile(r"\s*\.\.(?:\s|$)")
_FOOTNOTE = re.compile(r"\s*\.\.\s+\[[^\]]+\]\s")
_FIELD = re.compile(r":(?P<name>[^:\s][^:]*):(?:\s+(?P<value>.*))?$")
_ITEM = re.compile(r"\s*(?:[-*+•]|(?:\d{1,3}|[A-Za-z]|#)[.)]|\((?:\d{1,3}|[A-Za-z])\))\s+\S")
_GRID = re.compile(r"\s*\+[-=+]{3,}\s*$")
_RULER = re.compile(r"\s*=+(?:\s+=+)+\s*$")
_ROLE = re.compile(r":[\w:+.-]+:`(?:[^`<]*<)?[~!]?([^`>]*)>?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^>`]*>`_{1,2}")
_LEFT_OUT = frozenset(
    "author autoclass automodule bibliography codeauthor contents csv-table-settings currentmodule default-domain "
    "default-role figure graphviz highlight highlightlang image include index meta module moduleauthor "
    "plantuml raw role sectionauthor sectnum sidebar-navigation tabularcolumns target-notes testcleanup testsetup "
    "toctree unicode".split()
)
_CODE = frozenset(
    "code code-block doctest highlight-block literalinclude math parsed-literal productionlist prompt sourcecode "
    "testcode testoutput console".split()
)
_OBJECTS = frozenset(
    "attribute class classmethod cmdoption confval data decorator decoratormethod describe enum envvar exception "
    "function macro member method module-member object opcode option pdbcommand property setting staticmethod struct "
    "type var coroutinefunction coroutinemethod awaitablefunction awaitablemethod abstractmethod term".split()
)
_TABLES = frozenset({"csv-table", "list-table"})
_ADMONITIONS = frozenset(
    "admonition attention caution centered compound container danger deprecated deprecated-removed epigraph error "
    "glossary highlights hint hlist important note only parsed-literal pull-quote replace rubric seealso sidebar tab "
    "tabs tip todo topic versionadded versionchanged versionremoved warning".split()
)
_NAME = re.compile(r"[\w$.:<>/@-]+(?:\s*\(.*)?")
_SHORT = 12
"""Lines of a directive that is one block."""
_DEEP = 12
"""Directives within directives that are taken apart."""
_BELOW = 100
"""Levels of objects are below those of headings."""


def read_rst(text: str) -> Document:
    """The blocks of reStructuredText."""
    reader = _Reader(text)
    reader.read(reader.docinfo(), len(reader.lines), 0)
    return reader.document


class _Reader:
    def __init__(self, text: str) -> None:
        self.document = Document(text)
        self.lines = Lines(text)
        self._styles: list[str] = []
        self._anchors: dict[str, int] = {}

    def docinfo(self) -> int:
        """Take the field list at the head of the file; the line after it."""
        number = 0
        while number < len(self.lines):
            found = _FIELD.match(self.lines[number])
            if found is None and not self.lines.is_blank(number):
                break
            if found is not None and found["value"]:
                self.document.fields[found["name"].strip()] = found["value"].strip()
            number += 1
        return number if self.document.fields or number else 0

    def read(self, first: int, after: int, depth: int) -> None:
        """Add the blocks of the lines from `first` to `after`, which are inside `depth` directives."""
        number = first
        while number < after:
            if self.lines.is_blank(number):
                number += 1
                continue
            title = self._title(number, after) if not depth else 0
            if title:
                number = title
            elif _EXPLICIT.match(self.lines[number]):
                number = self._explicit(number, after, depth)
            elif end := self._table_end(number, after):
                self._add(number, end, "table")
                number = end
            else:
                number = self._paragraph(number, after)

    def _add(self, first: int, after: int, kind: Kind) -> None:
        span = self.lines.span(first, after)
        if span.start < span.end:
            self.document.blocks.append(Block(span.start, span.end, kind))

    def _title(self, number: int, after: int) -> int:
        """Take the section title that begins at line `number`; the line after it, 0 where there is none."""
        lines = self.lines
        if _ADORNMENT.fullmatch(lines[number]):
            return self._overlined(number, after)
        found = _ADORNMENT.fullmatch(lines[number + 1]) if number + 1 < after else None
        text = lines[number].rstrip()
        if found is None or lines.indent(number) or len(found[0].rstrip()) < min(len(text), 4):
            return 0
        self._heading(number, number + 2, text, found[1])
        return number + 2

    def _overlined(self, number: int, after: int) -> int:
        lines = self.lines
        found = _ADORNMENT.fullmatch(lines[number])
        if found is None or number + 2 >= after or lines.is_blank(number + 1):
            return 0
        if lines[number + 2].rstrip() != lines[number].rstrip() or len(found[0].rstrip()) < 3:
            return 0
        self._heading(number, number + 3, lines[number + 1].strip(), found[1] * 2)
        return number + 3

    def _heading(self, first: int, after: int, text: str, style: str) -> None:
        if style not in self._styles:
            self._styles.append(style)
        heading = _words(text)
        name = slug(heading)
        self._anchors[name] = self._anchors.get(name, -1) + 1
        anchor = f"{name}-{self._anchors[name]}" if self._anchors[name] else name
        span = self.lines.span(first, after)
        level = 1 + self._styles.index(style)
        self.document.blocks.append(Block(span.start, span.end, "heading", level, heading, anchor))

    def _explicit(self, number: int, after: int, depth: int) -> int:
        """Take a directive, comment, target or footnote; the line after it."""
        end = self._deeper_end(number, after)
        found = _DIRECTIVE.match(self.lines[number])
        span = self.lines.span(number, end)
        if found is None:
            if _FOOTNOTE.match(self.lines[number]):
                self._add(number, end, "prose")
            else:
                self.document.leave_out(span.start, span.end)
            return end
        name = found["name"].rpartition(":")[2].lower()
        argument = found["argument"] or ""
        named = name not in _ADMONITIONS and _NAME.fullmatch(argument) is not None
        described = named or ":" in found["name"] or name in _OBJECTS
        if name in _LEFT_OUT or self.lines[number].lstrip().startswith(".. |"):
            self.document.leave_out(span.start, span.end)
        elif name in _CODE or name in _TABLES:
            self._add(number, end, "code" if name in _CODE else "table")
        elif described and depth < _DEEP:
            self._object(number, end, depth, argument)
        elif end - number <= _SHORT or depth >= _DEEP:
            self._add(number, end, "prose")
        else:
            body = self._body(number + 1, end)
            self._add(number, body, "prose")
            self.read(body, end, depth + 1)
        return end

    def _object(self, number: int, end: int, depth: int, argument: str) -> None:
        """Take a directive that describes an object as a section whose signature is text."""
        body = self._body(number + 1, end)
        span = self.lines.span(number, body)
        heading = argument.partition("(")[0].strip() or argument
        level = _BELOW + self.lines.indent(number)
        self.document.blocks.append(Block(span.start, span.end, "heading", level, heading, shown=True))
        self.read(body, end, depth + 1)
        close = self.lines.span(number, end).end
        self.document.blocks.append(Block(close, close, "heading", level))  # what follows is of the section around

    def _body(self, number: int, end: int) -> int:
        """The first line of a directive's content, after its further arguments and options."""
        while number < end and not self.lines.is_blank(number):
            number += 1
        return number

    def _deeper_end(self, number: int, after: int) -> int:
        """The line after the last that is deeper than line `number`."""
        indent = self.lines.indent(number)
        stop = here = number + 1
        while here < after and (self.lines.is_blank(here) or self.lines.indent(here) > indent):
            here += 1
            if not self.lines.is_blank(here - 1):
                stop = here
        return stop

    def _table_end(self, number: int, after: int) -> int:
        """The line after the grid or simple table that begins at line `number`; 0 if none does."""
        line = self.lines[number]
        stop = number + 1
        if _GRID.match(line):
            while stop < after and self.lines[stop].lstrip()[:1] in ("+", "|"):
                stop += 1
            return stop if stop > number + 2 else 0
        if not _RULER.match(line):
            return 0
        last = 0
        while stop < after and (not self.lines.is_blank(stop) or last == 0 or self._more(stop, after)):
            if _RULER.match(self.lines[stop]):
                last = stop + 1
                if stop + 1 >= after or self.lines.is_blank(stop + 1):
                    break
            stop += 1
        return last

    def _more(self, number: int, after: int) -> bool:
        """Whether a simple table goes on after a blank line: a ruler follows before the next empty place."""
        return any(_RULER.match(self.lines[at]) for at in range(number + 1, min(number + 40, after)))

    def _paragraph(self, number: int, after: int) -> int:
        """Take a paragraph, list item, definition or literal block; the line after it."""
        first, stop = next(paragraphs(self.lines, number, after))
        while stop < after and _is_inside(self.lines, first, stop, after):
            stop = self._deeper_end(first, after)
        literal = self.lines[stop - 1].rstrip().endswith("::")
        if literal and stop < after:
            here = stop
            while here < after and self.lines.is_blank(here):
                here += 1
            if here < after and self.lines.indent(here) > self.lines.indent(first):
                self._add(first, stop, "prose")
                end = self._deeper_end(first, after)
                self._add(here, end, "code")
                return end
        self._add(first, stop, "prose")
        return stop


def _is_inside(lines: Lines, first: int, stop: int, after: int) -> bool:
    """Whether a list item goes on after a blank line: text follows that is indented to its words."""
    if not _ITEM.match(lines[first]):
        return False
    here = stop
    while here < after and lines.is_blank(here):
        here += 1
    return here > stop and here < after and lines.indent(here) > lines.indent(first)


def _words(text: str) -> str:
    """A title without the markup of roles and links."""
    text = _LINK.sub(r"\1", _ROLE.sub(r"\1", text))
    return re.sub(r"``|\*\*|(?<!\w)[*`]|[*`_]+(?!\w)", "", text).strip()
