"""Speed and accuracy of the engines of every embedded model, against the code of an earlier commit, in one run.

Writes eval/results/model-speed.json. Every row is a process of its own, and the rounds of a task's processes alternate,
so that load on the machine falls on all of them alike; the figure is the best round. `earlier` is the package as of
`--commit`, from a worktree that is removed afterwards. `ratio` is its time over the row's. Effectiveness is that of
reordering the given BM25 lists of a few DL21 topics (`--topics`) by the model alone, with the same passages for all.

MiniLM, sparse encoders and the default recipe encode passages of those lists; the two-headed model reads ten of 210
word pieces for one query; `stored` reads them from stored states, with the engine that `auto` picks. The default recipe
makes the terms of its sparse encoder and MiniLM's vectors; in the earlier code one pass of MiniLM served both.
`ms_query` is a query by itself, on average, the best of the rounds. MiniLM is measured against sentence-transformers
too, and so is a SPLADE model where `--splade` names one. thresher-mini is another model now than in the earlier code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eval.bench import Bench, Row, by_hash, options
from eval.context_rank import lists
from thresher.evaluate.measures import evaluate
from thresher.models.backend import BACKENDS, pick_backend
from thresher.models.files import embedded_path
from thresher.models.minilm import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eval.context_rank import Lists

ROOT = Path(__file__).parents[1]
READ, PIECES = 10, 208
RECIPE = "bm25+thresher-mini"
_TYPES = {"torch-int8": "int8", "torch-bf16": "bfloat16"}
TASKS = {
    "recipe": "default recipe, terms and vectors",
    "minilm": "MiniLM, vectors",
    "reader": "thresher-context, read",
    "mini": "thresher-mini, terms",
}

WORKER = """
import json, sys, time
import numpy as np
job = json.loads(sys.argv[1])
texts = json.loads(open(job["texts"]).read())
import torch
torch.set_num_threads(job["threads"])
options = {"backend": job["backend"]} if job["backend"] in job["backends"] else {}
task, timed = job["task"], texts["timed"]
score = query_alone = None
if job["backend"] == "earlier" and task in ("recipe", "mini"):
    from thresher.encode.expansion import ExpansionEncoder
    terms = ExpansionEncoder(device="cpu")
elif task == "recipe" or (task in ("mini", "splade") and job["backend"] != "sentence-transformers"):
    from thresher.encode import SparseEncoder
    given = {"texts": timed} if task == "recipe" else options
    terms = SparseEncoder.from_name(job["model"], device="cpu", **given)
if task == "reader":
    from thresher.context.model import TwoHeadedScorer
    from thresher.context.scorers import SplitPassage
    from thresher.text.sentences import split_sentences
    model = TwoHeadedScorer(device="cpu", **options)
    known = {}
    if job["backend"] == "stored":
        import tempfile
        from pathlib import Path
        from thresher.models.early import EarlyStates
        from thresher.records import Passage
        from thresher.vectors.states import StateStore, StateWriter
        maker = EarlyStates()
        whole = list(dict.fromkeys([*texts["read"], *(p for _, listed in texts["lists"] for p in listed)]))
        folder = Path(tempfile.mkdtemp(dir=Path(job["texts"]).parent)) / "states"
        with StateWriter(folder, maker.name, maker.width) as writer:
            for low in range(0, len(whole), 64):
                for windows in maker.encode([Passage("p", text) for text in whole[low : low + 64]]):
                    writer.add(windows)
        store = StateStore.open(folder)
        known = {text: (store.of(number),) for number, text in enumerate(whole)}
    split = lambda text, sentences: SplitPassage(text, sentences, "", *known.get(text, ()))
    pairs = [(texts["query"], split(text, tuple(split_sentences(text)))) for text in texts["read"]]
    run = lambda: model.score(pairs)
    timed = pairs
    score = lambda query, passages: model.relevance([(query, split(p, ())) for p in passages])
elif job["backend"] == "sentence-transformers":
    import sentence_transformers
    kind = "SentenceTransformer" if task == "minilm" else "SparseEncoder"
    model = getattr(sentence_transformers, kind)(job["model"], device="cpu", local_files_only=True)
    run = lambda: model.encode_document(timed, batch_size=32, show_progress_bar=False)
    query_alone = lambda query: model.encode_query([query], show_progress_bar=False)
    if task == "minilm":
        score = lambda query, passages: (model.encode_document(passages) @ model.encode_query([query])[0]).tolist()
