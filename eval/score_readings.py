"""What the embedded ranker says of judged lists: read once, for the calibration of its scores and its evaluation.

A list is the first passages of given runs (TREC Deep Learning), or of BM25 over the collection. Topics of a training
split are those that no training saw (`training/held-out.json`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eval.bench import by_hash
from eval.collections import CHOOSING, given_hits, held_out
from eval.collections import judged as judged_queries
from thresher.build.recipe import load_recipe
from thresher.evaluate.collections import load
from thresher.pipeline.text_ranker import Mixture, TextRanker
from thresher.rerank.calibration_fit import Judged
from thresher.rerank.cross_encoder import context_judge
from thresher.search import Index

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from eval.bench import Bench
    from thresher.evaluate.collections import Collection
    from thresher.records import Hit, Query

RUNS = {"trec-dl-2021": ("bm25.dl21", "splade-pp-ed.dl21"), "trec-dl-2019": ("bm25.dl19", "splade-pp-ed.dl19")}
"""Given runs, whose passages are read together."""
DEPTH, OWN_DEPTH, TOPICS = 100, 50, 40
"""Passages of a given run, passages of a search by BM25, and topics of a collection that is searched."""
SIGNALS = ("lexical", "cosine", "relevance")


class Reading(NamedTuple):
    """What is known of the passages of one collection's lists.

    Attributes:
        topics: qid of each passage.
        docnos: of each passage; of one topic in the order of the lists.
        grades: int64[n], -1 for passages that were not judged.
        signals: float64[n, 3]: BM25 as a share, cosine, and the output of the rank head.
    """

    topics: list[str]
    docnos: list[str]
    grades: NDArray[np.int64]
    signals: NDArray[np.float64]


def read(bench: Bench, name: str) -> Reading:
    """The passages of a collection's lists, read now or in an earlier run."""
    found = bench.kept(f"score-readings-{name.replace('/', '-')}-{context_judge().name}", lambda: _read(bench, name))
    topics, docnos = ([str(one) for one in found[name]] for name in ("topics", "docnos"))
    return Reading(topics, docnos, np.array(found["grades"], np.int64), np.array(found["signals"], np.float64))


def judged(reading: Reading, relevant: int, *, left_out: bool = False) -> Judged:
    """The pairs of a collection's lists, with the outputs of the rank head.

    Args:
        reading: the lists.
        relevant: the lowest grade that counts as relevant.
        left_out: leave out passages without a judgment; they are not relevant otherwise.
    """
    known = counted(reading, left_out=left_out)
    topics = tuple(qid for qid, one in zip(reading.topics, known.tolist(), strict=True) if one)
    ranks = np.ones(len(topics))  # not used: ratings are calibrated by their scores
    relevances = reading.grades[known] >= relevant
    return Judged(reading.signals[known, 2], ranks, relevances, topics, "left out" if left_out else "not relevant")


def counted(reading: Reading, *, left_out: bool) -> NDArray[np.bool_]:
    """Which passages of the lists count, bool[n]."""
    return reading.grades >= (0 if left_out else -1)


def _read(bench: Bench, name: str) -> Mapping[str, list[object]]:
    collection = load(name)
    queries = held_out(collection) if name in CHOOSING else judged_queries(collection)
    lists = _given(collection, queries) if name in RUNS else _searched(bench, collection, queries)
    judge, ranker = context_judge(), TextRanker()
    topics: list[object] = []
    docnos: list[object] = []
    grades: list[object] = []
    signals: list[object] = []
    for query, hits in lists:
        contents = [f"{hit.title} {hit.text}" if hit.title else hit.text for hit in hits]
        lexical = _alone(ranker, Mixture(1.0, 0.0, 0.0, 0.0), query, contents)
        cosine = _alone(ranker, Mixture(0.0, 1.0, 0.0, 0.0), query, contents)
        relevance = judge.relevance([(query.text, hit) for hit in hits])
        known = collection.qrels.judgments[query.qid]
        topics += [query.qid] * len(hits)
        docnos += [hit.docno for hit in hits]
        grades += [known.get(hit.docno, -1) for hit in hits]
        signals += [list(one) for one in zip(lexical, cosine, relevance, strict=True)]
    return {"topics": topics, "docnos": docnos, "grades": grades, "signals": signals}


def _alone(ranker: TextRanker, mixture: Mixture, query: Query, texts: Sequence[str]) -> list[float]:
    alone = ranker.with_model("thresher-rerank")
    alone.mixture = mixture
    return [one.raw for one in alone.read(query.text, texts)]


def _given(collection: Collection, queries: Sequence[Query]) -> list[tuple[Query, list[Hit]]]:
    """The passages of all given runs, each once, in the order of the runs."""
    runs = [given_hits(collection, run, DEPTH) for run in RUNS[collection.name]]
    return [(query, list({hit.docno: hit for run in runs for hit in run[query.qid]}.values())) for query in queries]


def _searched(bench: Bench, collection: Collection, queries: Sequence[Query]) -> list[tuple[Query, list[Hit]]]:
    """What BM25 finds for some topics, chosen by a hash."""
    with Index.open(bench.index(collection, load_recipe("bm25"))) as index:
        chosen = by_hash(queries, lambda query: query.qid)[:TOPICS]
        return [(query, list(index.search(query, OWN_DEPTH))) for query in chosen]
