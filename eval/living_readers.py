"""Readers at full speed while a writer commits: errors, mixtures of two commits, open descriptors, bytes on disk.

Commit c of the writer replaces some passages, adds one and deletes one; what it holds is a function of c (`state`). A
passage's text, its metadata and its weight of a term all say with which commit it was written. A reader checks that the
four belong together in every hit, and that the hits of an answer are the passages of one commit, none missing. Some
readers follow the commits, some are opened once and stay at theirs, some are opened anew again and again.

    python -m eval living-readers --commits 500 --readers 8
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, Row, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.records import Passage, SparseBatch

KINDS = ("follow", "refresh", "open", "fixed")
WINDOW = 60
"""Passages of a commit."""
REPLACED = 5
TERMS = ["all", "commit", "most"]
"""Terms of the vocabulary: in every passage with weight 1, in every one with the weight that its commit gives, and one
that gives the first build the largest weight."""
MOST = 255.0


def written(number: int, commit: int) -> int:
    """The commit before or at `commit` that wrote passage `number` last; commit 1 is the first build."""
    first = max(1, number - WINDOW + 2)  # passage WINDOW is added by commit 2
    for at in range(commit, first, -1):
        if number in replaced(at):
            return at
    return first


def live(commit: int) -> range:
    """Numbers of the passages of a commit."""
    return range(commit - 1, commit - 1 + WINDOW)


def replaced(commit: int) -> list[int]:
    """Numbers of the passages that a commit replaces: they were there before, and stay."""
    there = range(commit - 1, commit - 2 + WINDOW)
    return [there[(commit * 7 + i * 11) % len(there)] for i in range(REPLACED)]


def weight(commit: int) -> float:
    """The weight of the term `commit` in a passage that this commit wrote: a whole number."""
    return float(1 + commit * 37 % 200)


def descriptors() -> int:
    """Open descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def passage(number: int, commit: int) -> Passage:
    """A passage as a commit wrote it."""
    from thresher.records import Passage

    return Passage(f"d{number}", f"passage {number} of commit {commit}", metadata={"commit": commit})


def batch(commits: Sequence[int]) -> SparseBatch:
    """Weighted terms of passages that these commits wrote."""
    from thresher.records import SparseBatch

    n = len(commits)
    weights = np.array([x for commit in commits for x in (1.0, weight(commit))], np.float32)
    return SparseBatch(np.arange(n + 1) * 2, np.tile(np.array([0, 1], np.uint32), n), weights)


@lru_cache
def state(commit: int) -> dict[str, int]:
    """What a commit holds: docno to the commit that wrote it."""
    return {f"d{number}": written(number, commit) for number in live(commit)}


def build(path: Path) -> None:
    """Commit 1."""
    from thresher.build.recipe import Recipe
    from thresher.build.stream import build_index

    file = path.with_suffix(".jsonl")
    rows = [{"all": 1.0, "commit": weight(1)} for _ in live(1)]
    rows[0]["most"] = MOST  # so that every impact is the weight itself
    passages = [passage(number, 1) for number in live(1)]
    lines = [{"id": p.docno, "contents": p.text, "vector": row} for p, row in zip(passages, rows, strict=True)]
    file.write_text("\n".join(map(json.dumps, lines)))
    build_index(path, passages, Recipe(), encoded=file, overwrite=True)


def write(path: Path, commits: int) -> Row:
    """Commits 2 to `commits`, as fast as they go; what they took."""
    from thresher.build.writer import IndexWriter

    size = most = segments = 0
    seconds = []
    merged = 0
    with IndexWriter.open(path) as writer:
        for commit in range(2, commits + 1):
            clock = time.perf_counter()
            changed = sorted(set(replaced(commit)))
            writer.replace([passage(n, commit) for n in changed], encoded=batch([commit] * len(changed)))
            writer.add([passage(commit - 2 + WINDOW, commit)], encoded=batch([commit]))
            writer.delete(docnos=[f"d{commit - 2}"])
            report = writer.commit()
            merged += report.merged
            seconds.append(time.perf_counter() - clock)
            if commit % 10 == 0:
                files = [file for file in path.rglob("*") if file.is_file()]
                size = sum(one.stat().st_size for one in files if one.exists())
                most, segments = max(most, size), max(segments, sum(1 for _ in (path / "segments").iterdir()))
    return {
        "kind": "writer", "commits": commits, "merged": merged, "commit_p50_ms": float(np.median(seconds)) * 1e3,
        "commit_p99_ms": float(np.percentile(seconds, 99)) * 1e3, "seconds": float(np.sum(seconds)),
        "most_bytes": most, "most_segments": segments, "descriptors": descriptors(),
    }  # fmt: skip


