"""Builds in shards: whether what is killed is lost, and what a second worker brings.

Passages are the glosses and entries of THRESHER_DATA/text. Each recipe is built in one process, and then by local
workers, by processes on a shared folder of which some are killed at random moments (SIGKILL), and on a Ray cluster of
three nodes of which one is removed at three random moments and another one added; `other_files` counts the files of
segments that are not those of the first build, and `differing` how many queries a build in one piece answers otherwise.
For the throughput, one worker of one thread and two workers of one thread each encode the same passages, in turns: the
best of the rounds counts, and the median ratio of the pairs. What two processes of one thread can do at most on this
machine is said by matrix products: those of two processes at once against those of one alone.

    python -m eval distributed-build --work WORK
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Literal

from eval.bench import Bench, Row, options
from thresher.build.recipe import Recipe, load_recipe
from thresher.build.stream import build_index
from thresher.distributed.building import build_shards, plan_shards
from thresher.distributed.executors import LocalExecutor
from thresher.distributed.task import RESULTS, UNFINISHED
from thresher.errors import DataNotFoundError
from thresher.search import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from thresher.distributed.executors import Executor
    from thresher.distributed.task import Task
    from thresher.records import Usage

SEED = 19
SHARDS, PORTIONS = 12, 48
"""Of the builds that are killed, and of the throughput: with few of them one worker waits for the other at the end."""
KILLS = 5
NODES, LOSSES = 3, 3
ROUNDS = 5
QUERIES = 100
WAYS: tuple[Literal["sparse", "dense"], ...] = ("sparse", "dense")
PRUNE = {"prune": {"keep": 0.7}}
COLUMNS = (
    "executor", "recipe", "workers", "threads", "passages", "seconds", "passages_per_s", "cpu_seconds", "ratio",
    "kills", "interrupted", "files", "other_files", "queries", "differing",
)  # fmt: skip


def main(arguments: Sequence[str] = ()) -> None:
    """Run it; see the module's docstring."""
    parser = options("distributed-build", __doc__)
    parser.add_argument("--passages", type=int, default=10_000, help="passages of the builds that are killed")
    parser.add_argument("--encoded", type=int, default=600, help="passages of the builds with models")
    parser.add_argument("--timed", type=int, default=1_200, help="passages whose encoding is timed")
    given = parser.parse_args(arguments)
    bench, rows = Bench.of(given), list[Row]()
    recipes = {"bm25": load_recipe("bm25"), "bm25, pruned": Recipe.model_validate(PRUNE)}
    models = {"default": load_recipe("default"), "default, pruned": load_recipe("default").model_copy(
        update={"prune": Recipe.model_validate(PRUNE).prune})}  # fmt: skip
    for count, chosen in ((given.passages, recipes), (given.encoded, models)):
        corpus = _corpus(bench.work, count)
        for name, recipe in chosen.items():
            rows += bench.kept(f"kills-{name.replace(', ', '-')}-{count}", lambda: _kills(bench, corpus, name, recipe))  # noqa: B023
    key = f"throughput-{given.timed}"
    rows += bench.kept(key, lambda: _throughput(bench, _corpus(bench.work, given.timed)))
    bench.write(
        "distributed-build", rows, seed=SEED, columns=COLUMNS, packages=("ray", "numpy", "torch"),
        title="Builds in shards: who does the work, and what is lost when it is killed",
        note="interrupted: tasks that a killed process was at, or that a lost node had started. other_files: of the "
        "segments' files, those that are not byte for byte those of the build by one local worker. differing: of so "
        "many queries, those that the build in one piece answers otherwise (docnos and scores to the last bit, by "
        "terms and by vectors). Seconds of killed builds include what was done again. cpu_seconds: of the workers in "
        "the fastest round. ratio: one worker's time over that of two, the median of "
        f"{ROUNDS} pairs of rounds.",
    )  # fmt: skip


def _kills(bench: Bench, corpus: Path, name: str, recipe: Recipe) -> list[Row]:
    """Rows of a recipe: by local workers, on a folder and on Ray, both with kills."""
    work = bench.work / "builds"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    rows: list[Row] = []
    wanted: dict[str, str] = {}
    count, ways = sum(1 for _ in corpus.open("rb")), WAYS[: 1 if recipe.vectors is None else 2]
    build_index(work / "one", corpus, recipe, device="cpu")

    def row(executor: str, workers: int, seconds: float, index: Path, kills: int = 0, interrupted: int = 0) -> None:
        files = _files(index)
        wanted.update({} if wanted else files)
        rows.append({
            "part": "kills", "executor": executor, "recipe": name, "workers": workers, "threads": 1, "passages": count,
            "seconds": round(seconds, 1), "passages_per_s": round(count / seconds, 1), "kills": kills,
            "interrupted": interrupted, "files": len(wanted),
            "other_files": len(dict(files.items() ^ wanted.items())), "queries": QUERIES,
            "differing": _differing(corpus, work / "one", index, ways),
        })  # fmt: skip
        print(rows[-1], flush=True)

    for workers in (1, 2):
        with LocalExecutor(workers, threads=1) as executor:
            seconds, _ = _timed(work / f"local-{workers}", corpus, recipe, executor)
        row("local", workers, seconds, work / f"local-{workers}")
    started = time.perf_counter()
    killed, interrupted = _on_folder(work, corpus, recipe)
    row("folder", KILLS, time.perf_counter() - started, work / "folder", killed, interrupted)
    if find_spec("ray") is not None:
        started = time.perf_counter()
        lost, interrupted = _on_ray(work, corpus, recipe)
        row("ray", NODES, time.perf_counter() - started, work / "ray", lost, interrupted)
    shutil.rmtree(work)
    return rows


