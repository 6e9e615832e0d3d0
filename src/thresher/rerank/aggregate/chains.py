"""Aggregation by random walks over the games: PageRank and rank centrality.

- *PageRank*: a walk steps from a passage to one that beat it, in proportion to the wins, with probability `damping`,
  and to any passage otherwise, or where nothing beat it. The score is n times the share of time spent at a passage, so
  1 is average. It is fooled by a passage that beat one good passage by chance; `aggregate` offers it for comparison.
- *Rank centrality* (Negahban, Oh and Shah, "Rank Centrality: Ranking from Pair-wise Comparisons", section 2.1): a walk
  steps from i to an opponent j it met with probability a(j, i)/(a(i, j) + a(j, i))/d, where a(j, i) is `prior`
  plus the wins of j over i, and d is the largest number of opponents of any passage; otherwise it stays. The score is
  the logarithm of n times the share of time, which for a true Bradley-Terry model converges to its strengths. Passages
  that no chain of games connects cannot be compared: each connected part keeps the time it would have if all were
  equal.

Both are computed without random numbers: PageRank by iteration, rank centrality exactly (Grassmann, Taksar and Heyman's
elimination, which subtracts nothing and so loses no digits).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.rerank.aggregate.played import table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.rerank.aggregate.played import Games

ENOUGH = 1e-13
SMALLEST = 1e-300


def pagerank(n: int, played: Sequence[Games], damping: float = 0.85) -> NDArray[np.float64]:
    """float64[n]: n times the share of time that the walk spends at each passage."""
    return walk(table_of(n, played).T, damping)  # entry (i, j): how often i lost to j


def walk(
    weights: NDArray[np.float64], damping: float, restarts: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """PageRank of a weighted graph: n times the share of time that the walk spends at each node, float64[n].

    Args:
        weights: float64[n, n], of the step from i to j, not negative.
        damping: probability of a step, 0 to 1, not 1.
        restarts: float64[n], the shares of the other moves, and of those from where no step leads; equal by default.
    """
    n = len(weights)
    leaving = weights.sum(axis=1)
    steps = np.divide(weights, leaving[:, None], out=np.zeros((n, n)), where=leaving[:, None] > 0)
    ending = leaving == 0
    towards = np.full(n, 1.0) if restarts is None else n * restarts / max(float(restarts.sum()), SMALLEST)
    time = np.full(n, 1.0)
    change = np.inf
    while change > ENOUGH * max(n, 1):
        moved = np.einsum("i,ij->j", time, steps)
        following = damping * (moved + towards * (time[ending].sum() / max(n, 1))) + (1.0 - damping) * towards
        change, time = float(np.abs(following - time).sum()), following
    return time


def rank_centrality(n: int, played: Sequence[Games], prior: float = 1.0) -> NDArray[np.float64]:
    """float64[n]: the logarithm of n times the share of time that the walk spends at each passage."""
    table = table_of(n, played)
    met = (table + table.T) > 0
    won = table + prior
    # entry (i, j): the rate from i to j. Dividing by d changes no share of time, and so is left out.
    rates = np.where(met, won.T / (won + won.T), 0.0)
    scores = np.zeros(n)
    for part in _parts(met):
        time = _stationary(rates[np.ix_(part, part)])
        scores[part] = np.log(np.maximum(time * len(part), SMALLEST))
    return scores


def _parts(met: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The connected parts of an undirected graph."""
    left = np.ones(len(met), dtype=bool)
    parts = []
    while left.any():
        inside = np.zeros(len(met), dtype=bool)
        edge = inside.copy()
        edge[np.argmax(left)] = True
        while edge.any():
            inside |= edge
            edge = met[edge].any(axis=0) & ~inside
        parts.append(np.flatnonzero(inside))
        left &= ~inside
    return parts


def _stationary(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[m]: shares of time of the chain that leaves i for j at `rates`, which connect all m states."""
    left = rates.copy()
    size = len(left)
    for last in range(size - 1, 0, -1):
        left[:last, last] /= left[last, :last].sum()
        left[:last, :last] += left[:last, last, None] * left[None, last, :last]
        np.fill_diagonal(left[:last, :last], 0.0)
    time = np.zeros(size)
    time[0] = 1.0
    for state in range(1, size):
        time[state] = (time[:state] * left[:state, state]).sum()
    shares: NDArray[np.float64] = time / time.sum()
    return shares
