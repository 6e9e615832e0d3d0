"""Which sentences of a text belong together: headings, lists, tables, code, definitions, questions, antecedents.

A sentence may *need* an earlier one, without which it says little: what stands under a heading needs the heading, an
item needs the sentence that announces the list, a row of a table its header, an indented block what it hangs on. And
one may *bring* later ones, without which it says little itself: a heading its first sentence, a sentence that ends with
a colon the list, code or table after it, a question its answer.

`tied` turns this into scores: what a sentence brings scores at least as much (or a share of it, where the tie is
weak), and then what a sentence needs scores at least as much as the sentence. A threshold on such scores keeps what
belongs together. They are largest values of the scores given, so a higher threshold never keeps more, a threshold of 0
keeps all, and in the order of falling scores, ties in document order, no sentence comes before one that it needs.

Only the text and its layout are looked at: Markdown, reStructuredText, AsciiDoc, manual pages, docstrings, and what is
left of a web page as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import regex

from thresher.context.blocks import CLOSED, PLAIN, QUESTION, find_blocks
from thresher.text.sentences import LONG_ITEM, is_code, is_turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.context.blocks import Block, Kind
    from thresher.records import Span

WEAK = 0.3
"""A weak tie passes on this share of a score: a table's header to its rows, a full sentence to the code after it."""
ANTECEDENT = 1.0
"""What a sentence that begins with a pronoun passes on to the one before it."""
SAME = 0.2
"""The share of its best sentence's score that each sentence of a short item or definition has."""
SHORT = 600
"""An item or definition of at most this many characters is short."""
ROWS = 12
"""A header brings the rows of a table of at most this many."""
FRAGMENT = 4
"""An answer of at most 4 words is kept with its question, a turn of at most twice that with the turn before."""

_ANNOUNCES = regex.compile(r"[:：][\"'”’)\]*_`]*$")
_FOLLOWING = regex.compile(r"\b(?:following|as follows|below|like this|these are)\b", regex.IGNORECASE)
_SHORT_ANSWER = regex.compile(
    r"(?:\W*A[:.)]\W+)?(?:yes|no|nope|maybe|it depends|not yet|neither|both)\b[^\n]{0,24}$", regex.I
)
_ASKED, _ANSWERED = regex.compile(r"[*_#\s]*Q(?:uestion)?\s*\d*[:.)]"), regex.compile(r"[*_#\s]*A(?:nswer)?\s*\d*[:.)]")
_PRONOUN = regex.compile(
    r"[\"'“‘(*_]*(?:this|that|it|its|these|those|such|he|she|they|his|her|their)\b", regex.IGNORECASE
)
_UNITS = ("code", "table", "directive")


@dataclass(frozen=True, slots=True)
class Ties:
    """What belongs together in a text.

    Attributes:
        needs: for each sentence the earlier one that it needs, -1 for none.
        brought_by: for each sentence the earlier one that brings it, -1 for none.
        share: for each sentence the share of that one's score which it gets.
        leans: for each sentence that begins with a pronoun the one before it, -1 for the others.
        headings: which sentences are headings, or lines of marks, of which none is kept by itself.
        exact: which sentences are code, rows of tables or items, whose words do not tell what they say.
        together: first and last sentence of short items and definitions.
    """

    needs: tuple[int, ...]
    brought_by: tuple[int, ...]
    share: tuple[float, ...]
    leans: tuple[int, ...]
    headings: frozenset[int]
    exact: tuple[int, ...]
    together: tuple[tuple[int, int], ...]

    def tied(self, scores: Sequence[float]) -> tuple[float, ...]:
        """The scores that sentences have together (see the module)."""
        out = list(scores)
        for first, last in self.together:
            best = SAME * max(out[first : last + 1])
            out[first : last + 1] = [max(score, best) for score in out[first : last + 1]]
        for number, bringer in enumerate(self.brought_by):
            if bringer >= 0:
                out[number] = max(out[number], self.share[number] * out[bringer])
        for number in range(len(out) - 1, -1, -1):
            if self.needs[number] >= 0:
                out[self.needs[number]] = max(out[self.needs[number]], out[number])
            if self.leans[number] >= 0:
                out[self.leans[number]] = max(out[self.leans[number]], ANTECEDENT * out[number])
        return tuple(out)

    def with_needed(self, chosen: set[int]) -> set[int]:
        """`chosen` with all that it needs or leans on, and what that needs."""
        found, left = set(chosen), list(chosen)
        while left:
            number = left.pop()
            more = {self.needs[number], self.leans[number]} - found - {-1}
            found |= more
            left += more
        return found

    def without_lone_headings(self, chosen: set[int]) -> set[int]:
        """`chosen` without the headings of which nothing that needs them is chosen."""
        held = {self.needs[number] for number in chosen if number not in self.headings}
        for number in sorted(self.headings & chosen, reverse=True):
            if number in held:
                held.add(self.needs[number])
        return {number for number in chosen if number not in self.headings or number in held}


