"""What the two small models learn: a logistic one and a perceptron."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the train extra")

from training.context.learners import fit_logistic, fit_perceptron


def test_a_logistic_model_finds_what_separates_and_ignores_what_does_not_vary():
    x = np.array([[float(n), 1.0] for n in range(20)])
    y = (x[:, 0] >= 10).astype(float)
    model = fit_logistic(x, y, penalty=0.01)
    assert ((model(x) >= 0.5) == (y == 1)).all()
    assert model.weights[1] == 0
    assert [float(model(x[n : n + 1])[0]) for n in range(20)] == model(x).tolist()
    weighted = fit_logistic(x, y, importance=np.where(y == 1, 5.0, 1.0))
    assert (weighted(x) >= fit_logistic(x, y)(x) - 1e-9).mean() > 0.5


def test_a_perceptron_finds_what_no_sum_of_features_says_and_reads_rows_apart():
    chance = np.random.default_rng(3)
    x = chance.normal(size=(400, 3))
    y = (x[:, 0] * x[:, 1] > 0).astype(float)
    model = fit_perceptron(x, y, units=8, copies=2, penalty=0.1, steps=300)
    assert ((model(x) >= 0.5) == (y == 1)).mean() > 0.9
    assert ((fit_logistic(x, y)(x) >= 0.5) == (y == 1)).mean() < 0.7
    assert [float(model(x[n : n + 1])[0]) for n in range(50)] == model(x)[:50].tolist()
    assert fit_perceptron(x, y, units=8, copies=2, penalty=0.1, steps=300) == model
