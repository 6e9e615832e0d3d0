"""Sharded search: the same ranking as one index for any number of shards, what it costs, and what a stalled shard does.

Two indexes: synthetic passages with weighted terms (as `living`), and texts of random words by BM25 in two tiers with
folded duplicates; both with metadata and deletes. Random queries of one to eight terms, with and without filters,
lists of docnos, tiers and several k, are asked of the index and of its shards, and answers are compared to the last
bit. Times are by the clock, of single queries one after another. Finished parts are kept in the work directory. It
takes about half an hour on two quiet cores.

    python -m eval sharded-search --work sharded-search
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, Row, options
from eval.living_data import Data
from eval.search import synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thresher.distributed.sharded import ShardedIndex
    from thresher.search import Index

SEED = 19
SHARDS = (1, 2, 3, 7, 16)
KS = (1, 10, 100)
WORDS = 3000
DELETED = 0.1
STALLED, DEADLINE = 100, 100.0
"""Queries that are asked with one shard stopped, and their deadline in milliseconds."""
COLUMNS = (
    "collection", "transport", "shards", "plan", "queries", "differing", "one_p50_ms", "one_p99_ms", "p50_ms",
    "p99_ms", "scored", "scored_alone", "hedged", "within_deadline", "marked",
)  # fmt: skip


def build_words(path: Path, passages: int) -> None:
    """Texts of random words by BM25, in two tiers, with metadata; a tenth is deleted."""
    from thresher.build.recipe import EncodeStep, Recipe
    from thresher.build.stream import build_index
    from thresher.prune import PruneStep
    from thresher.records import Passage
    from thresher.search import Index

    rng = np.random.default_rng(SEED)
    chances = 1 / np.arange(1, WORDS + 1)
    chances /= chances.sum()
    texts = [" ".join(f"w{w}" for w in rng.choice(WORDS, rng.integers(5, 60), p=chances)) for _ in range(passages)]
    texts[::50] = texts[1::50][: len(texts[::50])]  # duplicates, which are folded
    given = (
        Passage(str(n), text, metadata={"bucket": int(rng.integers(1000)), "tag": "three" if n % 333 == 0 else "other"})
        for n, text in enumerate(texts)
    )
    recipe = Recipe(encode=EncodeStep(encoder="bm25"), prune=PruneStep(estimator="length", keep=0.7, junk=False))
    build_index(path, given, recipe)
    _delete(path, rng, passages)
    Index.open(path).close()


def build_weights(path: Path, work: Path, passages: int) -> None:
    """Synthetic passages with weighted terms; a tenth is deleted."""
    Data(work, passages).build(path, passages)
    _delete(path, np.random.default_rng(SEED), passages)


def _delete(path: Path, rng: np.random.Generator, passages: int) -> None:
    from thresher.search import Index

    with Index.open(path) as index, index.writer(merge=False) as writer:
        writer.delete(docnos=[str(n) for n in np.flatnonzero(rng.random(passages) < DELETED)])


def random_queries(count: int, collection: str, passages: int) -> list[tuple[Any, dict[str, Any]]]:
    """Queries, and the other arguments of each search."""
    rng = np.random.default_rng(SEED + 1)
    found: list[tuple[Any, dict[str, Any]]] = []
    for number in range(count):
        size = int(rng.integers(1, 9))
        if collection == "words":
            query: Any = " ".join(f"w{int(w)}" for w in rng.zipf(1.3, size) % (WORDS + 50))
        else:
            ids = rng.choice(synthetic.TERMS, size, replace=False)
            query = (ids.astype(np.int64), rng.gamma(2.0, 0.5, size).astype(np.float32))
        arguments: dict[str, Any] = {"k": int(rng.choice(KS))}
        kind = number % 5
        if kind == 1:
            low = int(rng.integers(900))
            arguments["where"] = {"bucket": {"gte": low, "lt": low + int(rng.choice([3, 100]))}}
        elif kind == 2:
            arguments["where"] = "tag = three"
        elif kind == 3:
            arguments["allow"] = [str(n) for n in rng.integers(0, passages, 50)]
        elif kind == 4:
            arguments["tiers"] = str(rng.choice(["both", "first"]))
        found.append((query, arguments))
    return found


@contextmanager
def opened(transport: str, file: Path) -> Iterator[ShardedIndex]:
    """A sharded index that is reached in one of the ways."""
    from thresher.distributed.shard_file import read_shard_file
    from thresher.distributed.sharded import ShardedIndex

    if transport != "http":
        with ShardedIndex.open(file, run=transport) as index:  # type: ignore[arg-type]
            yield index
        return
    folders = [replicas[0] for replicas in read_shard_file(file)]
    servers = [_served(folder) for folder in folders]
    try:
        urls = [_address(one) for one in servers]
        with ShardedIndex.open(urls) as index:
            yield index
    finally:
        for one in servers:
            one.kill()
            one.wait()


def _address(server: subprocess.Popen[str]) -> str:
    """Where a server listens, once it does."""
    for line in server.stdout or ():
        if line.startswith("listening"):
            return line.split()[-1]
    raise OSError(f"{server.args!r} did not start")


def _served(folder: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "thresher", "serve", folder, "--shard", "--port", "0", "--no-access-log"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def compare(one: Index, sharded: ShardedIndex, queries: Sequence[tuple[Any, dict[str, Any]]]) -> Row:
    """Ask both every query; how many answers differ, and the times."""
    mine: list[float] = []
    theirs: list[float] = []
    differing = 0
    for query, arguments in queries[:20]:  # kernels, encoders and statistics are loaded
        one.search(query, **arguments), sharded.search(query, **arguments)
    for query, arguments in queries:
        began = time.perf_counter()
        expected = one.search(query, **arguments)
        middle = time.perf_counter()
        found = sharded.search(query, **arguments)
        theirs.append(time.perf_counter() - middle)
        mine.append(middle - began)
        same = expected.docnos == found.docnos and expected.scores.tobytes() == found.scores.tobytes()
        differing += not (same and expected.tiers.tolist() == found.tiers.tolist() and found.complete)
    return {
        "queries": len(queries),
        "differing": differing,
        "one_p50_ms": _ms(mine, 50),
        "one_p99_ms": _ms(mine, 99),
        "p50_ms": _ms(theirs, 50),
        "p99_ms": _ms(theirs, 99),
    }


def _ms(seconds: Sequence[float], quantile: float) -> float:
    return round(float(np.percentile(seconds, quantile)) * 1000, 4)


def scored(file: Path, queries: Sequence[tuple[Any, dict[str, Any]]], plan: str) -> Row:
    """The share of the postings of all shards' lists that is scored, with shared thresholds and without."""
    from thresher.distributed.sharded import ShardedIndex

    shares = []
    with ShardedIndex.open(file) as together, ShardedIndex.open(file, share=False) as alone:
        totals = [0, 0, 0]
        for query, arguments in queries:
            told = [
                index.search(query, plan=plan, explain=True, tiers="first", k=arguments["k"]).explanations
                for index in (together, alone)
            ]
            totals[0] += sum(one.scored for one in told[0])
            totals[1] += sum(one.scored for one in told[1])
            totals[2] += sum(one.postings for one in told[1])
        shares = [round(total / max(totals[2], 1), 4) for total in totals[:2]]
    return {"plan": plan, "queries": len(queries), "scored": shares[0], "scored_alone": shares[1]}


