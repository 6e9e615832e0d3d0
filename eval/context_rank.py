"""The rank head of thresher-context as a reranker of first-stage lists: context-rank.json.

    THRESHER_DATA=... python eval/context_rank.py [--model DIRECTORY] [--scores DIRECTORY]

BM25's top 100 of TREC DL 2019 are reordered by the rank head alone, by dense MiniLM alone, and by weighted sums of
both with the first stage's scores, each standardised within its list. Weights are chosen on BM25's top 100 of those
topics of DL 2021 that the model was not trained on (the mean of the best twentieth of a grid, which is less a matter of
luck than its maximum) and used on DL 2019 unchanged. The six weights of the rank head come from the same topics; there,
each topic is scored by weights that were fitted without it. Only figures of DL 2019 say how good anything is. Scores
are kept in --scores, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import altair as alt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from context_data import encode_questions
from train_context import RankEvidence

from thresher.collection import load
from thresher.context.model import SHIPPED, TwoHeadedScorer
from thresher.context.scoring import SplitPassage
from thresher.evaluate.compare import compare
from thresher.evaluate.measures import evaluate
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_run
from thresher.records import Qrels

DATA = Path(os.environ.get("THRESHER_DATA", "data"))
RESULTS = Path(__file__).parent / "results"
LISTS = {"trec-dl-2019": ("bm25.dl19", "msmarco-v1-mini"), "trec-dl-2021": ("bm25.dl21", "msmarco-v2-mini")}
DEPTH = 100
NAMES = ("rank head", "dense MiniLM", "BM25")


def lists(name: str) -> tuple[object, dict[str, list[str]], dict[str, np.ndarray], dict[str, list[str]]]:
    """Collection, docnos by qid, [bm25, dense] scores by qid, texts by qid; judged topics with a ranking alone."""
    collection = load(name)
    run_name, mini = LISTS[name]
    run = read_run(DATA / "runs" / f"{run_name}.run.gz")
    vectors = np.load(DATA / "embeddings" / f"{mini}.npy", mmap_mode="r")
    wanted = {row.docno for rows in run.rankings.values() for row in rows}
    texts, places = {}, {}
    for place, passage in enumerate(collection.corpus):
        if passage.docno in wanted:
            texts[passage.docno], places[passage.docno] = passage.contents, place
    questions = {
        q.qid: q.text for q in collection.queries if q.qid in collection.qrels.judgments and q.qid in run.rankings
    }
    asked = dict(zip(questions, encode_questions(list(questions.values())), strict=True))
    docnos, scores, bodies = {}, {}, {}
    for qid, question in questions.items():
        rows = [row for row in run.rankings[qid][:DEPTH] if row.docno in texts]
        docnos[qid] = [row.docno for row in rows]
        dense = vectors[[places[d] for d in docnos[qid]]].astype(np.float32) @ asked[qid]
        scores[qid] = np.stack([np.array([row.score for row in rows]), dense])
        bodies[qid] = [question, *(texts[d] for d in docnos[qid])]
    return collection, docnos, scores, bodies


def rank_scores(scorer: TwoHeadedScorer, bodies: dict[str, list[str]], file: Path) -> dict[str, list[float]]:
    """Rank scores by qid, kept in `file` as they come."""
    done = json.loads(file.read_text()) if file.exists() else {}
    for qid, (question, *texts) in bodies.items():
        if qid not in done:
            pairs = [(question, SplitPassage(text, ())) for text in texts]
            done[qid] = [float(score) for score in scorer.relevance(pairs)]
            file.write_text(json.dumps(done))
    return done


def standardised(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(-1, keepdims=True)) / (scores.std(-1, keepdims=True) + 1e-9)


def mixed(
    parts: dict[str, np.ndarray], docnos: dict[str, list[str]], weights: tuple[float, ...]
) -> dict[str, dict[str, float]]:
    return {
        qid: dict(zip(docnos[qid], (np.array(weights) @ standardised(table)).tolist(), strict=True))
        for qid, table in parts.items()
    }


def choose(parts: dict, docnos: dict, qrels: object, free: tuple[int, ...]) -> tuple[float, ...]:
    """The mean of the best twentieth of all weights in steps of .05 that sum to 1, over the parts named in `free`."""
    tried = []
    steps = 20
    for a in range(steps + 1):
        for b in range(steps + 1 - a):
            weights = [0.0, 0.0, 0.0]
            for place, value in zip(free, (a, b, steps - a - b), strict=False):
                weights[place] = value / steps
            if abs(sum(weights) - 1) < 1e-9:
                tried.append(
                    (evaluate(mixed(parts, docnos, tuple(weights)), qrels, "nDCG@10").mean["nDCG@10"], weights)
                )
    tried.sort(key=lambda pair: -pair[0])
    best = np.array([weights for _, weights in tried[: max(1, len(tried) // 20)]])
    return tuple(float(w) for w in best.mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="measured on DL 2019")
    parser.add_argument("--scores", type=Path, default=Path(tempfile.gettempdir()) / "thresher-context-rank")
    parser.add_argument("--only-2021", action="store_true", help="print figures of DL 2021 and stop")
    options = parser.parse_args()
    options.scores.mkdir(parents=True, exist_ok=True)
    scorer = TwoHeadedScorer(options.model)
    tables = {}
    for name in ("trec-dl-2021",) if options.only_2021 else ("trec-dl-2021", "trec-dl-2019"):
        collection, docnos, scores, bodies = lists(name)
        qrels = collection.qrels
        if name == "trec-dl-2021":
            evidence = RankEvidence(scorer)
            ranks = evidence.left_out(scorer.about["rank_head"]["penalty"])
            docnos = {qid: docnos[qid] for qid in ranks}
            assert docnos == evidence.lists
            qrels = Qrels({qid: qrels.judgments[qid] for qid in ranks})
        else:
            ranks = rank_scores(scorer, bodies, options.scores / f"{name}-{scorer.name.split('@')[-1]}.json")
        parts = {qid: np.stack([np.array(ranks[qid]), scores[qid][1], scores[qid][0]]) for qid in docnos}
        tables[name] = (qrels, docnos, parts)
    qrels, docnos, parts = tables["trec-dl-2021"]
    chosen = {
        "BM25": (0.0, 0.0, 1.0),
        "dense MiniLM": (0.0, 1.0, 0.0),
        "rank head": (1.0, 0.0, 0.0),
        "BM25 + dense": choose(parts, docnos, qrels, (1, 2)),
        "BM25 + rank head": choose(parts, docnos, qrels, (0, 2)),
        "BM25 + dense + rank head": choose(parts, docnos, qrels, (0, 1, 2)),
    }
    rows, measured = [], {}
    for name, (qrels, docnos, parts) in tables.items():
        for system, weights in chosen.items():
            result = evaluate(mixed(parts, docnos, weights), qrels, "nDCG@10 AP(rel=2)@100 RR(rel=2)@10")
            measured[name, system] = result
            rows.append({"collection": name, "list": f"BM25 top {DEPTH}", "system": system,
                         **{f"weight {n}": round(w, 3) for n, w in zip(NAMES, weights, strict=True)},
                         **{k: round(v, 4) for k, v in result.mean.items()}})  # fmt: skip
    for row in rows:
        print(row)
    if options.only_2021:
        return
    qrels, docnos, parts = tables["trec-dl-2019"]
    full, base = measured["trec-dl-2019", "BM25 + dense + rank head"], measured["trec-dl-2019", "BM25 + dense"]
    test = compare(full, base, "nDCG@10").as_row()
    vicuna = DATA / "recordings" / "runs" / "bm25.rank-vicuna-7b.top100.dl19.1.run.gz"
    if vicuna.is_file():
        result = evaluate(read_run(vicuna), qrels, "nDCG@10 AP(rel=2)@100 RR(rel=2)@10")
        rows.append({"collection": "trec-dl-2019", "list": "BM25 top 100", "system": "RankVicuna 7B (recorded run)",
                     **{k: round(v, 4) for k, v in result.mean.items()}})  # fmt: skip
    shown = [row for row in rows if row["collection"] == "trec-dl-2019"]
    plot = (
        alt.Chart(alt.Data(values=[{"system": r["system"], "ndcg": r["nDCG@10"]} for r in shown]), width=420)
        .mark_bar(color="#b8860b")
        .encode(
            x=alt.X("ndcg:Q", title="nDCG@10, TREC DL 2019, BM25 top 100"), y=alt.Y("system:N", sort="x", title=None)
        )
    )
    note = (
        "Weights were chosen on topics of DL 2021 held out of training and used on DL 2019 unchanged; rows of DL 2021 "
        "are where they were chosen. "
        f"Three signals against two on DL 2019, paired: {json.dumps(test, default=str)}."
    )
    write_results(
        RESULTS / "context-rank.json", rows, command="python eval/context_rank.py", plot=plot,
        title="The rank head as a reranker",
        packages=("torch",), note=note,
    )  # fmt: skip


if __name__ == "__main__":
    main()
