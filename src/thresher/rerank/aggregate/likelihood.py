"""Bradley-Terry strengths with a Gaussian prior, and errors that know that the games of one answer hang together.

Passage i has the strength theta_i with P(i beats j) = 1/(1 + exp(theta_j - theta_i)). The strengths maximise the
log-likelihood of the games minus (penalty/2)|theta - mu|^2. The penalty keeps them finite on any data, unbeaten
passages included, where the plain model has no maximum and public code returns the input order. The maximum is unique,
found by Newton's method with conjugate gradient steps over the pairs that met.

mu, what is expected before any answer, is 0 or given. A judge's own errors about a passage do not go away by asking
again, and those of the first stage are others: `from_first_stage` is a mu that tells some of them.

Errors: with H the curvature of the penalised and L that of the plain log-likelihood, the covariance of the strengths is
c H^-1 L H^-1 (the sandwich, White 1982). c is how much more the games of one answer vary together than independent
games would. A ranking of b passages holds b(b - 1)/2 games, but under a Plackett-Luce judge its scores vary as if c =
(b + 1)/3, 7 for blocks of 20: errors that ignore it are 2.6 times too small. c is estimated from the answers (the sum
of squared scores of passages in answers over what independent games would give, Wedderburn 1974), starting from (b +
1)/3, which counts as `PRIOR` observations. A judge that repeats itself gets small errors; that it may repeat the same
mistake no answer shows: see `thresher.rerank.aggregate.confidence`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.rerank.aggregate.played import Games

MAX_NEWTON_STEPS = 100
TOLERANCE = 1e-10
PRIOR = 20.0


def bradley_terry(
    table: NDArray[np.float64], penalty: float = 0.1, expected: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Strengths under a Bradley-Terry model with a Gaussian prior.

    Args:
        table: float64[n, n], how often i beat j, as `wins` returns it.
        penalty: lambda > 0; 0.1 to 3 is sensible.
        expected: float64[n], the strengths before any game; 0 by default.

    Returns:
        float64[n] strengths; their sum is that of `expected`.
    """
    n = len(table)
    prior = np.zeros(n) if expected is None else expected
    met = table + table.T
    above, below = np.nonzero(np.triu(met, 1))
    games, won = met[above, below], table[above, below]
    enough = TOLERANCE * max(float(met.sum(axis=1).max(initial=0.0)), 1.0)

    def ahead(at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """P(above wins) of each pair, and the gradient."""
        p = _logistic(at[above] - at[below])
        surplus = won - games * p
        return p, np.bincount(above, surplus, n) - np.bincount(below, surplus, n) - penalty * (at - prior)

    theta = prior
    p, gradient = ahead(theta)
    for _ in range(MAX_NEWTON_STEPS):
        if np.abs(gradient).max(initial=0.0) < enough:
            break
        off = np.zeros((n, n))
        off[above, below] = off[below, above] = games * p * (1.0 - p)
        step = _newton_step(off.sum(axis=1) + penalty, off, gradient)
        slope, length = float((gradient * step).sum()), 1.0
        while True:  # the likelihood is concave: along the step its slope falls, and a short step stays before the top
            trial = theta + length * step
            p, gradient = ahead(trial)
            if (gradient * step).sum() >= -slope / 2 or length <= TOLERANCE:
                break
            length /= 2
        theta = trial
    return theta


def from_first_stage(n: int, weight: float) -> NDArray[np.float64]:
    """Strengths that the first-stage order suggests: `weight` times -ln(rank), with a sum of 0.

    Args:
        n: number of candidates, in first-stage order.
        weight: 0 for strengths that are all 0; 1 with a penalty of 3 is sensible.
    """
    suggested = -weight * np.log(np.arange(1.0, n + 1.0))
    result: NDArray[np.float64] = suggested - (suggested.mean() if n else 0.0)
    return result


def variances(n: int, played: Sequence[Games], theta: NDArray[np.float64], penalty: float = 0.1) -> NDArray[np.float64]:
    """float64[n] variances of the strengths `theta` over answers drawn again; infinite for a passage without games.

    Args:
        n: number of candidates.
        played: the games that the strengths were fitted to.
        theta: float64[n] strengths.
        penalty: lambda of the fit.
    """
    curvature = np.zeros((n, n))
    for some in played:
        cells = np.bincount(some.pairs(n).ravel(), _spread(some, theta)[1].ravel(), minlength=n * n)
        curvature -= cells.reshape(n, n)
    own = -curvature.sum(axis=1)
    np.fill_diagonal(curvature, own + penalty)
    inverse = _inverse(curvature)
    # The diagonal of H^-1 L H^-1 with L = H - penalty * I. For a passage without games it is 0.
    spread = np.maximum(np.diag(inverse) - penalty * (inverse**2).sum(axis=1), 0.0)
    return np.where(own > 0, dispersion(n, played, theta) * spread, np.inf)


def posterior_variances(table: NDArray[np.float64], theta: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """float64[n] variances of the strengths `theta` given the games: the curvature of the penalised likelihood.

    Args:
        table: float64[n, n], as for `bradley_terry`; scaled down if games are not independent.
        theta: float64[n], what `bradley_terry` found.
        penalty: lambda of the fit.
    """
    p = _logistic(theta[:, None] - theta[None, :])
    curvature = -(table + table.T) * p * (1.0 - p)
    np.fill_diagonal(curvature, 0.0)
    np.fill_diagonal(curvature, penalty - curvature.sum(axis=1))
    return np.diag(_inverse(curvature)).copy()


def dispersion(n: int, played: Sequence[Games], theta: NDArray[np.float64]) -> float:
    """C of the module: the variance of the scores of passages in answers, over that which independent games have."""
    squares = independent = at_random = observations = 0.0
    seen = np.zeros(n, dtype=bool)
    for some in played:
        surplus, variance = _spread(some, theta)
        squares += float((surplus.sum(axis=2) ** 2).sum())
        independent += float(variance.sum())
        at_random += float(variance.sum()) * (some.items.shape[1] + 1) / 3
        met = some.met.any(axis=2)
        observations += float(met.sum())
        seen[some.items[met]] = True
    if not independent:
        return 1.0
    known = max(observations - float(seen.sum()), 0.0)
    return (PRIOR * at_random + observations * squares) / ((PRIOR + known) * independent)


def _spread(some: Games, theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64[m, b, b] each: what was won beyond expectation, and its variance if games were independent."""
    p = _logistic(theta[some.items][:, :, None] - theta[some.items][:, None, :])
    return some.won - some.met * p, some.met * p * (1.0 - p)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of a positive definite matrix, by sweeping.

    For a hundred rows this takes as long as a call into LAPACK takes alone, and does not wait where its threads have to
    share few cores.
    """
    swept = matrix.copy()
    for row in range(len(swept)):
        pivot = swept[row, row]
        line = swept[row] / pivot
        column = swept[:, row].copy()
        swept -= column[:, None] * line[None, :]
        swept[row] = line
        swept[:, row] = -column / pivot
        swept[row, row] = 1.0 / pivot
    return swept


def _newton_step(
    diagonal: NDArray[np.float64], off: NDArray[np.float64], gradient: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve (diag(diagonal) - off) x = gradient by conjugate gradients, preconditioned with the diagonal."""
    x = np.zeros_like(gradient)
    residual = gradient.copy()
    z = residual / diagonal
    direction = z.copy()
    rho = float((residual * z).sum())
    # Far from the maximum a rough step serves as well; near it this asks for all digits.
    enough = min(1e-2, rho) ** 2 * rho
    for _ in range(2 * len(gradient)):
        if rho <= enough:
            break
        image = diagonal * direction - np.einsum("ij,j->i", off, direction)
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
