"""Pruning experiments: collections ranked once in full, and measured with passages left out.

A pruned index is simulated by dropping its passages from the full ranking. Collection statistics (document frequencies,
mean length) then stay those of the full corpus, which is also how a pruned index should be weighted when the second
tier may be searched. `python -m eval quality-curves --check-rebuild` compares with an index rebuilt without them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse, stats

from eval.bench import key_of
from eval.collections import embeddings
from thresher.corpus.spool import docno_keys
from thresher.encode.bm25 import Bm25Encoder
from thresher.evaluate.collections import Collection, load
from thresher.quality.lexical import CollectionStatistics, feature_columns
from training.quality.coverage import DenseView, LogCoverage, SparseView, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from eval.bench import Bench, Row
    from thresher.records import SparseBatch

    Floats = NDArray[np.float64]
    Kept = NDArray[np.bool_]

DEPTH = 1000


@dataclass
class RankedCollection:
    """A collection ready for pruning experiments; passages are row numbers in corpus order.

    Attributes:
        collection: passages, and the judgments of the test split.
        docnos: n docnos.
        texts: n texts, titles included.
        qids: judged queries, of every split asked for.
        topics: their texts.
        qrels: for each query, row to grade.
        keys: uint64[n], which break ties between scores.
        passages: BM25 weights, float64[n, terms].
        queries: BM25 weights, float64[queries, terms].
        encoder: what made them.
        rankings: by pipeline, rows for each query, best first.
        learned: queries and passages of a learned encoder, where `rankings` has one.
    """

    collection: Collection
    docnos: list[str]
    texts: list[str]
    qids: list[str]
    topics: list[str]
    qrels: list[dict[int, int]]
    keys: NDArray[np.uint64]
    passages: sparse.csr_matrix
    queries: sparse.csr_matrix
    encoder: Bm25Encoder
    rankings: dict[str, list[NDArray[np.int32]]] = field(default_factory=dict)
    learned: tuple[sparse.csr_matrix, sparse.csr_matrix] | None = None

    @property
    def name(self) -> str:
        """The collection's."""
        return self.collection.name

    @property
    def relevant(self) -> int:
        """Lowest grade that counts as relevant in binary measures."""
        return self.collection.relevant

    @property
    def n(self) -> int:
        """Passages."""
        return len(self.texts)

    def vectors(self) -> NDArray[np.float32]:
        """float32[n, 384], the passages' MiniLM vectors, unit length."""
        return embeddings(self.collection)


def features(bench: Bench, name: str, texts: Sequence[str]) -> Floats:
    """float64[n, columns]: the lexical columns of a collection's passages."""
    return bench.kept_array(f"features-{name}", lambda: feature_columns(texts, CollectionStatistics.of(texts)))


def query_vectors(bench: Bench, topics: Sequence[str]) -> NDArray[np.float32]:
    """float32[queries, 384]; encoded once and kept."""

    def make() -> NDArray[np.float32]:
        from sentence_transformers import SentenceTransformer

        from thresher.models.files import embedded_path

        model = SentenceTransformer(str(embedded_path()), device="cpu", local_files_only=True)
        found: NDArray[np.float32] = model.encode(
            list(topics), batch_size=64, normalize_embeddings=True, show_progress_bar=False
        )
        return found

    return bench.kept_array(f"queries-{key_of(list(topics))}", make).astype(np.float32)


def known(bench: Bench, made: RankedCollection) -> Floats:
    """What is known of the passages without queries: lexical columns, and how easily their neighbours match them.

    For the latter two thousand passages stand in for queries: their first fifteen words by BM25, and their vectors.
    """

    def make() -> Floats:
        chosen = np.random.default_rng(0).permutation(made.n)[:2000]
        opening = [" ".join(made.texts[i].split()[:15]) for i in chosen]
        vectors = made.vectors()
        views: list[View] = [
            SparseView(made.encoder.encode_passages(made.texts), made.encoder.encode_queries(opening), own=chosen),
            DenseView(vectors, vectors[chosen], own=chosen),
        ]
        lexical = feature_columns(made.texts, CollectionStatistics.of(made.texts))
        return np.concatenate([lexical, LogCoverage(views, folds=1).columns()], axis=1)

    return bench.kept_array(f"known-{made.name}", make)


def csr(batch: SparseBatch, width: int) -> sparse.csr_matrix:
    """The batch as a matrix, float64[rows, width]."""
    return sparse.csr_matrix((batch.weights.astype(np.float64), batch.terms, batch.indptr), shape=(len(batch), width))


