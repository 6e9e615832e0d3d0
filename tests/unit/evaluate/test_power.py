import numpy as np
import pytest

from thresher.errors import InputError
from thresher.evaluate.power import power_sentence, smallest_margin, topics_needed
from thresher.evaluate.significance import equivalence, non_inferiority

pytest.importorskip("scipy.special", reason="the eval extra is not installed")


@pytest.mark.parametrize("power", [0.8, 0.9])
def test_the_smallest_margin_is_proven_with_its_power(power):
    draws = np.random.default_rng(14).normal(0.0, 0.05, (1500, 43))
    margin = smallest_margin(0.05, 43, claim="non-inferiority", power=power)
    assert np.mean([non_inferiority(d, margin).proven for d in draws]) == pytest.approx(power, abs=0.03)
    margin = smallest_margin(0.05, 43, claim="equivalence", power=power)
    assert np.mean([equivalence(d, margin).proven for d in draws]) == pytest.approx(power, abs=0.03)


def test_the_smallest_margin_has_its_closed_form():
    # t(.95; 42) = 1.681952, z(.90) = 1.281552, z(.80) = .841621
    assert smallest_margin(0.05, 43, claim="equivalence") == pytest.approx((1.681952 + 1.281552) * 0.05 / 43**0.5)
    assert smallest_margin(0.05, 43) == pytest.approx((1.681952 + 0.841621) * 0.05 / 43**0.5, rel=1e-6)
    assert smallest_margin(0.0, 43) == 0.0


@pytest.mark.parametrize("claim", ["non-inferiority", "equivalence"])
@pytest.mark.parametrize("margin", [0.005, 0.015, 0.04, 0.3])
def test_the_topics_needed_are_the_first_whose_smallest_margin_is_small_enough(claim, margin):
    n = topics_needed(0.05, margin, claim=claim)
    assert smallest_margin(0.05, n, claim=claim) <= margin
    assert n == 2 or smallest_margin(0.05, n - 1, claim=claim) > margin


def test_a_true_loss_costs_topics_and_they_give_the_power():
    n = topics_needed(0.05, 0.02, difference=-0.005)
    assert n > topics_needed(0.05, 0.02)
    assert n == pytest.approx(topics_needed(0.05, 0.015), abs=1)
    draws = np.random.default_rng(15).normal(-0.005, 0.05, (1500, n))
    assert np.mean([non_inferiority(d, 0.02).proven for d in draws]) == pytest.approx(0.8, abs=0.03)
    both = topics_needed(0.05, 0.02, difference=0.005, claim="equivalence")
    draws = np.random.default_rng(16).normal(0.005, 0.05, (1500, both))
    assert np.mean([equivalence(d, 0.02).proven for d in draws]) == pytest.approx(0.8, abs=0.03)
    assert topics_needed(0.0, 0.001) == 2


def test_the_sentence_says_what_is_needed_and_what_is_there():
    assert power_sentence(0.05, 43, 0.015) == (
        "70 topics can prove a margin of .015 at this variance; you have 43, which prove .020."
    )
    assert power_sentence(0.05, 43, 0.03, claim="equivalence", unit="queries") == (
        "You have 43 queries, which prove .023 at this variance; 25 can prove a margin of .030."
    )
    assert "margin of .0005 at" in power_sentence(0.5, 43, 0.0005)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: smallest_margin(0.1, 1), "n=1"),
        (lambda: smallest_margin(0.1, 9, power=1.0), "power must be .* got 1"),
        (lambda: topics_needed(-1.0, 0.1), "sd=-1"),
        (lambda: topics_needed(0.1, 0.0), "margin must be above 0"),
        (lambda: topics_needed(0.1, 0.02, difference=-0.02), "no number of topics proves a margin of 0.02"),
        (lambda: topics_needed(0.1, 0.02, difference=0.03, claim="equivalence"), "no number of topics"),
    ],
)
def test_senseless_arguments_are_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
