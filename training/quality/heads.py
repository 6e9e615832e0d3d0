"""Ridge regression over blocks of passages, for `thresher.quality.fitted.LinearHead`."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import Ridge

from thresher.quality.estimator import quantiles
from thresher.quality.fitted import LinearHead, moments, standardise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def normal_scores(column: NDArray[Any]) -> NDArray[np.float64]:
    """A column replaced by the normal quantiles of its ranks (ties share one), float64[n]: outliers lose their pull."""
    shares = quantiles(np.asarray(column))
    values, inverse = np.unique(np.clip(shares, 1e-3, 1 - 1e-3), return_inverse=True)
    normal = NormalDist()
    table = np.array([normal.inv_cdf(float(v)) for v in values])
    result: NDArray[np.float64] = table[inverse]
    return result


def ridge_weights(
    blocks: Sequence[NDArray[np.float64]],
    targets: Sequence[NDArray[np.float64]],
    *,
    ridge: float,
    weights: Sequence[float] | None = None,
) -> NDArray[np.float64]:
    """Weights float64[columns] by least squares with a penalty, over blocks that count by their weight, not length.

    Args:
        blocks: float64[n, columns] each, standardised; each is centred by itself (a block has its own base rate).
        targets: float64[n] each.
        ridge: the penalty, relative to columns of unit variance.
        weights: of the blocks; alike where None.
    """
    shares = np.ones(len(blocks)) if weights is None else np.asarray(weights, np.float64)
    shares = shares / shares.sum()
    count = np.concatenate([np.full(len(x), w / len(x)) for x, w in zip(blocks, shares, strict=True)])
    x = np.concatenate([block - block.mean(axis=0) for block in blocks])
    y = np.concatenate([target - target.mean() for target in targets])
    model = Ridge(alpha=ridge, fit_intercept=False, solver="cholesky").fit(x, y, sample_weight=count)
    return np.asarray(model.coef_, np.float64)


def ridge_head(
    blocks: Sequence[NDArray[np.float64]], targets: Sequence[NDArray[np.float64]], *, ridge: float = 0.05
) -> LinearHead:
    """A linear head by `ridge_weights`, standardising by the moments of all blocks together."""
    mean, scale = moments(np.concatenate(blocks))
    standard = [standardise(block, mean, scale) for block in blocks]
    return LinearHead(mean, scale, ridge_weights(standard, targets, ridge=ridge))
