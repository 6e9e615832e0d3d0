"""Half of the passages in a second tier, asked only where the first looks unsure: eval/results/tiering.json.

    python eval/tiering.py            # resumes where it was interrupted

Both tiers are BM25 with the statistics of the whole corpus, so a query that falls through gets the unpruned answer.
Passages go by `coverage`, learned from a log without reading a judgment, by `embedded`, the shipped estimator, or at
`random`. The log is the train split (NFCorpus, SciFact), or the other half of the queries, twice, so that every
query is measured by a log without it (Cranfield, NPL, MED). The test is calibrated on queries of the log that the
pruning did not see (coverage learned without their fold). For DL 2019 the log is of other MS MARCO queries, which the
excerpt was not made for: the test's weights come from them, its threshold from the other half of the queries, and
`coverage` is left out. `test`: `lists` is the shipped test, `margins` is one without what the second tier's lists say.
Its signs and its ridge were chosen on TIME and on the train splits. `threshold`: `log` is that calibration; `live` sets
it again at the wanted rate on the queries that come (`MarginTest.at_rate`), for which the first tier alone is asked.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
from pruned_rankings import COLLECTIONS, Bench, Sheet, bench, csr, interval, known, mask, query_vectors, work
from quality_curves import embedded, features

from thresher.evaluate.collections import load
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_queries
from thresher.search.routing import LISTS, MARGINS, SIGNS, MarginTest, missed_share, signs
from training.quality.coverage import DenseView, LogCoverage, SparseView

if TYPE_CHECKING:
    from scipy import sparse

RESULTS = Path(__file__).parent / "results"
PRUNED, RATES, DRAWS = 0.5, (0.1, 0.2, 0.25, 0.3), 200
TESTS = {"lists": len(SIGNS), "margins": len(MARGINS)}
THRESHOLDS = ("log", "live")
CALIBRATED = 500
"""Queries of the log that the test is calibrated on, at most."""


def logs(made: Bench) -> list[tuple[list[str], np.ndarray, np.ndarray | None]]:
    """A log, the queries (numbers) measured by it, and those that set the threshold where the log's do not."""
    everything = np.arange(len(made.qids))
    if made.name in ("nfcorpus", "scifact"):
        return [([q.text for q in load(f"{made.name}/train").queries], everything, None)]
    order = np.random.default_rng(0).permutation(everything)
    halves = np.array_split(order, 2)
    if made.name == "trec-dl-2019":
        asked = {q.lower() for q in made.queries}
        log = read_queries(Path(os.environ["THRESHER_DATA"]) / "trec-dl" / "queries.msmarco-dev.tsv")
        others = [q.text for q in log if q.text.lower() not in asked][::14]
        return [(others, b, a) for a, b in (halves, halves[::-1])]
    return [([made.queries[i] for i in a], b, None) for a, b in (halves, halves[::-1])]


def lists(passages: sparse.csc_matrix, kept: np.ndarray) -> np.ndarray:
    """What the lists of a tier say of themselves, float64[terms, len(LISTS)]: largest, tenth, postings."""
    here = kept[passages.indices]
    term = np.repeat(np.arange(passages.shape[1]), np.diff(passages.indptr))[here]
    impact = passages.data[here]
    impact = impact[np.lexsort((-impact, term))]
    postings = np.bincount(term, minlength=passages.shape[1])
    first = np.cumsum(postings) - postings
    found = np.zeros((passages.shape[1], len(LISTS)))
    found[:, 2] = postings
    for column, place in ((0, 1), (1, 10)):
        long = postings >= place
        found[long, column] = impact[first[long] + place - 1]
    return found


