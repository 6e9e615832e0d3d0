"""Long documents into passages: whole sentences up to a budget of tokens, neighbours overlapping.

A passage is a slice of its document's text, and its metadata gives its position: `document`, `start` and `end`, in
Unicode code points. The first passage keeps the document's docno, the others are `docno#2`, `docno#3` and so on.
A token here is a run of letters and digits, or any other character that is not white space: a little fewer than a
model's word pieces, and the same on every machine. A sentence longer than the budget is cut between tokens.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from thresher.errors import ConfigError
from thresher.records import Passage, Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(r"\w+|[^\w\s]")


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
        """The passages of `document`, in order; the document itself where it fits."""
        spans = windows(document.text, self.tokens, self.overlap)
        if len(spans) < 2:
            yield document
            return
        for number, span in enumerate(spans, 1):
            place = {"document": document.docno, "start": str(span.start), "end": str(span.end)}
            docno = document.docno if number == 1 else f"{document.docno}#{number}"
            text = document.text[span.start : span.end]
            yield Passage(docno, text, document.title, {**document.metadata, **place})


def windows(text: str, tokens: int, overlap: int) -> list[Span]:
    """Spans of `text` that together hold all of it but white space, none of more than `tokens` tokens."""
    units = _units(text, tokens)
    before = [0, *accumulate(size for _, size in units)]  # before[i]: tokens of units 0 to i - 1
    spans: list[Span] = []
    first = 0
    while first < len(units):
        stop = bisect_right(before, before[first] + tokens) - 1
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
    """Sentences with their number of tokens; longer ones cut between tokens."""
    units: list[tuple[Span, int]] = []
    for sentence in split_sentences(text):
        places = [found.span() for found in _TOKEN.finditer(text, sentence.start, sentence.end)]
        if len(places) <= tokens:
            units.append((sentence, len(places)))
            continue
        for at in range(0, len(places), tokens):
            part = places[at : at + tokens]
            start = part[0][0] if at else sentence.start
            end = part[-1][1] if at + tokens < len(places) else sentence.end
            units.append((Span(start, end), len(part)))
    return units
