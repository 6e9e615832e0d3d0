"""Funnel: blocks over all candidates, then over the best of them, then windows over the very best.

Every answer so far counts in every step: all games go into one regularised Bradley-Terry fit, and the next round shows
the best by it. Rounds are over all n candidates, if wanted over two blocks of the best, and over one block. A round
covers its candidates by blocks of b, once or several times, and its blocks are one batch. By default a hundred are
covered three times and the best twenty are shown in five windows: 20 calls at a depth of two. `copies=1, middle=1,
windows=2` are 5 + 2 + 2 calls at a depth of three, as many as a sliding window takes.

Two things set it apart from plans that shuffle. *A block is dealt, not drawn*: of m blocks the first holds every m-th
candidate of the order so far, so all blocks are equally strong, and each is *shown in that order*. A model that favours
what it sees first then favours what is likely to be better, which is how models are prompted and tuned; shuffled, the
same bias is noise. Further copies deal at random, and still show the order so far; further windows over the top, which
would repeat a prompt, show it with each passage moved down by up to half a block. *The first stage has a say*: `prior`
games of every pair are taken as won by the better first-stage rank, which decides between candidates that the judge
cannot tell apart.

No exactness is promised beyond one block; eval/results/rerank-study.md has the measured regret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import real, whole
from thresher.rerank.aggregate import DIGITS
from thresher.rerank.aggregate.likelihood import bradley_terry
from thresher.rerank.aggregate.played import wins
from thresher.rerank.plans.plan import Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from thresher.rerank.plans.plan import Answer


@dataclass(frozen=True, slots=True)
class Funnel:
    """Rounds over ever fewer candidates.

    Attributes:
        block: b, passages in one comparison, at least 2.
        copies: how often the first round covers all candidates.
        middle: how often a second round covers the best two blocks, 0 for no such round.
        windows: how many windows over the best block follow, 0 for none.
        prior: games of each pair that the better first-stage rank has won beforehand.
        penalty: lambda of the Bradley-Terry model.
    """

    block: int = 20
    copies: int = 3
    middle: int = 0
    windows: int = 5
    prior: float = 0.1
    penalty: float = 0.1

    def __post_init__(self) -> None:
        whole("block", self.block, 2)
        setting("copies", self.copies, 1)
        setting("middle", self.middle, 0)
        setting("windows", self.windows, 0)
        real("prior", self.prior, 0.0, 1e3)
        real("penalty", self.penalty, 1e-9, 1e9)

    @property
    def name(self) -> str:
        """`funnel` with its settings."""
        return (
            f"funnel:block={self.block},copies={self.copies},middle={self.middle},windows={self.windows},"
            f"prior={self.prior},penalty={self.penalty}"
        )

    def bound(self, n: int, k: int) -> Spent:
        """Each round's blocks, as often as it is covered."""
        total = Spent()
        for size, copies in self._rounds(n):
            blocks = copies * -(-size // self.block)
            total += Spent(blocks, copies * size, 1, blocks)
        return total

    def exact_top(self, n: int, k: int) -> int:
        """All if one block holds all candidates and the prior is weaker than its answers, else none."""
        answers = self.copies + self.middle + self.windows
        return n if n <= self.block and self.prior * max(n - 1, 0) < answers else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Make the rounds."""
        answers: list[Answer] = []
        order = tuple(range(n))
        placement = Placement.of(order)
        for size, copies in self._rounds(n):
            asked = [Order(block) for copy in range(copies) for block in self._deal(order[:size], copy, rng)]
            try:
                got = yield asked
            except Stop:
                return placement
            answers += [answer for answer in got if answer is not None]
            if answers:
                placement = self._placed(n, answers)
                order = placement.order
        return placement

    def _rounds(self, n: int) -> list[tuple[int, int]]:
        """How many candidates each round is over, and how often it covers them; rounds over the same ones are one."""
        rounds: dict[int, int] = {}
        for size, copies in ((n, self.copies), (2 * self.block, self.middle), (self.block, self.windows)):
            if copies and n > 1:
                rounds[min(size, n)] = rounds.get(min(size, n), 0) + copies
        return list(rounds.items())

    def _deal(self, items: tuple[int, ...], copy: int, rng: Random) -> list[tuple[int, ...]]:
        """Blocks that hold each of the items once."""
        count = -(-len(items) // self.block)
        if not copy:
            return [items[start::count] for start in range(count)]
        if count == 1:
            reach = 0.5 * min(self.block, len(items))
            moved = [place + reach * rng.random() for place in range(len(items))]
            return [tuple(items[place] for place in sorted(range(len(items)), key=moved.__getitem__))]
        mixed = rng.sample(range(len(items)), len(items))
        return [tuple(items[place] for place in sorted(mixed[start::count])) for start in range(count)]

    def _placed(self, n: int, answers: Sequence[Answer]) -> Placement:
        table = wins(n, answers) + np.triu(np.full((n, n), self.prior), 1)
        scores = bradley_terry(table, self.penalty).round(DIGITS)
        return Placement.by_score(dict(enumerate(scores.tolist())))
