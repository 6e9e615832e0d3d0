"""The driver and `Reranker` with a simulated judge: order, scores, ties, limits of a query, determinism."""

import asyncio
import copy
import inspect
import pickle
from contextlib import suppress

import numpy as np
import pytest

from thresher.errors import ConfigError, InputError, ModelError, ThresherError
from thresher.llm.budget import Budget
from thresher.ranking import Ranking, Run
from thresher.records import Hit, Passage, Query
from thresher.rerank.driver import RerankUsage
from thresher.rerank.plans import PLANS, plan_from_name
from thresher.rerank.plans.plan import Answer, drive
from thresher.rerank.reranker import Reranked, Reranker
from training.rerank.simulated import SimulatedJudge, Simulation


def hits(n):
    return [Hit(f"d{i:03}", float(n - i), i + 1, text=f"text {i}", title="t", metadata={"i": str(i)}) for i in range(n)]


TRUTH = {f"q{q}": {f"d{i:03}": float((i * 7919 + q) % 101) for i in range(100)} for q in range(8)}
QUERIES = [(Query(qid, qid), hits(100)) for qid in TRUTH]


@pytest.mark.parametrize("name", [name for name in PLANS.kinds() if not name.startswith(("single", "instupr"))])
def test_every_plan_puts_the_best_first_through_the_driver(name):
    enough = {
        "jointrank": ":block=50",
        "jointrank-head": ":block=50",
        "prp-graph": ":rounds=39",
        "slidegar": ":aggregation=last-window",
    }
    reranker = Reranker(SimulatedJudge(TRUTH), name + enough.get(name, ""), k=5)
    query, found = QUERIES[0]
    result = reranker.rank(query, found[:40])
    ideal = sorted(found[:40], key=lambda hit: -TRUTH["q0"][hit.docno])
    assert [hit.docno for hit in result[:5]] == [hit.docno for hit in ideal[:5]]
    assert result.complete
    assert result.usage.calls == result.usage.comparisons <= reranker.plan.bound(40, 5).calls


@pytest.mark.parametrize("name", PLANS.kinds())
def test_results_are_hits_with_ranks_and_scores_that_decrease_in_float32(name):
    result = Reranker(SimulatedJudge(TRUTH, Simulation(noise=5.0)), name, depth=30).rank(*QUERIES[1])
    scores = np.array([hit.score for hit in result], dtype=np.float32)
    assert (scores[1:] < scores[:-1]).all()
    assert [hit.rank for hit in result] == list(range(1, 101))
    assert [hit.docno for hit in result[30:]] == [f"d{i:03}" for i in range(30, 100)]
    assert sorted(hit.docno for hit in result[:30]) == [f"d{i:03}" for i in range(30)]
    assert {(h.text, h.title, h.metadata["i"]) for h in result} == {(f"text {i}", "t", str(i)) for i in range(100)}


def test_arrival_order_and_concurrency_do_not_change_results():
    made = []
    for concurrency in (1, 7, 64):
        judge = SimulatedJudge(TRUTH, Simulation(noise=20.0, malformed=0.2), seed=3)
        reranker = Reranker(judge, "jointrank-head", concurrency=concurrency, seed=5)
        results = reranker.rank_batch(QUERIES if concurrency != 7 else QUERIES[::-1])
        made.append({result.qid: [(hit.docno, hit.score) for hit in result] for result in results})
    assert made[0] == made[1] == made[2]


def test_repairs_are_counted_by_kind_and_unreadable_answers_mark_the_result():
    judge = SimulatedJudge(TRUTH, Simulation(malformed=1.0), seed=1)
    results = Reranker(judge, "sliding", on_failure="keep").rank_batch(QUERIES)
    kinds = {kind for result in results for kind in result.usage.repaired}
    assert kinds == {"duplicate", "duplicate+missing", "missing", "unknown"}
    unreadable = sum(result.usage.unreadable for result in results)
    repaired = sum(sum(result.usage.repaired.values()) for result in results)
    assert unreadable > 0
    assert 8 * 9 - 3 <= unreadable + repaired <= 8 * 9  # an id that is repeated in its own place breaks nothing
    assert all(result.complete == (result.usage.unreadable == 0) for result in results)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("name", PLANS.kinds())
def test_nothing_to_order_is_no_call(name, n):
    result = Reranker(SimulatedJudge(TRUTH), name).rank("q", hits(n))
    assert len(result) == n
    assert result.usage.calls == 0
    assert result.complete


def test_each_query_has_its_own_limit():
    reranker = Reranker(SimulatedJudge(TRUTH), "sliding", budget_per_query=Budget(calls=4))
    results = reranker.rank_batch(QUERIES)
    assert [result.usage.calls for result in results] == [4] * 8
    assert {result.stopped for result in results} == {"calls"}


def test_a_budget_of_nothing_is_the_first_stage_order_marked():
    result = Reranker(SimulatedJudge(TRUTH), "jointrank", budget=Budget(calls=0)).rank(*QUERIES[0])
    assert [hit.docno for hit in result] == [f"d{i:03}" for i in range(100)]
    assert (result.complete, result.stopped, result.usage.calls, result.usage.skipped) == (False, "calls", 0, 20)


