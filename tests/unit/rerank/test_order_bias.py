"""How much the order shown changes answers: known judges have known numbers, and an injected bias is measured."""

import random

import pytest

from thresher.rerank.order_bias import order_bias
from thresher.rerank.plans.plan import Answer, Order, Prefer, Rate
from training.rerank.simulated import Simulation, perfect

N = 20
UTILITIES = [float(i * 7 % N) for i in range(N)]


def asked(judge, sets=6, orders=4, n=N):
    """What a judge answers about the same passages in several orders."""
    rng = random.Random(0)
    found = []
    for qid in range(sets):
        for _ in range(orders):
            one = Order(tuple(rng.sample(range(n), n)))
            found.append((str(qid), one, judge(one)))
    return found


def test_a_judge_that_reads_only_the_passages_has_no_bias():
    bias = order_bias(asked(perfect(UTILITIES)))
    assert (bias.pairs, bias.same_first, bias.tau, bias.pull) == (6 * 6, 1.0, 1.0, 0.0)
    assert sum(bias.first_by_fifth) == pytest.approx(1.0)


def test_a_judge_that_repeats_the_order_shown_is_pulled_all_the_way():
    bias = order_bias(asked(lambda one: Answer(tuple((item,) for item in one.items))))
    assert bias.pull == pytest.approx(1.0)
    assert bias.first_by_fifth == (1.0, 0.0, 0.0, 0.0, 0.0)
    assert bias.same_first < 0.2
    assert abs(bias.tau) < 0.2
    backwards = order_bias(asked(lambda one: Answer(tuple((item,) for item in one.items[::-1]))))
    assert backwards.pull == pytest.approx(-1.0)


def test_an_injected_bias_is_measured_and_noise_without_one_is_none():
    def pull(bias):
        judge = Simulation(noise=1.0, position_bias=bias).judging([u / 4 for u in UTILITIES], random.Random(1))
        return order_bias(asked(judge, sets=20)).pull

    found = [pull(bias) for bias in (-4.0, 0.0, 2.0, 4.0, 8.0)]
    assert found == sorted(found)
    assert abs(found[1]) < 0.05
    assert found[3] > 0.2


def test_pairs_in_both_orders_agree_or_do_not():
    same = [("q", Prefer((0, 1)), Answer(((0,), (1,)))), ("q", Prefer((1, 0)), Answer(((0,), (1,))))]
    other = [("q", Prefer((2, 3)), Answer(((2,), (3,)))), ("q", Prefer((3, 2)), Answer(((3,), (2,))))]
    bias = order_bias(same + other)
    assert (bias.pairs, bias.same_first, bias.tau, bias.pull) == (2, 0.5, 0.0, 0.5)


def test_what_was_asked_once_or_of_another_query_is_not_compared():
    one = Answer(((0,), (1,)))
    bias = order_bias(
        [("a", Order((0, 1)), one), ("b", Order((1, 0)), one), ("a", Rate((0,)), Answer(((0,),), score=1.0))]
    )
    assert (bias.pairs, bias.same_first, bias.tau, bias.pull, bias.first_by_fifth) == (0, None, None, None, None)
    assert order_bias([]).as_dict()["pairs"] == 0
