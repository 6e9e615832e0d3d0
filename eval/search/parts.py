"""Where the time of a query goes at k = 10, and where the bytes of an index go.

    python eval/search/parts.py --work /tmp/panel

Takes the collections and indexes that `panel.py` left in `--work`, and queries that the panel does not ask. The
compiled parts of the term-at-a-time plan run alone, each over all queries, in turns with the whole; what is left is
named `rest`. Times are by the clock, the least of `ROUNDS` for each query, then the median over queries, with what
calling a compiled function takes subtracted from parts.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from engines import Thresher
from matrices import load
from numba import njit

from thresher.search.kernels.postings import rescore
from thresher.search.kernels.processor import TERM_AT_A_TIME
from thresher.search.kernels.taat import COARSE_CHUNK, LANES, fill, fold, reaching

COMMAND = "python eval/search/parts.py --work /tmp/panel"
TRACKS = {"real-20k": ("own seen",), "real-learned": ("own seen", "splade seen"), "real-lexical": ("words seen",)}
COLLECTIONS = (*TRACKS, "synthetic-1m")
QUESTIONS, ROUNDS, K = 300, 5, 10


@njit(nogil=True)
def run_parts(zeroing, adding, looking, passages, terms, weights, starts, rows, dense, impacts, ids, tiles):
    """The loops over chunks that `score_coarsely` makes, or some of what they do."""
    count = terms.shape[0]
    fixed = np.full(count, 100, np.uint32)
    cursors, ends, runs = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((count, 2), np.uint64)
    sums, nothing, lanes = np.zeros(COARSE_CHUNK, np.uint16), np.empty(0, np.float64), np.empty(LANES, np.uint16)
    for i in range(count):
        cursors[i] = ends[i] = np.int64(starts[terms[i]])
    found = 0
    for chunk in range((passages + COARSE_CHUNK - 1) // COARSE_CHUNK):
        if zeroing:
            sums[:] = 0
            found += sums[chunk]
        if adding:  # which zeroes, too
            fill(
                chunk, COARSE_CHUNK, True, terms, fixed, weights, starts, rows, dense, impacts, ids, tiles, cursors,
                ends, runs, nothing, sums,
            )  # fmt: skip
        if looking:
            fold(sums, lanes)
            found += reaching(lanes, np.uint16(65535))
    return found


def profile(engine: Thresher, queries: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Median microseconds of a query and of its parts."""
    searcher = engine.searcher
    layout, n = searcher.layouts[0], searcher.layouts[0].counts
    kernel, arrays = searcher._first._single
    lists = (layout.starts, layout.rows, layout.dense, layout.impacts, layout.ids, layout.tiles)
    docs, scores, told, sums = np.empty(K, np.uint32), np.empty(K), np.empty(12), np.empty(K)
    asked = []
    for terms, weights in queries:
        row = searcher.terms((terms, weights))
        asked.append((
            (terms, weights), row, row[0].astype(np.uint32), row[1].astype(np.float64),
            np.sort(searcher.search((terms, weights), K).numbers),
        ))  # fmt: skip

    def part(zeroing, adding, looking):
        return lambda a: run_parts(zeroing, adding, looking, n.passages, a[2], a[3], *lists)

    ways = {
        "search": lambda a: searcher.search(a[0], K),
        "kernel": lambda a: kernel(*a[1], K, TERM_AT_A_TIME, 1.0, 2**40, *arrays, docs, scores, told),
        "call": lambda a: kernel(a[1][0][:0], a[1][1][:0], K, TERM_AT_A_TIME, 1.0, 2**40, *arrays, docs, scores, told),
        "bare": part(False, False, False),
        "zeroing": part(True, False, False),
        "adding": part(False, True, False),
        "looking": part(False, False, True),
        "nothing": lambda a: rescore(a[2], a[3], *lists, a[4], 0, sums),
        "scoring": lambda a: rescore(a[2], a[3], *lists, a[4], len(a[4]), sums),
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
        "adding_us": us["adding"] - us["zeroing"],
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


def sizes(engine: Thresher, postings: int) -> dict[str, float]:
    """Bytes a posting by file."""
    found = {"all": engine.bytes() / postings}
    for file in sorted(engine.folder.iterdir()):
        if file.is_file() and not file.name.startswith("passages."):
            name = file.name.split(".")[0] if file.suffix in (".bytes", ".offsets") else file.name
            name = "json" if file.suffix == ".json" else name
            found[name] = found.get(name, 0.0) + file.stat().st_size / postings
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "results")
    args = parser.parse_args()
    spent, taken = [], []
    for name in COLLECTIONS:
        matrix = load(args.work / f"{name}.npz")
        engine = Thresher(args.work / "indexes" / name / "thresher--default", "default")
        engine.open()
        n = engine.searcher.layouts[0].counts
        about = {
            "collection": name,
            "terms": n.terms,
            "dense_terms": n.dense,
            "common_terms": n.common,
            "numbered_terms": n.numbered,
        }
        taken.append(about | sizes(engine, n.postings))
        for track in TRACKS.get(name, ()):
            asked = matrix.queries[track]
            queries = [asked.row(i) for i in range(min(len(asked), QUESTIONS))]
            spent.append({"collection": name, "track": track} | profile(engine, queries))
            print(spent[-1], flush=True)
    from thresher.evaluate.results import write_results

    times = {"collection": "", "track": "", "postings": ".0f", "dense_share": ".2f"}
    times |= {key: ".1f" for key in spent[0] if key.endswith("_us")}
    write_results(args.out / "search-parts.json", spent, command=COMMAND, columns=times, note=NOTE)
    names = {key: ".3f" for row in taken for key in row if key not in about}
    columns = dict.fromkeys(about, "") | names
    write_results(args.out / "search-size.json", taken, command=COMMAND, columns=columns, note=SIZE_NOTE)


NOTE = (
    "Median microseconds over 300 questions that the panel does not ask, k = 10, the least of 5 rounds each, by the "
    "clock. python_us: search less the compiled processor; call_us: the processor on no terms; adding_us: postings of "
    "all lists but dense rows; looking_us: for sums that reach the threshold; scoring_us: the k best by definition; "
    "rest_us: dense rows, candidates, choosing and sorting. postings: the median of a question; dense_share: of all "
    "questions' postings, those in dense rows. Other work ran on the machine's other core."
)
SIZE_NOTE = (
    "Bytes a posting of a `default` index by file, everything but passages. dense_terms, common_terms, numbered_terms: "
    "how many have a row of `dense`, of `tiles` and `maxima`, of `kth`."
)


if __name__ == "__main__":
    main()
