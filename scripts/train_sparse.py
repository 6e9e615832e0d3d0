"""Train thresher-mini: the head of an inference-free sparse encoder over the embedded MiniLM, from research data.

    THRESHER_DATA=... python scripts/train_sparse.py --work work --out src/thresher/models/weights/thresher-mini

Questions: MS MARCO dev questions, the train questions of SciFact and NFCorpus (two thirds of them; the third whose qid
has a crc32 divisible by 3 is held out for choosing), their documents' titles, headwords of WordNet glosses, and
fragments of passages. One that equals a measured question up to case and punctuation is dropped. Passages:
msmarco-v1-mini, msmarco-v2-mini, SciFact, NFCorpus, and the glosses of those headwords. Teacher: MiniLM's cosine, plus
`--bm25` times BM25 over its largest value for the question, plus `--label` for a judged relevant passage.

What is slow (vectors of questions, glosses and word pieces; candidate lists) is kept in `--work` and made once. The
same data and seed give the same head on the same machine. Choosing figures (DL21 condensed to judged passages, and the
held-out train questions) are printed at the end; DL19 and test questions are not touched here.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from thresher.collection import data_dir
from thresher.encode.expansion import FIRST_TERM, ExpansionEncoder, tied_embeddings
from thresher.encode.fit import FitSettings, Questions, fit_head, piece_vectors, save_head
from thresher.evaluate.measures import evaluate
from thresher.evaluate.trec import read_qrels, read_queries
from thresher.models.embedded import MiniLM, load_minilm
from thresher.records import Qrels, Run, ScoredDoc

POOL = {
    "v1": "trec-dl/msmarco-v1-mini",
    "v2": "trec-dl/msmarco-v2-mini",
    "scifact": "collections/scifact/corpus",
    "nfcorpus": "collections/nfcorpus/corpus",
}
# how many questions of a kind, and how often one is drawn relative to others
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
SPANS, HEADWORDS, LENGTH, CANDIDATES = 7500, 15_000, 14, 96
DATA_SEED, CANDIDATE_SEED = 7, 3


@dataclass
class Question:
    """A training or choosing question and the kind it is of."""

    kind: str
    qid: str
    text: str


@dataclass
class Pool:
    """All passages: docnos, texts, where each collection starts, pooled vectors, word-piece counts."""

    docnos: list[str]
    starts: dict[str, int]
    vectors: np.ndarray
    counts: sparse.csr_matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--work", type=Path, required=True, help="directory for what is slow to make")
    parser.add_argument("--out", type=Path, required=True, help="directory of the trained head")
    parser.add_argument("--steps", type=int, default=FitSettings().steps)
    parser.add_argument("--bm25", type=float, default=0.25, help="weight of BM25 in the teacher")
    parser.add_argument("--label", type=float, default=0.15, help="weight of a judgment in the teacher")
    parser.add_argument("--regularisation", type=float, default=FitSettings().regularisation)
    parser.add_argument("--own-scale", type=float, default=2.0, help="factor of own pieces' weights after training")
    parser.add_argument("--seed", type=int, default=FitSettings().seed)
    parser.add_argument("--choose-only", action="store_true", help="print the choosing figures of the head in --out")
    options = parser.parse_args()
    data = data_dir()
    if data is None:
        parser.error("set THRESHER_DATA to the folder of research data")
    options.work.mkdir(parents=True, exist_ok=True)
    model = load_minilm()
    if not options.choose_only:
        settings = FitSettings(steps=options.steps, regularisation=options.regularisation, seed=options.seed)
        dice, rng = random.Random(DATA_SEED), np.random.default_rng(CANDIDATE_SEED)  # noqa: S311
        glosses = wordnet(data, dice)
        questions = training_questions(data, glosses, dice, rng)
        print(f"{len(questions)} questions", flush=True)
        asked = {question.qid for question in questions if question.kind == "wordnet"}
        glosses = [row for row in glosses if row[0] in asked]
        pool = passages(data, glosses, model, options.work)
        prepared = prepare(questions, pool, data, model, rng, options)
        table = cached(options.work / "pieces.npy", lambda: piece_vectors(model))
        held = pool.counts
        counts = held.indptr.astype(np.int64), held.indices.astype(np.int64), held.data.astype(np.float32)
        tensors = fit_head(
            pool.vectors, counts, prepared, tied_embeddings(model.module), table, settings,
            watch=lambda step, kl, active: print(f"step {step}: divergence {kl:.4f}, {active:.0f} active", flush=True),
        )  # fmt: skip
        teacher = {"bm25": options.bm25, "label": options.label}
        save_head(options.out, tensors, settings, own_scale=options.own_scale, teacher=teacher)
    choose(options.out, data, model, options.work)


# -- texts


def jsonl(file: Path) -> list[dict]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def contents(row: dict) -> str:
    return f"{row['title']} {row['text']}" if row.get("title") else row["text"]


def plain(text: str) -> str:
    """A text without case and punctuation."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def measured(data: Path) -> set[str]:
    """Every question that is measured on somewhere."""
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


