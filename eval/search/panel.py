"""The peers' panel: every engine on the same impacts and queries, pinned to one core, interleaved.

    peers/bin/python eval/search/panel.py --data "$THRESHER_DATA" --work /tmp/panel

Needs the environment of `requirements.txt`. Collections, indexes and finished measurements stay in `--work`, so that a
stopped panel goes on where it was; rows are written to `eval/results/search-panel.json` (and `.md`, `.svg`).

Latency is the processor time of the process for one call (`time.process_time_ns`, all threads), the least of
`--rounds` rounds for each query, then percentiles over queries. Processor time and not the clock, so that other work
on the machine does not count; engines take turns every `CHUNK` queries, so that what disturbs one disturbs all. Queries
have whole weights with a largest of exactly 32, which every engine scores exactly; recall and exactness compare exact
integer scores of the ids an engine returned with the true k best, as multisets, so that ties count for everyone.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from pathlib import Path

import numpy as np
from engines import ENGINES, fresh
from matrices import Matrix, load, save
from numba import njit

KS = (10, 100, 1000)
CHUNK = 20
LARGEST_BISECTED = 500_000  # beyond this the bisection takes minutes, and the row is left out
SEED = 20261124
QUERIES = {"real-learned": "splade", "real-20k": "splade", "real-lexical": "lexical", "synthetic-1m": "synthetic"}


@njit(cache=True)
def true_scores(indptr, docs, impacts, terms, weights, n):
    """Whole scores of all documents by definition."""
    scores = np.zeros(n, np.int64)
    for i in range(len(terms)):
        for p in range(indptr[terms[i]], indptr[terms[i] + 1]):
            scores[docs[p]] += np.int64(weights[i]) * np.int64(impacts[p])
    return scores


@njit(cache=True)
def columns_of(indptr, terms, impacts, starts, docs, out):
    """Documents and impacts by term."""
    cursors = starts.copy()
    for doc in range(len(indptr) - 1):
        for p in range(indptr[doc], indptr[doc + 1]):
            at = cursors[terms[p]]
            cursors[terms[p]] = at + 1
            docs[at], out[at] = doc, impacts[p]


class Truth:
    """Exact whole scores, from the columns of the collection."""

    def __init__(self, matrix: Matrix) -> None:
        rows = matrix.documents
        self.indptr = np.concatenate(([0], np.cumsum(np.bincount(rows.terms, minlength=matrix.terms))))
        self.docs, self.impacts = np.empty(len(rows.terms), np.uint32), np.empty(len(rows.terms), np.uint8)
        columns_of(rows.indptr, rows.terms, rows.weights, self.indptr, self.docs, self.impacts)
        self.n = len(rows)

    def scores(self, query) -> np.ndarray:
        return true_scores(self.indptr, self.docs, self.impacts, *query, self.n)


def judge(scores: np.ndarray, ids: np.ndarray, k: int) -> tuple[float, bool, bool]:
    """(recall, exact, short) of one result list."""
    wanted = min(k, int((scores > 0).sum()))
    if wanted == 0:
        return 1.0, len(ids) == 0, False
    best = np.sort(np.partition(scores, len(scores) - wanted)[len(scores) - wanted :])[::-1]
    got = np.sort(scores[np.unique(ids)])[::-1]
    common, a, b = 0, 0, 0
    while a < len(best) and b < len(got):  # size of the multiset intersection of two descending lists
        if best[a] == got[b]:
            common, a, b = common + 1, a + 1, b + 1
        elif best[a] > got[b]:
            a += 1
        else:
            b += 1
    return common / wanted, len(got) == wanted and common == wanted, len(got) < wanted


def measure(engines, queries, truth, ks, rounds: int) -> list[dict]:
    """One row for each engine setting and k."""
    rows = []
    for k in ks:
        cells = [(e, name, options) for e in engines for name, options in e.settings(k).items()]
        prepared = [[e.prepare(queries, i, k) for i in range(len(queries))] for e, _, _ in cells]
        best = np.full((len(cells), len(queries)), np.inf)
        for e, (engine, _, options) in enumerate(cells):  # warm up: compile, map, touch
            for i in range(min(5, len(queries))):
                engine.run(prepared[e][i], k, **options)
        gc.disable()
        for _ in range(rounds):
            for first in range(0, len(queries), CHUNK):
                for e, (engine, _, options) in enumerate(cells):
                    for i in range(first, min(first + CHUNK, len(queries))):
                        begin = time.process_time_ns()
                        engine.run(prepared[e][i], k, **options)
                        best[e, i] = min(best[e, i], time.process_time_ns() - begin)
        gc.enable()
        judged = np.zeros((len(cells), 3))
        for i in range(len(queries)):
            scores = truth.scores(queries.row(i))
            for e, (engine, _, options) in enumerate(cells):
                judged[e] += judge(scores, engine.ids(engine.run(prepared[e][i], k, **options)), k)
        for e, (engine, name, _) in enumerate(cells):
            p50, p95, p99 = np.percentile(best[e] / 1e6, (50, 95, 99))
            recall, exact, short = judged[e]
            rows.append({
                "engine": engine.name, "version": engine.version, "setting": name, "k": k,
                "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "mean_ms": best[e].mean() / 1e6,
                "recall": recall / len(queries), "exact_share": exact / len(queries), "short_results": int(short),
            })  # fmt: skip
            found = recall / len(queries)
            print(
                f"  {engine.name:18s} {name:28s} k={k:<5d} p50 {p50:.3f} p99 {p99:.3f} ms  recall {found:.4f}",
                flush=True,
            )
    return rows


def chosen(matrix: Matrix, work: Path, wanted: set[str]) -> list[tuple]:
    """Engines with the file that notes what building them took."""
    found = []
    for kind_of in ENGINES:
        for kind in kind_of.kinds:
            if kind == "bp order" and len(matrix.documents) > LARGEST_BISECTED:
                continue
            if not wanted or kind_of.name in wanted:
                slug = f"{kind_of.name}--{kind}".replace(" ", "-").replace("=", "")
                folder = work / "indexes" / matrix.name / slug
                found.append((kind_of(folder, kind), folder.with_name(slug + ".built.json")))
    return found


def build_all(matrix: Matrix, work: Path, wanted: set[str]) -> None:
    """Build what is not built yet; notes hold processor seconds and seconds by the clock."""
    for engine, note in chosen(matrix, work, wanted):
        if note.is_file():
            continue
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh(engine.folder)
        print(f"building {engine.name} ({engine.kind}) on {matrix.name}", flush=True)
        begin, clock = time.process_time(), time.perf_counter()
        engine.build(matrix)
        note.write_text(
            json.dumps({"build_s": time.process_time() - begin, "build_wall_s": time.perf_counter() - clock})
        )


def open_engines(matrix: Matrix, work: Path, wanted: set[str]) -> list[tuple]:
    """Opened engines with what building and opening took (processor time)."""
    build_all(matrix, work, wanted)
    ready = []
    for engine, note in chosen(matrix, work, wanted):
        begin = time.process_time()
        engine.open()
        ready.append((engine, {**json.loads(note.read_text()), "open_ms": (time.process_time() - begin) * 1e3}))
    return ready


def run_collection(matrix: Matrix, args) -> list[dict]:
    """All rows of one collection, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    queries = matrix.queries[QUERIES[matrix.name]]
    queries = queries.take(np.arange(min(args.queries, len(queries))))
    wanted = set(args.engines.split(",")) if args.engines else set()
    if not wanted:
        wanted = {kind.name for kind in ENGINES} - set(args.skip.get(matrix.name, ()))
    ready = open_engines(matrix, args.work, wanted)
    postings = int(matrix.documents.indptr[-1])
    rows = measure([engine for engine, _ in ready], queries, Truth(matrix), KS, args.rounds)
    spent = {id(engine): numbers for engine, numbers in ready}
    sizes = {(engine.name, name): engine for engine, _ in ready for name in engine.settings(10)}
    for row in rows:
        engine = sizes[row["engine"], row["setting"]]
        row |= {"bytes_per_posting": engine.bytes() / postings, **spent[id(engine)]}
    about = {
        "collection": matrix.name,
        "passages": len(matrix.documents),
        "postings": postings,
        "queries": len(queries),
    }
    return [{**about, **row} for row in rows]


