"""The peers' panel: every engine on the same impacts and queries, pinned to one core, interleaved.

    peers/bin/python -m eval search-panel --data "$THRESHER_DATA" --work panel --maker .venv/bin/python

Needs the environment of `requirements.txt`, and another one for making collections (`search-make`). Collections,
indexes and finished measurements stay in `--work`, so that an interrupted panel resumes; rows are written to
`eval/results/search-panel.json` (and `.md`, `.svg`), their ratios to `search-goals.json` (and `.md`).

Latency is the processor time of the process for one call (`time.process_time_ns`, all threads), the least of
`--rounds` rounds for each query, then percentiles over queries. Processor time and not the clock, so that other work
on the machine does not count; engines take turns every `CHUNK` queries, so that what disturbs one disturbs all, and
each turn begins with a query that is not timed, so that nobody pays for another engine's use of the caches. A setting
that needs more than `SLOW` ms for a query is measured once, on the first `FEW` queries; its row says so.

Queries of most tracks have whole weights with a largest of exactly 32, which every engine scores exactly. In a float
track engines that want whole weights round them, and all are judged by the float scores. `truth.judge` says how.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, options
from eval.search import charts, goals
from eval.search.engines import ENGINES, Engine, fresh
from eval.search.matrices import Matrix, Rows, load
from eval.search.truth import Truth, best_scores, judge

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eval.bench import Row

ROOT = Path(__file__).parents[2]
KS = (10, 100, 1000)
CHUNK = 20
SLOW, FEW = 30.0, 60
SEED = 20261124
TRACKS = {
    "real-20k": ("own", "splade"),
    "real-learned": ("own", "splade", "unicoil", "splade-v3 float"),
    "real-lexical": ("words",),
    "synthetic-1m": ("synthetic",),
}
LEFT_OUT = {  # from a collection: what takes too long to build there, or cannot hold it
    "real-lexical": {"seismic", "impact-index BMP"},  # made for learned weights; 16-bit term ids
    "synthetic-1m": {"seismic", "impact-index BMP", "pisa"},  # half an hour and five minutes to build; memory
}


@dataclass
class Cell:
    """One engine's settings, measured over the queries of a track.

    Attributes:
        engine: what answers.
        setting: the name of its options.
        options: keyword arguments of `run`.
        prepared: the queries as the engine takes them.
        count: queries that are measured.
        rounds: how often each is.
        best: float64[queries], the least nanoseconds of each; infinite where it was not measured.
        judged: sums over queries of recall, exactness and shortness.
        works: what the engine said it did, by query.
    """

    engine: Engine
    setting: str
    options: dict[str, Any]
    prepared: list[Any]
    count: int
    rounds: int
    best: NDArray[np.float64]
    judged: NDArray[np.float64]
    works: list[dict[str, float]]

    def warm_up(self, k: int, rounds: int) -> None:
        """Compile, map and touch; and choose fewer queries and one round if it is slow."""
        spent = []
        for query in self.prepared[:8]:
            begin = time.process_time_ns()
            self.engine.run(query, k, **self.options)
            spent.append((time.process_time_ns() - begin) / 1e6)
        slow = float(np.median(spent)) > SLOW
        self.count = min(len(self.prepared), FEW) if slow else len(self.prepared)
        self.rounds = 1 if slow else rounds

    def run_chunk(self, first: int, k: int) -> None:
        """Time the queries from `first` on, after one that is not timed."""
        self.engine.run(self.prepared[first - 1], k, **self.options)
        for i in range(first, min(first + CHUNK, self.count)):
            query = self.prepared[i]
            begin = time.process_time_ns()
            self.engine.run(query, k, **self.options)
            self.best[i] = min(self.best[i], time.process_time_ns() - begin)

    def row(self, k: int) -> Row:
        """The measurement."""
        own = self.best[: self.count] / 1e6
        p50, p95, p99 = np.percentile(own, (50, 95, 99))
        recall, exact, short = self.judged
        return {
            "engine": self.engine.name, "version": self.engine.version, "setting": self.setting, "k": k,
            "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "mean_ms": own.mean(),
            "recall": recall / self.count, "exact_share": exact / self.count, "short_results": int(short),
            "queries": self.count, "rounds": self.rounds,
            **{key: float(np.mean([work[key] for work in self.works])) for key in self.works[0]},
        }  # fmt: skip


def measure(engines: Sequence[Engine], queries: Rows, truth: Truth, k: int, rounds: int) -> list[Row]:
    """One row for each engine's settings at one k."""
    n = len(queries)
    prepared = {id(e): [e.prepare(queries, i, k) for i in range(n)] for e in engines}
    cells = [
        Cell(e, name, options, prepared[id(e)], n, rounds, np.full(n, np.inf), np.zeros(3), [])
        for e in engines
        for name, options in e.settings(k).items()
    ]
    for cell in cells:
        cell.warm_up(k, rounds)
    gc.disable()
    for turn in range(rounds):
        for first in range(0, n, CHUNK):
            for cell in cells:
                if turn < cell.rounds and first < cell.count:
                    cell.run_chunk(first, k)
    gc.enable()
    for i in range(n):
        scores = truth.scores(queries.row(i))
        wanted = best_scores(scores, k)
        for cell in cells:
            if i < cell.count:
                query = cell.prepared[i]
                found = cell.engine.ids(cell.engine.run(query, k, **cell.options))
                cell.judged += judge(scores, wanted, found)
                cell.works.append(cell.engine.work(query, k, **cell.options))
    rows = [cell.row(k) for cell in cells]
    for row in rows:
        said = f"p50 {row['p50_ms']:.3f} p99 {row['p99_ms']:.3f} ms  recall {row['recall']:.4f}"
        print(f"  {row['engine']:18s} {row['setting']:28s} k={k:<5d} {said}", flush=True)
    return rows


