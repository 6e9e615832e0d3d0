"""Which training pairs an estimator should be fitted on: scores of pairs, and pruning by them against random pruning.

For a pair with columns x and label y and the model's probability p, over several short trainings (seeds) or the epochs
of one:

- `el2n`        |p - y| early in training, mean over seeds (Paul, Ganguli and Dziugaite, NeurIPS 2021)
- `grand`       norm of the loss gradient |p - y| * |(x, 1)| early in training, mean over seeds (same paper)
- `forgetting`  how often the pair goes from right to wrong between epochs (Toneva et al., ICLR 2019); a pair that was
                never learnt counts one more than the epochs
- `variance`    variance of the loss gradient over epochs (VoG: Agarwal, D'souza and Hooker, CVPR 2022), summed over its
                entries
- `perplexity`  of the text under a unigram model of all texts: exp of minus the mean log-probability

High scores are hard or odd pairs. Which end to keep is a query of how much data there is (Sorscher et al., NeurIPS
2022: hard ones with much, easy ones with little), so `compare_pruning` measures both ends and the middle beside random.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, InputError
from thresher.quality.auc import auc
from thresher.quality.head import CLIP, LinearHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.quality.lexical import CollectionStatistics

PAIR_SCORES = ("el2n", "grand", "forgetting", "variance")
_EPOCHS = 12
_EARLY = 3
_BATCH = 64


def score_pairs(
    columns: NDArray[np.float64], labels: NDArray[np.bool_], *, seeds: Sequence[int] = (0, 1, 2), rate: float = 0.05
) -> dict[str, NDArray[np.float64]]:
    """The training-dynamics scores of all pairs, each float64[n], by name.

    A logistic model is trained by stochastic gradient descent for a few epochs a seed, and watched.

    Raises:
        InputError: the table is empty, or the labels are all alike.
    """
    if not len(columns) or labels.all() or not labels.any():
        raise InputError(f"{len(columns)} pairs with {int(labels.sum())} wanted ones: there is nothing to tell apart")
    deviation = columns.std(axis=0)
    x = np.clip((columns - columns.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0), -CLIP, CLIP)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = labels.astype(np.float64)
    norms = np.linalg.norm(x, axis=1)
    total = {name: np.zeros(len(x)) for name in PAIR_SCORES}
    for seed in seeds:
        errors = _training(x, y, seed, rate)  # [epochs, n]: p - y
        total["el2n"] += np.abs(errors[:_EARLY]).mean(axis=0)
        total["grand"] += np.abs(errors[:_EARLY]).mean(axis=0) * norms
        right = np.abs(errors) < 0.5
        lost = (right[:-1] & ~right[1:]).sum(axis=0)
        total["forgetting"] += np.where(right.any(axis=0), lost, _EPOCHS + 1)
        total["variance"] += errors.var(axis=0) * norms**2
    return {name: values / len(seeds) for name, values in total.items()}


def _training(x: NDArray[np.float64], y: NDArray[np.float64], seed: int, rate: float) -> NDArray[np.float64]:
    """Errors p - y of every pair after each epoch, float64[epochs, n]."""
    rng = np.random.default_rng(seed)
    w = np.asarray(rng.normal(0, 0.1, x.shape[1]), np.float64)
    errors = np.empty((_EPOCHS, len(x)))
    for epoch in range(_EPOCHS):
        order = rng.permutation(len(x))
        for first in range(0, len(x), _BATCH):
            rows = order[first : first + _BATCH]
            w = w - (rate / len(rows)) * (x[rows].T @ (_sigmoid(x[rows] @ w) - y[rows]))
        errors[epoch] = _sigmoid(x @ w) - y
    return errors


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    p: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
    return p


def text_perplexity(texts: Sequence[str], statistics: CollectionStatistics) -> NDArray[np.float64]:
    """Unigram perplexity of each text, float64[n]; higher is odder."""
    from thresher.quality.lexical import LEXICAL, lexical_columns

    mean_log = lexical_columns(texts, statistics)[:, LEXICAL.index("unigram")]
    perplexity: NDArray[np.float64] = np.exp(-np.maximum(mean_log, -50.0))
    return perplexity


def compare_pruning(
    train: tuple[NDArray[np.float64], NDArray[np.bool_]],
    test: tuple[NDArray[np.float64], NDArray[np.bool_]],
    scores: dict[str, NDArray[np.float64]],
    keep: float,
    *,
    draws: int = 20,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """AUC on `test` of a linear head fitted on a part of `train`, for each score and each end, beside random parts.

    Args:
        train: columns float64[n, c] and labels bool[n] the scores belong to.
        test: columns float64[m, c] and labels bool[m] to measure on.
        scores: by name, float64[n], one a training pair.
        keep: fraction of the training pairs to fit on.
        draws: random parts.
        seed: of the draws.

    Returns:
        Rows with `score`, `kept` (`easy`, `hard`, `middle`, `random`, `all`), `auc`; for random also `lo` and `hi`, the
        5 % and 95 % quantiles of the draws.

    Raises:
        ConfigError: `keep` is not a fraction.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"keep is {keep}, expected a fraction above 0 and up to 1")
    columns, labels = train
    n, wanted = len(labels), max(round(keep * len(labels)), 2)

    def measure(rows: NDArray[np.int64]) -> float:
        if labels[rows].all() or not labels[rows].any():
            return 0.5
        return auc(LinearHead.logistic(columns[rows], labels[rows], penalty=3.0).predict(test[0]), test[1])

    everything = np.arange(n)
    rows: list[dict[str, Any]] = [{"score": "none", "kept": "all", "auc": measure(everything)}]
    rng = np.random.default_rng(seed)
    drawn = [measure(rng.choice(n, wanted, replace=False)) for _ in range(draws)]
    low, high = np.percentile(drawn, [5, 95])
    rows.append({"score": "none", "kept": "random", "auc": float(np.mean(drawn)), "lo": float(low), "hi": float(high)})
    for name, values in scores.items():
        order = np.argsort(values, kind="stable")
        start = (n - wanted) // 2
        ends = {"easy": order[:wanted], "hard": order[n - wanted :], "middle": order[start : start + wanted]}
        for kept, part in ends.items():
            rows.append({"score": name, "kept": kept, "auc": measure(part)})
    return rows
