"""The windows through which a model reads a passage that is longer than its input.

`windows` cuts a passage at sentences into windows that overlap, and at tokens where one sentence is longer than a
window, so that every token is read at least once. `Cutter` does so for a model of word pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.models.minilm import CLS, SEP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenizers import Tokenizer

    from thresher.records import Span


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
        overlap: a window begins with the sentences that end the one before, up to this many tokens.
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


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a passage that is read at once.

    Attributes:
        tokens: [first, after) of the passage's own word pieces that it holds.
        ids: what the model reads: [CLS], those of the title, the passage's own, [SEP].
    """

    tokens: tuple[int, int]
    ids: list[int]


@dataclass(frozen=True, slots=True)
class CutPassage:
    """A passage in word pieces.

    Attributes:
        ids: its own word pieces.
        ranges: tokens of each sentence, as `sentence_tokens` gives them.
        windows: in order; none where it has no token.
    """

    ids: list[int]
    ranges: list[tuple[int, int]]
    windows: list[Window]


class Cutter:
    """Cuts passages into windows.

    Args:
        tokenizer: gives word pieces; it truncates nothing.
        max_tokens: word pieces of a window, special tokens included.
        overlap: word pieces of whole sentences that a window shares with the one before.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int = 256, overlap: int = 64) -> None:
        self.tokenizer, self.max_tokens, self.overlap = tokenizer, max_tokens, overlap

    def cut(self, text: str, sentences: Sequence[Span], title: str = "") -> CutPassage:
        """The windows of a passage; each begins with the title's word pieces, a quarter of it at most."""
        head = f"{title} " if title else ""
        encoding = self.tokenizer.encode(head + text, add_special_tokens=False)
        before = sum(1 for start, _ in encoding.offsets if start < len(head))
        offsets = [(start - len(head), end - len(head)) for start, end in encoding.offsets[before:]]
        before = min(before, self.max_tokens // 4)
        ranges = sentence_tokens(offsets, sentences)
        front, ids = encoding.ids[:before], encoding.ids[len(encoding.ids) - len(offsets) :]
        found = [
            Window((start, end), [CLS, *front, *ids[start:end], SEP])
            for start, end in windows(ranges, self.max_tokens - 2 - len(front), self.overlap)
        ]
        return CutPassage(ids, ranges, found)
