"""Long documents split into passages.

A document becomes passages of whole sentences up to a budget of tokens, neighbours overlapping. A passage is a slice
of its document's text, and its metadata gives its position: `document`, `start` and `end`, in Unicode code points. The
first passage keeps the document's docno, the others are `docno#2`, `docno#3` and so on.

A token here is a run of letters, digits and the marks that combine with them, of at most 24 characters; or a single
character of a script written without spaces between words (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese and
others) or of any other kind but white space. A character is what readers take for one: a grapheme cluster of Unicode
Annex #29, such as a letter with its accents, or an emoji sequence; none is ever cut. That is a little fewer than a
model's word pieces, and the same on every machine. A sentence longer than the budget is cut between tokens.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

import regex

from thresher.errors import ConfigError
from thresher.records import Passage, Span
from thresher.text.sentences import introduces, split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACE = ("document", "start", "end")
_WORD = 24
"""The most characters of a token."""
_ASCII = re.compile(rf"\w{{1,{_WORD}}}|[^\w\s]", re.ASCII)
_UNSPACED = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Yi}\p{LB=Complex_Context}\p{Tai_Tham}\p{Javanese}"
    r"\p{Balinese}\p{Tibetan}ー々〆]"
)
_MARK = r"[\p{M}\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]"
_TOKEN = regex.compile(
    rf"(?V1)(?:(?={_UNSPACED})\X|(?:(?=[[\w\p{{N}}]--{_UNSPACED}])\X){{1,{_WORD}}}|(?=[^\s\x1c-\x1f])\X)"
    rf"(?:\s*+{_MARK}++)*+"
)
_SEPARATOR = re.compile(r"[\x1c-\x1f]")
"""What separates words, but not a mark from its letter."""
_CLUSTER = regex.compile(rf"\X{_MARK}*+")
_MARKS = regex.compile(rf"{_MARK}*+")


class Splitter:
    """Cuts a document into passages.

    Args:
        tokens: the most tokens of a passage; at least 1.
        overlap: the most tokens a passage repeats from the one before, in whole sentences; less than `tokens`.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, tokens: int, overlap: int = 0) -> None:
        if tokens < 1:
            raise ConfigError(f"tokens must be at least 1, got {tokens}")
        if not 0 <= overlap < tokens:
            raise ConfigError(f"an overlap of {overlap} tokens must be at least 0 and less than the passage's {tokens}")
        self.tokens, self.overlap = tokens, overlap

    def __call__(self, document: Passage) -> Iterator[Passage]:
        """The passages of `document`, in order; one with all of its text where it fits.

        Fields of the document that are called like those that give the position become `original_start` and so on.
        """
        spans = windows(document.text, self.tokens, self.overlap)
        if len(spans) < 2:
            spans = [Span(0, len(document.text))]
        fields = {f"original_{k}" if k in _PLACE else k: v for k, v in document.metadata.items()}
        for number, span in enumerate(spans, 1):
            place = dict(zip(_PLACE, (document.docno, str(span.start), str(span.end)), strict=True))
            docno = document.docno if number == 1 else f"{document.docno}#{number}"
            text = document.text[span.start : span.end]
            yield Passage(docno, text, document.title, {**fields, **place})


def token_count(text: str) -> int:
    """How many tokens a text has, as passages are measured."""
    if text.isascii():
        return len(_ASCII.findall(text))
    if _SEPARATOR.search(text):
        return len(_TOKEN.findall(text))
    words = text.split()  # no token has white space between its letters, and the slow pattern is for few of the words
    odd = [word for word in words if not word.isascii()]
    plain = len(_ASCII.findall(" ".join([word for word in words if word.isascii()])))
    if odd and odd[0] is not words[0]:  # marks at its start belong to the word before it
        return plain + len(_TOKEN.findall(f"a {' '.join(odd)}")) - 1
    return plain + len(_TOKEN.findall(" ".join(odd)))


def windows(text: str, tokens: int, overlap: int) -> list[Span]:
    """Spans of `text` that together hold all of it but white space, none of more than `tokens` tokens.

    None ends with a heading or with a sentence that announces what follows, where it can begin the next.
    """
    units = _units(text, tokens)
    before = [0, *accumulate(size for _, size in units)]  # before[i]: tokens of units 0 to i - 1
    spans: list[Span] = []
    first = 0
    while first < len(units):
        stop = bisect_right(before, before[first] + tokens) - 1
        last = stop
        while (
            last > first and stop < len(units) and introduces(text[units[last - 1][0].start : units[last - 1][0].end])
        ):
            last -= 1
        stop = last if last > first else stop
        spans.append(Span(units[first][0].start, units[stop - 1][0].end))
        if stop == len(units):
            break
        back = stop
        while back - 1 > first and before[stop] - before[back - 1] <= overlap and _fits(before, back - 1, stop, tokens):
            back -= 1
        first = back
    return spans


def _fits(before: list[int], first: int, stop: int, tokens: int) -> bool:
    """Whether a passage that begins at unit `first` can also hold unit `stop`, so that it says something new."""
    return before[stop + 1] - before[first] <= tokens


def _units(text: str, tokens: int) -> list[tuple[Span, int]]:
    """Sentences with their number of tokens; longer ones cut between tokens.

    No unit begins within a character: what combines with the end of a unit belongs to it, white space or not between.
    """
    units: list[tuple[Span, int]] = []
    reached = 0
    for sentence in split_sentences(text):
        start, end = max(sentence.start, reached), sentence.end
        if units and (marks := _MARKS.match(text, start)) and marks.end() > start:
            start = marks.end()
        if start > sentence.start:
            units[-1] = Span(units[-1][0].start, start), units[-1][1]
        if not text[start:end].strip():
            continue
        start = end - len(text[start:end].lstrip())
        simple = text[start:end].isascii() and text[end : end + 1].isascii()
        places = [found.span() for found in (_ASCII if simple else _TOKEN).finditer(text, start, end)]
        if not simple:
            end = reached = _end_of_cluster(text, places[-1][0], end)
        for at in range(0, len(places), tokens):
            part = places[at : at + tokens]
            first = part[0][0] if at else start
            last = part[-1][1] if at + tokens < len(places) else end
            units.append((Span(first, last), len(part)))
    return units


def _end_of_cluster(text: str, start: int, end: int) -> int:
    """`end`, or where the character that begins before it and after `start` ends: sentences may end within one."""
    while start < end and (cluster := _CLUSTER.match(text, start)):
        start = cluster.end()
    return max(start, end)
