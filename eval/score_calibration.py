"""What calibrated scores say, and how far it is true on topics that were held out. Writes score-calibration.json.

The headline is the expected calibration error over 15 bins of equal mass (`ece`, with an interval over topics drawn
with replacement); `ece_width` has 10 bins of equal width. Rows of the kind

    held-out     the rank head of `thresher-context` by its scores, and 33 recorded rankings of 7B and 13B models on DL
                 2019 by their ranks: fitted on four fifths of the topics, measured on the fifth, for each of five
                 folds; `33 recorded rankings, mean` and `largest` sum the recordings up
    shipped      the curve that ships with thresher, which saw none of these topics, and the scores of posted texts
    precision    how many first passages are kept for an expected precision (`target`), and the share of them that is
                 relevant: `realised`, its mean over held-out topics of which any is kept (`topics`), with an interval,
                 and `pooled`, of all kept passages together; `kept` passages a topic. Of the recorded rankings means
    bin          the bins of some of the rows, for the plot

Passages without a judgment count as not relevant, as in the measures of trec_eval; or they are left out (`unjudged`).
Held-out probabilities of all folds are in one set of bins. The curve of a fold lies high where its own topics have few
relevant passages, so that the error comes out too high with few topics that differ much.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from eval.bench import Bench, Row, options
from eval.collections import data_file
from eval.score_readings import OWN_DEPTH, TOPICS, counted, judged, read
from thresher.evaluate.collections import load
from thresher.evaluate.resampling import bootstrap_interval
from thresher.evaluate.trec import read_qrels, read_run
from thresher.pipeline.text_ranker import MIXTURES
from thresher.rerank.calibration import ScoreCalibration, shipped_for, worth_reading
from thresher.rerank.calibration_fit import (
    METHODS,
    ece_interval,
    equal_mass,
    equal_width,
    folds_of,
    held_out,
    judged_pairs,
    log_loss,
)
from thresher.rerank.cross_encoder import context_judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eval.score_readings import Reading
    from thresher.rerank.calibration import Signal, Unjudged
    from thresher.rerank.calibration_fit import Bins, Judged

COLLECTIONS = ("trec-dl-2019", "nfcorpus", "scifact", "cranfield")
POOLED = ("trec-dl-2019",)
"""Collections of which many passages of a list are judged, so that the others can be left out."""
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9)
UNJUDGED: tuple[Unjudged, ...] = ("not relevant", "left out")
MEASURED = ("ece", "low", "high", "ece_width", "log_loss")
PLAN, FOLDS = "pointwise", 5
COLUMNS = {"kind": "", "system": "", "collection": "", "unjudged": "", "method": "", "topics": "", "pairs": "",
           "relevant": ".3f",
           "ece": ".4f", "low": ".4f", "high": ".4f", "ece_width": ".4f", "log_loss": ".4f", "target": ".1f",
           "realised": ".3f", "pooled": ".3f", "kept": ".1f", "predicted": ".3f"}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("score-calibration", __doc__)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, help="those whose lists are read")
    given = parser.parse_args(arguments)
    bench, rows = Bench.of(given), list[Row]()
    shipped = shipped_for(context_judge().name, PLAN)
    for name in given.collections:
        rows += embedded(read(bench, name), name, shipped)
    rows += recorded()
    for row in rows:
        if row["kind"] != "bin":
            print(row, flush=True)
    bench.write(
        "score-calibration",
        rows,
        seed=0,
        columns=COLUMNS,
        plot=plotted([row for row in rows if row["kind"] == "bin"]),
        packages=["torch"],
        title="Calibration of scores",
        note=f"Lists: the first 100 passages of BM25 and of SPLADE++ ED for DL 2019, together; of other collections "
        f"the first {OWN_DEPTH} of BM25 for {TOPICS} topics. The bar is an error of .05.",
    )


def embedded(reading: Reading, name: str, shipped: ScoreCalibration | None) -> list[Row]:
    """The rows of the rank head, and of the scores of posted texts, on one collection."""
    relevant, rows = load(name).relevant, list[Row]()
    for left_out in (False, True) if name in POOLED else (False,):
        pairs = judged(reading, relevant, left_out=left_out)
        method, p = best(pairs, "score")
        where = {"system": "thresher-context", "collection": name, "unjudged": pairs.unjudged}
        rows += [{"kind": "held-out", "headline": "yes"} | figures(p, pairs, where | {"method": method})]
        known = counted(reading, left_out=left_out)
        for model, mixture in MIXTURES.items():
            odds = reading.signals[known] @ np.array(mixture[:3]) + mixture.constant
            scores = 1 / (1 + np.exp(-np.maximum(odds, -30)))
            rows.append({"kind": "shipped"} | figures(scores, pairs, where | {"system": f"posted texts, {model}"}))
        if left_out or shipped is None:
            continue
        given = shipped.probability(pairs.signals("score"))
        rows.append({"kind": "shipped", "headline": "yes"} | figures(given, pairs, where | {"method": shipped.method}))
        rows += precisions(p, pairs, where)
        rows += precisions(given, pairs, where | {"system": "thresher-context, shipped"})
        rows += bins(equal_mass(p, pairs.relevant), where | {"method": "held-out"})
        rows += bins(equal_mass(given, pairs.relevant), where | {"method": "shipped"})
    return rows


def best(pairs: Judged, signal: Signal) -> tuple[str, NDArray[np.float64]]:
    """The curve with the smaller log loss on held-out topics, and its probabilities there."""
    fold = folds_of(pairs.topics, FOLDS)
    found = {way: held_out(pairs.signals(signal), pairs.relevant, fold, way) for way in METHODS}
    method = min(found, key=lambda way: log_loss(found[way], pairs.relevant))
    return method, found[method]


def figures(p: NDArray[np.float64], pairs: Judged, where: Row) -> Row:
    """The errors of probabilities."""
    low, high = ece_interval(p, pairs.relevant, pairs.topics)
    return where | {
        "topics": len(set(pairs.topics)),
        "pairs": len(p),
        "relevant": float(pairs.relevant.mean()),
        "ece": equal_mass(p, pairs.relevant).ece,
        "low": low,
        "high": high,
        "ece_width": equal_width(p, pairs.relevant).ece,
        "log_loss": log_loss(p, pairs.relevant),
    }


def precisions(p: NDArray[np.float64], pairs: Judged, where: Row) -> list[Row]:
    """What is kept for an expected precision, and how much of it is relevant."""
    topics = np.array(pairs.topics)
    rows = []
    for target in TARGETS:
        kept, hits = [], []
        for qid in dict.fromkeys(pairs.topics):
            own = np.flatnonzero(topics == qid)
            own = own[np.argsort(-p[own], kind="stable")]
            own = own[worth_reading(p[own], None, target)]
            kept.append(len(own))
            hits.append(int(pairs.relevant[own].sum()))
        some = [hit / count for hit, count in zip(hits, kept, strict=True) if count]
        interval = bootstrap_interval(some) if len(some) > 1 else None
        rows.append({
            "kind": "precision", **where, "target": target, "topics": len(some), "kept": float(np.mean(kept)),
            "realised": float(np.mean(some)) if some else None,
            "pooled": sum(hits) / sum(kept) if some else None,
            "low": interval.low if interval else None, "high": interval.high if interval else None,
        })  # fmt: skip
    return rows


def bins(found: Bins, where: Row) -> list[Row]:
    """The rows of a plot."""
    return [
        {"kind": "bin", **where, "pairs": int(count), "predicted": float(p), "relevant": float(share)}
        for count, p, share in zip(*found, strict=True)
    ]


def recorded() -> list[Row]:
    """The rows of the recorded rankings: ranks to probabilities, by folds of topics."""
    qrels = read_qrels(data_file("trec-dl", "qrels.dl19.txt"))
    rows = list[Row]()
    for unjudged in UNJUDGED:
        own: list[Row] = []
        kept: list[Row] = []
        said: list[NDArray[np.float64]] = []
        hits: list[NDArray[np.bool_]] = []
        common = {"collection": "trec-dl-2019", "unjudged": unjudged}
        for one in json.loads(data_file("recordings", "index.json").read_text()):
            run = read_run(data_file("recordings", "runs", f"{one['recording']}.run.gz"), as_listed=True)
            pairs = judged_pairs(run, qrels, relevant=2, scored=False, unjudged=unjudged)
            method, p = best(pairs, "rank")
            where = common | {"system": f"recorded, {one['recording']}", "method": method}
            own.append({"kind": "held-out"} | figures(p, pairs, where))
            kept += precisions(p, pairs, common)
            said.append(p)
            hits.append(pairs.relevant)
        for name, summed in (("mean", np.mean), ("largest", np.max)):
            sums = {m: float(summed([row[m] for row in own])) for m in MEASURED}
            row = {"kind": "held-out", "headline": "yes", **common, "system": f"33 recorded rankings, {name}"}
            rows.append(row | sums)
        rows += own
        if unjudged == UNJUDGED[0]:
            rows += [summed_up(kept, target, common) for target in TARGETS]
            together = equal_mass(np.concatenate(said), np.concatenate(hits))
            rows += bins(together, common | {"system": "recorded models", "method": "held-out"})
    return rows


def summed_up(rows: Sequence[Row], target: float, common: Row) -> Row:
    """The mean of what is kept of each recording for one expected precision."""
    own = [row for row in rows if row["target"] == target]
    some = [row for row in own if row["realised"] is not None]
    means = {name: float(np.mean([row[name] for row in some])) if some else None for name in ("realised", "pooled")}
    counts = {"kept": float(np.mean([row["kept"] for row in own])), "topics": max(row["topics"] for row in own)}
    return {"kind": "precision", **common, "system": "33 recorded rankings", "target": target, **means, **counts}


def plotted(rows: Sequence[Row]) -> alt.LayerChart:
    """Reliability: the probability that is said, and the share that is relevant."""
    shown = [
        row | {"curve": f"{row['system']}, {row['method']}"} for row in rows if row["collection"] == "trec-dl-2019"
    ]
    points = (
        alt.Chart(alt.Data(values=shown), title="DL 2019: what probabilities say, and what is relevant")
        .mark_line(point=True)
        .encode(
            x=alt.X("predicted:Q", title="probability", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("relevant:Q", title="share that is relevant", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("curve:N", title=None),
        )
        .properties(width=420, height=420)
    )
    line = alt.Chart(alt.Data(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])).mark_line(strokeDash=[4, 4], color="grey")
    return points + line.encode(x="x:Q", y="y:Q")
