"""Top-down partitioning where public code goes wrong: the rest of the ranking, the end of the search, lost answers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.rerank.plans.partition import TopDown
from thresher.rerank.plans.plan import Answer, drive
from training.rerank.simulated import perfect


def shuffled(n, seed):
    return [float(value) for value in random.Random(seed).sample(range(n), n)]


in_order = perfect([-float(i) for i in range(60)])


@pytest.mark.parametrize("n", [2, 15, 20])
def test_candidates_that_fit_in_a_window_cost_one_call(n):
    assert drive(TopDown(20), n, perfect(shuffled(n, 1)))[1].calls == 1


def test_a_first_stage_that_is_right_is_confirmed_by_one_scan():
    """Nothing new above the pivot ends the search: the top is ordered already."""
    ranking, spent = drive(TopDown(20), 100, perfect([-float(i) for i in range(100)]))
    assert ranking.order == tuple(range(100))
    assert (spent.calls, spent.depth) == (6, 2)


def test_calls_for_a_hundred_candidates():
    means = [drive(TopDown(20), 100, perfect(shuffled(100, seed)))[1] for seed in range(20)]
    assert 7 <= sum(spent.calls for spent in means) / 20 <= 10
    assert max(spent.depth for spent in means) <= 5
    assert (TopDown(20).bound(100, 10).calls, TopDown(20).bound(100, 10).depth) == (31, 17)


@given(n=st.integers(3, 120), k=st.integers(1, 9), window=st.integers(10, 30), seed=st.integers(0, 2**20))
def test_what_lost_to_the_first_pivot_is_last_and_in_the_order_answered(n, k, window, seed):
    utilities = shuffled(n, seed)
    truth = perfect(utilities)
    answers = []

    def judge(ask):
        answers.append(truth(ask).order)
        return truth(ask)

    ranking, _ = drive(TopDown(window), n, judge, k=k, seed=seed)
    if n <= window:
        return
    place = {item: rank for rank, item in enumerate(ranking.order)}
    pivot = answers[0][k - 1]
    assert place[pivot] == sorted(utilities, reverse=True).index(utilities[pivot])
    for order in answers[: 1 + -(-(n - window) // (window - 1))]:
        lost = order[order.index(pivot) :]
        assert [place[item] for item in lost] == sorted(place[item] for item in lost)


def test_a_later_backfill_is_above_an_earlier_one():
    """What lost in the second round beat the first pivot. The true eleventh is found near its rank."""
    utilities = shuffled(100, 3)
    ranking, spent = drive(TopDown(20), 100, perfect(utilities))
    assert spent.depth >= 4
    eleventh = sorted(range(100), key=lambda item: -utilities[item])[10]
    assert ranking.order.index(eleventh) <= 15


def test_a_buffer_ends_the_scan_and_costs_the_guarantee():
    backwards = [float(i) for i in range(100)]
    ranking, spent = drive(TopDown(20, buffer=20), 100, perfect(backwards))
    _, whole = drive(TopDown(20), 100, perfect(backwards))
    assert spent.calls < whole.calls
    assert ranking.order[0] != 99
    assert TopDown(20, buffer=20).exact_top(100, 10) == 0


def test_ties_and_unnamed_passages_do_not_go_on():
    """The judge ties all with the pivot, or names the pivot last of those it names."""
    for chunk_answer in (
        lambda items: Answer((items,)),
        lambda items: Answer(tuple((item,) for item in (items[0], *items[1:])), named=1),
    ):
        ranking, spent = drive(
            TopDown(20), 60, lambda ask, a=chunk_answer: in_order(ask) if max(ask.items) < 20 else a(ask.items)
        )
        assert ranking.order == tuple(range(60))
        assert spent.depth == 2


def test_what_was_named_beats_a_pivot_that_was_not():
    def judge(ask):
        if 40 in ask.items:
            rest = tuple(item for item in ask.items if item != 40)
            return Answer(tuple((item,) for item in (40, *rest)), named=1)
        return in_order(ask)

    assert drive(TopDown(20), 60, judge)[0].order[0] == 40


def test_a_lost_chunk_stays_below_and_a_lost_first_window_is_asked_again():
    utilities = [-float(i) for i in range(60)]
    utilities[30], utilities[5] = 1.0, 2.0
    truth = perfect(utilities)
    lost_chunk, _ = drive(TopDown(20), 60, lambda ask: None if 30 in ask.items else truth(ask))
    assert lost_chunk.order[:3] == (5, 0, 1)
    asked = []

    def judge(ask):
        asked.append(ask.items)
        return truth(ask) if len(asked) > 1 else None

    assert drive(TopDown(20), 60, judge)[0].order[:3] == (5, 30, 0)


def test_ties_at_the_top_are_kept():
    ranking, _ = drive(TopDown(20), 3, lambda ask: Answer(((2, 0), (1,))))
    assert ranking.tiers == ((0, 2), (1,))
