"""What it costs that an index lives: segments, deletes and filters in a search; a commit; a merge. And other engines.

All searches of a size are asked in turns, in one process, by one thread: a query of each index, then the next query. A
query's time is the least of the rounds by the clock, p50 and p99 are over queries. Filters that are `known` were asked
before, so that the index has their mask; `new` ones differ with each query, and are asked once. Results are checked:
eight segments give what one gives, to the last bit, and every engine finds the passages that the definition finds.

    python -m eval living --passages 1000000 --peers /path/to/peers/bin/python
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, Row, options
from eval.living_data import EXTRA, QUERIES, SEED, Data, Filter, filters_of, linked, where_of
from eval.living_peers import PEERS
from eval.search.truth import Truth, best_scores, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.search import Index

SEGMENTS = 8
KS = (10, 100, 1000)
ROUNDS = 3
COMMITS = 7
SHARES = (0.5, 0.1, 0.01, 0)
ASKED = {1_000_000: 15}
"""Queries that the peers are asked, by size; otherwise `ASKED_SMALL`."""
ASKED_SMALL = 25
JUDGED = 10
"""Queries whose answers are judged."""


def prepare(data: Data) -> dict[str, Path]:
    """The indexes of a size: of one segment, of eight, of one with 10 % deleted; built where they are missing."""
    from thresher.build.writer import IndexWriter

    folder = data.work / f"living-{data.passages}"
    paths = {name: folder / name for name in ("one", "eight", "deleted")}
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder)
        folder.mkdir()
        data.build(paths["one"], data.passages)
        step = data.passages // SEGMENTS
        data.build(paths["eight"], step)
        with IndexWriter.open(paths["eight"], merge=False) as writer:
            for first in range(step, data.passages, step):
                writer.add(data.stored(first, first + step), encoded=data.batch(first, first + step))
                writer.commit()
        gone = np.random.default_rng(3).choice(data.passages, data.passages // 10, replace=False)
        linked(paths["one"], paths["deleted"])
        with IndexWriter.open(paths["deleted"], merge=False) as writer:
            writer.delete(docnos=[str(number) for number in gone.tolist()])
        done.touch()
    return paths


def timed(index: Index, query: Any, k: int, given: Filter) -> tuple[float, Any]:
    """Milliseconds of a search, and the ranking."""
    where = where_of(given)
    if where is None:
        clock = time.perf_counter()
        found = index.search(query, k)
    else:
        clock = time.perf_counter()
        found = index.search(query, k, where=where)
    return (time.perf_counter() - clock) * 1e3, found


def searching(data: Data, indexes: dict[str, Index], k: int) -> list[Row]:
    """Every index, and every filter over one segment, in turns."""
    queries = data.queries
    cases: dict[tuple[str, float, str], list[Filter]] = {
        (name, 1.0, ""): filters_of(1, len(queries), known=True) for name in indexes
    }
    for share in SHARES:
        for kind in ("known", "new") if share else ("known",):
            cases["one", share, kind] = filters_of(share, len(queries), known=kind == "known")
    spent = {case: np.full(len(queries), np.inf) for case in cases}
    for round_ in range(ROUNDS + 1):
        for i, query in enumerate(queries):
            for case, given in cases.items():
                if case[2] == "new" and round_ != 1:
                    continue  # asked once: afterwards it is known
                took, _ = timed(indexes[case[0]], query, k, given[i])
                if round_:
                    spent[case][i] = min(spent[case][i], took)
    base = float(np.median(spent["one", 1.0, ""]))
    rows = []
    for (name, share, kind), times in spent.items():
        rows.append({
            "engine": "thresher", "what": "search", "passages": data.passages,
            "segments": SEGMENTS if name == "eight" else 1, "deleted_share": 0.1 if name == "deleted" else 0.0,
            "filter_share": share or 3 / data.passages, "filter": kind, "k": k,
            "p50_ms": float(np.median(times)), "p99_ms": float(np.percentile(times, 99)),
            "ratio": float(np.median(times)) / base,
        })  # fmt: skip
    return rows


def check(data: Data, indexes: dict[str, Index]) -> None:
    """Refuse to measure what is wrong."""
    for query in data.queries[:20]:
        for k in KS:
            one, eight = (indexes[name].search(query, k) for name in ("one", "eight"))
            if one.docnos != eight.docnos or list(one.scores) != list(eight.scores):
                raise RuntimeError(f"eight segments do not give what one gives, at k = {k}")


def commits(data: Data, path: Path) -> list[Row]:
    """A commit of 1,000 encoded passages, opening the writer included; and what a search sees of it."""
    from thresher.build.writer import IndexWriter
    from thresher.search import Index

    target = linked(path, path.with_name("committed"))
    passages, batch = (
        list(data.stored(data.passages, data.passages + EXTRA)),
        data.batch(data.passages, data.passages + EXTRA),
    )
    spent = []
    for turn in range(COMMITS + 1):
        clock = time.perf_counter()
        with IndexWriter.open(target) as writer:
            writer.add([_renamed(one, turn) for one in passages], encoded=batch)
        if turn:
            spent.append(time.perf_counter() - clock)
    with Index.open(target) as index:
        if len(index) != data.passages + (COMMITS + 1) * EXTRA:
            raise RuntimeError(f"{len(index)} passages after the commits")
    shutil.rmtree(target)
    return [_once(data, "commit of 1,000", 1, spent, 1.0)]


def _renamed(passage: Any, turn: int) -> Any:
    from thresher.records import Passage

    return Passage(f"{passage.docno}-{turn}", passage.text, metadata=passage.metadata)


def _once(data: Data, what: str, segments: int, seconds: Sequence[float], against: float) -> Row:
    """A row of something that takes seconds; `ratio` to `against` seconds."""
    return {
        "engine": "thresher", "what": what, "passages": data.passages, "segments": segments, "deleted_share": 0.0,
        "filter_share": 1.0, "filter": "", "k": None, "p50_ms": float(np.median(seconds)) * 1e3,
        "p99_ms": float(np.max(seconds)) * 1e3, "ratio": float(np.median(seconds)) / against,
    }  # fmt: skip


def merging(data: Data, paths: dict[str, Path]) -> list[Row]:
    """All segments to one, beside the index step of a fresh build, which is made anew."""
    from thresher.build.writer import IndexWriter
    from thresher.search import Index

    build, store = data.build(paths["one"].with_name("again"), data.passages)
    shutil.rmtree(paths["one"].with_name("again"))
    target = linked(paths["eight"], paths["eight"].with_name("merged"))
    clock = time.perf_counter()
    with IndexWriter.open(target) as writer:
        writer.merge(all=True)
    merge = time.perf_counter() - clock
    with Index.open(target) as merged, Index.open(paths["one"]) as one:
        for query in data.queries[:20]:
            found, wanted = merged.search(query, 1000), one.search(query, 1000)
            if found.docnos != wanted.docnos or list(found.scores) != list(wanted.scores):
                raise RuntimeError("merged segments do not give what one gives")
    shutil.rmtree(target)
    return [
        _once(data, "index step of a build", 1, [build], build),
        _once(data, "store and index steps of a build", 1, [store + build], build),
        _once(data, "merge to one segment", SEGMENTS, [merge], build),
    ]


class Peer:
    """An engine in its own process, with the collection loaded."""

    def __init__(self, name: str, python: Path, data: Data) -> None:
        self.name = name
        folder = data.work / f"peer-{name}-{data.passages}"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [python, "-m", "eval.living_peers", name, folder, data.peers()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **threads, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        self.version = str(self._told()["version"])

    def _told(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise ChildProcessError(f"{self.name} ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, query: int, given: Filter, k: int) -> dict[str, Any]:
        """Its answer to a query."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"query": query, "filter": given, "k": k}) + "\n")
        self.process.stdin.flush()
        return self._told()

    def close(self) -> None:
        """End it; what it stored is kept in the work directory."""
        self.process.communicate(timeout=300)


