"""Effectiveness against the share of passages pruned, for every estimator that runs here.

Writes eval/results/quality-curves.json and quality-auc.json; resumes where it was interrupted. `model-scores`, run
before it, adds estimators that run a model, on small collections. `--check-rebuild` compares rebuilt indexes with
masked rankings, on SciFact.

Each collection and pipeline is ranked once in full; a pruning is measured by leaving its passages out. `random` is the
mean of twenty seeds, `oracle` keeps what the judgments want first. The embedded estimator was fitted on the train
splits of SciFact and NFCorpus: there, each passage is scored by a head that has not seen it. `coverage` is learned from
the queries of the train split (NFCorpus, SciFact) or from 6,980 MS MARCO queries that are not among the judged (DL
2019).
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
from scipy import sparse

from eval.bench import Bench, options
from eval.collections import MEASURED, unjudged_dev_queries
from eval.equal_bytes import equal_bytes
from eval.model_scores import scored
from eval.pruning import (
    Sheet,
    add_interpolation,
    csr,
    features,
    interval,
    loss_row,
    mask,
    query_vectors,
    rank_collection,
    ranked,
    relevant_lost,
)
from thresher.encode import SparseEncoder
from thresher.encode.bm25 import Bm25Encoder
from thresher.errors import ThresherError
from thresher.evaluate.collections import load
from thresher.models.files import shipped_weights
from thresher.quality.auc import auc_by_queries, auc_difference, auc_within
from thresher.quality.fitted import read_head
from thresher.quality.lexical import FEATURES
from training.quality.coverage import DenseView, LogCoverage, SparseView
from training.quality.train import fold_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Row
    from eval.pruning import Floats, RankedCollection

LEVELS = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70)
SEEDS = 20
CHOOSING = ("trec-dl-2021", "trec-dl-2023")
"""Sets that estimators may be chosen by, and are judged."""


def embedded(name: str, texts: Sequence[str], table: Floats) -> Floats:
    """Scores of the shipped head; where a train split was fitted on, of the heads that left a passage out."""
    document = json.loads((shipped_weights() / "quality-embedded" / "head.json").read_text())
    scale = np.where(table.std(0) > 1e-9, table.std(0), 1)
    standard = (table - table.mean(0)) / scale
    if not {name, f"{name}/train"} & set(document["fitted_on"]):
        return np.asarray(read_head(document["head"]).predict(standard), np.float64)
    folds = np.array([fold_of(text) for text in texts])
    heads = [read_head(head) for head in document["folds"]]
    predicted = np.stack([head.predict(standard) for head in heads])
    return np.asarray(predicted[folds, np.arange(len(texts))], np.float64)


def coverage(bench: Bench, made: RankedCollection, table: Floats) -> Floats | None:
    """Coverage learned from a query log; None for a collection without one."""
    if made.name in ("nfcorpus", "scifact"):
        log = [q.text for q in load(f"{made.name}/train").queries]
    elif made.name == "trec-dl-2019":
        log = unjudged_dev_queries(made.topics)[::5]
    else:
        return None

    def make() -> Floats:
        sparse_view = SparseView(made.encoder.encode_passages(made.texts), made.encoder.encode_queries(log))
        dense_view = DenseView(made.vectors(), query_vectors(bench, log))
        return LogCoverage([sparse_view, dense_view]).learn(table, target=0).astype(np.float64)

    return bench.kept_array(f"coverage-{made.name}", make)


def estimators(bench: Bench, made: RankedCollection) -> dict[str, NDArray[Any]]:
    """Scores of the passages by every estimator."""
    table = features(bench, made.name, made.texts)
    found: dict[str, NDArray[Any]] = {
        name: table[:, FEATURES.index(name)] for name in ("kl", "length", "itn", "unigram")
    }
    found["embedded"] = embedded(made.name, made.texts, table)
    found |= scored(bench, made.name)
    covered = coverage(bench, made, table)
    if covered is not None:
        found["coverage"] = covered
    return found


def oracle(made: RankedCollection, seed: int = 0) -> Floats:
    """Judged passages by their best grade, the others at random."""
    best = np.random.default_rng(seed).random(made.n) * 0.5
    for judged in made.qrels:
        for row, grade in judged.items():
            best[row] = max(best[row], grade)
    return best


def curves(made: RankedCollection, pipeline: str, found: Mapping[str, NDArray[Any]]) -> list[Row]:
    """A row for each estimator and share of passages kept."""
    sheet = Sheet(made, pipeline)
    everything = np.ones(made.n, bool)
    full = sheet.figures(everything)
    same = {"collection": made.name, "pipeline": pipeline}
    rows: list[Row] = [{**same, "estimator": "none", "kept": 1.0, **loss_row(full, full, None), "relevant_lost": 0}]
    draws = [np.random.default_rng(seed).random(made.n) for seed in range(SEEDS)]
    for pruned in LEVELS:
        masks = [mask(made, draw, pruned) for draw in draws]
        tops = [sheet.top(kept) for kept in masks]
        random: dict[str, Floats] = {key: np.mean([top[key] for top in tops], axis=0) for key in tops[0]}
        random["R@1000"] = np.mean([sheet.recall(kept) for kept in masks[:5]], axis=0)
        lost = round(float(np.mean([relevant_lost(made, kept) for kept in masks])), 1)
        kept_share = round(1 - pruned, 2)
        rows.append(
            {**same, "estimator": "random", "kept": kept_share, **loss_row(full, random, None), "relevant_lost": lost}
        )
        for name, scores in {**found, "oracle": oracle(made)}.items():
            kept = mask(made, scores, pruned)
            row = loss_row(full, sheet.figures(kept), random["nDCG@10"])
            rows.append(
                {**same, "estimator": name, "kept": kept_share, **row, "relevant_lost": relevant_lost(made, kept)}
            )
    return rows


def auc_rows(
    name: str, judgments: dict[str, dict[int, int]], relevant: int, found: Mapping[str, NDArray[Any]]
) -> list[Row]:
    """A row for each estimator: AUC of wanted against other passages, and its difference to KL."""
    rest = all(grade >= relevant for grades in judgments.values() for grade in grades.values())
    rows: list[Row] = []
    for estimator, scores in found.items():
        whole, low, high = auc_by_queries(scores, judgments, relevant, rest=rest)
        gain, gain_low, gain_high = auc_difference(scores, found["kl"], judgments, relevant, rest=rest)
        within = auc_within(scores, judgments, relevant, rest=rest)[0]
        rows.append(
            {
                "collection": name, "estimator": estimator, "AUC": whole, "lo": low, "hi": high,
                "minus_kl": gain, "minus_kl_lo": gain_low, "minus_kl_hi": gain_high,
                "AUC_within": None if np.isnan(within) else within,
            }
        )  # fmt: skip
    return rows


def choosing_auc(bench: Bench, name: str) -> list[Row]:
    """The same on judgments that the embedded estimator was fitted on, by heads that have not seen the passage."""
    collection = load(name)
    passages = list(collection.corpus)
    row = {p.docno: i for i, p in enumerate(passages)}
    judged = {q: {row[d]: g for d, g in grades.items() if d in row} for q, grades in collection.qrels.judgments.items()}
    texts = [p.contents for p in passages]
    table = features(bench, name, texts)
    found: dict[str, NDArray[Any]] = {e: table[:, FEATURES.index(e)] for e in ("kl", "length", "itn", "unigram")}
    found["embedded"] = embedded(name, texts, table)
    rows = auc_rows(name, {q: grades for q, grades in judged.items() if grades}, collection.relevant, found)
    return [{**r, "collection": f"{name}, out of fold"} for r in rows]


def learned(bench: Bench, made: RankedCollection, name: str) -> bool:
    """Rank by a learned sparse encoder, its vectors kept between runs; False where it is not on this machine."""
    file = bench.work / f"{name.replace('/', '_')}-{made.name}.npz"
    try:
        if not file.exists():
            encoder = SparseEncoder.from_name(name)
            width = len(encoder.vocabulary)
            parts = [encoder.encode_passages(made.texts[i : i + 512]) for i in range(0, made.n, 512)]
            sparse.save_npz(file, sparse.vstack([csr(p, width) for p in parts]).tocsr())
            sparse.save_npz(file.with_suffix(".queries.npz"), csr(encoder.encode_queries(made.topics), width))
    except ThresherError as err:
        print(f"no learned pipeline: {err}", flush=True)
        return False
    passages = sparse.csr_matrix(sparse.load_npz(file))
    queries = sparse.csr_matrix(sparse.load_npz(file.with_suffix(".queries.npz")))
    made.learned = (queries, passages)
    made.rankings["learned"] = list(ranked(queries, passages))
    return True


def summary(rows: Sequence[Row]) -> list[Row]:
    """Mean loss at 10, 20 and 30 % beside random's, over the collections that an estimator was run on."""
    out: list[Row] = []
    pipelines = sorted({r["pipeline"] for r in rows})
    names = sorted({r["estimator"] for r in rows} - {"none", "random", "oracle"})
    for pipeline in pipelines:
        for kept in (0.9, 0.8, 0.7):
            part = [r for r in rows if r["pipeline"] == pipeline and r["kept"] == kept]
            random = {r["collection"]: r["loss"] for r in part if r["estimator"] == "random"}
            for name in names:
                mine = {r["collection"]: r for r in part if r["estimator"] == name}
                if not mine:
                    continue
                over = str(len(mine)) if len(mine) > 3 else ", ".join(mine)
                worse = [c for c, r in mine.items() if r["minus_random_hi"] < 0]
                out.append(
                    {
                        "collection": f"mean of {over}", "pipeline": pipeline, "estimator": name, "kept": kept,
                        "loss": float(np.mean([r["loss"] for r in mine.values()])),
                        "random_loss": float(np.mean([random[c] for c in mine])),
                        "significantly_worse_on": ", ".join(worse) or "none",
                    }
                )  # fmt: skip
    return out


