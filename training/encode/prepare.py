"""Pack what `training.encode.train` reads: text as word pieces, judgments, BM25 impacts and the teachers' weights.

    THRESHER_DATA=... python -m training.encode.prepare -o pack --splade DIRECTORY --mpnet DIRECTORY
    python -m training.encode.prepare -o pack --splade DIRECTORY --corpus FILE --queries FILE [--qrels FILE]

The second form packs data of your own and nothing else: passages, queries to learn from, and judgments where there are
some. A tenth of the judged queries, by a hash, is put aside to choose by.

Runs on a CPU and needs thresher; the training itself needs torch and numpy alone, so that it runs on a borrowed GPU.
Four files are written: `data.npz`, `splade.npz` (the weights that training starts from), `minilm.npz` and
`mpnet-N.npz` (teachers, with matrices as int8 by row; each file at most 44 MB).

No query that some figure is measured on is packed for training, up to case and punctuation: DL19, DL23, the test and
development queries of every collection, and the held-out topics (`training.held_out`), which are packed apart, to
choose by. Of the labelled question sets only the training part is read (`training.context.data`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thresher.corpus import open_corpus
from thresher.encode.bm25 import Bm25Encoder
from thresher.evaluate.collections import data_dir
from thresher.evaluate.trec import read_qrels, read_queries
from thresher.files import read_lines, read_text_lines
from thresher.models.files import embedded_path
from thresher.models.minilm import load_tokenizer
from training.held_out import held_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

POOL = {
    "v1": "trec-dl/msmarco-v1-mini",
    "v2": "trec-dl/msmarco-v2-mini",
    "scifact": "collections/scifact/corpus",
    "nfcorpus": "collections/nfcorpus/corpus",
}
SCOPES = {"ms": ("v1", "v2"), "v2": ("v2",)}
"""Where a query looks; any other scope is one collection of its own name."""
SHARES = {
    "dev": 0.34,
    "dl21": 0.03,
    "scifact": 0.08,
    "nfcorpus": 0.12,
    "qa": 0.15,
    "scifact-title": 0.03,
    "nfcorpus-title": 0.03,
    "wiki": 0.06,
    "reuters": 0.05,
    "wordnet": 0.05,
    "span": 0.06,
    "own": 0.7,
    "own-title": 0.15,
    "own-span": 0.15,
}
"""How often a kind of query is drawn in training."""
SPANS, HEADWORDS, NEWS, MAX_TOKENS = 4000, 12_000, 5000, 254
EIGHT_BITS = 44_000_000


class TrainingQuery(NamedTuple):
    """A query, the kind it is of, where it looks, and its judgments by docno; `held` if it is to choose by."""

    kind: str
    scope: str
    text: str
    judged: dict[str, int]
    held: bool = False


class Pool(NamedTuple):
    """Passages: texts by collection, and the row of each docno."""

    texts: list[str]
    starts: dict[str, tuple[int, int]]
    rows: dict[tuple[str, str], int]


def main() -> None:
    """Pack from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory of the packed files")
    parser.add_argument("--splade", type=Path, required=True, help="directory of the MLM model to start from")
    parser.add_argument("--mpnet", type=Path, help="directory of all-mpnet-base-v2, a teacher; none without")
    parser.add_argument("--corpus", help="passages of your own, in place of the research data")
    parser.add_argument("--queries", type=Path, help="queries over --corpus: qid, tab, text")
    parser.add_argument("--qrels", type=Path, help="judgments of --queries; none without")
    parser.add_argument("--part", type=float, default=1.0, help="share of passages and queries, to try things out")
    options = parser.parse_args()
    data, dice = data_dir(), random.Random(7)  # noqa: S311 - a sample, not a secret
    if options.corpus and not options.queries:
        parser.error("--corpus needs --queries")
    if data is None and not options.corpus:
        parser.error("set THRESHER_DATA to the folder of research data, or give --corpus and --queries")
    options.out.mkdir(parents=True, exist_ok=True)
    write_models(options.out, options.splade, options.mpnet)
    if data is not None and not options.corpus:
        pool, queries = gathered(data, dice, options.part)
        queries = allowed(data, queries)
    else:
        pool, queries = own(options.corpus, options.queries, options.qrels, dice)
    if options.part < 1:
        queries = [query for query in queries if dice.random() < options.part]
    arrays = packed(pool, queries) | teacher_weights(None if options.corpus else data, queries)
    np.savez_compressed(options.out / "data.npz", **arrays)  # type: ignore[arg-type]
    kinds = Counter(f"{query.kind}{' (held out)' if query.held else ''}" for query in queries)
    print(f"{len(pool.texts)} passages {pool.starts}\n{len(queries)} queries {dict(kinds)}")
    for file in sorted(options.out.glob("*.npz")):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


