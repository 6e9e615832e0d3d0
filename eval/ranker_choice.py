"""Whether the ranker runs by default: a paired test on held-out topics. Writes eval/results/ranker-choice.json.

The pipeline of the default recipe, without a ranker and with one that reads the first `read` passages. Topics are those
of `mixture-choice`, at most `TOPICS` a set; of SciFact only those whose relevant passages are relevant for no topic
that may be trained on, since a model could know such a passage by heart. The ranker's mixture of sparse score, dense
score and relevance is chosen on one half of the topics (by a hash) and tested on the other, and the other way round, so
that no topic both chooses and tests. A row is a set: nDCG@10 without and with the ranker, the mean difference with its
95 % bootstrap interval and the p of a randomisation test; the row `mean` is over sets, its interval by resampling
topics within each set. The ranker is worth running by default where the interval of the mean is above 0, the mean
difference is at least `LEAST`, and no set is significantly worse. The weights in the row `mean` are those chosen on all
topics.
"""

from __future__ import annotations

import itertools
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, by_hash, options
from eval.collections import CHOOSING, given_run, held_out, only
from eval.known import KnownVectors
from thresher.build.recipe import Recipe
from thresher.context.scorers import SentenceScorer
from thresher.encode.dense import MiniLMEncoder
from thresher.evaluate.collections import Collection, load
from thresher.evaluate.measures import evaluate
from thresher.evaluate.resampling import bootstrap_interval, randomisation
from thresher.fusion import normalise_scores
from thresher.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Row
    from thresher.pipeline import Answer
    from thresher.records import Qrels, Query

