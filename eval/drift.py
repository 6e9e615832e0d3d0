"""What a frozen average length costs BM25: half of each collection indexed, the rest added, against a fresh fit.

The IDF of an index counts what it holds, and only the average length stays as it was fitted on the first half. The half
that is indexed first is the first half in the order of the corpus, or the shorter half of the passages, which moves the
average as far as a half can. Writes eval/results/drift.json: nDCG@10 of an index of everything (`fresh`), of the index
that was added to (`added`), and of that after `merge --refit` (`refit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from eval.collections import MEASURED
from thresher.build.recipe import load_recipe
from thresher.build.stream import build_index
from thresher.evaluate import collections, evaluate, untied
from thresher.index.commit import read_commit
from thresher.ranking import Run
from thresher.search import Index

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.evaluate.collections import Collection

MEASURE = "nDCG@10"


def ndcg(path: Path, collection: Collection) -> float:
    """nDCG@10 of an index on the judged queries, equal scores by ascending docno."""
    with Index.open(path) as index:
        judged = [query for query in collection.queries if query.qid in collection.qrels.judgments]
        run = untied(Run({query.qid: index.search(query, 1000) for query in judged}))
    return float(evaluate(run, collection.qrels, MEASURE).mean[MEASURE])


def average(path: Path) -> float:
    """The average length that an index froze."""
    return float(read_commit(path).frozen["average_length"])


def measured(bench: Bench, name: str) -> list[Row]:
    """A row for each way to choose the half that is indexed first."""
    collection, recipe = collections.load(name), load_recipe("bm25")
    passages = list(collection.corpus)
    fresh = bench.work / f"drift-{name}-fresh"
    build_index(fresh, passages, recipe, overwrite=True)
    whole, half, rows = ndcg(fresh, collection), len(passages) // 2, []
    by_length = sorted(passages, key=lambda passage: (len(passage.contents), passage.docno))
    for label, order in (("first half", passages), ("shorter half", by_length)):
        target = bench.work / f"drift-{name}-{label.split()[0]}"
        build_index(target, order[:half], recipe, overwrite=True)
        frozen = average(target)
        with Index.open(target) as index, index.writer(merge=False) as writer:
            writer.add(order[half:])
        added = ndcg(target, collection)
        with Index.open(target) as index, index.writer() as writer:
            writer.merge(refit=True)
        rows.append(
            {
                "collection": name,
                "indexed_first": label,
                "measure": MEASURE,
                "fresh": whole,
                "added": added,
                "refit": ndcg(target, collection),
                "average_first": frozen,
                "average_all": average(fresh),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("drift", __doc__).parse_args(arguments))
    bench.write(
        "drift",
        [row for name in MEASURED for row in measured(bench, name)],
        title="BM25 with an average length that was fitted on half of the passages",
        note="`fresh`: everything indexed at once; `added`: half indexed, the rest added; `refit`: that, after "
        "`thresher merge --refit`.",
    )
