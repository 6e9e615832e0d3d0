"""What storing weights in 8 or 16 bits costs: BM25 indexes of both widths against unquantised weights.

    THRESHER_DATA=... python eval/quantisation.py

Writes eval/results/quantisation.json, .md and .svg. The figures describe; no default was chosen on them. The scores of
unquantised weights are computed here by brute force in float64, ties broken like the index breaks them; those of the
quantised ones come from indexes that `thresher build` would write.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
from scipy import sparse

from thresher.build import build_index
from thresher.collection import Collection, load
from thresher.encode.bm25 import Bm25Encoder
from thresher.evaluate import evaluate, untied
from thresher.evaluate.results import write_results
from thresher.recipe import Recipe
from thresher.records import Query, Run, ScoredDoc
from thresher.search import Searcher

COLLECTIONS = ("trec-dl-2019", "scifact", "nfcorpus")
K = 1000
HERE = Path(__file__).parent

Rankings = dict[str, tuple[ScoredDoc, ...]]


def exact(collection: Collection, queries: list[Query], lengths: str) -> Rankings:
    """The ranking of unquantised weights, by brute force."""
    passages = list(collection.corpus)
    encoder = Bm25Encoder.fit((passage.contents for passage in passages), lengths=lengths)
    batches = encoder.encode_passages([p.contents for p in passages]), encoder.encode_queries([q.text for q in queries])
    rows, asked = (
        sparse.csr_matrix(
            (batch.weights.astype(np.float64), batch.terms.astype(np.int64), batch.indptr),
            shape=(len(batch), len(encoder.vocabulary)),
        )
        for batch in batches
    )
    scores = (asked @ rows.T).tocsr()
    keys = np.array([passage.docno.encode() for passage in passages])
    rankings: Rankings = {}
    for number, query in enumerate(queries):
        row = scores.getrow(number)
        best = np.lexsort((keys[row.indices], -row.data))[:K]
        rankings[query.qid] = tuple(ScoredDoc(passages[row.indices[at]].docno, float(row.data[at])) for at in best)
    return rankings


def quantised(collection: Collection, queries: list[Query], lengths: str, bits: int) -> tuple[Rankings, int]:
    """The ranking of an index with impacts of `bits` bits, and the bytes of its folder."""
    recipe = Recipe.model_validate({"encode": {"lengths": lengths}, "index": {"bits": bits}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        build_index(path, collection.corpus, recipe)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        results = Searcher.open(path).search_batch([query.text for query in queries], K)
        rankings = {
            query.qid: tuple(ScoredDoc(hit.docno, hit.score) for hit in result)
            for query, result in zip(queries, results, strict=True)
        }
    return rankings, size


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
            reference = exact(collection, queries, lengths)
            base = evaluate(untied(Run(reference)), collection.qrels, measures)
            for bits in (32, 16, 8):
                rankings, size = (reference, None) if bits == 32 else quantised(collection, queries, lengths, bits)
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
                        "index bytes": size,
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
