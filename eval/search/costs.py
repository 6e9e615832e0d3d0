"""What an index costs besides latency: building, size, opening, the first question of a process, two threads.

    python eval/search/costs.py --work /tmp/panel --collection synthetic-1m

Uses the collection that `panel.py` left in `--work`. Building is measured by the clock and by processor time (on a busy
machine the latter says more); the first question is asked in a new process whose compiled kernels are in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from engines import Thresher, fresh
from matrices import load

FIRST = """
import time, json, sys
a = time.perf_counter(); ca = time.process_time()
from thresher.search import Searcher
b = time.perf_counter(); cb = time.process_time()
s = Searcher.open(sys.argv[1])
c = time.perf_counter(); cc = time.process_time()
s.search(([5, 90, 700, 4000], [1.0, 2.0, 0.5, 3.0]), 10)
d = time.perf_counter(); cd = time.process_time()
s.search(([6, 91, 701, 4001], [1.0, 2.0, 0.5, 3.0]), 10)
print(json.dumps({"import_s": b - a, "open_ms": (c - b) * 1e3, "open_cpu_ms": (cc - cb) * 1e3,
                  "first_query_s": d - c, "first_query_cpu_s": cd - cc, "process_cpu_s": cd - ca}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--collection", default="synthetic-1m")
    parser.add_argument("--orders", default="source")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "results" / "search-costs.json")
    args = parser.parse_args()
    matrix = load(args.work / f"{args.collection}.npz")
    postings = int(matrix.documents.indptr[-1])
    rows = []
    for order in args.orders.split(","):
        engine = Thresher(fresh(args.work / "costs" / f"{args.collection}-{order}"), f"{order} order")
        engine.folder.parent.mkdir(parents=True, exist_ok=True)
        clock, begin = time.perf_counter(), time.process_time()
        engine.build(matrix)
        wall, cpu = time.perf_counter() - clock, time.process_time() - begin
        engine.open()
        row = {"collection": args.collection, "passages": len(matrix.documents), "postings": postings, "order": order}
        row |= {
            "build_s": wall,
            "build_cpu_s": cpu,
            "postings_per_cpu_s": postings / cpu,
            "bytes_per_posting": engine.bytes() / postings,
        }
        runs = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", FIRST, str(engine.folder)], capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(3)
        ]
        row |= {key: min(run[key] for run in runs) for key in runs[0]}
        name = next(iter(k for k in matrix.queries if not k.endswith("-float")))
        queries = [matrix.queries[name].row(i) for i in range(len(matrix.queries[name]))] * 3
        engine.searcher.search_batch(queries, 10)
        for threads in (1, 2):
            best = np.inf
            for _ in range(3):
                clock = time.perf_counter()
                engine.searcher.search_batch(queries, 10, threads=threads)
                best = min(best, time.perf_counter() - clock)
            row[f"queries_per_s_{threads}"] = len(queries) / best
        row["speedup_2"] = row["queries_per_s_2"] / row["queries_per_s_1"]
        rows.append(row)
        print(row, flush=True)
    from thresher.evaluate.results import write_results

    command = f"python eval/search/costs.py --work /tmp/panel --collection {args.collection} --orders {args.orders}"
    note = f"{os.cpu_count()} cores, shared with other work while this ran; cpu columns are processor time."
    write_results(args.out, rows, command=command, note=note)


if __name__ == "__main__":
    main()
