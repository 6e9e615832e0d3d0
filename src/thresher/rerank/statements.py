"""Rankings stated in free text: chains and lists of labels.

The text is read once, from left to right, into tokens: labels (`[2]`, `Passage 2`, `2`, an array of them), separators
(`>`, `=`, `<`, commas, line ends), words, sentence ends and decoration. Numbers inside words, decimals, amounts and
years beyond nine digits are words. Tokens make *statements*:

`chain`  labels joined by `>` or `=` (a tie). Decoration, line ends, a list number before a label and a remark in
         parentheses after it are passed over. Two bracketed labels without a separator are two places.
`list`   labels joined by commas, "and", "then" or "followed by"; bracketed labels side by side; an array; or one label
         a line, after a bullet or number. Numbers before the labels (`1.`, `1st`, `Rank 1:`) give the places.

A statement is *plain* if its sentence holds nothing else, or an announcement ("Final ranking:"). It is *doubtful* if
its sentence denies or asks it, or offers it as an example, a draft or the order before ("not", "such as", "if").

A list whose lines carry remarks, in the order the passages were shown, is an account of them and no ranking.

`thresher.rerank.wording` reads the words around labels, and `thresher.rerank.final_order` chooses among statements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from thresher.rerank.answer_tokens import Token, canonical, label_of, token_pattern
from thresher.rerank.wording import ANNOUNCES, COURTESY, DENIES, LEADS_IN, MEASURES, WITHDRAWS, doubts, rises

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LabelTiers = tuple[tuple[str, ...], ...]
"""Labels as written, best first, ties together; repeated and unknown ones included."""

MOST = 500  # statements of one kind in an answer
_ORDINALS = {
    name: place
    for place, name in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth".split(), 1
    )
}  # fmt: skip
_JOINING = frozenset("and then followed by finally lastly next after that afterwards & und et y".split())
_ELLIPSIS = re.compile(r"\.\.|\u2026")


@dataclass(frozen=True, slots=True)
class _Item:
    """A label in a statement: how it was written, the number before it, and the index after it."""

    label: str
    style: str
    place: int | None
    after: int


class _Line(NamedTuple):
    """A line of a list: its first token, its item, and what follows the item."""

    first: int
    item: _Item
    remark: str


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


class Reader:
    """The tokens of an answer, and the statements among them."""

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

    def chains(self) -> Iterator[Statement]:
        """All chains."""
        index = 0
        while index < len(self._tokens):
            item = self._item(index)
            if item is None or item.style == "array":
                index += 1
                continue
            statement, index = self._chain(index, item)
            if statement is not None:
                yield statement

    def _chain(self, first: int, item: _Item) -> tuple[Statement | None, int]:
        """The chain that begins with this item, None if there is none; and the index after it."""
        tiers: list[list[str]] = [[item.label]]
        items = [item]
        sound = not self._dangling(first)
        joined = False
        after = end = item.after
        while True:
            at = self._skip(after)
            kind = self._kind(at)
            if kind in ("gt", "eq"):
                sign, at = at, self._skip(at + 1, remarks=False)
                while self._kind(at) in ("gt", "eq"):
                    kind = "gt" if self._kind(at) == "gt" else kind
                    sound = sound and not _ELLIPSIS.search(self._text, self._tokens[sign].end, self._tokens[at].start)
                    sign, at = at, self._skip(at + 1, remarks=False)
                following = self._item(at, len(items) + 1 if item.place is not None else 0)
                if following is None or following.style == "array":
                    break
                if kind == "eq":
                    sound = sound and following.style == items[-1].style
                    tiers[-1].append(following.label)
                else:
                    tiers.append([following.label])
                    joined = True
            elif kind == "bracket" and at == after and items[-1].style == "bracket":
                following = _Item(self._tokens[at].label, "bracket", None, at + 1)
                tiers.append([following.label])
            else:
                break
            items.append(following)
            joined = joined or kind == "eq"
            after = end = following.after
        if not joined:
            return None, max(after, first + 1)
        return self._statement(map(tuple, tiers if sound else ()), first, end, chain=True, bare=_bare(items)), end

    def _dangling(self, first: int) -> bool:
        """Whether a `>` before a chain joins it to something that is not a label."""
        at = self._before(first)
        return self._kind(at) in ("gt", "eq") and self._kind(self._before(at)) not in ("nl", "")

    def turned(self) -> bool:
        """Whether `<` joins two labels."""
        items = ("bracket", "noun", "bare")
        return any(
            token.kind == "lt" and self._kind(self._before(at)) in items and self._kind(self._skip(at + 1)) in items
            for at, token in enumerate(self._tokens)
        )

    def arrays(self) -> Iterator[Statement]:
        """All arrays of labels."""
        for index, token in enumerate(self._tokens):
            if token.kind == "array":
                found = re.findall(r"[A-Za-z]" if self._letters else r"\d+", self._text[token.start : token.end])
                statement = self._statement(((canonical(raw),) for raw in found), index, index + 1)
                if not MEASURES.search(self._sentence(token.start, token.end)[0]):
                    yield statement

    def inline_lists(self) -> Iterator[Statement]:
        """All lists within a line."""
        index = 0
        while index < len(self._tokens):
            first = self._item(index)
            if first is None or first.style == "array":
                index += 1
                continue
            items = [first]
            while (following := self._next_listed(items[-1])) is not None:
                items.append(following)
            tiers = _placed(items) if len(items) > 1 else None
            if tiers is not None:
                yield self._statement(tiers, index, items[-1].after, bare=_bare(items))
            index = max(items[-1].after, index + 1)

    def _next_listed(self, item: _Item) -> _Item | None:
        """The item after this one in a list on its line."""
        at, joined = item.after, False
        while (kind := self._kind(at)) in ("other", "comma", "word"):
            word = self._tokens[at].label.lower() if kind == "word" else ""
            if word in _ORDINALS:
                break
            if word and word not in _JOINING:
                return None
            joined = joined or kind != "other"
            at = (at if joined else self._closing.get(at, at)) + 1
        following = self._item(at)
        if following is None or following.style == "array":
            return None
        beside = item.style == following.style and (item.style == "bracket" or at == item.after)
        return following if joined or beside or following.place is not None else None

    def line_lists(self) -> Iterator[Statement]:
        """All lists of one label a line."""
        group: list[_Line] = []
        for start, end in self._lines():
            found = self._line_item(start, end)
            if found is None:
                words = any(self._tokens[at].kind not in ("other", "nl") for at in range(start, end))
                if words and not (group and group[-1].item.place is not None):
                    yield from self._line_list(group)
                    group = []
                continue
            item = found.item
            if group:
                last = group[-1].item.place
                follows = (last is None) == (item.place is None) and (
                    last is None or item.place is None or abs(item.place - last) == 1
                )
                if not follows:
                    yield from self._line_list(group)
                    group = []
            group.append(found)
        yield from self._line_list(group)

    def _line_item(self, start: int, end: int) -> _Line | None:
        """The item that a line consists of or begins with, its first token, and whether a remark follows it."""
        at = start
        while at < end and self._kind(at) in ("other", "gt"):
            at += 1
        item = self._item(at) if at < end else None
        kinds = [self._kind(index) for index in range(at, end)]
        if item is None or item.after > end or item.style == "array":
            return self._only_mention(at, end)
        if "gt" in kinds or "lt" in kinds or "eq" in kinds:
            return None
        rest = [index for index in range(item.after, end) if self._kind(index) not in ("other", "nl")]
        if item.style == "bare" and rest and self._kind(rest[0]) != "stop" and item.after == rest[0]:
            return None
        remark = any(self._kind(index) not in ("stop", "comma") for index in rest)
        said = self._text[self._tokens[item.after - 1].end : self._tokens[end - 1].end] if remark else ""
        return _Line(at, item, said)

    def _only_mention(self, start: int, end: int) -> _Line | None:
        """The only label on a numbered line that begins with words: "1. The best is [2]"."""
        place = self._place(start)
        if place is None:
            return None
        found = [at for at in range(place[1], end) if self._kind(at) in ("bracket", "noun", "array", "gt", "lt")]
        if len(found) != 1 or self._kind(found[0]) not in ("bracket", "noun"):
            return None
        line = self._text[self._tokens[start].start : self._tokens[end - 1].end]
        if DENIES.search(line) or (place[0] == 1 and re.search(r"\b(?:least|worst)\b", line, re.IGNORECASE)):
            return None
        token = self._tokens[found[0]]
        return _Line(start, _Item(token.label, token.kind, place[0], end), line)

    def _line_list(self, group: list[_Line]) -> Iterator[Statement]:
        """The statement of a group of lines, unless they are an account of the passages as shown."""
        items = [line.item for line in group]
        tiers = _placed(items) if len(items) > 1 else None
        if tiers is None:
            return
        heading = self._heading(group[0].first)
        announced = ANNOUNCES.search(heading) is not None
        numbered, bare = items[0].place is not None, _bare(items)
        shown = _as_shown(tiers)
        if MEASURES.search(heading) and bare and not announced:
            return
        remarks = "\n".join(line.remark for line in group)
        if remarks.strip():
            if shown and not (announced and numbered):
                return
            if not numbered and (bare or not announced or re.search(r"\d", remarks)):
                return
        start, end = self._tokens[group[0].first].start, self._tokens[max(item.after for item in items) - 1].end
        plain = not heading or announced or not shown
        if any(line.remark for line in group) and rises(remarks, len(group)):
            tiers = ()
        yield Statement(tiers, start, end, False, plain, doubts(heading, ""), bare, heading)

    def _heading(self, first: int) -> str:
        """The line with words before a list, if it introduces it."""
        start = self._tokens[first].start
        before = self._text[max(0, start - 400) : start].rstrip("\n -*\u2022>#_")
        line = before[before.rfind("\n") + 1 :].strip()
        return line if line.endswith(":") or line.startswith(("#", "*")) or len(line) <= 60 else ""

    def _item(self, at: int, number: int | None = None) -> _Item | None:
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
        return _Item(self._tokens[at].label, kind, counted, at + 1)

    def _place(self, at: int) -> tuple[int, int] | None:
        """The list number at a token and the index after it, if a label or words follow it on the line."""
        kind = self._kind(at)
        word = self._tokens[at].label.lower() if kind == "word" else ""
        if kind not in ("bare", "number", "ordinal") and word not in _ORDINALS:
            return None
        raw = self._tokens[at].label
        number = _ORDINALS.get(word) or (int(raw) if raw.isdigit() else 0)
        follow = at + 1
        sign = ""
        while self._kind(follow) in ("stop", "other", "comma") and follow < at + 8:
            sign += self._text[self._tokens[follow].start]
            follow += 1
        if not number or self._kind(follow) in ("nl", ""):
            return None
        explicit = kind == "ordinal" or bool(word)
        marked = (
            explicit or sign[:1] in (".", ")", "、") or (sign[:1] in (":", "-", "|") and self._kind(follow) != "bare")
        )
        return (number, follow) if marked and self._kind(follow) not in ("gt", "eq", "lt") else None

    def _statement(
        self, tiers: Iterable[tuple[str, ...]], first: int, after: int, *, chain: bool = False, bare: bool = False
    ) -> Statement:
        start, end = self._tokens[first].start, self._tokens[after - 1].end
        before, following = self._sentence(start, end)
        says = re.search(r"[^\W\d_]{2}", COURTESY.sub("", before)) is not None
        plain = not re.search(r"[^\W\d_]{2}", following) and (not says or ANNOUNCES.search(before) is not None)
        leads_in = not says or LEADS_IN.search(before) is not None
        tiers = tuple(tiers)
        if not chain and not leads_in and _as_shown(tiers):
            plain = False  # "rank [1], [2], [3]" names the passages
        doubtful = doubts(before, following) or (bare and chain and not (plain or leads_in))
        doubtful = doubtful or WITHDRAWS.match(self._text[end : end + 60]) is not None
        placed = () if rises(self._text[start : end + 40], len(tiers)) else tiers
        return Statement(placed, start, end, chain, plain, doubtful, bare, before)

    def _sentence(self, start: int, end: int) -> tuple[str, str]:
        """What the sentence around a statement says before and after it, without remarks in parentheses."""
        before = self._text[max(0, start - 400) : start]
        before = re.split(r"\n|[.!?]\s+", before)[-1]
        if not before.strip(" *_`\"'([{-#>") and start:  # the announcement may stand on the line above
            above = self._text[max(0, start - 400) : start].rstrip(" *_`\"'([{\n-#>")
            if above.endswith(":"):
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


def _placed(items: Sequence[_Item]) -> LabelTiers | None:
    """The labels of a list in order of the numbers before them; None if the numbers make no sense."""
    places = [item.place for item in items]
    if None in places:
        return tuple((item.label,) for item in items) if not any(places[1:]) else None
    if sorted(places) != list(range(1, len(places) + 1)):  # type: ignore[type-var]
        return None
    return tuple((item.label,) for item in sorted(items, key=lambda item: item.place or 0))


def _as_shown(tiers: LabelTiers) -> bool:
    """Whether the labels stand in the order in which passages are shown."""
    labels = [label for tier in tiers for label in tier]
    return labels == sorted(labels, key=_natural)


def _bare(items: Iterable[_Item]) -> bool:
    return any(item.style == "bare" for item in items)


def _natural(label: str) -> tuple[int, str]:
    return (int(label), "") if label.isdigit() else (0, label)
