"""Results cut by passages, and within passages by sentences, until they fit a number of tokens.

Which part of a result a client shows its model is the client's choice, so both must fit: the text content and the
structured content. A result is made with more or less of the passages and measured, by bisection, until the most that
fits is found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from thresher.context.spans import cut, largest_prefix
from thresher.records import Span
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.serve.mcp.results import Metadata

GAP = "[…] "
"""Stands for text that is not shown."""
_LONGEST = 160
"""Characters of a piece; longer sentences are divided, at white space where there is some."""

Spread = Literal["evenly", "from the first"]
Choice = list[tuple["Draft", tuple[Span, ...]]]
"""Passages with what is shown of each."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A passage that a result may show.

    Attributes:
        docno: its identifier.
        title: its title.
        text: the whole text.
        spans: what may be shown of it.
        handle: a handle of what is not shown, by what is.
        score: of the ranking.
        confidence: that one of its sentences helps.
        metadata: fields to show.
        reference: the text by which tokens that are not shown are counted; by default the whole text.
        trial: stands for the handle while results are measured, where each handle that is given costs something.
    """

    docno: str
    title: str
    text: str
    spans: tuple[Span, ...]
    handle: Callable[[tuple[Span, ...]], str]
    score: float | None = None
    confidence: float | None = None
    metadata: Metadata = field(default_factory=dict)
    reference: str | None = None
    trial: str = ""

    @property
    def measured(self) -> str:
        """The text by which tokens that are not shown are counted."""
        return self.text if self.reference is None else self.reference

    @cached_property
    def pieces(self) -> tuple[Span, ...]:
        """What may be shown in small pieces, which together are `spans`."""
        starts = [one.start for one in split_sentences(self.text)] if self.spans else []
        found: list[Span] = []
        for span in self.spans:
            edges = [span.start, *(start for start in starts if span.start < start < span.end), span.end]
            for start, end in pairwise(edges):
                found += _divided(self.text, start, end)
        return tuple(found)

    def first(self, count: int) -> tuple[Span, ...]:
        """The spans of the first pieces."""
        return self.spans if count >= len(self.pieces) else joined(self.pieces[:count])


def _divided(text: str, start: int, end: int) -> list[Span]:
    """Pieces of a sentence."""
    found: list[Span] = []
    while end - start > _LONGEST:
        blank = [place.end() for place in re.compile(r"\s+").finditer(text, start + _LONGEST // 2, start + _LONGEST)]
        middle = blank[-1] if blank else start + _LONGEST
        found.append(Span(start, middle))
        start = middle
    return [*found, Span(start, end)]


def joined(pieces: Sequence[Span]) -> tuple[Span, ...]:
    """Ascending spans, those that touch made one."""
    found: list[Span] = []
    for piece in pieces:
        if found and found[-1].end == piece.start:
            found[-1] = Span(found[-1].start, piece.end)
        else:
            found.append(piece)
    return tuple(found)


def shown_text(draft: Draft, spans: Sequence[Span]) -> str:
    """What is shown of a passage."""
    return cut(draft.text, spans, GAP).strip() if spans else ""


def fit(drafts: Sequence[Draft], spread: Spread, fits: Callable[[Choice], bool]) -> Choice:
    """The most that fits of some passages; those that are not in the choice are left out.

    Args:
        drafts: best first.
        spread: `evenly`, every passage is cut to the same length, so that many are seen; `from the first`, the first
            keep all, and the last are left out.
        fits: whether a result that shows this is small enough; it must not be for more if it is not for less.
    """
    whole: Choice = [(draft, draft.spans) for draft in drafts]
    if fits(whole):
        return whole

    def most(count: int, choice: Callable[[int], Choice]) -> Choice:
        return choice(largest_prefix(count, lambda n: fits(choice(n))))

    if spread == "from the first":
        return most(sum(len(draft.pieces) for draft in drafts), lambda n: _from_the_first(drafts, n))
    heads = most(len(drafts), lambda n: [(draft, draft.first(1)) for draft in drafts[:n]])
    longest = max((len(draft.pieces) for draft, _ in heads), default=0)
    return most(longest, lambda n: [(draft, draft.first(max(1, n))) for draft, _ in heads])


def _from_the_first(drafts: Sequence[Draft], count: int) -> Choice:
    found: Choice = []
    for draft in drafts:
        if count <= 0:
            break
        found.append((draft, draft.first(count)))
        count -= len(draft.pieces)
    return found
