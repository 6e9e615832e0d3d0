"""The rank head of thresher-context as a reranker of first-stage lists.

Writes eval/results/context-rank.json; resumes where it was interrupted.

BM25's top 100 of TREC DL 2019 are reordered by the rank head alone, by dense MiniLM alone, and by weighted sums of
both with the first stage's scores, each standardised within its list. "With feedback", the best passages of a weighted
sum move the query's vector towards their mean (Rocchio, as `thresher.vectors.feedback`), and dense similarity and
the sum are taken again. Weights are chosen on BM25's top 100 of those topics of DL 2021 that the model was not trained
on (the mean of the best twentieth of a grid, which is less a matter of luck than its maximum; what feedback reads, by
the mean quality of that twentieth) and used on DL 2019 unchanged. The six weights of the rank head come from the same
topics; there, each topic is scored by weights that were fitted without it. Only figures of DL 2019 say how good
anything is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from eval.bench import Bench, options
from eval.collections import data_file, embeddings, given_run, judged
from thresher.context.model import TwoHeadedScorer
from thresher.context.scorers import SplitPassage
from thresher.evaluate import compare
from thresher.evaluate.collections import load
from thresher.evaluate.measures import evaluate
from thresher.evaluate.trec import read_run
from thresher.models.two_headed import SHIPPED
from thresher.records import Qrels
from training.context.data import encode_queries
from training.context.train import RankEvidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Row
    from thresher.evaluate.measures import Evaluation

    Floats = NDArray[np.float64]

LISTS = {"trec-dl-2019": "bm25.dl19", "trec-dl-2021": "bm25.dl21"}
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
    sparse: dict[str, Floats]
    vectors: dict[str, NDArray[np.float32]]
    asked: dict[str, NDArray[np.float32]]

    def only(self, topics: Sequence[str]) -> Lists:
        """The same, restricted to some topics."""
        return Lists(
            Qrels({q: self.qrels.judgments[q] for q in topics}),
            {q: self.docnos[q] for q in topics},
            {q: self.texts[q] for q in topics},
            {q: self.queries[q] for q in topics},
            {q: self.sparse[q] for q in topics},
            {q: self.vectors[q] for q in topics},
            {q: self.asked[q] for q in topics},
        )


def lists(name: str) -> Lists:
    """What the first stage found for the judged topics of a collection."""
    collection, run = load(name), given_run(LISTS[name])
    stored = embeddings(collection)
    wanted = {docno for ranking in run.values() for docno in ranking.docnos}
    bodies, places = {}, {}
    for place, passage in enumerate(collection.corpus):
        if passage.docno in wanted:
            bodies[passage.docno], places[passage.docno] = passage.contents, place
    topics = {q.qid: q.text for q in judged(collection) if q.qid in run}
    asked = dict(zip(topics, encode_queries(list(topics.values())), strict=True))
    found = {qid: [row for row in run[qid].pairs()[:DEPTH] if row[0] in bodies] for qid in topics}
    docnos = {qid: [docno for docno, _ in rows] for qid, rows in found.items()}
    return Lists(
        collection.qrels,
        docnos,
        {qid: [bodies[d] for d in mine] for qid, mine in docnos.items()},
        topics,
        {qid: np.array([score for _, score in rows]) for qid, rows in found.items()},
        {qid: stored[[places[d] for d in mine]] for qid, mine in docnos.items()},
        asked,
    )


def rank_scores(scorer: TwoHeadedScorer, found: Lists, file: Path) -> dict[str, list[float]]:
    """Relevance by qid, kept in `file` as it comes."""
    done: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    for qid, texts in found.texts.items():
        if qid not in done:
            pairs = [(found.queries[qid], SplitPassage(text, ())) for text in texts]
            done[qid] = [float(score) for score in scorer.relevance(pairs)]
            file.write_text(json.dumps(done))
    return done


def standardised(scores: NDArray[Any]) -> Floats:
    """Scores less their mean, over their standard deviation."""
    return np.asarray((scores - scores.mean(-1, keepdims=True)) / (scores.std(-1, keepdims=True) + 1e-9), np.float64)


class Signals:
    """Relevance, dense similarity and BM25 of every list, and weighted sums of them.

    Args:
        found: the lists.
        ranks: relevance by topic.
    """

    def __init__(self, found: Lists, ranks: Mapping[str, Sequence[float]]) -> None:
        self.found = found
        self.ranks = {qid: standardised(np.array(ranks[qid])) for qid in found.docnos}
        self.sparse = {qid: standardised(scores) for qid, scores in found.sparse.items()}
        self.dense = {qid: self._dense(qid, vector) for qid, vector in found.asked.items()}

    def _dense(self, qid: str, vector: NDArray[np.float32]) -> Floats:
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


def signals_of(bench: Bench, scorer: TwoHeadedScorer, name: str) -> Signals:
    """The signals of one collection; on DL 2021 relevance by weights fitted without the topic."""
    found = lists(name)
    if name == "trec-dl-2021":
        evidence = RankEvidence(scorer)
        ranks = evidence.left_out(scorer.about["rank_head"]["penalty"])
        found = found.only(list(ranks))
        assert found.docnos == evidence.lists
        return Signals(found, {qid: scores.tolist() for qid, scores in ranks.items()})
    return Signals(found, rank_scores(scorer, found, bench.work / f"rank-{name}-{scorer.name.split('@')[-1]}.json"))


def choices(chooser: Signals) -> dict[str, tuple[Weights, Feedback]]:
    """Weights and feedback of every system, chosen where they have to be."""
    none = (0, 0.0)
    return {
        "BM25": ((0.0, 0.0, 1.0), none),
        "dense MiniLM": ((0.0, 1.0, 0.0), none),
        "rank head": ((1.0, 0.0, 0.0), none),
        "BM25 + dense": (chooser.choose((1, 2))[1], none),
        "BM25 + rank head": (chooser.choose((0, 2))[1], none),
        "BM25 + dense + rank head": (chooser.choose((0, 1, 2))[1], none),
        "BM25 + dense, with feedback": chooser.choose_feedback((1, 2)),
        FULL: chooser.choose_feedback((0, 1, 2)),
    }


MEASURES = "nDCG@10 AP(rel=2)@100 RR(rel=2)@10"


def rows_of(signals: Mapping[str, Signals]) -> tuple[list[Row], dict[str, Evaluation]]:
    """A row for each collection and system, and the evaluations of DL 2019 by system."""
    rows: list[Row] = []
    measured = {}
    chosen = choices(signals["trec-dl-2021"])
    for name, mine in signals.items():
        for system, (weights, feedback) in chosen.items():
            result = evaluate(mine.mixed(weights, feedback), mine.found.qrels, MEASURES)
            if name == "trec-dl-2019":
                measured[system] = result
            rows.append({"collection": name, "list": f"BM25 top {DEPTH}", "system": system,
                         **{f"weight {n}": round(w, 3) for n, w in zip(NAMES, weights, strict=True)},
                         "feedback passages": feedback[0], "feedback weight": feedback[1],
                         **{k: round(v, 4) for k, v in result.mean.items()}})  # fmt: skip
            print(rows[-1], flush=True)
    return rows, measured


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("context-rank", __doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="measured on DL 2019")
    parser.add_argument("--only-2021", action="store_true", help="print figures of DL 2021 and stop")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    scorer = TwoHeadedScorer(given.model)
    names = ("trec-dl-2021",) if given.only_2021 else ("trec-dl-2021", "trec-dl-2019")
    signals = {name: signals_of(bench, scorer, name) for name in names}
    rows, measured = rows_of(signals)
    if given.only_2021:
        return
    recorded = read_run(data_file("recordings", "runs", "bm25.rank-vicuna-7b.top100.dl19.1.run.gz"))
    result = evaluate(recorded, signals["trec-dl-2019"].found.qrels, MEASURES)
    rows.append({"collection": "trec-dl-2019", "list": "BM25 top 100", "system": "RankVicuna 7B (recorded run)",
                 **{k: round(v, 4) for k, v in result.mean.items()}})  # fmt: skip
    said = []
    for more, less in ((FULL, "BM25 + dense, with feedback"), ("BM25 + dense + rank head", "BM25 + dense")):
        one = compare(measured[more], measured[less], "nDCG@10")
        said.append(
            f"{more} minus {less}: {one.difference:+.4f}, 95 % interval {one.interval.low:+.4f} to "
            f"{one.interval.high:+.4f}, p = {one.p:.3f} (paired t, {one.n} topics)"
        )
    shown = [row for row in rows if row["collection"] == "trec-dl-2019"]
    plot = (
        alt.Chart(alt.Data(values=[{"system": r["system"], "ndcg": r["nDCG@10"]} for r in shown]), width=420)
        .mark_bar(color="#b8860b")
        .encode(
            x=alt.X("ndcg:Q", title="nDCG@10, TREC DL 2019, BM25 top 100"), y=alt.Y("system:N", sort="x", title=None)
        )
    )
    bench.write(
        "context-rank",
        rows,
        plot=plot,
        title="The rank head as a reranker",
        packages=("torch",),
        note="Weights were chosen on topics of DL 2021 held out of training and used on DL 2019 unchanged; rows of DL "
        f"2021 are where they were chosen. On DL 2019, {'; '.join(said)}.",
    )
