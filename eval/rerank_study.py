"""Reranking plans side by side: nDCG@10 against calls, questions, prefill tokens and depth, under simulated judges.

Every plan reranks the top 100 of BM25 and of SPLADE++ ED, of TREC DL 2019 and DL 2021, under judges that are perfect,
noisy at three levels, correlated in their errors, biased by position or by the order of options, sometimes malformed,
or fitted to recorded models (`python -m eval rerank-fitted`). The default plan and the table of `plan="auto"` were
chosen on DL 2021 and are only reported on DL 2019. A judge's errors depend on seed and topic alone, so all plans meet
the same judge.

Cells that are done are kept in the work directory: a run that was stopped goes on where it was. Writes
eval/results/rerank-study.json, and with --table src/thresher/rerank/measured.json, which `plan="auto"` reads.
"""

from __future__ import annotations

import inspect
import json
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import groupby, product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from eval.bench import Bench, Row, key_of, options
from eval.rerank_cells import COLLECTIONS, DECISIONS_A_CALL, FITTED, JUDGES, SIMULATIONS, dcg, load_topics, measure
from thresher.durable import write_atomic
from thresher.rerank import choosing
from thresher.rerank.plans import plan_from_name
from training.rerank.fitted import PARAMETERS
from training.rerank.simulated import Simulation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from eval.rerank_cells import Topic

CHOOSING = ("noise-1", "correlated", "position-bias", *FITTED)
"""The judges that are asked on DL 2021: `plan="auto"` weighs them alike."""
MEASURED = Path(choosing.__file__).parent / "measured.json"
SEEDS = {"dl19": 20, "dl21": 3}
BASE = "sliding"
"""Gains are over this plan, paired by topic."""
RESAMPLED = 1000
CHUNK = 8  # cells a process is given at a time
AGGREGATORS = ("win-rate", "borda", "copeland", "elo", "pagerank", "rank-centrality")
PLANS: dict[str, int] = {
    "sliding": 20,
    "sliding:passes=2": 10,
    "single": 10,
    "top-down": 10,
    "tournament-graph": 10,
    "tourrank": 10,
    "funnel": 20,
    "funnel:copies=1,middle=1,windows=2": 20,
    "funnel:copies=1,middle=0,windows=4": 20,
    "funnel:copies=2,middle=2,windows=6": 20,
    "jointrank": 20,
    "jointrank-head": 10,
    "jointrank-head:replicas=3": 20,
    "acurank": 10,
    "choice-pool": 10,
    "setwise-heap:children=9": 10,
    "setwise-insertion:children=9": 10,
    "sliding:stride=5": 3,
    "single:window=all": 3,
    "top-down:buffer=20": 3,
    "tournament-graph:block=10": 3,
    "tourrank:tournaments=2": 3,
    "tourrank:aggregation=bradley-terry": 3,
    "funnel:prior=0.02": 3,
    "funnel:copies=1,middle=0,windows=1": 3,
    "funnel:copies=2,middle=0,windows=5": 3,
    "funnel:copies=4,middle=3,windows=10": 3,
    "jointrank:replicas=2": 3,
    "jointrank:block=10,replicas=2": 3,
    "jointrank:design=latin-square,block=10": 3,
    "jointrank:design=triangular": 3,
    "jointrank-head:windows=1": 3,
    "jointrank:penalty=3,first_stage=1": 3,
    "jointrank-head:replicas=3,penalty=3,first_stage=1": 3,
    **{f"jointrank:aggregation={name}": 3 for name in AGGREGATORS},
    **{f"jointrank-head:replicas=3,aggregation={name}": 3 for name in AGGREGATORS},
    "choice-pool:repeats=1": 3,
    "choice-pool:pool=50": 3,
    "setwise-heap:children=3": 3,
    "setwise-heap:children=19": 3,
    "setwise-insertion:children=19": 3,
    "pointwise": 3,
    "pairwise-heap": 2,
    "prp-graph:rounds=5": 1,
    "instupr-pairs": 1,
    "pairwise-sliding": 1,
    "pairwise-all": 1,
}
"""Every plan, and on how many seeds it is measured at most: comparing all pairs takes minutes a seed."""
WIDE = ("choice-pool", "choice-pool:repeats=1", "choice-pool:pool=50", "single:window=all")
"""Plans that show a hundred passages at once, where no model was recorded; decision models alone are asked so."""
CHEAP = 3
"""Plans of fewer seeds are not measured on DL 2021: too costly to be chosen."""


def cells(collections: Iterable[str], judges: Sequence[str], seeds: Mapping[str, int]) -> list[tuple[Any, ...]]:
    """What is to be measured, in an order in which a run that is stopped has all plans, on fewer seeds."""
    wanted = []
    for collection, judge in product(collections, judges):
        year = collection.partition("-")[0]
        if year == "dl21" and judge not in CHOOSING:
            continue
        for plan, most in PLANS.items():
            if year == "dl21" and most < CHEAP:
                continue
            count = min(most, seeds[year], 3 if judge == "perfect" else most)
            wanted += [((seed + 0.5) / most, (plan, judge, collection, seed)) for seed in range(count)]
    return [cell for _, cell in sorted(wanted, key=lambda one: one[0])]


