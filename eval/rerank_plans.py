"""Calls and nDCG@10 of every reranking plan: simulated judges over real candidates.

The candidates are the BM25 top 100 of TREC DL 2019, the utility of a passage is its NIST grade (0 where unjudged). The
perfect judge orders by utility; the noisy one is Plackett-Luce (Gumbel noise of scale 1 on 1.5 times the grade). Every
figure is a mean over 43 queries and the seeds given; `regret` is what is lost against the best order of the
candidates. Nothing is tuned here. Writes eval/results/rerank-plans.json.
"""

from __future__ import annotations

import statistics
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

import altair as alt

from eval.bench import Bench, Row, options
from eval.collections import data_file
from thresher.evaluate.measures import evaluate
from thresher.evaluate.trec import read_qrels, read_run
from thresher.ranking import Ranking, Run
from thresher.rerank.driver import query_seed
from thresher.rerank.plans import plan_from_name
from thresher.rerank.plans.plan import drive
from training.rerank.simulated import Simulation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.records import Qrels
    from thresher.rerank.plans.plan import Plan

SEEDS = (0, 1, 2)
DEPTH = 100
PLANS = (
    "pointwise",
    "pairwise-all",
    "instupr-pairs",
    "pairwise-heap",
    "pairwise-sliding",
    "setwise-heap:children=3",
    "setwise-heap:children=9",
    "setwise-heap:children=19",
    "setwise-insertion:children=3",
    "setwise-insertion:children=9",
    "setwise-insertion:children=19",
    "single:window=20",
    "single:window=all",
    "sliding:window=20,stride=10",
    "sliding:window=20,stride=10,passes=2",
    "jointrank:block=20,replicas=2",
    "jointrank:block=20,replicas=4",
    "jointrank:block=20,replicas=4,penalty=1",
    "jointrank:block=20,replicas=4,aggregation=win-rate",
    "jointrank:block=10,replicas=2",
    "jointrank:block=10,replicas=4",
    "jointrank-head:windows=1",
    "jointrank-head:windows=5",
    "jointrank-head:replicas=3,windows=5",
)
JUDGES = {"perfect": (1.0, Simulation()), "noisy": (1.5, Simulation(noise=1.0))}


def rerank(
    plan: Plan, judge: str, docnos: Sequence[str], grades: Mapping[str, int], qid: str, seed: int
) -> tuple[list[str], int, int]:
    """One query: docnos in their new order, calls, and the number of calls that had to wait for another."""
    scale, simulation = JUDGES[judge]
    utilities = [scale * max(grades.get(docno, 0), 0) for docno in docnos]
    digest = sha256(f"{judge} {seed} {qid} {plan.name}".encode()).digest()
    rng = Random(int.from_bytes(digest[:8], "big"))  # noqa: S311
    answer = simulation.judging(utilities, rng)
    placement, spent = drive(plan, len(docnos), answer, k=10, seed=query_seed(seed, qid))
    return [docnos[item] for item in placement.order], spent.questions, spent.depth


def measure(spec: str, judge: str, candidates: Mapping[str, Sequence[str]], qrels: Qrels, ideal: float) -> Row:
    """The row of one plan under one judge."""
    plan = plan_from_name(spec)
    values, calls, depths = [], [], []
    for seed in SEEDS:
        rankings = {}
        for qid, docnos in candidates.items():
            order, asked, depth = rerank(plan, judge, docnos, qrels.judgments.get(qid, {}), qid, seed)
            rankings[qid] = Ranking(order)
            calls.append(asked)
            depths.append(depth)
        values.append(evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"])
    mean = statistics.fmean(values)
    return {
        "plan": spec,
        "judge": judge,
        "calls": statistics.fmean(calls),
        "max_calls": plan.bound(DEPTH, 10).calls,
        "depth": statistics.fmean(depths),
        "exact_top": plan.exact_top(DEPTH, 10),
        "nDCG@10": mean,
        "sd": statistics.stdev(values),
        "regret": ideal - mean,
    }


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("rerank-plans", __doc__).parse_args(arguments))
    qrels = read_qrels(data_file("trec-dl", "qrels.dl19.txt"))
    run = read_run(data_file("runs", "bm25.dl19.run.gz"), as_listed=True)
    candidates = {qid: ranking.docnos[:DEPTH] for qid, ranking in run.items()}
    best = {
        qid: Ranking(sorted(docnos, key=lambda docno: -qrels.judgments[qid].get(docno, 0)))
        for qid, docnos in candidates.items()
    }
    ideal = evaluate(Run(best), qrels, "nDCG@10").mean["nDCG@10"]
    rows = [measure(spec, judge, candidates, qrels, ideal) for judge in JUDGES for spec in PLANS]
    points = [{**row, "family": row["plan"].partition(":")[0]} for row in rows]
    plot = (
        alt.Chart(alt.Data(values=points), title="Calls a query against nDCG@10 (DL 2019, BM25 top 100)")
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("calls:Q", scale=alt.Scale(type="log"), title="calls a query"),
            y=alt.Y("nDCG@10:Q", scale=alt.Scale(zero=False), title="nDCG@10"),
            color="family:N",
            shape="judge:N",
        )
        .properties(width=520, height=320)
    )
    bench.write(
        "rerank-plans",
        rows,
        seed=SEEDS[0],
        plot=plot,
        columns={
            "plan": "", "judge": "", "calls": ".1f", "max_calls": "d", "depth": ".1f", "exact_top": "d",
            "nDCG@10": ".4f", "sd": ".4f", "regret": ".4f",
        },
        title="Reranking plans under simulated judges",
        note=f"TREC DL 2019, BM25 top 100, 43 queries, seeds {SEEDS}; the best order of the candidates has nDCG@10 "
        f"{ideal:.4f}. Errors of the noisy judge are independent, those of a model are not: gains from asking again "
        "are upper bounds. `exact_top` is the number of first ranks that are right under a perfect judge.",
    )  # fmt: skip