def stalled(file: Path, queries: Sequence[tuple[Any, dict[str, Any]]]) -> Row:
    """One process of three stopped: how many answers come by the deadline, and are marked."""
    from thresher.distributed.replicas import ProcessReplica
    from thresher.distributed.sharded import ShardedIndex

    within = marked = 0
    times = []
    with ShardedIndex.open(file, run="processes", on_missing="partial") as index:
        for query, arguments in queries:
            index.search(query, **arguments)
        (replica,) = index.shards[0].replicas
        if not isinstance(replica, ProcessReplica) or replica.process.pid is None:
            raise TypeError(f"{replica} is not a process")
        os.kill(replica.process.pid, signal.SIGSTOP)
        for query, arguments in queries:
            began = time.perf_counter()
            found = index.search(query, deadline_ms=DEADLINE, **arguments)
            times.append(time.perf_counter() - began)
            within += times[-1] * 1000 <= DEADLINE * 1.1
            marked += found.complete or replica.name in found.missing_shards
    return {
        "queries": len(queries), "within_deadline": within, "marked": marked, "p50_ms": _ms(times, 50),
        "p99_ms": _ms(times, 99),
    }  # fmt: skip


def hedged(file: Path, queries: Sequence[tuple[Any, dict[str, Any]]], *, hedge: bool) -> Row:
    """Three shards of two replicas each, one of which is stopped for 50 ms before every fortieth query."""
    from thresher.distributed.replicas import ProcessReplica
    from thresher.distributed.shard_file import read_shard_file
    from thresher.distributed.sharded import ShardedIndex

    listed = [[folder, str(linked)] for (folder,) in read_shard_file(file) for linked in [_linked(folder)]]
    times = []
    with ShardedIndex.open(listed, run="processes", hedge=hedge) as index:
        for query, arguments in queries:
            index.search(query, **arguments)
        replica = index.shards[0].replicas[0]
        if not isinstance(replica, ProcessReplica) or replica.process.pid is None:
            raise TypeError(f"{replica} is not a process")
        for number, (query, arguments) in enumerate(queries):
            if number % 40 == 0:
                os.kill(replica.process.pid, signal.SIGSTOP)
                subprocess.Popen(["sh", "-c", f"sleep .05; kill -CONT {replica.process.pid}"])
            began = time.perf_counter()
            index.search(query, **arguments)
            times.append(time.perf_counter() - began)
        total = sum(one.hedged for one in index.shards)
    return {"queries": len(queries), "hedged": total, "p50_ms": _ms(times, 50), "p99_ms": _ms(times, 99)}