def find_ties(text: str, sentences: Sequence[Span]) -> Ties:
    """What belongs together in `text`, whose sentences are ascending and disjoint; in linear time."""
    blocks = find_blocks(text, sentences)
    bodies = [text[s.start : s.end] for s in sentences]
    maker = _Maker(bodies, blocks)
    maker.find()
    return maker.ties()


class _Maker:
    """Finds the ties between blocks, and those inside each."""

    def __init__(self, bodies: list[str], blocks: list[Block]) -> None:
        n = len(bodies)
        self.bodies, self.blocks = bodies, blocks
        self.needs, self.brought_by, self.share = [-1] * n, [-1] * n, [1.0] * n
        self.leans = [-1] * n
        self._asked, self._owed = -1, -1  # the last question, and the block that answers it
        self._siblings: dict[tuple[Kind, int], Block] = {}

    def ties(self) -> Ties:
        """What was found; a plain line with nothing under it is a sentence like any other."""
        under = set(self.needs)
        lone = (b for b in self.blocks if b.kind == "heading" and (b.level < PLAIN or b.first in under))
        headings = {b.first for b in lone} | {b.first for b in self.blocks if b.kind == "rule"}
        together = tuple((b.first, b.last) for b in self.blocks if b.last > b.first and self._is_one(b))
        units = (b for b in self.blocks if b.kind in ("code", "table", "item", "directive"))
        exact = tuple(number for b in units for number in range(b.first, b.last + 1))
        return Ties(
            tuple(self.needs),
            tuple(self.brought_by),
            tuple(self.share),
            tuple(self.leans),
            frozenset(headings),
            exact,
            together,
        )

    def _is_one(self, block: Block) -> bool:
        """Whether the sentences of a block are about one thing: a short item or definition."""
        return block.kind in ("item", "term") and sum(map(len, self.bodies[block.first : block.last + 1])) <= SHORT

    def find(self) -> None:
        """Find all of them."""
        owners: list[Block] = []  # headings by level, then blocks of growing indentation
        said = [block for block in self.blocks if block.kind != "rule"]
        for number, block in enumerate(said):
            before = said[number - 1] if number else None
            self._drop_closed(owners, block)
            if owners:
                self._need(block, owners[-1].last if owners[-1].kind == "prose" else owners[-1].first)
            if before is not None:
                self._after(before, block)
            self._inside(block)
            owners.append(block)
            self._note(block)
        self.blocks, every = said, self.blocks
        for number in range(len(said)):
            self._bring_from(number)
        self.blocks = every

    def _note(self, block: Block) -> None:
        """Remember the block for those of its list; whatever is as little indented ends deeper lists."""
        keep = {} if block.kind == "heading" else {k: b for k, b in self._siblings.items() if k[1] < block.indent}
        self._siblings = {**keep, (block.kind, block.indent): block}

    def _drop_closed(self, owners: list[Block], block: Block) -> None:
        """Remove the blocks that `block` does not stand under."""
        while owners:
            last = owners[-1]
            if block.kind == "heading":
                under = last.kind == "heading" and last.level < block.level
            elif last.kind == "heading":
                under = True
            else:
                under = last.kind not in ("code", "table") and last.indent < block.indent
            if under:
                return
            owners.pop()

    def _need(self, block: Block, owner: int) -> None:
        for number in range(block.first, block.last + 1):
            if self.needs[number] < 0:
                self.needs[number] = owner

    def _after(self, before: Block, block: Block) -> None:
        """What a block needs of the one before it: the sentence that announces it, or the question it answers."""
        last = before.last
        if before.kind in ("heading", "table") or block.kind == "heading":
            return
        same_list = block.kind == before.kind and block.kind in ("item", "term")
        if same_list or (block.kind in ("item", "term") and block.indent < before.indent):
            first = self._sibling_before(block)
            if first is not None:
                for number in range(block.first, block.last + 1):
                    self.needs[number] = self.needs[first.first]
            return
        announced = self._announces(last) or (block.kind != "prose" and self._open(last))
        introduced = block.kind in _UNITS
        answers = bool(_ANSWERED.match(self.bodies[block.first]) and _ASKED.match(self.bodies[before.first]))
        if (announced and self._is_enclosed(block)) or introduced or answers:
            for number in range(block.first, block.last + 1):
                self.needs[number] = last

    def _sibling_before(self, block: Block) -> Block | None:
        """The last block of the same kind and indentation with only deeper ones between, None outside a list."""
        return self._siblings.get((block.kind, block.indent))

    def _announces(self, number: int) -> bool:
        body = self.bodies[number]
        return bool(_ANNOUNCES.search(body[-40:]) or _FOLLOWING.search(body[-160:]))

    def _open(self, number: int) -> bool:
        """Whether a sentence ends without a stop, as in `To see the help, run`."""
        return not CLOSED.search(self.bodies[number][-40:]) and not is_code(self.bodies[number])

    def _is_enclosed(self, block: Block) -> bool:
        return block.kind != "prose" or block.indent > 0

    def _inside(self, block: Block) -> None:
        """Later sentences of an item or a definition need its first; a pronoun leans on the sentence before."""
        whole = block.kind in ("item", "term", "code", "directive")
        for number in range(block.first, block.last + 1):
            if number > block.first and whole:
                self.needs[number] = block.first
            if not number and _ASKED.match(self.bodies[0]):
                self._asked = 0
            if number and block.kind in ("prose", "item", "term"):
                self._answer(number, block)
                before = number - 1
                while before and not any(map(str.isalnum, self.bodies[before])):
                    before -= 1
                if self._depends(number, before) and self.needs[number] != before:
                    self.leans[number] = before
        if block.kind == "code":
            for number in range(block.first + 1, block.last + 1):
                self._bring(number, block.first)
        if block.kind == "table":
            few = block.last - block.first <= ROWS
            headed = not self.bodies[block.first].startswith("-")  # else a list of options
            for number in range(block.first + 1, block.last + 1):
                self.needs[number] = block.first if headed else self.needs[block.first]
                if few and headed:
                    self._bring(number, block.first, WEAK)

    def _depends(self, number: int, before: int) -> bool:
        """Whether a sentence says little without the one before: by a pronoun, or as a short turn or a short answer."""
        body = self.bodies[number]
        words = len(body.split())
        answers = QUESTION.search(self.bodies[before]) and (words <= FRAGMENT or _SHORT_ANSWER.match(body))
        turn = is_turn(body) and words <= 2 * FRAGMENT and is_turn(self.bodies[before])
        return bool(_PRONOUN.match(body) or answers or turn)

    def _answer(self, number: int, block: Block) -> None:
        """What stands after `A:` needs what stands after the `Q:` before it."""
        if _ASKED.match(self.bodies[number]):
            self._asked, self._owed = number, -1
        elif _ANSWERED.match(self.bodies[number]) and self._asked >= 0:
            self._owed = block.first
        if self._owed == block.first and self._asked >= 0:
            self.needs[number] = self._asked

    def _bring(self, number: int, bringer: int, share: float = 1.0) -> None:
        if self.brought_by[number] < 0 or share > self.share[number]:
            self.brought_by[number], self.share[number] = bringer, share

    def _bring_from(self, number: int) -> None:
        """What the sentences of a block bring with them."""
        block = self.blocks[number]
        for here, there in pairwise(range(block.first, block.last + 1)):
            if QUESTION.search(self.bodies[here]) and _SHORT_ANSWER.match(self.bodies[there]):
                self._bring_answer(here, there, block)
            elif self._announces(here) and _ANNOUNCES.search(self.bodies[here]):
                self._bring(there, here)
        if number + 1 == len(self.blocks):
            return
        last, following = block.last, self.blocks[number + 1]
        if block.kind == "heading":
            if following.kind != "heading" or following.level > block.level:
                self._bring_start(last, following)
            if following.kind == "item":
                self._bring_list(last, number + 1, block, 1.0 if block.level > 6 else WEAK)
        elif following.kind == "heading" or block.kind == "table":
            return
        elif self._announces(last) or (following.kind != "prose" and self._open(last)):
            self._bring_list(last, number + 1, block)
        elif QUESTION.search(self.bodies[last]) and (block.first == last or _ASKED.match(self.bodies[block.first])):
            self._bring_answer(last, following.first, following)
        elif following.kind in ("code", "directive") and block.kind in ("prose", "item", "term"):
            self._bring_all(last, following, WEAK)
        if block.kind in ("directive", "term") and following.indent > block.indent:
            self._bring_start(block.first, following)

    def _bring_answer(self, question: int, answer: int, block: Block) -> None:
        """The first sentence of an answer, and the second where the first only says yes or no."""
        self._bring(answer, question)
        if answer + 1 <= block.last and _SHORT_ANSWER.match(self.bodies[answer]):
            self._bring(answer + 1, question)

    def _bring_start(self, bringer: int, block: Block) -> None:
        """The first sentence of a block; code whole."""
        if block.kind in _UNITS:
            self._bring_all(bringer, block)
        elif QUESTION.search(self.bodies[bringer]):
            self._bring_answer(bringer, block.first, block)
        else:
            self._bring(block.first, bringer)

    def _bring_all(self, bringer: int, block: Block, share: float = 1.0) -> None:
        for number in range(block.first, block.last + 1):
            self._bring(number, bringer, share)

    def _bring_list(self, bringer: int, place: int, block: Block, share: float = 1.0) -> None:
        """What a sentence announces: a unit, the items of a list, the terms of a list of definitions."""
        first = self.blocks[place]
        if first.kind in _UNITS:
            self._bring_all(bringer, first)
            return
        if first.indent <= block.indent and block.kind in ("item", "term"):
            return  # the next item, not what this one announces
        if first.kind == "prose" and first.indent <= block.indent:
            self._bring(first.first, bringer)
            return
        for number in range(place, len(self.blocks)):
            other = self.blocks[number]
            if other.kind == "heading" or other.indent < first.indent:
                return
            if other.indent == first.indent:
                if other.kind != first.kind:
                    return
                self._bring_item(bringer, other, share)

    def _bring_item(self, bringer: int, block: Block, share: float) -> None:
        """The first sentences of an item; all of a short one."""
        length = 0
        for number in range(block.first, block.last + 1):
            length += len(self.bodies[number])
            if number > block.first and length > LONG_ITEM:
                return
            self._bring(number, bringer, share)
