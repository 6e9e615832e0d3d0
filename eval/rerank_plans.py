"""What each plan spends and what it finds: simulated judges over real candidates.

The candidates are the BM25 top 100 of TREC DL 2019, the utility of a passage is its NIST grade (0 where unjudged). The
perfect judge orders by utility; the noisy one is Plackett-Luce (Gumbel noise of scale 1 on 1.5 times the grade). Every
figure is a mean over 43 queries and the seeds given; `regret` is what is lost against the best order of the
candidates. Nothing is tuned here.

    THRESHER_DATA=... python eval/rerank_plans.py
"""

import os
import statistics
from hashlib import sha256
from pathlib import Path
from random import Random

import altair as alt

from thresher.evaluate.measures import evaluate
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_qrels, read_run
from thresher.ranking import Ranking, Run
from thresher.rerank.driver import query_seed
from thresher.rerank.plans.named import parse_plan
from thresher.rerank.plans.plan import drive
from training.rerank.simulated import Simulation

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


def rerank(plan, judge, rows, grades, qid, seed):
    """One query: the new order, asks, depth."""
    scale, simulation = JUDGES[judge]
    utilities = [scale * max(grades.get(row.docno, 0), 0) for row in rows]
    rng = Random(int.from_bytes(sha256(f"{judge} {seed} {qid} {plan.name}".encode()).digest()[:8], "big"))  # noqa: S311
    ranking, calls, depth = drive(plan, len(rows), simulation.judging(utilities, rng), k=10, seed=query_seed(seed, qid))
    return [rows[item].docno for item in ranking.order], calls, depth


def measure(spec, judge, candidates, qrels, ideal):
    plan = parse_plan(spec)
    values, calls, depths = [], [], []
    for seed in SEEDS:
        rankings = {}
        for qid, rows in candidates.items():
            order, asked, depth = rerank(plan, judge, rows, qrels.judgments.get(qid, {}), qid, seed)
            rankings[qid] = Ranking.from_pairs((docno, float(-rank)) for rank, docno in enumerate(order))
            calls.append(asked)
            depths.append(depth)
        values.append(evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"])
    mean = statistics.fmean(values)
    return {
        "plan": spec,
        "judge": judge,
        "calls": statistics.fmean(calls),
        "max_calls": plan.max_calls(DEPTH, 10),
        "depth": statistics.fmean(depths),
        "exact_top": plan.exact_top(DEPTH, 10),
        "ndcg_cut_10": mean,
        "sd": statistics.stdev(values),
        "regret": ideal - mean,
    }


def main():
    data = Path(os.environ["THRESHER_DATA"])
    qrels = read_qrels(data / "trec-dl/qrels.dl19.txt")
    run = read_run(data / "runs/bm25.dl19.run.gz", as_listed=True)
    candidates = {qid: rows[:DEPTH] for qid, rows in run.rankings.items()}
    best = {
        qid: Ranking.from_pairs(
            (row.docno, float(-rank))
            for rank, row in enumerate(sorted(rows, key=lambda row: -qrels.judgments[qid].get(row.docno, 0)))
        )
        for qid, rows in candidates.items()
    }
    ideal = evaluate(Run(best), qrels, "nDCG@10").mean["nDCG@10"]
    rows = [measure(spec, judge, candidates, qrels, ideal) for judge in JUDGES for spec in PLANS]
    points = [{**row, "family": row["plan"].partition(":")[0]} for row in rows]
    plot = (
        alt.Chart(alt.Data(values=points), title="Calls a question against nDCG@10 (DL 2019, BM25 top 100)")
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("calls:Q", scale=alt.Scale(type="log"), title="calls a question"),
            y=alt.Y("ndcg_cut_10:Q", scale=alt.Scale(zero=False), title="nDCG@10"),
            color="family:N",
            shape="judge:N",
        )
        .properties(width=520, height=320)
    )
    write_results(
        "eval/results/rerank-plans.json",
        rows,
        command="python eval/rerank_plans.py",
        seed=SEEDS[0],
        plot=plot,
        columns={
            "plan": "", "judge": "", "calls": ".1f", "max_calls": "d", "depth": ".1f", "exact_top": "d",
            "ndcg_cut_10": ".4f", "sd": ".4f", "regret": ".4f",
        },
        title="Reranking plans under simulated judges",
        note=f"TREC DL 2019, BM25 top 100, 43 questions, seeds {SEEDS}; the best order of the candidates has nDCG@10 "
        f"{ideal:.4f}. Errors of the noisy judge are independent, those of a model are not: gains from asking again "
        "are upper bounds. `exact_top` is the number of first ranks that are right under a perfect judge.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
