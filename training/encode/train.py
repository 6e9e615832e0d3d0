"""Train thresher-mini: the head of an inference-free sparse encoder over the embedded MiniLM, from research data.

    THRESHER_DATA=... python -m training.encode.train --work work --out src/thresher/models/weights/thresher-mini

Queries: MS MARCO dev queries, the train queries of SciFact and NFCorpus (two thirds of them; the third whose qid
has a crc32 divisible by 3 is held out for choosing), their documents' titles, headwords of WordNet glosses, and
fragments of passages. Those that equal a measured query up to case and punctuation are dropped. Passages:
msmarco-v1-mini, msmarco-v2-mini, SciFact, NFCorpus, and the glosses of those headwords. Teacher: MiniLM's cosine, plus
`--bm25` times BM25 over its largest value for the query, plus `--label` for a judged relevant passage, plus, if
asked for, `--splade` times what the query's SPLADE-v3 weights give, over the largest.

Slow intermediate results (vectors of queries, glosses and word pieces; counted terms; candidate lists; the trained
head) are made once and kept in `--work`. An interrupted training resumes within its last hundred steps; the same data
and seed give the same head on the same machine. At the end the head is measured on DL21 condensed to judged passages
and on the held-out train queries, and the best of several factors of own terms' weights is kept. DL19 and test queries
are not read here. The card is written too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from scipy import sparse

from thresher.encode.expansion import ExpansionEncoder, tied_embeddings
from thresher.encode.lookup import Counted, WordPieceTerms, shared_forms
from thresher.evaluate.collections import data_dir
from thresher.evaluate.measures import evaluate
from thresher.evaluate.trec import read_qrels, read_queries
from thresher.files import read_text_lines
from thresher.models.minilm import MiniLM
from thresher.ranking import Ranking, Run
from thresher.records import Qrels, Query
from training.encode.card import card
from training.encode.data import (
    KINDS,
    POOL,
    Pool,
    TrainingQuery,
    cached,
    contents,
    count,
    held_out,
    jsonl,
    kept_back,
    passages,
    training_queries,
    vectors_of,
    wordnet,
)
from training.encode.fit import FitSettings, Questions, fit_head, piece_vectors, save_head

LENGTH, CANDIDATES, BUCKETS = 14, 96, 8192
DATA_SEED, CANDIDATE_SEED = 7, 3
ALPHAS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--work", type=Path, required=True, help="directory for what is slow to make")
    parser.add_argument("--out", type=Path, required=True, help="directory of the trained head")
    parser.add_argument("--steps", type=int, default=FitSettings().steps)
    parser.add_argument("--bm25", type=float, default=0.15, help="weight of BM25 in the teacher")
    parser.add_argument("--splade", type=float, default=0.25, help="weight of SPLADE-v3 queries in the teacher")
    parser.add_argument("--beside", type=float, default=FitSettings().beside, help="weight of the loss beside vectors")
    parser.add_argument("--label", type=float, default=0.15, help="weight of a judgment in the teacher")
    parser.add_argument("--regularisation", type=float, default=FitSettings().regularisation)
    parser.add_argument(
        "--own-scale", type=float, nargs="+", default=[2.0], help="factor of own terms' weights; of several, the best"
    )
    parser.add_argument("--seed", type=int, default=FitSettings().seed)
    parser.add_argument("--no-choose", action="store_true", help="train only: no figures and no card")
    options = parser.parse_args()
    data = data_dir()
    if data is None:
        parser.error("set THRESHER_DATA to the folder of research data")
    options.work.mkdir(parents=True, exist_ok=True)
    model = MiniLM()
    train(data, model, options)


def train(data: Path, model: MiniLM, options: argparse.Namespace) -> None:
    """Prepare the data, train, choose the factor of own terms, and write the head and its card."""
    settings = FitSettings(
        steps=options.steps, regularisation=options.regularisation, beside=options.beside, seed=options.seed
    )
    dice, rng = random.Random(DATA_SEED), np.random.default_rng(CANDIDATE_SEED)  # noqa: S311
    glosses = wordnet(data, dice)
    queries = training_queries(data, glosses, dice, rng)
    print(f"{len(queries)} queries", flush=True)
    asked = {query.qid for query in queries if query.kind == "wordnet"}
    glosses = [row for row in glosses if row[0] in asked]
    names = model.tokenizer.get_vocab()
    pieces = sorted(names, key=names.__getitem__)
    terms = WordPieceTerms(pieces, shared_forms(pieces), BUCKETS)
    pool = passages(data, glosses, model, terms, options.work)
    prepared = prepare(queries, pool, data, model, terms, rng, options)
    table = cached(options.work / "pieces.npz", lambda: {"vectors": piece_vectors(model)})["vectors"]
    teacher = {"bm25": options.bm25, "splade": options.splade, "label": options.label}
    settled = json.dumps([asdict(settings), teacher, BUCKETS, DATA_SEED, CANDIDATE_SEED])
    trained = options.work / f"trained-{hashlib.sha256(settled.encode()).hexdigest()[:16]}.safetensors"
    if not trained.is_file():
        tensors = fit_head(
            pool.vectors, pool.counted, prepared, tied_embeddings(model.body), table, settings, terms=terms,
            checkpoint=trained.with_suffix(".checkpoint"),
            watch=lambda step, kl, active: print(f"step {step}: divergence {kl:.4f}, {active:.0f} active", flush=True),
        )  # fmt: skip
        save_file(tensors, trained)
    tensors = load_file(trained)
    figures = {}
    for scale in [] if options.no_choose else options.own_scale:
        print(f"own terms weighed {scale:g} times", flush=True)
        save_head(options.out, tensors, settings, buckets=BUCKETS, own_scale=scale, teacher=teacher)
        figures[scale] = choose(options.out, data, model, options.work)
    best = max(figures, key=lambda scale: merit(figures[scale]), default=options.own_scale[0])
    save_head(options.out, tensors, settings, buckets=BUCKETS, own_scale=best, teacher=teacher)
    if not figures:
        return
    sizes = Counter(query.kind for query in queries)
    ends = [*pool.starts.values(), len(pool.docnos)]
    passages_of = {name: end - start for (name, start), end in zip(pool.starts.items(), ends[1:], strict=True)}
    config = json.loads((options.out / "config.json").read_bytes())
    (options.out / "README.md").write_text(card(sizes, passages_of, config, figures), encoding="utf-8")


def prepare(
    queries: list[TrainingQuery],
    pool: Pool,
    data: Path,
    model: MiniLM,
    known: WordPieceTerms,
    rng: np.random.Generator,
    options: argparse.Namespace,
) -> Questions:
    """Candidate lists (`candidates`; a headword's gloss among its), and the teacher's scores."""
    texts = [query.text for query in queries]
    vectors = vectors_of(texts, model, options.work).astype(np.float32)
    asked = count(texts, model, known)
    terms, counts = np.zeros((len(queries), LENGTH), np.int64), np.zeros((len(queries), LENGTH), np.float32)
    for i in range(len(queries)):
        row = slice(asked.indptr[i], min(asked.indptr[i + 1], asked.indptr[i] + LENGTH))
        terms[i, : row.stop - row.start], counts[i, : row.stop - row.start] = asked.terms[row], asked.counts[row]
    file = options.work / f"lists-{known.buckets}-{hashlib.sha256(vectors.tobytes()).hexdigest()[:16]}.npz"
    kept = cached(file, lambda: listed(queries, pool, vectors, asked, data, known, rng))
    rows, cosine, lexical, learned = kept["rows"], kept["cosine"], kept["bm25"], kept["splade"]
    place = {docno: pool.starts["wordnet"] + i for i, docno in enumerate(pool.docnos[pool.starts["wordnet"] :])}
    for i, query in enumerate(queries):
        if query.kind == "wordnet":
            rows[i, -1], lexical[i, -1] = place[query.qid], 0.0
            cosine[i, -1] = vectors[i] @ pool.vectors[place[query.qid]].astype(np.float32)
    labels = judged(queries, rows, pool, data)
    teacher = cosine + options.bm25 * lexical + options.splade * learned + options.label * labels
    frequencies = np.zeros((*rows.shape, LENGTH), np.float16)
    matrix = pool.matrix()
    for i in range(len(queries)):
        frequencies[i] = matrix[rows[i]][:, terms[i]].toarray() * (counts[i] > 0)
    weights = np.array([0.0 if kept_back(query) else KINDS[query.kind][1] for query in queries])
    return Questions(terms, counts, rows, frequencies, teacher.astype(np.float32), cosine, weights)


def listed(
    queries: list[TrainingQuery],
    pool: Pool,
    vectors: np.ndarray,
    asked: Counted,
    data: Path,
    known: WordPieceTerms,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Candidates of all queries with their cosine, BM25 and SPLADE scores, these two over a query's largest."""
    size = pool.starts["wordnet"]
    saturated, weighted = bm25(pool.matrix(size), pool.counted.lengths[:size])
    saturated, weighted = saturated.T.tocsr(), weighted.T.tocsr()
    everyone = pool.vectors[:size].astype(np.float32).T.copy()
    plain_rows = sparse.csr_matrix((asked.counts, asked.terms, asked.indptr), (len(queries), pool.width))
    learned_rows = splade_queries(queries, data, known)
    parts = []
    for low in range(0, len(queries), 256):
        part = slice(low, low + 256)
        scores = (plain_rows[part] @ weighted).tocsr(), (learned_rows[part] @ saturated).tocsr()
        parts.append(candidates(vectors[part] @ everyone, scores, rng))
        if low % 5120 == 0:
            print(f"candidates of {low} queries", flush=True)
    names = ("rows", "cosine", "bm25", "splade")
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def splade_queries(queries: list[TrainingQuery], data: Path, known: WordPieceTerms) -> sparse.csr_matrix:
    """MS MARCO dev queries as SPLADE-v3 weighs their terms; other queries have none."""
    ids = {piece: i for i, piece in enumerate(known.pieces)}
    weights: dict[str, Counter[int]] = {}
    file = data / "encoded-queries/topics.msmarco-passage.dev-subset.splade-v3.tsv.gz"
    for _, line in read_text_lines(file):
        qid, text = line.split("\t")
        row: Counter[int] = Counter()
        for piece, weight in Counter(text.split()).items():
            if piece in ids:
                term = int(known.shared[ids[piece]])
                row[term] = max(row[term], weight)
        weights[qid] = row
    rows = [weights.get(q.qid, Counter()) if q.kind == "dev" else Counter() for q in queries]
    data_, terms = [w for row in rows for w in row.values()], [t for row in rows for t in row]
    indptr = np.cumsum([0] + [len(row) for row in rows])
    return sparse.csr_matrix((np.array(data_, np.float32), terms, indptr), (len(rows), len(known.vocabulary)))


def bm25(counts: sparse.csr_matrix, lengths: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Saturated frequencies (k1 .9, b .4), and BM25; terms in a fifth of the passages are left out of the latter."""
    n = counts.shape[0]
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
    idf[frequency > 0.2 * n] = 0.0
    norm = np.repeat(0.9 * (0.6 + 0.4 * lengths / lengths.mean()), np.diff(counts.indptr))
    saturated, weighted = counts.copy(), counts.copy()
    saturated.data = (counts.data / (counts.data + norm)).astype(np.float32)
    weighted.data = (saturated.data * idf[counts.indices]).astype(np.float32)
    weighted.eliminate_zeros()
    return saturated, weighted


def candidates(
    cosines: np.ndarray, lexical: tuple[sparse.csr_matrix, ...], rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """For each query the dense top 36, 24 of the next 364, the top 14 of BM25 and of SPLADE, passages at random."""
    n, width = cosines.shape
    rows = np.zeros((n, CANDIDATES), np.int64)
    scores = np.zeros((1 + len(lexical), n, CANDIDATES), np.float32)
    for i in range(n):
        near = np.argpartition(-cosines[i], 400)[:400]
        near = near[np.argsort(-cosines[i][near], kind="stable")]
        found = [near[:36], rng.choice(near[36:], 24, replace=False)]
        spans = [slice(scored.indptr[i], scored.indptr[i + 1]) for scored in lexical]
        for scored, span in zip(lexical, spans, strict=True):
            found.append(scored.indices[span][np.argsort(-scored.data[span], kind="stable")[:14]])
        chosen = np.unique(np.concatenate(found))
        rows[i] = np.concatenate([chosen, rng.integers(0, width, CANDIDATES - len(chosen))])
        scores[0, i] = cosines[i][rows[i]]
        for part, (scored, span) in enumerate(zip(lexical, spans, strict=True), start=1):
            full = np.zeros(width, np.float32)
            full[scored.indices[span]] = scored.data[span]
            scores[part, i] = full[rows[i]] / max(full.max(), 1e-6)
    return rows, *scores


def judged(queries: list[TrainingQuery], rows: np.ndarray, pool: Pool, data: Path) -> np.ndarray:
    """1 where a candidate is judged relevant to a train query."""
    labels = np.zeros(rows.shape, np.float32)
    for name in ("scifact", "nfcorpus"):
        qrels = read_qrels(data / "collections" / name / "qrels.train.txt.gz").judgments
        size = len(jsonl(data / f"{POOL[name]}.jsonl.gz"))
        place = {pool.docnos[i]: i for i in range(pool.starts[name], pool.starts[name] + size)}
        for i, query in enumerate(queries):
            if query.kind == f"{name}-train":
                good = {place[d] for d, grade in qrels.get(query.qid, {}).items() if grade > 0 and d in place}
                labels[i] = [row in good for row in rows[i]]
    return labels


def choose(head: Path, data: Path, model: MiniLM, work: Path) -> dict[str, dict[str, float]]:
    """What models are chosen by: nDCG@10 alone, of dense vectors, and of both at each of `ALPHAS`."""
    encoder = ExpansionEncoder(head, device="cpu")
    found = {}
    for name in ("dl21", "scifact", "nfcorpus"):
        rows, vectors, queries, qrels = choosing_set(name, data)
        docnos = [row["docid"] for row in rows]
        batch = encoder.encode_pooled(vectors, [contents(row) for row in rows])
        width = len(encoder.vocabulary)
        matrix = sparse.csr_matrix((batch.weights, batch.terms, batch.indptr), (len(rows), width))
        asked = encoder.encode_queries([q.text for q in queries])
        asking = sparse.csr_matrix((asked.weights, asked.terms, asked.indptr), (len(queries), width))
        alone: np.ndarray = (asking @ matrix.T).toarray()
        dense = vectors_of([q.text for q in queries], model, work).astype(np.float32) @ vectors.astype(np.float32).T
        spread = (alone - alone.min(1, keepdims=True)) / np.maximum(np.ptp(alone, axis=1, keepdims=True), 1e-9)
        systems = {"alone": alone, "dense": dense}
        systems |= {f"beside {alpha}": alpha * spread + (1 - alpha) * dense for alpha in ALPHAS}
        measured = {
            label: mean_ndcg(part, docnos, queries, qrels, judged_only=name == "dl21")
            for label, part in systems.items()
        }
        found[name] = measured | {"terms": len(batch.terms) / len(rows)}
        print(name, {label: round(value, 4) for label, value in found[name].items()}, flush=True)
    return found


def merit(figures: dict[str, dict[str, float]]) -> float:
    """What the factor of own terms is chosen by: the mean of nDCG@10 alone and beside vectors at the best weight."""
    means = {key: float(np.mean([row[key] for row in figures.values()])) for key in next(iter(figures.values()))}
    return means["alone"] + max(value for key, value in means.items() if key.startswith("beside"))


def choosing_set(name: str, data: Path) -> tuple[list[dict[str, str]], np.ndarray, list[Query], Qrels]:
    """Passages, their vectors, queries and judgments: DL21's judged passages, or held-out train queries."""
    stem = "v2" if name == "dl21" else name
    rows = jsonl(data / f"{POOL[stem]}.jsonl.gz")
    vectors = np.load(data / "embeddings" / ("msmarco-v2-mini.npy" if stem == "v2" else f"{stem}.npy"))
    if name == "dl21":
        qrels = read_qrels(data / "trec-dl/qrels.dl21.covered.txt")
        queries = [q for q in read_queries(data / "trec-dl/queries.dl21.tsv") if q.qid in qrels.judgments]
        known = {docno for row in qrels.judgments.values() for docno in row}
        keep = [i for i, row in enumerate(rows) if row["docid"] in known]
        return [rows[i] for i in keep], vectors[keep], queries, qrels
    folder = data / "collections" / name
    queries = [q for q in read_queries(folder / "queries.train.tsv.gz") if held_out(q.qid)]
    everything = read_qrels(folder / "qrels.train.txt.gz").judgments
    return rows, vectors, queries, Qrels({q.qid: everything[q.qid] for q in queries if q.qid in everything})


def mean_ndcg(scores: np.ndarray, docnos: list[str], queries: list[Query], qrels: Qrels, *, judged_only: bool) -> float:
    """nDCG@10 of scores float[queries, passages], of judged passages alone where asked."""
    rankings = {}
    for q, scored in zip(queries, scores, strict=True):
        row = scored
        if judged_only:
            judged_here = qrels.judgments.get(q.qid, {})
            row = np.where([docno in judged_here for docno in docnos], scored, -np.inf)
        order = np.argsort(-row, kind="stable")[:10]
        rankings[q.qid] = Ranking.from_pairs((docnos[i], float(row[i])) for i in order)
    return float(evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"])


if __name__ == "__main__":
    main()
