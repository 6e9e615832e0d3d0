"""Query-log coverage with half of a collection's queries as the log: eval/results/coverage.json.

    python eval/log_coverage.py            # resumes where it was interrupted

Twenty times a collection's queries are halved. One half is the log: BM25 ranks every passage for each of its
queries (and MiniLM does), coverage is learned from that by leaving out (`training.quality.coverage`), and the 30 % of
the passages with the least go. The other half is searched by BM25 with and without them. No judgment is read before
that. Queries of all splits (train, dev, test) are the collection's queries; `queries: test` takes those of the
test split alone. What the scores are learned from (both views, lexical columns, target BM25) was chosen on TIME, MED
and Cranfield.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import altair as alt
import numpy as np
from pruned_rankings import Sheet, bench, known, mask, work

from thresher.evaluate.results import write_results
from thresher.records import SparseBatch
from training.quality.coverage import DenseView, LogCoverage, SparseView

RESULTS = Path(__file__).parent / "results"
CASES = {
    ("time", "all"): (),
    ("med", "all"): (),
    ("cranfield", "all"): (),
    ("npl", "all"): (),
    ("scifact", "all"): ("train",),
    ("nfcorpus", "all"): ("train", "dev"),
    ("scifact", "test"): (),
    ("nfcorpus", "test"): (),
}
SPLITS, PRUNED, SEEDS = 20, 0.3, 20


class Ranked:
    """A view whose scores were computed once for all queries, and some of them."""

    def __init__(self, view, scores, chosen) -> None:
        self._view, self._scores, self._chosen = view, scores, chosen
        self.passages, self.queries = view.passages, len(chosen)

    def scores(self, query):
        """As the view's."""
        return self._scores[self._chosen[query]].astype(np.float64)

    def nearness(self, scores, tenth):
        """As the view's."""
        return self._view.nearness(scores, tenth)


def case(name: str, splits: tuple[str, ...]) -> list[dict]:
    made = bench(name, splits=splits)
    queries = SparseBatch(
        made.queries.indptr.astype(np.int64),
        made.queries.indices.astype(np.uint32),
        made.queries.data.astype(np.float32),
    )
    sparse = SparseView(made.encoder.encode_passages(made.texts), queries)
    dense = DenseView(made.vectors(), made.query_vectors())
    tables = [np.stack([v.scores(i) for i in range(v.queries)]).astype(np.float32) for v in (sparse, dense)]
    lexical = known(made)
    sheet = Sheet(made, "bm25")
    full = sheet.top(np.ones(made.n, bool))["nDCG@10"]
    draws = [np.random.default_rng(seed).random(made.n) for seed in range(SEEDS)]
    random = np.mean([sheet.top(mask(made, d, PRUNED))["nDCG@10"] for d in draws], axis=0)
    rng = np.random.default_rng(0)
    rows = []
    for split in range(SPLITS):
        order = rng.permutation(len(made.qids))
        log, held = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        learned = LogCoverage([_Sparse(sparse, tables[0], log), _Dense(dense, tables[1], log)])
        for estimator, scores in (
            ("coverage, nearest", learned.coverage()),
            ("coverage", learned.learn(lexical, target=0)),
        ):
            pruned = sheet.top(mask(made, scores, PRUNED))["nDCG@10"]
            rows.append(
                {
                    "collection": name, "estimator": estimator, "split": split, "log": len(log), "held_out": len(held),
                    "unpruned": float(full[held].mean()),
                    "loss": float((full - pruned)[held].mean()),
                    "random_loss": float((full - random)[held].mean()),
                }
            )  # fmt: skip
        print(name, len(made.qids), split, rows[-1]["loss"] / rows[-1]["random_loss"], flush=True)
    return rows


class _Sparse(Ranked, SparseView):
    """Sparse, so that passages without a shared term get nothing."""


class _Dense(Ranked, DenseView):
    """Dense."""


def summary(rows: list[dict], queries: str) -> list[dict]:
    out = []
    for estimator in dict.fromkeys(r["estimator"] for r in rows):
        mine = [r for r in rows if r["estimator"] == estimator]
        loss, random = (np.array([r[key] for r in mine]) for key in ("loss", "random_loss"))
        rng = np.random.default_rng(0)
        drawn = rng.integers(0, len(mine), (2000, len(mine)))
        ratios = loss[drawn].mean(1) / random[drawn].mean(1)
        low, high = np.percentile(ratios, [2.5, 97.5])
        out.append(
            {
                "collection": mine[0]["collection"], "questions": queries, "estimator": estimator,
                "log": mine[0]["log"], "held_out": mine[0]["held_out"], "pruned": PRUNED, "splits": len(mine),
                "unpruned": float(np.mean([r["unpruned"] for r in mine])),
                "loss": float(loss.mean()), "random_loss": float(random.mean()),
                "ratio": float(loss.mean() / random.mean()), "lo": float(low), "hi": float(high),
            }
        )  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    rows = []
    for (name, queries), splits in CASES.items():
        file = work() / f"coverage-splits-{name}-{queries}.json"
        if not file.exists():
            file.write_text(json.dumps(case(name, splits)))
        rows += summary(json.loads(file.read_text()), queries)
    data = alt.Data(values=[{**r, "case": f"{r['collection']} ({r['questions']})"} for r in rows])
    base = alt.Chart(data, width=420).encode(y=alt.Y("case:N", title=None), color="estimator:N")
    chart = base.mark_point(filled=True, size=60).encode(
        x=alt.X("ratio:Q", title="loss of nDCG@10 as a share of random's")
    ) + base.mark_rule().encode(x="lo:Q", x2="hi:Q")
    write_results(
        RESULTS / "coverage.json", rows, command="python eval/log_coverage.py", seed=0, plot=chart, packages=["scipy"],
        title="Pruning 30 % by query-log coverage",
        note="ratio: mean loss of held-out questions over that of random pruning; lo and hi: 95 % interval over "
        "half-splits. The splits share questions: the interval says how much the choice of the log matters, not the "
        "choice of questions.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