def _on_folder(work: Path, corpus: Path, recipe: Recipe) -> tuple[int, int]:
    """Five processes on a folder; as many times one of them is killed and another one started.

    Returns:
        How many were killed, and how many tasks they were at.
    """
    script = (
        "import sys; from thresher.build.recipe import Recipe; from thresher.distributed.building import build_shards;"
        "from thresher.distributed.shared_folder import FolderExecutor;"
        "build_shards(sys.argv[1], sys.argv[2], Recipe.model_validate_json(sys.argv[4]), shards=int(sys.argv[5]),"
        " executor=FolderExecutor(sys.argv[3], lease=5.0), device='cpu')"
    )
    shared = work / "shared"
    places = [str(work / "folder"), str(corpus), str(shared)]
    command = [sys.executable, "-c", script, *places, recipe.model_dump_json(exclude_defaults=True), str(SHARDS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    chosen = random.Random(SEED)  # noqa: S311
    running = [subprocess.Popen(command, env=environment) for _ in range(KILLS)]
    killed = 0

    def ended() -> bool:
        return all(process.poll() is not None for process in running)

    for _ in _moments(corpus, recipe, shared, KILLS, chosen, ended):
        victim = running.pop(chosen.randrange(len(running)))
        killed += victim.poll() is None
        victim.kill()
        victim.wait()
        running.append(subprocess.Popen(command, env=environment))
    for process in running:
        if process.wait():
            raise RuntimeError(f"a process on the folder ended with {process.returncode}")
    return killed, sum(1 for _ in (shared / UNFINISHED).iterdir())  # a killed task leaves what it had made


def _on_ray(work: Path, corpus: Path, recipe: Recipe) -> tuple[int, int]:
    """A cluster of three nodes, which loses one at three random moments and gets another one.

    Returns:
        How many nodes were lost, and how many tasks were run more than once.
    """
    import ray
    from ray.cluster_utils import Cluster

    from thresher.distributed.ray_cluster import RayExecutor

    size = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    for _ in range(NODES - 1):
        cluster.add_node(**size)
    ray.init(address=cluster.address, log_to_driver=False)
    chosen, lost, notes = random.Random(SEED), 0, work / "started"  # noqa: S311
    notes.mkdir()
    try:
        with ThreadPoolExecutor(1) as thread:  # Ray starts nodes in the main thread only
            built = thread.submit(_timed, work / "ray", corpus, recipe, _Noted(RayExecutor(), notes))
            for _ in _moments(corpus, recipe, work / ".ray.shards", LOSSES, chosen, built.done):
                nodes = sorted(cluster.worker_nodes, key=lambda node: str(node.node_id))
                cluster.remove_node(chosen.choice(nodes))
                lost += 1
                cluster.add_node(wait=False, **size)
            built.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
    started = [file.name.partition(".")[0] for file in notes.iterdir()]
    return lost, len(started) - len(set(started))


@dataclass(frozen=True)
class _Noted:
    """An executor that notes every start of a task in a folder."""

    executor: Executor
    notes: Path

    def map(self, function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
        """As `Executor.map`."""
        notes = self.notes

        def noted(task: Task) -> None:
            (notes / f"{task.name}.{uuid.uuid4().hex}").touch()
            function(task)

        yield from self.executor.map(noted, tasks)


def _moments(
    corpus: Path, recipe: Recipe, work: Path, count: int, chosen: random.Random, ended: Callable[[], bool]
) -> Iterator[None]:
    """Random moments of a build that is running: up to half a second after random numbers of tasks are done."""
    tasks = sum(number for _, number in plan_shards("index", corpus, recipe, shards=SHARDS).stages)
    for after in sorted(chosen.sample(range(tasks * 3 // 4), count)):
        while not ended() and sum(1 for _ in (work / RESULTS).glob("*")) < after:
            time.sleep(0.05)
        time.sleep(chosen.uniform(0, 0.5))
        if ended():
            raise RuntimeError(f"the build ended before {count} were killed; take more passages")
        yield


def _differing(corpus: Path, one: Path, many: Path, ways: Sequence[Literal["sparse", "dense"]]) -> int:
    """Queries, the first words of random passages, that a build in one piece answers otherwise."""
    chosen = random.Random(SEED)  # noqa: S311
    lines = corpus.read_text(encoding="utf-8").splitlines()
    queries = [" ".join(json.loads(line)["text"].split()[:8]) for line in chosen.choices(lines, k=QUERIES)]
    with Index.open(one) as first, Index.open(many) as second:
        return sum(
            any(
                found.docnos != wanted.docnos or found.scores.tobytes() != wanted.scores.tobytes()
                for by in ways
                for wanted, found in [(first.search(query, 20, by=by), second.search(query, 20, by=by))]
            )
            for query in queries
        )


def _throughput(bench: Bench, corpus: Path) -> list[Row]:
    """Passages a second that are encoded by one and by two workers of one thread, and the ratio in pairs of rounds."""
    recipe, count = load_recipe("thresher-mini"), sum(1 for _ in corpus.open("rb"))
    few, target = _corpus(bench.work, 4 * PORTIONS), bench.work / "throughput"
    walls: dict[int, list[float]] = {1: [], 2: []}
    cpus: dict[int, list[float]] = {1: [], 2: []}
    alone = [_products(1) / _products(2) for _ in range(ROUNDS)]
    for number in range(2 * ROUNDS):
        workers = 1 + number % 2
        with LocalExecutor(workers, threads=1) as executor:
            for source in (few, corpus):  # the first lets every worker load the model
                shutil.rmtree(target, ignore_errors=True)
                before = _cpu_seconds()
                _, usage = _timed(target, source, recipe, executor, PORTIONS)
            cpus[workers].append(_cpu_seconds() - before)
        walls[workers].append(_seconds(usage, "encode"))
        shutil.rmtree(target)
    ratios = [one / two for one, two in zip(walls[1], walls[2], strict=True)]
    print(walls, cpus, ratios, flush=True)
    return [
        {
            "part": "throughput", "executor": "local", "recipe": "thresher-mini, encoding alone", "workers": workers,
            "threads": 1, "passages": count, "seconds": round(min(walls[workers]), 2),
            "passages_per_s": round(count / min(walls[workers]), 1), "kills": 0,
            "cpu_seconds": round(min(cpus[workers]), 2), "ratio": round(median(ratios), 3) if workers == 2 else None,
        }
        for workers in (1, 2)
    ] + [{
        "part": "throughput", "executor": "none", "recipe": "matrix products of two processes", "workers": 2,
        "threads": 1, "ratio": round(2 * median(alone), 3),
    }]  # fmt: skip


def _products(processes: int) -> float:
    """Seconds that a process of one thread takes for matrix products, while so many do the same at once."""
    script = (
        "import sys, time, numpy as np; a = np.random.default_rng(0).random((512, 512), dtype=np.float32);"
        "sys.stdin.read(1); started = time.perf_counter();"
        "[a @ a for _ in range(1000)]; print(time.perf_counter() - started)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    time.sleep(1)
    for process in running:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    return max(float(process.communicate()[0]) for process in running)


def _cpu_seconds() -> float:
    """CPU time of this process's children so far, from /proc; 0 where there is none."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[1]) == os.getpid() else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _timed(target: Path, corpus: Path, recipe: Recipe, executor: Executor, shards: int = SHARDS) -> tuple[float, Usage]:
    started = time.perf_counter()
    report = build_shards(target, corpus, recipe, shards=shards, executor=executor, device="cpu")
    return time.perf_counter() - started, report.usage


def _seconds(usage: Usage, stage: str) -> float:
    return sum(one.seconds for one in usage.stages if one.stage == stage)


def _files(index: Path) -> dict[str, str]:
    """The sha256 of every file of every segment."""
    folder = index / "segments"
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _corpus(work: Path, count: int) -> Path:
    """So many passages of the plain texts, as JSON lines; those of all files in turns."""
    target = work / f"texts-{count}.jsonl"
    if target.is_file():
        return target
    data = os.environ.get("THRESHER_DATA", "")
    files = sorted(Path(data, "text").glob("*.jsonl.gz")) if data else []
    if not files:
        raise DataNotFoundError("the texts are in THRESHER_DATA/text; set the variable THRESHER_DATA")
    lines: list[str] = []
    for number, file in enumerate(files):
        wanted = count // len(files) + (number < count % len(files))
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            for row, line in zip(range(wanted), stream, strict=False):
                record = json.loads(line)
                text = next(str(record[name]) for name in ("text", "contents", "body") if name in record)
                lines.append(json.dumps({"docno": f"{file.name.partition('.')[0]}-{row}", "text": text}))
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
