"""BM25 on six collections with impacts of 16 and of 8 bits, and Anserini's figures on the same passages.

Writes eval/results/bm25.json: one row a collection, width and measure. Equal scores are ordered by ascending docno, as
Anserini orders them, and lengths are rounded as Lucene rounds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eval.bench import Bench, Row, options
from eval.collections import MEASURED
from thresher.build.stream import build_index
from thresher.evaluate import collections, evaluate, untied
from thresher.experiment import load_experiment
from thresher.ranking import Run
from thresher.search import Index

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
WIDTHS: tuple[Literal[16, 8], ...] = (16, 8)


def measured(bench: Bench, name: str, bits: Literal[16, 8]) -> list[Row]:
    """One row a measure of the collection's experiment file."""
    experiment, recipe = load_experiment(HERE / f"{name}-bm25.toml")
    recipe = recipe.model_copy(update={"index": recipe.index.model_copy(update={"bits": bits})})
    collection = collections.load(name)
    target = bench.work / f"bm25-{name}-{bits}"
    counts = build_index(target, collection.corpus, recipe, overwrite=True).counts
    with Index.open(target) as index:
        judged = [query for query in collection.queries if query.qid in collection.qrels.judgments]
        run = untied(Run({query.qid: index.search(query, experiment.k) for query in judged}))
    found = evaluate(run, collection.qrels, " ".join(experiment.measures)).mean
    published = experiment.published
    return [
        {
            "collection": name,
            "bits": bits,
            "measure": measure,
            "measured": value,
            "published": published.get(measure),
            "difference": value - float(published[measure]) if measure in published else None,
            "passages": counts["passages"],
            "postings": counts["postings"],
        }
        for measure, value in found.items()
    ]


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("bm25", __doc__).parse_args(arguments))
    bench.write(
        "bm25",
        [row for name in MEASURED for bits in WIDTHS for row in measured(bench, name, bits)],
        title="BM25 and Anserini",
        note="`published`: Anserini 1.7.1, BM25 k1 .9, b .4, on the same passages. Equal scores are ordered by "
        "ascending docno, as there; lengths are rounded as Lucene rounds them.",
    )
