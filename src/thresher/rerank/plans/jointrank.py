"""JointRank: overlapping blocks ordered in parallel, then one ranking from all their pairs.

Algorithm: JointRank (Dedov, ICTIR 2025, arXiv 2506.22262): overlapping blocks after a design of `designs.py`, all in
one batch, so the depth is 1. Optionally the top of that ranking is ordered again in several shuffled windows at once
(depth 2), combined by Borda counts: under a noisy judge, comparing the top again is worth more than covering the tail
better. No exactness is promised; eval/results/rerank-plans.md has the measured regret.

Aggregation: a ranked block of b passages gives the winner of b(b - 1)/2 pairs. *Win rate* is a passage's share of its
pairs won; on blocks of one size it orders as the mean Borda count does. *Bradley-Terry* (the default) gives passage i
the strength theta_i with P(i beats j) = 1/(1 + exp(theta_j - theta_i)), and maximises the log-likelihood minus
(lambda/2)|theta|^2. The penalty keeps the strengths finite on any data, unbeaten passages included, where the plain
model has no maximum and public code returns the input order. The maximum is unique and found by Newton's method with
conjugate gradient steps, which for a hundred passages is faster than calls into a threaded LAPACK. The standard error
of a strength is conditional on the others, and pairs of one block are not independent, so it is smaller than the
truth.

Positions that the repair rule appended to an answer were not ordered by the judge: they lose to the named ones and
give no information about each other. Ties count half a win for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.checks import real, whole
from thresher.errors import InputError
from thresher.rerank.plans.designs import DESIGNS, Design, blocks
from thresher.rerank.plans.plan import Order, Placement, Spent, Steps, Stop, setting

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.rerank.plans.plan import Answer

MAX_NEWTON_STEPS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class JointRank:
    """Order overlapping blocks in parallel, aggregate, and optionally order the top again.

    Attributes:
        block: b, passages in one comparison, at least 2.
        replicas: r, how many blocks a passage is in, at least 1; `designs.py` says how exactly each design keeps it.
        aggregation: "bradley-terry" or "win-rate".
        penalty: lambda of the Bradley-Terry model.
        windows: how many shuffled windows over the top follow, 0 for none. A single window is shown in the order
            found so far.
        head: how many passages at the top such a window holds.
        design: which passages share a block, a name in `designs.py`.
    """

    block: int = 20
    replicas: int = 4
    aggregation: Literal["bradley-terry", "win-rate"] = "bradley-terry"
    penalty: float = 0.1
    windows: int = 0
    head: int = 20
    design: Design = "equi-replicate"

    def __post_init__(self) -> None:
        whole("block", self.block, 2)
        whole("head", self.head, 2)
        setting("replicas", self.replicas, 1)
        setting("windows", self.windows, 0)
        real("penalty", self.penalty, 1e-9, 1e9)
        if self.aggregation not in ("bradley-terry", "win-rate"):
            raise InputError(f"aggregation={self.aggregation!r} is neither 'bradley-terry' nor 'win-rate'")
        if self.design not in DESIGNS:
            raise InputError(f"design={self.design!r} is unknown; choose from {', '.join(DESIGNS)}")

    @property
    def name(self) -> str:
        """`jointrank` with its settings."""
        rule = f"penalty={self.penalty}" if self.aggregation == "bradley-terry" else "aggregation=win-rate"
        windows = f",windows={self.windows},head={self.head}" if self.windows else ""
        design = "" if self.design == "equi-replicate" else f",design={self.design}"
        return f"jointrank:block={self.block},replicas={self.replicas},{rule}{windows}{design}"

    def bound(self, n: int, k: int) -> Spent:
        """The blocks of the design, and the windows."""
        if n < 2:
            return Spent()
        sizes = [len(block) for block in blocks(n, self.block, self.replicas, Random(0), self.design)]  # noqa: S311
        return Spent(len(sizes), sum(sizes), 1, len(sizes)) + Spent.alike(self.windows, min(self.head, n), 1)

    def exact_top(self, n: int, k: int) -> int:
        """All if every block holds all candidates, else none."""
        return n if n <= self.block else 0

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Order all blocks at once, aggregate, and order the top again."""
        if n < 2:
            return Placement.of(range(n))
        try:
            answers = yield [Order(block) for block in blocks(n, self.block, self.replicas, rng, self.design)]
        except Stop:
            return Placement.of(range(n))
        placement = self._aggregate(n, [answer for answer in answers if answer is not None])
        if not self.windows:
            return placement
        head = placement.order[: min(self.head, n)]
        shown = [head] if self.windows == 1 else [tuple(rng.sample(head, len(head))) for _ in range(self.windows)]
        try:
            again = yield [Order(window) for window in shown]
        except Stop:
            return placement
        return _with_head(placement, head, [answer for answer in again if answer is not None])

    def _aggregate(self, n: int, answers: Sequence[Answer]) -> Placement:
        if not answers:
            return Placement.of(range(n))
        table = wins(n, answers)
        if self.aggregation == "win-rate":
            return Placement.by_score(dict(enumerate(win_rate(table).tolist())))
        strengths, errors = bradley_terry(table, self.penalty)
        # Passages with the same wins have strengths that differ by rounding alone; 9 digits make them ties.
        placement = Placement.by_score(dict(enumerate(strengths.round(9).tolist())))
        return Placement(placement.tiers, placement.scores, tuple(float(errors[item]) for item in placement.order))


def jointrank_head(
    block: int = 20,
    replicas: int = 2,
    aggregation: Literal["bradley-terry", "win-rate"] = "bradley-terry",
    penalty: float = 0.1,
    windows: int = 5,
    head: int = 20,
    design: Design = "equi-replicate",
) -> JointRank:
    """JointRank with two replicas and five shuffled windows over the top 20."""
    return JointRank(block, replicas, aggregation, penalty, windows, head, design)


def _with_head(placement: Placement, head: tuple[int, ...], answers: Sequence[Answer]) -> Placement:
    """The placement with its top reordered by the Borda count of the windows, ties in the order before."""
    if not answers:
        return placement
    counts = borda(head, answers)
    place = {item: rank for rank, item in enumerate(head)}
    order = sorted(head, key=lambda item: (-counts[item], place[item]))
    return Placement.of((*order, *placement.order[len(head) :]))


def wins(n: int, answers: Iterable[Answer]) -> NDArray[np.float64]:
    """Count the wins of each pair.

    Returns:
        float64[n, n]; entry (i, j) is how often i was placed above j, ties counted half in both directions.
    """
    table = np.zeros((n, n))
    for answer in answers:
        tier_of = np.repeat(np.arange(len(answer.tiers)), [len(tier) for tier in answer.tiers])
        items = np.array(answer.order, dtype=np.intp)
        named = np.arange(len(items)) < answer.named
        ordered = named[:, None] | named[None, :]
        above = (tier_of[:, None] < tier_of[None, :]) & ordered
        level = (tier_of[:, None] == tier_of[None, :]) & ordered
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
