"""Ground of the pruning experiments: collections ranked once in full, and measured with passages left out.

A pruned index is simulated by dropping its passages from the full ranking. Collection statistics (document frequencies,
mean length) then stay those of the full corpus, which is also how a pruned index should be weighted when the second
tier may be asked. `eval/quality_curves.py --check-rebuild` compares with an index that was rebuilt without them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse, stats

from thresher.encode.bm25 import Bm25Encoder
from thresher.evaluate.collections import load
from thresher.prune.policy import tie_keys
from thresher.quality.features import feature_columns
from thresher.quality.lexical import CollectionStatistics
from training.quality.coverage import DenseView, LogCoverage, SparseView

COLLECTIONS = ("trec-dl-2019", "nfcorpus", "scifact", "cranfield", "npl", "med")
EMBEDDINGS = {"trec-dl-2019": "msmarco-v1-mini", "trec-dl-2021": "msmarco-v2-mini", "trec-dl-2023": "msmarco-v2-mini"}
DEPTH = 1000


def work() -> Path:
    """Where intermediate results are kept between runs."""
    path = Path(os.environ.get("THRESHER_WORK", Path(tempfile.gettempdir()) / "thresher-eval"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass
class Bench:
    """A collection ready for pruning experiments; passages are row numbers in corpus order."""

    name: str
    docnos: list[str]
    texts: list[str]
    qids: list[str]
    queries: list[str]
    qrels: list[dict[int, int]]
    relevant: int
    keys: np.ndarray
    passages: sparse.csr_matrix
    queries: sparse.csr_matrix
    encoder: Bm25Encoder
    rankings: dict[str, list[np.ndarray]] = field(default_factory=dict)
    learned: tuple[sparse.csr_matrix, sparse.csr_matrix] | None = None

    @property
    def n(self) -> int:
        """Passages."""
        return len(self.texts)

    def vectors(self) -> np.ndarray:
        """float32[n, 384], the passages' MiniLM vectors, unit length; row i of the file is line i of its corpus."""
        data, base = Path(os.environ["THRESHER_DATA"]), self.name.split("/")[0]
        stored = np.load(data / "embeddings" / f"{EMBEDDINGS.get(base, base)}.npy").astype(np.float32)
        if len(stored) == self.n:
            return stored
        with gzip.open(data / "collections" / base / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            place = {str(json.loads(line)["docid"]): number for number, line in enumerate(lines)}
        return stored[[place[docno] for docno in self.docnos]]  # empty passages were left out of the corpus

    def query_vectors(self) -> np.ndarray:
        """float32[queries, 384]; encoded once and kept."""
        return query_vectors(self.queries)


def known(made: Bench) -> np.ndarray:
    """What is known of the passages without queries: lexical columns, and how easily their neighbours meet them.

    For the latter two thousand passages stand in for queries: their first fifteen words by BM25, and their vectors.
    """
    file = work() / f"known-{made.name}.npy"
    if not file.exists():
        chosen = np.random.default_rng(0).permutation(made.n)[:2000]
        opening = [" ".join(made.texts[i].split()[:15]) for i in chosen]
        vectors = made.vectors()
        encoder = made.encoder
        views = [
            SparseView(encoder.encode_passages(made.texts), encoder.encode_queries(opening), own=chosen),
            DenseView(vectors, vectors[chosen], own=chosen),
        ]
        lexical = feature_columns(made.texts, CollectionStatistics.of(made.texts))
        np.save(file, np.concatenate([lexical, LogCoverage(views, folds=1).columns()], axis=1))
    return np.load(file)


def csr(batch, width: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((batch.weights.astype(np.float64), batch.terms, batch.indptr), shape=(len(batch), width))


def query_vectors(queries: list[str]) -> np.ndarray:
    key = hashlib.sha256("\n".join(queries).encode()).hexdigest()[:16]
    file = work() / f"questions-{key}.npy"
    if not file.exists():
        from sentence_transformers import SentenceTransformer

        from thresher.models.files import embedded_path

        model = SentenceTransformer(str(embedded_path()), device="cpu", local_files_only=True)
        np.save(file, model.encode(queries, batch_size=64, normalize_embeddings=True, show_progress_bar=False))
    return np.load(file).astype(np.float32)


def bench(name: str, *, splits: tuple[str, ...] = ()) -> Bench:
    """The collection `name`, BM25-ranked; queries of other `splits` (train, dev) of it are added where they exist."""
    collections = [load(name), *(load(f"{name}/{split}") for split in splits)]
    passages = list(collections[0].corpus)
    docnos = [p.docno for p in passages]
    row = {docno: i for i, docno in enumerate(docnos)}
    texts = [p.contents for p in passages]
    qids, topics, qrels, seen = [], [], [], set()
    for collection in collections:
        for query in collection.queries:
            judged = collection.qrels.judgments.get(query.qid)
            if judged and query.qid not in seen:
                seen.add(query.qid)
                qids.append(query.qid)
                topics.append(query.text)
                qrels.append({row[d]: g for d, g in judged.items() if d in row})
    encoder = Bm25Encoder.fit(texts)
    width = len(encoder.vocabulary)
    made = Bench(
        name, docnos, texts, qids, topics, qrels, collections[0].relevant, tie_keys(docnos),
        csr(encoder.encode_passages(texts), width), csr(encoder.encode_queries(topics), width), encoder,
    )  # fmt: skip
    made.rankings["bm25"] = list(ranked(made.queries, made.passages))
    return made


def ranked(queries: sparse.csr_matrix, passages: sparse.csr_matrix):
    """Full rankings by dot product, passages without a shared term left out; ties in corpus order."""
    transposed = passages.T.tocsr()
    for i in range(queries.shape[0]):
        row = (queries[i] @ transposed).tocsr()
        order = np.lexsort((row.indices, -row.data))
        yield row.indices[order].astype(np.int32)


def add_interpolation(made: Bench, base: str = "bm25", weight: float = 0.5) -> None:
    """Rank what `base` retrieves by weight * score / best score + (1 - weight) * cosine."""
    vectors, topics = made.vectors(), made.query_vectors()
    out = []
    transposed = made.passages.T.tocsr()
    for i, ranking in enumerate(made.rankings[base]):
        scores = np.asarray((made.queries[i] @ transposed).todense()).ravel()[ranking]
        mixed = weight * scores / max(scores[0] if len(scores) else 1.0, 1e-9) + (1 - weight) * (
            vectors[ranking] @ topics[i]
        )
        out.append(ranking[np.argsort(-mixed, kind="stable")])
    made.rankings["interpolation"] = out


def mask(made: Bench, scores: np.ndarray, pruned: float) -> np.ndarray:
    """bool[n]: the passages kept when the lowest `pruned` share goes; ties by a hash of the docno."""
    kept = np.ones(made.n, bool)
    order = np.lexsort((made.keys, np.asarray(scores, np.float64)))
    kept[order[: round(pruned * made.n)]] = False
    return kept


DISCOUNT = np.append(1 / np.log2(np.arange(2, 12)), 0.0)
NEAR = 200
"""Ranks that are looked at for the measures of the first ten: with 70 % gone, sixty of them stay on average."""
FAR = 4000


class Sheet:
    """Rankings of one pipeline as tables, so that a pruning is measured by a few array operations."""

    def __init__(self, made: Bench, pipeline: str) -> None:
        rankings = made.rankings[pipeline]
        self.rows = np.full((len(rankings), FAR), -1, np.int32)
        self.gains = np.zeros((len(rankings), NEAR), np.float32)
        self.judged = np.zeros((len(rankings), NEAR), bool)
        self.wanted = np.zeros((len(rankings), FAR), bool)
        self.ideal = np.zeros(len(rankings))
        self.relevant = np.zeros(len(rankings))
        for i, (ranking, judged) in enumerate(zip(rankings, made.qrels, strict=True)):
            cut = ranking[:FAR]
            self.rows[i, : len(cut)] = cut
            grades = np.array([judged.get(row, -1) for row in cut.tolist()])
            near = grades[:NEAR]
            self.gains[i, : len(near)] = np.maximum(near, 0)
            self.judged[i, : len(near)] = near >= 0
            self.wanted[i, : len(cut)] = grades >= made.relevant
            best = np.sort([g for g in judged.values() if g > 0])[::-1][:10]
            self.ideal[i] = (best * DISCOUNT[: len(best)]).sum()
            self.relevant[i] = sum(g >= made.relevant for g in judged.values())

    def top(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Per query: nDCG@10, Judged@10, condensed nDCG@10."""
        rows = self.rows[:, :NEAR]
        here = kept[rows] & (rows >= 0)
        safe = np.where(self.ideal > 0, self.ideal, 1.0)
        place = np.minimum(np.cumsum(here, axis=1) - 1, 10)
        dcg = np.where(here, self.gains * DISCOUNT[place], 0).sum(axis=1)
        both = here & self.judged
        condensed = np.minimum(np.cumsum(both, axis=1) - 1, 10)
        return {
            "nDCG@10": dcg / safe,
            "Judged@10": (both & (place < 10)).sum(axis=1) / 10,
            "condensed_nDCG@10": np.where(both, self.gains * DISCOUNT[condensed], 0).sum(axis=1) / safe,
        }

    def recall(self, kept: np.ndarray) -> np.ndarray:
        """Per query: R@1000 (of rankings cut at FAR)."""
        here = kept[self.rows] & (self.rows >= 0)
        found = (here & self.wanted & (np.cumsum(here, axis=1) <= DEPTH)).sum(axis=1)
        return found / np.maximum(self.relevant, 1)

    def figures(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Per query: all of them."""
        return {**self.top(kept), "R@1000": self.recall(kept)}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % t interval over queries."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def relevant_lost(made: Bench, kept: np.ndarray) -> int:
    wanted = {row for judged in made.qrels for row, grade in judged.items() if grade >= made.relevant}
    return sum(not kept[row] for row in wanted)


def loss_row(full: dict[str, np.ndarray], pruned: dict[str, np.ndarray], random: np.ndarray | None) -> dict[str, float]:
    """Means with intervals: nDCG@10 of the pruned, its loss, and how its loss compares with random's, per query."""
    mean, low, high = interval(pruned["nDCG@10"])
    row = {
        "nDCG@10": mean,
        "R@1000": float(pruned["R@1000"].mean()),
        "lo": low,
        "hi": high,
        "Judged@10": float(pruned["Judged@10"].mean()),
        "condensed_nDCG@10": float(pruned["condensed_nDCG@10"].mean()),
        "loss": float((full["nDCG@10"] - pruned["nDCG@10"]).mean()),
        "condensed_loss": float((full["condensed_nDCG@10"] - pruned["condensed_nDCG@10"]).mean()),
    }
    if random is not None:
        better, low, high = interval(pruned["nDCG@10"] - random)
        row |= {"minus_random": better, "minus_random_lo": low, "minus_random_hi": high}
    return row


def save(file: Path, value) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
