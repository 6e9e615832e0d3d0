"""How sure it is, after some answers, that a candidate is among the first k.

*What a strength can be.* Bradley-Terry strengths are fitted to all answers. For each candidate the log-likelihood of
its own games, against the others at their strengths, is computed on a grid of strengths. It is divided by c, how much
more the games of one answer vary together than independent games would (`likelihood.dispersion`).

*What the judge gets wrong each time.* Answers drawn again show how far the judge varies, not how far it errs: a model
that misjudges a passage misjudges it the same way in every answer. If a share `correlated` of the variance of its
errors stays the same, then, as errors have the variance pi^2/6 on the scale of the strengths when they are all drawn
anew, what stays has the variance pi^2/6 * correlated/(1 - correlated). The likelihood is blurred by that much.

*How the candidates are spread.* Candidates of one grade have nearly the same true strength, and the best of many equals
looks better than it is. So the distribution of the true strengths is estimated from the candidates (the mixture on the
grid that makes the answers likeliest, Kiefer and Wolfowitz 1956, by `STEPS` steps of expectation-maximisation from an
even start), and each candidate gets its posterior under it.

*Among the first k.* The threshold is where k candidates are expected above it; at the threshold itself all share alike.
The confidences add up to k.

They are as honest as `correlated` is: `eval/rerank_confidence.py` fits it and shows what comes true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import real, whole
from thresher.rerank.aggregate.likelihood import bradley_terry, dispersion
from thresher.rerank.aggregate.played import games, table_of
from thresher.rerank.plans.plan import Answer, Best, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.rerank.plans.plan import Comparison, Placement

CORRELATED = 0.9
"""Share of the variance of a judge's errors that stays the same, unless something else is known: that of the judges
fitted to recorded models, chosen by eval/rerank_confidence.py."""
POINTS = 80
BEYOND = 3.0
STEPS = 60
PENALTY = 0.1
MOST_CORRELATED = 0.99


def evidence(comparison: Comparison, answer: Answer | None) -> Answer | None:
    """What an answer says about the candidates compared; None where it compares none.

    A choice of the best says nothing about the rest, which a judge that knows no more puts into one second tier.
    """
    if answer is None or isinstance(comparison, Rate):
        return None
    if not isinstance(comparison, Best) or len(answer.tiers) != 2:
        return answer
    return Answer(answer.tiers, answer.score, min(len(answer.tiers[0]), answer.named), answer.repairs)


@dataclass(frozen=True, slots=True, eq=False)
class Believed:
    """What the answers say about each candidate's strength.

    Attributes:
        grid: float64[g], evenly spaced strengths.
        likelihood: float64[n, g], of each candidate's games at each strength; the largest of a candidate is 1.
        compared: bool[n], whether any answer compared the candidate.
    """

    grid: NDArray[np.float64]
    likelihood: NDArray[np.float64]
    compared: NDArray[np.bool_]

    @classmethod
    def after(cls, n: int, answers: Iterable[Answer | None]) -> Believed:
        """What is believed of n candidates after these answers.

        Raises:
            InputError: an answer is about a position that is not there.
        """
        played = games(n, answers)
        table = table_of(n, played)
        theta = bradley_terry(table, PENALTY)
        grid = np.linspace(theta.min(initial=0.0) - BEYOND, theta.max(initial=0.0) + BEYOND, POINTS)
        likely = _likelihood(table, theta, grid) / dispersion(n, played, theta)
        compared = np.asarray((table + table.T).any(axis=1))
        return cls(grid, np.exp(likely - likely.max(axis=1, keepdims=True)), compared)

    def confidence(self, k: int, correlated: float) -> NDArray[np.float64]:
        """float64[n]: see the function `confidence`."""
        if len(self.compared) <= k or not self.compared.any():
            return np.where(self.compared, 1.0, np.nan)
        likelihood = self.likelihood
        if correlated:
            sd = math.pi * math.sqrt(correlated / (1.0 - correlated) / 6.0)
            blur = np.exp(-0.5 * ((self.grid[:, None] - self.grid[None, :]) / sd) ** 2)
            likelihood = np.einsum("ig,gh->ih", likelihood, blur)
        return np.where(self.compared, _among_first(_posterior(likelihood), k), np.nan)


def confidence(
    n: int, answers: Iterable[Answer | None], k: int = 10, *, correlated: float = CORRELATED
) -> NDArray[np.float64]:
    """The probability that each candidate is among the first k, from the answers about them.

    Args:
        n: number of candidates.
        answers: about some of them at a time; the answer to a choice as `evidence` reads it.
        k: number of first ranks.
        correlated: share of the variance of the judge's errors that is the same in every answer, 0 to 0.99.

    Returns:
        float64[n]; nan for candidates that no answer compared. If all were compared, the sum is min(k, n).

    Raises:
        InputError: k or `correlated` is out of range, or an answer is about a position that is not there.
    """
    k = whole("k", k, 1)
    return Believed.after(n, answers).confidence(k, real("correlated", correlated, 0.0, MOST_CORRELATED))


def with_confidence(
    placement: Placement, said: Sequence[Answer | None], k: int, correlated: float = CORRELATED
) -> Placement:
    """The placement with the confidence of its ranks, from what was said (`evidence`), unless it has its own."""
    if placement.confidence is not None or all(one is None for one in said):
        return placement
    found = confidence(len(placement.order), said, k, correlated=correlated)[[*placement.order]].tolist()
    return replace(placement, confidence=tuple(None if math.isnan(one) else one for one in found))


def _likelihood(
    table: NDArray[np.float64], theta: NDArray[np.float64], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """float64[n, g]: log-likelihood of each candidate's games at each strength, the others at `theta`."""
    margin = grid[None, :] - theta[:, None]  # over each opponent
    surprise = np.maximum(-margin, 0.0) + np.log1p(np.exp(-np.abs(margin)))  # -log P(a win)
    won = np.einsum("ij,jg->ig", table, surprise)
    lost = np.einsum("ji,jg->ig", table, surprise + margin)
    found: NDArray[np.float64] = -won - lost
    return found


def _posterior(likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n, g]: the probability of each strength, with the distribution over all candidates as the prior."""
    points = likelihood.shape[1]
    prior = np.full(points, 1.0 / points)
    posterior = likelihood
    for _ in range(STEPS):
        posterior = likelihood * prior
        posterior /= posterior.sum(axis=1, keepdims=True)
        prior = posterior.mean(axis=0)
    return posterior


def _among_first(posterior: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """float64[n]: the probability of a strength above the threshold that k are expected to pass."""
    from_here = posterior.sum(axis=0)[::-1].cumsum()[::-1]
    at = int(np.flatnonzero(from_here >= min(k, from_here[0]))[-1])
    above = posterior[:, at + 1 :].sum(axis=1)
    share = (k - above.sum()) / posterior[:, at].sum()
    among: NDArray[np.float64] = np.clip(above + share * posterior[:, at], 0.0, 1.0)
    return among
