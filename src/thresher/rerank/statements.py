"""Rankings stated in free text: chains and lists of labels.

The tokens of `thresher.rerank.labelled_text` make *statements*:

`chain`  labels joined by `>` or `=` (a tie). Decoration, line ends, a list number before a label and a remark in
         parentheses after it are passed over. Two bracketed labels without a separator are two places.
`list`   labels joined by commas, "and", "then" or "followed by"; bracketed labels side by side; an array; or one label
         a line, after a bullet or number. Numbers before the labels (`1.`, `1st`, `Rank 1:`) give the places.

A statement is *plain* if its sentence holds nothing else, or an announcement ("Final ranking:"). It is *doubtful* if
its sentence denies or asks it, or offers it as an example, a draft or the order before ("not", "such as", "if").

A list whose lines carry remarks, in the order the passages were shown, is an account of them and no ranking, unless it
is numbered and announced, or its remarks are scores that fall. One whose remarks praise a later line more is none.

`thresher.rerank.wording` reads the words around labels, and `thresher.rerank.final_order` chooses among statements.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from thresher.rerank.answer_tokens import NOUN, canonical
from thresher.rerank.labelled_text import ORDINALS, Item, LabelledText, LabelTiers, Statement, as_shown
from thresher.rerank.wording import ANNOUNCES, COURTESY, DENIES, MEASURES, doubts, grades, rises

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST = 500  # statements of one kind in an answer
_JOINING = frozenset("and then followed by finally lastly next after that afterwards & und et y".split())
_DASHES = (":", "-", "(", "\u2013", "\u2014")
_ELLIPSIS = re.compile(r"\.\.|\u2026")


class _Line(NamedTuple):
    """A line of a list: its first token, its item, what follows the item, and the bullet before it."""

    first: int
    item: Item
    remark: str
    bullet: str = ""


class Reader(LabelledText):
    """The statements among the tokens of an answer."""

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

    def _chain(self, first: int, item: Item) -> tuple[Statement | None, int]:
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
                following = Item(self._tokens[at].label, "bracket", None, at + 1)
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
                inside = self._text[token.start : token.end]
                inside = re.sub(rf"(?i:{NOUN})", "", inside) if self._letters else inside
                found = re.findall(r"[A-Za-z]" if self._letters else r"\d+", inside)
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

    def _next_listed(self, item: Item) -> Item | None:
        """The item after this one in a list on its line."""
        at, joined = item.after, False
        while (kind := self._kind(at)) in ("other", "comma", "word"):
            word = self._tokens[at].label.lower() if kind == "word" else ""
            if word in ORDINALS:
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
        blank = False
        for start, end in self._lines():
            apart, blank = blank, start == end
            found = self._line_item(start, end)
            if found is None:
                words = any(self._tokens[at].kind not in ("other", "nl") for at in range(start, end))
                if words and group and group[-1].item.place is None and self._indented(start):
                    said = self._text[self._tokens[start].start : self._tokens[end - 1].end]
                    group[-1] = group[-1]._replace(remark=f"{group[-1].remark} {said}")
                elif words and not (group and group[-1].item.place is not None):
                    yield from self._line_list(group)
                    group = []
                continue
            item = found.item
            bullet = self._text[self._tokens[start].start : self._tokens[found.first].start].strip()
            found = found._replace(bullet=bullet)
            if group:
                last = group[-1].item.place
                follows = (last is None) == (item.place is None) and (
                    not (apart and found.remark and (not group[-1].remark or bullet != group[-1].bullet))
                    if last is None or item.place is None
                    else abs(item.place - last) == 1
                )
                if not follows:
                    yield from self._line_list(group)
                    group = []
            group.append(found)
        yield from self._line_list(group)

    def _indented(self, at: int) -> bool:
        """Whether a space stands before the first token of a line."""
        start = self._tokens[at].start
        return start > 1 and self._text[start - 2 : start] == "\n "

    def _line_item(self, start: int, end: int) -> _Line | None:
        """The item that a line consists of or begins with, its first token, and whether a remark follows it."""
        at = start
        while at < end and self._kind(at) in ("other", "gt"):
            at += 1
        item = self._item(at) if at < end else None
        kinds = [self._kind(index) for index in range(at, end)]
        if item is None or item.after > end or item.style == "array":
            return self._only_mention(at, end) or self._remarked(at, end)
        signs = [index for index, kind in enumerate(kinds, at) if kind in ("gt", "lt", "eq")]
        if signs and kinds[item.after - at : signs[0] - at].count("word") < 2:
            return None
        rest = [index for index in range(item.after, end) if self._kind(index) not in ("other", "nl")]
        if item.style == "bare" and rest and self._kind(rest[0]) not in ("stop", "comma") and item.after == rest[0]:
            return None
        remark = any(self._kind(index) not in ("stop", "comma") for index in rest)
        said = self._text[self._tokens[item.after - 1].end : self._tokens[end - 1].end] if remark else ""
        return _Line(at, item, said)

    def _remarked(self, at: int, end: int) -> _Line | None:
        """A bare label with a remark behind a colon or a dash, "3: gives the definition"."""
        token = self._tokens[at] if at < end else None
        if token is None or token.kind != "bare" or self._text[token.end : token.end + 3].strip()[:1] not in _DASHES:
            return None
        said = self._text[token.end : self._tokens[end - 1].end]
        return _Line(at, Item(token.label, "bare", None, at + 1), said) if said.strip(" :-") else None

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
        return _Line(start, Item(token.label, token.kind, place[0], end), line)

    def _line_list(self, group: list[_Line]) -> Iterator[Statement]:
        """The statement of a group of lines, unless they are an account of the passages as shown."""
        items = [line.item for line in group]
        tiers = _placed(items) if len(items) > 1 else None
        if tiers is None:
            return
        heading = self._heading(group[0].first)
        announced = ANNOUNCES.search(heading) is not None
        numbered, bare = items[0].place is not None, _bare(items)
        shown = as_shown(tiers)
        if MEASURES.search(heading) and bare and not announced:
            return
        remarks = [line.remark for line in group]
        if any(remarks):
            if shown and not (numbered and (announced or _fall(remarks))):
                return
            if not numbered and not (all(re.search(r"[^\W\d_]{2}", one) for one in remarks) or _fall(remarks)):
                return
        start, end = self._tokens[group[0].first].start, self._tokens[max(item.after for item in items) - 1].end
        plain = not COURTESY.sub("", heading).strip(" .!") or announced or not shown
        if any(remarks) and rises(remarks):
            tiers = ()
        yield Statement(tiers, start, end + len(remarks[-1]), False, plain, doubts(heading, ""), bare, heading)

    def _heading(self, first: int) -> str:
        """The line with words before a list, if it introduces it."""
        start = self._tokens[first].start
        before = self._text[max(0, start - 400) : start].rstrip("\n -*\u2022>#_(")
        line = before[before.rfind("\n") + 1 :].strip()
        line = re.split(r"[.!?] ", line)[-1]
        return line if line.endswith(":") or line.startswith(("#", "*")) or len(line) <= 60 else ""


def _placed(items: Sequence[Item]) -> LabelTiers | None:
    """The labels of a list in order of the numbers before them; None if the numbers make no sense."""
    places = [item.place for item in items]
    if None in places:
        return tuple((item.label,) for item in items) if not any(places[1:]) else None
    if sorted(places) != list(range(1, len(places) + 1)):  # type: ignore[type-var]
        return None
    return tuple((item.label,) for item in sorted(items, key=lambda item: item.place or 0))


def _fall(remarks: Sequence[str]) -> bool:
    """Whether the remarks are scores, with decimals or a scale, that fall from line to line."""
    values = grades(remarks)
    scores = all(re.search(r"\d\.\d|%|/|score", one) for one in remarks)
    return scores and values is not None and all(a > b for a, b in itertools.pairwise(values))


def _bare(items: Iterable[Item]) -> bool:
    return any(item.style == "bare" for item in items)