def training_questions(
    data: Path, glosses: list[tuple[str, str, str]], dice: random.Random, rng: np.random.Generator
) -> list[Question]:
    found = [Question("dev", q.qid, q.text) for q in read_queries(data / "trec-dl/queries.msmarco-dev.tsv")]
    for name in ("scifact", "nfcorpus"):
        train = read_queries(data / "collections" / name / "queries.train.tsv.gz")
        found += [Question(f"{name}-train", q.qid, q.text) for q in train]
        corpus = jsonl(data / f"{POOL[name]}.jsonl.gz")
        found += [Question(f"{name}-title", row["docid"], row["title"]) for row in corpus if row.get("title")]
    found += [Question("wordnet", docid, word) for docid, word, _ in glosses]
    for name in ("v1", "v2"):
        for row in dice.sample(jsonl(data / f"{POOL[name]}.jsonl.gz"), SPANS):
            words, size = row["text"].split(), dice.randint(3, 9)
            if len(words) > size:
                start = dice.randrange(len(words) - size)
                found.append(Question(f"{name}-span", row["docid"], " ".join(words[start : start + size])))
    forbidden = measured(data) | {""}
    found = [question for question in found if plain(question.text) not in forbidden]
    chosen: list[Question] = []
    for kind, (most, _) in KINDS.items():
        of_kind = [question for question in found if question.kind == kind]
        if len(of_kind) > most:
            of_kind = [of_kind[i] for i in np.sort(rng.choice(len(of_kind), most, replace=False))]
        chosen += of_kind
    return chosen


def held_out(qid: str) -> bool:
    """Whether a train question is kept for choosing."""
    return zlib.crc32(qid.encode()) % 3 == 0


def kept_back(question: Question) -> bool:
    """Whether a question is never drawn in training."""
    return question.kind.endswith("-train") and held_out(question.qid)


# -- vectors


def cached(file: Path, make) -> np.ndarray:  # noqa: ANN001
    if not file.is_file():
        np.save(file.with_suffix(".partial.npy"), make(), allow_pickle=False)
        file.with_suffix(".partial.npy").rename(file)
    return np.load(file, allow_pickle=False)


def vectors_of(texts: list[str], model: MiniLM, work: Path) -> np.ndarray:
    """Pooled MiniLM vectors, float16[n, 384], made once for a list of texts."""
    key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

    def make() -> np.ndarray:
        print(f"encoding {len(texts)} texts", flush=True)
        pieces = model.pieces(texts)
        return model.pooled(pieces).cpu().numpy().astype(np.float16)

    return cached(work / f"vectors-{key}.npy", make)


def kept_counts(texts: list[str], model: MiniLM, work: Path) -> sparse.csr_matrix:
    """The word pieces of passages, counted once for a list of texts."""
    file = work / f"counts-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:16]}.npz"
    if not file.is_file():
        sparse.save_npz(file, count_pieces(texts, model))
    return sparse.load_npz(file)


def count_pieces(texts: list[str], model: MiniLM) -> sparse.csr_matrix:
    indptr, terms, counts = [0], [], []
    for low in range(0, len(texts), 2000):
        for ids in model.pieces(texts[low : low + 2000]):
            found, often = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
            terms.append(found)
            counts.append(often)
            indptr.append(indptr[-1] + len(found))
    width = model.module.config.vocab_size
    flat = np.concatenate(counts).astype(np.float32), np.concatenate(terms), np.array(indptr)
    return sparse.csr_matrix(flat, shape=(len(texts), width))


