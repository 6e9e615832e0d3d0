"""Effectiveness against the fraction of passages pruned, for every estimator that runs here: quality-curves.json.

    python eval/quality_curves.py                    # resumes where it was interrupted
    python eval/quality_curves.py --encoder NAME     # the learned sparse pipeline (default: thresher-mini)
    python eval/quality_curves.py --check-rebuild    # rebuilt indexes beside masked rankings, on SciFact
    python eval/model_scores.py                      # before it: estimators that run a model, on small collections

Each collection and pipeline is ranked once in full; a pruning is measured by leaving its passages out. `random` is the
mean of twenty seeds, `oracle` keeps what the judgments want first. The embedded estimator was fitted on the train
splits of SciFact and NFCorpus: there, each passage is scored by a head that has not seen it. `coverage` is learned from
the queries of the train split (NFCorpus, SciFact) or from 6,980 MS MARCO queries that are not among the judged (DL
2019).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import altair as alt
import equal_bytes
import numpy as np
from model_scores import scored
from pruned_rankings import (
    COLLECTIONS,
    Bench,
    Sheet,
    add_interpolation,
    bench,
    csr,
    interval,
    loss_row,
    mask,
    query_vectors,
    relevant_lost,
    work,
)

from thresher.evaluate.collections import load
from thresher.evaluate.results import write_results
from thresher.models.files import shipped_weights
from thresher.quality.auc import auc_by_queries, auc_difference, auc_within
from thresher.quality.features import FEATURES, feature_columns
from thresher.quality.fitted import read_head
from thresher.quality.lexical import CollectionStatistics

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from training.quality.train import fold_of

LEVELS = (0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70)
SEEDS = 20
CHOOSING = ("trec-dl-2021", "trec-dl-2023")
"""Sets that estimators may be chosen by, and are judged."""
RESULTS = Path(__file__).parent / "results"


def features(made: Bench) -> np.ndarray:
    file = work() / f"features-{made.name}.npy"
    if not file.exists():
        np.save(file, feature_columns(made.texts, CollectionStatistics.of(made.texts)))
    return np.load(file)


def embedded(made: Bench, table: np.ndarray) -> np.ndarray:
    """Scores of the shipped head; where a train split was fitted on, of the heads that left a passage out."""
    document = json.loads((shipped_weights() / "quality-embedded" / "head.json").read_text())
    scale = np.where(table.std(0) > 1e-9, table.std(0), 1)
    standard = (table - table.mean(0)) / scale
    if not {made.name, f"{made.name}/train"} & set(document["fitted_on"]):
        return read_head(document["head"]).predict(standard)
    folds = np.array([fold_of(text) for text in made.texts])
    heads = [read_head(head) for head in document["folds"]]
    predicted = np.stack([head.predict(standard) for head in heads])
    return predicted[folds, np.arange(made.n)]


def coverage(made: Bench, table: np.ndarray) -> np.ndarray | None:
    from training.quality.coverage import DenseView, LogCoverage, SparseView

    file = work() / f"coverage-{made.name}.npy"
    if file.exists():
        return np.load(file)
    if made.name in ("nfcorpus", "scifact"):
        topics = [q.text for q in load(f"{made.name}/train").queries]
    elif made.name == "trec-dl-2019":
        import os

        from thresher.evaluate.trec import read_queries

        log = read_queries(Path(os.environ["THRESHER_DATA"]) / "trec-dl" / "queries.msmarco-dev.tsv")
        asked = {q.lower() for q in made.queries}
        topics = [q.text for q in log if q.text.lower() not in asked][::5]
    else:
        return None
    sparse = SparseView(made.encoder.encode_passages(made.texts), made.encoder.encode_queries(topics))
    dense = DenseView(made.vectors(), query_vectors(topics))
    scores = LogCoverage([sparse, dense]).learn(table, target=0)
    np.save(file, scores)
    return scores


def estimators(made: Bench) -> dict[str, np.ndarray]:
    table = features(made)
    found = {name: table[:, FEATURES.index(name)] for name in ("kl", "length", "itn", "unigram")}
    found["embedded"] = embedded(made, table)
    found |= scored(made.name)
    covered = coverage(made, table)
    if covered is not None:
        found["coverage"] = covered
    return found


def oracle(made: Bench, seed: int = 0) -> np.ndarray:
    best = np.random.default_rng(seed).random(made.n) * 0.5
    for judged in made.qrels:
        for row, grade in judged.items():
            best[row] = max(best[row], grade)
    return best


def curves(made: Bench, pipeline: str, found: dict[str, np.ndarray]) -> list[dict]:
    sheet = Sheet(made, pipeline)
    everything = np.ones(made.n, bool)
    full = sheet.figures(everything)
    same = {"collection": made.name, "pipeline": pipeline}
    rows = [{**same, "estimator": "none", "kept": 1.0, **loss_row(full, full, None), "relevant_lost": 0}]
    draws = [np.random.default_rng(seed).random(made.n) for seed in range(SEEDS)]
    for pruned in LEVELS:
        masks = [mask(made, draw, pruned) for draw in draws]
        parts = [{**sheet.top(kept), "R@1000": sheet.recall(kept) if i < 5 else None} for i, kept in enumerate(masks)]
        random = {key: np.mean([p[key] for p in parts if p[key] is not None], axis=0) for key in parts[0]}
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


def auc_rows(made: Bench, found: dict[str, np.ndarray]) -> list[dict]:
    judgments = dict(zip(made.qids, made.qrels, strict=True))
    rest = all(grade >= made.relevant for judged in made.qrels for grade in judged.values())
    rows = []
    for name, scores in found.items():
        whole, low, high = auc_by_queries(scores, judgments, made.relevant, rest=rest, samples=200)
        gain, gain_low, gain_high = auc_difference(
            scores, found["kl"], judgments, made.relevant, rest=rest, samples=200
        )
        within = auc_within(scores, judgments, made.relevant, rest=rest)[0]
        rows.append(
            {
                "collection": made.name, "estimator": name, "AUC": whole, "lo": low, "hi": high,
                "minus_kl": gain, "minus_kl_lo": gain_low, "minus_kl_hi": gain_high,
                "AUC_within": None if np.isnan(within) else within,
            }
        )  # fmt: skip
    return rows


def choosing_auc(name: str) -> list[dict]:
    """The same on judgments that the embedded estimator was fitted on, by heads that have not seen the passage."""
    file = work() / f"auc-{name}.json"
    if file.exists():
        kept: list[dict] = json.loads(file.read_text())
        return kept
    collection = load(name)
    passages = list(collection.corpus)
    row = {p.docno: i for i, p in enumerate(passages)}
    judged = {q: {row[d]: g for d, g in grades.items() if d in row} for q, grades in collection.qrels.judgments.items()}
    judged = {q: grades for q, grades in judged.items() if grades}
    made = SimpleNamespace(
        name=name, texts=[p.contents for p in passages], n=len(passages), relevant=collection.relevant,
        qids=list(judged), qrels=list(judged.values()),
    )  # fmt: skip
    table = features(made)
    found = {name: table[:, FEATURES.index(name)] for name in ("kl", "length", "itn", "unigram")}
    rows = auc_rows(made, {**found, "embedded": embedded(made, table)})
    rows = [{**r, "collection": f"{name}, out of fold"} for r in rows]
    file.write_text(json.dumps(rows))
    return rows


def learned(made: Bench, name: str) -> bool:
    """Rank by a learned sparse encoder, its vectors kept between runs; False where it is not on this machine."""
    from scipy import sparse

    from thresher.errors import ThresherError

    file = work() / f"{name.replace('/', '_')}-{made.name}.npz"
    try:
        from pruned_rankings import ranked

        from thresher.encode import SparseEncoder

        if not file.exists():
            encoder = SparseEncoder.from_name(name)
            width = len(encoder.vocabulary)
            vectors = made.vectors()
            parts = [
                encoder.encode_pooled(vectors[i : i + 512], made.texts[i : i + 512])
                if hasattr(encoder, "encode_pooled")  # thresher-mini reads the MiniLM vectors there are
                else encoder.encode_passages(made.texts[i : i + 512])
                for i in range(0, made.n, 512)
            ]
            sparse.save_npz(file, sparse.vstack([csr(p, width) for p in parts]).tocsr())
            sparse.save_npz(file.with_suffix(".queries.npz"), csr(encoder.encode_queries(made.queries), width))
        passages, queries = sparse.load_npz(file), sparse.load_npz(file.with_suffix(".queries.npz"))
    except ThresherError as err:
        print(f"no learned pipeline: {err}", flush=True)
        return False
    made.learned = (queries, passages)
    made.rankings["learned"] = list(ranked(queries, passages))
    return True


def summary(rows: list[dict]) -> list[dict]:
    """Mean loss at 10, 20 and 30 % beside random's, over the collections that an estimator was run on."""
    out = []
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


