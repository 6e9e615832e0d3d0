"""Half of the passages in a second tier, searched only where the first looks unsure.

Writes eval/results/tiering.json; resumes where it was interrupted.

Both tiers are BM25 with the statistics of the whole corpus, so a query that falls through gets the unpruned answer.
Passages go by `coverage`, learned from a log without reading a judgment, by `embedded`, the shipped estimator, or at
`random`. The log is the train split (NFCorpus, SciFact), or the other half of the queries, twice, so that every
query is measured by a log without it (Cranfield, NPL, MED). The test is calibrated on queries of the log that the
pruning did not see (coverage learned without their fold). For DL 2019 the log is of other MS MARCO queries, which the
excerpt was not made for: the test's weights come from them, its threshold from the other half of the queries, and
`coverage` is left out. `test`: `lists` is the shipped test, `margins` is one without what the second tier's lists say.
Its signs and its ridge were chosen on TIME and on the train splits. `threshold`: `log` is that calibration; `live` sets
it again at the wanted rate on the queries that come (`RoutingModel.at_rate`), for which the first tier alone is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from eval.bench import Bench, options
from eval.collections import MEASURED, unjudged_dev_queries
from eval.pruning import Sheet, csr, features, interval, known, mask, query_vectors, rank_collection
from eval.quality_curves import embedded
from thresher.evaluate.collections import load
from thresher.search.routing import (
    FEATURES,
    LIST_STATISTICS,
    SCORE_FEATURES,
    RoutingModel,
    missed_share,
    routing_features,
)
from training.quality.coverage import DenseView, LogCoverage, SparseView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy import sparse

    from eval.bench import Row
    from eval.pruning import Floats, Kept, RankedCollection

PRUNED, RATES, DRAWS = 0.5, (0.1, 0.2, 0.25, 0.3), 200
TESTS = {"lists": len(FEATURES), "margins": len(SCORE_FEATURES)}
THRESHOLDS = ("log", "live")
CALIBRATED = 500
"""Queries of the log that the test is calibrated on, at most."""


def logs(made: RankedCollection) -> list[tuple[list[str], NDArray[np.int64], NDArray[np.int64] | None]]:
    """A log, the queries (numbers) measured by it, and those that set the threshold where the log's do not."""
    everything = np.arange(len(made.qids))
    if made.name in ("nfcorpus", "scifact"):
        return [([q.text for q in load(f"{made.name}/train").queries], everything, None)]
    order = np.random.default_rng(0).permutation(everything)
    halves = np.array_split(order, 2)
    if made.name == "trec-dl-2019":
        others = unjudged_dev_queries(made.topics)[::14]
        return [(others, b, a) for a, b in (halves, halves[::-1])]
    return [([made.topics[i] for i in a], b, None) for a, b in (halves, halves[::-1])]


def lists(passages: sparse.csc_matrix, kept: Kept) -> Floats:
    """Statistics of a tier's posting lists, float64[terms, len(LIST_STATISTICS)]: largest, tenth, postings."""
    here = kept[passages.indices]
    term = np.repeat(np.arange(passages.shape[1]), np.diff(passages.indptr))[here]
    impact = passages.data[here]
    impact = impact[np.lexsort((-impact, term))]
    postings = np.bincount(term, minlength=passages.shape[1])
    first = np.cumsum(postings) - postings
    found = np.zeros((passages.shape[1], len(LIST_STATISTICS)))
    found[:, 2] = postings
    for column, place in ((0, 1), (1, 10)):
        long = postings >= place
        found[long, column] = impact[first[long] + place - 1]
    return found


def answers(made: RankedCollection, queries: sparse.csr_matrix, kept: Kept) -> tuple[Floats, Floats]:
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
        table.append(routing_features(scores[mine][:10], queries[i].data, first[terms], second[terms]))
        missed.append(missed_share(rows[mine][:10].tolist(), rows[:10].tolist()))
    return np.array(table), np.array(missed)


Calibrating = list[tuple["Kept", "sparse.csr_matrix"]]


def prunings(
    bench: Bench, made: RankedCollection, log: list[str], lexical: Floats
) -> dict[str, tuple[Kept, Calibrating]]:
    """For each estimator what is kept, and pairs of what calibrates: what is then kept, and queries of the log."""
    batch = csr(made.encoder.encode_queries(log), made.passages.shape[1])
    whole = {"embedded": embedded(made.name, made.texts, lexical), "random": np.random.default_rng(1).random(made.n)}
    out: dict[str, tuple[Kept, Calibrating]] = {}
    for name, scores in whole.items():
        kept = mask(made, scores, PRUNED)
        out[name] = (kept, [(kept, batch[:CALIBRATED])])
    if made.name == "trec-dl-2019":
        return out
    view = SparseView(made.encoder.encode_passages(made.texts), made.encoder.encode_queries(log))
    covered = LogCoverage([view, DenseView(made.vectors(), query_vectors(bench, log))])
    others = known(bench, made)
    pairs: Calibrating = []
    left = CALIBRATED
    for fold, part in enumerate(covered.parts):
        queries = part[:left]
        left -= len(queries)
        if len(queries):
            pairs.append((mask(made, covered.learn(others, target=0, leave=fold), PRUNED), batch[queries]))
    return {"coverage": (mask(made, covered.learn(others, target=0), PRUNED), pairs), **out}


