"""An adapter on vectors that estimates which unjudged candidates are relevant (after RRRA, arXiv 2508.11670).

Judgments are incomplete, so that some of the negatives a ranker is trained on are relevant. The adapter is a logistic
model of the vectors of query and passage (their cosine, products and absolute differences by dimension), fitted on
what is judged. Its probabilities, made for queries that it was not fitted on, are the chances that a candidate without
a judgment is a false negative: `JudgedList.weights` of one less that chance let a ranker learn less from it, and
`resampled` draws negatives by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

STEPS, RATE, PENALTY = 150, 0.02, 1e-3


@dataclass(frozen=True, slots=True)
class Adapter:
    """A logistic model of pairs of vectors.

    Attributes:
        weights: float32[1 + 2 * dimensions].
        bias: its constant.
        scale: float32[1 + 2 * dimensions], by which columns are divided.
    """

    weights: Array
    bias: float
    scale: Array

    @classmethod
    def fit(cls, queries: Array, passages: Array, relevant: NDArray[np.bool_]) -> Adapter:
        """Fit on pairs by Adam on all of them at once; relevant and other pairs weigh as much in all.

        Args:
            queries: float32[n, dimensions], unit length.
            passages: float32[n, dimensions], unit length.
            relevant: bool[n].
        """
        rows = _columns(queries, passages)
        scale = rows.std(0) + np.float32(1e-6)
        rows /= scale
        share = float(relevant.mean())
        weighing = np.where(relevant, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9)).astype(np.float32)
        weights, bias = np.zeros(rows.shape[1], np.float32), 0.0
        mean, square = np.zeros(rows.shape[1] + 1), np.zeros(rows.shape[1] + 1)
        for step in range(1, STEPS + 1):
            error = weighing * (_logistic(rows @ weights + np.float32(bias)) - relevant) / np.float32(len(rows))
            slope = np.append(rows.T @ error + PENALTY * weights, error.sum())
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
            moved = RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
            weights, bias = (weights - moved[:-1]).astype(np.float32), bias - float(moved[-1])
        return cls(weights, bias, scale)

    def probabilities(self, queries: Array, passages: Array) -> Array:
        """float32[n]: that a pair is relevant, if relevant and other pairs were as many; shapes as `fit`."""
        logits = (_columns(queries, passages) / self.scale) @ self.weights + np.float32(self.bias)
        return _logistic(logits.astype(np.float32))


def at_share(probabilities: Array, share: float) -> Array:
    """float32[n]: the same, where only `share` of the pairs is relevant and not half of them."""
    odds = probabilities / np.maximum(1 - probabilities, 1e-9) * (share / (1 - share))
    return np.asarray(odds / (1 + odds), np.float32)


def resampled(random: np.random.Generator, probabilities: Array, count: int) -> NDArray[np.int64]:
    """int64[count]: places of negatives, drawn without repetition by the chance that they are true ones."""
    true = np.maximum(1 - probabilities.astype(np.float64), 1e-9)
    return np.sort(random.choice(len(true), min(count, len(true)), replace=False, p=true / true.sum()))


def _columns(queries: Array, passages: Array) -> Array:
    product = queries * passages
    return np.concatenate([product.sum(1, keepdims=True), product, np.abs(queries - passages)], axis=1).astype(
        np.float32
    )


def _logistic(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), np.float32)