def plot(rows: Sequence[Row]) -> Any:
    """nDCG@10 against the share of passages kept."""
    shown = [r for r in rows if r["estimator"] != "none" and "nDCG@10" in r]
    data = alt.Data(
        values=[{k: r[k] for k in ("collection", "pipeline", "estimator", "kept", "nDCG@10")} for r in shown]
    )
    line = alt.Chart(data, width=190, height=130).mark_line(point=True, strokeWidth=1.2).encode(
        x=alt.X("kept:Q", scale=alt.Scale(domain=[0.3, 1], reverse=True), title="share of passages kept"),
        y=alt.Y("nDCG@10:Q", scale=alt.Scale(zero=False), title="nDCG@10"),
        color=alt.Color("estimator:N"),
    )  # fmt: skip
    return line.facet(row="collection:N", column="pipeline:N").resolve_scale(y="independent")


def check_rebuild(bench: Bench) -> list[Row]:
    """A pruned SciFact index rebuilt with its own statistics, against the masked ranking."""
    made = rank_collection("scifact")
    sheet = Sheet(made, "bm25")
    rows: list[Row] = []
    for pruned in (0.1, 0.3):
        kept = mask(made, estimators(bench, made)["kl"], pruned)
        masked = sheet.top(kept)["nDCG@10"]
        alive = np.flatnonzero(kept)
        encoder = Bm25Encoder.fit([made.texts[i] for i in alive])
        width = len(encoder.vocabulary)
        passages = csr(encoder.encode_passages([made.texts[i] for i in alive]), width)
        queries = csr(encoder.encode_queries(made.topics), width)
        made.rankings["rebuilt"] = [alive[r].astype(np.int32) for r in ranked(queries, passages)]
        rebuilt = Sheet(made, "rebuilt").top(np.ones(made.n, bool))["nDCG@10"]
        gap, low, high = interval(rebuilt - masked)
        rows.append(
            {
                "collection": "scifact", "pipeline": "bm25, rebuilt minus masked", "estimator": "kl",
                "kept": 1 - pruned, "nDCG@10": float(rebuilt.mean()), "minus_masked": gap, "lo": low, "hi": high,
            }
        )  # fmt: skip
    return rows