def plot(rows: list[dict]) -> alt.Chart:
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


def check_rebuild() -> list[dict]:
    """A pruned SciFact index rebuilt with its own statistics, beside the masked ranking."""
    from pruned_rankings import ranked

    from thresher.encode.bm25 import Bm25Encoder

    made = bench("scifact")
    sheet = Sheet(made, "bm25")
    rows = []
    for pruned in (0.1, 0.3):
        kept = mask(made, estimators(made)["kl"], pruned)
        masked = sheet.top(kept)["nDCG@10"]
        alive = np.flatnonzero(kept)
        encoder = Bm25Encoder.fit([made.texts[i] for i in alive])
        width = len(encoder.vocabulary)
        passages = csr(encoder.encode_passages([made.texts[i] for i in alive]), width)
        queries = csr(encoder.encode_queries(made.queries), width)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="thresher-mini")
    parser.add_argument("--collections", nargs="*", default=list(COLLECTIONS))
    parser.add_argument("--check-rebuild", action="store_true")
    parser.add_argument("--skip-learned", action="store_true")
    options = parser.parse_args()
    if options.check_rebuild:
        (work() / "curves-rebuild.json").write_text(json.dumps(check_rebuild()))
    for name in options.collections:
        if all(
            (work() / f"curves-{name}-{p}.json").exists() for p in ("bm25", "interpolation", "auc", "bm25-bytes")
        ) and (options.skip_learned or (work() / f"curves-{name}-learned.json").exists()):
            continue
        made = bench(name)
        found = estimators(made)
        pipelines = ["bm25", "interpolation"]
        if not (work() / f"curves-{name}-interpolation.json").exists():
            add_interpolation(made)
        if not options.skip_learned and learned(made, options.encoder):
            pipelines.append("learned")
        for pipeline in pipelines:
            file = work() / f"curves-{name}-{pipeline}.json"
            if not file.exists():
                file.write_text(json.dumps(curves(made, pipeline, found)))
                print(name, pipeline, "done", flush=True)
        for pipeline in ("bm25", *(["learned"] if "learned" in made.rankings else [])):
            file = work() / f"curves-{name}-{pipeline}-bytes.json"
            if not file.exists():
                pair = (made.queries, made.passages) if pipeline == "bm25" else made.learned
                file.write_text(json.dumps(equal_bytes.rows(made, pipeline, *pair, found["embedded"])))
        (work() / f"curves-{name}-auc.json").write_text(json.dumps(auc_rows(made, found)))
    rows, aucs, extra = [], [], []
    for name in COLLECTIONS:
        for pipeline in ("bm25", "learned", "interpolation"):
            file = work() / f"curves-{name}-{pipeline}.json"
            rows += json.loads(file.read_text()) if file.exists() else []
            file = work() / f"curves-{name}-{pipeline}-bytes.json"
            extra += json.loads(file.read_text()) if file.exists() else []
        file = work() / f"curves-{name}-auc.json"
        aucs += json.loads(file.read_text()) if file.exists() else []
    aucs += [row for name in CHOOSING for row in choosing_auc(name)]
    rebuilt = work() / "curves-rebuild.json"
    extra += json.loads(rebuilt.read_text()) if rebuilt.exists() else []
    write_results(
        RESULTS / "quality-curves.json", [*summary(rows), *rows, *extra], command="python eval/quality_curves.py",
        seed=0, plot=plot(rows), packages=["scipy"], title="Effectiveness against passages pruned",
        note="lo and hi: 95 % interval of nDCG@10 over questions. minus_random: nDCG@10 minus the mean of twenty "
        "random prunings, question by question, with its 95 % interval. loss: unpruned minus pruned. The first rows "
        "are means over the collections; significantly_worse_on names those where minus_random_hi lies below 0.",
    )  # fmt: skip
    write_results(
        RESULTS / "quality-auc.json", aucs, command="python eval/quality_curves.py", seed=0, packages=["scipy"],
        title="Telling wanted passages from others",
        note="AUC of wanted against other judged passages (against all others where only relevant ones are listed); "
        "intervals by bootstrap over questions; minus_kl: difference to KL on the same passages.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
