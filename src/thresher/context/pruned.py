"""Scored and pruned passages: the values that the choice of sentences takes and gives.

What is kept of a passage is spans of its text; what is handed over is `join_passages` of them, whose tokens a caller's
function counts (`counted`).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, SupportsFloat

from thresher.arguments import checked_call
from thresher.context.spans import cut
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from thresher.context.scorers import PassageScores, SplitPassage
    from thresher.context.structure import Ties
    from thresher.records import Span


@dataclass(frozen=True)
class PrunedPassage:
    """A passage and the part of it that is kept.

    Attributes:
        docno: the passage's identifier; its position (`0`, `1`, ...) where it was given as a string.
        title: its title where titles are kept and some of the passage is, else empty.
        original: the text that was given.
        spans: what is kept: half-open ranges of Unicode code points of `original`, ascending, disjoint, not touching.
        sentences: every sentence as a span of `original`.
        scores: a score of 0 to 1 for each sentence, as the scorer gave it.
        keep: whether each sentence is kept: by its score, or with what it belongs to.
        relevance: the passage's relevance to the query, from the same forward pass; the scale is the scorer's.
        threshold: the threshold that was applied.
        ellipsis: replaces what was dropped.
        tokens: tokens of what is kept (title and ellipses included), by the given count.
        original_tokens: tokens of title and text before pruning.
    """

    docno: str
    title: str
    original: str
    spans: tuple[Span, ...]
    sentences: tuple[Span, ...]
    scores: tuple[float, ...]
    keep: tuple[bool, ...]
    relevance: float
    threshold: float
    ellipsis: str
    tokens: int
    original_tokens: int
    ties: Ties = field(repr=False, compare=False)

    @cached_property
    def text(self) -> str:
        """What is kept: the slices of `original`, with the ellipsis between them where one was given."""
        return cut(self.original, self.spans, self.ellipsis)

    @cached_property
    def contents(self) -> str:
        """The title's line, where it is kept, and the text."""
        return f"{self.title}\n{self.text}" if self.title else self.text

    @property
    def saved_characters(self) -> float:
        """Share of the text's code points that were dropped."""
        kept = sum(span.end - span.start for span in self.spans)
        return 1 - kept / len(self.original) if self.original else 0.0

    @property
    def saved_tokens(self) -> float:
        """Share of the tokens of title and text that were dropped; negative where ellipses cost more than was saved."""
        return 1 - self.tokens / self.original_tokens if self.original_tokens else 0.0


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A passage with its sentences and their scores.

    Attributes:
        docno: the passage's identifier.
        text: its text.
        sentences: spans of `text`: ascending, disjoint, none empty.
        scores: a score of 0 to 1 for each sentence.
        relevance: higher is more relevant; comparable between passages of one query.
        title: its title, empty where there is none.
    """

    docno: str
    text: str
    sentences: tuple[Span, ...]
    scores: tuple[float, ...]
    relevance: float = 0.0
    title: str = ""

    @classmethod
    def of(cls, docno: str, passage: SplitPassage, scores: PassageScores) -> ScoredPassage:
        """A split passage with its scores."""
        return cls(docno, passage.text, passage.sentences, scores.sentences, scores.relevance, passage.title)


@dataclass(frozen=True, slots=True)
class Scores:
    """A scorer's output for the passages of one query.

    Attributes:
        passages: in the order they were given.
        scorer: the scorer's name and version.
        presets: its calibrated thresholds by name; empty where it was never calibrated.
    """

    passages: tuple[ScoredPassage, ...]
    scorer: str = ""
    presets: Mapping[str, float] = field(default_factory=dict)

    @checked_call
    def threshold(self, wanted: float | str) -> float:
        """The threshold as a number: itself, or the preset of that name.

        Raises:
            InputError: it is out of range, or the scorer has no such preset.
        """
        if isinstance(wanted, str):
            if wanted not in self.presets:
                known = f"has the presets {', '.join(self.presets)}" if self.presets else "was never calibrated"
                raise InputError(
                    f"no threshold {wanted!r}: the scorer {self.scorer} {known}; give a number from 0 to 1, or "
                    "calibrate one with `thresher calibrate context`"
                )
            return self.presets[wanted]
        if isinstance(wanted, bool) or not isinstance(wanted, SupportsFloat) or not 0 <= float(wanted) <= 1:
            raise InputError(f"threshold={wanted!r}: give a score of 0 to 1, or the name of a preset")
        return float(wanted)


def join_passages(passages: Iterable[PrunedPassage]) -> str:
    """The text that is handed over: what is kept of each passage under its title, an empty line between passages."""
    return "\n\n".join(one.contents for one in passages if one.spans)


def counted(count_tokens: Callable[[str], int], text: str) -> int:
    """Tokens of `text` by a caller's function; of an empty text 0.

    Raises:
        InputError: the function fails, or does not return a number of tokens.
    """
    if not text:
        return 0
    try:
        found = count_tokens(text)
        tokens = operator.index(found)
    except Exception as err:
        raise InputError(
            f"count_tokens failed on a text of {len(text):,} characters ({type(err).__name__}: {err}); it must take "
            "any text: with tiktoken, encode(text, disallowed_special=())"
        ) from err
    if tokens < 0:
        raise InputError(f"count_tokens returned {found!r}; it must return a whole number of tokens, 0 or more")
    return tokens