def comparing(data: Data, index: Index, peer: Peer, truth: Truth, k: int) -> Iterable[Row]:
    """A peer at each share of a filter, beside thresher: both are judged by the definition, then timed in turns."""
    count, n = ASKED.get(data.passages, ASKED_SMALL), data.passages
    scores = [truth.scores(query) for query in data.queries[:JUDGED]]
    for share in (1.0, *SHARES):
        for kind in ("",) if share == 1 else ("known", "new") if share else ("known",):
            filters = filters_of(share, count * (ROUNDS + 1), known=kind != "new")
            exact = [judged(data, index, peer, filters[i], i, scores[i], k) for i in range(len(scores))]
            ours, theirs = np.full(count, np.inf), np.full(count, np.inf)
            for turn in range(ROUNDS):
                for i in range(count):
                    given = filters[count * (turn + 1) + i]  # of the new ones, none that was asked before
                    ours[i] = min(ours[i], timed(index, data.queries[i], k, given)[0])
                    theirs[i] = min(theirs[i], peer.ask(i, given, k)["ms"])
            mine, other = float(np.median(ours)), float(np.median(theirs))
            yield {
                "engine": peer.name, "what": "search", "passages": n, "segments": 1, "deleted_share": 0.0,
                "filter_share": share or 3 / n, "filter": kind, "k": k,
                "p50_ms": other, "p99_ms": float(np.percentile(theirs, 99)), "ratio": other / mine,
                "thresher_p50_ms": mine, "exact": float(np.mean(exact)), "version": peer.version,
            }  # fmt: skip


