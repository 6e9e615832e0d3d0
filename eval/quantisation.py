"""What storing weights in 8 or 16 bits costs: BM25 with quantised weights against unquantised ones.

    THRESHER_DATA=... python eval/quantisation.py

Writes eval/results/quantisation.json, .md and .svg. The figures describe; no default was chosen on them. Every passage
is scored, in float64, ties broken as the index breaks them; impacts are those an index stores (`encode/quantize.py`:
the largest weight of the collection is the largest impact), and an index ranks as scoring every passage does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
from scipy import sparse

from thresher.encode.bm25 import Bm25Encoder
from thresher.encode.impacts import fit_scale
from thresher.evaluate import evaluate, untied
from thresher.evaluate.collections import Collection, load
from thresher.evaluate.results import write_results
from thresher.ranking import Ranking, Run

if TYPE_CHECKING:
    from thresher.records import Query, SparseBatch

COLLECTIONS = ("trec-dl-2019", "scifact", "nfcorpus")
K = 1000
HERE = Path(__file__).parent

Rankings = dict[str, Ranking]


def matrices(collection: Collection, queries: list[Query], lengths: str) -> tuple[list[str], SparseBatch, Any]:
    """Docnos, the passages' weights, and the queries as a matrix over the same terms."""
    passages = list(collection.corpus)
    encoder = Bm25Encoder.fit((passage.contents for passage in passages), lengths=lengths)
    batch = encoder.encode_passages([passage.contents for passage in passages])
    asked = encoder.encode_queries([query.text for query in queries])
    width = len(encoder.vocabulary)
    return [p.docno for p in passages], batch, matrix(asked, asked.weights, width)


def matrix(batch: SparseBatch, weights: np.ndarray, width: int) -> Any:
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
        first, other = ({row.docno for row in ranking[:depth]} for ranking in (rows, b[qid]))
        if first:
            shares.append(len(first & other) / len(first))
    return float(np.mean(shares))


def main() -> None:
    """Measure and write."""
    rows: list[dict[str, Any]] = []
    for name in COLLECTIONS:
        collection = load(name)
        judged = collection.qrels.judgments
        queries = [query for query in collection.queries if query.qid in judged]
        measures = ["nDCG@10", f"AP(rel={collection.relevant})", f"R(rel={collection.relevant})@1000"]
        for lengths in ("exact", "lucene"):
            docnos, batch, asked = matrices(collection, queries, lengths)
            reference = ranked(docnos, matrix(batch, batch.weights, asked.shape[1]), asked, queries)
            base = evaluate(untied(Run(reference)), collection.qrels, measures)
            for bits in (32, 16, 8):
                rankings = reference
                if bits != 32:
                    impacts = fit_scale(float(batch.weights.max()), bits).quantize(batch.weights)
                    rankings = ranked(docnos, matrix(batch, impacts, asked.shape[1]), asked, queries)
                found = evaluate(untied(Run(rankings)), collection.qrels, measures)
                change = np.abs(found.values(measures[0]) - base.values(measures[0]))
                values = [float(found.values(measure).mean()) for measure in measures]
                rows.append(
                    {
                        "collection": name,
                        "lengths": lengths,
                        "weights": "float32" if bits == 32 else f"{bits} bit",
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
    write_results(
        HERE / "results" / "quantisation.json",
        rows,
        command="python eval/quantisation.py",
        plot=chart,
        packages=("scipy", "PyStemmer", "regex"),
        title="BM25 weights in 8 and 16 bits",
        note=(
            "AP and R@1000 count grades from 2 up as relevant on trec-dl-2019 (an excerpt of MS MARCO), from 1 up "
            "elsewhere. `lengths`: passage lengths exact, or rounded to one byte as Lucene stores them; with Lucene's, "
            "float32 weights give Anserini's published figures on the same passages (nDCG@10 .4643, .6789, .3218)."
        ),
    )


if __name__ == "__main__":
    main()
