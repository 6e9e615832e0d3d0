import json
import math

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.evaluate.power import queries_to_notice, queries_to_prove
from thresher.evaluate.sequential import BETS, MONEY, RICH, SequentialTest, bet_on_loss, still_to_enter

MARGIN = 0.02
LOOKS = 10_000
RUNS = 1000


def near_identical(rng, shape, mean=0.0):
    """Losses of a system that ranks as its baseline for four queries in five."""
    return np.where(rng.random(shape) < 0.2, rng.normal(5 * mean, 0.1, shape), 0.0).clip(-1.0, 1.0)


def by_definition(losses, margin, low, high):
    """(e_proven, e_lost) as the products and sums that define them; the losses are multiples of a thousandth."""
    proven = sum(
        money * math.prod(1 - bet / (high - margin) * (x - margin) for x in losses)
        for bet, money in zip(BETS, MONEY, strict=True)
    )
    lost = still_to_enter(len(losses))
    for bet, money in zip(BETS, MONEY, strict=True):
        for start in range(len(losses)):
            share = still_to_enter(start) - still_to_enter(start + 1)
            lost += money * share * math.prod(1 + bet / (margin - low) * (x - margin) for x in losses[start:])
    return proven, lost


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0)])
def test_the_e_values_are_what_their_definition_says(low, high):
    rng = np.random.default_rng(1)
    losses = np.round(rng.uniform(max(low, -0.3), 0.35, 60), 2)
    test = SequentialTest(MARGIN, low=low, high=high)
    test.extend(losses)
    assert (test.e_proven, test.e_lost) == pytest.approx(by_definition(losses.tolist(), MARGIN, low, high), rel=1e-9)
    assert test.mean == pytest.approx(losses.mean())


def test_all_of_the_money_enters_and_none_is_made():
    assert MONEY.sum() == pytest.approx(1.0)
    assert still_to_enter(0) == 1.0
    assert 0.0 < still_to_enter(10**9) < 0.04


def test_a_saved_state_continues_as_if_it_had_not_been_saved():
    losses = near_identical(np.random.default_rng(2), 400, mean=0.01)
    through, first = SequentialTest(MARGIN), SequentialTest(MARGIN)
    through.extend(losses)
    first.extend(losses[:170])
    text = json.dumps(first.as_json(), allow_nan=False)
    second = SequentialTest.from_json(json.loads(text))
    second.extend(losses[170:])
    assert second.as_json() == through.as_json()
    assert (second.e_proven, second.e_lost, second.interval()) == (through.e_proven, through.e_lost, through.interval())


def test_the_state_stays_small():
    test = SequentialTest(MARGIN)
    test.extend(np.random.default_rng(3).uniform(-1, 1, 5000))
    assert len(json.dumps(test.as_json())) < 25_000


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_upper_end_is_below_the_margin_exactly_when_it_is_proven(alpha):
    test = SequentialTest(MARGIN, alpha=alpha)
    seen = set()
    for loss in near_identical(np.random.default_rng(4), 420, mean=0.002):
        test.add(loss)
        if test.n % 7 == 0:
            assert test.proven == (test.interval().high < MARGIN)
            seen.add(test.proven)
    assert seen == {False, True}


def test_the_interval_is_all_that_the_bets_do_not_disprove():
    losses = np.round(np.random.default_rng(5).uniform(-0.3, 0.5, 200), 2)
    test = SequentialTest(0.5)
    test.extend(losses)
    interval = test.interval()
    assert interval.level == pytest.approx(0.9)
    for inside, mean in ((True, interval.high - 1e-6), (False, interval.high + 1e-6)):
        assert (by_definition(losses.tolist(), mean, -1.0, 1.0)[0] < 20) == inside
    for inside, mean in ((True, interval.low + 1e-6), (False, interval.low - 1e-6)):
        assert (by_definition((-losses).tolist(), -mean, -1.0, 1.0)[0] < 20) == inside
    assert interval.low < losses.mean() < interval.high


