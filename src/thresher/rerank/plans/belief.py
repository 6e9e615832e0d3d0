"""A belief about the strengths of candidates: a first-stage prior, and every answer at its true weight.

Strengths are Gaussian before any answer, with mean -`slope` ln(1 + rank) and standard deviation `spread`, in the
log-odds of a Bradley-Terry model. The belief is the posterior given all answers at once: its mode, and its curvature
there. An ordered window is not b(b - 1)/2 independent games: a game counts 3/(b + 1), which gives an answer of a
Plackett-Luce judge its true weight (see `thresher.rerank.aggregate.likelihood`). With full weight the belief is certain
much too early, and the first stage counts for nothing beside a judge that knows less than it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.rerank.aggregate import bradley_terry, wins
from thresher.rerank.aggregate.likelihood import posterior_variances
from thresher.rerank.plans.plan import Placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.rerank.plans.plan import Answer


class Belief:
    """Gaussian strengths of candidates.

    Args:
        ranks: of each candidate before any answer, from 0; not necessarily distinct.
        spread: standard deviation of a strength before any answer.
        slope: how fast expected strengths fall with the logarithm of the rank.

    Attributes:
        mean: float64[n], the strengths.
    """

    def __init__(self, ranks: Sequence[float], spread: float, slope: float) -> None:
        n = len(ranks)
        self._expected: NDArray[np.float64] = -slope * np.log1p(np.array(ranks, np.float64))
        self._penalty = spread**-2
        self._games = np.zeros((n, n))
        self.mean, self._informed = self._expected, False

    @property
    def order(self) -> list[int]:
        """All candidates, the strongest first."""
        mean = self.mean.tolist()
        return sorted(range(len(mean)), key=lambda item: (-mean[item], item))

    def deviations(self) -> NDArray[np.float64]:
        """float64[n], standard deviations of the strengths."""
        return np.sqrt(posterior_variances(self._games, self.mean, self._penalty))

    def update(self, answers: Sequence[Answer]) -> None:
        """Take in more answers."""
        n = len(self._expected)
        for answer in answers:
            self._games += wins(n, [answer]) * (3.0 / (len(answer.order) + 1))
        if answers:
            self._informed = True
            self.mean = bradley_terry(self._games, self._penalty, self._expected).round(9)

    def placement(self) -> Placement:
        """By strength; in first-stage order where no answer was read."""
        if not self._informed:
            return Placement.of(range(len(self.mean)))
        placed = Placement.by_score(dict(enumerate(self.mean.tolist())))
        return Placement(placed.tiers, placed.scores, tuple(self.deviations()[[*placed.order]].tolist()))
