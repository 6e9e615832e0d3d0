"""Sentences of a text, as spans of its code points.

The text is first cut at line ends into blocks, because running text and layout follow different rules:

- a fenced code block, a literal block (after `::`, or in a directive such as `.. code-block::`), an indented block that
  looks like code, an interpreter session (`>>> `) and a heading are one unit each;
- of a table (pipes, grid, tabs, columns of spaces) the header is a unit, and each row;
- a list item is one unit with its continuation lines, unless it has more than `LONG_ITEM` characters, which makes
  it prose with a bullet: then its sentences are found like those of a paragraph;
- an entry of a list of definitions (a term with indented lines under it, `name: what it is`, `:param name:`) and a
  speaker's turn begin a paragraph of their own;
- anything else is a paragraph, which ends at an empty line, and is cut into sentences by syntok's rules, which know
  abbreviations, initials, numbers, dates, brackets and quotes in English, German and Spanish. The full stops of other
  scripts end a sentence with or without a space after them: Chinese, Japanese, Devanagari, Urdu, Arabic,
  Burmese, Khmer, Armenian, Ethiopic. Thai and Lao have none; there a space ends what has `LONG_CLAUSE` characters.
  Speech without any punctuation is cut at line ends, at words that begin a clause, or at spaces (`LONG_RUN`).

Only the starts of sentences are taken from syntok, and only after white space or a stop, not inside `code`.
A span ends at the next start, without the white space around it. So
every character that is not white space is in exactly one span, whatever the text; syntok's own tokens do not guarantee
that (a hyphen or a zero-width space may be between them).
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import regex

from thresher.records import Span
from thresher.text.segmenting import segment_starts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from syntok.tokenizer import Tokenizer

LONG_ITEM = 240
"""A list item of more characters is cut into sentences."""
LONG_CLAUSE = 40
"""Thai or Lao text of at least this many characters ends at a space."""

LONG_RUN = 220
"""A run of at least this many characters without any punctuation is cut."""
RUN_PIECE = 160
"""Into pieces of about this many characters."""

_FENCE = regex.compile(r"[^\S\n]*(?P<mark>`{3,}|~{3,})(?P<info>.*)", regex.DOTALL)
_HEADING = regex.compile(r"[^\S\n]{0,3}#{1,6}[^\S\n]")
_UNDERLINE = regex.compile(r"[^\S\n]*([=\-~^\"*+#])\1{2,}\s*")
_ITEM = regex.compile(r"[^\S\n]*(?:[-*+•‣◦▪●·–—]|\(?\d{1,3}[.)]|\(?[A-Za-z]\))[^\S\n]+\S")
_DOCTEST = regex.compile(r"[^\S\n]*>>>(?:\s|$)")
_PIPES = regex.compile(r"[^\S\n]*\|.*\||[^|]*\|[^|]*\|")
_GRID = regex.compile(r"[^\S\n]*\+[-=+]{2,}\s*|[^\S\n]*={2,}(?:[^\S\n]+={2,})+\s*|(?=.*---)(?=.*\|)[\s|:-]+")
_SIMPLE_RULER = regex.compile(r"[^\S\n]*={2,}(?:[^\S\n]+={2,})+\s*")
_DASHES = regex.compile(r"[^\S\n]*-{2,}(?:[^\S\n]+-{2,})+\s*")
_COLUMN = regex.compile(r"(?<=\S)(?:[^\S\n]{2,})(?=\S)")
_SHOUTED = regex.compile(r"[^\S\n]{0,3}(?=[^a-z]*$)\p{Lu}[\p{Lu}\d ,/&'()-]{2,59}\s*")
_LABELLED = regex.compile(r"[^\S\n]*[\w*`][\w *`-]{0,40}[:：]\s*")
_ENTRY = regex.compile(r"[^\S\n]+[*`]*\w[\w.*`-]*(?:[^\S\n]*\([^()\n]*\))?[*`]*:[^\S\n]+\S")
_FIELD = regex.compile(r"[^\S\n]*:\w+(?: [^:\n]+)?:(?:[^\S\n]|$)")
_TURN = regex.compile(
    r"[^\S\n]*(?:(?:\p{Lu}[\p{Lu}\d .'-]{1,30}|(?:Speaker|Caller|Q|A)[^\S\n]?\d*|\p{Lu}\p{Ll}+(?: \p{Lu}\p{Ll}+)?)"
    r":[^\S\n]+\S|\[?\(?\d{1,2}:\d\d(?::\d\d)?(?:[.,]\d+)?[\])]?[^\S\n]+\S|>>[^\S\n]+\S)"
)
_BARE = regex.compile(rf"[^.,;:!?()\[\]{{}}…—–\"“”。，、！？؟]{{{LONG_RUN},}}")
_CLAUSE = regex.compile(
    r"(?<!\b(?:and|but|so|or))\s(?=(?:and|but|so|because|okay|ok|well|now|then|or|um|uh|which|when|if)\s)",
    regex.IGNORECASE,
)
_TABS = regex.compile(r"\S\t+\S")
_MAY_SPLIT = regex.compile(r"[.!?;‼‽⁇⁈⁉。﹒﹗！．？｡(\[{｟｛［（﹝﹛﹙﴾〚〘⦅⦃〈]")
_FULL_STOP = regex.compile(r"[。！？｡।॥۔؟။។៕։።፧]+(?P<after>[」』）】〉》”’»\"']*)")
_THAI = regex.compile(r"(?<=[\u0e00-\u0eff])[^\S\n]+(?=[\u0e00-\u0eff])")
_STOPPED = regex.compile(r"[.!?;:…‼‽⁇⁈⁉。﹒﹗！．？｡][\"'”’»)\]]*$")
_INTRODUCES = regex.compile(r"[:：][\"'”’)\]*_`]*\s*$")
_LABEL = regex.compile(r"\([^\s()]+\)=|\.\. _[^\n]+:")
_INLINE_CODE = regex.compile(r"(`{1,32}+)[^`]+\1")  # bounded: a long row of marks is not read again from each
_LITERAL = regex.compile(
    r"[^\S\n]*\.\.\s+(?:code|code-block|sourcecode|parsed-literal|productionlist|math|prompt|testcode)::"
)
_CODE_MARKS = regex.compile(r"[{}()\[\]<>=;$|\\_#&^%+@~/]")
_CODE_SHARE = 0.08
"""An indented block with this share of such marks among its visible characters is code."""


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
        starts = _spoken(text, list(_with_cut_runs(text, starts))) if prose else starts
        for here, there in pairwise(starts):
            piece = text[here:there]
            left = here + len(piece) - len(piece.lstrip())
            right = there - (len(piece) - len(piece.rstrip()))
            if left < right:
                spans.append(Span(left, right))
    return spans


def _sentence_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Starts of the sentences after the first in the paragraph `text[start:end]`, ascending."""
    codes = iter([found.span() for found in _INLINE_CODE.finditer(text, start, end)])
    code = next(codes, None)
    for piece_start, piece_end in _full_stop_pieces(text, start, end):
        if piece_start > start:
            yield piece_start
        piece = text[piece_start:piece_end]
        if not _MAY_SPLIT.search(piece):
            continue
        for number, offset in enumerate(segment_starts(_tokenizer().tokenize(piece))):
            at = piece_start + offset
            while code is not None and code[1] <= at:
                code = next(codes, None)
            inside = code is not None and code[0] < at
            if number and not inside and (text[at - 1].isspace() or _STOPPED.search(text, max(start, at - 8), at)):
                yield at