elif task in ("minilm", "recipe"):
    import thresher.encode.dense as dense
    kind = getattr(dense, "MiniLMEncoder", dense.DenseEncoder)
    model = kind(device="cpu", storage="float32", **options)
    run, query_alone = lambda: model.encode_passages(timed), lambda query: model.encode_queries([query])
    score = lambda query, passages: (model.encode_passages(passages) @ model.encode_queries([query])[0]).tolist()
    if task == "recipe":
        score, query_alone = None, lambda query: (terms.encode_queries([query]), model.encode_queries([query]))
        if job["backend"] == "earlier":
            run = lambda: terms.encode_pooled(model.encode_passages(timed), timed)
        else:
            run = lambda: (terms.encode_passages(timed), model.encode_passages(timed))
else:
    run, query_alone = lambda: terms.encode_passages(timed), lambda query: terms.encode_queries([query])
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    started, worked = time.perf_counter(), time.process_time()
    found = {}
    if ask["task"] == "round":
        run()
    else:
        found["scores"] = [list(map(float, score(*one))) for one in texts["lists"]] if score else None
        found["queries"] = None
        for _ in range(job["rounds"] if query_alone else 0):
            began = time.perf_counter()
            for query, _ in texts["lists"]:
                query_alone(query)
            mean = (time.perf_counter() - began) / len(texts["lists"])
            found["queries"] = min(mean, found["queries"] or mean)
    found |= {"seconds": time.perf_counter() - started, "worked": time.process_time() - worked, "texts": len(timed)}
    status = open("/proc/self/status").read()
    found["megabytes"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps(found), flush=True)