def test_before_the_first_loss_nothing_is_known():
    test = SequentialTest(MARGIN, low=0.0)
    assert (test.e_proven, test.e_lost, test.outcome) == (pytest.approx(1.0), 1.0, "undecided")
    assert (test.interval().low, test.interval().high) == (0.0, 1.0)
    assert math.isnan(test.mean)


def at_the_margin(rng, shape):
    """Distributions whose mean is the margin: the hardest for both claims."""
    yield "bernoulli", (rng.random(shape) < MARGIN).astype(float)
    yield "half losses", np.where(rng.random(shape) < 2 * MARGIN, 0.5, 0.0)
    yield "skewed", np.where(rng.random(shape) < 0.3, rng.beta(0.2, 2.8, shape), 0.0)  # .3 * .2 / 3
    yield "both signs", np.where(rng.random(shape) < 0.2, rng.uniform(-0.8, 1.0, shape), 0.0)  # .2 * .1


def share_that_claims(draws, low):
    """Shares of runs, float[looks, runs], that claim `proven` and `lost` at any look."""
    runs = draws.shape[1]
    proof, wealth = np.ones((runs, BETS.size)), np.zeros((runs, BETS.size))
    proven, lost = np.zeros(runs, bool), np.zeros(runs, bool)
    for before, losses in enumerate(draws):
        y = losses[:, None] - MARGIN
        proof *= 1.0 - BETS / (1.0 - MARGIN) * y
        proven |= proof @ MONEY >= 20.0
        wealth = bet_on_loss(wealth, before, BETS / (MARGIN - low) * y)
        lost |= wealth @ MONEY + still_to_enter(before + 1) >= 20.0
    return proven.mean(), lost.mean()


