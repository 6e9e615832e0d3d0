"""Builds in shards: whether what is killed is lost, and what a second worker brings.

Passages are the glosses and entries of THRESHER_DATA/text. Each recipe is built in one process, and then by local
workers, by processes on a shared folder of which some are killed at random moments (SIGKILL), and on a Ray cluster of
three nodes of which one is removed at three random moments and another one added; `identical` says whether all files of
all segments are those of the first build. For the throughput, one worker of one thread and two workers of one thread
each encode the same passages, in turns, and the best of the rounds counts.

    python -m eval distributed-build --work WORK --passages 20000 --encoded 4000
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
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from thresher.build.recipe import Recipe, load_recipe
from thresher.distributed.building import build_shards
from thresher.distributed.executors import LocalExecutor
from thresher.errors import DataNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thresher.distributed.executors import Executor
    from thresher.records import Usage

SEED = 19
SHARDS = 12
KILLS = 5
NODES, LOSSES = 3, 3
ROUNDS = 3
PRUNE = {"prune": {"keep": 0.7}}
COLUMNS = ("executor", "recipe", "workers", "threads", "passages", "seconds", "passages_per_s", "kills", "identical")


def main(arguments: Sequence[str] = ()) -> None:
    """Run it; see the module's docstring."""
    parser = options("distributed-build", __doc__)
    parser.add_argument("--passages", type=int, default=20_000, help="passages of the builds that are killed")
    parser.add_argument("--encoded", type=int, default=4_000, help="passages of the builds with models")
    given = parser.parse_args(arguments)
    bench, rows = Bench.of(given), list[Row]()
    recipes = {"bm25": load_recipe("bm25"), "bm25, pruned": Recipe.model_validate(PRUNE)}
    models = {"default": load_recipe("default"), "default, pruned": load_recipe("default").model_copy(
        update={"prune": Recipe.model_validate(PRUNE).prune})}  # fmt: skip
    for count, chosen in ((given.passages, recipes), (given.encoded, models)):
        corpus = _corpus(bench.work, count)
        for name, recipe in chosen.items():
            rows += bench.kept(f"kills-{name.replace(', ', '-')}-{count}", lambda: _kills(bench, corpus, name, recipe))  # noqa: B023
    rows += bench.kept(f"throughput-{given.encoded}", lambda: _throughput(bench, _corpus(bench.work, given.encoded)))
    bench.write(
        "distributed-build", rows, seed=SEED, columns=COLUMNS, packages=("ray", "numpy", "torch"),
        title="Builds in shards: who does the work, and what is lost when it is killed",
        note="`identical`: every file of every segment is that of the build by one local worker. Seconds of killed "
        "builds include what was done again.",
    )  # fmt: skip


def _kills(bench: Bench, corpus: Path, name: str, recipe: Recipe) -> list[Row]:
    """Rows of a recipe: by local workers, on a folder and on Ray, both with kills."""
    work = bench.work / "builds"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    rows: list[Row] = []
    wanted: dict[str, str] = {}

    def row(executor: str, workers: int, threads: int, seconds: float, kills: int, index: Path) -> None:
        files = _files(index)
        wanted.update({} if wanted else files)
        count = sum(1 for _ in corpus.open("rb"))
        rows.append({
            "executor": executor, "recipe": name, "workers": workers, "threads": threads, "passages": count,
            "seconds": round(seconds, 1), "passages_per_s": round(count / seconds, 1), "kills": kills,
            "identical": files == wanted,
        })  # fmt: skip
        print(rows[-1], flush=True)

    for workers in (1, 2):
        with LocalExecutor(workers, threads=1) as executor:
            seconds, _ = _timed(work / f"local-{workers}", corpus, recipe, executor)
        row("local", workers, 1, seconds, 0, work / f"local-{workers}")
    started = time.perf_counter()
    _on_folder(work, corpus, recipe)
    row("folder", KILLS, 1, time.perf_counter() - started, KILLS, work / "folder")
    if find_spec("ray") is not None:
        with _losing_nodes() as (cluster, lost):
            seconds, _ = _timed(work / "ray", corpus, recipe, cluster)
        row("ray", NODES, 1, seconds, len(lost), work / "ray")
    shutil.rmtree(work)
    return rows