@dataclass
class Outcome:
    """What one estimator, test and threshold do to each query.

    Attributes:
        pruned: nDCG@10 from the first tier alone.
        lost: share of the unpruned top ten that the first tier misses.
        escalated: by wanted rate, whether the second tier is searched.
    """

    pruned: Floats
    lost: Floats
    escalated: dict[float, Kept]

    def rows(self, full: Floats, rng: np.random.Generator) -> list[Row]:
        """A row for each wanted rate; `full` is nDCG@10 without pruning."""
        rows: list[Row] = []
        for rate, through in self.escalated.items():
            tiered = np.where(through, full, self.pruned)
            share = through.mean()
            chance = [
                np.where(rng.permutation(len(full)) < through.sum(), full, self.pruned).mean() for _ in range(DRAWS)
            ]
            ceiling = self.pruned.copy()
            worst = np.argsort(-self.lost, kind="stable")[: through.sum()]
            ceiling[worst] = full[worst]
            gap, low, high = interval(tiered - full)
            rows.append(
                {
                    "pruned": PRUNED, "wanted_rate": rate,
                    "escalated": float(share), "nDCG@10": float(tiered.mean()), "unpruned": float(full.mean()),
                    "share": float(tiered.mean() / full.mean()), "minus_unpruned": gap, "lo": low, "hi": high,
                    "without_second": float(self.pruned.mean()),
                    "random_escalation": float(np.mean(chance)),
                    "random_95": float(np.percentile(chance, 95)),
                    "ceiling": float(ceiling.mean() / full.mean()),
                    "passages_searched": float(1 - PRUNED + PRUNED * share),
                }
            )  # fmt: skip
        return rows


def outcomes(bench: Bench, made: RankedCollection, full: Floats) -> dict[tuple[str, str, str], Outcome]:
    """By estimator, test and threshold."""
    n = len(full)
    found: dict[tuple[str, str, str], Outcome] = {}
    lexical = features(bench, made.name, made.texts)
    sheet = Sheet(made, "bm25")
    for log, held, like in logs(made):
        for estimator, (kept, calibrating) in prunings(bench, made, log, lexical).items():
            tables, misses = zip(*(answers(made, queries, cut) for cut, queries in calibrating), strict=True)
            table, missed = np.concatenate(tables), np.concatenate(misses)
            mine, lost = answers(made, made.queries[held], kept)
            again = None if like is None else answers(made, made.queries[like], kept)[0]
            pruned = sheet.top(kept)["nDCG@10"][held]
            for (kind, width), threshold in product(TESTS.items(), THRESHOLDS):
                new = Outcome(np.zeros(n), np.zeros(n), {rate: np.zeros(n, bool) for rate in RATES})
                store = found.setdefault((estimator, kind, threshold), new)
                store.pruned[held], store.lost[held] = pruned, lost
                for rate in RATES:
                    test = RoutingModel.fit(table[:, :width], missed, rate)
                    if threshold == "live":
                        test = test.at_rate(mine[:, :width], rate)
                    elif again is not None:
                        test = test.at_rate(again[:, :width], rate)
                    doubt = test.escalated(mine) if kind == "lists" else test.predict(mine[:, :width]) > test.threshold
                    store.escalated[rate][held] = doubt
    return found


def case(bench: Bench, name: str) -> list[Row]:
    """All rows of one collection."""
    made = rank_collection(name)
    full = Sheet(made, "bm25").top(np.ones(made.n, bool))["nDCG@10"]
    rng = np.random.default_rng(2)
    return [
        {"collection": name, "estimator": estimator, "test": kind, "threshold": threshold} | row
        for (estimator, kind, threshold), outcome in outcomes(bench, made, full).items()
        for row in outcome.rows(full, rng)
    ]


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("tiering", __doc__).parse_args(arguments))
    rows: list[Row] = [row for name in MEASURED for row in bench.kept(f"tiering-{name}", partial(case, bench, name))]
    data: Any = alt.Data(values=[r for r in rows if r["test"] == "lists" and r["threshold"] == "live"])
    chart = alt.Chart(data, width=170, height=130).mark_line(point=True).encode(
        x=alt.X("escalated:Q", title="share of queries escalated"),
        y=alt.Y("share:Q", scale=alt.Scale(zero=False), title="share of unpruned nDCG@10"),
        color="estimator:N",
    ).facet("collection:N", columns=3)  # fmt: skip
    bench.write(
        "tiering",
        [row for row in rows if row["test"] == "lists"],
        seed=0,
        plot=chart,
        packages=["scipy"],
        details=rows,
        title="Half of the passages in a second tier",
        note="share: of the unpruned nDCG@10. random_escalation: the same with as many queries escalated at random "
        "(mean, and 95 % quantile, of 200 draws). ceiling: share, had the queries been escalated whose top ten misses "
        "most, which only searching both tiers can tell. passages_searched: mean share of the corpus searched.",
    )
