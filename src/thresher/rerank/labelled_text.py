"""An answer as tokens: labels with the places before them, remarks, sentences, lines.

The text is read once, from left to right, into tokens: labels (`[2]`, `Passage 2`, `2`, an array of them), separators
(`>`, `=`, `<`, commas, line ends), words, sentence ends and decoration. Numbers inside words, decimals, amounts and
years beyond nine digits are words. `thresher.rerank.statements` finds the rankings among them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.rerank.answer_tokens import ORDINAL_WORDS, Token, label_of, token_pattern
from thresher.rerank.wording import ANNOUNCES, COURTESY, LEADS_IN, WITHDRAWS, doubts, in_parentheses, rises

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LabelTiers = tuple[tuple[str, ...], ...]
"""Labels as written, best first, ties together; repeated and unknown ones included."""

ORDINALS = {name: place for place, name in enumerate(ORDINAL_WORDS, 1)}


@dataclass(frozen=True, slots=True)
class Item:
    """A label in a statement: how it was written, the number before it, and the index after it."""

    label: str
    style: str
    place: int | None
    after: int


@dataclass(frozen=True, slots=True)
class Statement:
    """Labels in order (none if the statement breaks off or turns round), and how the text presents them."""

    tiers: LabelTiers
    start: int
    end: int
    chain: bool
    plain: bool
    doubtful: bool
    bare: bool
    said: str

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, best first."""
        return tuple(label for tier in self.tiers for label in tier)