# what is packed ---------------------------------------------------------------------------------------------------


def gathered(data: Path, dice: random.Random, part: float) -> tuple[Pool, list[TrainingQuery]]:
    """All passages, and all queries before any is refused."""
    texts: list[str] = []
    starts: dict[str, tuple[int, int]] = {}
    rows: dict[tuple[str, str], int] = {}
    queries: list[TrainingQuery] = []

    def add(name: str, found: Iterable[tuple[str, str]]) -> None:
        first = len(texts)
        for docno, text in found:
            rows[name, docno] = len(texts)
            texts.append(text)
        starts[name] = (first, len(texts))

    for name, stem in POOL.items():
        corpus = jsonl(data / f"{stem}.jsonl.gz")
        if part < 1:
            corpus = dice.sample(corpus, round(part * len(corpus)))
        add(name, ((row["docid"], contents(row)) for row in corpus))
        if name in SCOPES["ms"]:
            queries += spans(dice.sample(corpus, min(SPANS, len(corpus))), dice)
        else:
            titled = [row for row in corpus if row.get("title")]
            queries += [TrainingQuery(f"{name}-title", name, row["title"], {row["docid"]: 1}) for row in titled]
    queries += judged_queries(data)
    for name, pairs in (
        ("qa", list(question_pairs())),
        ("wiki", titled_wiki(data)),
        ("reuters", headlines(data, dice)),
        ("wordnet", glosses(data, dice)),
    ):
        kept = pairs[: max(20, round(part * len(pairs)))]
        known: dict[str, str] = {}
        for _, text in kept:
            known.setdefault(text, str(len(known)))
        add(name, ((docno, text) for text, docno in known.items()))
        queries += [TrainingQuery(name, name, query, {known[text]: 1}) for query, text in kept]
    return Pool(texts, starts, rows), queries


def own(corpus: str, queries: Path, qrels: Path | None, dice: random.Random) -> tuple[Pool, list[TrainingQuery]]:
    """Passages and queries of your own; titles and fragments of passages are queries too."""
    passages = list(open_corpus(corpus))
    judgments = read_qrels(qrels).judgments if qrels is not None else {}
    found = [
        TrainingQuery("own", "own", query.text, dict(judged), bool(judged) and zlib.crc32(query.qid.encode()) % 10 == 0)
        for query in read_queries(queries)
        for judged in [judgments.get(query.qid, {})]
    ]
    held = {plain(query.text) for query in found if query.held}
    titles = [TrainingQuery("own-title", "own", p.title, {p.docno: 1}) for p in passages if p.title]
    cut = spans([{"text": p.text} for p in dice.sample(passages, min(SPANS, len(passages)))], dice)
    others = titles + [query._replace(kind="own-span", scope="own") for query in cut]
    found += [query for query in others if plain(query.text) not in held | {""}]
    rows = {("own", passage.docno): row for row, passage in enumerate(passages)}
    return Pool([passage.contents for passage in passages], {"own": (0, len(passages))}, rows), found


def judged_queries(data: Path) -> list[TrainingQuery]:
    """MS MARCO dev queries, and the judged topics of DL21, SciFact train and NFCorpus train."""
    dev = read_queries(data / "trec-dl/queries.msmarco-dev.tsv")
    found = [TrainingQuery("dev", "ms", query.text, {}) for query in dev]
    folder = data / "collections"
    for kind, listed, topics, judgments in (
        ("dl21", "trec-dl-2021", data / "trec-dl/queries.dl21.tsv", data / "trec-dl/qrels.dl21.covered.txt"),
        *((n, n, folder / n / "queries.train.tsv.gz", folder / n / "qrels.train.txt.gz") for n in list(POOL)[2:]),
    ):
        qrels, kept = read_qrels(judgments).judgments, held_out(listed)
        scope = "v2" if kind == "dl21" else kind
        found += [
            TrainingQuery(kind, scope, query.text, dict(qrels[query.qid]), query.qid in kept)
            for query in read_queries(topics)
            if query.qid in qrels
        ]
    return found


def question_pairs() -> Iterator[tuple[str, str]]:
    """Questions of QED, SQuAD 2.0 and COVID-QA with the passage that answers them; the training part alone."""
    from training.context.data import labelled_rows

    for row in labelled_rows():
        if row.part == "train" and row.answers and row.collection in ("qed", "squad2-half", "covid-qa"):
            yield row.query, row.passage


def titled_wiki(data: Path) -> list[tuple[str, str]]:
    """Titles of Wikipedia passages with the text."""
    lines = "".join(line for _, line in read_text_lines(data / "text/2wiki-corpus.json.gz"))
    return [(row["title"], row["text"]) for row in json.loads(lines)]


