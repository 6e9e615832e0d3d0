"""What an index costs besides latency: building, size, opening, the first query of a process, two threads.

Uses the collections that `search-make` left in `--work`; nothing else should run, and two cores should be free.
Building and throughput are measured by the clock. The first query is asked in new processes: some find the compiled
kernels in the cache, one is given an empty cache directory and has to compile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, Row, options
from eval.search.engines import Thresher, fresh
from eval.search.matrices import Matrix, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Query = tuple[NDArray[np.uint32], NDArray[Any]]

TRACKS = {"synthetic-1m": "synthetic", "real-learned": "splade", "real-lexical": "words", "real-20k": "splade"}
SEEN = {name: f"{track} seen" for name, track in TRACKS.items()}
ROUNDS, TURNS, BATCH = 5, 30, 900
FIRST = """
import time, json, sys
t, c = [time.perf_counter()], [time.process_time()]
def lap():
    t.append(time.perf_counter()); c.append(time.process_time())
from thresher.search import Index
lap()
s = Index.open(sys.argv[1])
lap()
s.search(([5, 90, 700, 4000], [1.0, 2.0, 0.5, 3.0]), 10)
lap()
s.search(([6, 91, 701, 4001], [1.0, 2.0, 0.5, 3.0]), 10)
lap()
print(json.dumps({"import_s": t[1] - t[0], "open_ms": (t[2] - t[1]) * 1e3, "first_query_s": t[3] - t[2],
                  "first_query_cpu_s": c[3] - c[2], "second_query_ms": (t[4] - t[3]) * 1e3, "all_s": t[3] - t[0]}))
"""


def new_process(index: Path, cache: Path | None = None) -> dict[str, float]:
    """Times of a process that imports, opens and asks; with `cache`, the directory of compiled kernels."""
    env = dict(os.environ) | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    done = subprocess.run(
        [sys.executable, "-c", FIRST, str(index)], env=env, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def cold_start(index: Path) -> dict[str, float]:
    """Medians over new processes that find compiled kernels, and one that does not."""
    new_process(index)
    runs = [new_process(index) for _ in range(ROUNDS)]
    row = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
    with tempfile.TemporaryDirectory() as empty:
        bare = new_process(index, Path(empty))
    return row | {"first_query_compiling_s": bare["first_query_s"]}


def building(engine: Thresher, matrix: Matrix) -> dict[str, float]:
    """Postings a second by the clock, compiled kernels loaded before."""
    engine.build(Matrix(matrix.name, matrix.terms, matrix.documents.take(np.arange(500)), {}))
    fresh(engine.folder)
    clock, begin = time.perf_counter(), time.process_time()
    engine.build(matrix)
    wall, cpu = time.perf_counter() - clock, time.process_time() - begin
    postings = len(matrix.documents.terms)
    return {
        "build_s": wall,
        "build_cpu_s": cpu,
        "build_postings_per_s": postings / wall,
        "bytes_per_posting": engine.bytes() / postings,
    }


def throughput(engine: Thresher, queries: Sequence[Query], k: int) -> dict[str, float]:
    """Queries a second of `search_batch` over one and two threads, in turns; the best of many short rounds of each."""
    queries = [queries[i % len(queries)] for i in range(BATCH)]
    spent = np.empty((TURNS, 2))
    engine.index.search_batch(queries, k, threads=2)
    for turn in range(TURNS):
        for threads in (1, 2):
            clock = time.perf_counter()
            engine.index.search_batch(queries, k, threads=threads)
            spent[turn, threads - 1] = time.perf_counter() - clock
    one, two = spent.min(axis=0)
    n = len(queries)
    return {f"queries_per_s_1_k{k}": n / one, f"queries_per_s_2_k{k}": n / two, f"speedup_2_k{k}": one / two}


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("search-costs", __doc__)
    parser.add_argument("--collections", default=",".join(TRACKS))
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows = []
    for name in given.collections.split(","):
        matrix = load(bench.work / f"{name}.npz")
        engine = Thresher(bench.work / "costs" / name, "default")
        engine.folder.parent.mkdir(parents=True, exist_ok=True)
        row: Row = {"collection": name, "passages": len(matrix.documents), "postings": len(matrix.documents.terms)}
        row |= building(engine, matrix)
        row |= cold_start(engine.folder)
        engine.open()
        tracks = [matrix.queries[track] for track in (TRACKS[name], SEEN[name]) if track in matrix.queries]
        queries = [asked.row(i) for asked in tracks for i in range(len(asked))]
        for k in (10, 1000):
            row |= throughput(engine, queries, k)
        rows.append(row)
        print(row, flush=True)
    columns = {
        "collection": "", "passages": "", "postings": "", "build_s": ".1f", "build_cpu_s": ".1f",
        "build_postings_per_s": ".2e", "bytes_per_posting": ".2f", "import_s": ".2f", "open_ms": ".1f",
        "first_query_s": ".2f", "first_query_compiling_s": ".1f", "all_s": ".2f",
        "queries_per_s_1_k10": ".0f", "queries_per_s_2_k10": ".0f", "speedup_2_k10": ".2f",
        "queries_per_s_1_k1000": ".0f", "queries_per_s_2_k1000": ".0f", "speedup_2_k1000": ".2f",
    }  # fmt: skip
    bench.write("search-costs", rows, columns=columns, note=NOTE)


NOTE = (
    "By the clock, but build_cpu_s. Building is `default`, compiled kernels loaded, passages without texts; size is "
    "everything but texts. import_s, open_ms, first_query_s and their sum all_s are medians over new processes that "
    "find compiled kernels in the cache (the first query loads them); first_query_compiling_s is of one that does not. "
    "queries_per_s_1 and _2: `search_batch` over one and two threads, the best of 30 rounds of 900 queries."
)
