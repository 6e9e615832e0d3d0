"""The peers' panel: every engine on the same impacts and queries, pinned to one core, interleaved.

    peers/bin/python eval/search/panel.py --data "$THRESHER_DATA" --work /tmp/panel --maker .venv/bin/python

Needs the environment of `requirements.txt`, and another one for making collections (`make.py`). Collections, indexes
and finished measurements stay in `--work`, so that a stopped panel goes on where it was; rows are written to
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

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from engines import ENGINES, Engine, fresh
from matrices import Matrix, Rows, load
from truth import Truth, best_scores, judge

KS = (10, 100, 1000)
CHUNK = 20
SLOW, FEW = 30.0, 60
SEED = 20261124
COMMAND = 'peers/bin/python eval/search/panel.py --data "$THRESHER_DATA" --work /tmp/panel --maker .venv/bin/python'
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


def measure(engines: list[Engine], queries: Rows, truth: Truth, k: int, rounds: int) -> list[dict]:
    """One row for each engine's settings at one k."""
    n = len(queries)
    cells = [(e, name, options) for e in engines for name, options in e.settings(k).items()]
    prepared = {id(e): [e.prepare(queries, i, k) for i in range(n)] for e in engines}
    best = np.full((len(cells), n), np.inf)
    counts, times = [], []
    for engine, _, options in cells:  # warm up: compile, map, touch; and see what is slow
        spent = []
        for i in range(min(8, n)):
            begin = time.process_time_ns()
            engine.run(prepared[id(engine)][i], k, **options)
            spent.append((time.process_time_ns() - begin) / 1e6)
        slow = float(np.median(spent)) > SLOW
        counts.append(min(n, FEW) if slow else n)
        times.append(1 if slow else rounds)
    gc.disable()
    for turn in range(rounds):
        for first in range(0, n, CHUNK):
            for c, (engine, _, options) in enumerate(cells):
                if turn < times[c] and first < counts[c]:
                    engine.run(prepared[id(engine)][first - 1], k, **options)
                    for i in range(first, min(first + CHUNK, counts[c])):
                        query = prepared[id(engine)][i]
                        begin = time.process_time_ns()
                        engine.run(query, k, **options)
                        best[c, i] = min(best[c, i], time.process_time_ns() - begin)
    gc.enable()
    judged, works = np.zeros((len(cells), 3)), [[] for _ in cells]
    for i in range(n):
        scores = truth.scores(queries.row(i))
        wanted = best_scores(scores, k)
        for c, (engine, _, options) in enumerate(cells):
            if i < counts[c]:
                query = prepared[id(engine)][i]
                judged[c] += judge(scores, wanted, engine.ids(engine.run(query, k, **options)))
                works[c].append(engine.work(query, k, **options))
    rows = []
    for c, (engine, name, _) in enumerate(cells):
        own = best[c, : counts[c]] / 1e6
        p50, p95, p99 = np.percentile(own, (50, 95, 99))
        recall, exact, short = judged[c]
        rows.append({
            "engine": engine.name, "version": engine.version, "setting": name, "k": k,
            "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "mean_ms": own.mean(),
            "recall": recall / counts[c], "exact_share": exact / counts[c], "short_results": int(short),
            "queries": counts[c], "rounds": times[c],
            **{key: float(np.mean([w[key] for w in works[c]])) for key in works[c][0]},
        })  # fmt: skip
        found = f"p50 {p50:.3f} p99 {p99:.3f} ms  recall {recall / counts[c]:.4f}"
        print(f"  {engine.name:18s} {name:28s} k={k:<5d} {found}", flush=True)
    return rows


def chosen(matrix: Matrix, args: argparse.Namespace) -> list[tuple[Engine, Path]]:
    """Engines with the file that notes what building them took."""
    found = []
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


def open_engines(matrix: Matrix, args: argparse.Namespace) -> list[tuple[Engine, dict]]:
    """Opened engines with what building and opening took (processor time; modules are loaded before)."""
    build_all(matrix, args)
    ready = []
    for engine, note in chosen(matrix, args):
        engine.load()
        begin = time.process_time()
        engine.open()
        ready.append((engine, {**json.loads(note.read_text()), "open_ms": (time.process_time() - begin) * 1e3}))
    return ready


def run_collection(matrix: Matrix, args: argparse.Namespace) -> list[dict]:
    """All rows of one collection, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    begin = time.perf_counter()
    ready = open_engines(matrix, args)
    truth = Truth(matrix)
    postings = int(matrix.documents.indptr[-1])
    spent = {id(engine): {"bytes_per_posting": engine.bytes() / postings, **numbers} for engine, numbers in ready}
    owners = {(engine.name, name): engine for engine, _ in ready for name in engine.settings(10)}
    rows = []
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
        script = Path(__file__).with_name("make.py")
        command = [args.maker, script, name, "--work", args.work, "--encoder", args.encoder]
        subprocess.run(command + (["--data", args.data] if args.data else []), check=True)
    return load(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("THRESHER_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "results" / "search-panel.json")
    parser.add_argument("--collections", default=",".join(TRACKS))
    parser.add_argument("--engines", default="", help="names, comma-separated; all but LEFT_OUT by default")
    parser.add_argument("--encoder", default="thresher-mini", help="or the directory of a learned sparse encoder")
    parser.add_argument("--maker", default=sys.executable, help="python with thresher[models,embedded]")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build-only", action="store_true", help="make collections and indexes, measure nothing")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.collections.split(","):
        file = args.work / f"rows-{name}.json"
        if args.build_only:
            build_all(made(name, args), args)
        elif not file.is_file():
            file.write_text(json.dumps(run_collection(made(name, args), args)))
    files = [args.work / f"rows-{name}.json" for name in TRACKS]
    if rows := [row for file in files if file.is_file() for row in json.loads(file.read_text())]:
        import charts
        import goals

        charts.write(rows, args.out, COMMAND, SEED)
        goals.write(rows, args.out.with_name("search-goals.json"), COMMAND)


if __name__ == "__main__":
    main()