@cache
def code_of(plan: str) -> str:
    """A hash of what made a cell: the plan's module, and the judges."""
    sources = (
        inspect.getsource(inspect.getmodule(thing) or thing) for thing in (type(plan_from_name(plan)), Simulation)
    )
    return key_of(*sources, repr(SIMULATIONS), PARAMETERS.read_text(encoding="utf-8"))


_TOPICS: dict[str, list[Topic]] = {}


def _measured(bench: Bench, chunk: Sequence[tuple[str, str, str, int]]) -> list[Row]:
    """The cells of one process's turn, of one collection."""
    rows = []
    for plan, judge, collection, seed in chunk:
        if collection not in _TOPICS:
            _TOPICS[collection] = load_topics(bench, collection)
        found = measure(plan, judge, collection, seed, _TOPICS[collection])
        rows.append(
            {
                "cell": [plan, judge, collection, seed],
                "code": code_of(plan),
                "calls": found.calls,
                "decision_calls": found.decision_calls,
                "tokens": found.tokens,
                "depth": found.depth,
                "values": [round(value, 5) for value in found.values],
            }
        )
    return rows


def all_cells(bench: Bench, wanted: Sequence[tuple[Any, ...]], minutes: float) -> list[Row]:
    """The rows of the cells, those in the work directory first; after `minutes` no new ones are begun."""
    file = bench.work / "rerank-study.jsonl"
    done: dict[tuple[Any, ...], Row] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line) if line.endswith("}") else {"cell": [""]}  # a line that is still being written
            if row["cell"][0] in PLANS and row["code"] == code_of(row["cell"][0]):
                done[tuple(row["cell"])] = row
    left = [cell for cell in wanted if cell not in done]
    if not left or minutes <= 0:
        return [done[cell] for cell in wanted if cell in done]
    chunks = [list(cells) for _, cells in groupby(left, key=lambda cell: cell[1:3])]
    chunks = [chunk[start : start + CHUNK] for chunk in chunks for start in range(0, len(chunk), CHUNK)]
    ends = time.monotonic() + 60.0 * minutes
    with file.open("a", encoding="utf-8") as stream, ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(_measured, bench, chunk) for chunk in chunks]
        for number, future in enumerate(as_completed(futures), 1):
            for row in future.result():
                done[tuple(row["cell"])] = row
                stream.write(json.dumps(row) + "\n")
            stream.flush()
            print(f"{number} of {len(futures)}", flush=True)
            if time.monotonic() > ends:
                pool.shutdown(cancel_futures=True)
                break
    return [done[cell] for cell in wanted if cell in done]


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The bootstrap interval (95 %) of a mean over topics."""
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLED, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def aggregator_of(plan: str) -> str:
    """The aggregator of a plan that has one, else "none"."""
    made = plan_from_name(plan)
    return str(getattr(made, "aggregation", "bradley-terry" if plan.startswith("funnel") else "none"))


def summed(rows: Sequence[Row], ideal: Mapping[str, float]) -> tuple[list[Row], list[Row]]:
    """A row for each plan, judge and collection, and one for each seed of it."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row["cell"][:3])].append(row)
    summary, details = [], []
    for (plan, judge, collection), found in groups.items():
        values = np.array([row["values"] for row in found])
        known = {"plan": plan, "judge": judge, "aggregator": aggregator_of(plan), "collection": collection}
        for row, one in zip(found, values, strict=True):
            details.append(_row(known, row["cell"][3], [row], one))
        mean = _row(known, None, found, values.mean(axis=0))
        if (base := groups.get((BASE, judge, collection))) is not None:
            alike = {row["cell"][3]: row["values"] for row in base}
            pairs = [(row["values"], alike[row["cell"][3]]) for row in found if row["cell"][3] in alike]
            gain = np.mean([np.subtract(one, other) for one, other in pairs], axis=0)
            low, high = interval(gain)
            mean |= {"gain": round(float(gain.mean()), 5), "gain_lo": round(low, 5), "gain_hi": round(high, 5)}
        sd = float(values.mean(axis=1).std(ddof=1)) if len(values) > 1 else None
        summary.append(mean | {"seeds": len(found), "sd": sd, "regret": ideal[collection] - mean["nDCG@10"]})
    return summary, details


