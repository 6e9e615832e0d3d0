"""Where the time of a query goes at k = 10.

Takes the collections and indexes that `search-panel` left in `--work`, and queries that the panel does not ask. The
compiled parts of the term-at-a-time plan run alone, each over all queries, in turns with the whole; what is left is
named `rest`. Times are by the clock, the least of `ROUNDS` for each query, then the median over queries, with what
calling a compiled function takes subtracted from parts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from eval.bench import Bench, Row, options
from eval.search.engines import Thresher
from eval.search.matrices import load
from thresher.search.kernels.postings import rescore
from thresher.search.kernels.taat import (
    LANES,
    QUANTISED_WINDOW,
    add_window_quantised,
    count_reaching,
    lane_maxima,
    open_cursors,
    open_window,
)
from thresher.search.kernels.types import STATISTICS, TERM_AT_A_TIME, Postings, QueryTerms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

TRACKS = {"real-20k": ("own seen",), "real-learned": ("own seen", "splade seen"), "real-lexical": ("words seen",)}
QUERIES, ROUNDS, K = 300, 5, 10


@njit(nogil=True)
def run_parts(ways: tuple[bool, bool, bool], query: QueryTerms, index: Postings) -> int:
    """The loops over windows that `score_quantised` makes, or some of what they do: zeroing, adding, looking."""
    zeroing, adding, looking = ways
    fixed = np.full(query.terms.shape[0], 100, np.uint32)
    cursors = open_cursors(query.terms, index)
    sums, lanes, found = np.zeros(QUANTISED_WINDOW, np.uint16), np.empty(LANES, np.uint16), 0
    for window in range((index.passages + QUANTISED_WINDOW - 1) // QUANTISED_WINDOW):
        if zeroing:
            sums[:] = 0
            found += sums[window]
        if adding:
            open_window(window, QUANTISED_WINDOW, query.terms, index, cursors)
            add_window_quantised(query.terms, fixed, index, cursors, sums)
        if looking:
            lane_maxima(sums, lanes)
            found += count_reaching(lanes, np.uint16(65535))
    return found


def profile(engine: Thresher, queries: Sequence[tuple[NDArray[np.uint32], NDArray[Any]]]) -> dict[str, float]:
    """Median microseconds of a query and of its parts."""
    index = engine.index
    layout, n = index.layouts[0], index.layouts[0].counts
    kernel, postings, allowed = (
        index._now.parts[0].searcher._single,
        index._now.parts[0].searcher._postings,
        index._now.parts[0].searcher._all,
    )
    request, sums = (K, TERM_AT_A_TIME, 1.0, 2**40, 0.0), np.empty(K)
    out = (np.empty(K, np.uint32), np.empty(K), np.empty(STATISTICS))
    asked = []
    for terms, weights in queries:
        row = index.terms((terms, weights))
        asked.append((
            (terms, weights), row, QueryTerms(row[0].astype(np.uint32), row[1].astype(np.float64)),
            np.sort(index.search((terms, weights), K).numbers),
        ))  # fmt: skip

    def part(zeroing: bool, adding: bool, looking: bool) -> Callable[[Any], object]:
        return lambda a: run_parts((zeroing, adding, looking), a[2], postings)

    ways: dict[str, Callable[[Any], object]] = {
        "search": lambda a: index.search(a[0], K),
        "kernel": lambda a: kernel(*a[1], request, postings, allowed, out),
        "call": lambda a: kernel(a[1][0][:0], a[1][1][:0], request, postings, allowed, out),
        "bare": part(False, False, False),
        "zeroing": part(True, False, False),
        "adding": part(False, True, False),
        "looking": part(False, False, True),
        "nothing": lambda a: rescore(a[2], postings, a[3], 0, sums),
        "scoring": lambda a: rescore(a[2], postings, a[3], len(a[3]), sums),
    }
    best = {name: np.full(len(asked), np.inf) for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            for i, a in enumerate(asked):
                begin = time.perf_counter_ns()
                way(a)
                best[name][i] = min(best[name][i], (time.perf_counter_ns() - begin) / 1e3)
    us = {name: float(np.median(spent)) for name, spent in best.items()}
    parts = {
        "python_us": us["search"] - us["kernel"],
        "call_us": us["call"],
        "zeroing_us": us["zeroing"] - us["bare"],
        "adding_us": us["adding"] - us["bare"],
        "looking_us": us["looking"] - us["bare"],
        "scoring_us": us["scoring"] - us["nothing"],
    }
    all_of = np.array([layout.postings_of(a[1][0]).sum() for a in asked])
    dense = np.array([layout.postings_of(a[1][0][layout.rows[a[1][0]] < n.dense]).sum() for a in asked])
    rare = np.array([layout.postings_of(a[1][0][layout.rows[a[1][0]] < 0]).sum() for a in asked])
    return {
        "postings": float(np.median(all_of)),
        "dense_share": float((dense - rare).sum() / all_of.sum()),
        "search_us": us["search"],
        **parts,
        "rest_us": us["search"] - sum(parts.values()),
    }


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("search-parts", __doc__).parse_args(arguments))
    rows: list[Row] = []
    for name, tracks in TRACKS.items():
        matrix = load(bench.work / f"{name}.npz")
        engine = Thresher(bench.work / "indexes" / name / "thresher--default", "default")
        engine.open()
        for track in tracks:
            asked = matrix.queries[track]
            queries = [asked.row(i) for i in range(min(len(asked), QUERIES))]
            rows.append({"collection": name, "track": track} | profile(engine, queries))
            print(rows[-1], flush=True)
    columns = {"collection": "", "track": "", "postings": ".0f", "dense_share": ".2f"}
    columns |= {key: ".1f" for key in rows[0] if key.endswith("_us")}
    bench.write("search-parts", rows, columns=columns, note=NOTE)


NOTE = (
    "Median microseconds over 300 queries that the panel does not ask, k = 10, the least of 5 rounds each, by the "
    "clock. python_us: search less the compiled processor; call_us: the processor on no terms; adding_us: postings of "
    "all lists but dense rows; looking_us: for sums that reach the threshold; scoring_us: the k best by definition; "
    "rest_us: dense rows, candidates, choosing and sorting. postings: the median of a query; dense_share: of all "
    "queries' postings, those in dense rows. Other work ran on the machine's other core."
)
