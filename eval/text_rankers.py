"""How well `thresher.pipeline.TextRanker` orders lists that it is given. Writes eval/results/text-rankers.json.

Lists are the first `DEPTH` passages of two given runs, for the topics of TREC Deep Learning 2021 that no training saw;
the texts are scored without an index. A row is a way to score, with nDCG@10 on each list: the order of the list, each
signal alone, the pipeline's mixture (signals standardised over the list), and the models that a request can name. Rows
of the grid are mixtures with constant weights, each signal divided by its mean deviation within a topic; `smoothed` is
the mean over a mixture and those next to it, by which the weights were chosen. Rows of the kind `odds` hold the weights
of the logistic curve that turns a mixture into a score, fitted on judged passages (relevant: grade 2 or 3), and rows of
the kind `bin` the share of relevant passages among those whose score is between two tenths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from eval.bench import Bench, options
from eval.collections import given_hits, held_out
from thresher.encode.bm25 import Bm25Encoder
from thresher.evaluate.collections import load
from thresher.evaluate.measures import evaluate
from thresher.fusion import normalise_scores
from thresher.pipeline.text_ranker import MIXTURES, Mixture, TextRanker
from thresher.records import Qrels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Row
    from thresher.evaluate.collections import Collection

RUNS = ("bm25.dl21", "splade-pp-ed.dl21")
DEPTH = 100
RELEVANT = 2
SIGNALS = ("lexical", "cosine", "relevance")
CHOSEN = {"thresher-rerank": (0.2, 0.3, 0.5), "thresher-context": (0.0, 0.0, 1.0), "thresher-light": (0.3, 0.7, 0.0)}
"""Weights of the signals, each divided by its mean deviation, by model."""
PIPELINE = (0.2, 0.6, 0.2)
GRID = [(a / 10, b / 10, (10 - a - b) / 10) for a in range(6) for b in range(11 - a)]
COLUMNS = {"kind": "", "name": "", "bm25": ".4f", "splade": ".4f", "mean": ".4f", "smoothed": ".4f", "passages": "",
           "score": ".3f", "relevant": ".3f", "lexical": ".3f", "cosine": ".3f", "relevance": ".3f",
           "constant": ".3f"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topic:
    """What is known of the passages of one topic's lists.

    Attributes:
        docnos: of both lists, each once.
        signals: float64[n] by name; `bm25` has the collection's own IDF.
        scores: float64[n] by model, as the library gives them.
        lists: places in `docnos`, by run, in the run's order.
        grades: judged grades, by docno.
    """

    docnos: list[str]
    signals: dict[str, NDArray[np.float64]]
    scores: dict[str, NDArray[np.float64]]
    lists: dict[str, list[int]]
    grades: Mapping[str, int]


Score: TypeAlias = "Callable[[Topic, list[int]], NDArray[np.float64]]"
"""The scores of the passages at these places of a topic."""


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("text-rankers", __doc__).parse_args(arguments))
    topics = read(load("trec-dl-2021"))
    rows = [*orders(topics), *grid(topics)]
    for name, weights in CHOSEN.items():
        rows += odds(topics, name, weights)
    for row in rows:
        print(row, flush=True)
    bench.write("text-rankers", rows, seed=0, columns=COLUMNS, packages=["torch"], title="Scores of posted texts")


def read(collection: Collection) -> dict[str, Topic]:
    """The signals of every topic."""
    ranker, bm25 = TextRanker(), Bm25Encoder.fit(passage.contents for passage in collection.corpus)
    given = {run: given_hits(collection, run, DEPTH) for run in RUNS}
    contents = {passage.docno: passage.contents for passage in collection.corpus}
    ones = {
        "lexical": Mixture(1.0, 0.0, 0.0, 0.0),
        "cosine": Mixture(0.0, 1.0, 0.0, 0.0),
        "relevance": Mixture(0.0, 0.0, 1.0, 0.0),
    }
    found = {}
    for query in held_out(collection):
        lists = {run: [hit.docno for hit in given[run][query.qid]] for run in RUNS}
        docnos = list(dict.fromkeys(docno for run in RUNS for docno in lists[run]))
        texts = [contents[docno] for docno in docnos]
        signals = {}
        for name, mixture in ones.items():
            alone = ranker.with_model("thresher-rerank")
            alone.mixture = mixture
            signals[name] = np.array([one.raw for one in alone.read(query.text, texts)])
        asked, batch = bm25.encode_queries([query.text]), bm25.encode_passages(texts)
        weights = np.zeros(len(bm25.vocabulary))
        weights[asked.terms] = asked.weights
        rows = np.repeat(np.arange(len(texts)), np.diff(batch.indptr))
        signals["bm25"] = np.bincount(rows, weights[batch.terms] * batch.weights, len(texts))
        table = np.array([signals[name] for name in SIGNALS]).T
        scores: dict[str, NDArray[np.float64]] = {
            name: table @ np.array(mixture[:3]) + mixture.constant for name, mixture in MIXTURES.items()
        }
        places = {run: [docnos.index(docno) for docno in lists[run]] for run in RUNS}
        found[query.qid] = Topic(docnos, signals, scores, places, collection.qrels.judgments[query.qid])
        print(f"{query.qid}: {len(docnos)} passages read", flush=True)
    return found


def figures(topics: Mapping[str, Topic], score: Score) -> list[float]:
    """nDCG@10 of each run's lists, in the order of a score."""
    qrels = Qrels({qid: dict(topic.grades) for qid, topic in topics.items()})
    means = []
    for run in RUNS:
        rankings = {}
        for qid, topic in topics.items():
            at = topic.lists[run]
            rankings[qid] = dict(zip([topic.docnos[i] for i in at], score(topic, at).tolist(), strict=True))
        means.append(float(np.mean(list(evaluate(rankings, qrels, "nDCG@10").values("nDCG@10")))))
    return means