def passages(data: Path, glosses: list[tuple[str, str, str]], model: MiniLM, work: Path) -> Pool:
    docnos, starts, vectors, texts = [], {}, [], []
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
    return Pool(docnos, starts, np.concatenate(vectors), kept_counts(texts, model, work))


# -- candidates and teacher


def prepare(
    questions: list[Question],
    pool: Pool,
    data: Path,
    model: MiniLM,
    rng: np.random.Generator,
    options: argparse.Namespace,
) -> Questions:
    """Candidate lists: the dense top 36, 28 of the next 364, BM25's top 16, passages at random; a headword's gloss."""
    vectors = vectors_of([question.text for question in questions], model, options.work).astype(np.float32)
    asked = count_pieces([question.text for question in questions], model)
    terms, counts = np.zeros((len(questions), LENGTH), np.int64), np.zeros((len(questions), LENGTH), np.float32)
    for i in range(len(questions)):
        row = slice(asked.indptr[i], min(asked.indptr[i + 1], asked.indptr[i] + LENGTH))
        terms[i, : row.stop - row.start], counts[i, : row.stop - row.start] = asked.indices[row], asked.data[row]
    file = options.work / f"candidates-{hashlib.sha256(vectors.tobytes()).hexdigest()[:16]}.npz"
    if not file.is_file():
        size = pool.starts["wordnet"]
        weighted, everyone = bm25(pool.counts[:size]).T.tocsr(), pool.vectors[:size].astype(np.float32).T.copy()
        lists = [
            candidates(vectors[low : low + 256] @ everyone, (asked[low : low + 256] @ weighted).tocsr(), rng)
            for low in range(0, len(questions), 256)
        ]
        parts = [np.concatenate([part[i] for part in lists]) for i in range(3)]
        with file.open("wb") as stream:
            np.savez(stream, rows=parts[0], cosine=parts[1], bm25=parts[2])
    with np.load(file, allow_pickle=False) as kept:
        rows, cosine, lexical = kept["rows"], kept["cosine"], kept["bm25"]
    place = {docno: pool.starts["wordnet"] + i for i, docno in enumerate(pool.docnos[pool.starts["wordnet"] :])}
    for i, question in enumerate(questions):
        if question.kind == "wordnet":
            rows[i, -1], lexical[i, -1] = place[question.qid], 0.0
            cosine[i, -1] = vectors[i] @ pool.vectors[place[question.qid]].astype(np.float32)
    labels = judged(questions, rows, pool, data)
    teacher = cosine + options.bm25 * lexical + options.label * labels
    frequencies = np.zeros((*rows.shape, LENGTH), np.uint8)
    for i in range(len(questions)):
        held = pool.counts[rows[i]][:, terms[i]].toarray()
        frequencies[i] = np.minimum(held, 255) * (counts[i] > 0)
    weights = np.array([0.0 if kept_back(question) else KINDS[question.kind][1] for question in questions])
    return Questions(terms, counts, rows, frequencies, teacher.astype(np.float32), weights)


