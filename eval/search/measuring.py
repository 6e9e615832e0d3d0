"""One engine measured on one collection in a process of its own, which needs the memory of that engine only.

    python -m eval.search.measuring FOLDER SLUG ROUNDS FILE

writes the engine's rows to FILE as JSON. Latency is as in `eval.search.panel`: processor time of the process for one
call, the least of the rounds for each query; settings take turns every `CHUNK` queries. A setting that needs more than
`SLOW` ms is measured once, on the first `FEW` queries.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.search.columns import scores_of
from eval.search.large import KS
from eval.search.truth import judge_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from eval.bench import Row
    from eval.search.engines import Engine
    from eval.search.matrices import Rows

CHUNK = 20
SLOW, FEW = 30.0, 40
WARM = 3


@dataclass
class Asked:
    """What engines are asked, and what is right.

    Attributes:
        queries: whole weights, the largest of each query 32.
        best: float64[queries, 1000], see `columns.best_of`.
        rows: the passages, for the scores of those found.
        terms: size of the vocabulary.
    """

    queries: Rows
    best: NDArray[np.float64]
    rows: Rows
    terms: int

    def judge(self, i: int, ids: NDArray[np.int64], k: int) -> tuple[float, bool, bool]:
        """As `truth.judge_scores`, of what was found for query i."""
        terms, weights = self.queries.row(i)
        dense = np.zeros(self.terms)
        dense[terms] = weights
        got = scores_of(self.rows.indptr, self.rows.terms, self.rows.weights, dense, np.unique(ids))
        best = self.best[i, :k]
        return judge_scores(got, best[best > 0], len(ids))


@dataclass
class Cell:
    """A setting: its times in ms, infinite where not measured, and the ids found."""

    setting: str
    options: dict[str, Any]
    times: NDArray[np.float64]
    count: int
    rounds: int
    found: dict[int, NDArray[np.int64]] = field(default_factory=dict)


def timed(engine: Engine, query: Any, k: int, options: dict[str, Any]) -> tuple[float, Any]:
    """Milliseconds of processor time, and what was found."""
    begin = time.process_time_ns()
    found = engine.run(query, k, **options)
    return (time.process_time_ns() - begin) / 1e6, found


def measure(engine: Engine, asked: Asked, k: int, rounds: int) -> list[Row]:
    """A row for each setting of an engine that is open."""
    n = len(asked.queries)
    prepared = [engine.prepare(asked.queries, i, k) for i in range(n)]
    cells = []
    for name, options in engine.settings(k).items():
        slow = np.median([timed(engine, query, k, options)[0] for query in prepared[:WARM]]) > SLOW
        cells.append(Cell(name, options, np.full(n, np.inf), min(n, FEW) if slow else n, 1 if slow else rounds))
    for query in prepared[: cells[0].count]:  # no setting pays for pages that are touched for the first time
        engine.run(query, k, **cells[0].options)
    gc.disable()
    for turn in range(rounds):
        for first in range(0, n, CHUNK):
            for cell in cells:
                if turn < cell.rounds and first < cell.count:
                    engine.run(prepared[first - 1], k, **cell.options)  # not timed: caches are another setting's
                    for i in range(first, min(first + CHUNK, cell.count)):
                        spent, found = timed(engine, prepared[i], k, cell.options)
                        cell.times[i] = min(cell.times[i], spent)
                        if turn == 0:
                            cell.found[i] = engine.ids(found)
    gc.enable()
    return [row_of(cell, asked, k) for cell in cells]


def row_of(cell: Cell, asked: Asked, k: int) -> Row:
    """The measurement of a setting."""
    p50, p99 = np.percentile(cell.times[: cell.count], (50, 99))
    recall, exact, short = np.mean([asked.judge(i, ids, k) for i, ids in cell.found.items()], axis=0)
    return {
        "setting": cell.setting, "threads": 1, "k": k, "p50_ms": p50, "p99_ms": p99,
        "mean_ms": cell.times[: cell.count].mean(), "recall": recall, "exact_share": exact,
        "short_results": round(short * cell.count), "queries": cell.count, "rounds": cell.rounds,
    }  # fmt: skip


def batches(engine: Engine, asked: Asked, k: int, threads: int, rounds: int) -> Row:
    """Mean milliseconds a query of thresher, by the clock, all queries in one call over some threads."""
    queries = [asked.queries.row(i) for i in range(len(asked.queries))]
    spent = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        engine.index.search_batch(queries, k, threads=threads)  # type: ignore[attr-defined]
        spent.append((time.perf_counter() - begin) * 1e3 / len(queries))
    mean = min(spent[1:])
    return {"setting": "batch", "threads": threads, "k": k, "mean_ms": mean, "queries": len(queries), "rounds": rounds}


def run(engine: Engine, asked: Asked, rounds: int) -> list[Row]:
    """All rows of an engine: every setting and k on one core, then thresher's batches over one thread and two."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(everywhere)})
    engine.load()
    begin = time.process_time()
    engine.open()
    opened = (time.process_time() - begin) * 1e3
    rows = [row for k in KS for row in measure(engine, asked, k, rounds)]
    os.sched_setaffinity(0, everywhere)
    if engine.name == "thresher":
        rows += [batches(engine, asked, k, threads, rounds) for k in KS for threads in (1, 2)]
    spent = {
        "open_ms": opened,
        "search_rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "bytes": engine.bytes(),
        "version": engine.version,
    }
    return [{**row, **spent} for row in rows]


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line names."""
    from eval.search.scaled import Scaled

    folder, name, slug, rounds, file = arguments
    collection = Scaled(Path(folder), name)
    entrant = collection.entrant(slug)
    engine = entrant.made(collection.engine(entrant), entrant.kind)
    found = run(engine, collection.asked(), int(rounds))
    Path(file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
