"""The queries and passages that `training.encode.train` trains on: which, from where, with their vectors and terms."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from thresher.encode.lookup import Counted, WordPieceTerms
from thresher.evaluate.trec import read_queries
from thresher.files import read_lines, write_atomic

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from thresher.models.minilm import MiniLM

POOL = {
    "v1": "trec-dl/msmarco-v1-mini",
    "v2": "trec-dl/msmarco-v2-mini",
    "scifact": "collections/scifact/corpus",
    "nfcorpus": "collections/nfcorpus/corpus",
}
# how many queries of a kind, and how often one is drawn relative to others
KINDS = {
    "dev": (10_000, 4.0),
    "scifact-train": (10_000, 3.0),
    "nfcorpus-train": (10_000, 3.0),
    "scifact-title": (2000, 1.0),
    "nfcorpus-title": (1500, 1.0),
    "wordnet": (3500, 1.0),
    "v1-span": (1500, 1.0),
    "v2-span": (1500, 1.0),
}
SPANS, HEADWORDS = 7500, 15_000


@dataclass
class TrainingQuery:
    """A training or choosing query and the kind it is of."""

    kind: str
    qid: str
    text: str


@dataclass
class Pool:
    """All passages: docnos, where each collection starts, pooled vectors, counted terms."""

    docnos: list[str]
    starts: dict[str, int]
    vectors: np.ndarray
    counted: Counted
    width: int

    def matrix(self, size: int | None = None) -> sparse.csr_matrix:
        """How often each term occurs in each of the first `size` passages."""
        held = self.counted
        rows = len(held.lengths)
        return sparse.csr_matrix((held.counts, held.terms, held.indptr), (rows, self.width))[:size]


def jsonl(file: Path) -> list[dict[str, str]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for _, line in read_lines(file)]


def contents(row: dict[str, str]) -> str:
    """Title and text of a passage."""
    return f"{row['title']} {row['text']}" if row.get("title") else row["text"]


def plain(text: str) -> str:
    """A text without case and punctuation."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def measured(data: Path) -> set[str]:
    """Every query that some figure is measured on."""
    files = [data / "trec-dl" / f"queries.dl{year}.tsv" for year in (19, 21, 23)]
    names = ("scifact", "nfcorpus", "cranfield", "med", "npl", "time", "adi")
    files += [data / "collections" / name / "queries.tsv" for name in names]
    files.append(data / "collections/nfcorpus/queries.dev.tsv.gz")
    return {plain(query.text) for file in files for query in read_queries(file)}


def wordnet(data: Path, dice: random.Random) -> list[tuple[str, str, str]]:
    """A sample of glosses: identifier, headword, gloss without it."""
    rows = [
        (row["docid"], *row["text"].partition(": ")[::2]) for row in jsonl(data / "text/wordnet30-glosses.jsonl.gz")
    ]
    return dice.sample([row for row in rows if len(row[2].split()) >= 5], HEADWORDS)


def training_queries(
    data: Path, glosses: list[tuple[str, str, str]], dice: random.Random, rng: np.random.Generator
) -> list[TrainingQuery]:
    """All queries, at most so many of a kind as `KINDS` says, without those that are measured on."""
    found = [TrainingQuery("dev", q.qid, q.text) for q in read_queries(data / "trec-dl/queries.msmarco-dev.tsv")]
    for name in ("scifact", "nfcorpus"):
        train = read_queries(data / "collections" / name / "queries.train.tsv.gz")
        found += [TrainingQuery(f"{name}-train", q.qid, q.text) for q in train]
        corpus = jsonl(data / f"{POOL[name]}.jsonl.gz")
        found += [TrainingQuery(f"{name}-title", row["docid"], row["title"]) for row in corpus if row.get("title")]
    found += [TrainingQuery("wordnet", docid, word) for docid, word, _ in glosses]
    for name in ("v1", "v2"):
        for row in dice.sample(jsonl(data / f"{POOL[name]}.jsonl.gz"), SPANS):
            words, size = row["text"].split(), dice.randint(3, 9)
            if len(words) > size:
                start = dice.randrange(len(words) - size)
                found.append(TrainingQuery(f"{name}-span", row["docid"], " ".join(words[start : start + size])))
    forbidden = measured(data) | {""}
    found = [query for query in found if plain(query.text) not in forbidden]
    chosen: list[TrainingQuery] = []
    for kind, (most, _) in KINDS.items():
        of_kind = [query for query in found if query.kind == kind]
        if len(of_kind) > most:
            of_kind = [of_kind[i] for i in np.sort(rng.choice(len(of_kind), most, replace=False))]
        chosen += of_kind
    return chosen


