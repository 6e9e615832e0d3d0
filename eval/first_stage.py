"""First stages measured on one machine: BM25, thresher-mini, dense MiniLM, and both sparse ones with a forward index.

    THRESHER_DATA=... python -P eval/first_stage.py --work work

writes eval/results/first-stage.json, its table and its plot. Rows: a collection and a system with nDCG@10, AP, R@100,
R@1000 (AP and recall count grade 2 and above on TREC DL), bytes on disk, milliseconds a query (encoding, search for
1,000 passages, and look-ups; one thread), and passages encoded a second (measured on a sample). "with feedback" moves a
query's vector towards the best passages of a first interpolation (`thresher.vectors.interpolate`) and interpolates
again. Interpolation weights and what feedback reads are chosen here, on DL21 and the train splits, never on what is
measured: from rankings of 1,000 passages, of which for DL21 the unjudged ones are left out before the measure
(condensed lists), not before the interpolation. DL23 has 30 queries with a relevant passage here; they are reported
apart, from condensed lists too. Vectors of passages are read from THRESHER_DATA/embeddings where they are (the embedded
MiniLM's, float16), and encoded where they are not; thresher-mini reads the same pooled states. Finished collections are
kept in --work; a killed run goes on behind them.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher import artifact
from thresher.encode.bm25 import Bm25Encoder
from thresher.encode.dense import TransformerEncoder
from thresher.encode.expansion import ExpansionEncoder
from thresher.encode.shards import dense_shards
from thresher.evaluate.collections import Collection, data_dir, load
from thresher.evaluate.measures import evaluate
from thresher.evaluate.results import write_results
from thresher.evaluate.trec import read_run
from thresher.index import FORMAT, IndexBuilder
from thresher.ranking import Ranking, Run
from thresher.records import Qrels
from thresher.search import Index
from thresher.vectors.retrieve import DenseIndex
from thresher.vectors.store import VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thresher.records import Passage

MEASURED = ("trec-dl-2019", "scifact", "nfcorpus", "cranfield", "med", "npl")
FILES = {"trec-dl-2019": "msmarco-v1-mini", "trec-dl-2021": "msmarco-v2-mini", "trec-dl-2023": "msmarco-v2-mini"}
"""Collections by the passages they are searched in, where these have another name."""
ALPHAS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
WIDE = ("scifact", "nfcorpus", "cranfield", "med")
"""Collections on which 8-bit weights are compared with 16-bit ones."""
DEPTH, CHUNK = 1000, 1024
SPARSE = ("BM25", "thresher-mini")
FEEDBACK = ((2, 0.5), (2, 1.0), (3, 0.5), (3, 1.0), (5, 0.5))
"""Passages that feedback reads and the weight of their mean, to choose from."""
CHOOSING = ("trec-dl-2021", "scifact/train", "nfcorpus/train")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--work", type=Path, required=True, help="directory for indexes and finished collections")
    parser.add_argument("--out", type=Path, default=Path("eval/results/first-stage.json"))
    parser.add_argument("--sample", type=int, default=24, help="passages on which encoding is timed")
    parser.add_argument("--prepare", nargs="*", help="build the indexes of these collections, and measure nothing")
    options = parser.parse_args()
    bench = Bench(options.work, options.sample)
    if options.prepare:
        for name in options.prepare:
            bench.forward(load(name))
            for system in SPARSE:
                bench.index(load(name), system)
        return
    chosen = bench.kept("chosen", bench.choose)
    alphas = {system: chosen[system]["alpha"] for system in SPARSE}
    rows = [
        row for name in MEASURED for row in bench.kept(f"rows-{name}", lambda name=name: bench.measure(name, chosen))
    ]
    rows += bench.kept("reranked", lambda: bench.rerank_given(alphas["BM25"]))
    rows += means(rows)
    rows += bench.kept("dl23", lambda: bench.dl23(chosen))
    rows.append(
        {"collection": "trec-dl-2019", "system": "thresher-mini, encoding a question (processor time)"}
        | {"query_ms": bench.query_cost()}
    )
    rows += bench.kept("pruning", lambda: bench.early_stopping(alphas))
    for system, values in chosen.items():
        label = f"{system} + forward index, with feedback from {values['passages']} passages at {values['weight']:g}"
        rows.append(
            {"collection": "chosen on DL21 and train splits", "system": label, "alpha": values["alpha"]}
            | {"nDCG@10": values["nDCG@10"]}
        )
    write_results(
        options.out,
        rows,
        command="python -P eval/first_stage.py --work work",
        seed=0,
        plot=plot(rows),
        columns=[
            "collection",
            "system",
            "nDCG@10",
            "AP",
            "R@100",
            "R@1000",
            "bytes",
            "query_ms",
            "encode_passages_per_s",
            "alpha",
            "lookups",
            "candidates",
            "identical_top_10",
        ],
        packages=["torch", "transformers", "sentence-transformers", "faiss-cpu"],
        title="First stages",
        note=NOTE,
    )


NOTE = (
    "trec-dl-2019 is searched in msmarco-v1-mini: 43,521 passages, half of them judged, so its figures compare systems "
    "here and not with the full 8.8 million. SciFact and NFCorpus are in-domain for thresher-mini (their passages, "
    "titles and train questions were trained on), and so are the passages of msmarco-v1-mini, seen without judgments; "
    "Cranfield, MED and NPL were not seen. Interpolation: alpha * min-max(sparse) + (1 - alpha) * cosine over the "
    "sparse top 1,000. trec-dl-2023: the 30 questions with a relevant passage among those here, searched in "
    "msmarco-v2-mini, unjudged passages left out. Times were taken while the machine did other work: compare them "
    "within a collection only, and take those of encoding from encode-speed.md."
)


class Bench:
    """Indexes under a work directory, and what is measured on them."""

    def __init__(self, work: Path, sample: int) -> None:
        self.work, self.sample = work, sample
        work.mkdir(parents=True, exist_ok=True)
        self.dense = TransformerEncoder(device="cpu", batch_size=32)
        self.mini = ExpansionEncoder(device="cpu")

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returned in an earlier run with the same model, or now."""
        file = self.work / f"{name}-{self.mini.fingerprint[:12]}.json"
        if not file.is_file():
            file.write_text(json.dumps(make(), indent=1))
        print(f"{name} done", flush=True)
        return json.loads(file.read_text())

    # -- indexes

    def forward(self, collection: Collection) -> VectorStore:
        """The forward index of a collection, built if it is not there."""
        target = self.work / f"forward-{passages_of(collection)}"
        if not target.is_dir():
            docnos = [passage.docno for passage in collection.corpus]
            VectorStore.build(
                target, self._vectors(collection), docnos=docnos, sketch=48, encoder=self.dense.fingerprint
            )
        return VectorStore.open(target)

    def _vectors(self, collection: Collection) -> Iterator[np.ndarray]:
        known = self._known_vectors(collection)
        if known is None:
            work = self.work / f"shards-{collection.name}"
            yield from (vectors for _, vectors in dense_shards(self.dense, collection.corpus, work))
            return
        for done in range(0, size(collection), CHUNK):
            yield known[done : min(done + CHUNK, size(collection))]

    def _known_vectors(self, collection: Collection) -> np.ndarray | None:
        root = data_dir()
        file = None if root is None else root / "embeddings" / f"{passages_of(collection)}.npy"
        return np.load(file, mmap_mode="r") if file is not None and file.is_file() else None

    def index(self, collection: Collection, system: str, bits: int = 8) -> Path:
        """The sparse index of a collection, built if it is not there."""
        name = passages_of(collection)
        mark = "" if system == "BM25" else f"-{self.mini.fingerprint[:12]}"
        target = self.work / f"index-{name}-{system}-{bits}{mark}"
        if target.is_dir():
            return target
        encoder: Any = self.mini
        if system == "BM25":
            encoder = Bm25Encoder.fit(passage.contents for passage in collection.corpus)
        known, done = self._known_vectors(collection), 0
        with artifact.writing(target, kind="index", format=FORMAT) as draft:
            builder = IndexBuilder(draft.path, encoder.vocabulary, bits=bits)
            for passages in chunks(collection.corpus):
                texts = [passage.contents for passage in passages]
                if system == "BM25" or known is None:
                    batch = encoder.encode_passages(texts)
                else:
                    batch = encoder.encode_pooled(np.asarray(known[done : done + len(texts)]), texts)
                done += len(texts)
                builder.add(passages, batch)
            counts = builder.finish()
            encoder.save(draft.path / "encoder")
            draft.fields |= {"encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint}, "counts": counts}
        return target

    # -- measuring

    def measure(self, name: str, chosen: dict[str, dict[str, float]]) -> list[Row]:
        """All systems on one collection."""
        collection = load(name)
        queries = [query for query in collection.queries if query.qid in collection.qrels.judgments]
        sample = list(islice(collection.corpus, 0, None, max(1, size(collection) // self.sample)))[: self.sample]
        texts = [passage.contents for passage in sample]
        vectors, dense_ms = timed(lambda q: self.dense.encode_queries([q.text])[0], queries)
        forward = self.forward(collection)
        flat = DenseIndex.over(forward)
        dense, search_ms = timed(lambda v: flat.search(v[None], DEPTH)[0], vectors)
        rate = {"dense MiniLM": per_second(self.dense.encode_passages, texts)}
        rows = [
            self._row(collection, "dense MiniLM", dict(zip((q.qid for q in queries), dense, strict=True)))
            | {"bytes": forward.bytes, "query_ms": dense_ms + search_ms, "encode_passages_per_s": rate["dense MiniLM"]}
        ]
        for system in SPARSE:
            path = self.index(collection, system)
            if system == "BM25":
                encoder = Bm25Encoder.fit(texts)
                rate[system] = per_second(encoder.encode_passages, texts)
            else:
                rate[system] = per_second(self.mini.encode_passages, texts)
            found, sparse_ms = self._search(path, queries)
            at = {q.qid: ranking for q, ranking in zip(queries, found, strict=True)}
            stored = sum(int(e["bytes"]) for e in artifact.read_manifest(path).files.values())
            rows.append(
                self._row(collection, system, at)
                | {"bytes": stored, "query_ms": sparse_ms, "encode_passages_per_s": rate[system]}
            )
            pairs = list(zip(found, vectors, strict=True))
            for label, feedback in (
                (f"{system} + forward index", False),
                (f"{system} + forward index, with feedback", True),
            ):
                both, ms = timed(lambda pair: beside(forward, *pair, chosen[system], feedback), pairs)  # noqa: B023
                rows.append(
                    self._row(collection, label, {q.qid: r for q, r in zip(queries, both, strict=True)})
                    | {"bytes": stored + forward.bytes, "query_ms": sparse_ms + dense_ms + ms}
                    | {"alpha": chosen[system]["alpha"]}
                )
        if name not in WIDE:
            return rows
        path = self.index(collection, "thresher-mini", bits=16)
        found, _ = self._search(path, queries)
        wide = self._row(
            collection, "thresher-mini, 16-bit weights", {q.qid: r for q, r in zip(queries, found, strict=True)}
        )
        return [*rows, wide | {"bytes": sum(int(e["bytes"]) for e in artifact.read_manifest(path).files.values())}]

    def _search(self, path: Path, queries: Sequence[Any]) -> tuple[list[Ranking], float]:
        searcher = Index.open(path)
        searcher.search(queries[0].text, k=DEPTH)  # the first search compiles
        return timed(lambda q: rows_of(searcher.search(q.text, k=DEPTH)), queries)

    def _row(self, collection: Collection, system: str, rankings: dict[str, Ranking]) -> Row:
        level = f"(rel={collection.relevant})" if collection.relevant > 1 else ""
        names = {"nDCG@10": "nDCG@10", "AP": f"AP{level}", "R@100": f"R{level}@100", "R@1000": f"R{level}@1000"}
        found = evaluate(Run(rankings), collection.qrels, list(names.values())).mean
        return {"collection": collection.name, "system": system} | {k: found[v] for k, v in names.items()}

    def query_cost(self) -> float:
        """Milliseconds of processor time to encode a query of DL19: other load on the machine does not count."""
        texts = [query.text for query in load("trec-dl-2019").queries]
        lookup = self.mini.query_lookup
        for text in texts:
            lookup.encode_queries([text])
        started = time.process_time()
        for _ in range(20):
            for text in texts:
                lookup.encode_queries([text])
        return 1000 * (time.process_time() - started) / (20 * len(texts))

    def rerank_given(self, alpha: float) -> list[Row]:
        """The given BM25 top 100 of DL19, reranked by the forward index: the candidates of the published tables."""
        collection = load("trec-dl-2019")
        run = read_run(data_dir() / "runs/bm25.dl19.run.gz")
        forward = self.forward(collection)
        texts = {query.qid: query.text for query in collection.queries}
        qids = [qid for qid in run.rankings if qid in collection.qrels.judgments]
        vectors = dict(zip(qids, self.dense.encode_queries([texts[qid] for qid in qids]), strict=True))
        rows = []
        for label, weight in (("given BM25 top 100", 1.0), ("given BM25 top 100 + forward index", alpha)):
            found = {q: forward.interpolate(run.rankings[q], vectors[q], alpha=weight, k=100) for q in qids}
            rows.append(self._row(collection, label, found) | {"alpha": weight})
        return rows

    def early_stopping(self, alphas: dict[str, float]) -> list[Row]:
        """Look-ups for the top 10 of DL19 by each way of stopping, and whether the top 10 is the full one's."""
        collection = load("trec-dl-2019")
        queries = [query for query in collection.queries if query.qid in collection.qrels.judgments]
        forward = self.forward(collection)
        vectors = self.dense.encode_queries([query.text for query in queries])
        rows = []
        for system in SPARSE:
            found, _ = self._search(self.index(collection, system), queries)
            for alpha in (alphas[system], 0.5):
                full = [
                    forward.interpolate(r, v, alpha=alpha, stopping="none") for r, v in zip(found, vectors, strict=True)
                ]
                for stopping in ("sketch", "length", "seen"):
                    early = [
                        forward.interpolate(r, v, alpha=alpha, stopping=stopping)
                        for r, v in zip(found, vectors, strict=True)
                    ]
                    same = sum(a == b for a, b in zip(full, early, strict=True))
                    rows.append(
                        {
                            "collection": "trec-dl-2019",
                            "system": f"{system} + forward index, top 10, stopping by {stopping}",
                            "alpha": alpha,
                            "lookups": float(np.mean([e.lookups for e in early])),
                            "candidates": float(np.mean([e.candidates for e in early])),
                            "identical_top_10": f"{same} of {len(full)}",
                        }
                    )
        return rows

    # -- choosing

    def choose(self) -> dict[str, dict[str, float]]:
        """For each sparse system the alpha, and what feedback reads, with the best mean nDCG@10 over `CHOOSING`."""
        chosen = {}
        for system in SPARSE:
            sets = [self._choosing_set(name, system) for name in CHOOSING]
            by_alpha = [np.mean([self._figure(part, {"alpha": a}, feedback=False) for part in sets]) for a in ALPHAS]
            best: dict[str, float] = {"alpha": ALPHAS[int(np.argmax(by_alpha))]}
            tried = [best | {"passages": passages, "weight": weight} for passages, weight in FEEDBACK]
            figures = [np.mean([self._figure(part, values, feedback=True) for part in sets]) for values in tried]
            chosen[system] = tried[int(np.argmax(figures))] | {"nDCG@10": float(np.max(figures))}
        return chosen

    def _choosing_set(self, name: str, system: str) -> tuple[Any, ...]:
        """Queries, judgments, forward index, vectors of queries and sparse rankings."""
        collection = load(name)
        judgments = collection.qrels.judgments
        queries = [query for query in collection.queries if query.qid in judgments]
        if name.endswith("/train"):  # the third of the train queries that thresher-mini was not trained on
            queries = [query for query in queries if zlib.crc32(query.qid.encode()) % 3 == 0]
        qrels = Qrels({query.qid: judgments[query.qid] for query in queries})
        found, _ = self._search(self.index(collection, system), queries)
        vectors = self.dense.encode_queries([query.text for query in queries])
        return queries, qrels, self.forward(collection), vectors, found, not name.endswith("/train")

    def _figure(self, part: tuple[Any, ...], values: dict[str, float], *, feedback: bool) -> float:
        queries, qrels, forward, vectors, found, condensed = part
        rankings = {}
        for query, rows, vector in zip(queries, found, vectors, strict=True):
            ranking = beside(forward, rows, vector, values, feedback, stopping="none" if condensed else "exact",
                             k=DEPTH if condensed else 10)  # fmt: skip
            judged = qrels.judgments[query.qid]
            rankings[query.qid] = tuple(row for row in ranking if not condensed or row.docno in judged)
        return evaluate(Run(rankings), qrels, "nDCG@10").mean["nDCG@10"]

    def dl23(self, chosen: dict[str, dict[str, float]]) -> list[Row]:
        """The 30 queries of DL23 with a relevant passage here, condensed lists."""
        collection = load("trec-dl-2023")
        judgments = collection.qrels.judgments
        queries = [q for q in collection.queries if any(g > 0 for g in judgments.get(q.qid, {}).values())]
        qrels = Qrels({q.qid: judgments[q.qid] for q in queries})
        vectors = self.dense.encode_queries([query.text for query in queries])
        forward = self.forward(collection)
        flat = DenseIndex.over(forward)
        systems = {"dense MiniLM": [flat.search(vector[None], DEPTH)[0] for vector in vectors]}
        for system in SPARSE:
            path = self.index(collection, system)
            found, _ = self._search(path, queries)
            systems[system] = found
            for label, feedback in (("+ forward index", False), ("+ forward index, with feedback", True)):
                systems[f"{system} {label}"] = [
                    beside(forward, rows, vector, chosen[system], feedback)
                    for rows, vector in zip(found, vectors, strict=True)
                ]
        rows = []
        for system, rankings in systems.items():
            kept = {
                q.qid: tuple(row for row in ranking if row.docno in judgments[q.qid])
                for q, ranking in zip(queries, rankings, strict=True)
            }
            measured = evaluate(Run(kept), qrels, ["nDCG@10", "AP(rel=2)", "R(rel=2)@100", "R(rel=2)@1000"]).mean
            names = ("nDCG@10", "AP", "R@100", "R@1000")
            rows.append(
                {"collection": f"trec-dl-2023, {len(queries)} questions", "system": system}
                | dict(zip(names, measured.values(), strict=True))
            )
        return rows


def beside(
    forward: VectorStore,
    ranking: Ranking,
    vector: np.ndarray,
    values: dict[str, float],
    feedback: bool,
    stopping: str = "exact",
    k: int = DEPTH,
) -> Ranking:
    """A ranking interpolated with dense scores, the query's vector moved by feedback first where asked for."""
    moved = {"feedback": int(values["passages"]), "feedback_weight": values["weight"]} if feedback else {}
    return forward.interpolate(ranking, vector, alpha=values["alpha"], k=k, stopping=stopping, **moved)


def means(rows: Sequence[Row]) -> list[Row]:
    """Means over the five small collections and over all six."""
    out = []
    for label, names in (("mean of five (without trec-dl-2019)", MEASURED[1:]), ("mean of all", MEASURED)):
        for system in dict.fromkeys(row["system"] for row in rows):
            of_system = [r for r in rows if r["system"] == system and r["collection"] in names]
            if len(of_system) == len(names):
                keys = ("nDCG@10", "AP", "R@100", "R@1000")
                out.append(
                    {"collection": label, "system": system}
                    | {k: float(np.mean([r[k] for r in of_system])) for k in keys}
                )
    return out


def passages_of(collection: Collection) -> str:
    """The name of what a collection is searched in."""
    name = collection.name.split("/", maxsplit=1)[0]
    return FILES.get(name, name)


def chunks(corpus: Any) -> Iterator[list[Passage]]:
    source = iter(corpus)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def size(collection: Collection) -> int:
    return sum(1 for _ in collection.corpus)


def rows_of(result: Any) -> Ranking:
    return Ranking.from_pairs((docno, float(score)) for docno, score in zip(result.docnos, result.scores, strict=True))


def timed(call: Callable[[Any], Any], items: Sequence[Any]) -> tuple[list[Any], float]:
    """What `call` returns for each item, and its mean milliseconds."""
    call(items[0])
    started = time.perf_counter()
    found = [call(item) for item in items]
    return found, 1000 * (time.perf_counter() - started) / len(items)


def per_second(encode: Callable[[list[str]], Any], texts: list[str]) -> float:
    encode(texts[:4])
    started = time.perf_counter()
    encode(texts)
    return len(texts) / (time.perf_counter() - started)


def plot(rows: Sequence[Row]) -> Any:
    """nDCG@10 by collection and system."""
    import altair as alt

    shown = [r for r in rows if "nDCG@10" in r and "given" not in r["system"] and "16-bit" not in r["system"]]
    data = alt.Data(values=[{k: r[k] for k in ("collection", "system", "nDCG@10")} for r in shown])
    return (
        alt.Chart(data)
        .mark_point(filled=True, size=70)
        .encode(
            x=alt.X("nDCG@10:Q", scale=alt.Scale(zero=False)),
            y=alt.Y("collection:N", title=None, sort=[*MEASURED]),
            color="system:N",
            shape="system:N",
        )
        .properties(width=520, height=260)
    )


if __name__ == "__main__":
    main()