class Reader:
    """One reader of a kind: asks, checks and counts until it is told to stop."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.answers = self.mixtures = self.errors = self.descriptors = 0
        self.commits: set[int] = set()
        self.first = ""
        self.index: Any = None

    def run(self, stop: Path) -> Row:
        """Until the file `stop` is there."""
        self.ask()
        print("ready", flush=True)
        clock = time.perf_counter()
        while not stop.exists():
            try:
                self.ask()
            except Exception as err:  # any error is one too many
                self.errors += 1
                self.first = self.first or f"{type(err).__name__}: {err}"
                self.index = None
                if self.errors > 100:
                    break
            self.descriptors = max(self.descriptors, descriptors())
        return {
            "kind": self.kind, "answers": self.answers, "commits": len(self.commits), "errors": self.errors,
            "mixtures": self.mixtures, "descriptors": self.descriptors, "seconds": time.perf_counter() - clock,
            "first_problem": self.first,
        }  # fmt: skip

    def ask(self) -> None:
        """Open or refresh as this kind does, search, and check the answer."""
        from thresher.search import Index

        if self.index is None or self.kind == "open":
            if self.index is not None:
                self.index.close()
            self.index = Index.open(self.path, follow=self.kind == "follow")
        elif self.kind == "refresh":
            self.index.refresh()
        query = {"commit": 1.0} if self.answers % 2 else {"all": 1.0}
        found = self.index.search(query, WINDOW + 40)
        self.answers += 1
        problem = self.check(list(found), "commit" in query)
        if problem:
            self.mixtures += 1
            self.first = self.first or problem

    def check(self, hits: Sequence[Any], weighted: bool) -> str:
        """What is wrong with an answer, "" where nothing is."""
        held: dict[str, int] = {}
        for hit in hits:
            commit = int(hit.metadata["commit"])
            score = weight(commit) if weighted else 1.0
            if hit.text != f"passage {hit.docno[1:]} of commit {commit}" or hit.score != score:
                return (
                    f"{hit.docno}: {hit.text!r} with metadata {dict(hit.metadata)} and score {hit.score}, not {score}"
                )
            held[hit.docno] = commit
        newest = max(held.values(), default=0)
        self.commits.add(newest)
        wanted = state(newest) if newest else {}
        if held != wanted:
            wrong = sorted(set(held.items()) ^ set(wanted.items()))
            return f"{len(hits)} hits are not those of commit {newest}: {wrong[:4]}"
        return ""


def main(arguments: Sequence[str]) -> None:
    """Measure and write; with `--reader`, be one of the readers."""
    parser = options("living-readers", __doc__)
    parser.add_argument("--commits", type=int, default=500)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--reader", nargs=3, metavar=("KIND", "INDEX", "STOP"), help="for its own use")
    given = parser.parse_args(arguments)
    if given.reader:
        kind, path, stop = given.reader
        print(json.dumps(Reader(Path(path), kind).run(Path(stop))))
        return
    bench = Bench.of(given)
    path, stop = bench.work / "readers" / "index", bench.work / "readers" / "stop"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    build(path)
    bytes_at_first = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    Reader(path, "fixed").ask()  # compiles the kernels, where they are not yet
    kinds = [KINDS[i % len(KINDS)] for i in range(given.readers)]
    command = [sys.executable, "-m", "eval", "living-readers", "--reader"]
    readers = [subprocess.Popen([*command, kind, path, stop], stdout=subprocess.PIPE, text=True) for kind in kinds]
    for reader in readers:
        assert reader.stdout is not None
        reader.stdout.readline()  # it has answered a query
    try:
        rows = [{**write(path, given.commits), "first_bytes": bytes_at_first}]
    finally:
        stop.touch()
        told = [reader.communicate(timeout=120)[0] for reader in readers]
    rows += [json.loads(one.splitlines()[-1]) for one in told]
    print(*rows, sep="\n")
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {name: {"commit_p50_ms": ".1f", "commit_p99_ms": ".1f", "seconds": ".1f"}.get(name, "") for name in names}
    bench.write("living-readers", rows, columns=columns, note=NOTE)


NOTE = (
    f"{WINDOW} passages a commit; each commit replaces {REPLACED}, adds one and deletes one. follow: `Index.open(..., "
    "follow=True)`; refresh: `index.refresh()` before each query; open: opened for each query; fixed: opened once. "
    "answers: queries whose every hit (docno, text, metadata, score) was checked. commits: how many a reader saw. "
    "mixtures: answers that are not those of one commit. descriptors: the most that were open in the process. "
    "most_bytes, most_segments: the most that the index's directory held, read every ten commits."
)