def judged(
    data: Data, index: Index, peer: Peer, given: Filter, query: int, scores: NDArray[np.float64], k: int
) -> bool:
    """Whether the peer's answer holds the k best by definition; thresher's must."""
    if isinstance(given, str):
        scores = np.where(np.isin(np.arange(data.passages), data.three), scores, 0.0)
    elif given is not None:
        bucket = data.bucket[: data.passages]
        scores = np.where((bucket >= given[0]) & (bucket < given[1]), scores, 0.0)
    best = best_scores(scores, k)
    _, found = timed(index, data.queries[query], k, given)
    if not judge(scores, best, np.array(found.docnos, np.int64))[1]:
        raise RuntimeError(f"thresher is not exact with {given}")
    told = peer.ask(query, given, k)
    ids = [number for number, score in zip(told["ids"], told["scores"], strict=True) if score > 0]
    return judge(scores, best, np.array(ids, np.int64))[1]


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("living", __doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--peers", type=Path, help="the Python that has the other engines; without it there are none")
    parser.add_argument("--peer-sizes", default="100000:" + ",".join(PEERS) + ";1000000:qdrant-edge,zvec")
    parser.add_argument("--build", action="store_true", help="build the indexes and stop")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    sizes = _sizes(given.peer_sizes) if given.peers else {}
    data = Data(bench.work, given.passages)
    every = {n: data if n == data.passages else Data(bench.work, n) for n in (data.passages, *sizes)}
    paths = {n: prepare(one) for n, one in every.items()}
    if given.build:
        return
    rows = ours(data, paths[data.passages])
    for n, names in sizes.items():
        rows += others(every[n], paths[n]["one"], names, given.peers)
    columns = {
        "engine": "", "what": "", "passages": "", "segments": "", "deleted_share": "", "filter_share": ".6g",
        "filter": "", "k": "", "p50_ms": ".3f", "p99_ms": ".3f", "ratio": ".2f",
        "thresher_p50_ms": ".3f", "exact": "",
    }  # fmt: skip
    columns = {name: columns[name] for name in columns if any(name in row for row in rows)}
    bench.write("living", rows, seed=SEED, columns=columns, note=NOTE)


def _sizes(text: str) -> dict[int, list[str]]:
    pairs = (part.partition(":")[::2] for part in text.split(";") if part)
    return {int(size): names.split(",") for size, names in pairs}


def ours(data: Data, paths: dict[str, Path]) -> list[Row]:
    """The rows of thresher alone."""
    from thresher.search import Index

    indexes = {name: Index.open(path) for name, path in paths.items()}
    check(data, indexes)
    rows = [row for k in KS for row in searching(data, indexes, k)]
    for index in indexes.values():
        index.close()
    print(*rows, sep="\n", flush=True)
    more = commits(data, paths["one"]) + merging(data, paths)
    print(*more, sep="\n", flush=True)
    return rows + more


def others(data: Data, path: Path, names: Sequence[str], python: Path) -> list[Row]:
    """The rows of the peers of a size."""
    from thresher.search import Index

    matrix = data.matrix
    held = type(matrix)(matrix.name, matrix.terms, matrix.documents.take(np.arange(data.passages)), {})
    truth, rows = Truth(held), []
    for name in names:
        try:
            peer = Peer(name, python, data)
        except ChildProcessError as err:
            print(err, flush=True)
            continue
        with Index.open(path) as index:
            for row in comparing(data, index, peer, truth, 10):
                rows.append(row)
                print(row, flush=True)
        peer.close()
    return rows


NOTE = (
    f"{QUERIES} synthetic float queries of about 43 terms; passages as `search-growth`'s, with a field `bucket` (0 to "
    "999) and a field `tag`. filter: `known`, asked before; `new`, another one for each query; the smallest share is "
    "three passages. ratio: p50 to that of one segment, unfiltered, at the same k; of `merge to one segment` to the "
    "index step of a build (a merge stores passages as well); of another engine to thresher's p50 (thresher_p50_ms) on "
    "the same queries and filters in turns. p50_ms of a commit or merge: the median, and p99_ms the longest. exact: "
    f"share of answers with the best k, of {JUDGED}."
)