def answers(made: Bench, queries: sparse.csr_matrix, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signs of the first tier's answers and what they miss, by query."""
    table, missed = [], []
    transposed, by_term = made.passages.T.tocsr(), made.passages.tocsc()
    first, second = lists(by_term, kept), lists(by_term, ~kept)
    for i in range(queries.shape[0]):
        row = (queries[i] @ transposed).tocsr()
        order = np.lexsort((row.indices, -row.data))
        rows, scores = row.indices[order], row.data[order]
        mine = kept[rows]
        terms = queries[i].indices
        table.append(signs(scores[mine][:10], queries[i].data, first[terms], second[terms]))
        missed.append(missed_share(rows[mine][:10].tolist(), rows[:10].tolist()))
    return np.array(table), np.array(missed)


def prunings(made: Bench, log: list[str], lexical: np.ndarray) -> dict[str, tuple[np.ndarray, list]]:
    """For each estimator what is kept, and pairs of what calibrates: what is then kept, and queries of the log."""
    batch = csr(made.encoder.encode_queries(log), made.passages.shape[1])
    whole = {"embedded": embedded(made, lexical), "random": np.random.default_rng(1).random(made.n)}
    out = {}
    for name, scores in whole.items():
        kept = mask(made, scores, PRUNED)
        out[name] = (kept, [(kept, batch[:CALIBRATED])])
    if made.name == "trec-dl-2019":
        return out
    view = SparseView(made.encoder.encode_passages(made.texts), made.encoder.encode_queries(log))
    covered = LogCoverage([view, DenseView(made.vectors(), query_vectors(log))])
    others = known(made)
    pairs = []
    left = CALIBRATED
    for fold, part in enumerate(covered.parts):
        queries = part[:left]
        left -= len(queries)
        if len(queries):
            pairs.append((mask(made, covered.learn(others, target=0, leave=fold), PRUNED), batch[queries]))
    return {"coverage": (mask(made, covered.learn(others, target=0), PRUNED), pairs), **out}


def case(name: str) -> list[dict]:
    made = bench(name)
    lexical = features(made)
    sheet = Sheet(made, "bm25")
    full = sheet.top(np.ones(made.n, bool))["nDCG@10"]
    parts: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
    for log, held, like in logs(made):
        for estimator, (kept, calibrating) in prunings(made, log, lexical).items():
            tables, misses = zip(*(answers(made, queries, cut) for cut, queries in calibrating), strict=True)
            table, missed = np.concatenate(tables), np.concatenate(misses)
            mine, lost = answers(made, made.queries[held], kept)
            again = None if like is None else answers(made, made.queries[like], kept)[0]
            pruned = sheet.top(kept)["nDCG@10"][held]
            for (kind, width), threshold in product(TESTS.items(), THRESHOLDS):
                start = {"pruned": np.zeros(len(full)), "lost": np.zeros(len(full))}
                store = parts.setdefault((estimator, kind, threshold), start)
                store["pruned"][held], store["lost"][held] = pruned, lost
                for rate in RATES:
                    test = MarginTest.fit(table[:, :width], missed, rate)
                    if threshold == "live" or again is not None:
                        test = test.at_rate((mine if threshold == "live" else again)[:, :width], rate)
                    on = test.through(mine) if kind == "lists" else test.doubt(mine[:, :width]) > test.threshold
                    store.setdefault(f"through {rate}", np.zeros(len(full), bool))[held] = on
    rows = []
    rng = np.random.default_rng(2)
    for (estimator, kind, threshold), store in parts.items():
        for rate in RATES:
            through = store[f"through {rate}"]
            tiered = np.where(through, full, store["pruned"])
            share = through.mean()
            chance = [
                np.where(rng.permutation(len(full)) < through.sum(), full, store["pruned"]).mean() for _ in range(DRAWS)
            ]
            worst = np.argsort(-store["lost"], kind="stable")[: through.sum()]
            ceiling = store["pruned"].copy()
            ceiling[worst] = full[worst]
            gap, low, high = interval(tiered - full)
            rows.append(
                {
                    "collection": name, "estimator": estimator, "test": kind, "threshold": threshold,
                    "pruned": PRUNED, "wanted_rate": rate,
                    "fell_through": float(share), "nDCG@10": float(tiered.mean()), "unpruned": float(full.mean()),
                    "share": float(tiered.mean() / full.mean()), "minus_unpruned": gap, "lo": low, "hi": high,
                    "without_second": float(store["pruned"].mean()),
                    "random_fall_through": float(np.mean(chance)),
                    "random_95": float(np.percentile(chance, 95)),
                    "ceiling": float(ceiling.mean() / full.mean()),
                    "passages_searched": float(1 - PRUNED + PRUNED * share),
                }
            )  # fmt: skip
    return rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = []
    for name in ("med", "cranfield", "scifact", "npl", "nfcorpus", "trec-dl-2019"):
        file = work() / f"tiering-{name}.json"
        if not file.exists():
            file.write_text(json.dumps(case(name)))
            print(name, "done", flush=True)
    for name in COLLECTIONS:
        rows += json.loads((work() / f"tiering-{name}.json").read_text())
    data = alt.Data(values=[r for r in rows if r["test"] == "lists" and r["threshold"] == "live"])
    chart = alt.Chart(data, width=170, height=130).mark_line(point=True).encode(
        x=alt.X("fell_through:Q", title="share that fell through"),
        y=alt.Y("share:Q", scale=alt.Scale(zero=False), title="share of unpruned nDCG@10"),
        color="estimator:N",
    ).facet("collection:N", columns=3)  # fmt: skip
    write_results(
        RESULTS / "tiering.json", rows, command="python eval/tiering.py", seed=0, plot=chart, packages=["scipy"],
        title="Half of the passages in a second tier",
        note="share: of the unpruned nDCG@10. random_fall_through: the same with as many questions falling through by "
        "chance (mean, and 95 % quantile, of 200 draws). ceiling: share, had the questions fallen through whose first "
        "ten misses most, as only asking both tiers could tell. passages_searched: mean share of the corpus asked.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