"""
"""What a process runs, under this code and the earlier one: it waits for rounds to be asked for."""


class Job(NamedTuple):
    """What one process measures.

    Attributes:
        title: of the model, in the results.
        task: what runs.
        model: a name or a directory, as the engine takes it.
        backend: an engine, `earlier` or `sentence-transformers`.
    """

    title: str
    task: str
    model: str
    backend: str


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("model-speed", __doc__)
    parser.add_argument("--commit", default="42c2abc", help="the earlier code")
    parser.add_argument("--topics", type=int, default=10, help="DL21 topics of the effectiveness")
    parser.add_argument("--passages", type=int, default=128, help="passages of a round of encoding")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--splade", help="NAME=DIRECTORY of a SPLADE model")
    parser.add_argument("--only", nargs="+", choices=[*TASKS, "splade"], help="measure these models alone")
    given = parser.parse_args(arguments)
    bench, threads = Bench.of(given), given.threads or len(os.sched_getaffinity(0))
    found = lists("trec-dl-2021")
    found = found.only(by_hash(list(found.queries), str)[: given.topics])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, worktree(given.commit, Path(folder)) as earlier:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(asked_texts(found, given.passages)))
        models = {"recipe": RECIPE, "minilm": str(embedded_path()), "reader": "", "mini": "thresher-mini"}
        engines: dict[str, tuple[str, ...]] = dict.fromkeys(TASKS, ("earlier", *BACKENDS))
        engines["recipe"] = ("earlier", pick_backend().name)  # which takes no other
        engines["reader"] += ("stored",)
        engines["minilm"] += ("sentence-transformers",)
        named, _, directory = (given.splade or "").partition("=")
        if directory:
            models["splade"] = str(Path(directory).resolve())
            engines["splade"] = ("sentence-transformers", *BACKENDS)
        tasks = [task for task in engines if not given.only or task in given.only]
        for task in tasks:
            jobs = [Job(TASKS.get(task, named), task, models[task], name) for name in engines[task]]
            rows += measured(jobs, texts, earlier, threads, given.rounds, found)
    bench.write(
        "model-speed",
        rows,
        seed=0,
        packages=["torch", "transformers", "sentence-transformers", "numba"],
        title="Speed of models",
        note=f"{threads} threads; auto picks {pick_backend().name} here ({pick_backend().why}). earlier: the code of "
        f"{given.commit}. ratio: time of the first row of a model over the row's. nDCG@10 on {given.topics} topics.",
    )


def asked_texts(found: Lists, passages: int) -> dict[str, Any]:
    """What the processes encode and read."""
    qids = list(found.queries)
    pool = [text for qid in qids for text in found.texts[qid]]
    whole = load_tokenizer(embedded_path())
    whole.no_truncation()
    joined = " ".join(pool[: 60 * READ])
    offsets = whole.encode(joined, add_special_tokens=False).offsets
    cuts = [offsets[PIECES * i : PIECES * (i + 1)] for i in range(READ)]
    return {
        "timed": by_hash(pool, str)[:passages],
        "read": [joined[cut[0][0] : cut[-1][1]] for cut in cuts],
        "query": found.queries[qids[0]],
        "lists": [(found.queries[qid], found.texts[qid]) for qid in qids],
    }


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """The code of a commit, in a folder of its own."""
    target = folder / "earlier"
    command = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*command, "add", "--quiet", "--detach", str(target), commit], check=True)
    try:
        yield target
    finally:
        subprocess.run([*command, "remove", "--force", str(target)], check=True)


def measured(jobs: Sequence[Job], texts: Path, earlier: Path, threads: int, rounds: int, found: Lists) -> list[Row]:
    """The rows of one model: its processes side by side, one working at a time."""
    processes = []
    try:
        for job in jobs:
            code = earlier if job.backend == "earlier" else ROOT
            told = job._asdict() | {"threads": threads, "rounds": rounds}
            told |= {"texts": str(texts), "backends": list(BACKENDS)}
            process = subprocess.Popen(
                [sys.executable, "-c", WORKER, json.dumps(told)],
                env={**os.environ, "PYTHONPATH": f"{code / 'src'}{os.pathsep}{code}"},
                cwd=code,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(process)
            answer(process)
        for process in processes:
            tell(process, "round")  # kernels compile
        best: list[dict[str, Any]] = [{} for _ in jobs]
        for _ in range(rounds):
            for number, process in enumerate(processes):
                timed = tell(process, "round")
                best[number] = min(best[number] or timed, timed, key=lambda r: r["seconds"])
        judged = [tell(process, "lists") for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    first, reference = best[0]["seconds"], judged[0]["scores"]
    rows = []
    for job, one, scores in zip(jobs, best, judged, strict=True):
        row: Row = {
            "model": job.title,
            "backend": job.backend,
            "dtype": _TYPES.get(pick_backend().name if job.backend == "stored" else job.backend, "float32"),
            "threads": threads,
            "batch": one["texts"],
            "passages_per_s": round(one["texts"] / one["seconds"], 2),
            "ms": round(one["seconds"] * 1000, 1),
            "cpu_ms": round(one["worked"] * 1000, 1),
            "ratio": round(first / one["seconds"], 3),
            "ms_query": None if scores["queries"] is None else round(scores["queries"] * 1000, 2),
            "nDCG@10": effectiveness(found, scores["scores"]),
            "largest_difference": difference(reference, scores["scores"]),
            "megabytes": round(scores["megabytes"]),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line that a process writes."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit("a process ended before its work was done; its message is above")
    found: dict[str, Any] = json.loads(line)
    return found


def tell(process: subprocess.Popen[str], task: str) -> dict[str, Any]:
    """Ask a process for a round, and wait for it."""
    if process.stdin:
        process.stdin.write(json.dumps({"task": task}) + "\n")
        process.stdin.flush()
    return answer(process)


def effectiveness(found: Lists, scores: Sequence[Sequence[float]] | None) -> float | None:
    """NDCG@10 of the lists in the order of the scores."""
    if scores is None:
        return None
    run = {
        qid: dict(zip(found.docnos[qid], mine, strict=True)) for qid, mine in zip(found.queries, scores, strict=True)
    }
    return round(evaluate(run, found.qrels, "nDCG@10").mean["nDCG@10"], 4)


def difference(reference: Sequence[Sequence[float]] | None, scores: Sequence[Sequence[float]] | None) -> float | None:
    """The largest difference of a passage's score from that of the first row."""
    if reference is None or scores is None:
        return None
    return round(max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(reference, scores, strict=True)), 5)