ENCODER = "bm25+thresher-mini"
GIVEN = "bm25.dl21"
TOPICS = 120
READ = (10, 20)
LEAST = 0.01
SIGNALS = ("search", "dense", "interpolate", "relevance")
GRID = [
    (sparse / 20, (20 - sparse - relevance) / 20, relevance / 20)
    for relevance in range(0, 19)
    for sparse in range(0, 21 - relevance, 2)
]
"""Weights of sparse score, dense score and relevance; without relevance too, so that a ranker need not be believed."""
ROUNDS = 10_000
COLUMNS = {
    "set": "", "read": "", "topics": "", "without": ".4f", "with": ".4f", "difference": "+.4f", "lo": "+.4f",
    "hi": "+.4f", "p": ".3f", "ms_passage": ".1f", "sparse": ".2f", "dense": ".2f", "relevance": ".2f",
    "by_default": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of a set as the pipeline answered it.

    Attributes:
        qid: its number.
        docnos: the passages read, in the order of the interpolation.
        signals: float64[4, n], of the passages read, as `SIGNALS`.
        rest: what follows them.
    """

    qid: str
    docnos: list[str]
    signals: NDArray[np.float64]
    rest: list[str]


def main(arguments: Sequence[str]) -> None:
    """Measure, test and write."""
    parser = options("ranker-choice", __doc__)
    parser.add_argument("--encoder", default=ENCODER, help="what weighs the terms; NAME of bm25+NAME may be a folder")
    parser.add_argument("--ranker", default="thresher-context", help="the sentence scorer that is tested")
    parser.add_argument("--topics", type=int, default=TOPICS, help="topics of a collection at most")
    given = parser.parse_args(arguments)
    bench, scorer = Bench.of(given), SentenceScorer.from_name(given.ranker)
    sets, speed = {}, {}
    for name in CHOOSING:
        for label, topics, qrels, milliseconds in answered(bench, name, given.encoder, scorer, given.topics):
            sets[label], speed[label] = (topics, qrels), milliseconds
            print(f"{label}: {len(topics)} topics read, {milliseconds:.1f} ms a passage", flush=True)
    rows = [row for read in READ for row in tested(sets, speed, read)]
    for row in rows:
        print(row, flush=True)
    bench.write("ranker-choice", rows, seed=0, columns=COLUMNS, packages=["torch"], title="Does the ranker pay?")


def answered(
    bench: Bench, name: str, encoder: str, scorer: SentenceScorer, most: int
) -> list[tuple[str, list[Topic], Qrels, float]]:
    """Name, topics, judgments and milliseconds a passage read, of each set of a collection."""
    collection = load(name)
    queries = by_hash(unknown(collection), lambda query: query.qid)[:most]
    collection, light = only(collection, queries), MiniLMEncoder(storage="float32")
    known = KnownVectors(bench, collection, light, 1.0)
    recipe = Recipe.model_validate({"encode": {"encoder": encoder}, "vectors": {}})
    settings = recipe.ask.model_copy(update={"read": max(READ), "k": max(READ)})
    path = bench.index(collection, recipe, known)
    pipeline = Pipeline.open(path, rerank=scorer, context=None, settings=settings, query_encoder=known)
    label = name.partition("/")[0].replace("trec-dl-2021", "dl21")
    runs: dict[str, Mapping[str, Sequence[str]] | None] = {label: None}
    if label == "dl21":
        run = given_run(GIVEN)
        runs["dl21_given"] = {query.qid: run[query.qid].docnos[:100] for query in queries}
    pipeline.ask(queries[0])  # loads and compiles
    found = []
    for of_set, allowed in runs.items():
        started, topics = time.perf_counter(), []
        for query in queries:
            answer = pipeline.ask(query, allow=None if allowed is None else allowed[query.qid])
            topics.append(topic_of(answer))
        read = sum(len(topic.docnos) for topic in topics)
        found.append((of_set, topics, collection.qrels, 1000 * (time.perf_counter() - started) / max(read, 1)))
    return found


def unknown(collection: Collection) -> list[Query]:
    """Held-out topics; of SciFact those whose relevant passages are relevant for no topic that may be trained on."""
    queries = held_out(collection)
    if not collection.name.startswith("scifact"):
        return queries  # of NFCorpus nearly every passage is relevant for several topics
    aside = {query.qid for query in queries}
    judged = {
        qid: {docno for docno, grade in of.items() if grade > 0} for qid, of in collection.qrels.judgments.items()
    }
    known = {docno for qid, docnos in judged.items() if qid not in aside for docno in docnos}
    return [query for query in queries if not judged[query.qid] & known]


def topic_of(answer: Answer) -> Topic:
    """What the pipeline knew of the passages read."""
    read = [one for one in answer.passages if "relevance" in one.scores]
    read.sort(key=lambda one: (-one.scores["interpolate"], one.docno.encode()))
    signals = np.array([[one.scores[signal] for one in read] for signal in SIGNALS]).reshape(len(SIGNALS), -1)
    names = [one.docno for one in read]
    rest = [docno for docno in answer.ranking.docnos[:100] if docno not in set(names)]
    return Topic(answer.qid, names, signals, rest)


def tested(sets: Mapping[str, tuple[list[Topic], Qrels]], speed: Mapping[str, float], read: int) -> list[Row]:
    """A row a set, and one of the mean over sets, for a ranker that reads so many passages."""
    without = {name: ndcg(topics, qrels, read, None) for name, (topics, qrels) in sets.items()}
    each = {name: np.array([ndcg(topics, qrels, read, w) for w in GRID]) for name, (topics, qrels) in sets.items()}
    halves = {name: np.array([zlib.crc32(t.qid.encode()) % 2 for t in topics]) for name, (topics, _) in sets.items()}
    gains: dict[str, NDArray[np.float64]] = {name: np.zeros(len(base)) for name, base in without.items()}
    for half in (0, 1):
        best = chosen({name: each[name][:, halves[name] != half] for name in sets})
        for name in sets:
            own = halves[name] == half
            gains[name][own] = (each[name][best] - without[name])[own]
    rows: list[Row] = []
    for name, gain in gains.items():
        row = summary(gain, without[name]) | {"ms_passage": speed[name]}
        rows.append({"set": name, "read": read, "topics": len(gain)} | row)
    generator = np.random.default_rng(0)
    drawn = [gain[generator.integers(0, len(gain), (ROUNDS, len(gain)))].mean(axis=1) for gain in gains.values()]
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    difference = float(np.mean([gain.mean() for gain in gains.values()]))
    worse = [row["set"] for row in rows if row["hi"] < 0]
    base = float(np.mean([one.mean() for one in without.values()]))
    total = {"set": "mean", "read": read, "topics": sum(map(len, gains.values())), "without": base}
    total |= {"with": base + difference, "difference": difference, "lo": float(low), "hi": float(high)}
    total |= dict(zip(("sparse", "dense", "relevance"), GRID[chosen(each)], strict=True))
    total |= {"by_default": bool(low > 0 and difference >= LEAST and not worse)}
    return [*rows, total]


def summary(gain: NDArray[np.float64], without: NDArray[np.float64]) -> Row:
    """Mean difference, its interval and p."""
    interval = bootstrap_interval(gain)
    return {
        "without": float(without.mean()),
        "with": float((without + gain).mean()),
        "difference": float(gain.mean()),
        "lo": interval.low,
        "hi": interval.high,
        "p": randomisation(gain),
    }


def chosen(each: Mapping[str, NDArray[np.float64]]) -> int:
    """The place in `GRID` of the best weights: by the mean over sets of nDCG@10, of them and those next to them."""
    mean = np.mean([figures.mean(axis=1) for figures in each.values()], axis=0)
    near = [
        [i for i, b in enumerate(GRID) if max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 0.101] for a in GRID
    ]
    return int(np.argmax([mean[places].mean() for places in near]))


def ndcg(
    topics: Sequence[Topic], qrels: Qrels, read: int, weights: tuple[float, float, float] | None
) -> NDArray[np.float64]:
    """nDCG@10 of each topic, float64[n], with the ranker's mixture, or in the order of the interpolation."""
    rankings = {}
    for topic in topics:
        head, order = topic.docnos[:read], np.arange(min(read, len(topic.docnos)))
        if weights is not None and len(head):
            parts = zip(weights, topic.signals[[0, 1, 3]][:, : len(head)], strict=True)
            total = np.sum([w * normalise_scores(part, "z-score") for w, part in parts], axis=0)
            order = np.argsort(-total, kind="stable")
        docnos = itertools.chain((head[i] for i in order), topic.docnos[read:], topic.rest)
        rankings[topic.qid] = {docno: -float(rank) for rank, docno in enumerate(docnos)}
    return np.array(evaluate(rankings, qrels, "nDCG@10").values("nDCG@10"))