class LabelledText:
    """The tokens of an answer."""

    def __init__(self, text: str, *, letters: bool) -> None:
        self._text, self._letters = text, letters
        self._tokens = [
            Token(str(found.lastgroup), label_of(found), *found.span())
            for found in token_pattern(letters).finditer(text)
        ]
        self._closing = self._parentheses()

    def mentions(self) -> Iterator[tuple[str, int]]:
        """Every label written as one, in brackets or after "passage", and where."""
        for token in self._tokens:
            if token.kind in ("bracket", "noun"):
                yield token.label, token.start

    def _item(self, at: int, number: int | None = None) -> Item | None:
        """The label at a token, with the list number before it (any, or `number` alone)."""
        place = self._place(at)
        counted = None
        if place is not None and number in (None, place[0]):
            counted, at = place
        kind = self._kind(at)
        if kind == "ordinal" and not self._text[self._tokens[at].start].isdigit():  # "Final rank 2 > 3"
            kind = "bare" if self._kind(self._skip(at + 1)) in ("gt", "eq", "comma") else ""
        if kind not in ("bracket", "noun", "bare", "array"):
            return None
        return Item(self._tokens[at].label, kind, counted, at + 1)

    def _place(self, at: int) -> tuple[int, int] | None:
        """The list number at a token and the index after it, if a label or words follow it on the line."""
        kind = self._kind(at)
        word = self._tokens[at].label.lower() if kind == "word" else ""
        if kind not in ("bare", "number", "ordinal") and word not in ORDINALS:
            return None
        raw = self._tokens[at].label
        number = ORDINALS.get(word) or (int(raw) if raw.isdigit() else 0)
        follow = at + 1
        while self._kind(follow) in ("stop", "other", "comma") and follow < at + 8:
            follow += 1
        written = [self._text[self._tokens[index].start] for index in range(at + 1, follow)]
        sign = "".join(written).lstrip("*_")
        if not number or self._kind(follow) in ("nl", "", "gt", "eq", "lt") or {",", ";"}.intersection(sign):
            return None
        before = self._text[self._tokens[at].start - 1] if at else ""
        labelled = self._kind(follow) in ("bracket", "noun", "bare")
        if before == "(" and sign[:1] == ")" and (not labelled or "、" in sign):
            return None
        open_label = (kind, self._kind(follow)) == ("bare", "bare") and sign[-1:] not in "`\"'(*"
        begins = self._kind(self._before(at)) in ("nl", "")
        if sign[:1] == "、":
            return (number, follow) if begins and not open_label else None
        open_label = open_label and sign[-1:] != "#"
        hashed = before in "#№" and begins and labelled and not open_label
        marked = kind == "ordinal" or word or hashed or sign[:1] in (".", ")") or (sign[:1] in (":", "-", "|"))
        unclear = open_label and kind != "ordinal" and not word and sign[:1] in (":", "-", "|")
        return (number, follow) if marked and not unclear else None

    def _statement(
        self, tiers: Iterable[tuple[str, ...]], first: int, after: int, *, chain: bool = False, bare: bool = False
    ) -> Statement:
        start, end = self._tokens[first].start, self._tokens[after - 1].end
        before, following = self._sentence(start, end)
        says = re.search(r"[^\W\d_]{2}", COURTESY.sub("", before)) is not None
        plain = not re.search(r"[^\W\d_]{2}", following) and (not says or ANNOUNCES.search(before) is not None)
        leads_in = not says or LEADS_IN.search(before) is not None
        tiers = tuple(tiers)
        if not chain and not leads_in and as_shown(tiers):
            plain = False  # "rank [1], [2], [3]" names the passages
        doubtful = doubts(before, following) or (bare and chain and not (plain or leads_in))
        doubtful = doubtful or WITHDRAWS.match(self._text[end : end + 60]) is not None
        placed = () if rises(in_parentheses(self._text[start : end + 40], sum(map(len, tiers)))) else tiers
        return Statement(placed, start, end, chain, plain, doubtful, bare, before)

    def _sentence(self, start: int, end: int) -> tuple[str, str]:
        """What the sentence around a statement says before and after it, without remarks in parentheses."""
        before = self._text[max(0, start - 400) : start]
        before = re.split(r"\n|[.!?]\s+", before)[-1]
        if not before.strip(" *_`\"'([{-#>") and start:  # the announcement may stand on the line above
            above = self._text[max(0, start - 400) : start].rstrip(" *_`\"'([{\n-#>")
            if LEADS_IN.search(above[-20:]):
                before = re.split(r"\n|[.!?;]\s+", above)[-1]
        following = re.split(r"\n|[.!?](?:\s|$)", self._text[end : end + 400])[0]
        return tuple(re.sub(r"\([^()]{0,200}\)", " ", part) for part in (before, following))  # type: ignore[return-value]

    def _skip(self, at: int, *, remarks: bool = True) -> int:
        """The index of the next token that counts, after remarks in parentheses too."""
        while self._kind(at) in ("other", "nl", "stop"):
            at = (self._closing.get(at, at) if remarks else at) + 1
        return at

    def _before(self, at: int) -> int:
        at -= 1
        while at >= 0 and self._kind(at) == "other":
            at -= 1
        return at

    def _kind(self, at: int) -> str:
        return self._tokens[at].kind if 0 <= at < len(self._tokens) else ""

    def _parentheses(self) -> dict[int, int]:
        """The closing parenthesis of each remark, which ends on its line."""
        pairs: dict[int, int] = {}
        opened: list[int] = []
        for index, token in enumerate(self._tokens):
            if token.kind == "nl":
                opened.clear()
            elif token.kind == "other" and self._text[token.start] == "(":
                opened.append(index)
            elif token.kind == "other" and self._text[token.start] == ")" and opened:
                first = opened.pop()
                if index - first != 2 or self._kind(first + 1) == "word":  # "(2)" is a label, no remark
                    pairs[first] = index
        return pairs

    def _lines(self) -> Iterator[tuple[int, int]]:
        """First token and end of each line."""
        start = 0
        for index, token in enumerate(self._tokens):
            if token.kind == "nl":
                yield start, index
                start = index + 1
        yield start, len(self._tokens)


def as_shown(tiers: LabelTiers) -> bool:
    """Whether the labels stand in the order in which passages are shown."""
    labels = [label for tier in tiers for label in tier]
    return labels == sorted(labels, key=natural)


def natural(label: str) -> tuple[int, str]:
    """Sorts labels as they are shown."""
    return (int(label), "") if label.isdigit() else (0, label)
