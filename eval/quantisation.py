"""Effectiveness of BM25 weights stored in 8 and 16 bits, against float weights.

Writes eval/results/quantisation.json. No default was chosen on these figures. Every passage is scored in float64, ties
are broken as the index breaks them, and impacts are those that an index stores (`encode/terms.py`: the largest weight
of the collection is the largest impact).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import numpy as np
from scipy import sparse

from eval.bench import Bench, Row, options
from eval.collections import PUBLISHED, judged
from thresher.encode.bm25 import Bm25Encoder
from thresher.encode.terms import fit_scale
from thresher.evaluate import evaluate, untied
from thresher.evaluate.collections import Collection, load
from thresher.ranking import Ranking, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.encode.bm25 import Lengths
    from thresher.records import Query, SparseBatch

K = 1000

Rankings = dict[str, Ranking]


def matrices(collection: Collection, queries: list[Query], lengths: Lengths) -> tuple[list[str], SparseBatch, Any]:
    """Docnos, the passages' weights, and the queries as a matrix over the same terms."""
    passages = list(collection.corpus)
    encoder = Bm25Encoder.fit((passage.contents for passage in passages), lengths=lengths)
    batch = encoder.encode_passages([passage.contents for passage in passages])
    asked = encoder.encode_queries([query.text for query in queries])
    width = len(encoder.vocabulary)
    return [p.docno for p in passages], batch, matrix(asked, asked.weights, width)


def matrix(batch: SparseBatch, weights: NDArray[Any], width: int) -> Any:
    """The rows of `batch` with these weights, float64[n, width]."""
    parts = (weights.astype(np.float64), batch.terms.astype(np.int64), batch.indptr)
    return sparse.csr_matrix(parts, shape=(len(batch), width))


def ranked(docnos: list[str], passages: Any, asked: Any, queries: list[Query]) -> Rankings:
    """The K best of all passages for each query."""
    scores = (asked @ passages.T).tocsr()
    keys = np.array([docno.encode() for docno in docnos])
    rankings: Rankings = {}
    for number, query in enumerate(queries):
        row = scores.getrow(number)
        best = np.lexsort((keys[row.indices], -row.data))[:K]
        rankings[query.qid] = Ranking.from_pairs((docnos[row.indices[at]], float(row.data[at])) for at in best)
    return rankings


def overlap(a: Rankings, b: Rankings, depth: int) -> float:
    """Mean share of the first `depth` of `a` that are among those of `b`."""
    shares = []
    for qid, rows in a.items():
        first, other = (set(ranking.docnos[:depth]) for ranking in (rows, b[qid]))
        if first:
            shares.append(len(first & other) / len(first))
    return float(np.mean(shares))


def rows_of(collection: Collection, lengths: Lengths) -> list[Row]:
    """A row for each width of weights."""
    queries = judged(collection)
    measures = ["nDCG@10", f"AP(rel={collection.relevant})", f"R(rel={collection.relevant})@1000"]
    docnos, batch, asked = matrices(collection, queries, lengths)
    reference = ranked(docnos, matrix(batch, batch.weights, asked.shape[1]), asked, queries)
    base = evaluate(untied(Run(reference)), collection.qrels, measures)
    rows: list[Row] = []
    widths: tuple[Literal[8, 16] | None, ...] = (None, 16, 8)
    for bits in widths:
        rankings = reference
        if bits is not None:
            impacts = fit_scale(float(batch.weights.max()), bits).quantize(batch.weights)
            rankings = ranked(docnos, matrix(batch, impacts, asked.shape[1]), asked, queries)
        found = evaluate(untied(Run(rankings)), collection.qrels, measures)
        change = np.abs(found.values(measures[0]) - base.values(measures[0]))
        values = [float(found.values(measure).mean()) for measure in measures]
        rows.append(
            {
                "collection": collection.name,
                "lengths": lengths,
                "weights": "float32" if bits is None else f"{bits} bit",
                "nDCG@10": values[0],
                "AP": values[1],
                "R@1000": values[2],
                "change nDCG@10": values[0] - float(base.values(measures[0]).mean()),
                "largest change of a query": float(change.max()),
                "queries changed": int(np.count_nonzero(change > 1e-9)),
                "queries": len(queries),
                "top 10 kept": overlap(reference, rankings, 10),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("quantisation", __doc__).parse_args(arguments))
    widths: tuple[Lengths, ...] = ("exact", "lucene")
    rows = [row for name in PUBLISHED for lengths in widths for row in rows_of(load(name), lengths)]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("change nDCG@10:Q", title="change of mean nDCG@10 against float32 weights"),
            y=alt.Y("weights:N", title=None),
            color=alt.Color("collection:N"),
            shape=alt.Shape("lengths:N"),
        )
        .properties(width=420, height=120)
    )
    bench.write(
        "quantisation",
        rows,
        plot=chart,
        packages=("scipy", "PyStemmer", "regex"),
        title="BM25 weights in 8 and 16 bits",
        note=(
            "AP and R@1000 count grades from 2 up as relevant on trec-dl-2019 (an excerpt of MS MARCO), from 1 up "
            "elsewhere. `lengths`: passage lengths exact, or rounded to one byte as Lucene stores them; with Lucene's, "
            "float32 weights give Anserini's published figures on the same passages (nDCG@10 .4643, .6789, .3218)."
        ),
    )