def held_out(qid: str) -> bool:
    """Whether a train query is kept out of training and used to choose."""
    return zlib.crc32(qid.encode()) % 3 == 0


def kept_back(query: TrainingQuery) -> bool:
    """Whether a query is never drawn in training."""
    return query.kind.endswith("-train") and held_out(query.qid)


def cached(file: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in `file`, which is made first where it is missing."""
    if not file.is_file():
        buffer = io.BytesIO()
        np.savez(buffer, **make())  # type: ignore[arg-type]  # its other keyword is a flag
        write_atomic(file, buffer.getvalue())
    with np.load(file, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def vectors_of(texts: list[str], model: MiniLM, work: Path) -> np.ndarray:
    """Pooled MiniLM vectors, float16[n, 384], made once for a list of texts."""
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

    def make() -> dict[str, np.ndarray]:
        print(f"encoding {len(texts)} texts", flush=True)
        return {"vectors": model.pooled(model.pieces(texts)).cpu().numpy().astype(np.float16)}

    return cached(work / f"vectors-{key}.npz", make)["vectors"]


def kept_counts(texts: list[str], model: MiniLM, terms: WordPieceTerms, work: Path) -> Counted:
    """The terms of passages, counted once for a list of texts."""
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    kept = cached(work / f"counted-{terms.buckets}-{key}.npz", lambda: asdict(count(texts, model, terms)))
    return Counted(**kept)


def count(texts: list[str], model: MiniLM, terms: WordPieceTerms) -> Counted:
    """The terms of texts."""
    parts = [terms.count_all(model.encodings(texts[low : low + 2000])) for low in range(0, len(texts), 2000)]
    ends = np.cumsum([0] + [part.indptr[-1] for part in parts])
    indptr = np.concatenate([[0], *(part.indptr[1:] + end for part, end in zip(parts, ends[:-1], strict=True))])
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("terms", "counts", "lengths")]
    return Counted(indptr, *joined)


def passages(data: Path, glosses: list[tuple[str, str, str]], model: MiniLM, terms: WordPieceTerms, work: Path) -> Pool:
    """All passages: those of `POOL`, then the glosses."""
    docnos: list[str] = []
    starts: dict[str, int] = {}
    vectors: list[np.ndarray] = []
    texts: list[str] = []
    for name, stem in POOL.items():
        rows = jsonl(data / f"{stem}.jsonl.gz")
        starts[name] = len(docnos)
        docnos += [row["docid"] for row in rows]
        texts += [contents(row) for row in rows]
        file = {"v1": "msmarco-v1-mini", "v2": "msmarco-v2-mini"}.get(name, name)
        vectors.append(np.load(data / "embeddings" / f"{file}.npy", allow_pickle=False))
    starts["wordnet"] = len(docnos)
    docnos += [docid for docid, _, _ in glosses]
    texts += [gloss for _, _, gloss in glosses]
    vectors.append(vectors_of([gloss for _, _, gloss in glosses], model, work))
    counted = kept_counts(texts, model, terms, work)
    return Pool(docnos, starts, np.concatenate(vectors), counted, len(terms.vocabulary))