def test_ten_thousand_looks_claim_too_much_no_more_often_than_alpha():
    """Two standard errors of the simulation, .014 for all runs together, are allowed on top of .05."""
    found = []
    for name, draws in at_the_margin(np.random.default_rng(6), (LOOKS, RUNS // 4)):
        assert draws.mean() == pytest.approx(MARGIN, abs=0.001), name
        found.append(share_that_claims(draws, min(0.0, 1.25 * draws.min())))
    assert (np.mean(found, axis=0) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)).all()
    assert np.max(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / (RUNS // 4))
    assert np.min(np.max(found, axis=0)) > 0.005  # or it could never find anything


def test_proven_holds_for_the_average_so_far_where_the_mean_changes():
    """The mean falls from three times the margin to 0, so that the average so far stays above the margin."""
    rng = np.random.default_rng(7)
    means = np.where(np.arange(3000) < 1001, 3 * MARGIN, 0.0)
    assert (np.cumsum(means) / np.arange(1, 3001) >= MARGIN).all()
    draws = (rng.random((3000, 400)) < means[:, None]).astype(float)
    assert share_that_claims(draws, -1.0)[0] <= 0.05 + 0.02


def test_a_drift_after_a_good_time_is_noticed_within_the_queries_that_power_says():
    rng = np.random.default_rng(8)
    good = near_identical(rng, 2000)
    queries = queries_to_notice(good, 0.08, MARGIN, after=500, power=0.8)
    assert 100 < queries < 400
    noticed = false_alarms = 0
    for _ in range(60):
        test = SequentialTest(MARGIN)
        test.extend(rng.choice(good, 500))
        false_alarms += test.lost
        losses = rng.choice(good, queries)
        test.extend(np.where(rng.random(queries) < 0.16, np.minimum(losses + 0.5, 1.0), losses))
        noticed += test.lost
    assert false_alarms <= 6
    assert noticed / 60 >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / 60)


def test_a_drift_is_lost_although_the_average_is_still_proven():
    test = SequentialTest(MARGIN)
    test.extend(np.zeros(20_000))
    assert test.outcome == "proven"
    test.extend([0.6] * 100)
    assert test.proven
    assert test.outcome == "lost"
    assert 20_000 < test.lost_at < 20_060


def test_equal_rankings_prove_a_margin_in_the_queries_that_the_docs_say():
    assert queries_to_prove([0.0], MARGIN) == 193
    test = SequentialTest(MARGIN)
    test.extend(np.zeros(192))
    assert test.outcome == "undecided"
    test.add(0.0)
    assert test.outcome == "proven"
    assert test.interval().high < MARGIN


def test_more_power_smaller_margins_and_smaller_drifts_need_more_queries():
    good = near_identical(np.random.default_rng(9), 500)
    base = queries_to_prove(good, MARGIN, runs=200)
    assert base < queries_to_prove(good, MARGIN, power=0.95, runs=200)
    assert base < queries_to_prove(good, MARGIN / 2, runs=200)
    assert queries_to_prove(good + 0.05, MARGIN, limit=300, runs=50) is None
    large = queries_to_notice(good, 0.2, MARGIN, runs=100)
    assert large < queries_to_notice(good, 0.1, MARGIN, runs=100)
    assert queries_to_notice(good, 0.03, MARGIN, runs=50, limit=50) is None


def test_millions_of_queries_leave_it_exact():
    test = SequentialTest(MARGIN)
    test.extend([0.0, 0.5, -0.5, 1.0])
    state = test.as_json()
    state["counts"] = [[place, 5_000_000 if place == 1000 else 50_000] for place, _ in state["counts"]]
    state["n"] = sum(count for _, count in state["counts"])
    state["wealth"] = [RICH] * BETS.size
    many = SequentialTest.from_json(state)
    interval = many.interval()
    true = 50_000 * 1.0 / many.n
    assert interval.low < true < interval.high < true + 0.001
    assert many.e_proven == RICH
    many.extend([1.0] * 5)
    assert math.isfinite(many.e_lost)
    assert SequentialTest.from_json(json.loads(json.dumps(many.as_json()))).as_json() == many.as_json()


def damaged(**fields):
    test = SequentialTest(MARGIN)
    test.extend([0.0, 0.1])
    return test.as_json() | fields


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: SequentialTest(1.5), "margin must be between low and high, got margin=1.5"),
        (lambda: SequentialTest(0.0, low=0.0), "margin must be between low and high"),
        (lambda: SequentialTest(0.02, alpha=0.5), "alpha must be between 0 and 0.5"),
        (lambda: SequentialTest(0.02).add(1.1), "a loss must be a finite number.*got 1.1"),
        (lambda: SequentialTest(0.02).add(math.nan), "a loss must be a finite number.*got nan"),
        (lambda: queries_to_prove([], 0.02), "losses must be numbers from -1 to 1, at least one"),
        (lambda: queries_to_prove([0.0], 0.02, power=1.0), "power must be"),
        (lambda: queries_to_notice([0.0], 0.7, 0.02), "a drift of 0.7 needs losses that rise by more"),
        (lambda: SequentialTest.from_json({}), "not the state of a sequential test"),
        (lambda: SequentialTest.from_json(damaged(n=3)), "counts 2 losses of 3"),
        (lambda: SequentialTest.from_json(damaged(wealth=[1.0])), "15 numbers"),
        (lambda: SequentialTest.from_json(damaged(counts=[[5000, 2]])), "not the state"),
        (lambda: SequentialTest.from_json(damaged(margin="a")), "not a number"),
    ],
)
def test_senseless_arguments_are_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()


@pytest.mark.parametrize("loss", [0.0, 0.005, 0.015])
def test_losses_like_those_so_far_prove_the_margin_after_as_many_as_it_says(loss):
    test = SequentialTest(MARGIN, low=0.0)
    test.extend([loss] * 10)
    more = test.more_to_prove()
    test.extend([loss] * (more - 1))
    assert (test.outcome, test.more_to_prove()) == ("undecided", 1)
    test.add(loss)
    assert (test.outcome, test.more_to_prove()) == ("proven", 0)


def test_losses_that_never_prove_the_margin_are_told():
    test = SequentialTest(MARGIN, low=0.0)
    assert test.more_to_prove() == 193
    test.extend([0.02] * 5)
    assert test.more_to_prove() is None
    test.extend([1.0] * 50)
    assert (test.lost, test.more_to_prove()) == (True, None)