def bm25(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """BM25 over word pieces (k1 .9, b .4), pieces in a fifth of the passages left out."""
    n = counts.shape[0]
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    idf = np.log(1 + (n - frequency + 0.5) / (frequency + 0.5))
    idf[frequency > 0.2 * n] = 0.0
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    norm = np.repeat(0.9 * (0.6 + 0.4 * lengths / lengths.mean()), np.diff(counts.indptr))
    out = counts.copy()
    out.data = (counts.data / (counts.data + norm) * idf[counts.indices]).astype(np.float32)
    out.eliminate_zeros()
    return out


def candidates(cosines: np.ndarray, lexical: sparse.csr_matrix, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    n, width = cosines.shape
    rows = np.zeros((n, CANDIDATES), np.int64)
    scores = np.zeros((2, n, CANDIDATES), np.float32)
    for i in range(n):
        near = np.argpartition(-cosines[i], 400)[:400]
        near = near[np.argsort(-cosines[i][near], kind="stable")]
        row = slice(lexical.indptr[i], lexical.indptr[i + 1])
        named, values = lexical.indices[row], lexical.data[row]
        best = named[np.argsort(-values, kind="stable")[:16]]
        chosen = np.unique(np.concatenate([near[:36], rng.choice(near[36:], 28, replace=False), best]))
        rows[i] = np.concatenate([chosen, rng.integers(0, width, CANDIDATES - len(chosen))])
        full = np.zeros(width, np.float32)
        full[named] = values
        scores[0, i], scores[1, i] = cosines[i][rows[i]], full[rows[i]] / max(values.max(initial=0.0), 1e-6)
    return rows, scores[0], scores[1]


def judged(questions: list[Question], rows: np.ndarray, pool: Pool, data: Path) -> np.ndarray:
    """1 where a candidate is judged relevant to a train question."""
    labels = np.zeros(rows.shape, np.float32)
    for name in ("scifact", "nfcorpus"):
        qrels = read_qrels(data / "collections" / name / "qrels.train.txt.gz").judgments
        size = len(jsonl(data / f"{POOL[name]}.jsonl.gz"))
        place = {pool.docnos[i]: i for i in range(pool.starts[name], pool.starts[name] + size)}
        for i, question in enumerate(questions):
            if question.kind == f"{name}-train":
                good = {place[d] for d, grade in qrels.get(question.qid, {}).items() if grade > 0 and d in place}
                labels[i] = [row in good for row in rows[i]]
    return labels


# -- choosing


def choose(head: Path, data: Path, model: MiniLM, work: Path) -> None:
    """nDCG@10 of the head on what models are chosen by: alone, and interpolated with the dense vectors."""
    encoder = ExpansionEncoder(head)
    for name in ("dl21", "scifact", "nfcorpus"):
        stem = "v2" if name == "dl21" else name
        rows = jsonl(data / f"{POOL[stem]}.jsonl.gz")
        vectors = np.load(data / "embeddings" / ("msmarco-v2-mini.npy" if stem == "v2" else f"{stem}.npy"))
        if name == "dl21":
            qrels = read_qrels(data / "trec-dl/qrels.dl21.covered.txt")
            queries = [q for q in read_queries(data / "trec-dl/queries.dl21.tsv") if q.qid in qrels.judgments]
            known = {docno for row in qrels.judgments.values() for docno in row}
        else:
            folder = data / "collections" / name
            queries = [q for q in read_queries(folder / "queries.train.tsv.gz") if held_out(q.qid)]
            everything = read_qrels(folder / "qrels.train.txt.gz").judgments
            qrels = Qrels({q.qid: everything[q.qid] for q in queries if q.qid in everything})
            known = {row["docid"] for row in rows}
        keep = [i for i, row in enumerate(rows) if row["docid"] in known]
        docnos = [rows[i]["docid"] for i in keep]
        batch = encoder.encode_pooled(vectors[keep], [contents(rows[i]) for i in keep])
        matrix = sparse.csr_matrix((batch.weights, batch.terms, batch.indptr), (len(keep), len(encoder.vocabulary)))
        asked = encoder.encode_queries([q.text for q in queries])
        asked_rows = sparse.csr_matrix((asked.weights, asked.terms, asked.indptr), (len(queries), matrix.shape[1]))
        alone = (asked_rows @ matrix.T).toarray()
        query_vectors = vectors_of([q.text for q in queries], model, work).astype(np.float32)
        dense = query_vectors @ vectors[keep].astype(np.float32).T
        figures = {"alone": alone, "dense": dense}
        spread = (alone - alone.min(1, keepdims=True)) / np.maximum(np.ptp(alone, axis=1, keepdims=True), 1e-9)
        figures |= {f"alpha {alpha}": alpha * spread + (1 - alpha) * dense for alpha in (0.05, 0.1, 0.2, 0.35)}
        line = {}
        for label, scores in figures.items():
            depth = len(docnos) if name == "dl21" else 100
            rankings = {}
            for q, row in zip(queries, scores, strict=True):
                order = np.argsort(-row, kind="stable")[:depth]
                rankings[q.qid] = tuple(ScoredDoc(docnos[i], float(row[i])) for i in order)
            line[label] = round(evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"], 4)
        print(name, line, f"{len(batch.terms) / len(keep):.0f} terms a passage, from piece {FIRST_TERM}", flush=True)


if __name__ == "__main__":
    main()
