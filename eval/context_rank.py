"""The rank head of thresher-context as a reranker of first-stage lists: context-rank.json.

    THRESHER_DATA=... python eval/context_rank.py [--model DIRECTORY] [--scores DIRECTORY]

BM25's top 100 of TREC DL 2019 are reordered by the rank head alone, by dense MiniLM alone, and by weighted sums of
both with the first stage's scores, each standardised within its list. "With feedback", the best passages of a weighted
sum move the query's vector towards their mean (Rocchio, as `thresher.vectors.interpolate`), and dense similarity and
the sum are taken again. Weights are chosen on BM25's top 100 of those topics of DL 2021 that the model was not trained
on (the mean of the best twentieth of a grid, which is less a matter of luck than its maximum; what feedback reads, by
the mean quality of that twentieth) and used on DL 2019 unchanged. The six weights of the rank head come from the same
topics; there, each topic is scored by weights that were fitted without it. Only figures of DL 2019 say how good
anything is. Scores are kept in --scores, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from thresher.context.model import SHIPPED, TwoHeadedScorer
from thresher.context.scoring import SplitPassage
from thresher.evaluate.collections import load
from thresher.evaluate.compare import compare
from thresher.evaluate.measures import evaluate
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_run
from thresher.records import Qrels
from training.context.data import encode_queries
from training.context.train import RankEvidence

DATA = Path(os.environ.get("THRESHER_DATA", "data"))
RESULTS = Path(__file__).parent / "results"
LISTS = {"trec-dl-2019": ("bm25.dl19", "msmarco-v1-mini"), "trec-dl-2021": ("bm25.dl21", "msmarco-v2-mini")}
DEPTH = 100
FULL = "BM25 + dense + rank head, with feedback"
NAMES = ("rank head", "dense MiniLM", "BM25")
FEEDBACK = [(count, weight) for count in (1, 2, 3, 5, 10) for weight in (0.5, 1.0)]
"""Passages that feedback reads and the weight of their mean, to choose from."""

Weights = tuple[float, float, float]
Feedback = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Lists:
    """What the first stage found, by topic, of judged topics with a ranking alone.

    Attributes:
        qrels: the judgments.
        docnos: passages in the first stage's order.
        texts: their texts.
        queries: the queries.
        sparse: scores of the first stage, float64[passages].
        vectors: of the passages, float32[passages, dimensions].
        asked: of the queries, float32[dimensions].
    """

    qrels: Qrels
    docnos: dict[str, list[str]]
    texts: dict[str, list[str]]
    queries: dict[str, str]
    sparse: dict[str, np.ndarray]
    vectors: dict[str, np.ndarray]
    asked: dict[str, np.ndarray]

    def only(self, topics: list[str]) -> Lists:
        """The same of some topics, judged there alone."""
        parts = ({q: values[q] for q in topics} for values in (
            self.docnos, self.texts, self.queries, self.sparse, self.vectors, self.asked,
        ))  # fmt: skip
        return Lists(Qrels({qid: self.qrels.judgments[qid] for qid in topics}), *parts)


def lists(name: str) -> Lists:
    collection = load(name)
    run_name, mini = LISTS[name]
    run = read_run(DATA / "runs" / f"{run_name}.run.gz")
    stored = np.load(DATA / "embeddings" / f"{mini}.npy", mmap_mode="r")
    wanted = {row.docno for rows in run.rankings.values() for row in rows}
    bodies, places = {}, {}
    for place, passage in enumerate(collection.corpus):
        if passage.docno in wanted:
            bodies[passage.docno], places[passage.docno] = passage.contents, place
    topics = {
        q.qid: q.text for q in collection.queries if q.qid in collection.qrels.judgments and q.qid in run.rankings
    }
    asked = dict(zip(topics, encode_queries(list(topics.values())), strict=True))
    found = {qid: [row for row in run.rankings[qid][:DEPTH] if row.docno in bodies] for qid in topics}
    docnos = {qid: [row.docno for row in rows] for qid, rows in found.items()}
    return Lists(
        collection.qrels,
        docnos,
        {qid: [bodies[d] for d in mine] for qid, mine in docnos.items()},
        topics,
        {qid: np.array([row.score for row in rows]) for qid, rows in found.items()},
        {qid: stored[[places[d] for d in mine]].astype(np.float32) for qid, mine in docnos.items()},
        asked,
    )


def rank_scores(scorer: TwoHeadedScorer, found: Lists, file: Path) -> dict[str, list[float]]:
    """Relevance by qid, kept in `file` as it comes."""
    done = json.loads(file.read_text()) if file.exists() else {}
    for qid, texts in found.texts.items():
        if qid not in done:
            pairs = [(found.queries[qid], SplitPassage(text, ())) for text in texts]
            done[qid] = [float(score) for score in scorer.relevance(pairs)]
            file.write_text(json.dumps(done))
    return done


def standardised(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(-1, keepdims=True)) / (scores.std(-1, keepdims=True) + 1e-9)


class Signals:
    """Relevance, dense similarity and BM25 of every list, and weighted sums of them.

    Args:
        found: the lists.
        ranks: relevance by topic.
    """

    def __init__(self, found: Lists, ranks: dict[str, list[float]]) -> None:
        self.found = found
        self.ranks = {qid: standardised(np.array(ranks[qid])) for qid in found.docnos}
        self.sparse = {qid: standardised(scores) for qid, scores in found.sparse.items()}
        self.dense = {qid: self._dense(qid, vector) for qid, vector in found.asked.items()}

    def _dense(self, qid: str, vector: np.ndarray) -> np.ndarray:
        return standardised(self.found.vectors[qid] @ vector)

    def mixed(self, weights: Weights, feedback: Feedback) -> dict[str, dict[str, float]]:
        """Scores by topic and docno; `feedback` is how many passages move the query's vector, and how far."""
        count, share = feedback
        out = {}
        for qid, docnos in self.found.docnos.items():
            dense = self.dense[qid]
            total = np.array(weights) @ np.stack([self.ranks[qid], dense, self.sparse[qid]])
            if count:
                best = sorted(range(len(docnos)), key=lambda i: (-total[i], docnos[i]))[:count]
                dense = self._dense(qid, self.found.asked[qid] + share * self.found.vectors[qid][best].mean(0))
                total = np.array(weights) @ np.stack([self.ranks[qid], dense, self.sparse[qid]])
            out[qid] = dict(zip(docnos, total.tolist(), strict=True))
        return out

    def quality(self, weights: Weights, feedback: Feedback) -> float:
        """nDCG@10."""
        return evaluate(self.mixed(weights, feedback), self.found.qrels, "nDCG@10").mean["nDCG@10"]

    def choose(self, free: tuple[int, ...], feedback: Feedback = (0, 0.0)) -> tuple[float, Weights]:
        """The best twentieth of all weights in steps of .05 that sum to 1, over the parts named in `free`.

        Returns:
            Their mean quality, and their mean.
        """
        tried = []
        steps = 20
        for a in range(steps + 1):
            for b in range(steps + 1 - a):
                weights = [0.0, 0.0, 0.0]
                for place, value in zip(free, (a, b, steps - a - b), strict=False):
                    weights[place] = value / steps
                if abs(sum(weights) - 1) < 1e-9:
                    tried.append((self.quality((weights[0], weights[1], weights[2]), feedback), weights))
        tried.sort(key=lambda pair: -pair[0])
        best = tried[: max(1, len(tried) // 20)]
        mean = np.mean([weights for _, weights in best], axis=0)
        return float(np.mean([quality for quality, _ in best])), (float(mean[0]), float(mean[1]), float(mean[2]))

    def choose_feedback(self, free: tuple[int, ...]) -> tuple[Weights, Feedback]:
        """What feedback reads, and the weights, by the mean quality of the best twentieth of weights."""
        tried = [(*self.choose(free, feedback), feedback) for feedback in FEEDBACK]
        for quality, weights, feedback in tried:
            print(free, "feedback", feedback, np.round(weights, 3).tolist(), round(quality, 4), flush=True)
        _, weights, feedback = max(tried, key=lambda one: one[0])
        return weights, feedback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="measured on DL 2019")
    parser.add_argument("--scores", type=Path, default=Path(tempfile.gettempdir()) / "thresher-context-rank")
    parser.add_argument("--only-2021", action="store_true", help="print figures of DL 2021 and stop")
    options = parser.parse_args()
    options.scores.mkdir(parents=True, exist_ok=True)
    scorer = TwoHeadedScorer(options.model)
    signals = {}
    for name in ("trec-dl-2021",) if options.only_2021 else ("trec-dl-2021", "trec-dl-2019"):
        found = lists(name)
        if name == "trec-dl-2021":
            evidence = RankEvidence(scorer)
            ranks = evidence.left_out(scorer.about["rank_head"]["penalty"])
            found = found.only(list(ranks))
            assert found.docnos == evidence.lists
        else:
            ranks = rank_scores(scorer, found, options.scores / f"{name}-{scorer.name.split('@')[-1]}.json")
        signals[name] = Signals(found, ranks)
    chooser, none = signals["trec-dl-2021"], (0, 0.0)
    chosen = {
        "BM25": ((0.0, 0.0, 1.0), none),
        "dense MiniLM": ((0.0, 1.0, 0.0), none),
        "rank head": ((1.0, 0.0, 0.0), none),
        "BM25 + dense": (chooser.choose((1, 2))[1], none),
        "BM25 + rank head": (chooser.choose((0, 2))[1], none),
        "BM25 + dense + rank head": (chooser.choose((0, 1, 2))[1], none),
        "BM25 + dense, with feedback": chooser.choose_feedback((1, 2)),
        FULL: chooser.choose_feedback((0, 1, 2)),
    }
    rows, measured = [], {}
    for name, mine in signals.items():
        for system, (weights, feedback) in chosen.items():
            result = evaluate(mine.mixed(weights, feedback), mine.found.qrels, "nDCG@10 AP(rel=2)@100 RR(rel=2)@10")
            measured[name, system] = result
            rows.append({"collection": name, "list": f"BM25 top {DEPTH}", "system": system,
                         **{f"weight {n}": round(w, 3) for n, w in zip(NAMES, weights, strict=True)},
                         "feedback passages": feedback[0], "feedback weight": feedback[1],
                         **{k: round(v, 4) for k, v in result.mean.items()}})  # fmt: skip
    for row in rows:
        print(row)
    if options.only_2021:
        return
    qrels = signals["trec-dl-2019"].found.qrels
    tests = {}
    for more, less in ((FULL, "BM25 + dense, with feedback"), ("BM25 + dense + rank head", "BM25 + dense")):
        one = compare(measured["trec-dl-2019", more], measured["trec-dl-2019", less], "nDCG@10").as_row()
        tests[f"{more} against {less}"] = one
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
        f"Three signals against two on DL 2019, paired: {json.dumps(tests, default=str)}."
    )
    write_results(
        RESULTS / "context-rank.json", rows, command="python eval/context_rank.py", plot=plot,
        title="The rank head as a reranker",
        packages=("torch",), note=note,
    )  # fmt: skip


if __name__ == "__main__":
    main()