def chosen(matrix: Matrix, args: argparse.Namespace) -> list[tuple[Engine, Path]]:
    """Engines with the file that notes what building them took."""
    found: list[tuple[Engine, Path]] = []
    wanted = set(args.engines.split(",")) if args.engines else set()
    for kind_of in ENGINES:
        for kind in kind_of.kinds:
            slug = f"{kind_of.name}--{kind}".replace(" ", "-").replace("=", "")
            skipped = {kind_of.name, slug} & LEFT_OUT.get(matrix.name, set())
            if kind_of.name in wanted or (not wanted and not skipped):
                folder = args.work / "indexes" / matrix.name / slug
                found.append((kind_of(folder, kind), folder.with_name(slug + ".built.json")))
    return found


def build_all(matrix: Matrix, args: argparse.Namespace) -> None:
    """Build what is not built yet; notes hold processor seconds and seconds by the clock."""
    few = Matrix(matrix.name, matrix.terms, matrix.documents.take(np.arange(500)), {})
    for engine, note in chosen(matrix, args):
        if note.is_file():
            continue
        note.parent.mkdir(parents=True, exist_ok=True)
        if engine.compiles:
            fresh(engine.folder)
            engine.build(few)
        fresh(engine.folder)
        print(f"building {engine.name} ({engine.kind}) on {matrix.name}", flush=True)
        begin, clock = time.process_time(), time.perf_counter()
        engine.build(matrix)
        spent = {"build_s": time.process_time() - begin, "build_wall_s": time.perf_counter() - clock}
        note.write_text(json.dumps(spent))
        print("  ", spent, flush=True)


def open_engines(matrix: Matrix, args: argparse.Namespace) -> list[tuple[Engine, dict[str, float]]]:
    """Opened engines with what building and opening took (processor time; modules are loaded before)."""
    build_all(matrix, args)
    ready = []
    for engine, note in chosen(matrix, args):
        engine.load()
        begin = time.process_time()
        engine.open()
        ready.append((engine, {**json.loads(note.read_text()), "open_ms": (time.process_time() - begin) * 1e3}))
    return ready


def run_collection(matrix: Matrix, args: argparse.Namespace) -> list[Row]:
    """All rows of one collection, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    begin = time.perf_counter()
    ready = open_engines(matrix, args)
    truth = Truth(matrix)
    postings = int(matrix.documents.indptr[-1])
    spent = {id(engine): {"bytes_per_posting": engine.bytes() / postings, **numbers} for engine, numbers in ready}
    owners = {(engine.name, name): engine for engine, _ in ready for name in engine.settings(10)}
    rows: list[Row] = []
    for track in TRACKS[matrix.name]:
        queries = matrix.queries[track]
        queries = queries.take(np.arange(min(args.queries, len(queries))))
        about = {"collection": matrix.name, "track": track, "passages": truth.n, "postings": postings}
        for k in KS:
            print(f"{matrix.name}, {track}, after {time.perf_counter() - begin:.0f} s", flush=True)
            found = measure([engine for engine, _ in ready], queries, truth, k, args.rounds)
            rows += [{**about, **row, **spent[id(owners[row["engine"], row["setting"]])]} for row in found]
    return rows


def made(name: str, args: argparse.Namespace) -> Matrix:
    """The collection, made first where it is not in `--work` yet."""
    file = args.work / f"{name}.npz"
    if not file.is_file():
        command = [args.maker, "-m", "eval", "search-make", name, "--work", args.work, "--encoder", args.encoder]
        subprocess.run(command + (["--data", args.data] if args.data else []), check=True, cwd=ROOT)
    return load(file)


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("search-panel", __doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("THRESHER_DATA"))
    parser.add_argument("--collections", default=",".join(TRACKS))
    parser.add_argument("--engines", default="", help="names, comma-separated; all but LEFT_OUT by default")
    parser.add_argument("--encoder", default="thresher-mini", help="or the directory of a learned sparse encoder")
    parser.add_argument("--maker", default=sys.executable, help="python with thresher[models,embedded]")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build-only", action="store_true", help="make collections and indexes, measure nothing")
    args = parser.parse_args(arguments)
    bench = Bench.of(args)
    args.work = bench.work
    for name in args.collections.split(","):
        file = args.work / f"rows-{name}.json"
        if args.build_only:
            build_all(made(name, args), args)
        elif not file.is_file():
            file.write_text(json.dumps(run_collection(made(name, args), args)))
    files = [args.work / f"rows-{name}.json" for name in TRACKS]
    if rows := [row for file in files if file.is_file() for row in json.loads(file.read_text())]:
        charts.write(rows, bench, SEED)
        goals.write(rows, bench)
