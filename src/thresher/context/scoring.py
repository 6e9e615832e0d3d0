"""What scorers take and give, and how a model reads a passage that is longer than its input: through windows.

`windows` cuts a passage at sentences into windows that overlap, and at tokens where one sentence is longer than a
window, so that every token is read at least once; `combine` makes one score of a sentence's parts: the mean over the
windows, weighted by how much of the sentence each has read. A sentence without a token (an emoji that the model does
not know is one token; a lone zero-width space is none) gets the score of its nearest neighbour.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thresher.records import Span


@dataclass(frozen=True, slots=True)
class SplitPassage:
    """A passage as a scorer sees it.

    Attributes:
        text: the passage.
        sentences: spans of `text`, ascending and disjoint.
        title: its title, empty where there is none; context for the scorer, never scored itself.
    """

    text: str
    sentences: tuple[Span, ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class PassageScores:
    """The scores of a passage.

    Attributes:
        relevance: higher is more relevant; comparable between passages of one query.
        sentences: one score for each sentence, 0 to 1.
    """

    relevance: float
    sentences: tuple[float, ...]


def sentence_tokens(offsets: Sequence[tuple[int, int]], sentences: Sequence[Span]) -> list[tuple[int, int]]:
    """The range of tokens of each sentence.

    Args:
        offsets: [start, end) of every token in the text, ascending. A token belongs to the sentence its first code
            point lies in, or to the sentence before where that point lies in none.
        sentences: ascending and disjoint.

    Returns:
        [first, after) token numbers for each sentence; equal where it has none.
    """
    ranges, token = [], 0
    for number, sentence in enumerate(sentences):
        first = token
        limit = sentences[number + 1].start if number + 1 < len(sentences) else sentence.end
        while token < len(offsets) and offsets[token][0] < limit:
            token += 1
        ranges.append((first, token))
    return ranges


def windows(ranges: Sequence[tuple[int, int]], room: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Ranges of tokens to read, in order: each at most `room` long, together covering all.

    Args:
        ranges: tokens of each sentence, as `sentence_tokens` gives them.
        room: longest window, in tokens; at least 1.
        overlap: a window begins with the sentences that end the one before, up to so many tokens.
    """
    total = ranges[-1][1] if ranges else 0
    start = 0
    while start < total:
        end = max((after for _, after in ranges if start < after <= start + room), default=start)
        if end == start:
            end = min(start + room, total)  # a sentence longer than a window is cut at a token
        yield start, end
        back = [first for first, after in ranges if start < first < after <= end and end - first <= overlap]
        following = next((after for _, after in ranges if after > end), end)  # the next window must get further
        start = next((first for first in sorted(back) if following - first <= room), end)
        if end >= total:
            return


def combine(
    ranges: Sequence[tuple[int, int]], read: Sequence[tuple[tuple[int, int], Sequence[float]]]
) -> tuple[float, ...]:
    """One score for each sentence from its parts.

    Args:
        ranges: tokens of each sentence.
        read: for each window its range of tokens, and a score for each sentence (ignored where the window has none of
            its tokens).

    Returns:
        Means weighted by tokens read; a sentence without tokens takes its nearest scored neighbour's score, the one
        before first; 1 for all where nothing at all was read.
    """
    sums, weights = [0.0] * len(ranges), [0] * len(ranges)
    starts = [first for first, _ in ranges]
    for (start, end), scores in read:
        for number in range(max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)):
            first, after = ranges[number]
            tokens = min(after, end) - max(first, start)
            if tokens > 0:
                sums[number] += scores[number] * tokens
                weights[number] += tokens
    known = [number for number, weight in enumerate(weights) if weight]
    if not known:
        return (1.0,) * len(ranges)
    out = []
    for number, weight in enumerate(weights):
        nearest = number if weight else min(known, key=lambda k: (abs(k - number), k))
        out.append(sums[nearest] / weights[nearest])
    return tuple(out)
