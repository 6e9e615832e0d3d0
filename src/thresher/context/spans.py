"""From kept sentences to spans, and from spans to text and its cost: slices of the original, nothing else.

A kept sentence brings the white space that follows it, up to the next sentence, when something kept comes later, so
that the slices can be put together as they are. Neighbours that are both kept make one span. When every sentence is
kept, the one span is the whole text, with the white space at its ends.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thresher.records import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|\s+|[^\sA-Za-z\d]")


def approximate_tokens(text: str) -> int:
    """Roughly how many tokens of a byte-pair vocabulary `text` has, for use where no tokenizer is given.

    One for each word of Latin letters up to ten letters and one more for every further six, for each three digits, for
    each line break and each other character that is not white space. Errs on the high side for other scripts.
    """
    pieces = (piece for piece in _PIECE.findall(text) if not piece.isspace() or "\n" in piece)
    return sum(1 + max(0, (len(piece) - 5) // 6) for piece in pieces)


def kept_spans(length: int, sentences: Sequence[Span], keep: Sequence[bool]) -> tuple[Span, ...]:
    """The spans that remain of a text.

    Args:
        length: code points of the text.
        sentences: its sentences: ascending, disjoint, none empty.
        keep: one for each sentence.

    Returns:
        Half-open spans of code points: ascending, disjoint, not touching, none empty, inside the text.
    """
    if all(keep):  # also a text without sentences: there is nothing to drop
        return (Span(0, length),) if length else ()
    chosen = [number for number, kept in enumerate(keep) if kept]
    spans: list[Span] = []
    for place, number in enumerate(chosen):
        last = place + 1 == len(chosen)
        end = sentences[number].end if last else sentences[number + 1].start
        if spans and spans[-1].end == sentences[number].start:
            spans[-1] = Span(spans[-1].start, end)
        else:
            spans.append(Span(sentences[number].start, end))
    return tuple(spans)


def cut(text: str, spans: Sequence[Span], ellipsis: str = "") -> str:
    """The slices of `text`, with `ellipsis` (and nothing else) wherever something is left out, also at the ends.

    White space that is left out at an end counts as nothing.
    """
    if not ellipsis:
        return "".join(text[span.start : span.end] for span in spans)
    out, here = [], 0
    for span in spans:
        if text[here : span.start].strip():
            out.append(ellipsis)
        out.append(text[span.start : span.end])
        here = span.end
    if text[here:].strip():
        out.append(ellipsis)
    return "".join(out)


def largest_prefix(n: int, fits: Callable[[int], bool]) -> int:
    """The largest m <= n for which `fits(m)`, found by bisection; 0 where none does.

    `fits` should be true up to some point and false after; where it is not quite, the result still fits.
    """
    if fits(n):
        return n
    low, high = 0, n  # fits(low) is true where low > 0, fits(high) is false
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
