"""From what size block-max bounds pay: synthetic collections of up to four million passages, shuffled and bisected.

Builds the indexes that `--work` does not hold, of the synthetic collection at each size (in thousands), then asks new
queries by each plan in turns. Times are by the clock, the least of `ROUNDS` for each query.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, Row, options
from eval.search import synthetic
from eval.search.engines import Thresher
from eval.search.matrices import Matrix, Rows, load, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.search import Index

    Query = tuple[NDArray[np.uint32], NDArray[Any]]

ORDERS = {"source": "default", "bp": "bp order"}
PLANS = ("auto", "term-at-a-time", "block-max")
QUERIES, ROUNDS, SEED = 100, 3, 78


def prepare(work: Path, thousands: int) -> Matrix:
    """Build what is missing for a size; its queries, without the passages."""
    asked = work / f"growth-{thousands}k.npz"
    folders = {order: work / f"growth-{thousands}k-{order}" for order in ORDERS}
    if not asked.exists() or not all((folder / "manifest.json").exists() for folder in folders.values()):
        rows = synthetic.documents(thousands * 1000)
        empty = Rows(np.zeros(1, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint8))
        topics = synthetic.queries(rows, QUERIES, SEED)
        save(Matrix(f"synthetic-{thousands}k", synthetic.TERMS, empty, {"float": topics}), asked)
        matrix = Matrix(f"synthetic-{thousands}k", synthetic.TERMS, rows, {})
        for order, kind in ORDERS.items():
            if not (folders[order] / "manifest.json").exists():
                clock = time.perf_counter()
                Thresher(folders[order], kind).build(matrix)
                print(f"{folders[order].name} built in {time.perf_counter() - clock:.0f} s", flush=True)
    return load(asked)


def measure(index: Index, queries: Sequence[Query], k: int) -> list[Row]:
    """A row for each plan."""
    spent = np.full((len(PLANS), len(queries)), np.inf)
    for round_ in range(ROUNDS + 1):
        for p, plan in enumerate(PLANS):
            for i, query in enumerate(queries):
                clock = time.perf_counter()
                index.search(query, k, plan=plan)
                if round_:
                    spent[p, i] = min(spent[p, i], time.perf_counter() - clock)
    n = index.layouts[0].counts
    rows: list[Row] = []
    for plan, times in zip(PLANS, spent * 1e3, strict=True):
        told = [index.search(query, k, plan=plan, explain=True).explanations[0] for query in queries]
        rows.append({
            "plan": plan, "k": k, "p50_ms": float(np.median(times)), "p99_ms": float(np.percentile(times, 99)),
            "by_bounds": float(np.mean([t.plan != "term-at-a-time" for t in told])),
            "tiles": float(np.mean([t.superblocks for t in told])) / n.superblocks,
            "blocks": float(np.mean([t.visited / t.blocks for t in told])),
            "postings": float(np.mean([t.postings for t in told])),
            "scored": float(np.mean([t.scored / max(t.postings, 1) for t in told])),
        })  # fmt: skip
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("search-growth", __doc__)
    parser.add_argument("--sizes", default="1000,2000,4000")
    parser.add_argument("--build", action="store_true", help="build the indexes and stop")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows: list[Row] = []
    for thousands in map(int, given.sizes.split(",")):
        matrix = prepare(bench.work, thousands)
        if given.build:
            continue
        queries = [matrix.queries["float"].row(i) for i in range(QUERIES)]
        for order, kind in ORDERS.items():
            engine = Thresher(bench.work / f"growth-{thousands}k-{order}", kind)
            engine.open()
            for k in (10, 100, 1000):
                same = {"passages": thousands * 1000, "order": order}
                rows += [same | row for row in measure(engine.index, queries, k)]
                print(*rows[-len(PLANS) :], sep="\n", flush=True)
    if given.build:
        return
    columns = {
        "passages": "", "order": "", "k": "", "plan": "", "p50_ms": ".3f", "p99_ms": ".3f", "by_bounds": ".2f",
        "tiles": ".3f", "blocks": ".3f", "postings": ".0f", "scored": ".3f",
    }  # fmt: skip
    bench.write("search-growth", rows, seed=SEED, columns=columns, note=NOTE)


NOTE = (
    "Milliseconds of a query by the clock, one thread, the least of 3 rounds; 100 synthetic float queries of "
    "about 43 terms that nothing else asks. order: `source`, shuffled, or bisected (`bp`), which orders the synthetic "
    "collection far better than it does real ones. by_bounds: share of queries answered by bounds; tiles, blocks: "
    "share entered; postings: of the query's lists; scored: share of them."
)
