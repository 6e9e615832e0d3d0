"""Penalised logistic regression by Newton's method, for the two small models of this room.

Features are standardised first. The penalty falls on the weights of the standardised features, not on the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Logistic:
    """A logistic model: `weights`, `means` and `scales` have one number for each feature."""

    weights: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities, float64[n], of features float64[n, f]; a row's does not depend on the other rows."""
        x = (features - np.array(self.means)) / np.array(self.scales)
        logits = (x * np.array(self.weights)).sum(-1) + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def fit_logistic(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    penalty: float = 1.0,
    importance: NDArray[np.float64] | None = None,
    iterations: int = 50,
) -> Logistic:
    """Fit by Newton's method.

    Args:
        features: float64[n, f].
        labels: float64[n], 0 or 1.
        penalty: on the squares of the weights; above 0.
        importance: float64[n], how much each row counts; 1 where None.
        iterations: Newton steps at most.
    """
    means, scales = features.mean(0), features.std(0)
    scales[scales == 0] = 1.0
    count = np.ones(len(labels)) if importance is None else importance
    x = np.column_stack([(features - means) / scales, np.ones(len(labels))])
    ridge: Any = np.diag([penalty] * features.shape[1] + [1e-6])
    w = np.zeros(x.shape[1])
    for _ in range(iterations):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        curvature = x.T @ (x * (count * p * (1 - p))[:, None]) + ridge
        step = np.linalg.solve(curvature, x.T @ (count * (labels - p)) - ridge @ w)
        w += step
        if np.abs(step).max() < 1e-8:
            break
    numbers = (tuple(float(v) for v in part) for part in (w[:-1], means, scales))
    weights, centre, scale = numbers
    return Logistic(weights, float(w[-1]), centre, scale)