def make(name: str, args) -> Matrix:
    """The collection, from `--work` or made now."""
    file = args.work / f"{name}.npz"
    if file.is_file():
        return load(file)
    if name == "synthetic-1m":
        import synthetic

        matrix = synthetic.matrix()
    else:
        import passages

        if name == "real-20k":
            matrix = passages.sample(make("real-learned", args), 20_000, name)
        elif name == "real-lexical":
            matrix = passages.real_lexical(args.data, 500)
        else:
            matrix = passages.real_learned(args.data, args.encoder, 500)
    save(matrix, file)
    return matrix


def chart(rows: list[dict]):
    """Latency against k, and recall against latency at k = 10."""
    import altair as alt

    data = [{**row, "engine and setting": f"{row['engine']}: {row['setting']}"} for row in rows]
    exact = [row for row in data if row["exact_share"] > 0.999 and "approx" not in row["setting"]]
    near = [row for row in data if row["k"] == 10 and row["recall"] > 0.8]
    panels = []
    for name in dict.fromkeys(row["collection"] for row in data):
        a = alt.Chart(
            alt.Data(values=[r for r in exact if r["collection"] == name]), title=f"{name}: exact engines"
        ).mark_line(point=True)
        a = a.encode(
            x=alt.X("k:Q", scale=alt.Scale(type="log")),
            y=alt.Y("p50_ms:Q", scale=alt.Scale(type="log"), title="median ms"),
            color="engine and setting:N",
        )
        b = alt.Chart(
            alt.Data(values=[r for r in near if r["collection"] == name]), title=f"{name}: k = 10"
        ).mark_point(filled=True)
        b = b.encode(
            x=alt.X("p50_ms:Q", scale=alt.Scale(type="log"), title="median ms"),
            y=alt.Y("recall:Q", scale=alt.Scale(zero=False)),
            color="engine and setting:N",
        )
        panels.append(a | b)
    return alt.vconcat(*panels)


