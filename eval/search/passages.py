"""The passages and queries behind the panel's real collections, weighted by a learned sparse encoder or by BM25.

Passages, in this order: MS MARCO v1 and v2 excerpts, seven small test collections, and of 2WikiMultiHop and WordNet's
glosses as many as `LIMITS` says. `thresher-mini` reads the embedded MiniLM's vector of a passage: it is taken from
THRESHER_DATA/embeddings where it is there, and computed once (`vectors`) where it is not, which takes an hour for the
rest of THRESHER_DATA/text on two cores and is why there are limits.

Queries: those of MS MARCO dev (small). 500 of them, drawn by `SEED`, are `seen`: the planner's cutoffs may be chosen
on them. The panel uses others (`held_out`), the same ones in every form: encoded by SPLADE++, SPLADE-v3 and uniCOIL
elsewhere, by the collection's own encoder, and as plain words.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.collections import SMALL
from eval.search.matrices import Matrix, Rows, from_pairs, to_impacts, whole_queries

if TYPE_CHECKING:
    from pathlib import Path


SOURCES = {
    "msmarco-v1-mini": "trec-dl/msmarco-v1-mini.jsonl.gz",
    "msmarco-v2-mini": "trec-dl/msmarco-v2-mini.jsonl.gz",
    **{name: f"collections/{name}/corpus.jsonl.gz" for name in SMALL},
    "2wiki": "text/2wiki-corpus.json.gz",
    "wordnet": "text/wordnet30-glosses.jsonl.gz",
}
LIMITS = {"2wiki": 1024, "wordnet": 2048}
SEED, SEEN, HELD_OUT = 20261124, 500, 400
STEP = 1024  # passages encoded at a time, and kept in one file
DEV = "encoded-queries/topics.msmarco-passage.dev-subset.{}.tsv.gz"
MODELS = {"splade": ("splade-pp-ed", 1), "splade-v3": ("splade-v3", 100), "unicoil": ("unicoil", 1)}
"""File of each encoder, and what its weights were multiplied with before they were written as whole numbers."""


def texts(data: Path) -> dict[str, list[str]]:
    """Title and text of every passage, by source."""
    found = {}
    for name, file in SOURCES.items():
        with gzip.open(data / file, "rt", encoding="utf-8") as stream:
            records = json.load(stream) if file.endswith(".json.gz") else map(json.loads, stream)
            found[name] = [f"{r['title']} {r['text']}" if r.get("title") else r["text"] for r in records]
            found[name] = found[name][: LIMITS.get(name)]
    return found


def real_learned(data: Path, encoder: str, name: str) -> Matrix:
    """Passages weighted by a learned sparse encoder over BERT's word pieces, queries by it and by others."""
    from thresher.encode import SparseEncoder

    model: Any = SparseEncoder.from_name(encoder)
    vocabulary = {term: i for i, term in enumerate(model.vocabulary)}
    sources = texts(data)
    parts = []
    for passages in sources.values():
        for first in range(0, len(passages), STEP):
            batch = model.encode_passages(passages[first : first + STEP])
            parts.append(Rows(batch.indptr, batch.terms, batch.weights))
    asked = {}
    queries = dev_queries(data)
    for group, qids in split(queries).items():
        batch = model.encode_queries([queries[qid] for qid in qids])
        asked[f"own{group}"] = Rows(batch.indptr, batch.terms, batch.weights)
        for key, (file, scale) in MODELS.items():
            asked[f"{key}{group}"] = read_encoded(data / DEV.format(file), vocabulary, qids, scale)
    about = {"encoder": model.name, "fingerprint": model.fingerprint, "passages": counted(sources)}
    return finished(name, len(vocabulary), stacked(parts), asked, about)


def real_lexical(data: Path) -> Matrix:
    """Collection `real-lexical`: BM25 impacts of thresher's English analyzer on the same passages, plain queries."""
    from thresher.encode.bm25 import Bm25Encoder

    sources = texts(data)
    everything = [text for part in sources.values() for text in part]
    encoder = Bm25Encoder.fit(everything)
    batch = encoder.encode_passages(everything)
    queries = dev_queries(data)
    asked = {}
    for group, qids in split(queries).items():
        found = encoder.encode_queries([queries[qid] for qid in qids])
        asked[f"words{group}"] = Rows(found.indptr, found.terms, found.weights)
    rows = Rows(batch.indptr, batch.terms, batch.weights)
    about = {"encoder": "BM25", "passages": counted(sources)}
    return finished("real-lexical", len(encoder.vocabulary), rows, asked, about)


def dev_queries(data: Path) -> dict[str, str]:
    """MS MARCO dev (small) queries by id, in the file's order."""
    lines = (data / "trec-dl/queries.msmarco-dev.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", maxsplit=1) for line in lines)


def split(queries: dict[str, str]) -> dict[str, list[str]]:
    """Ids of the queries to measure on (key "") and, disjoint from them, of those seen before (key " seen")."""
    qids = list(queries)
    order = np.random.default_rng(SEED).permutation(len(qids))
    chosen = {"": order[SEEN : SEEN + HELD_OUT], " seen": order[:SEEN]}
    return {group: [qids[i] for i in part] for group, part in chosen.items()}


def read_encoded(file: Path, vocabulary: dict[str, int], qids: list[str], scale: int) -> Rows:
    """Queries `qids` of a `qid<TAB>term term …` file, where a term is repeated weight * scale times."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        lines = dict(line.rstrip("\n").split("\t", maxsplit=1) for line in stream)
    rows, terms, weights = [], [], []
    for i, qid in enumerate(qids):
        for token, count in Counter(lines[qid].split()).items():
            if token in vocabulary:
                rows.append(i)
                terms.append(vocabulary[token])
                weights.append(count / scale)
    return from_pairs(np.array(rows), np.array(terms), np.array(weights, np.float32), len(qids))


def counted(sources: dict[str, list[str]]) -> dict[str, int]:
    """Passages by source."""
    return {name: len(part) for name, part in sources.items()}


def stacked(parts: list[Rows]) -> Rows:
    """Rows of all parts, one after another."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Rows(indptr, np.concatenate([p.terms for p in parts]), np.concatenate([p.weights for p in parts]))


def finished(name: str, terms: int, rows: Rows, queries: dict[str, Rows], about: dict[str, Any]) -> Matrix:
    """Rows quantised to whole impacts, queries rounded to whole weights beside their float form."""
    documents = to_impacts(rows, float(rows.weights.max()))
    both = {f"{key} float": value for key, value in queries.items()} | {
        key: whole_queries(value) for key, value in queries.items()
    }
    return Matrix(name, terms, documents, both, about)


def sample(matrix: Matrix, n: int, name: str) -> Matrix:
    """A seeded sample of n passages, in their order."""
    rows = np.sort(np.random.default_rng(SEED).permutation(len(matrix.documents))[:n])
    return Matrix(name, matrix.terms, matrix.documents.take(rows), matrix.queries, {**matrix.about, "sample": n})
