"""Fitting of the two small models that `thresher.context.sentence_head` applies: a logistic one and a perceptron.

Features are standardised first. The penalty falls on the weights of the standardised features, not on the bias.
The perceptron has one hidden layer of tanh units, in several copies that start from different random weights; their
outputs are averaged before the logistic function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.context.sentence_head import Logistic, Perceptron
from thresher.errors import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DIGITS = 5
"""Significant digits that are kept of every weight."""


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
