"""Recall as a promise: what is realised on queries that calibrated nothing, and what it costs against exact search.

    python -m eval recall-promise --work work --panel panel --scale scale

Collections: `real-learned` asked by SPLADE++ (`search-make` writes its matrix into `--panel`), NFCorpus and SciFact by
`thresher-mini`, MS MARCO passages and all real text here by BM25, and the synthetic collections whose indexes
`search-scale` keeps in `--scale`. What is not there is left out, and said.
Queries are drawn by a hash: some calibrate, others measure. Where queries are texts, a second curve is calibrated on
words of the passages and measured on the same real queries. Filters allow a third of the passages: at random, or
neighbours in the order of the index.

Finished parts are kept under `--work`, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eval.bench import Bench, Row, options
from eval.search import everything, passages, synthetic
from eval.search.engines import Thresher
from eval.search.matrices import Rows, load
from thresher.search import Index
from thresher.search.recall import RecallCurve
from thresher.search.recall_fit import fit_recall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from thresher.search.queries import AnyQuery

KS, PROMISES = (10, 100, 1000), (0.9, 0.95, 0.99)
BETWEEN = 30
"""A k that is not measured: it takes the curve of the next one."""
FILTERED = (10, 0.95)
"""k and recall that filters are measured with."""
ROUNDS, SEED = 3, 19
MOST = 4000
"""Queries of a collection; half of them calibrate."""
SPLADE = "splade-pp-ed"
SIZES = ("1m-source", "1m-bp")
TRAINED = ("nfcorpus", "scifact")
"""Collections that come with training queries, asked here."""


class Asked(NamedTuple):
    """A collection and its queries.

    Attributes:
        name: of the collection and the encoder.
        folder: of the index.
        queries: texts, or rows of terms; in a fixed random order.
        texts: whether they are texts.
    """

    name: str
    folder: Path
    queries: list[AnyQuery]
    texts: bool


def collections(bench: Bench, panel: Path, scale: Path, only: str = "") -> Iterator[Asked]:
    """What is there to be measured, of the collections whose names hold `only`."""
    makers: list[tuple[str, Callable[[], Asked]]] = [
        ("real-learned, SPLADE++", lambda: _real(bench, panel)),
        ("nfcorpus, thresher-mini", lambda: _texts(bench, "nfcorpus", "thresher-mini")),
        ("scifact, thresher-mini", lambda: _texts(bench, "scifact", "thresher-mini")),
        ("msmarco-v1-mini, BM25", lambda: _texts(bench, "trec-dl-2019", "bm25")),
        ("all real text here, BM25", lambda: _everything(bench)),
        *((f"synthetic {size}", lambda size=size: _synthetic(scale, size)) for size in SIZES),
    ]
    for name, make in makers:
        if only not in name:
            continue
        try:
            yield make()
        except FileNotFoundError as err:
            print(f"left out: {name}: {err}", flush=True)


def _real(bench: Bench, panel: Path) -> Asked:
    matrix = load(panel / "real-learned.npz")
    folder = bench.work / "recall-real-learned"
    if not (folder / "manifest.json").exists():
        Thresher(folder, "default").build(matrix)
    from eval.collections import data_file
    from thresher.encode import SparseEncoder

    vocabulary = {term: i for i, term in enumerate(SparseEncoder.from_name("thresher-mini", device="cpu").vocabulary)}
    data = data_file("trec-dl").parent
    qids = list(passages.dev_queries(data))
    file, count = passages.MODELS["splade"]
    rows = passages.read_encoded(data / passages.DEV.format(file), vocabulary, qids, count)
    return Asked("real-learned, SPLADE++", folder, _rows(rows, MOST), texts=False)


def _texts(bench: Bench, name: str, encoder: str) -> Asked:
    from eval.collections import data_file
    from thresher.build.recipe import EncodeStep, Recipe
    from thresher.evaluate.collections import load as load_collection
    from thresher.evaluate.trec import read_queries

    collection = load_collection(name)
    folder = bench.index(collection, Recipe(encode=EncodeStep(encoder=encoder)))
    if name in TRAINED:
        queries = read_queries(data_file("collections", name, "queries.train.tsv.gz"))
    else:
        queries = read_queries(data_file("trec-dl", "queries.msmarco-dev.tsv"))
    order = np.random.default_rng(SEED).permutation(len(queries))[:MOST]
    title = f"{name if name in TRAINED else 'msmarco-v1-mini'}, {'BM25' if encoder == 'bm25' else encoder}"
    return Asked(title, folder, [queries[i].text for i in order.tolist()], texts=True)


def _everything(bench: Bench) -> Asked:
    from eval.collections import data_file
    from thresher.build.recipe import load_recipe
    from thresher.build.stream import build_index

    data, folder = data_file("trec-dl").parent, bench.work / "recall-all-texts"
    if not (folder / "manifest.json").exists():
        held = (one for one in everything.passages(data) if one.text.strip() or one.title.strip())
        build_index(folder, held, load_recipe("bm25"))
    texts = everything.asked(data)[:MOST]
    return Asked("all real text here, BM25", folder, [*texts], texts=True)


def _synthetic(scale: Path, size: str) -> Asked:
    folder, rows = scale / size, scale / f"rows-{size.partition('-')[0]}"
    arrays = [np.load(rows / f"{name}.npy", mmap_mode="r") for name in ("indptr", "terms", "weights")]
    if not (folder / "manifest.json").exists():
        raise FileNotFoundError(f"{folder} is no index")
    asked = synthetic.queries(Rows(*arrays), MOST, SEED)
    return Asked(f"synthetic {size}", folder, _rows(asked, MOST), texts=False)


def _rows(rows: Rows, most: int) -> list[AnyQuery]:
    order = np.random.default_rng(SEED).permutation(len(rows))[:most]
    return [(terms.astype(np.int64), weights) for terms, weights in map(rows.row, order.tolist()) if len(terms)]


def holding(folder: Path, curve: RecallCurve) -> Index:
    """The index with this curve, without writing into it: it may be another's."""
    index = Index.open(folder)
    index._now.promises.__dict__["curve"] = curve
    return index