def row_of(kind: str, name: str, found: Sequence[float]) -> Row:
    """A row of an order."""
    return {"kind": kind, "name": name, "bm25": found[0], "splade": found[1], "mean": float(np.mean(found))}


def orders(topics: Mapping[str, Topic]) -> list[Row]:
    """The rows of single signals, of the pipeline's mixture and of the models."""

    def signal(name: str) -> Score:
        return lambda topic, at: topic.signals[name][at]

    def model(name: str) -> Score:
        return lambda topic, at: topic.scores[name][at]

    def pipeline(lexical: str) -> Score:
        def mixed(topic: Topic, at: list[int]) -> NDArray[np.float64]:
            names = (lexical, "cosine", "relevance")
            parts = np.array([normalise_scores(topic.signals[name][at], "z-score") for name in names])
            return np.asarray(np.array(PIPELINE) @ parts)

        return mixed

    def given(topic: Topic, at: list[int]) -> NDArray[np.float64]:
        return -np.arange(float(len(at)))

    return [
        row_of("order", "given", figures(topics, given)),
        *(row_of("order", name, figures(topics, signal(name))) for name in ("bm25", *SIGNALS)),
        *(row_of("order", f"pipeline, {name}", figures(topics, pipeline(name))) for name in ("bm25", "lexical")),
        *(row_of("model", name, figures(topics, model(name))) for name in MIXTURES),
    ]


def deviations(topics: Mapping[str, Topic]) -> NDArray[np.float64]:
    """The mean deviation of each signal within a topic, float64[3]."""
    return np.array([np.mean([topic.signals[name].std() for topic in topics.values()]) for name in SIGNALS])


def grid(topics: Mapping[str, Topic]) -> list[Row]:
    """The rows of mixtures with constant weights."""
    spread = deviations(topics)

    def score(weights: tuple[float, ...]) -> Score:
        scaled = np.array(weights) / spread
        return lambda topic, at: np.array([topic.signals[name][at] for name in SIGNALS]).T @ scaled

    found = {weights: figures(topics, score(weights)) for weights in GRID}
    rows = []
    for weights in GRID:
        near = [
            np.mean(found[one]) for one in GRID if max(abs(a - b) for a, b in zip(weights, one, strict=True)) < 0.11
        ]
        name = "/".join(f"{weight:g}" for weight in weights)
        rows.append(row_of("grid", name, found[weights]) | {"smoothed": float(np.mean(near))})
    return rows


def odds(topics: Mapping[str, Topic], name: str, weights: tuple[float, float, float]) -> list[Row]:
    """The fitted weights of a model, and how often passages are relevant by its score."""
    from scipy.optimize import minimize

    scaled = np.array(weights) / deviations(topics)
    known = [(t, i) for t in topics.values() for i, docno in enumerate(t.docnos) if docno in t.grades]
    mixed = np.array([sum(t.signals[one][i] * w for one, w in zip(SIGNALS, scaled, strict=True)) for t, i in known])
    relevant = np.array([t.grades[t.docnos[i]] >= RELEVANT for t, i in known], float)

    def loss(line: NDArray[np.float64]) -> float:
        logits = line[0] * mixed + line[1]
        return float(np.mean(np.logaddexp(0, logits) - relevant * logits))

    slope, constant = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    parts = dict(zip(SIGNALS, (slope * scaled).tolist(), strict=True))
    rows: list[Row] = [{"kind": "odds", "name": name, "passages": len(known), **parts, "constant": float(constant)}]
    scores = 1 / (1 + np.exp(-np.array([t.scores[name][i] for t, i in known])))
    for low in np.arange(10) / 10:
        at = (scores >= low) & (scores < low + 0.1)
        if at.any():
            rows.append({"kind": "bin", "name": f"{name} {low:.1f}", "passages": int(at.sum()),
                         "score": float(scores[at].mean()), "relevant": float(relevant[at].mean())})  # fmt: skip
    return rows
