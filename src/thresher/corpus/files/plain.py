"""Plain text to blocks: paragraphs, and headings that are underlined, alone in capitals, or marked (`== Title`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import Block, Document, Lines
from thresher.text.sentences import is_shouted, looks_like_code

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNDERLINE = re.compile(r"[ \t]*([=\-~^*#])\1{2,}[ \t]*")
_MARKED = re.compile(r"(={1,6})[ \t]+(\w.*?)(?:[ \t]+=*)?[ \t]*")
_ITEM = re.compile(r"[ \t]*(?:[-*+•‣◦▪●·–—o]|\(?\d{1,3}[.)]|\(?[A-Za-z]\))[ \t]+\S")
_LEVELS = "=#*-~^"
_SHOUTED = 8
"""Level of a heading in capitals, below those that are underlined."""
CONTENTS_LINE = re.compile(r"(?=.{0,300}\Z).*(?:\.\s?){4,}\s*[\divxlc]+\s*")
"""A line of a table of contents: words, a row of dots, a page. Longer lines of dots are none, and would take long."""


def read_plain(text: str) -> Document:
    """The blocks of plain text."""
    document = Document(text)
    lines = Lines(text)
    for first, after in paragraphs(lines, 0, len(lines)):
        level, count, heading = _heading(lines, first, after)
        here = first + count
        if level:
            span = lines.span(first, here)
            document.blocks.append(Block(span.start, span.end, "heading", level, heading))
        if here >= after:
            continue
        span = lines.span(here, after)
        if sum(bool(CONTENTS_LINE.fullmatch(lines[number])) for number in range(here, after)) * 2 > after - here:
            document.blocks.append(Block(span.start, span.end, "gap"))
            continue
        code = lines.indent(here) and looks_like_code(text[span.start : span.end])
        document.blocks.append(Block(span.start, span.end, "code" if code else "prose"))
    return document


def paragraphs(lines: Lines, first: int, after: int) -> Iterator[tuple[int, int]]:
    """Runs of lines that are not blank; a list item begins one of its own."""
    number = first
    while number < after:
        if lines.is_blank(number):
            number += 1
            continue
        stop = number + 1
        while stop < after and not lines.is_blank(stop) and not _begins(lines, number, stop):
            stop += 1
        yield number, stop
        number = stop


def _begins(lines: Lines, first: int, number: int) -> bool:
    """Whether a list item begins at line `number` of the paragraph of line `first`."""
    return bool(_ITEM.match(lines[number])) and (
        lines.indent(number) <= lines.indent(first) if _ITEM.match(lines[first]) else lines[number - 1].endswith(":")
    )


def _heading(lines: Lines, first: int, after: int) -> tuple[int, int, str]:
    """(level, lines, words) of the heading that a paragraph begins with; level 0 where it begins with none.

    Levels are 1 to 6 by the underline or the marks before it (`== Title`, as AsciiDoc has it), then `_SHOUTED`.
    """
    line = lines[first]
    words = line.strip()
    found = _UNDERLINE.fullmatch(lines[first + 1]) if first + 1 < after else None
    if found and words[:1].isalnum() and abs(len(words) - len(found[0].strip())) < 4:
        return 1 + _LEVELS.index(found[1]), 2, words
    if marked := _MARKED.fullmatch(line):
        return len(marked[1]), 1, marked[2]
    flush = lines.indent(first) == 0
    if flush and is_shouted(line) and (after == first + 1 or lines.indent(first + 1) > 0):
        return _SHOUTED, 1, words
    return 0, 0, ""
