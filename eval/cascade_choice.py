"""What `eval/cascade.toml` and the defaults of `[ask]` should say, by figures on TREC DL 2021 and train splits only.

Prints, best first: first stage, alpha and feedback of the interpolation; the ranker's mixture; and the share of
characters that each preset drops.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, by_hash, options
from eval.cascade import Cascade
from eval.collections import CHOOSING, given_hits, held_out, only
from thresher.evaluate.collections import Collection, load
from thresher.evaluate.measures import evaluate
from thresher.ranking import Run, normalise_scores
from training.context.data import held_topics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.records import Hit, Qrels

FIRST = ("bm25", "thresher-mini")
SAMPLE = 50
"""Queries of a train split on which settings are chosen, of those thresher-mini was not trained on."""

Signals = dict[str, tuple[list[str], "NDArray[np.float64]"]]
"""By qid: docnos, and float64[3, n]: sparse score, dense score, relevance."""


def main(arguments: Sequence[str]) -> None:
    """Choose and print."""
    choose(Cascade(Bench.of(options("cascade-choice", __doc__).parse_args(arguments))))


def choose(cascade: Cascade) -> None:
    """Print the best settings: first stage, alpha and feedback of the interpolation, mixture of the ranker."""
    scores: dict[tuple[Any, ...], list[float]] = {}
    for name in CHOOSING:
        collection, given = choosing_part(name)
        queries, qrels = collection.queries, collection.qrels
        for first in FIRST if given is None else FIRST[:1]:
            for alpha, (count, weight) in itertools.product((0.1, 0.15, 0.2, 0.3), ((0, 0.0), (3, 0.6), (3, 1.0))):
                cascade.ask = cascade.ask.model_copy(
                    update={"alpha": alpha, "feedback": count, "feedback_weight": weight}
                )
                pipeline = cascade.pipeline(collection, (first, "interpolate"), 100)
                rankings = {
                    q.qid: pipeline.ask(q, candidates=None if given is None else given[q.qid]).ranking for q in queries
                }
                figure = evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"]
                for stage in FIRST if given is not None else (first,):
                    scores.setdefault((stage, alpha, count, weight), []).append(figure)
    for key, figures in sorted(scores.items(), key=lambda pair: -np.mean(pair[1])):
        print("first, alpha, feedback, weight", key, [round(f, 4) for f in figures], round(float(np.mean(figures)), 4))
    best = max(scores, key=lambda key: float(np.mean(scores[key])))
    cascade.ask = cascade.ask.model_copy(
        update=dict(zip(("alpha", "feedback", "feedback_weight"), best[1:], strict=True))
    )
    _choose_mixture(cascade, best[0])
    _choose_threshold(cascade, best[0])


def _choose_mixture(cascade: Cascade, first: str) -> None:
    tables = []
    for name in CHOOSING:
        collection, given = choosing_part(name)
        queries, qrels = collection.queries, collection.qrels
        read = 50 if given is not None else 20
        pipeline = cascade.pipeline(collection, (first, "interpolate", "rank"), read)
        signals: Signals = {}
        for query in queries:
            answer = pipeline.ask(query, read, candidates=None if given is None else given[query.qid])
            seen = [p for p in answer.passages if "relevance" in p.scores]
            table = np.array([[p.scores[s] for s in ("search", "dense", "relevance")] for p in seen]).T
            signals[query.qid] = ([p.docno for p in seen], table)
        tables.append((signals, qrels))
        print(f"{name}: read", flush=True)
    grid = [(a / 20, (20 - a - c) / 20, c / 20) for a in range(0, 9) for c in range(21 - a)]
    found = [(np.array([_mixed(signals, qrels, w) for signals, qrels in tables]), w) for w in grid]
    found.sort(key=lambda pair: -float(pair[0].mean()))
    for figures, weights in found[:12]:
        print("weights", weights, figures.round(4).tolist(), round(float(figures.mean()), 4))
    best = np.mean([weights for _, weights in found[: len(found) // 20]], axis=0)
    print("mean of the best twentieth", best.round(3).tolist())


def _choose_threshold(cascade: Cascade, first: str) -> None:
    """Share of characters that each preset drops, on topics of DL21."""
    collection, _ = choosing_part("trec-dl-2021")
    for preset in cascade.scorer.presets:
        cascade.ask = cascade.ask.model_copy(update={"threshold": preset})
        pipeline = cascade.pipeline(collection, ("quality", first, "interpolate", "rank", "context"), 20)
        handed = [one for query in collection.queries for one in pipeline.ask(query.text).passages]
        kept = sum(span.end - span.start for one in handed for span in one.spans)
        print(preset, "drops", round(1 - kept / sum(len(one.original) for one in handed), 3), flush=True)


def _mixed(signals: Signals, qrels: Qrels, weights: tuple[float, ...]) -> float:
    rankings = {}
    for qid, (docnos, table) in signals.items():
        total = sum(w * normalise_scores(row, "z-score") for w, row in zip(weights, table, strict=True))
        rankings[qid] = dict(zip(docnos, np.asarray(total).tolist(), strict=True))
    return evaluate(rankings, qrels, "nDCG@10").mean["nDCG@10"]


def choosing_part(name: str) -> tuple[Collection, Mapping[str, list[Hit]] | None]:
    """A collection with the queries to choose on, and the candidates that are given for it.

    The queries are those of DL21 that the ranker was not trained on, and a sample of each train split.
    """
    collection = load(name)
    if name == "trec-dl-2021":
        topics = held_topics()
        queries = [query for query in held_out(collection) if query.qid in topics]
        return only(collection, queries), given_hits(collection, "bm25.dl21", 100)
    return only(collection, by_hash(held_out(collection), lambda query: query.qid)[:SAMPLE]), None
