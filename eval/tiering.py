"""Half of the passages in a second tier, asked only where the first looks unsure: eval/results/tiering.json.

    python eval/tiering.py            # resumes where it was interrupted

Both tiers are BM25 with the statistics of the whole corpus, so a question that falls through gets the unpruned answer.
`coverage`: learned from a log, the margin test calibrated on the same log. The log is the train split (NFCorpus,
SciFact), other MS MARCO questions (DL 2019), or the other half of the questions, twice, so that every question is
measured once by a log without it (Cranfield, NPL, MED). No judgment is read. `embedded`: passages go by the shipped
estimator; the test is calibrated on the same log. `random`: they go at random.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import altair as alt
import numpy as np
from pruned_rankings import COLLECTIONS, Sheet, bench, csr, interval, known, mask, question_vectors, work
from quality_curves import coverage, embedded, features

from thresher.collection import load
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_queries
from thresher.quality.coverage import DenseView, LogCoverage, SparseView
from thresher.search.tiered import MarginTest, margins, missed_share

RESULTS = Path(__file__).parent / "results"
PRUNED, RATES, DRAWS = 0.5, (0.1, 0.2, 0.3), 200
CALIBRATED = 500
"""Questions of the log that the margin test is calibrated on, at most."""


def logs(made) -> list[tuple[list[str], np.ndarray]]:
    """Pairs of a log and the questions (numbers) measured by it."""
    everything = np.arange(len(made.qids))
    if made.name in ("nfcorpus", "scifact"):
        return [([q.text for q in load(f"{made.name}/train").queries], everything)]
    if made.name == "trec-dl-2019":
        log = read_queries(Path(os.environ["THRESHER_DATA"]) / "trec-dl" / "queries.msmarco-dev.tsv")
        asked = {q.lower() for q in made.questions}
        return [([q.text for q in log if q.text.lower() not in asked][::5], everything)]
    order = np.random.default_rng(0).permutation(everything)
    halves = np.array_split(order, 2)
    return [([made.questions[i] for i in a], b) for a, b in (halves, halves[::-1])]


def answers(made, queries, kept):
    """Margins of the first tier's answers and what they miss, by question."""
    table, missed = [], []
    transposed = made.passages.T.tocsr()
    for i in range(queries.shape[0]):
        row = (queries[i] @ transposed).tocsr()
        order = np.lexsort((row.indices, -row.data))
        rows, scores = row.indices[order], row.data[order]
        mine = kept[rows]
        table.append(margins(scores[mine][:10]))
        missed.append(missed_share(rows[mine][:10].tolist(), rows[:10].tolist()))
    return np.array(table), np.array(missed)


def case(name: str) -> list[dict]:
    made = bench(name)
    lexical = features(made)
    sheet = Sheet(made, "bm25")
    full = sheet.top(np.ones(made.n, bool))["nDCG@10"]
    parts: dict[str, dict[str, np.ndarray]] = {}
    for log, held in logs(made):
        batch = made.encoder.encode_queries(log)
        covered = coverage(made, lexical)
        if covered is None:
            view = SparseView(made.encoder.encode_passages(made.texts), batch)
            dense = DenseView(made.vectors(), question_vectors(log))
            covered = LogCoverage([view, dense]).learn(known(made), target=0)
        scored = {
            "coverage": covered,
            "embedded": embedded(made, lexical),
            "random": np.random.default_rng(1).random(made.n),
        }
        for estimator, scores in scored.items():
            kept = mask(made, scores, PRUNED)
            table, missed = answers(made, csr(batch, made.passages.shape[1])[:CALIBRATED], kept)
            mine, lost = answers(made, made.queries[held], kept)
            store = parts.setdefault(estimator, {"pruned": np.zeros(len(full)), "lost": np.zeros(len(full))})
            store["pruned"][held] = sheet.top(kept)["nDCG@10"][held]
            store["lost"][held] = lost
            for rate in RATES:
                test = MarginTest.fit(table, missed, rate)
                store.setdefault(f"doubt {rate}", np.zeros(len(full)))[held] = test.doubt(mine) - test.threshold
    rows = []
    rng = np.random.default_rng(2)
    for estimator, store in parts.items():
        for rate in RATES:
            through = store[f"doubt {rate}"] > 0
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
                    "collection": name, "estimator": estimator, "pruned": PRUNED, "wanted_rate": rate,
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
    data = alt.Data(values=rows)
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
