"""The collections that experiments measure on and choose on, and the files that go with them in THRESHER_DATA."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import DataNotFoundError
from thresher.evaluate.collections import DATA_VARIABLE, Collection, data_dir, locate
from thresher.evaluate.trec import read_queries, read_run
from thresher.records import Hit, Qrels, Query
from training.held_out import held_out as listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.ranking import Run

MEASURED = ("trec-dl-2019", "scifact", "nfcorpus", "cranfield", "med", "npl")
"""What figures are reported on."""
PUBLISHED = MEASURED[:3]
"""Those with BM25 figures of Anserini on the same passages."""
CHOOSING = ("trec-dl-2021", "scifact/train", "nfcorpus/train")
"""What parameters are chosen on."""
SMALL = ("scifact", "nfcorpus", "cranfield", "med", "npl", "time", "adi")
"""The small test collections, whose passages are in `collections/`."""


def data_file(*parts: str) -> Path:
    """A file of THRESHER_DATA.

    Raises:
        DataNotFoundError: the variable is not set, or the file is not there.
    """
    root = data_dir()
    if root is None:
        raise DataNotFoundError(f"{DATA_VARIABLE} is not set; set it to the folder that holds {'/'.join(parts)}")
    path = root.joinpath(*parts)
    if not path.exists():
        raise DataNotFoundError(f"{path} does not exist")
    return path


def passages_name(collection: str) -> str:
    """The name of the passages that a collection is searched in: `msmarco-v1-mini` for `trec-dl-2019`."""
    location = locate(collection)
    name = location.corpus.rpartition("/")[2].removesuffix(".jsonl.gz")
    return collection.partition("/")[0] if name == "corpus" else name


def embeddings(collection: Collection) -> NDArray[np.float32]:
    """float32[n, 384]: the embedded MiniLM's vectors of the passages, unit length, in the corpus's order.

    Row i of the file belongs to line i of the corpus file; passages that the corpus skips are left out.
    """
    stored: NDArray[np.float32] = np.load(data_file("embeddings", f"{passages_name(collection.name)}.npy")).astype(
        np.float32
    )
    docnos = [passage.docno for passage in collection.corpus]
    if len(docnos) == len(stored):
        return stored
    with gzip.open(data_file(*locate(collection.name).corpus.split("/")), "rt", encoding="utf-8") as lines:
        row = {str(json.loads(line)["docid"]): number for number, line in enumerate(lines)}
    return stored[[row[docno] for docno in docnos]]


def judged(collection: Collection) -> list[Query]:
    """The queries that have judgments, in file order."""
    return [query for query in collection.queries if query.qid in collection.qrels.judgments]


def held_out(collection: Collection) -> list[Query]:
    """Judged queries to choose on: those that no training saw (`training/held-out.json`)."""
    topics = listed(collection.name.removesuffix("/train"))
    return [query for query in judged(collection) if query.qid in topics]


def only(collection: Collection, queries: Sequence[Query]) -> Collection:
    """The collection with the judgments of these queries alone."""
    return replace(
        collection,
        queries=tuple(queries),
        qrels=Qrels({query.qid: collection.qrels.judgments[query.qid] for query in queries}),
    )


def given_run(name: str) -> Run:
    """A run of `runs/`, in trec_eval's order."""
    return read_run(data_file("runs", f"{name}.run.gz"))


def given_hits(collection: Collection, run_name: str, depth: int) -> dict[str, list[Hit]]:
    """The first `depth` passages of a given run with their texts, by qid; judged queries that it lacks have none."""
    run = given_run(run_name)
    wanted = {docno for ranking in run.values() for docno in ranking.docnos[:depth]}
    texts = {p.docno: p for p in collection.corpus if p.docno in wanted}
    found: dict[str, list[Hit]] = {qid: [] for qid in collection.qrels.judgments}
    for qid, ranking in run.items():
        here = [(docno, score) for docno, score in ranking.pairs()[:depth] if docno in texts]
        found[qid] = [
            Hit(docno, score, rank, texts[docno].text, texts[docno].title)
            for rank, (docno, score) in enumerate(here, start=1)
        ]
    return found


def dev_queries() -> list[Query]:
    """The queries of MS MARCO dev (small), in file order."""
    return list(read_queries(data_file("trec-dl", "queries.msmarco-dev.tsv")))


def unjudged_dev_queries(asked: Sequence[str]) -> list[str]:
    """Texts of the MS MARCO dev queries that are not among `asked`, whatever their case."""
    lowered = {text.lower() for text in asked}
    return [query.text for query in dev_queries() if query.text.lower() not in lowered]
