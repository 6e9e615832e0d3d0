"""Pointwise plans: every candidate is rated by itself.

n asks in one batch. What a rating means (P(yes), a graded soft score, query likelihood, a cross-encoder's logit) is
the judge's business; see `thresher.rerank.ratings`.

Candidates without a rating (no answer, or the budget ended) follow the rated ones in first-stage order. Counting
them as zero, as some public code does, would put them above or below others by an accident of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.rerank.asks import Answer, Ask, Rate
from thresher.rerank.plans.plan import Course, Ranking, Stop

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

    def max_calls(self, n: int, k: int) -> int:
        """One ask a candidate."""
        return n if n > 1 else 0

    def exact_top(self, n: int, k: int) -> int:
        """All ranks."""
        return n

    def run(self, n: int, k: int, rng: Random) -> Course[Ranking]:
        """Ask for all ratings at once; the head of the list comes first, so that a short budget buys the head."""
        if n < 2:
            return Ranking.of(range(n))
        asks: list[Ask] = [Rate((item,)) for item in range(n)]
        answers: Sequence[Answer | None] = ()
        try:
            answers = yield asks
        except Stop:
            answers = [None] * n
        scores = {item: a.score for item, a in enumerate(answers) if a is not None and a.score is not None}
        return Ranking.by_score(scores, (item for item in range(n) if item not in scores))