def measured(index: Index, queries: Sequence[AnyQuery], k: int, recall: float, **options: Any) -> Row:
    """What a promise realises and costs on these queries."""
    spent = np.full((2, len(queries)), np.inf)
    realised, expected, cut = np.ones(len(queries)), np.ones(len(queries)), np.zeros(len(queries))
    for _ in range(ROUNDS):
        for i, query in enumerate(queries):
            clock = time.thread_time()
            truth = index.search(query, k, **options)
            middle = time.thread_time()
            found = index.search(query, k, recall=recall, **options)
            times = middle - clock, time.thread_time() - middle
            spent[:, i] = np.minimum(spent[:, i], times)
            if len(truth):
                realised[i] = len(np.intersect1d(found.numbers, truth.numbers)) / len(truth)
            expected[i], cut[i] = found.expected_recall or 0.0, not found.exact
    exact_ms, ms = (float(np.median(times)) * 1e3 for times in spent)
    return {
        "k": k, "promise": recall, "expected": round(float(expected.mean()), 5),
        "realised": round(float(realised.mean()), 5),
        "error": round(float(1.96 * realised.std() / len(queries) ** 0.5), 5),
        "approximate": round(float(cut.mean()), 4), "p50_ms": round(ms, 4), "exact_p50_ms": round(exact_ms, 4),
        "ratio": round(ms / exact_ms, 3), "queries": len(queries),
    }  # fmt: skip


def rows_of(bench: Bench, asked: Asked) -> list[Row]:
    """The rows of one collection."""
    index = Index.open(asked.folder)
    rows_: list[AnyQuery] = [index.terms(query) for query in asked.queries]
    half = len(rows_) // 2
    calibrating, measuring = rows_[:half], rows_[half:]
    rows: list[Row] = []
    for source in ("log", "sampled") if asked.texts else ("log",):
        rows += _of_curve(bench, asked, index, calibrating if source == "log" else None, measuring)
    for row in rows:
        print(row, flush=True)
    return rows


def _of_curve(
    bench: Bench, asked: Asked, index: Index, calibrating: list[AnyQuery] | None, measuring: list[AnyQuery]
) -> list[Row]:
    """The rows of one curve: of these queries, or of sampled ones."""
    source = "sampled" if calibrating is None else "log"
    key = f"recall-promise-{asked.name.replace(' ', '-').replace(',', '')}-{source}"
    document = bench.kept(
        f"{key}-curve",
        lambda: fit_recall(index, calibrating, ks=KS, sample=len(measuring), seed=SEED).as_json(),
    )
    held = holding(asked.folder, RecallCurve.from_json(document))

    def one(name: str, k: int, recall: float, **options: Any) -> Row:
        made = bench.kept(f"{key}-{name}-{k}-{recall}", lambda: measured(held, measuring, k, recall, **options))
        same = {"collection": asked.name, "passages": len(index), "calibrated": source, "filter": name}
        return {**same, **made}

    rows = [one("none", k, recall) for k in KS for recall in PROMISES if k <= len(index)]
    if calibrating is not None:
        rows += [one("none", BETWEEN, 0.95), *(one(name, *FILTERED, allow=mask) for name, mask in _filters(index))]
    return rows


def _filters(index: Index) -> Iterable[tuple[str, NDArray[np.bool_]]]:
    """Masks that allow a third of the passages."""
    size = len(index)
    random = np.random.default_rng(SEED).random(size) < 1 / 3
    near, sources = np.zeros(size, bool), index.layouts[0].sources
    ids = np.arange(size // 3, 2 * size // 3)
    near[ids if sources is None else sources[ids]] = True
    return (("a third at random", random), ("a third, neighbours", near))


NOTE = (
    "promise: `recall=`; expected: mean of what results carry; realised: mean share of the exact answer that was "
    "found, on queries that calibrated nothing, with the half-width of its 95 % interval (error); approximate: "
    "share of the queries that were not searched exactly. Times: processor time of the calling thread, one query at a "
    "time, exact and promised in turns, the least of 3 rounds for each query. calibrated: on the log, other queries of "
    f"the same kind, or on words of the passages (sampled). k = {BETWEEN} was not measured and takes the curve for 100."
)
COLUMNS = {
    "collection": "", "passages": "", "calibrated": "", "filter": "", "k": "", "promise": "", "expected": ".4f",
    "realised": ".4f", "error": ".4f", "approximate": ".2f", "p50_ms": ".3f", "exact_p50_ms": ".3f", "ratio": ".2f",
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("recall-promise", __doc__)
    parser.add_argument("--panel", type=Path, default=os.environ.get("THRESHER_PANEL", "panel"), help="see above")
    parser.add_argument("--scale", type=Path, default=os.environ.get("THRESHER_SCALE", "scale"), help="see above")
    parser.add_argument("--only", default="", help="collections whose names hold this")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows: list[Row] = []
    for asked in collections(bench, Path(given.panel), Path(given.scale), given.only):
        rows += rows_of(bench, asked)
    bench.write("recall-promise", rows, seed=SEED, columns=COLUMNS, note=NOTE)
