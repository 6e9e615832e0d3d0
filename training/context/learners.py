"""Fitting of the two small models that `thresher.context.sentence_head` applies: a logistic one and a perceptron.

Features are standardised first. The penalty falls on the weights of the standardised features, not on the bias.
The perceptron has one hidden layer of tanh units, in several copies that start from different random weights; their
outputs are averaged before the logistic function, which takes most of the luck out of a small sample.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from thresher.context.sentence_head import Logistic, Perceptron

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_DIGITS = 5
"""Significant digits that are kept of every weight of a perceptron."""


def fit_logistic(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    penalty: float = 1.0,
    importance: NDArray[np.float64] | None = None,
) -> Logistic:
    """Fit a logistic model.

    Args:
        features: float64[n, f].
        labels: float64[n], 0 or 1.
        penalty: of half the squares of the weights, against a loss summed over the rows; above 0.
        importance: float64[n], how much each row counts; 1 where None.
    """
    means, scales = _moments(features)
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-8, max_iter=100)
    model.fit((features - means) / scales, labels, sample_weight=importance)
    return Logistic(tuple(model.coef_[0].tolist()), float(model.intercept_[0]), _floats(means), _floats(scales))


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
        penalty: of half the squares of the weights, against a loss summed over the rows; above 0.
        steps: of the optimiser (L-BFGS), at most.
        seed: of the first weights.
    """
    means, scales = _moments(features)
    x = np.clip((features - means) / scales, -4.0, 4.0)
    count = None if importance is None else importance / importance.mean()
    models = []
    for copy in range(copies):
        model = MLPClassifier(
            (units,), activation="tanh", solver="lbfgs", alpha=penalty, max_iter=steps, random_state=seed + copy
        )
        with warnings.catch_warnings():  # the steps are a limit, not a goal
            warnings.simplefilter("ignore")
            model.fit(x, labels, sample_weight=count)
        models.append(model)
    inner = np.concatenate([model.coefs_[0].T for model in models])
    return Perceptron(
        tuple(_rounded(row) for row in inner),
        _rounded(np.concatenate([model.intercepts_[0] for model in models])),
        _rounded(np.concatenate([model.coefs_[1][:, 0] for model in models]) / copies),
        _rounded(np.zeros(features.shape[1])),
        float(np.mean([model.intercepts_[1][0] for model in models])),
        _floats(means),
        _floats(scales),
    )


def _moments(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scales = features.std(0)
    return features.mean(0), np.where(scales < 1e-9, 1.0, scales)


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)
