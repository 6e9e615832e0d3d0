"""The simulations behind eval/results/significance.json draw what they say they draw."""

import numpy as np
import pytest

from eval.significance import DISTRIBUTIONS, MARGIN, at_the_margin, claims, sequential

pytest.importorskip("scipy.special", reason="the eval extra is not installed")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("mean", [-0.02, -0.005])
def test_every_distribution_has_the_mean_and_the_zeros_in_its_name(name, mean):
    drawn = DISTRIBUTIONS[name](np.random.default_rng(1), (1000, 400), mean)
    assert drawn.mean() == pytest.approx(mean, abs=0.0005)
    if "% zeros" in name:
        assert np.mean(drawn == 0.0) == pytest.approx(int(name.split()[0]) / 100, abs=0.005)


def test_the_losses_of_the_sequential_test_have_the_margin_as_their_mean():
    for name, losses in at_the_margin(np.random.default_rng(2), (1000, 400)):
        assert losses.mean() == pytest.approx(MARGIN, abs=0.001), name
        assert -1.0 <= losses.min() and losses.max() <= 1.0


def test_rows_hold_rates_and_power():
    for row in (*claims(2), *sequential(20, 4)):
        assert 0.0 <= row["false_positive_rate"] <= 1.0
        assert row["standard_error"] > 0.0
        assert (row["power"] is None) == (row["kind"] == "sequential")