def _on_folder(work: Path, corpus: Path, recipe: Recipe) -> None:
    """Five processes on a folder; as many times one of them is killed and another one started."""
    script = (
        "import sys; from thresher.build.recipe import Recipe; from thresher.distributed.building import build_shards;"
        "from thresher.distributed.shared_folder import FolderExecutor;"
        "build_shards(sys.argv[1], sys.argv[2], Recipe.model_validate_json(sys.argv[4]), shards=int(sys.argv[5]),"
        " executor=FolderExecutor(sys.argv[3], lease=5.0))"
    )
    places = [str(work / "folder"), str(corpus), str(work / "shared")]
    command = [sys.executable, "-c", script, *places, recipe.model_dump_json(exclude_defaults=True), str(SHARDS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    chosen = random.Random(SEED)  # noqa: S311
    running = [subprocess.Popen(command, env=environment) for _ in range(KILLS)]
    for _ in range(KILLS):
        time.sleep(chosen.uniform(3, 15))
        victim = running.pop(chosen.randrange(len(running)))
        victim.kill()
        victim.wait()
        running.append(subprocess.Popen(command, env=environment))
    for process in running:
        if process.wait():
            raise RuntimeError(f"a process on the folder ended with {process.returncode}")


@contextmanager
def _losing_nodes() -> Iterator[tuple[Executor, list[float]]]:
    """An executor of a cluster of three nodes that loses one at three random moments; and when it did."""
    import ray
    from ray.cluster_utils import Cluster

    from thresher.distributed.ray_cluster import RayExecutor

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    over, lost, chosen = threading.Event(), list[float](), random.Random(SEED)  # noqa: S311

    def lose() -> None:
        for _ in range(LOSSES):
            if over.wait(chosen.uniform(4, 12)):
                return
            cluster.remove_node(chosen.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_id)))
            lost.append(time.perf_counter())
            cluster.add_node(num_cpus=1)

    losing = threading.Thread(target=lose, daemon=True)
    losing.start()
    try:
        yield RayExecutor(), lost
    finally:
        over.set()
        losing.join()
        ray.shutdown()
        cluster.shutdown()


def _throughput(bench: Bench, corpus: Path) -> list[Row]:
    """Passages a second that are encoded by one and by two workers of one thread."""
    recipe, count = load_recipe("thresher-mini"), sum(1 for _ in corpus.open("rb"))
    few, best = _corpus(bench.work, 20 * SHARDS), {1: float("inf"), 2: float("inf")}
    for number in range(2 * ROUNDS):
        workers, target = 1 + number % 2, bench.work / "throughput"
        with LocalExecutor(workers, threads=1) as executor:
            for source in (few, corpus):  # the first lets every worker load the model
                shutil.rmtree(target, ignore_errors=True)
                _, usage = _timed(target, source, recipe, executor)
        best[workers] = min(best[workers], _seconds(usage, "encode"))
        shutil.rmtree(target)
    return [
        {
            "executor": "local", "recipe": "thresher-mini, encoding alone", "workers": workers, "threads": 1,
            "passages": count, "seconds": round(seconds, 2), "passages_per_s": round(count / seconds, 1), "kills": 0,
            "identical": True,
        }
        for workers, seconds in best.items()
    ]  # fmt: skip


def _timed(target: Path, corpus: Path, recipe: Recipe, executor: Executor) -> tuple[float, Usage]:
    started = time.perf_counter()
    report = build_shards(target, corpus, recipe, shards=SHARDS, executor=executor, device="cpu")
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
