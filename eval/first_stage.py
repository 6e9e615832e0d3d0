"""First stages: BM25, thresher-mini, their sum, dense MiniLM, and the sparse ones interpolated with dense scores.

Writes eval/results/first-stage.json, its table and its plot. Rows: a collection and a system with nDCG@10, AP, R@100,
R@1000 (AP and recall count grade 2 and above on TREC DL), bytes on disk without texts, milliseconds a query (encoding,
search for 1,000 passages, and look-ups; one thread), and passages encoded a second (measured on a sample). "with
feedback" moves a query's vector towards the best passages of a first interpolation (`thresher.vectors.interpolate`) and
interpolates again. Interpolation weights and what feedback reads are chosen here, on the topics of DL21 and the train
splits that no training saw (`training/held-out.json`), never on what is measured: from rankings of 1,000 passages, of
which for DL21 the unjudged ones are left out before the measure (condensed lists), not before the interpolation. DL23
has 30 queries with a relevant passage here; they are reported apart, from condensed lists too.
Vectors of passages are read from THRESHER_DATA/embeddings (the embedded MiniLM's, float16). Finished
collections are kept in the work directory; an interrupted run resumes after them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from eval.bench import Bench, index_bytes, key_of, options
from eval.collections import CHOOSING, MEASURED, given_run, held_out, judged, only
from thresher.build.recipe import Recipe
from thresher.encode import SparseEncoder
from thresher.encode.bm25 import Bm25Encoder
from thresher.encode.dense import MiniLMEncoder
from thresher.encode.hybrid import HybridEncoder
from thresher.evaluate.collections import Collection, load
from thresher.evaluate.measures import evaluate
from thresher.ranking import Ranking, Run
from thresher.search import Index
from thresher.vectors.retrieve import DenseIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eval.bench import Row
    from thresher.records import Query
    from thresher.vectors.store import VectorStore

    Vector = NDArray[np.float32]

T = TypeVar("T")
R = TypeVar("R")

ALPHAS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
WIDE = ("scifact", "nfcorpus", "cranfield", "med")
"""Collections on which 8-bit weights are compared with 16-bit ones."""
DEPTH = 1000
SPARSE = {"BM25": "bm25", "thresher-mini": "thresher-mini", "BM25 + thresher-mini": "bm25+thresher-mini"}
"""Name in the tables, and in recipes."""
FEEDBACK = ((2, 0.5), (2, 1.0), (3, 0.5), (3, 1.0), (5, 0.5))
"""Passages that feedback reads and the weight of their mean, to choose from."""
COLUMNS = (
    "collection", "system", "nDCG@10", "AP", "R@100", "R@1000", "bytes", "query_ms", "encode_passages_per_s", "alpha",
    "lookups", "candidates", "identical_top_10",
)  # fmt: skip
NOTE = (
    "trec-dl-2019 is searched in msmarco-v1-mini: 43,521 passages, half of them judged, so its figures compare systems "
    "here and not with the full 8.8 million. What thresher-mini was trained on is in its card. Interpolation: alpha * "
    "min-max(sparse) + (1 - alpha) * cosine over the "
    "sparse top 1,000. trec-dl-2023: the 30 queries with a relevant passage among those here, searched in "
    "msmarco-v2-mini, unjudged passages left out. Times were taken while the machine did other work: compare them "
    "within a collection only, and take those of encoding from model-speed."
)


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("first-stage", __doc__)
    parser.add_argument("--sample", type=int, default=24, help="passages on which encoding is timed")
    given = parser.parse_args(arguments)
    stages = FirstStages(Bench.of(given), given.sample)
    kept = stages.kept
    chosen: Chosen = kept("chosen", stages.choose)
    alphas = {system: chosen[system]["alpha"] for system in SPARSE}
    rows: list[Row] = [row for name in MEASURED for row in kept(f"rows-{name}", partial(stages.measure, name, chosen))]
    rows += kept("reranked", lambda: stages.rerank_given(alphas["BM25"]))
    rows += means(rows)
    rows += kept("dl23", lambda: stages.dl23(chosen))
    rows.append(
        {"collection": "trec-dl-2019", "system": "thresher-mini, encoding a query (processor time)"}
        | {"query_ms": stages.query_cost()}
    )
    rows += kept("stopping", lambda: stages.early_stopping(alphas))
    for system, values in chosen.items():
        label = f"{system} + vectors, with feedback from {values['passages']} passages at {values['weight']:g}"
        rows.append(
            {"collection": "chosen on DL21 and train splits", "system": label, "alpha": values["alpha"]}
            | {"nDCG@10": values["nDCG@10"]}
        )
    stages.bench.write(
        "first-stage",
        rows,
        seed=0,
        plot=plot(rows),
        columns=COLUMNS,
        packages=["torch", "faiss-cpu"],
        title="First stages",
        note=NOTE,
    )


Chosen = dict[str, dict[str, float]]
"""By sparse system: `alpha`, and the `passages` and `weight` of feedback."""


@dataclass(frozen=True, slots=True)
class ChoosingSet:
    """What parameters are chosen on.

    Attributes:
        collection: with the judgments of `queries` only.
        queries: their texts and qids.
        vectors: of the queries.
        found: sparse rankings of the queries.
        store: vectors of the passages.
        condensed: leave unjudged passages out before the measure.
    """

    collection: Collection
    queries: Sequence[Query]
    vectors: Sequence[Vector]
    found: Sequence[Ranking]
    store: VectorStore
    condensed: bool

    def figure(self, values: dict[str, float], *, feedback: bool) -> float:
        """nDCG@10 of the interpolation."""
        rankings = {}
        for query, ranking, vector in zip(self.queries, self.found, self.vectors, strict=True):
            stopping, k = ("none", DEPTH) if self.condensed else ("exact", 10)
            mixed = with_vectors(self.store, ranking, vector, values, feedback=feedback, stopping=stopping, k=k)
            rankings[query.qid] = condensed(self.collection, query, mixed) if self.condensed else mixed
        return evaluate(Run(rankings), self.collection.qrels, "nDCG@10").mean["nDCG@10"]


class FirstStages:
    """Indexes of a bench, and what is measured on them.

    Args:
        bench: the work directory.
        sample: passages on which encoding is timed.
    """

    def __init__(self, bench: Bench, sample: int) -> None:
        self.bench, self.sample = bench, sample
        self.dense = MiniLMEncoder(storage="float32")
        self.mini = SparseEncoder.from_name("thresher-mini", device="cpu")

    def kept(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returned in an earlier run with the same model, or now."""
        models = key_of(self.mini.fingerprint, self.dense.fingerprint)
        return self.bench.kept(f"first-stage-{name}-{models}", make)

    def index(self, collection: Collection, system: str, bits: int | str = "auto") -> Path:
        """The index of a collection by a sparse encoder."""
        keys = {"encode": {"encoder": SPARSE[system]}, "index": {"bits": bits}}
        return self.bench.index(collection, Recipe.model_validate(keys))

    def store(self, collection: Collection) -> VectorStore:
        """The vectors of a collection's passages."""
        return self.bench.vectors(collection, self.dense)

    def search(self, path: Path, queries: Sequence[Query]) -> tuple[list[Ranking], float]:
        """Rankings of the queries, and mean milliseconds of one."""
        index = Index.open(path)

        def ask(query: Query) -> Ranking:
            found = index.search(query, k=DEPTH)
            return Ranking(found.docnos, found.scores)  # by docno, as the vectors are keyed

        return timed(ask, queries)

    def measure(self, name: str, chosen: Chosen) -> list[Row]:
        """All systems on one collection."""
        collection = load(name)
        queries = judged(collection)
        size = sum(1 for _ in collection.corpus)
        sample = list(islice(collection.corpus, 0, None, max(1, size // self.sample)))[: self.sample]
        texts = [passage.contents for passage in sample]
        vectors, dense_ms = timed(lambda q: self.dense.encode_queries([q.text])[0], queries)
        store = self.store(collection)
        flat = DenseIndex.over(store)
        dense, search_ms = timed(lambda v: flat.search(v[None], DEPTH)[0], vectors)
        rows = [
            self._row(collection, "dense MiniLM", queries, dense)
            | {"bytes": store.bytes, "query_ms": dense_ms + search_ms}
            | {"encode_passages_per_s": per_second(self.dense.encode_passages, texts)}
        ]
        for system in SPARSE:
            path = self.index(collection, system)
            found, sparse_ms = self.search(path, queries)
            stored = index_bytes(path, vectors=False)
            rows.append(
                self._row(collection, system, queries, found)
                | {"bytes": stored, "query_ms": sparse_ms}
                | {"encode_passages_per_s": per_second(self.encoder(system, texts), texts)}
            )
            pairs = list(zip(found, vectors, strict=True))
            for label, feedback in ((f"{system} + vectors", False), (f"{system} + vectors, with feedback", True)):
                both, ms = timed(partial(self._mixed, store, chosen[system], feedback), pairs)
                rows.append(
                    self._row(collection, label, queries, both)
                    | {"bytes": stored + store.bytes, "query_ms": sparse_ms + dense_ms + ms}
                    | {"alpha": chosen[system]["alpha"]}
                )
        if name in WIDE:
            path = self.index(collection, "thresher-mini", bits=16)
            found, _ = self.search(path, queries)
            wide = self._row(collection, "thresher-mini, 16-bit weights", queries, found)
            rows.append(wide | {"bytes": index_bytes(path, vectors=False)})
        return rows

    def encoder(self, system: str, texts: Sequence[str]) -> Callable[[list[str]], object]:
        """What encodes passages for a sparse system."""
        bm25 = Bm25Encoder.fit(texts)
        if system == "BM25":
            return bm25.encode_passages
        mini = self.mini
        return mini.encode_passages if system == "thresher-mini" else HybridEncoder(bm25, mini).encode_passages

    @staticmethod
    def _mixed(store: VectorStore, values: dict[str, float], feedback: bool, pair: tuple[Ranking, Vector]) -> Ranking:
        return with_vectors(store, *pair, values, feedback=feedback)

    def _row(self, collection: Collection, system: str, queries: Sequence[Query], rankings: Sequence[Ranking]) -> Row:
        level = f"(rel={collection.relevant})" if collection.relevant > 1 else ""
        names = {"nDCG@10": "nDCG@10", "AP": f"AP{level}", "R@100": f"R{level}@100", "R@1000": f"R{level}@1000"}
        run = Run({query.qid: ranking for query, ranking in zip(queries, rankings, strict=True)})
        found = evaluate(run, collection.qrels, list(names.values())).mean
        return {"collection": collection.name, "system": system} | {k: found[v] for k, v in names.items()}

    def query_cost(self) -> float:
        """Milliseconds of processor time to encode a query of DL19: other load on the machine does not count."""
        texts = [query.text for query in load("trec-dl-2019").queries]
        side = Index.open(self.index(load("trec-dl-2019"), "thresher-mini")).encoder
        for text in texts:
            side.encode_queries([text])
        started = time.process_time()
        for _ in range(5):
            for text in texts:
                side.encode_queries([text])
        return 1000 * (time.process_time() - started) / (5 * len(texts))

    def rerank_given(self, alpha: float) -> list[Row]:
        """The given BM25 top 100 of DL19, interpolated: the candidates of the published tables."""
        collection = load("trec-dl-2019")
        run = given_run("bm25.dl19")
        store = self.store(collection)
        queries = [query for query in judged(collection) if query.qid in run]
        vectors = list(self.dense.encode_queries([query.text for query in queries]))
        rows = []
        for label, weight in (("given BM25 top 100", 1.0), ("given BM25 top 100 + vectors", alpha)):
            found = [
                store.interpolate(run[query.qid], vector, alpha=weight, k=100)
                for query, vector in zip(queries, vectors, strict=True)
            ]
            rows.append(self._row(collection, label, queries, found) | {"alpha": weight})
        return rows

    def early_stopping(self, alphas: dict[str, float]) -> list[Row]:
        """Look-ups for the top 10 of DL19 by each way of stopping, and whether the top 10 is the full one's."""
        collection = load("trec-dl-2019")
        queries = judged(collection)
        store = self.store(collection)
        vectors = list(self.dense.encode_queries([query.text for query in queries]))
        rows: list[Row] = []
        for system in SPARSE:
            found, _ = self.search(self.index(collection, system), queries)
            pairs = list(zip(found, vectors, strict=True))
            for alpha in (alphas[system], 0.5):
                full = [store.interpolate(r, v, alpha=alpha, stopping="none") for r, v in pairs]
                for stopping in ("sketch", "length", "seen"):
                    early = [store.interpolate(r, v, alpha=alpha, stopping=stopping) for r, v in pairs]
                    same = sum(a == b for a, b in zip(full, early, strict=True))
                    rows.append(
                        {
                            "collection": "trec-dl-2019",
                            "system": f"{system} + vectors, top 10, stopping by {stopping}",
                            "alpha": alpha,
                            "lookups": float(np.mean([e.lookups for e in early])),
                            "candidates": float(np.mean([e.candidates for e in early])),
                            "identical_top_10": f"{same} of {len(full)}",
                        }
                    )
        return rows

    def choose(self) -> Chosen:
        """For each sparse system the alpha, and what feedback reads, with the best mean nDCG@10 over `CHOOSING`."""
        chosen: Chosen = {}
        for system in SPARSE:
            sets = [self._choosing_set(name, system) for name in CHOOSING]
            by_alpha = [np.mean([part.figure({"alpha": a}, feedback=False) for part in sets]) for a in ALPHAS]
            best: dict[str, float] = {"alpha": ALPHAS[int(np.argmax(by_alpha))]}
            tried = [best | {"passages": passages, "weight": weight} for passages, weight in FEEDBACK]
            figures = [np.mean([part.figure(values, feedback=True) for part in sets]) for values in tried]
            chosen[system] = tried[int(np.argmax(figures))] | {"nDCG@10": float(np.max(figures))}
        return chosen

    def _choosing_set(self, name: str, system: str) -> ChoosingSet:
        collection = load(name)
        queries = held_out(collection)
        found, _ = self.search(self.index(collection, system), queries)
        vectors = list(self.dense.encode_queries([query.text for query in queries]))
        is_condensed = not name.endswith("/train")
        return ChoosingSet(
            only(collection, queries), queries, vectors, found, self.store(collection), condensed=is_condensed
        )

    def dl23(self, chosen: Chosen) -> list[Row]:
        """The 30 queries of DL23 with a relevant passage here, condensed lists."""
        collection = load("trec-dl-2023")
        grades = collection.qrels.judgments
        queries = [query for query in judged(collection) if max(grades[query.qid].values()) > 0]
        collection = only(collection, queries)
        vectors = list(self.dense.encode_queries([query.text for query in queries]))
        store = self.store(collection)
        flat = DenseIndex.over(store)
        systems: dict[str, list[Ranking]] = {
            "dense MiniLM": [flat.search(vector[None], DEPTH)[0] for vector in vectors]
        }
        for system in SPARSE:
            found, _ = self.search(self.index(collection, system), queries)
            systems[system] = found
            for label, feedback in (("+ vectors", False), ("+ vectors, with feedback", True)):
                systems[f"{system} {label}"] = [
                    with_vectors(store, ranking, vector, chosen[system], feedback=feedback)
                    for ranking, vector in zip(found, vectors, strict=True)
                ]
        rows: list[Row] = []
        for system, rankings in systems.items():
            kept = [condensed(collection, q, ranking) for q, ranking in zip(queries, rankings, strict=True)]
            row = self._row(collection, system, queries, kept)
            rows.append(row | {"collection": f"trec-dl-2023, {len(queries)} queries"})
        return rows


def condensed(collection: Collection, query: Query, ranking: Ranking) -> Ranking:
    """The ranking without unjudged passages."""
    grades = collection.qrels.judgments[query.qid]
    return ranking.take([place for place, docno in enumerate(ranking.docnos) if docno in grades])


def with_vectors(
    store: VectorStore,
    ranking: Ranking,
    vector: Vector,
    values: dict[str, float],
    *,
    feedback: bool,
    stopping: str = "exact",
    k: int = DEPTH,
) -> Ranking:
    """A ranking interpolated with dense scores; with feedback the query's vector is moved first."""
    moved: dict[str, Any] = {}
    if feedback:
        moved = {"feedback": int(values["passages"]), "feedback_weight": values["weight"]}
    return store.interpolate(ranking, vector, alpha=values["alpha"], k=k, stopping=stopping, **moved)


def timed(call: Callable[[T], R], items: Sequence[T]) -> tuple[list[R], float]:
    """What `call` returns for each item, and its mean milliseconds; called once before to compile and load."""
    call(items[0])
    started = time.perf_counter()
    found = [call(item) for item in items]
    return found, 1000 * (time.perf_counter() - started) / len(items)


def per_second(encode: Callable[[list[str]], object], texts: list[str]) -> float:
    """Texts encoded a second."""
    encode(texts[:4])
    started = time.perf_counter()
    encode(texts)
    return len(texts) / (time.perf_counter() - started)


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
