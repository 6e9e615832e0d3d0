"""Kill -9 at random moments of adding, merging and syncing: what the index is afterwards.

Each round takes an index, starts one write in a process of its own, and kills it at a random moment of the time that
the same write took before. Then: the index opens, and holds the last commit or the new one, compared passage by passage
with what each must hold; `verify` finds every file whole; the same write, repeated, finishes and gives the new commit;
and nothing is in the directory or beside it that the commit does not name.

    python -m eval living-kills --kills 200
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from eval.bench import Bench, Row, options
from eval.forker import Forker, Job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thresher.records import Passage

SEED = 61
WORDS = [f"word{i}" for i in range(300)]
PASSAGES, SEGMENTS, WRITTEN = 6_000, 4, 1_500
OPERATIONS = ("add", "merge", "sync")
LATEST = 1.5
"""Kills come until this many times what the write took, since it takes longer at times."""
Contents = dict[str, str]
"""Text by docno."""


def passages(first: int, after: int, version: int = 0) -> Iterator[Passage]:
    """Passages number first to after - 1, in a version of their text."""
    from thresher.records import Passage

    for number in range(first, after):
        rng = random.Random(f"{number} {version}")  # noqa: S311
        text = " ".join(rng.choices(WORDS, k=rng.randint(10, 40)))
        yield Passage(
            f"d{number}", f"{text} version{version}", metadata={"version": version, "group": f"g{number % 7}"}
        )


@cache
def added() -> tuple[Passage, ...]:
    """The passages that `add` adds."""
    return tuple(passages(PASSAGES, PASSAGES + WRITTEN))


@cache
def synced() -> tuple[Passage, ...]:
    """The corpus that `sync` brings the index to: some gone, some changed, some new."""
    return (*passages(500, 4_000), *passages(4_000, 5_000, 1), *passages(5_000, PASSAGES + 500))


def make(path: Path) -> None:
    """The index that every round starts from."""
    from thresher.build.recipe import Recipe
    from thresher.build.stream import build_index
    from thresher.build.writer import IndexWriter

    step = PASSAGES // SEGMENTS
    build_index(path, list(passages(0, step)), Recipe())
    for part in range(1, SEGMENTS):
        with IndexWriter.open(path, merge=False) as writer:
            writer.add(list(passages(part * step, (part + 1) * step)))


def contents(path: Path) -> Contents:
    """Text by docno, of every passage that a query finds; the version in the text and in the metadata must agree."""
    from thresher.search import Index

    with Index.open(path) as index:
        found = index.search({**dict.fromkeys(WORDS, 1.0), "version0": 1.0, "version1": 1.0}, len(index) + 10)
        held = {hit.docno: hit.text for hit in found}
        if len(held) != len(index) or any(not h.text.endswith(f"version{h.metadata['version']}") for h in found):
            raise RuntimeError(f"{path} says that it has {len(index)} passages, and a search finds {len(held)}")
        return held


def warm_up() -> None:
    """Load what the jobs use, kernels included."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        make_small(path)
        operate(path, "merge")
    for make_ready in (added, synced):  # before children are forked
        make_ready()


def make_small(path: Path) -> None:
    """An index of two small segments."""
    from thresher.build.recipe import Recipe
    from thresher.build.stream import build_index
    from thresher.build.writer import IndexWriter

    build_index(path, list(passages(0, 50)), Recipe())
    with IndexWriter.open(path, merge=False) as writer:
        writer.add(list(passages(50, 100)))
        writer.delete(docnos=["d3"])


def operate(path: Path, operation: str) -> float:
    """One write of a round; the seconds it took."""
    from thresher.build.writer import IndexWriter

    clock = time.perf_counter()
    with IndexWriter.open(path, merge=False) as writer:
        if operation == "add":
            writer.add(added(), replace=True)
        elif operation == "sync":
            writer.sync(synced())
        else:
            writer.merge(all=True)
    return time.perf_counter() - clock


def expected(operation: str) -> Contents:
    """What the index holds after the write."""
    if operation == "sync":
        return {one.docno: one.text for one in synced()}
    return {one.docno: one.text for one in passages(0, PASSAGES + (WRITTEN if operation == "add" else 0))}


def leftovers(path: Path) -> list[str]:
    """What is in an index, or beside it, that its last commit does not name; nobody may be reading or writing it."""
    from thresher.index.commit import read_commit

    commit = read_commit(path)
    named = {"manifest.json", f"commits/{commit.number}.json", *commit.files}
    segments = tuple(f"segments/{one.name}/" for one in commit.segments)
    files = [str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()]
    found = [name for name in files if name not in named and not name.startswith(segments)]
    return found + [one.name for one in path.parent.iterdir() if one.name.startswith(f".{path.name}.")]


