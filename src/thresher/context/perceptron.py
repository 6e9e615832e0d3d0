"""A small perceptron for tables: one hidden layer of tanh units, in several copies whose outputs are averaged.

What a logistic model cannot say, that a sentence's place matters less where its passage is beside the point, takes
products of features, and a hidden layer makes them. The copies start from different random weights and are averaged
before the logistic function, which takes most of the luck out of a small sample. Fitted by Adam on the whole table with
a penalty on the squares of the weights; applied with numpy alone, row by row, so that no row depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIGITS = 5
"""Significant digits that are kept of every weight."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Averaged networks as one: `inner` [units][features], `inner_bias` [units], `outer` [units], `bias`.

    Features are standardised by `means` and `scales` and cut at four of them on either side.
    """

    inner: tuple[tuple[float, ...], ...]
    inner_bias: tuple[float, ...]
    outer: tuple[float, ...]
    direct: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities, float64[n], of features float64[n, f]; a row's does not depend on the other rows."""
        x = np.clip((features - np.array(self.means)) / np.array(self.scales), -4.0, 4.0)
        # sums over an axis of fixed length; a matrix product adds in an order that hangs on the number of rows
        hidden = np.tanh((x[:, None, :] * np.array(self.inner)[None]).sum(-1) + np.array(self.inner_bias))
        logits = (hidden * np.array(self.outer)).sum(-1) + (x * np.array(self.direct)).sum(-1) + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def fit_perceptron(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    importance: NDArray[np.float64] | None = None,
    units: int = 12,
    copies: int = 5,
    penalty: float = 3.0,
    steps: int = 400,
    seed: int = 7,
) -> Perceptron:
    """Fit `copies` networks of `units` hidden units each.

    Args:
        features: float64[n, f].
        labels: float64[n], 0 or 1.
        importance: float64[n], how much each row counts; 1 where None.
        units: hidden units of one copy.
        copies: networks that are averaged.
        penalty: on the squares of the weights, as against a loss summed over the rows; above 0.
        steps: of the optimiser.
        seed: of the first weights.
    """
    torch: Any = require("torch", extra="models", purpose="fitting a sentence head")
    means, scales = features.mean(0), features.std(0)
    scales[scales < 1e-9] = 1.0
    count = np.ones(len(labels)) if importance is None else importance
    x = torch.tensor(np.clip((features - means) / scales, -4.0, 4.0), dtype=torch.float32)
    y, weight = (torch.tensor(a, dtype=torch.float32) for a in (labels, count / count.sum()))
    n, f = features.shape
    chance = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(copies, f, units, generator=chance) * (0.5 / f**0.5),
        torch.zeros(copies, 1, units),
        torch.randn(copies, units, generator=chance) * 0.1,
        torch.zeros(copies, f),
        torch.zeros(copies),
    ]
    for part in parts:
        part.requires_grad_(True)
    inner, inner_bias, outer, direct, bias = parts
    optimizer = torch.optim.Adam(parts, lr=0.02)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / steps)
        hidden = torch.tanh(x @ inner + inner_bias)
        logits = (hidden * outer[:, None]).sum(-1) + direct @ x.T + bias[:, None]
        wide = y.expand_as(logits)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wide, reduction="none") @ weight
        size = (inner**2).sum((1, 2)) + (outer**2).sum(1) + (direct**2).sum(1)
        total = (loss + penalty / (2 * n) * size).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    def numbers(tensor: Any) -> tuple[float, ...]:
        return tuple(float(f"{v:.{_DIGITS}g}") for v in tensor.detach().double().reshape(-1).tolist())

    rows = inner.detach().transpose(1, 2).reshape(copies * units, f)
    return Perceptron(
        tuple(numbers(row) for row in rows),
        numbers(inner_bias),
        numbers(outer / copies),
        numbers(direct.mean(0)),
        float(bias.detach().mean()),
        tuple(float(v) for v in means),
        tuple(float(v) for v in scales),
    )
