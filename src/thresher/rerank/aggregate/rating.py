"""Elo ratings that do not depend on the order in which answers arrived.

A passage starts at 1500. The games of one answer are rated at once, from the ratings before it: for each opponent the
rating changes by `step` times (result - expected), where expected = 1/(1 + 10^((opponent - own)/400)). One sequence of
updates favours the latest answers, so the answers are played in `shuffles` random orders, each from the start, and the
ratings are averaged. The orders come from a fixed seed and are those of the sorted answers: the same answers give the
same ratings, in whatever order they arrive. The mean rating stays 1500.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.rerank.aggregate.played import Games

START = 1500.0
SCALE = np.log(10.0) / 400.0


def elo(n: int, played: Sequence[Games], step: float = 8.0, shuffles: int = 16) -> NDArray[np.float64]:
    """float64[n] ratings."""
    count = sum(len(some.items) for some in played)
    size = max((some.items.shape[1] for some in played), default=1)
    items = np.full((count, size), n)  # n pads: it has no games
    won, met = np.zeros((count, size, size)), np.zeros((count, size, size))
    start = 0
    for some in played:
        part, b = slice(start, start + len(some.items)), some.items.shape[1]
        items[part, :b], won[part, :b, :b], met[part, :b, :b] = some.items, some.won, some.met
        start += len(some.items)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(count) for _ in range(shuffles)])
    ratings = np.zeros((shuffles, n + 1))
    table = np.arange(shuffles)[:, None]
    for turn in range(count):
        now = orders[:, turn]
        here = items[now]
        own = ratings[table, here]
        expected = 0.5 + 0.5 * np.tanh(0.5 * SCALE * (own[:, :, None] - own[:, None, :]))
        ratings[table, here] = own + step * (won[now] - met[now] * expected).sum(axis=2)
    mean: NDArray[np.float64] = START + ratings[:, :n].mean(axis=0)
    return mean
