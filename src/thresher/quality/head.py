"""Small heads that turn columns into one score: a linear one, and a perceptron with one hidden layer.

Columns are standardised by the mean and deviation seen in fitting and clipped at four deviations, so that no single
outlier decides. Here they only predict; `thresher.quality.fit` fits them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.quality.estimator import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

CLIP = 4.0


def standardise(
    columns: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Columns with these moments taken out, cut at `CLIP` deviations."""
    return np.clip((columns - mean) / scale, -CLIP, CLIP)


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
        result: NDArray[np.float64] = standardise(columns, self.mean, self.scale) @ self.weights + self.bias
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
        x = standardise(columns, self.mean, self.scale)
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