def _row(known: Row, seed: int | None, found: Sequence[Row], values: NDArray[np.float64]) -> Row:
    low, high = interval(values)
    calls = round(fmean(row["calls"] for row in found), 2)
    return {
        **known,
        "seed": seed,
        "calls": calls,
        "questions": calls,
        "decision_calls": round(fmean(row["decision_calls"] for row in found), 2),
        "prefill_tokens": round(fmean(row["tokens"] for row in found)),
        "depth": round(fmean(row["depth"] for row in found), 2),
        "nDCG@10": round(float(values.mean()), 5),
        "lo": round(low, 5),
        "hi": round(high, 5),
    }


def ideals(bench: Bench, collections: Iterable[str]) -> dict[str, float]:
    """The nDCG@10 of the best order of the candidates."""
    return {
        collection: fmean(
            dcg(sorted(topic.gains, reverse=True)) / topic.ideal if topic.ideal else 0.0
            for topic in load_topics(bench, collection)
        )
        for collection in collections
    }


def table(summary: Sequence[Row]) -> list[Row]:
    """What `plan="auto"` reads: each plan's mean over judges and lists of DL 2021, the best first."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in summary:
        if row["collection"].startswith("dl21") and row["judge"] in CHOOSING:
            values[row["plan"]].append(row["nDCG@10"])
    whole = max(map(len, values.values()))
    rows = [
        {"plan": plan, "value": round(fmean(found), 4), "choices": plan in WIDE}
        for plan, found in values.items()
        if len(found) == whole
    ]
    return sorted(rows, key=lambda row: (-row["value"], row["plan"]))


def drawn(summary: Sequence[Row]) -> alt.Chart | Any:
    """Calls against nDCG@10 on BM25's candidates of DL 2019, a panel for each judge."""
    names = ("plan", "judge", "calls", "nDCG@10", "collection")
    points = [
        {key: row[key] for key in names} | {"family": row["plan"].partition(":")[0]}
        for row in summary
        if row["collection"] == "dl19-bm25" and row["calls"] >= 1
    ]
    return (
        alt.Chart(alt.Data(values=points))
        .mark_point(filled=True, size=45)
        .encode(
            x=alt.X("calls:Q", scale=alt.Scale(type="log"), title="calls a query"),
            y=alt.Y("nDCG@10:Q", scale=alt.Scale(zero=False), title="nDCG@10"),
            color="family:N",
            shape="family:N",
        )
        .properties(width=300, height=200)
        .facet(facet=alt.Facet("judge:N", sort=list(JUDGES), title=None), columns=2)
        .resolve_scale(y="independent")
    )


def main(arguments: Sequence[str]) -> None:
    """Measure what is left, summarise and write."""
    parser = options("rerank-study", __doc__)
    parser.add_argument("--collection", choices=["dl19", "dl21", "all"], default="all", help="which topics to measure")
    parser.add_argument("--judge", action="append", choices=JUDGES, help="only this judge; can be repeated")
    parser.add_argument("--seeds", type=int, default=max(SEEDS.values()), help="seeds at most")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no new cells after so many; 0: write what is")
    parser.add_argument("--table", action="store_true", help="write what `plan=auto` reads, from DL 2021")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    collections = [name for name in COLLECTIONS if given.collection in ("all", name.partition("-")[0])]
    seeds = {year: min(most, given.seeds) for year, most in SEEDS.items()}
    for name in collections:
        load_topics(bench, name)
    wanted = cells(collections, given.judge or JUDGES, seeds)
    summary, details = summed(all_cells(bench, wanted, given.minutes), ideals(bench, collections))
    if given.table:
        write_atomic(MEASURED, json.dumps(table(summary), indent=1) + "\n")
    bench.write(
        "rerank-study",
        summary,
        seed=0,
        plot=drawn(summary),
        columns={
            "collection": "", "judge": "", "plan": "", "aggregator": "", "seeds": "d", "calls": ".1f",
            "decision_calls": ".1f", "prefill_tokens": "d", "depth": ".1f", "nDCG@10": ".4f", "lo": ".4f",
            "hi": ".4f", "sd": ".4f", "regret": ".4f", "gain": "+.4f", "gain_lo": "+.4f", "gain_hi": "+.4f",
        },
        title="Reranking plans under simulated and fitted judges",
        note="Top 100 of BM25 and SPLADE++ ED, all judged topics of TREC DL 2019 (43) and DL 2021 (53). Means over "
        "topics and seeds; `lo` and `hi` are a 95 % bootstrap interval over topics of the mean over seeds, `sd` the "
        "standard deviation between seeds, `regret` what is lost against the best order of the candidates, `gain` what "
        "is found over a sliding window by the same judge (paired by topic and seed, with its interval): compare plans "
        "of different numbers of seeds by it. `calls` "
        "asks one question each; `decision_calls` takes up to "
        f"{DECISIONS_A_CALL} questions of a batch. Prefill tokens: 1.3 a word of the passages shown and the query, 6 "
        "more a passage, 120 more a question. Where no other judge is named the noise of a simulated judge has scale "
        "1, at a utility of 1.5 a grade.",
        details=details,
    )  # fmt: skip
