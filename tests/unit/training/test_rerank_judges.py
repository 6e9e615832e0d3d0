"""Simulated judges err as they say, and a judge fitted to answers finds what made them."""

import random

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.rerank.plans.plan import Best, Order, Prefer, Rate
from training.rerank.fitted import LEVELS, Parameters, all_fitted, fitted
from training.rerank.fitting import Window, agreement, fit
from training.rerank.simulated import Simulation, lasting_error

LEVEL = [0.0] * 20


def first_shares(simulation: Simulation, ask: type, answers: int = 400) -> np.ndarray:
    """How often each of ten equal passages shown is put first."""
    answer = simulation.judging(LEVEL, random.Random(1))
    counts = np.zeros(10)
    for _ in range(answers):
        counts[answer(ask(tuple(range(10)))).tiers[0][0]] += 1
    return counts / answers


def test_lasting_errors_take_their_share_of_the_variance_and_do_not_depend_on_what_else_is_judged():
    docnos = [f"d{i}" for i in range(4000)]
    simulation = Simulation(noise=2.0, correlated=0.25)
    errors = simulation.lasting([0.0] * 4000, "q", docnos, 3)
    assert np.std(errors) == pytest.approx(2.0 * np.pi / 6**0.5 * 0.5, rel=0.05)
    assert abs(np.mean(errors)) < 0.1
    assert simulation.lasting([1.0], "q", docnos[7:8], 3) == [1.0 + errors[7]]
    assert lasting_error(4, "q", "d7") != lasting_error(3, "q", "d7")


def test_with_correlated_noise_alone_a_judge_never_changes_its_mind():
    simulation = Simulation(noise=3.0, correlated=1.0)
    utilities = simulation.lasting(LEVEL, "q", [str(i) for i in range(20)], 0)
    answer = simulation.judging(utilities, random.Random(0))
    shown = list(range(20))
    orders = set()
    for _ in range(5):
        random.Random(len(orders)).shuffle(shown)
        orders.add(answer(Order(tuple(shown))).order)
    assert len(orders) == 1


def test_a_repeated_prompt_gets_the_same_answer_and_a_shuffled_one_does_not():
    answer = Simulation(noise=1.0, repeated=1.0).judging(LEVEL, random.Random(0))
    first = answer(Order(tuple(range(20))))
    assert answer(Order(tuple(range(20)))) == first
    assert answer(Order(tuple(range(20))[::-1])).order != first.order


@pytest.mark.parametrize("ask", [Order, Best])
def test_position_bias_falls_along_the_passages_and_option_bias_favours_both_ends(ask):
    falling = first_shares(Simulation(noise=1.0, position_bias=2.0), ask)
    assert falling[0] > falling[4] > falling[9]
    ends = first_shares(Simulation(noise=1.0, option_bias=2.0), ask)
    assert ends[0] > ends[9] > ends[4]
    placed = first_shares(Simulation(noise=1.0, places=(0.0, 5.0, 0.0)), ask)
    assert min(placed[4:6]) > placed[1]


def test_broken_answers_are_read_by_the_parser_in_the_kinds_asked_for():
    def repairs(kind):
        answer = Simulation(malformed=1.0, kinds=((kind, 1.0),)).judging(range(20), random.Random(2))
        return [answer(Order(tuple(range(20)))) for _ in range(30)]

    assert repairs("none") == [None] * 30
    assert {one.repairs for one in repairs("missing")} == {("missing",)}
    assert {one.repairs for one in repairs("duplicate")} == {("duplicate",)}
    assert ("duplicate", "missing") in {one.repairs for one in repairs("duplicate+missing")}
    assert {one.repairs for one in repairs("unknown")} == {("unknown",)}
    assert len({one.named for one in repairs("cut") if one is not None}) > 5
    broken = Simulation(malformed=1.0).judging(range(3), random.Random(0))
    assert [broken(Best((0, 1))), broken(Prefer((0, 1))), broken(Rate((0,)))] == [None] * 3


def test_a_choice_with_a_distribution_is_answered_with_an_order():
    answer = Simulation(noise=1.0, whole_choice=True).judging(LEVEL, random.Random(0))(Best(tuple(range(20))))
    assert [len(tier) for tier in answer.tiers] == [1] * 20


@pytest.mark.parametrize(
    "wrong", [{"noise": -1}, {"correlated": 1.5}, {"places": (float("nan"),)}, {"kinds": (("odd", 1.0),)}]
)
def test_a_simulation_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError):
        Simulation(**wrong)


def test_fitted_judges_ship_for_two_models_and_both_kinds_of_first_stage():
    found = all_fitted()
    assert {(one.name, one.first_stage) for one in found} == {
        (f"fitted-{model}", kind)
        for model in ("rank-vicuna-7b-aug", "vicuna-7b-ckpt800")
        for kind in ("lexical", "learned")
    }
    for one in found:
        assert Parameters.from_json(one.to_json()) == one
        assert one.means[1] < one.means[2] < one.means[3] < one.means[4]
        utilities = one.utilities({"a": 3, "b": 0}, "q", ["a", "b", "c"], 5)
        assert one.utilities({"a": 3, "b": 0}, "q", ["c", "a"], 5) == [utilities[2], utilities[0]]
    with pytest.raises(InputError, match="fitted-vicuna-7b-ckpt800"):
        fitted("fitted-gpt")


def test_a_fit_finds_the_judge_that_made_the_answers():
    places = tuple(np.linspace(1.5, -1.5, 20))
    lower = tuple(tuple(0.01 if i == j else 0.0 for j in range(5)) for i in range(5))
    truth = Parameters("m", "lexical", (-1.0, 0.0, 1.0, 2.0, 3.0), (1.0,) * 5, lower, places, 0.5, 0.25, {"none": 1.0})
    rng = random.Random(0)
    windows, grades = [], {}
    for q in range(16):
        qid, docnos = f"q{q}", [f"d{i}" for i in range(40)]
        grades[qid] = {docno: i % 5 - 1 for i, docno in enumerate(docnos) if i % 5}
        answer = truth.simulation.judging(truth.utilities(grades[qid], qid, docnos, 0), rng)
        for _ in range(20):
            shown = tuple(rng.sample(range(40), 20))
            for run in "ab":
                got = answer(Order(shown))
                order = tuple(range(20)) if got is None else tuple(shown.index(item) for item in got.order)
                kind = "none" if got is None else ""
                windows.append(Window(run, qid, tuple(docnos[i] for i in shown), order, 0 if got is None else 20, kind))
    found = fit(windows, grades, "m", "lexical")
    assert found.means == pytest.approx(truth.means, abs=0.5)
    assert found.spread == pytest.approx(truth.spread, abs=0.35)
    assert found.places == pytest.approx(truth.places, abs=0.4)
    assert len(found.means) == len(LEVELS)
    assert found.kinds == {"none": 1.0}
    assert found.malformed == pytest.approx(0.25, abs=0.05)
    assert 0.5 < agreement(windows) < 0.98
