"""TourRank: the published tournament at 100 candidates, points, and what a lost answer costs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.rerank.aggregate import AGGREGATORS
from thresher.rerank.plans.plan import Answer, drive
from thresher.rerank.plans.tourrank import TourRank
from training.rerank.simulated import perfect


def shuffled(n, seed):
    return [float(value) for value in random.Random(seed).sample(range(n), n)]


def stages(plan, n, judge):
    """The groups asked at each stage."""
    steps = plan.run(n, 10, random.Random(3))
    found = []
    try:
        batch = next(steps)
        while True:
            found.append([ask.items for ask in batch])
            batch = steps.send([judge(ask) for ask in batch])
    except StopIteration:
        return found


def test_a_hundred_candidates_play_the_published_tournament():
    found = stages(TourRank(), 100, perfect(shuffled(100, 1)))
    assert [[len(group) for group in stage] for stage in found] == [[20] * 5, [10] * 5, [20], [10], [5]]
    assert (TourRank(4).bound(100, 10).calls, TourRank(4).bound(100, 10).depth) == (52, 5)
    for group in found[0]:
        assert sorted(item // 5 for item in group) == list(range(20))  # one of every five neighbours
        assert list(group) != sorted(group)


@given(
    n=st.integers(0, 300), window=st.integers(2, 40), groups=st.integers(1, 9), tournaments=st.integers(1, 3),
    seed=st.integers(0, 2**20),
)  # fmt: skip
def test_groups_fit_the_window_and_spending_is_what_is_stated(n, window, groups, tournaments, seed):
    plan = TourRank(tournaments, window, groups)
    truth, largest = perfect(shuffled(n, seed)), []

    def judge(ask):
        largest.append(len(ask.items))
        return truth(ask)

    placement, spent = drive(plan, n, judge, seed=seed)
    assert spent == plan.bound(n, 10)
    assert max(largest, default=0) <= window
    assert sorted(placement.order) == list(range(n))


def test_points_are_the_stages_a_candidate_went_on_from():
    utilities = shuffled(100, 2)
    placement, _ = drive(TourRank(aggregation="points"), 100, perfect(utilities))
    assert [len(tier) for tier in placement.tiers] == [2, 3, 5, 10, 30, 50]
    assert placement.scores[0] == 5.0
    assert all(list(tier) == sorted(tier) for tier in placement.tiers)
    places, _ = drive(TourRank(), 100, perfect(utilities))
    assert [set(places.order[a:b]) for a, b in ((0, 2), (2, 5), (5, 10))] == [set(t) for t in placement.tiers[:3]]


def test_measured_recall_of_the_top_ten_under_a_perfect_judge():
    """No promise, but dealing equally strong groups makes a miss rare."""
    for plan in (TourRank(), TourRank(2), TourRank(aggregation="points"), TourRank(2, aggregation="bradley-terry")):
        found = 0
        for seed in range(20):
            utilities = shuffled(100, seed)
            best = set(sorted(range(100), key=lambda item: -utilities[item])[:10])
            found += len(best & set(drive(plan, 100, perfect(utilities), seed=seed)[0].order[:10]))
        assert found >= 195, plan.name  # of 200


@pytest.mark.parametrize("rule", AGGREGATORS)
def test_answers_can_be_aggregated_by_any_rule(rule):
    plan = TourRank(2, aggregation=rule)
    utilities = [-float(i) for i in range(40)]
    placement, _ = drive(plan, 40, perfect(utilities))
    assert set(placement.order[:3]) <= set(range(10))
    assert f"aggregation={rule}" in plan.name


def test_a_lost_answer_only_postpones_the_points():
    """The best passage is in a first group without an answer, goes on by its rank, and still wins."""
    truth = perfect([-float(i) for i in range(100)])
    placement, _ = drive(TourRank(), 100, lambda ask: None if 0 in ask.items and len(ask.items) == 20 else truth(ask))
    assert placement.order[0] == 0


def test_passages_that_repair_appended_get_no_point():
    def judge(ask):
        return Answer(tuple((item,) for item in sorted(ask.items, reverse=True)), named=1)

    placement, _ = drive(TourRank(aggregation="points"), 20, judge)
    assert placement.order[0] == 19
    assert placement.scores[0] == 3.0
