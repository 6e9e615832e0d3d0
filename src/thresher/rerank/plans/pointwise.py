"""The pointwise plan: every candidate is rated by itself, all in one batch.

What a rating is (P(yes), a graded soft score, query likelihood, a cross-encoder's logit) depends on the judge; see
`thresher.rerank.model_judge`.

Candidates without a rating (no answer, or the budget ran out) follow the rated ones in first-stage order. Counting
them as zero, as some public code does, would place them by an accident of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.rerank.plans.plan import Answer, Comparison, Placement, Rate, Steps, Stop

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
        """One rating a candidate."""
        return n if n > 1 else 0

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
