"""Sentences of a text, as spans of its code points.

The text is first cut at line ends into blocks, because running text and layout follow different rules:

- a fenced code block, an interpreter session (`>>> `), a table (pipes, grid, tabs) and a heading are one unit each;
- a list item is one unit with its continuation lines, unless it has more than `LONG_ITEM` characters, which makes
  it prose with a bullet: then its sentences are found like those of a paragraph;
- anything else is a paragraph, which ends at an empty line, and is cut into sentences by syntok, which knows
  abbreviations, initials, numbers, dates, brackets and quotes in English, German and Spanish. Chinese and Japanese full
  stops, after which no space stands, end a sentence as well.

Only the starts of sentences are taken from syntok. A span ends at the next start, without the white space around it. So
every character that is not white space is in exactly one span, whatever the text; syntok's own tokens do not guarantee
that (a hyphen or a zero-width space may be between them).
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import regex

from thresher.records import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from syntok.tokenizer import Token, Tokenizer

LONG_ITEM = 240
"""A list item of more characters is cut into sentences."""

_FENCE = regex.compile(r"[^\S\n]*(?P<mark>`{3,}|~{3,})(?P<info>.*)", regex.DOTALL)
_HEADING = regex.compile(r"[^\S\n]{0,3}#{1,6}[^\S\n]")
_UNDERLINE = regex.compile(r"[^\S\n]*([=\-~^\"*+#])\1{2,}\s*")
_ITEM = regex.compile(r"[^\S\n]*(?:[-*+•‣◦▪●·–—]|\(?\d{1,3}[.)]|\(?[A-Za-z]\))[^\S\n]+\S")
_DOCTEST = regex.compile(r"[^\S\n]*>>>(?:\s|$)")
_PIPES = regex.compile(r"[^\S\n]*\|.*\||[^|]*\|[^|]*\|")
_GRID = regex.compile(r"[^\S\n]*\+[-=+]{2,}\s*|[^\S\n]*={2,}(?:[^\S\n]+={2,})+\s*|(?=.*---)(?=.*\|)[\s|:-]+")
_TABS = regex.compile(r"\S\t+\S")
_MAY_SPLIT = regex.compile(r"[.!?;‼‽⁇⁈⁉。﹒﹗！．？｡(\[{｟｛［（﹝﹛﹙﴾〚〘⦅⦃〈]")
_FULL_STOP = regex.compile(r"[。！？｡]+[」』）】〉》”’\"']*")


def split_sentences(text: str) -> list[Span]:
    """The sentences of `text` in order.

    Args:
        text: any string.

    Returns:
        Half-open spans of code points, ascending, disjoint, none empty, none with white space at its ends
        (`str.isspace`); every character that is not white space is in one of them.
    """
    spans: list[Span] = []
    for start, end, prose in _blocks(text):
        starts = [start, *(_sentence_starts(text, start, end) if prose else ()), end]
        for here, there in pairwise(starts):
            piece = text[here:there]
            left = here + len(piece) - len(piece.lstrip())
            right = there - (len(piece) - len(piece.rstrip()))
            if left < right:
                spans.append(Span(left, right))
    return spans


def _sentence_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Starts of the sentences after the first in the paragraph `text[start:end]`, ascending."""
    for piece_start, piece_end in _full_stop_pieces(text, start, end):
        if piece_start > start:
            yield piece_start
        piece = text[piece_start:piece_end]
        if _MAY_SPLIT.search(piece):
            segment, tokenizer = _syntok()
            for number, sentence in enumerate(segment(tokenizer.tokenize(piece))):
                if number:
                    yield piece_start + sentence[0].offset


def _full_stop_pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a paragraph between ideographic full stops."""
    here = start
    for stop in _FULL_STOP.finditer(text, start, end):
        yield here, stop.end()
        here = stop.end()
    yield here, end


@cache
def _syntok() -> tuple[Callable[[Iterable[Token]], Iterator[list[Token]]], Tokenizer]:
    """The segmenter and the tokenizer of syntok, loaded for the first text that needs them."""
    from syntok.segmenter import segment
    from syntok.tokenizer import Tokenizer

    return segment, Tokenizer(replace_not_contraction=False)


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Cut `text` at lines into (start, end, is prose)."""
    lines = text.splitlines(keepends=True)
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    fences = _Fences(lines)
    number = 0
    while number < len(lines):
        if not lines[number].strip():
            number += 1
            continue
        stop, prose = _block_end(lines, number, fences)
        yield offsets[number], offsets[stop], prose
        number = stop


def _block_end(lines: list[str], first: int, fences: _Fences) -> tuple[int, bool]:
    """The line after the block that begins at line `first`, and whether that block is prose."""
    stop = _unit_end(lines, first, fences)
    if stop:
        return stop, False
    item = bool(_ITEM.match(lines[first]))
    stop = first + 1
    while stop < len(lines) and lines[stop].strip() and not _starts_block(lines, stop, fences):
        stop += 1
    if item:
        return stop, sum(map(len, lines[first:stop])) > LONG_ITEM
    return stop, True


def _starts_block(lines: list[str], number: int, fences: _Fences) -> bool:
    return bool(_ITEM.match(lines[number])) or _unit_end(lines, number, fences) > 0


def _unit_end(lines: list[str], first: int, fences: _Fences) -> int:
    """The line after the code, session, table or heading that begins at line `first`; 0 if none begins there."""
    line = lines[first]
    if closing := fences.closing(first):
        return closing + 1
    if _HEADING.match(line):
        return first + 1
    if _DOCTEST.match(line):
        return _run_end(lines, first + 1, str.strip)
    if first + 1 < len(lines):
        if is_row(line) and is_row(lines[first + 1]):
            return _run_end(lines, first + 2, is_row)
        if _UNDERLINE.fullmatch(lines[first + 1]) and not _ITEM.match(line) and _is_title(line, lines[first + 1]):
            return first + 2
    return 0


def is_item(text: str) -> bool:
    """Whether `text` begins with a bullet or a number."""
    return _ITEM.match(text) is not None


def is_underline(line: str) -> bool:
    """Whether a line is what underlines a heading."""
    return _UNDERLINE.fullmatch(line) is not None


def is_code(text: str) -> bool:
    """Whether `text` begins with a code fence or the prompt of an interpreter."""
    return _FENCE.match(text) is not None or _DOCTEST.match(text) is not None


def _is_title(line: str, underline: str) -> bool:
    """Whether the underline is long enough to make `line` a heading, not the last line of a paragraph."""
    return len(line.strip()) <= len(underline.strip()) + 3


def is_row(line: str) -> bool:
    """Whether a line is part of a table."""
    return bool(_PIPES.match(line) or _GRID.fullmatch(line) or _TABS.search(line))


def _run_end(lines: list[str], number: int, belongs: Callable[[str], object]) -> int:
    while number < len(lines) and belongs(lines[number]):
        number += 1
    return number


class _Fences:
    """The closing line of each code fence; an opening mark without one is not a fence."""

    def __init__(self, lines: list[str]) -> None:
        self._closing: dict[int, int] = {}
        opener, mark = -1, ""
        for number, line in enumerate(lines):
            found = _FENCE.match(line)
            if found is None:
                continue
            if opener < 0:
                opener, mark = number, found["mark"]
            elif found["mark"].startswith(mark) and not found["info"].strip():
                self._closing[opener] = number
                opener = -1

    def closing(self, number: int) -> int:
        """The line that closes the fence opened at line `number`; 0 if that line opens none."""
        return self._closing.get(number, 0)