def measured(bench: Bench, name: str, encoder: str) -> dict[str, list[Row]]:
    """Everything about one collection: `curves`, `bytes` and `auc`; without the learned pipeline if `encoder` is ""."""
    made = rank_collection(name)
    found = estimators(bench, made)
    add_interpolation(bench, made)
    if encoder:
        learned(bench, made, encoder)
    rows = [row for pipeline in made.rankings for row in curves(made, pipeline, found)]
    spent = equal_bytes(made, "bm25", made.queries, made.passages, found["embedded"])
    if made.learned is not None:
        spent += equal_bytes(made, "learned", *made.learned, found["embedded"])
    judgments = dict(zip(made.qids, made.qrels, strict=True))
    return {"curves": rows, "bytes": spent, "auc": auc_rows(name, judgments, made.relevant, found)}


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("quality-curves", __doc__)
    parser.add_argument("--encoder", default="thresher-mini", help='of the learned sparse pipeline; "" leaves it out')
    parser.add_argument("--collections", nargs="*", default=list(MEASURED))
    parser.add_argument("--check-rebuild", action="store_true", help="also compare with rebuilt indexes, on SciFact")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    parts = [bench.kept(f"curves-{name}", partial(measured, bench, name, given.encoder)) for name in given.collections]
    rows, spent, aucs = ([row for part in parts for row in part[key]] for key in ("curves", "bytes", "auc"))
    aucs += [row for name in CHOOSING for row in bench.kept(f"auc-{name}", partial(choosing_auc, bench, name))]
    if given.check_rebuild:
        spent += bench.kept("curves-rebuild", partial(check_rebuild, bench))
    bench.write(
        "quality-curves",
        summary(rows),
        seed=0,
        plot=plot(rows),
        packages=["scipy"],
        details=[*rows, *spent],
        title="Effectiveness against passages pruned",
        note="loss: unpruned minus pruned nDCG@10, means over the collections that an estimator was run on; "
        "significantly_worse_on names those where it loses more than random (95 %). In the rows by collection, lo and "
        "hi: 95 % interval of nDCG@10 over queries; minus_random: nDCG@10 minus the mean of twenty random prunings, "
        "query by query, with its 95 % interval.",
    )
    bench.write(
        "quality-auc",
        aucs,
        seed=0,
        packages=["scipy"],
        title="Telling wanted passages from others",
        note="AUC of wanted against other judged passages (against all others where only relevant ones are listed); "
        "intervals by bootstrap over queries; minus_kl: difference to KL on the same passages.",
    )