def write(rows: list[dict], out: Path, command: str) -> None:
    from thresher.evaluate.results import write_results

    columns = {
        "collection": "", "engine": "", "setting": "", "k": "", "p50_ms": ".3f", "p95_ms": ".3f", "p99_ms": ".3f",
        "recall": ".4f", "exact_share": ".3f", "short_results": "", "bytes_per_posting": ".2f", "build_s": ".1f",
        "open_ms": ".1f",
    }  # fmt: skip
    packages = ("bmp", "pyterrier-pisa", "impact-index", "pyseismic-lsr", "splade-index", "scipy")
    note = (
        "Milliseconds and seconds are processor time of the process, one thread pinned to a core; "
        "see eval/search/panel.py."
    )
    write_results(
        out, rows, command=command, seed=SEED, plot=chart(rows), columns=columns, packages=packages, note=note
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("THRESHER_DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "results" / "search-panel.json")
    parser.add_argument("--collections", default="real-20k,real-learned,real-lexical,synthetic-1m")
    parser.add_argument("--engines", default="", help="names, comma-separated; all by default")
    parser.add_argument("--skip", type=json.loads, default={}, help='engines left out, {"synthetic-1m": ["seismic"]}')
    parser.add_argument("--encoder", default="lexical-neighbours", help="or the directory of a learned sparse encoder")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build-only", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for name in args.collections.split(","):
        file = args.work / f"rows-{name}.json"
        matrix = make(name, args)
        if args.build_only:
            build_all(matrix, args.work, set(args.engines.split(",")) if args.engines else set())
            continue
        if not file.is_file():
            file.write_text(json.dumps(run_collection(matrix, args)))
    for file in sorted(args.work.glob("rows-*.json")):
        rows += json.loads(file.read_text())
    if rows:
        write(rows, args.out, 'peers/bin/python eval/search/panel.py --data "$THRESHER_DATA" --work /tmp/panel')


if __name__ == "__main__":
    main()