def _spoken(text: str, starts: list[int]) -> list[int]:
    """The starts without those of pieces that have neither a letter nor a digit, as a stray `::`."""
    ends = [*starts[1:-1], starts[-1]]
    said = [start for start, end in zip(starts, ends, strict=False) if any(map(str.isalnum, text[start:end]))]
    return [starts[0], *(start for start in said if start > starts[0]), starts[-1]]


def _with_cut_runs(text: str, starts: list[int]) -> Iterator[int]:
    """The starts, and between them places in long runs without punctuation."""
    for here, there in pairwise(starts):
        yield here
        for run in _BARE.finditer(text, here, there):
            at = run.start()
            while run.end() - at >= LONG_RUN:
                at = _clause_start(text, at + RUN_PIECE // 2, min(at + LONG_RUN, run.end() - RUN_PIECE // 4))
                if at < 0:
                    break
                yield at
    yield starts[-1]


def _clause_start(text: str, first: int, last: int) -> int:
    """A place between two words: after a line end, else before a word that begins a clause, else the last; else -1."""
    at = text.rfind("\n", first, last)
    if at < 0:
        at = max((found.start() for found in _CLAUSE.finditer(text, first, last)), default=-1)
    if at < 0:
        at = text.rfind(" ", first, last)
    return at + 1 if at >= 0 else -1


def _full_stop_pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a paragraph between full stops after which no space need stand, and between Thai clauses."""
    here, quotes, counted = start, 0, start
    for at, after in _hard_stops(text, start, end):
        quotes += text.count('"', counted, at)
        counted = at
        stop = after
        if stop > at and quotes % 2 == 0 and '"' in text[at:after]:  # a quote opens here: it goes with what follows
            stop = text.index('"', at)
        if stop > here:
            yield here, stop
            here = stop
    yield here, end


def _hard_stops(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(end of the stops, end of the closing marks after them), ascending."""
    thai = [found.start() for found in _THAI.finditer(text, start, end)]
    here, place = start, 0
    for stop in _FULL_STOP.finditer(text, start, end):
        while place < len(thai) and thai[place] < stop.start():
            if thai[place] - here >= LONG_CLAUSE:
                here = thai[place]
                yield here, here
            place += 1
        here = stop.end()
        yield stop.start("after"), here
    for at in thai[place:]:
        if at - here >= LONG_CLAUSE:
            here = at
            yield at, at


@cache
def _tokenizer() -> Tokenizer:
    """The tokenizer of syntok, loaded for the first text that needs it."""
    from syntok.tokenizer import Tokenizer

    return Tokenizer(replace_not_contraction=False)


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Cut `text` at lines into (start, end, is prose)."""
    lines = text.splitlines(keepends=True)
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    fences = _Fences(lines)
    number, before = 0, -1
    while number < len(lines):
        if not lines[number].strip():
            number += 1
            continue
        stop = _literal_end(lines, number, before)
        if stop:
            yield offsets[number], offsets[stop], False
        elif end := _table_end(lines, number, fences):
            for stop in _row_ends(lines, number, end):
                yield offsets[number], offsets[stop], False
                number = stop
        else:
            stop, prose = _block_end(lines, number, fences)
            yield offsets[number], offsets[stop], prose
        number, before = stop, _last_text(lines, stop)


def _last_text(lines: list[str], stop: int) -> int:
    """The last line before line `stop` that is not empty."""
    while stop and not lines[stop - 1].strip():
        stop -= 1
    return stop - 1


def _indent(line: str) -> int:
    """Columns of white space that a line begins with."""
    line = line.expandtabs(8)
    return len(line) - len(line.lstrip())


def _literal_end(lines: list[str], first: int, before: int) -> int:
    """The line after the literal block that begins at line `first`; 0 if none begins there.

    `before` is the line of text before it, -1 for none.
    """
    line = lines[first]
    if _LITERAL.match(line):
        return _deeper_end(lines, first + 1, _indent(line))
    if before < 0 or before == first - 1 or _indent(line) <= _indent(lines[before]):
        return 0
    if lines[before].rstrip().endswith("::") and not lines[before].lstrip().startswith(".."):
        return _deeper_end(lines, first, _indent(lines[before]))
    if _indent(line) < 2 or _ITEM.match(line) or _ITEM.match(lines[before]) or is_row(line):
        return 0
    stop = first
    while stop < len(lines) and lines[stop].strip() and _indent(lines[stop]) > _indent(lines[before]):
        stop += 1
    visible = sum(len("".join(one.split())) for one in lines[first:stop])
    marks = sum(len(_CODE_MARKS.findall(one)) for one in lines[first:stop])
    return stop if marks >= _CODE_SHARE * visible else 0


def looks_like_code(text: str) -> bool:
    """Whether `text` has several lines and as many marks of programs as code has."""
    head = text[:2000]
    visible = sum(map(len, head.split()))
    return "\n" in head and len(_CODE_MARKS.findall(head)) >= 2 * _CODE_SHARE * max(visible, 1)


def _deeper_end(lines: list[str], number: int, indent: int) -> int:
    """The line after the last of the lines from `number` on that are empty or indented by more than `indent`."""
    stop = number
    while number < len(lines) and (not lines[number].strip() or _indent(lines[number]) > indent):
        number += 1
        if lines[number - 1].strip():
            stop = number
    return stop


def _table_end(lines: list[str], first: int, fences: _Fences) -> int:
    """The line after the table that begins at line `first`; 0 if none begins there."""
    if fences.closing(first) or first + 1 >= len(lines):
        return 0
    if _SIMPLE_RULER.fullmatch(lines[first]):
        end = _run_end(lines, first + 1, str.strip)
        rulers = [number for number in range(first + 1, end) if _SIMPLE_RULER.fullmatch(lines[number])]
        return rulers[-1] + 1 if rulers else 0
    if is_row(lines[first]) and is_row(lines[first + 1]):
        return _run_end(lines, first + 2, is_row)
    if _DASHES.fullmatch(lines[first + 1]) and _COLUMN.search(lines[first].strip()):
        return _run_end(lines, first + 2, str.strip)
    return _columns_end(lines, first)


def _columns_end(lines: list[str], first: int) -> int:
    """The line after at least three lines whose columns begin at one place, set off by spaces; 0 if there are none.

    A line that is empty before that place continues the row before it.
    """
    shared = _columns(lines[first])
    stop, rows, wide = first, 0, 0
    while stop < len(lines) and lines[stop].strip():
        own = _columns(lines[stop])
        common = shared & own
        indent = len(lines[stop]) - len(lines[stop].lstrip())
        if not common and not (rows and indent in shared):
            break
        if common:
            shared, rows = common, rows + 1
            at = min(common)
            wide += lines[stop][:at].endswith("   ")
            if rows == 8 and wide < 2:  # running text, set flush
                return 0
        stop += 1
    return stop if rows >= 3 and wide >= 2 else 0


def _columns(line: str) -> set[int]:
    """Where words begin that two or more spaces set off from the word before."""
    return {found.end() for found in _COLUMN.finditer(line)}


def _row_ends(lines: list[str], first: int, end: int) -> Iterator[int]:
    """The lines after the header of the table of lines `first` to `end`, and after each row.

    The header ends with the ruler after its first row. Rows are lines, or in a grid what stands between rulers.
    """
    rulers = {n for n in range(first, end) if _GRID.fullmatch(lines[n]) or _DASHES.fullmatch(lines[n])}
    head = next((number for number in range(first + 1, min(end, first + 7)) if number in rulers), first)
    grid = lines[first].lstrip().startswith("+")
    row = head + 1
    least = min(map(_indent, lines[first:end]))
    for number in range(head + 1, end + 1):
        # a ruler goes with the row before it; in a grid it ends a row, else each line does that is not indented
        continued = number < end and _indent(lines[number]) > least + 7
        ends = number == end or (number - 1 in rulers if grid else number not in rulers and not continued)
        if number > row - (row == head + 1) and ends:
            yield number
            row = number


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
    if _ITEM.match(lines[number]) or _starts_entry(lines, number) or _TURN.match(lines[number]):
        return True
    return _unit_end(lines, number, fences) > 0


def _starts_entry(lines: list[str], number: int) -> bool:
    """Whether a line within a block begins an entry of a list: the line before hangs deeper, or is its like."""
    line, before = lines[number], lines[number - 1]
    if _FIELD.match(line):
        return True
    hangs, same = _indent(before) - _indent(line), bool(_ENTRY.match(before))
    if _ENTRY.match(line) and (hangs > 0 or (hangs == 0 and same) or (hangs < 0 and _LABELLED.fullmatch(before))):
        return True
    follows = lines[number + 1] if number + 1 < len(lines) else ""
    return hangs > 0 and bool(follows.strip()) and _indent(follows) > _indent(line)


def _unit_end(lines: list[str], first: int, fences: _Fences) -> int:
    """The line after the code, session, table or heading that begins at line `first`; 0 if none begins there."""
    line = lines[first]
    if closing := fences.closing(first):
        return closing + 1
    if _LITERAL.match(line):
        return _deeper_end(lines, first + 1, _indent(line))
    if _HEADING.match(line) or _DOCTEST.match(line):
        return first + 1 if _HEADING.match(line) else _run_end(lines, first + 1, str.strip)
    if end := _table_end(lines, first, fences):
        return end
    return _heading_end(lines, first) if first + 1 < len(lines) else 0


def _heading_end(lines: list[str], first: int) -> int:
    """The line after a heading with underline, in capitals, or a label, over indented lines; 0 if it is none."""
    line = lines[first]
    if _UNDERLINE.fullmatch(lines[first + 1]) and not _ITEM.match(line) and not _UNDERLINE.fullmatch(line):
        if _is_title(line, lines[first + 1]) or (_stands_alone(lines, first) and _is_half(line, lines[first + 1])):
            return first + 2
    if _UNDERLINE.fullmatch(line) and first + 2 < len(lines) and lines[first + 2].strip() == line.strip():
        return first + 3 if lines[first + 1].strip() else 0
    deeper = bool(lines[first + 1].strip()) and _indent(lines[first + 1]) > _indent(line)
    label = (_SHOUTED.fullmatch(line) and _stands_alone(lines, first)) or _LABELLED.fullmatch(line)
    return first + 1 if deeper and label else 0


def _stands_alone(lines: list[str], number: int) -> bool:
    """Whether nothing stands on the line before."""
    return number == 0 or not lines[number - 1].strip()


def _is_half(line: str, underline: str) -> bool:
    """Whether the underline is at least half as long as a short line."""
    return len(line.strip()) <= min(100, 2 * len(underline.strip()))


def introduces(text: str) -> bool:
    """Whether a sentence says little without what follows: a heading, a label, or one that ends with a colon."""
    if _INTRODUCES.search(text[-40:]) or _LABEL.fullmatch(text[:80]) or _HEADING.match(text):
        return True
    underline = text.rpartition("\n")[2]
    return "\n" in text and is_underline(underline) and not is_item(text)


def is_item(text: str) -> bool:
    """Whether `text` begins with a bullet or a number."""
    return _ITEM.match(text) is not None


def is_entry(text: str) -> bool:
    """Whether `text` begins with a name and a colon, as an entry of a list of parameters does."""
    return bool(_FIELD.match(text) or _ENTRY.match(f" {text[:200]}"))


def is_turn(text: str) -> bool:
    """Whether `text` begins with a speaker's name or a time, as in a transcript."""
    return _TURN.match(text) is not None


def is_underline(line: str) -> bool:
    """Whether a line is what underlines a heading."""
    return _UNDERLINE.fullmatch(line) is not None


def is_code(text: str) -> bool:
    """Whether `text` is a fence, an interpreter session or a directive that holds code."""
    return any(mark.match(text) for mark in (_FENCE, _DOCTEST, _LITERAL))


def _is_title(line: str, underline: str) -> bool:
    """Whether the underline is long enough to make `line` a heading, not the last line of a paragraph."""
    return len(line.strip()) <= len(underline.strip()) + 3


def is_shouted(line: str) -> bool:
    """Whether a line is all in capitals and short, as headings of manual pages are."""
    return _SHOUTED.fullmatch(line) is not None


def has_columns(line: str) -> bool:
    """Whether spaces set off a second column."""
    return _COLUMN.search(line) is not None


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