def headlines(data: Path, dice: random.Random) -> list[tuple[str, str]]:
    """Headlines of Reuters-21578 with the text that follows."""
    pairs = [row["text"].partition(". ")[::2] for row in jsonl(data / "text/reuters21578.jsonl.gz")]
    kept = [(head.lower(), body) for head, body in pairs if head.isupper() and len(body.split()) > 20]
    return dice.sample(kept, min(NEWS, len(kept)))


def glosses(data: Path, dice: random.Random) -> list[tuple[str, str]]:
    """Headwords of WordNet with the gloss."""
    rows = [row["text"].partition(": ")[::2] for row in jsonl(data / "text/wordnet30-glosses.jsonl.gz")]
    return dice.sample([(word, gloss) for word, gloss in rows if len(gloss.split()) >= 5], HEADWORDS)


def spans(rows: list[dict[str, str]], dice: random.Random) -> list[TrainingQuery]:
    """Three to nine words in a row of passages."""
    found = []
    for row in rows:
        words, size = row["text"].split(), dice.randint(3, 9)
        if len(words) > size:
            start = dice.randrange(len(words) - size)
            found.append(TrainingQuery("span", "ms", " ".join(words[start : start + size]), {}))
    return found


def allowed(data: Path, queries: list[TrainingQuery]) -> list[TrainingQuery]:
    """The queries without those that some figure is measured or chosen on."""
    folder = data / "collections"
    files = [data / "trec-dl" / f"queries.dl{year}.tsv" for year in (19, 23)]
    files += [path / "queries.tsv" for path in sorted(folder.iterdir())] + [folder / "nfcorpus/queries.dev.tsv.gz"]
    forbidden = {plain(query.text) for file in files for query in read_queries(file)} | {""}
    forbidden |= {plain(query.text) for query in queries if query.held}
    return [query for query in queries if query.held or plain(query.text) not in forbidden]


# arrays -----------------------------------------------------------------------------------------------------------


def packed(pool: Pool, queries: Sequence[TrainingQuery]) -> dict[str, NDArray[Any]]:
    """Word pieces, judgments, and BM25's impacts."""
    tokenizer = load_tokenizer(embedded_path(), max_tokens=MAX_TOKENS + 2)
    kinds = sorted({query.kind for query in queries})
    scopes = {
        name: (pool.starts[parts[0]][0], pool.starts[parts[-1]][1])
        for name, parts in SCOPES.items()
        if parts[0] in pool.starts
    } | {name: span for name, span in pool.starts.items() if name not in ("v1", "v2")}
    names = sorted(scopes)
    judged = []
    for i, query in enumerate(queries):
        for docno, grade in query.judged.items():
            row = pool.rows.get((query.scope, docno))
            if row is not None:
                judged.append((i, row, grade))
    arrays: dict[str, NDArray[Any]] = {
        "kinds": np.array(kinds),
        "shares": np.array([SHARES[kind] for kind in kinds]),
        "scopes": np.array([scopes[name] for name in names]),
        "scope_names": np.array(names),
        "query_kind": np.array([kinds.index(query.kind) for query in queries], np.uint8),
        "query_scope": np.array([names.index(query.scope) for query in queries], np.uint8),
        "query_held": np.array([query.held for query in queries]),
        "judged": np.array(judged, np.int32),
    }
    for name, texts in (("passage", pool.texts), ("query", [query.text for query in queries])):
        ids = [e.ids[1:-1] for e in tokenizer.encode_batch(list(texts))]
        arrays[f"{name}_pieces"] = np.array([i for row in ids for i in row], np.uint16)
        arrays[f"{name}_lengths"] = np.array([len(row) for row in ids], np.uint16)
    return arrays | bm25(pool, queries)


