"""Blocks packed into passages along the headings of a document.

A section (a heading and what follows it up to the next) becomes one passage where it fits, else several. Its blocks are
laid one after another: a list by its items, code and tables whole; what introduces a block (a line that ends with a
colon) stays with it. A block longer than a passage is cut: prose by `thresher.corpus.split`, code and tables between
lines. Neighbours under one heading are joined where they fit together and one of them is short, so that a page of
one-line sections does not become as many passages. A passage is a slice of the text, and none spans a gap.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import name_slug, slug
from thresher.corpus.split import token_count, windows
from thresher.text.sentences import introduces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from thresher.corpus.files.blocks import Block, Document

SHORT = 3
"""A passage of less than this part of the limit is short."""
_LONGEST_HEADING = 120


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage of a document.

    Attributes:
        start: first code point in the document's text.
        end: one past the last.
        tokens: how many it has.
        titles: the headings above it, from the document's title down.
        place: its address in the document: slugs of the headings above it, and its number among the pieces that begin
            in that section.
        anchor: the fragment of a link to its heading; empty where there is none.
        page: of a PDF; 0 for others.
        head: where the heading that it follows begins, if it is the first of its section; else `start`.
    """

    start: int
    end: int
    tokens: int
    titles: tuple[str, ...]
    place: tuple[tuple[str, ...], int]
    anchor: str
    page: int
    head: int

    @property
    def address(self) -> str:
        """Its place as text: `install/linux`, `install/linux~2`; empty for the first under the document's title."""
        slugs, number = self.place
        return "/".join(slugs) + (f"~{number}" if number > 1 else "")


@dataclass(slots=True)
class _Section:
    """A heading, its blocks up to the next heading, and the sections below it."""

    titles: tuple[str, ...]
    slugs: tuple[str, ...] = ()
    level: int = 0
    head: int = -1
    anchor: str = ""
    blocks: list[Block] = field(default_factory=list)
    children: list[_Section] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)

    @property
    def shown(self) -> bool:
        """Whether it is a signature that nothing follows yet."""
        return bool(self.blocks) and not self.children and all(block.shown for block in self.blocks)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is laid into passages: a block or a part of it."""

    start: int
    end: int
    tokens: int
    page: int
    between: int = 0  # tokens between the unit before and this one
    apart: bool = False  # it does not share a passage with the unit before: a gap is between, or they overlap


def pieces(document: Document, name: str, tokens: int, overlap: int = 0) -> list[Piece]:
    """The passages of a document in order.

    Args:
        document: what a reader made of a file.
        name: its title where it has none.
        tokens: the most tokens of a passage and half its title; 0 to make one of every section.
        overlap: tokens that the pieces of a long block may share.
    """
    packer = _Packer(document, tokens, overlap)
    return [piece for piece in packer.pack(_sections(document, name)) if _says_something(document.text, piece)]


def _says_something(text: str, piece: Piece) -> bool:
    return any(map(str.isalnum, text[piece.start : piece.end]))


def _sections(document: Document, name: str) -> _Section:
    """The tree of sections; a lone heading at the top is the document's title."""
    headings = [block for block in document.blocks if block.kind == "heading"]
    top = min((block.level for block in headings), default=0)
    highest = [block for block in headings if block.level == top]
    first = next((block for block in document.blocks if block.kind != "gap"), None)
    titled = len(highest) == 1 and highest[0] is first and not highest[0].shown
    root = _Section((_short(highest[0].heading if titled else document.title) or name,))
    above = [root]
    for block in document.blocks:
        if titled and block is headings[0]:
            root.head, root.anchor = block.start, block.anchor
        elif block.kind != "heading":
            above[-1].blocks.append(block)
        else:
            while len(above) > 1 and above[-1].level >= block.level:
                above.pop()
            parent = above[-1]
            last = parent.children[-1] if parent.children else None
            if block.shown and last is not None and last.shown and last.level == block.level:
                last.blocks.append(block)  # a second signature of what follows
                above.append(last)
                continue
            before = last.slugs[-1] if last is not None else ""
            made = name_slug(block.heading) if block.shown else slug(block.heading or f"{before} after")
            address = _distinct(made, parent.taken)
            heading = _short(block.heading)
            section = _Section(
                (*parent.titles, heading) if heading else parent.titles,
                (*parent.slugs, address), block.level, block.start, block.anchor,
            )  # fmt: skip
            if block.shown:
                section.blocks.append(block)
            parent.children.append(section)
            above.append(section)
    return root


