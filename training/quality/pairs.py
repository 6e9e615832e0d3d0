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
from sklearn.linear_model import SGDClassifier

from thresher.errors import ConfigError, InputError
from thresher.quality.auc import auc
from thresher.quality.fit import logistic_head
from thresher.quality.fitted import moments, standardise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.quality.lexical import CollectionStatistics

PAIR_SCORES = ("el2n", "grand", "forgetting", "variance")
_EPOCHS = 12
_EARLY = 3


def score_pairs(
    columns: NDArray[np.float64], labels: NDArray[np.bool_], *, seeds: Sequence[int] = (0, 1, 2), rate: float = 0.001
) -> dict[str, NDArray[np.float64]]:
    """The training-dynamics scores of all pairs, each float64[n], by name.

    A logistic model is trained by stochastic gradient descent for a few epochs a seed, and watched.

    Raises:
        InputError: the table is empty, or the labels are all alike.
    """
    if not len(columns) or labels.all() or not labels.any():
        raise InputError(f"{len(columns)} pairs with {int(labels.sum())} wanted ones: there is nothing to tell apart")
    x = standardise(columns, *moments(columns))
    norms = np.sqrt((x**2).sum(axis=1) + 1)  # with the constant
    total = {name: np.zeros(len(x)) for name in PAIR_SCORES}
    for seed in seeds:
        errors = _training(x, labels, seed, rate)  # [epochs, n]: p - y
        total["el2n"] += np.abs(errors[:_EARLY]).mean(axis=0)
        total["grand"] += np.abs(errors[:_EARLY]).mean(axis=0) * norms
        right = np.abs(errors) < 0.5
        lost = (right[:-1] & ~right[1:]).sum(axis=0)
        total["forgetting"] += np.where(right.any(axis=0), lost, _EPOCHS + 1)
        total["variance"] += errors.var(axis=0) * norms**2
    return {name: values / len(seeds) for name, values in total.items()}


def _training(x: NDArray[np.float64], labels: NDArray[np.bool_], seed: int, rate: float) -> NDArray[np.float64]:
    """Errors p - y of every pair after each epoch, float64[epochs, n]."""
    start = np.random.default_rng(seed).normal(0, 0.1, (1, x.shape[1]))
    model = SGDClassifier(
        loss="log_loss", alpha=0.0, learning_rate="constant", eta0=rate, random_state=np.random.RandomState(seed),
        max_iter=1, tol=None, warm_start=True,
    )  # fmt: skip
    errors = np.empty((_EPOCHS, len(x)))
    for epoch in range(_EPOCHS):
        model.fit(x, labels, **({"coef_init": start, "intercept_init": 0.0} if epoch == 0 else {}))
        errors[epoch] = model.predict_proba(x)[:, 1] - labels
    return errors


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
        return auc(logistic_head(columns[rows], labels[rows], penalty=3.0).predict(test[0]), test[1])

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
