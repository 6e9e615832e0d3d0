"""`plan="auto"`: the plan that is chosen fits the limits, is the best that does, and the reason says so."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from thresher.llm.budget import Budget, Price
from thresher.records import Hit, Query
from thresher.rerank import choosing
from thresher.rerank.choosing import Circumstances, choose, measured, share_of
from thresher.rerank.plans import DEFAULT_PLAN, plan_from_name
from thresher.rerank.reranker import Reranker
from training.rerank.simulated import SimulatedJudge

TRUTH = {qid: {f"d{i}": float(i % 7) for i in range(100)} for qid in ("q0", "q1")}
HITS = [Hit(docno=f"d{i}", score=float(-i), rank=i + 1, text="a passage of words") for i in range(100)]


def bound(choice, given):
    return choice.plan.bound(given.n, given.k)


@pytest.mark.parametrize("n", [0, 1, 2, 19, 57, 100, 120, 1000])
@pytest.mark.parametrize(
    "budget",
    [Budget(calls=9), Budget(calls=20), Budget(tokens=20_000), Budget(seconds=5.0), Budget(cost=0.02), Budget()],
)
def test_what_is_chosen_fits_where_anything_does_and_nothing_that_fits_is_much_better(n, budget):
    given = Circumstances(n, budget=budget, price=Price(1.0, 1.0), seconds_a_call=2.0)
    choice = choose(given)
    known = [one for one in measured() if not one.choices]
    fitting = [one for one in known if given.fits(plan_from_name(one.plan).bound(n, 10))]
    if "sure to fit" in choice.reason:
        assert not fitting
        return
    assert given.fits(bound(choice, given))
    value = {plan_from_name(one.plan).name: one.value for one in known}[choice.plan.name]
    if budget != Budget():
        assert value >= max(one.value for one in fitting) - choosing.AS_GOOD
    else:
        assert bound(choice, given).questions <= plan_from_name(DEFAULT_PLAN).bound(n, 10).questions


def test_more_to_spend_never_finds_less():
    values = {plan_from_name(one.plan).name: one.value for one in measured()}
    found = [values[choose(Circumstances(100, budget=Budget(calls=calls))).plan.name] for calls in range(1, 60)]
    for less, more in pairwise(found):
        assert more >= less - choosing.AS_GOOD


def test_little_time_takes_few_steps_and_a_decision_model_may_be_asked_choices():
    hurried = Circumstances(100, budget=Budget(seconds=4.0), seconds_a_call=2.0)
    assert bound(choose(hurried), hurried).depth <= 2
    many = Circumstances(100, budget=Budget(calls=1), per_call=400)
    assert bound(choose(many), many).depth == 1
    assert "calls in 1 steps" in choose(many).reason or "sure to fit" in choose(many).reason


def test_limits_of_a_batch_are_shared_by_its_queries():
    assert share_of(Budget(calls=100), Budget(calls=30), 10, 16) == Budget(calls=10)
    assert share_of(Budget(), Budget(calls=30), 10, 16) == Budget(calls=30)
    assert share_of(Budget(seconds=60.0, cost=1.0), Budget(), 32, 16) == Budget(seconds=30.0, cost=1 / 32)
    assert share_of(Budget(tokens=5), Budget(), 0, 1) == Budget(tokens=5)


def test_a_reranker_chooses_for_each_query_and_says_why():
    reranker = Reranker(SimulatedJudge(TRUTH), "auto", budget=Budget(calls=18))
    results = reranker.rank_batch([(Query("q0", "q"), HITS), (Query("q1", "q"), HITS[:15])])
    for result in results:
        assert result.complete
        assert result.usage.plan != "auto"
        assert "calls in" in result.usage.reason
    assert sum(result.usage.calls for result in results) <= 18
    assert "for 100 candidates" in results[0].usage.reason
    assert "for 15 candidates" in results[1].usage.reason
    assert Reranker(SimulatedJudge(TRUTH), "sliding").rank("q", HITS).usage.reason is None


def test_the_default_is_the_default_plan():
    assert Reranker(SimulatedJudge(TRUTH)).plan == plan_from_name(DEFAULT_PLAN)


def test_the_table_lists_plans_that_exist_and_once():
    rows = json.loads((Path(choosing.__file__).parent / "measured.json").read_text(encoding="utf-8"))
    names = [plan_from_name(row["plan"]).name for row in rows]
    assert len(set(names)) == len(names)
    assert DEFAULT_PLAN in [row["plan"] for row in rows]
