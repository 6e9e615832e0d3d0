"""Aggregation by counting: win rate, Borda and Copeland.

- *Win rate*: the share of its games a passage won. On blocks of one size it orders as Borda does.
- *Borda*: in each answer a passage gets the share of the others placed below it (ties, and what was appended by repair,
  share the mean of their places); the score is the mean over its answers, so that an answer counts the same whatever
  its size.
- *Copeland*: the share of the opponents met that a passage beat more often than it lost to them; level counts half.

A passage without games scores 0.5.

Standard errors of win rate and Borda treat each answer as one observation of a passage's share. A passage is in few
answers, so its own variance is a poor estimate: it is moderated towards the variance pooled over all passages, which
counts as `PRIOR` further degrees of freedom (Smyth 2004, equation 1, with a fixed prior). Without a passage that is in
two answers there is nothing to estimate from, and no errors are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.rerank.aggregate.played import games, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.rerank.aggregate.played import Games
    from thresher.rerank.plans.plan import Answer

PRIOR = 4.0


def win_rate(n: int, played: Sequence[Games]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """float64[n] shares of games won, and float64[n] standard errors or None."""
    parts = [(some.items, some.won.sum(axis=2), some.met.sum(axis=2)) for some in played]
    return _mean(n, [(items, _divided(won, met, 0.0), met) for items, won, met in parts])


def borda(n: int, played: Sequence[Games]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """float64[n] mean shares of the others placed below, and float64[n] standard errors or None."""
    parts = []
    for some in played:
        others = some.items.shape[1] - 1
        appended = others - some.met.sum(axis=2)  # those not met share their places
        parts.append((some.items, (some.won.sum(axis=2) + appended / 2) / others, np.ones(some.items.shape)))
    return _mean(n, parts)


def copeland(n: int, played: Sequence[Games]) -> NDArray[np.float64]:
    """float64[n] shares of the opponents met that were beaten, level ones counted half."""
    table = table_of(n, played)
    met = (table + table.T) > 0
    beaten = (0.5 + 0.5 * np.sign(table - table.T)) * met
    return _divided(beaten.sum(axis=1), met.sum(axis=1).astype(np.float64), 0.5)


def borda_counts(items: tuple[int, ...], answers: Iterable[Answer]) -> dict[int, float]:
    """The Borda score of each item over answers that are about all of `items`."""
    place = {item: number for number, item in enumerate(items)}
    renamed = max(items, default=-1) + 1
    scores, _ = borda(renamed, games(renamed, answers))
    return {item: float(scores[item]) for item in place}


def _mean(
    n: int, parts: Sequence[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Weighted means of the shares that answers gave to passages: (positions, shares, weights), and their errors."""
    items, shares, weights = (
        np.concatenate([part[at].ravel() for part in parts]) if parts else np.zeros(0) for at in range(3)
    )
    items = items[weights > 0].astype(np.int64)
    shares, weights = shares[weights > 0], weights[weights > 0]

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(items, values, minlength=n).astype(np.float64)

    weight, count = total(weights), total(np.ones(len(items)))
    means = _divided(total(weights * shares), weight, 0.5)
    freedom = np.maximum(count - 1.0, 0.0)
    if not freedom.sum():
        return means, None
    # scaled so that for equal weights it is the sum of squares
    squares = total(weights * (shares - means[items]) ** 2) * _divided(count, weight, 0.0)
    pooled = squares.sum() / freedom.sum()
    variance = (PRIOR * pooled + squares) / (PRIOR + freedom)
    spread = _divided(total(weights**2), weight**2, np.inf)
    return means, np.sqrt(variance * spread) if pooled else np.where(count > 0, 0.0, np.inf)


def _divided(above: NDArray[np.float64], below: NDArray[np.float64], otherwise: float) -> NDArray[np.float64]:
    """Above / below, and `otherwise` where below is 0."""
    result = np.full(above.shape, otherwise)
    np.divide(above, below, out=result, where=below > 0)
    return result
