"""From ranked blocks to one ranking: win rate, and a regularised Bradley-Terry model.

A ranked block of b passages says who beat whom in b(b - 1)/2 pairs. *Win rate* is a passage's share of its pairs won;
on blocks of one size it orders as the mean Borda count does. *Bradley-Terry* gives passage i the strength theta_i with
P(i beats j) = 1/(1 + exp(theta_j - theta_i)), and maximises the log-likelihood minus (lambda/2)|theta|^2: the penalty
keeps the strengths finite on any data, unbeaten passages included, where the plain model has no maximum. The
maximum is unique and found by Newton's method, its steps by conjugate gradients: calls into a threaded LAPACK cost more
than a hundred passages are worth. The standard error of a strength is the one it has while the others are held fixed,
and pairs of one block are not independent, so it is smaller than the truth.

Positions that the repair rule appended to an answer were not ordered by the judge: they lose to the named ones and
say nothing about each other. Ties count half a win for both.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from thresher.rerank.asks import Answer

MAX_NEWTON_STEPS = 100
TOLERANCE = 1e-10


def wins(n: int, answers: Iterable[Answer]) -> NDArray[np.float64]:
    """Count who beat whom.

    Returns:
        float64[n, n]; entry (i, j) is how often i was placed above j, ties counted half in both directions.
    """
    table = np.zeros((n, n))
    for answer in answers:
        tier_of = np.repeat(np.arange(len(answer.tiers)), [len(tier) for tier in answer.tiers])
        items = np.array(answer.order, dtype=np.intp)
        named = np.arange(len(items)) < answer.named
        said = named[:, None] | named[None, :]
        above = (tier_of[:, None] < tier_of[None, :]) & said
        level = (tier_of[:, None] == tier_of[None, :]) & said
        np.fill_diagonal(level, False)
        table[np.ix_(items, items)] += above + 0.5 * level
    return table


def win_rate(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of its pairs each passage won, 0.5 where it was in none.

    Args:
        table: float64[n, n] as `wins` returns it.

    Returns:
        float64[n].
    """
    won, met = table.sum(axis=1), (table + table.T).sum(axis=1)
    rates = np.full(len(table), 0.5)
    np.divide(won, met, out=rates, where=met > 0)
    return rates


def bradley_terry(table: NDArray[np.float64], penalty: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strengths under a Bradley-Terry model with a Gaussian prior.

    Args:
        table: float64[n, n] as `wins` returns it.
        penalty: lambda > 0; 0.1 to 1 is sensible.

    Returns:
        float64[n] strengths (they sum to 0) and float64[n] standard errors.
    """
    n = len(table)
    theta = np.zeros(n)
    met = table + table.T
    curvature = np.full(n, penalty)
    value = _objective(theta, table, penalty)
    for _ in range(MAX_NEWTON_STEPS if n else 0):
        p = _logistic(theta[:, None] - theta[None, :])
        gradient = (table - met * p).sum(axis=1) - penalty * theta
        information = met * p * (1.0 - p)
        curvature = information.sum(axis=1) + penalty
        step = _newton_step(curvature, information, gradient)
        length = 1.0
        while (trial := _objective(theta + length * step, table, penalty)) < value and length > TOLERANCE:
            length /= 2  # the objective is concave: a shorter Newton step always climbs
        theta, value = theta + length * step, trial
        if np.abs(length * step).max(initial=0.0) < TOLERANCE:
            break
    return theta, 1.0 / np.sqrt(curvature)


def borda(items: tuple[int, ...], answers: Iterable[Answer]) -> dict[int, float]:
    """Mean number of passages each item was placed above, over the answers; tied items share the mean of their places.

    Items that were appended by repair share their places too.
    """
    sums = dict.fromkeys(items, 0.0)
    for answer in answers:
        size = len(answer.order)
        tail = answer.order[answer.named :]
        tiers = [t for tier in answer.tiers if (t := tuple(item for item in tier if item not in tail))]
        tiers += [tail] if tail else []
        for tier, end in zip(tiers, accumulate(map(len, tiers)), strict=True):
            for item in tier:
                sums[item] += size - end + (len(tier) - 1) / 2
    return sums


def _newton_step(
    diagonal: NDArray[np.float64], off: NDArray[np.float64], gradient: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve (diag(diagonal) - off) x = gradient by conjugate gradients, preconditioned with the diagonal."""
    x = np.zeros_like(gradient)
    residual = gradient.copy()
    z = residual / diagonal
    direction = z.copy()
    rho = float((residual * z).sum())
    enough = 1e-16 * rho
    for _ in range(2 * len(gradient)):
        if rho <= enough:
            break
        image = diagonal * direction - (off * direction).sum(axis=1)
        length = rho / float((direction * image).sum())
        x += length * direction
        residual -= length * image
        z = residual / diagonal
        rho, last = float((residual * z).sum()), rho
        direction = z + (rho / last) * direction
    return x


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result


def _objective(theta: NDArray[np.float64], table: NDArray[np.float64], penalty: float) -> float:
    """Penalised log-likelihood."""
    margin = theta[:, None] - theta[None, :]
    return float(-(table * np.logaddexp(0.0, -margin)).sum() - 0.5 * penalty * (theta * theta).sum())