def bm25(pool: Pool, queries: Sequence[TrainingQuery]) -> dict[str, NDArray[Any]]:
    """BM25 of each scope: impacts of the terms that queries hold, and the queries' weights."""
    numbers: dict[str, int] = {}
    passages: list[list[tuple[int, float]]] = [[] for _ in pool.texts]
    asked: list[list[tuple[int, float]]] = [[] for _ in queries]
    scopes: dict[str, tuple[str, ...]] = {"ms": ("v1", "v2")} if "v1" in pool.starts else {}
    scopes |= {name: (name,) for name in pool.starts if name not in ("v1", "v2")}
    for name, parts in scopes.items():
        first, last = pool.starts[parts[0]][0], pool.starts[parts[-1]][1]
        encoder = Bm25Encoder.fit(pool.texts[first:last])
        mine = [i for i, query in enumerate(queries) if query.scope == name or (name == "ms" and query.scope == "v2")]
        words, batch = encoder.vocabulary, encoder.encode_queries([queries[i].text for i in mine])
        local: dict[int, int] = {}
        for place, i in enumerate(mine):
            span = slice(batch.indptr[place], batch.indptr[place + 1])
            for term, weight in zip(batch.terms[span].tolist(), batch.weights[span].tolist(), strict=True):
                local[term] = numbers.setdefault(words[term], len(numbers))
                asked[i].append((local[term], weight))
        held = encoder.encode_passages(pool.texts[first:last])
        for row in range(last - first):
            span = slice(held.indptr[row], held.indptr[row + 1])
            for term, weight in zip(held.terms[span].tolist(), held.weights[span].tolist(), strict=True):
                if term in local:
                    passages[first + row].append((local[term], weight))
    out: dict[str, NDArray[Any]] = {}
    for name, rows in (("passage", passages), ("query", asked)):
        out[f"bm25_{name}_counts"] = np.array([len(row) for row in rows], np.uint16)
        out[f"bm25_{name}_terms"] = np.array([term for row in rows for term, _ in row], np.uint16)
        weights = [weight for row in rows for _, weight in row]
        out[f"bm25_{name}_weights"] = (
            np.rint(np.array(weights) * 255).astype(np.uint8) if name == "passage" else np.array(weights, np.float16)
        )
    if len(numbers) > np.iinfo(np.uint16).max:
        raise SystemExit(f"{len(numbers)} terms in queries; uint16 numbers at most 65,535")
    return out


def teacher_weights(data: Path | None, queries: Sequence[TrainingQuery]) -> dict[str, NDArray[Any]]:
    """SPLADE-v3's weights of the MS MARCO dev queries, by word piece; without research data none."""
    numbers = load_tokenizer(embedded_path()).get_vocab()
    weights: dict[str, Counter[str]] = defaultdict(Counter)
    if data is not None:
        texts = {query.qid: query.text for query in read_queries(data / "trec-dl/queries.msmarco-dev.tsv")}
        for _, line in read_text_lines(data / "encoded-queries/topics.msmarco-passage.dev-subset.splade-v3.tsv.gz"):
            qid, _, words = line.partition("\t")
            weights[texts[qid]].update(words.split())
    rows = [weights[query.text] if query.kind == "dev" else Counter() for query in queries]
    kept = [[(numbers[word], count) for word, count in row.items() if word in numbers] for row in rows]
    return {
        "v3_counts": np.array([len(row) for row in kept], np.uint16),
        "v3_terms": np.array([term for row in kept for term, _ in row], np.uint16),
        "v3_weights": np.array([weight for row in kept for _, weight in row], np.uint16),
    }


# models -----------------------------------------------------------------------------------------------------------


def write_models(out: Path, splade: Path, mpnet: Path | None) -> None:
    """The model to start from in half precision, and the dense teachers in eight bits by row."""
    from safetensors.numpy import load_file

    tensors = load_file(splade / "model.safetensors")
    np.savez_compressed(out / "splade.npz", **{n: t.astype(np.float16) for n, t in tensors.items()})  # type: ignore[arg-type]
    for name, folder in (("minilm", embedded_path()), ("mpnet", mpnet)):
        if folder is None:
            continue
        parts: list[dict[str, NDArray[Any]]] = [{}]
        size = 0
        for key, tensor in load_file(folder / "model.safetensors").items():
            if "position_ids" in key or "pooler" in key:
                continue
            if size + tensor.size > EIGHT_BITS:
                parts.append({})
                size = 0
            size += tensor.size
            parts[-1] |= eight_bits(key, tensor.astype(np.float32))
        for i, part in enumerate(parts):
            np.savez_compressed(out / (f"{name}-{i + 1}.npz" if len(parts) > 1 else f"{name}.npz"), **part)  # type: ignore[arg-type]


def eight_bits(key: str, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """A matrix as int8 with a scale a row; anything else in half precision."""
    if tensor.ndim != 2 or tensor.shape[1] < 64:
        return {key: tensor.astype(np.float16)}
    scale = np.maximum(np.abs(tensor).max(1, keepdims=True), 1e-12) / 127
    return {key: np.rint(tensor / scale).astype(np.int8), f"{key}.scale": scale.astype(np.float32)}


def jsonl(file: Path) -> list[dict[str, str]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for _, line in read_lines(file)]


def contents(row: dict[str, str]) -> str:
    """Title and text of a passage."""
    return f"{row['title']} {row['text']}" if row.get("title") else row["text"]


def plain(text: str) -> str:
    """A text without case and punctuation."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


if __name__ == "__main__":
    main()
