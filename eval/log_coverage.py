"""Pruning by query-log coverage, with half of a collection's queries as the log, against random pruning.

Writes eval/results/coverage.json; resumes where it was interrupted.

Twenty times a collection's queries are halved. One half is the log: BM25 ranks every passage for each of its
queries (and MiniLM does), coverage is learned from that by leaving out (`training.quality.coverage`), and the 30 % of
the passages with the least go. The other half is searched by BM25 with and without them. No judgment is read before
that. Queries of all splits (train, dev, test) are the collection's queries; `queries: test` takes those of the
test split alone. What the scores are learned from (both views, lexical columns, target BM25) was chosen on TIME, MED
and Cranfield.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from eval.bench import Bench, Row, options
from eval.equal_bytes import batch_of
from eval.pruning import Sheet, known, mask, query_vectors, rank_collection
from training.quality.coverage import DenseView, LogCoverage, SparseView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CASES: dict[tuple[str, str], tuple[str, ...]] = {
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


class Known:
    """A view whose scores were computed once for all queries, restricted to the queries `chosen`."""

    def __init__(
        self, view: SparseView | DenseView, scores: NDArray[np.float32], chosen: NDArray[np.integer[Any]]
    ) -> None:
        self._view, self._table, self._chosen = view, scores, chosen
        self.passages, self.queries = view.passages, len(chosen)

    def scores(self, query: int) -> NDArray[np.float64]:
        """As the view's."""
        return np.asarray(self._table[self._chosen[query]], np.float64)

    def nearness(self, scores: NDArray[np.float64], tenth: float) -> NDArray[np.float64]:
        """As the view's."""
        return self._view.nearness(scores, tenth)


class KnownSparse(Known, SparseView):
    """Sparse, so that passages without a shared term get nothing."""


class KnownDense(Known, DenseView):
    """Dense."""


def case(bench: Bench, name: str, splits: tuple[str, ...]) -> list[Row]:
    """A row for each halving and estimator."""
    made = rank_collection(name, splits=splits)
    sparse = SparseView(made.encoder.encode_passages(made.texts), batch_of(made.queries))
    dense = DenseView(made.vectors(), query_vectors(bench, made.topics))
    tables = [np.stack([v.scores(i) for i in range(v.queries)]).astype(np.float32) for v in (sparse, dense)]
    lexical = known(bench, made)
    sheet = Sheet(made, "bm25")
    full = sheet.top(np.ones(made.n, bool))["nDCG@10"]
    draws = [np.random.default_rng(seed).random(made.n) for seed in range(SEEDS)]
    random = np.mean([sheet.top(mask(made, d, PRUNED))["nDCG@10"] for d in draws], axis=0)
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for split in range(SPLITS):
        order = rng.permutation(len(made.qids))
        log, held = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        learned = LogCoverage([KnownSparse(sparse, tables[0], log), KnownDense(dense, tables[1], log)])
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


def summary(rows: list[Row], queries: str) -> list[Row]:
    """A row for each estimator: the ratio of its loss to random's, with an interval over halvings."""
    out: list[Row] = []
    for estimator in dict.fromkeys(r["estimator"] for r in rows):
        mine = [r for r in rows if r["estimator"] == estimator]
        loss, random = (np.array([r[key] for r in mine]) for key in ("loss", "random_loss"))
        rng = np.random.default_rng(0)
        drawn = rng.integers(0, len(mine), (2000, len(mine)))
        ratios = loss[drawn].mean(1) / random[drawn].mean(1)
        low, high = np.percentile(ratios, [2.5, 97.5])
        out.append(
            {
                "collection": mine[0]["collection"], "queries": queries, "estimator": estimator,
                "log": mine[0]["log"], "held_out": mine[0]["held_out"], "pruned": PRUNED, "splits": len(mine),
                "unpruned": float(np.mean([r["unpruned"] for r in mine])),
                "loss": float(loss.mean()), "random_loss": float(random.mean()),
                "ratio": float(loss.mean() / random.mean()), "lo": float(low), "hi": float(high),
            }
        )  # fmt: skip
    return out


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("coverage", __doc__).parse_args(arguments))
    rows: list[Row] = []
    splits: list[Row] = []
    for (name, queries), others in CASES.items():
        found: list[Row] = bench.kept(f"coverage-splits-{name}-{queries}", partial(case, bench, name, others))
        rows += summary(found, queries)
        splits += [{**row, "queries": queries} for row in found]
    data: Any = alt.Data(values=[{**r, "case": f"{r['collection']} ({r['queries']})"} for r in rows])
    base = alt.Chart(data, width=420).encode(y=alt.Y("case:N", title=None), color="estimator:N")
    chart = base.mark_point(filled=True, size=60).encode(
        x=alt.X("ratio:Q", title="loss of nDCG@10 as a share of random's")
    ) + base.mark_rule().encode(x="lo:Q", x2="hi:Q")
    bench.write(
        "coverage",
        rows,
        seed=0,
        plot=chart,
        packages=["scipy"],
        details=splits,
        title="Pruning 30 % by query-log coverage",
        note="ratio: mean loss of held-out queries over that of random pruning; lo and hi: 95 % interval over "
        "half-splits. The splits share queries: the interval says how much the choice of the log matters, not the "
        "choice of queries.",
    )
