"""Plans that show one passage or two at a time: pointwise ratings, and pairwise comparisons.

Pairwise Ranking Prompting (PRP; Qin et al., arXiv 2306.17563) shows each pair in both orders: agreement is a win,
anything else a tie, and a tie never moves a passage. InstUPR (arXiv 2403.16435) instead adds up the probabilities of
the two labels over every ordered pair of the first candidates; duoT5 does so over one order of each pair.

Unlike the papers, independent comparisons are made together. In the heap, sifts of one level are one batch; in the
sliding passes, pass p + 1 starts as soon as pass p is two places ahead, so n + k - 2 batches replace
k(2n - k - 1)/2 sequential comparisons, each of which sees exactly the passages it would have seen.

In the pointwise plan every candidate is rated by itself, all in one batch. What a rating is (P(yes), a graded soft
score, query likelihood, a cross-encoder's logit) depends on the judge; see `thresher.rerank.model_judge`. Candidates
without a rating (no answer, or the budget ran out) follow the rated ones in first-stage order. Counting them as zero,
as some public code does, would place them by an accident of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING, Literal

from thresher.checks import whole
from thresher.errors import InputError
from thresher.rerank.plans.heap import Heap, sift_bound
from thresher.rerank.plans.plan import (
    Answer,
    Comparison,
    Placement,
    Prefer,
    Rate,
    Spent,
    Steps,
    Stop,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Rate every candidate, sort by rating."""

    @property
    def name(self) -> str:
        """`pointwise`."""
        return "pointwise"

    def bound(self, n: int, k: int) -> Spent:
        """One rating a candidate."""
        return Spent.alike(n if n > 1 else 0, 1, 1)

    def exact_top(self, n: int, k: int) -> int:
        """All ranks."""
        return n

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Rate all at once, first candidates first, so that a small budget is spent on them."""
        if n < 2:
            return Placement.of(range(n))
        comparisons: list[Comparison] = [Rate((item,)) for item in range(n)]
        answers: Sequence[Answer | None] = ()
        try:
            answers = yield comparisons
        except Stop:
            answers = [None] * n
        scores = {item: a.score for item, a in enumerate(answers) if a is not None and a.score is not None}
        return Placement.by_score(scores, (item for item in range(n) if item not in scores))


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Compare every pair of the first candidates and sort by wins.

    Attributes:
        head: only the first `head` candidates are compared, None for all; the others follow in first-stage order.
        aggregation: "wins" (PRP: a win 1, a tie 0.5 each) or "probabilities" (InstUPR, duoT5: the sum of P(wins)).
        both_orders: show each pair twice, once in each order.
    """

    head: int | None = None
    aggregation: Literal["wins", "probabilities"] = "wins"
    both_orders: bool = True

    def __post_init__(self) -> None:
        if self.head is not None:
            whole("head", self.head, 1)
        if self.aggregation not in ("wins", "probabilities"):
            raise InputError(f"aggregation={self.aggregation!r} is neither 'wins' nor 'probabilities'")

    @property
    def name(self) -> str:
        """`pairwise-all` with its settings."""
        head = "" if self.head is None else f",head={self.head}"
        return f"pairwise-all:aggregation={self.aggregation},both_orders={self.both_orders}{head}"

    def bound(self, n: int, k: int) -> Spent:
        """m(m - 1) questions for m = min(n, head), half of them where each pair is shown once."""
        m = self._compared(n)
        return Spent.alike(m * (m - 1) // (1 if self.both_orders else 2), 2, 1)

    def exact_top(self, n: int, k: int) -> int:
        """All ranks if all candidates are compared, else none."""
        return n if self._compared(n) == n else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Compare all pairs in one batch, those of the first candidates first."""
        m = self._compared(n)
        if m < 2:
            return Placement.of(range(n))
        pairs = permutations(range(m), 2) if self.both_orders else combinations(range(m), 2)
        comparisons = [Prefer(pair) for pair in sorted(pairs, key=lambda pair: (max(pair), min(pair), pair))]
        try:
            answers = yield [*comparisons]
        except Stop:
            answers = [None] * len(comparisons)
        add_up = _wins if self.aggregation == "wins" else _probabilities
        return Placement.by_score(add_up(m, comparisons, answers), range(m, n))

    def _compared(self, n: int) -> int:
        return n if self.head is None else min(n, self.head)


def instupr_pairs(
    head: int | None = 30,
    aggregation: Literal["wins", "probabilities"] = "probabilities",
    both_orders: bool = True,
) -> AllPairs:
    """All pairs of the first 30 candidates, ordered by the sum of probabilities, as InstUPR does."""
    return AllPairs(head, aggregation, both_orders)


@dataclass(frozen=True, slots=True)
class PairwiseHeap:
    """PRP heap sort: a binary heap whose comparisons are pairs, each shown in both orders."""

    both_orders: bool = True

    @property
    def name(self) -> str:
        """`pairwise-heap` with its settings."""
        return f"pairwise-heap:both_orders={self.both_orders}"

    def bound(self, n: int, k: int) -> Spent:
        """Two comparisons a node visited (child against child, winner against parent), one after the other."""
        visits, in_a_row = sift_bound(n, k, 2)
        return Spent.alike(visits * 2 * (2 if self.both_orders else 1), 2, 2 * in_a_row)

    def exact_top(self, n: int, k: int) -> int:
        """The first k."""
        return min(n, k)

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Build the heap and extract k."""
        heap = Heap(list(range(n)), 2, self._pick)
        try:
            yield from heap.build()
            yield from heap.extract(k)
        except Stop:
            pass
        return Placement.of(heap.order(k))

    def _pick(self, items: tuple[int, ...]) -> Steps[int]:
        incumbent, champion, *others = items
        for other in others:
            champion = yield from _better(champion, other, self.both_orders)
        return (yield from _better(incumbent, champion, self.both_orders))


@dataclass(frozen=True, slots=True)
class PairwiseSliding:
    """PRP sliding-k: k passes from the bottom of the list, each moving the best passage it meets up.

    Attributes:
        passes: number of passes, None for as many as ranks are wanted.
        both_orders: show each pair twice, and swap only if both answers agree.
    """

    passes: int | None = None
    both_orders: bool = True

    def __post_init__(self) -> None:
        if self.passes is not None:
            setting("passes", self.passes, 1)

    @property
    def name(self) -> str:
        """`pairwise-sliding` with its settings."""
        passes = "" if self.passes is None else f",passes={self.passes}"
        return f"pairwise-sliding:both_orders={self.both_orders}{passes}"

    def bound(self, n: int, k: int) -> Spent:
        """p(2n - p - 1)/2 comparisons for p passes, n + p - 2 in a row."""
        p = min(self.passes or k, max(n - 1, 0))
        return Spent.alike(p * (2 * n - p - 1) // 2 * (2 if self.both_orders else 1), 2, n + p - 2)

    def exact_top(self, n: int, k: int) -> int:
        """As many ranks as passes; n - 1 passes settle the last rank too."""
        p = self.passes or k
        return n if p >= n - 1 else p

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Bubble, pass p compares the places (i, i + 1) for i from n - 2 down to p, two steps behind pass p - 1."""
        order = list(range(n))
        passes = min(self.passes or k, max(n - 1, 0))
        try:
            for step in range(n + passes - 2 if passes else 0):
                places = [n - 2 - (step - 2 * p) for p in range(passes) if 2 * p <= step]
                places = [place for p, place in enumerate(places) if place >= p]
                winners = yield from _compare([(order[i], order[i + 1]) for i in places], self.both_orders)
                for i, winner in zip(places, winners, strict=True):
                    if winner == order[i + 1]:
                        order[i], order[i + 1] = order[i + 1], order[i]
        except Stop:
            pass
        return Placement.of(order)


def _better(a: int, b: int, both_orders: bool) -> Steps[int]:
    """The one preferred in every order shown; after a tie, contradiction or no answer the better first-stage rank."""
    (winner,) = yield from _compare([(a, b)], both_orders)
    return min(a, b) if winner is None else winner


def _compare(pairs: Sequence[tuple[int, int]], both_orders: bool) -> Steps[list[int | None]]:
    """The winner of each pair in every order shown, None if there is none."""
    comparisons: list[Comparison] = []
    for a, b in pairs:
        comparisons.append(Prefer((a, b)))
        if both_orders:
            comparisons.append(Prefer((b, a)))
    answers = yield comparisons
    shown = 2 if both_orders else 1
    winners = [{_winner(answer) for answer in answers[shown * i : shown * i + shown]} for i in range(len(pairs))]
    return [found.pop() if len(found) == 1 else None for found in winners]


def _winner(answer: Answer | None) -> int | None:
    """The position preferred, None for a tie or no information."""
    return answer.tiers[0][0] if answer is not None and len(answer.tiers[0]) == 1 else None


def _wins(m: int, comparisons: Sequence[Prefer], answers: Sequence[Answer | None]) -> dict[int, float]:
    """PRP's sums: 1 for a pair won in every order shown, 0.5 each for anything else."""
    verdicts: dict[tuple[int, int], list[int | None]] = {}
    for comparison, answer in zip(comparisons, answers, strict=True):
        verdicts.setdefault((min(comparison.items), max(comparison.items)), []).append(_winner(answer))
    scores = dict.fromkeys(range(m), 0.0)
    for (a, b), winners in verdicts.items():
        agreed = winners[0] if len(set(winners)) == 1 else None
        if agreed is None:
            scores[a] += 0.5
            scores[b] += 0.5
        else:
            scores[agreed] += 1.0
    return scores


def _probabilities(m: int, comparisons: Sequence[Prefer], answers: Sequence[Answer | None]) -> dict[int, float]:
    """The mean probability of winning over the answers received; 0.5 for a passage without any.

    If no answer is missing, this orders as the sum of probabilities does; the mean does not penalise a passage
    whose comparisons failed.
    """
    sums, counts = dict.fromkeys(range(m), 0.0), dict.fromkeys(range(m), 0)
    for comparison, answer in zip(comparisons, answers, strict=True):
        if answer is None:
            continue
        first, second = comparison.items
        p = answer.score
        if p is None:
            p = 0.5 if (winner := _winner(answer)) is None else float(winner == first)
        sums[first] += p
        sums[second] += 1.0 - p
        counts[first] += 1
        counts[second] += 1
    return {item: sums[item] / counts[item] if counts[item] else 0.5 for item in range(m)}