def killed(job: Job, seconds: float) -> bool:
    """Kill a job after some time; whether it still ran."""
    time.sleep(seconds)
    job.kill()
    outcome = job.wait()
    if outcome.error:
        raise RuntimeError(outcome.trace)
    return outcome.status != 0


class Rounds:
    """The rounds, one after another."""

    def __init__(self, bench: Bench, forker: Forker) -> None:
        self.forker, self.source = forker, bench.work / "kills" / "source"
        self.path = bench.work / "kills" / "index"
        shutil.rmtree(self.source.parent, ignore_errors=True)
        self.source.parent.mkdir(parents=True)
        self._done("make", self.source)
        self.last = contents(self.source)
        self.new = {operation: expected(operation) for operation in OPERATIONS}
        self.took = {operation: self._whole(operation) for operation in OPERATIONS}

    def _done(self, function: str, *arguments: object) -> Any:
        outcome = self.forker.run(f"eval.living_kills:{function}", *arguments)
        if outcome.error or outcome.status:
            raise RuntimeError(outcome.trace or f"{function} ended with {outcome.status}")
        return outcome.value

    def _whole(self, operation: str) -> float:
        """Seconds of a write that nothing kills."""
        self._fresh()
        seconds = float(self._done("operate", self.path, operation))
        if contents(self.path) != self.new[operation]:
            raise RuntimeError(f"{operation} does not give what it must")
        return seconds

    def _fresh(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.source, self.path)

    def one(self, operation: str, share: float) -> Row:
        """Kill a write after a share of the time it takes; what came of it."""
        from thresher.artifact import verify

        self._fresh()
        files_before = sum(1 for _ in self.path.rglob("*"))
        ran = killed(self.forker.start("eval.living_kills:operate", self.path, operation), share * self.took[operation])
        row: Row = {"operation": operation, "share": share, "killed": ran, "left": 0, "opens": "", "failed": ""}
        try:
            row["left"] = sum(1 for _ in self.path.rglob("*")) - files_before
            held = contents(self.path)
            row["opens"] = self._commit_of(held, operation)
            verify(self.path)
            self._done("operate", self.path, operation)
            if contents(self.path) != self.new[operation]:
                row["failed"] = "the repeated write does not give the new commit"
            verify(self.path)
            if left := leftovers(self.path):
                row["failed"] = f"left over after the next write: {', '.join(left[:3])}"
        except Exception as err:  # whatever goes wrong is what this is to find
            row["failed"] = f"{type(err).__name__}: {err}"
        return row

    def _commit_of(self, held: Contents, operation: str) -> str:
        from thresher.index.commit import read_commit

        number, before = read_commit(self.path).number, read_commit(self.source).number
        if number == before and held == self.last:
            return "last"
        if number > before and held == self.new[operation]:
            return "new"
        raise RuntimeError(f"commit {number} (after {before}) holds {len(held)} passages, not those of a commit")


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("living-kills", __doc__)
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rng = random.Random(SEED)  # noqa: S311
    details: list[Row] = []
    with Forker("eval.living_kills:warm_up") as forker:
        rounds = Rounds(bench, forker)
        print({name: f"{seconds:.2f} s" for name, seconds in rounds.took.items()}, flush=True)
        while sum(row["killed"] for row in details) < given.kills:
            operation = OPERATIONS[len(details) % len(OPERATIONS)]
            details.append(rounds.one(operation, rng.random() * LATEST))
            if details[-1]["failed"]:
                print(details[-1], flush=True)
    rows = [counted(operation, details, rounds.took[operation]) for operation in OPERATIONS]
    print(*rows, sep="\n")
    bench.write(
        "living-kills",
        rows,
        seed=SEED,
        columns=dict.fromkeys(rows[0], "") | {"seconds": ".2f"},
        note=NOTE,
        details=details,
    )


def counted(operation: str, details: Sequence[Row], seconds: float) -> Row:
    """The rounds of an operation in one row."""
    rows = [row for row in details if row["operation"] == operation]
    ended = Counter(row["opens"] for row in rows if row["killed"])
    return {
        "operation": operation, "seconds": seconds, "kills": sum(row["killed"] for row in rows),
        "ended_before": sum(not row["killed"] for row in rows),
        "last_commit": ended["last"], "new_commit": ended["new"],
        "with_leftovers": sum(row["killed"] and row["left"] > 0 for row in rows),
        "failures": sum(bool(row["failed"]) for row in rows),
    }  # fmt: skip


NOTE = (
    f"An index of {PASSAGES:,} passages in {SEGMENTS} segments; add: {WRITTEN:,} passages more; merge: all segments to "
    "one; sync: 500 passages gone, 1,000 changed, 500 new. seconds: of the write when nothing kills it. last_commit, "
    "new_commit: which of the two a killed write left, by content. with_leftovers: kills that left files, which the "
    "next write removed. failures: rounds in which the index did not open, did not verify, held anything else, whose "
    "repeated write did not finish, or left files after it."
)