def _short(heading: str) -> str:
    """A heading on one line, cut at a word where it is very long."""
    words = " ".join(heading.split())
    return words if len(words) <= _LONGEST_HEADING else words[:_LONGEST_HEADING].rpartition(" ")[0] + " ..."


def _distinct(name: str, taken: dict[str, int]) -> str:
    """`name`, or `name-1`, `name-2`, whichever is not taken; takes it. `taken` has how often each was asked for."""
    made = name
    while made in taken:
        made = f"{name}-{taken[name]}"
        taken[name] += 1
    taken[made] = 1
    return made


class _Packer:
    def __init__(self, document: Document, tokens: int, overlap: int) -> None:
        self._text, self._tokens, self._overlap = document.text, tokens, overlap
        self._gaps = [block.start for block in document.blocks if block.kind == "gap"]

    def pack(self, section: _Section) -> list[Piece]:
        """The passages of a section and of those below it."""
        found = [(piece, True) for piece in self._own(section)]
        for child in section.children:
            below = self.pack(child)
            found += [(piece, len(below) == 1) for piece in below]
        return self._joined(section, found) if self._tokens else [piece for piece, _ in found]

    def _joined(self, section: _Section, found: list[tuple[Piece, bool]]) -> list[Piece]:
        """Neighbours made one where they fit together and one of them is short.

        `found` says of each piece whether it is all of a section. A short introduction is also joined to the first
        piece of a longer section, and takes its title and place.
        """
        limit = self._limit(section)
        short = max(1, self._tokens // SHORT)
        out: list[Piece] = []
        begin, whole_before, introduces_child = 0, False, False
        for piece, whole in found:
            own = piece.place[0] == section.slugs
            last = out[-1] if out else None
            if last is not None and not own and min(last.tokens, piece.tokens) < short:
                leads = introduces_child and last.tokens < short
                if ((whole_before and whole) or (leads and piece.place[1] == 1)) and not self._has_gap(
                    begin, piece.end
                ):
                    size = token_count(self._text[begin : piece.end])
                    if size <= limit:
                        joined = replace(last, start=begin, end=piece.end, tokens=size)
                        if leads:
                            out[-1] = replace(joined, titles=piece.titles, place=piece.place, anchor=piece.anchor)
                        else:
                            out[-1] = replace(joined, titles=section.titles)
                        whole_before, introduces_child = whole, False
                        continue
            out.append(piece)
            begin = piece.start if own else piece.head
            whole_before, introduces_child = whole, own
        return out

    def _has_gap(self, start: int, end: int) -> bool:
        at = bisect_left(self._gaps, start)
        return at < len(self._gaps) and self._gaps[at] < end

    def _limit(self, section: _Section) -> int:
        """Tokens of a passage's text: encoders read its title before it."""
        title = token_count(" ".join(section.titles))
        return max(1, self._tokens - min(title, self._tokens // 4))

    def _own(self, section: _Section) -> list[Piece]:
        """The passages of a section's own blocks."""
        limit = self._limit(section) if self._tokens else 0
        groups = _groups(self._glued(self._units(section.blocks, limit), limit), limit)
        out: list[Piece] = []
        for number, group in enumerate(groups, 1):
            start, end = group[0].start, group[-1].end
            head = section.head if number == 1 and section.head >= 0 else start
            size, place = _total(group), (section.slugs, number)
            out.append(Piece(start, end, size, section.titles, place, section.anchor, group[0].page, head))
        return out

    def _units(self, blocks: Iterable[Block], limit: int) -> list[_Unit]:
        """The blocks, or what they are cut into.

        A short block before a long paragraph is cut together with it, and so is a signature with its code.
        """
        out: list[_Unit] = []
        gap = signature = False
        for block in blocks:
            if block.kind == "gap":
                gap = True
                continue
            spans = list(self._cut(block, limit))
            last = out[-1] if out else None
            if last is not None and not gap and last.tokens < limit // SHORT:
                whole = last.tokens + token_count(self._text[last.end : block.end])
                cut = self._by_lines if signature and block.kind == "code" else None
                cut = self._by_sentences if block.kind == "prose" and len(spans) > 1 else cut
                if cut is not None and whole > limit:
                    spans, gap = list(cut(last.start, block.end, limit)), last.apart
                    out.pop()
            for start, end in spans:
                reached = out[-1].end if out else start
                apart = gap or start < reached
                between = 0 if apart else token_count(self._text[reached:start])
                out.append(_Unit(start, end, token_count(self._text[start:end]), block.page, between, apart))
                gap = False
            signature = block.shown
        return out

    def _cut(self, block: Block, limit: int) -> Iterator[tuple[int, int]]:
        """A block whole, or in pieces of at most `limit` tokens; a list by its items."""
        size = token_count(self._text[block.start : block.end])
        if not limit or (size <= limit and block.kind != "list"):
            yield block.start, block.end
            return
        spans = [(part.start, part.end) for part in block.parts] or [(block.start, block.end)]
        for start, end in spans:
            if token_count(self._text[start:end]) <= limit:
                yield start, end
            elif block.kind in ("code", "table"):
                yield from self._by_lines(start, end, limit)
            else:
                yield from self._by_sentences(start, end, limit)

    def _by_sentences(self, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
        """Whole sentences, as many as fit into parts of about one size."""
        size = token_count(self._text[start:end])
        even = min(limit, size // -(-size // limit) + limit // 8) if size else limit
        for span in windows(self._text[start:end], max(1, even), min(self._overlap, max(1, even) - 1)):
            yield start + span.start, start + span.end

    def _by_lines(self, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
        """Whole lines in parts of about one size, rather ending at an empty line; a longer line is cut as prose is."""
        total = token_count(self._text[start:end])
        even = -(-total // -(-total // limit)) if total else limit
        here, size, blank = start, 0, -1
        for line in re.finditer(r"[^\n]*\n?", self._text[start:end]):
            first, after = start + line.start(), start + line.end()
            tokens = token_count(line.group())
            if first > here and (size >= even or size + tokens > limit):
                fits = blank > here and token_count(self._text[blank:after]) <= limit
                stop = blank if fits else first
                yield here, stop
                here, size, blank = stop, token_count(self._text[stop:first]), -1
            if tokens > limit:
                if here < first:
                    yield here, first
                yield from self._by_sentences(first, after, limit)
                here, size = after, 0
                continue
            size += tokens
            if not line.group().strip():
                blank = after
        if self._text[here:end].strip():
            yield here, end

    def _glued(self, units: list[_Unit], limit: int) -> list[_Unit]:
        """Units with those that introduce them, where both fit."""
        out: list[_Unit] = []
        for unit in units:
            last = out[-1] if out else None
            leads = last is not None and limit and not unit.apart and introduces(self._text[last.start : last.end])
            if last is not None and leads and _total([last, unit]) <= limit:
                out[-1] = replace(last, end=unit.end, tokens=_total([last, unit]))
            else:
                out.append(unit)
        return out


def _groups(units: list[_Unit], limit: int) -> list[list[_Unit]]:
    """Units in order in groups of at most `limit` tokens, none across a gap; the last two of about one size."""
    groups: list[list[_Unit]] = []
    for unit in units:
        if groups and not unit.apart and (not limit or _total([*groups[-1], unit]) <= limit):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    if limit and len(groups) > 1 and not groups[-1][0].apart and _total(groups[-1]) < limit // SHORT:
        both = groups[-2] + groups[-1]
        cuts = [cut for cut in range(1, len(both)) if max(_total(both[:cut]), _total(both[cut:])) <= limit]
        if cuts:
            cut = min(cuts, key=lambda cut: abs(_total(both[:cut]) - _total(both[cut:])))
            groups[-2:] = [both[:cut], both[cut:]]
    return groups


def _total(units: list[_Unit]) -> int:
    """Tokens of a slice from the first unit to the last."""
    return sum(unit.tokens + unit.between for unit in units) - units[0].between