def test_equal_texts_are_different_candidates():
    same = [Hit(f"d{i:03}", 1.0, i + 1, text="the same words") for i in range(30)]
    result = Reranker(SimulatedJudge(TRUTH), "setwise-heap").rank(Query("q0", "q"), same)
    assert sorted(hit.docno for hit in result) == [hit.docno for hit in same]


def test_a_docno_that_comes_twice_is_refused():
    with pytest.raises(InputError, match="'d000' occurs twice"):
        Reranker(SimulatedJudge(TRUTH)).rank("q", [*hits(2), hits(1)[0]])


class Broken:
    comparisons_per_call = 1
    name = "broken"

    async def answer(self, query, candidates, comparisons, client):
        return [Answer(((99,),))]


def test_a_judge_that_answers_something_else_is_found_out():
    with pytest.raises(InputError, match="exactly the positions"):
        Reranker(Broken(), "single").rank("q", hits(3))


class Silent:
    comparisons_per_call = 1
    name = "silent"

    async def answer(self, query, candidates, comparisons, client):
        return [None for _ in comparisons]


def test_a_query_without_one_readable_answer_is_an_error():
    with pytest.raises(ModelError, match="none of the answers could be read"):
        Reranker(Silent(), "sliding").rank("q", hits(30))


def test_seconds_stop_a_judge_that_never_answers():
    class Stalled(Silent):
        async def answer(self, query, candidates, comparisons, client):
            await asyncio.sleep(60)

    result = Reranker(Stalled(), "sliding", budget_per_query=Budget(seconds=0.05)).rank("q", hits(30))
    assert (result.stopped, result.complete) == ("seconds", False)


@pytest.mark.parametrize(
    "spec", ["guess", "sliding:window", "sliding:size=3", "sliding:window=x", "jointrank:block=1", "sliding:stride=30"]
)
def test_a_plan_that_is_not_understood_is_an_error(spec):
    with pytest.raises((ConfigError, InputError)):
        plan_from_name(spec)


@pytest.mark.parametrize("name", PLANS.kinds())
def test_a_plan_is_read_back_from_its_own_name(name):
    plan = plan_from_name(name)
    assert plan_from_name(plan.name) == plan


def test_settings_out_of_range_are_refused():
    judge = SimulatedJudge(TRUTH)
    for wrong in ({"k": 0}, {"concurrency": 0}, {"depth": 0}, {"on_failure": "ignore"}, {"budget": Budget(cost=1.0)}):
        with pytest.raises((ConfigError, InputError)):
            Reranker(judge, **wrong)


HOSTILE = [
    None, True, 0, -1, 2.5, float("nan"), float("inf"), 2**64, 10**400, "", "a", "\ud800", "\x00", "1e999", b"x",
    [], [1],
    ["a"], {}, {"a": 1}, (), (1, 2), object(), set(), range(3), Query("q", "t"), "sliding:window=0",
    "sliding:window=nan",
]  # fmt: skip


