"""What answers say, as games between passages: the form in which every aggregator reads them.

An answer that orders b passages is b(b - 1)/2 games. A tie is half a win for both. Positions that the repair rule
appended to an answer were not ordered by the judge: they lose to the named ones, and meet each other in no game. An
answer of None, or about a single passage, holds no game.

The games of one answer are not independent: the judge made one decision, not b(b - 1)/2. Errors therefore treat an
answer, not a game, as the unit that is drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.rerank.plans.plan import Answer


@dataclass(frozen=True, slots=True, eq=False)
class Games:
    """The games of several answers about one number of passages each.

    Attributes:
        items: int64[m, b], the positions of each of m answers, best first.
        won: float64[m, b, b], entry (a, i, j) is 1 if in answer a the i-th passage is above the j-th, 0.5 if they are
            tied, and 0 otherwise or where they did not meet.
        met: float64[m, b, b], 1 where the two met and 0 elsewhere.
    """

    items: NDArray[np.int64]
    won: NDArray[np.float64]
    met: NDArray[np.float64]

    def pairs(self, n: int) -> NDArray[np.int64]:
        """int64[m, b, b]: the cell i * n + j of an n-by-n table to which each game of i against j belongs."""
        cells: NDArray[np.int64] = self.items[:, :, None] * n + self.items[:, None, :]
        return cells


def games(n: int, answers: Iterable[Answer | None]) -> list[Games]:
    """Gather answers by the number of passages they are about, in an order that is that of the content alone.

    Args:
        n: number of candidates.
        answers: in any order.

    Raises:
        InputError: an answer is about a position outside 0 ... n - 1, or about one twice.
    """
    by_size: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer is not None and (size := sum(map(len, answer.tiers))) > 1:
            by_size.setdefault(size, []).append(answer)
    return [_gathered(n, by_size[size]) for size in sorted(by_size)]


def _gathered(n: int, answers: Sequence[Answer]) -> Games:
    rows = sorted((answer.order, [len(tier) for tier in answer.tiers], answer.named) for answer in answers)
    items = np.array([order for order, _, _ in rows], dtype=np.int64)
    for order, _, _ in rows:
        if len(set(order)) < len(order) or min(order) < 0 or max(order) >= n:
            raise InputError(
                f"an answer is about the positions {order}; each must be from 0 to {n - 1}, and there once"
            )
    size = items.shape[1]
    widths = np.concatenate([np.asarray(sizes, dtype=np.int64) for _, sizes, _ in rows])
    starts = np.array([len(sizes) for _, sizes, _ in rows])
    numbers = np.arange(len(widths)) - np.repeat(np.cumsum(starts) - starts, starts)
    tier = np.repeat(numbers, widths).reshape(len(rows), size)
    named = np.arange(size)[None, :] < np.array([named for _, _, named in rows])[:, None]
    met = (named[:, :, None] | named[:, None, :]) & ~np.eye(size, dtype=bool)
    difference = tier[:, None, :] - tier[:, :, None]
    won = (0.5 + 0.5 * np.sign(difference)) * met
    return Games(items, won, met.astype(np.float64))


def table_of(n: int, played: Sequence[Games]) -> NDArray[np.float64]:
    """float64[n, n]: how often i was placed above j, a tie counted half for both."""
    total = np.zeros(n * n)
    for some in played:
        total += np.bincount(some.pairs(n).ravel(), some.won.ravel(), minlength=n * n)
    return total.reshape(n, n)


def wins(n: int, answers: Iterable[Answer | None]) -> NDArray[np.float64]:
    """Count the wins of each pair.

    Returns:
        float64[n, n]; entry (i, j) is how often i was placed above j, ties counted half in both directions.

    Raises:
        InputError: an answer is about a position outside 0 ... n - 1, or about one twice.
    """
    return table_of(n, games(n, answers))
