"""Cells of the study of reranking plans: nDCG@10 as the measure has it, calls and tokens as spent, rows as summed."""

import json
import random

import numpy as np
import pytest

from eval.rerank_cells import JUDGES, PROMPT_TOKENS, Topic, dcg, measure
from eval.rerank_study import CHOOSING, PLANS, WIDE, all_cells, cells, interval, summed, table
from thresher.evaluate.measures import evaluate
from thresher.ranking import Ranking, Run
from thresher.records import Qrels
from thresher.rerank.plans import PLANS as KINDS
from thresher.rerank.plans import plan_from_name


def topic(qid: str, n: int = 40) -> Topic:
    rng = random.Random(qid)
    docnos = tuple(f"{qid}-{i}" for i in range(n))
    grades = {docno: rng.choice((0, 0, 1, 2, 3)) for docno in docnos[::2]} | {f"{qid}-lost": 3}
    gains = tuple(float(grades.get(docno, 0)) for docno in docnos)
    ideal = dcg(sorted(grades.values(), reverse=True))
    return Topic(qid, docnos, grades, gains, ideal, (10,) * n, PROMPT_TOKENS)


TOPICS = [topic(f"q{i}") for i in range(4)]


def test_a_cell_has_the_value_of_the_measure_and_the_tokens_that_were_shown():
    found = measure("single:window=all", "perfect", "dl19-bm25", 0, TOPICS)
    best = Run({one.qid: Ranking(sorted(one.docnos, key=lambda d, o=one: -o.grades.get(d, 0))) for one in TOPICS})
    qrels = Qrels({one.qid: dict(one.grades) for one in TOPICS})
    truth = evaluate(best, qrels, "nDCG@10")
    assert np.mean(found.values) == pytest.approx(truth.mean["nDCG@10"])
    assert (found.calls, found.depth, found.tokens) == (1, 1, PROMPT_TOKENS + 400)
    pairs = measure("pairwise-heap", "perfect", "dl19-bm25", 0, TOPICS)
    assert pairs.decision_calls < pairs.calls
    assert pairs.tokens == pytest.approx(pairs.calls * (PROMPT_TOKENS + 20))


@pytest.mark.parametrize("judge", JUDGES)
def test_every_judge_answers_and_is_the_same_for_all_plans(judge):
    one = measure("sliding", judge, "dl21-splade-pp-ed", 3, TOPICS)
    assert one == measure("sliding:window=20", judge, "dl21-splade-pp-ed", 3, TOPICS)
    if judge != "perfect":
        assert one != measure("sliding", judge, "dl21-splade-pp-ed", 4, TOPICS)


def test_every_kind_of_plan_is_studied():
    with_neighbours = {"slidegar"}  # without them it is a sliding window
    assert {name.partition(":")[0] for name in PLANS} == set(KINDS.kinds()) - with_neighbours
    assert set(WIDE) <= set(PLANS)
    for name in PLANS:
        plan_from_name(name)


def test_a_run_that_stops_early_has_every_plan():
    wanted = cells(["dl19-bm25", "dl21-bm25"], JUDGES, {"dl19": 20, "dl21": 3})
    assert len(set(wanted)) == len(wanted)
    third = wanted[: len(wanted) // 3]
    studied = {(plan, judge) for plan, judge, collection, _ in wanted if collection == "dl19-bm25" and PLANS[plan] > 4}
    assert {(plan, judge) for plan, judge, collection, _ in third if collection == "dl19-bm25"} >= studied
    assert {judge for _, judge, collection, _ in wanted if collection == "dl21-bm25"} == set(CHOOSING)


def test_rows_are_means_over_seeds_with_an_interval_over_topics():
    rows = [
        {
            "cell": ["sliding", judge, collection, seed], "calls": 9.0, "decision_calls": 9.0, "tokens": 100.4,
            "depth": 9.0, "values": [0.5 + 0.1 * seed, 0.7],
        }
        for judge in CHOOSING for collection in ("dl21-bm25", "dl19-bm25") for seed in (0, 1)
    ]  # fmt: skip
    summary, details = summed(rows, {"dl21-bm25": 0.9, "dl19-bm25": 0.9})
    assert len(details) == 2 * len(summary) == len(rows)
    first = summary[0]
    assert first["nDCG@10"] == pytest.approx(0.625)
    assert first["lo"] == pytest.approx(0.55) and first["hi"] == pytest.approx(0.7)
    assert first["regret"] == pytest.approx(0.275)
    assert [row["seed"] for row in details[:2]] == [0, 1]
    assert table(summary) == [{"plan": "sliding", "value": 0.625, "choices": False}]


def test_an_interval_of_equal_values_is_a_point():
    assert interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_cells_that_are_done_are_not_measured_again(tmp_path, monkeypatch):
    from eval import rerank_study
    from eval.bench import Bench

    bench = Bench(tmp_path)
    monkeypatch.setattr(rerank_study, "ProcessPoolExecutor", lambda _: pytest.fail("measured again"))
    done = {"cell": ["sliding", "perfect", "dl19-bm25", 0], "code": rerank_study.code_of("sliding")}
    other = done | {"cell": ["single", "perfect", "dl19-bm25", 0], "code": "older"}
    (tmp_path / "rerank-study.jsonl").write_text(f'{json.dumps(done)}\n{json.dumps(other)}\n{{"cell": ["sl')
    assert all_cells(bench, [("sliding", "perfect", "dl19-bm25", 0)], 1.0) == [done]
    assert all_cells(bench, [(name, "perfect", "dl19-bm25", 0) for name in ("sliding", "single")], 0.0) == [done]