def _linked(folder: str) -> Path:
    from pathlib import Path

    target = Path(folder + "-replica")
    if not target.is_dir():
        shutil.copytree(folder, target, copy_function=os.link)
    return target


def measured(bench: Bench, collection: str, paths: dict[int, Path], path: Path, count: int, passages: int) -> list[Row]:
    """The rows of one collection; each part is kept."""
    from thresher.search import Index

    queries = random_queries(count, collection, passages)
    few = queries[: max(count // 5, 1)]
    rows: list[Row] = []

    def part(transport: str, shards: int, name: str, make: Any) -> None:
        kept = bench.kept(f"sharded-search-{collection}-{transport}-{shards}-{name}-{count}-{passages}", make)
        rows.append({"collection": collection, "transport": transport, "shards": shards, **kept["row"]})

    def compared(transport: str, shards: int, asked: Sequence[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
        with Index.open(path) as one, opened(transport, paths[shards]) as sharded:
            return {"row": compare(one, sharded, asked)}

    for shards in paths:
        part("threads", shards, "same", lambda s=shards: compared("threads", s, queries))
        part("processes", shards, "same", lambda s=shards: compared("processes", s, few))
    part("http", 3, "same", lambda: compared("http", 3, few))
    for plan in ("auto", "block-max"):
        for shards in paths:
            part("threads", shards, f"scored-{plan}", lambda s=shards, p=plan: {"row": scored(paths[s], few[:500], p)})
    part("processes", 3, "stalled", lambda: {"row": stalled(paths[3], queries[:STALLED])})
    for hedge in (False, True):
        part("processes", 3, f"hedge-{hedge}", lambda h=hedge: {"row": hedged(paths[3], few[:1000], hedge=h)})
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    from thresher.distributed.splitting import split_index

    parser = options("sharded-search", __doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--passages", type=int, default=20_000, help="of each collection")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows: list[Row] = []
    for collection in ("words", "weights"):
        folder = bench.work / f"sharded-{collection}-{given.passages}"
        path, done = folder / "one", folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            if collection == "words":
                build_words(path, given.passages)
            else:
                build_weights(path, bench.work, given.passages)
            for shards in SHARDS:
                split_index(path, folder / f"shards-{shards}", shards)
            done.touch()
        paths = {shards: folder / f"shards-{shards}" / "shards.toml" for shards in SHARDS}
        rows += measured(bench, collection, paths, path, given.queries, given.passages)
    bench.write("sharded-search", rows, seed=SEED, columns=COLUMNS, note=NOTE)


NOTE = (
    "differing: rankings that are not those of one index to the last bit, of so many random queries. one_p50_ms and "
    "one_p99_ms: the whole index in the same process; p50_ms and p99_ms: its shards. scored and scored_alone: share of "
    "the postings in all shards' lists that is scored with shared thresholds and without. within_deadline: answers by "
    "1.1 times the deadline of 100 ms with one of three processes stopped; marked: answers that say so. hedged: "
    "requests sent again, where one of two replicas of a shard is stopped for 50 ms before every fortieth query."
)