def rank_collection(name: str, *, splits: Sequence[str] = ()) -> RankedCollection:
    """The collection `name`, BM25-ranked; queries of other `splits` (train, dev) of it are added where they exist."""
    collections = [load(name), *(load(f"{name}/{split}") for split in splits)]
    passages = list(collections[0].corpus)
    docnos = [p.docno for p in passages]
    row = {docno: i for i, docno in enumerate(docnos)}
    texts = [p.contents for p in passages]
    topics: dict[str, str] = {}
    qrels: list[dict[int, int]] = []
    for collection in collections:
        for query in collection.queries:
            judged = collection.qrels.judgments.get(query.qid)
            if judged and query.qid not in topics:
                topics[query.qid] = query.text
                qrels.append({row[d]: g for d, g in judged.items() if d in row})
    encoder = Bm25Encoder.fit(texts)
    width = len(encoder.vocabulary)
    made = RankedCollection(
        collections[0], docnos, texts, list(topics), list(topics.values()), qrels, docno_keys(docnos),
        csr(encoder.encode_passages(texts), width), csr(encoder.encode_queries(list(topics.values())), width), encoder,
    )  # fmt: skip
    made.rankings["bm25"] = list(ranked(made.queries, made.passages))
    return made


def ranked(queries: sparse.csr_matrix, passages: sparse.csr_matrix) -> Iterator[NDArray[np.int32]]:
    """Full rankings by dot product, passages without a shared term left out; ties in corpus order."""
    transposed = passages.T.tocsr()
    for i in range(queries.shape[0]):
        row = (queries[i] @ transposed).tocsr()
        order = np.lexsort((row.indices, -row.data))
        yield row.indices[order].astype(np.int32)


def add_interpolation(bench: Bench, made: RankedCollection, base: str = "bm25", weight: float = 0.5) -> None:
    """Rank what `base` retrieves by weight * score / best score + (1 - weight) * cosine."""
    vectors, asked = made.vectors(), query_vectors(bench, made.topics)
    out = []
    transposed = made.passages.T.tocsr()
    for i, ranking in enumerate(made.rankings[base]):
        scores = np.asarray((made.queries[i] @ transposed).todense()).ravel()[ranking]
        mixed = weight * scores / max(scores[0] if len(scores) else 1.0, 1e-9) + (1 - weight) * (
            vectors[ranking] @ asked[i]
        )
        out.append(ranking[np.argsort(-mixed, kind="stable")])
    made.rankings["interpolation"] = out


def mask(made: RankedCollection, scores: NDArray[Any], pruned: float) -> Kept:
    """bool[n]: the passages kept when the lowest `pruned` share goes; ties by a hash of the docno."""
    kept = np.ones(made.n, bool)
    order = np.lexsort((made.keys, np.asarray(scores, np.float64)))
    kept[order[: round(pruned * made.n)]] = False
    return kept


DISCOUNT = np.append(1 / np.log2(np.arange(2, 12)), 0.0)
NEAR = 200
"""Ranks that the measures of the top ten look at: with 70 % pruned, sixty of them stay on average."""
FAR = 4000


class Sheet:
    """Rankings of one pipeline as tables, so that a pruning is measured by a few array operations."""

    def __init__(self, made: RankedCollection, pipeline: str) -> None:
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

    def top(self, kept: Kept) -> dict[str, Floats]:
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

    def recall(self, kept: Kept) -> Floats:
        """Per query: R@1000 (of rankings cut at FAR)."""
        here = kept[self.rows] & (self.rows >= 0)
        found = (here & self.wanted & (np.cumsum(here, axis=1) <= DEPTH)).sum(axis=1)
        return np.asarray(found / np.maximum(self.relevant, 1), np.float64)

    def figures(self, kept: Kept) -> dict[str, Floats]:
        """Per query: all of them."""
        return {**self.top(kept), "R@1000": self.recall(kept)}


def interval(values: Floats) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % t interval over queries."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def relevant_lost(made: RankedCollection, kept: Kept) -> int:
    """Relevant passages that are pruned."""
    wanted = {row for judged in made.qrels for row, grade in judged.items() if grade >= made.relevant}
    return sum(not kept[row] for row in wanted)


def loss_row(full: dict[str, Floats], pruned: dict[str, Floats], random: Floats | None) -> Row:
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
