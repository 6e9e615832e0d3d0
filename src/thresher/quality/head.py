"""Small heads that turn columns into one score: ridge, logistic, and a one-layer perceptron, all in numpy.

Columns are standardised by the mean and deviation seen in fitting and clipped at four deviations, so that no single
outlier decides; weights are found exactly (ridge), by Newton's method (logistic), or by Adam (perceptron, fixed seed).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import InputError
from thresher.quality.estimator import digest, quantiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CLIP = 4.0


def normal_scores(column: NDArray[Any]) -> NDArray[np.float64]:
    """A column replaced by the normal quantiles of its ranks (ties share one), float64[n]: outliers lose their pull."""
    shares = quantiles(np.asarray(column))
    values, inverse = np.unique(np.clip(shares, 1e-3, 1 - 1e-3), return_inverse=True)
    normal = NormalDist()
    table = np.array([normal.inv_cdf(float(v)) for v in values])
    result: NDArray[np.float64] = table[inverse]
    return result


def _standardise(
    columns: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.clip((columns - mean) / scale, -CLIP, CLIP)


def _moments(columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if columns.ndim != 2 or not columns.shape[0]:
        raise InputError(f"a head is fitted on a table of columns, not on an array of shape {columns.shape}")
    if not np.isfinite(columns).all():
        raise InputError("a column holds a value that is not finite")
    deviation = columns.std(axis=0)
    return columns.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """weights · standardised columns + bias.

    Attributes:
        mean, scale, weights: float64[columns].
        bias: added to every score.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: float = 0.0

    def predict(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[n] of float64[n, columns]."""
        result: NDArray[np.float64] = _standardise(columns, self.mean, self.scale) @ self.weights + self.bias
        return result

    @property
    def fingerprint(self) -> str:
        """Of all numbers."""
        return digest("linear-head", 1, self.mean, self.scale, self.weights, self.bias)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads."""
        return {
            "kind": "linear",
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "bias": self.bias,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LinearHead:
        """Read what `as_json` wrote."""
        arrays = [np.array(document[key], np.float64) for key in ("mean", "scale", "weights")]
        return cls(arrays[0], arrays[1], arrays[2], float(document["bias"]))

    @classmethod
    def ridge(
        cls,
        blocks: Sequence[NDArray[np.float64]],
        targets: Sequence[NDArray[np.float64]],
        *,
        ridge: float = 0.05,
    ) -> LinearHead:
        """Least squares with a penalty, over blocks that count alike whatever their length.

        Each block is centred by itself (a block has its own base rate); the penalty is relative to unit variance.
        """
        mean, scale = _moments(np.concatenate(blocks))
        width = len(mean)
        gram, moment = np.zeros((width, width)), np.zeros(width)
        for block, target in zip(blocks, targets, strict=True):
            x = _standardise(block, mean, scale)
            x = x - x.mean(axis=0)
            y = target - target.mean()
            gram += x.T @ x / len(x) / len(blocks)
            moment += x.T @ y / len(x) / len(blocks)
        return cls(mean, scale, np.asarray(np.linalg.solve(gram + ridge * np.eye(width), moment), np.float64))

    @classmethod
    def logistic(
        cls,
        columns: NDArray[np.float64],
        labels: NDArray[np.bool_],
        *,
        weights: NDArray[np.float64] | None = None,
        penalty: float = 1.0,
        steps: int = 50,
    ) -> LinearHead:
        """Logistic regression by Newton's method; `penalty` is that on half the squared weights, in examples."""
        mean, scale = _moments(columns)
        if labels.all() or not labels.any():
            raise InputError("all labels are the same: there is nothing to tell apart")
        x = np.concatenate([_standardise(columns, mean, scale), np.ones((len(columns), 1))], axis=1)
        y = labels.astype(np.float64)
        sample = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
        ridge = np.full(x.shape[1], penalty)
        ridge[-1] = 1e-9
        w = np.zeros(x.shape[1])
        for _ in range(steps):
            p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
            gradient = x.T @ (sample * (p - y)) + ridge * w
            hessian = (x * (sample * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
            step = np.linalg.solve(hessian, gradient)
            w -= step
            if np.abs(step).max() < 1e-8:
                break
        return cls(mean, scale, w[:-1], float(w[-1]))


@dataclass(frozen=True, slots=True)
class PerceptronHead:
    """One hidden layer of ReLU units over standardised columns.

    Attributes:
        mean, scale: float64[columns].
        inner: float64[columns + 1, hidden]; the last row is the bias.
        outer: float64[hidden + 1]; the last entry is the bias.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    inner: NDArray[np.float64]
    outer: NDArray[np.float64]

    def predict(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[n] of float64[n, columns]."""
        x = _standardise(columns, self.mean, self.scale)
        hidden = np.maximum(x @ self.inner[:-1] + self.inner[-1], 0)
        result: NDArray[np.float64] = hidden @ self.outer[:-1] + self.outer[-1]
        return result

    @property
    def fingerprint(self) -> str:
        """Of all numbers."""
        return digest("perceptron-head", 1, self.mean, self.scale, self.inner, self.outer)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads."""
        names = ("mean", "scale", "inner", "outer")
        return {"kind": "perceptron", **{name: getattr(self, name).tolist() for name in names}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PerceptronHead:
        """Read what `as_json` wrote."""
        mean, scale, inner, outer = (np.array(document[key], np.float64) for key in ("mean", "scale", "inner", "outer"))
        return cls(mean, scale, inner, outer)

    @classmethod
    def logistic(
        cls,
        columns: NDArray[np.float64],
        labels: NDArray[np.bool_],
        *,
        hidden: int = 16,
        epochs: int = 60,
        rate: float = 3e-3,
        decay: float = 1e-3,
        batch: int = 256,
        seed: int = 0,
    ) -> PerceptronHead:
        """Binary cross-entropy by Adam with decoupled weight decay."""
        mean, scale = _moments(columns)
        if labels.all() or not labels.any():
            raise InputError("all labels are the same: there is nothing to tell apart")
        x = np.concatenate([_standardise(columns, mean, scale), np.ones((len(columns), 1))], axis=1)
        y = labels.astype(np.float64)
        rng = np.random.default_rng(seed)
        inner = rng.normal(0, (2 / x.shape[1]) ** 0.5, (x.shape[1], hidden))
        outer = np.append(rng.normal(0, hidden**-0.5, hidden), 0.0)
        adam = _Adam([inner, outer], rate, decay)
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for first in range(0, len(x), batch):
                rows = order[first : first + batch]
                pre = x[rows] @ inner
                act = np.concatenate([np.maximum(pre, 0), np.ones((len(rows), 1))], axis=1)
                error = (1 / (1 + np.exp(-np.clip(act @ outer, -30, 30))) - y[rows]) / len(rows)
                back = np.outer(error, outer[:-1]) * (pre > 0)
                adam.step([x[rows].T @ back, act.T @ error])
        return cls(mean, scale, inner, outer)


class _Adam:
    """Kingma and Ba (ICLR 2015), with weight decay applied to the weights themselves."""

    def __init__(self, parameters: list[NDArray[np.float64]], rate: float, decay: float) -> None:
        self.parameters, self.rate, self.decay, self.count = parameters, rate, decay, 0
        self.first = [np.zeros_like(p) for p in parameters]
        self.second = [np.zeros_like(p) for p in parameters]

    def step(self, gradients: list[NDArray[np.float64]]) -> None:
        """Change the parameters in place."""
        self.count += 1
        for parameter, gradient, mean, square in zip(self.parameters, gradients, self.first, self.second, strict=True):
            mean[...] += 0.1 * (gradient - mean)
            square[...] += 0.001 * (gradient * gradient - square)
            parameter[...] *= 1 - self.rate * self.decay
            step = (mean / (1 - 0.9**self.count)) / (np.sqrt(square / (1 - 0.999**self.count)) + 1e-8)
            parameter[...] -= self.rate * step