@pytest.mark.parametrize(
    "argument",
    [
        "k", "depth", "budget", "budget_per_query", "concurrency", "price", "cache", "retry", "on_failure",
        "journal", "plan",
        "judge",
    ],
)  # fmt: skip
def test_whatever_is_given_to_a_reranker_only_thresher_errors_come_out(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in HOSTILE:
        options = {"judge": SimulatedJudge(TRUTH), "plan": "single", argument: value}
        with suppress(ThresherError, OSError):
            Reranker(**options).rank(QUERIES[0][0], hits(3))


@pytest.mark.parametrize("call", ["query", "ranking", "batch", "pairs", "run", "queries", "name"])
def test_whatever_is_to_be_ranked_only_thresher_errors_come_out(call):
    ranking = Ranking(["a", "b"], [2.0, 1.0])
    reranker = Reranker(SimulatedJudge(TRUTH), "single")
    for value in HOSTILE:
        with suppress(ThresherError):
            match call:
                case "query":
                    reranker.rank(value, hits(3))
                case "ranking":
                    reranker.rank("q", value)
                case "batch":
                    reranker.rank_batch(value)
                case "pairs":
                    reranker.rank_batch([value])
                case "run":
                    reranker.rank_batch({"q": value}, [Query("q", "t")])
                case "queries":
                    reranker.rank_batch({"q": ranking}, value)
                case "name":
                    Reranker.from_name(value)


@pytest.mark.parametrize("name", PLANS.kinds())
def test_whatever_a_plan_is_set_to_only_thresher_errors_come_out(name):
    for setting in inspect.signature(PLANS.factory(name)).parameters:
        for value in (*HOSTILE, 10**6, 10**9):
            with suppress(ThresherError):
                plan_from_name(f"{name}:{setting}={value}")
            with suppress(ThresherError):
                plan = PLANS.factory(name)(**{setting: value})
                drive(plan, 6, lambda comparison: Answer((comparison.items,), score=0.5), max_calls=50)
    for k in HOSTILE:
        with suppress(ThresherError):
            drive(plan_from_name(name), 6, lambda comparison: None, k=k, max_calls=50)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_judge_whose_rating_is_not_a_number_is_found_out(score):
    class Rates(Silent):
        async def answer(self, query, candidates, comparisons, client):
            return [Answer((one.items,), score=score) for one in comparisons]

    with pytest.raises(InputError, match=r"a judge rated|score must be"):
        Reranker(Rates(), "pointwise").rank("q", hits(3))


@pytest.mark.parametrize("scores", [[1e300, 1e200, -1e300], [3.4e38, -3.4e38, -3.4028234e38], [5e-324, 0.0, -5e-324]])
def test_ratings_of_any_size_give_finite_scores_that_decrease(scores):
    class Rates(Silent):
        async def answer(self, query, candidates, comparisons, client):
            return [Answer((one.items,), score=scores[one.items[0]]) for one in comparisons]

    result = Reranker(Rates(), "pointwise").rank("q", hits(3))
    written = np.array([hit.score for hit in result], np.float32)
    assert result.docnos == [hit.docno for hit in hits(3)]
    assert np.isfinite(written).all()
    assert (np.diff(written) < 0).all()


def test_a_result_is_pickled_with_everything_that_belongs_to_it():
    results = Reranker(SimulatedJudge(TRUTH), "jointrank").rank_batch([(QUERIES[0][0], hits(30))])
    for copied in (pickle.loads(pickle.dumps(results[0])), copy.deepcopy(results[0])):  # noqa: S301
        assert copied == results[0]
        for slot in Reranked.__slots__:
            assert getattr(copied, slot) == getattr(results[0], slot)
        assert [hit.text for hit in copied] == [hit.text for hit in results[0]]


def test_a_ranking_comes_back_as_a_ranking_with_the_same_texts():
    passages = {f"d{i}": Passage(f"d{i}", f"text {i}", metadata={"i": str(i)}) for i in range(30)}

    class Source:
        def passages(self, docnos):
            return [passages[docno] for docno in docnos]

    given = Ranking(list(passages), exact=True, source="search", passages=Source())
    grades = {"q": {f"d{i}": float(i) for i in range(30)}}
    result = Reranker(SimulatedJudge(grades), "setwise-heap", k=5, depth=20).rank(Query("q", "q"), given)
    assert result.docnos[:5] == ["d19", "d18", "d17", "d16", "d15"]
    assert result.docnos[20:] == given.docnos[20:]
    assert [hit.text for hit in result.cut(2)] == ["text 19", "text 18"]
    assert (result.source, result.exact, result.complete) == ("rerank", True, True)
    stopped = Reranker(SimulatedJudge(grades), "sliding", budget=Budget(calls=1)).rank("q", given)
    assert (stopped.exact, stopped.complete, stopped.stopped) == (False, False, "calls")


def test_a_run_comes_back_as_a_run_in_its_own_order():
    run = Run({qid: Ranking(list(TRUTH[qid])) for qid in ("q3", "q1", "q2")}, "first")
    made = Reranker(SimulatedJudge(TRUTH), "pointwise").rank_batch(run, [Query(qid, qid) for qid in sorted(TRUTH)])
    assert isinstance(made, Run)
    assert list(made) == ["q3", "q1", "q2"]
    for qid, ranking in made.items():
        assert ranking.qid == qid
        assert ranking.docnos == sorted(TRUTH[qid], key=lambda docno, qid=qid: -TRUTH[qid][docno])
        assert ranking.usage.calls == 100


def test_a_run_with_a_query_nobody_gave_is_refused():
    with pytest.raises(InputError, match="'q9'"):
        Reranker(SimulatedJudge(TRUTH)).rank_batch(Run({"q9": Ranking(["d1"])}), [Query("q1", "text")])


def test_a_ranking_without_texts_is_refused_by_a_judge_that_reads():
    class Reads(Silent):
        reads_text = True

    with pytest.raises(InputError, match="with_passages"):
        Reranker(Reads(), "sliding").rank("q", Ranking(["d1", "d2"]))


def test_total_usage_adds_counts_and_keeps_the_largest_depth():
    results = Reranker(SimulatedJudge(TRUTH), "sliding").rank_batch(
        [(QUERIES[0][0], hits(100)), (QUERIES[1][0], hits(30))]
    )
    total = RerankUsage.total((result.usage for result in results), 1.5)
    assert (total.queries, total.calls, total.depth, total.seconds) == (2, 9 + 2, 9, 1.5)
    assert total.as_dict()["comparisons"] == 11
    assert RerankUsage.total([], 0.0).queries == 0


def test_unreadable_answers_of_a_skipped_query_leave_an_empty_ranking_with_the_error():
    (result,) = Reranker(Silent(), "sliding", on_failure="skip").rank_batch([("q", hits(30))])
    assert (len(result), result.complete, result.usage.unreadable) == (0, False, 2)
    assert "none of the answers could be read" in result.error
