"""Speed and accuracy of the engines of every embedded model, against the code of an earlier commit, in one run.

Writes eval/results/model-speed.json. Every row is a process of its own, and the rounds of a task's processes alternate,
so that load on the machine falls on all of them alike; the figure is the best round. `earlier` is the package as of
`--commit`, from a worktree that is removed afterwards. `ratio` is its time over the row's. Effectiveness is that of
reordering the given BM25 lists of a few DL21 topics (`--topics`) by the model alone, with the same passages for all.

MiniLM and sparse encoders encode passages of those lists; the two-headed model reads ten of 210 word pieces for one
query; `stored` reads them from stored states, with the engine that `auto` picks. A SPLADE model is measured against
sentence-transformers where `--splade` names one. thresher-mini is another model now than in the earlier code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
_TYPES = {"torch-int8": "int8", "torch-bf16": "bfloat16"}
TASKS = {"minilm": "MiniLM, vectors", "reader": "thresher-context, read", "mini": "thresher-mini, terms"}

WORKER = """
import json, sys, time
import numpy as np
job = json.loads(sys.argv[1])
texts = json.loads(open(job["texts"]).read())
import torch
torch.set_num_threads(job["threads"])
options = {"backend": job["backend"]} if job["backend"] in job["backends"] else {}
task, timed = job["task"], texts["timed"]
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
elif task == "minilm":
    import thresher.encode.dense as dense
    kind = getattr(dense, "MiniLMEncoder", dense.DenseEncoder)
    model = kind(device="cpu", storage="float32", **options)
    run = lambda: model.encode_passages(timed)
    score = lambda query, passages: (model.encode_passages(passages) @ model.encode_queries([query])[0]).tolist()
elif job["backend"] == "sentence-transformers":
    from sentence_transformers import SparseEncoder
    model = SparseEncoder(job["model"], device="cpu", local_files_only=True)
    run = lambda: model.encode_document(timed, batch_size=32, show_progress_bar=False)
    score = None
elif job["backend"] == "earlier":
    from thresher.encode.expansion import ExpansionEncoder
    model = ExpansionEncoder(device="cpu")
    run = lambda: model.encode_passages(timed)
    score = None
else:
    from thresher.encode import SparseEncoder
    model = SparseEncoder.from_name(job["model"], device="cpu", **options)
    run = lambda: model.encode_passages(timed)
    score = None
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    started, worked = time.perf_counter(), time.process_time()
    found = {}
    if ask["task"] == "round":
        run()
    else:
        found["scores"] = [list(map(float, score(*one))) for one in texts["lists"]] if score else None
        found["queries"] = 0.0
        if task == "minilm":
            began = time.perf_counter()
            for query, _ in texts["lists"]:
                model.encode_queries([query])
            found["queries"] = (time.perf_counter() - began) / len(texts["lists"])
    found |= {"seconds": time.perf_counter() - started, "worked": time.process_time() - worked, "texts": len(timed)}
    status = open("/proc/self/status").read()
    found["megabytes"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps(found), flush=True)
"""
"""What a process runs, under this code and the earlier one: it waits for rounds to be asked for."""


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("model-speed", __doc__)
    parser.add_argument("--commit", default="42c2abc", help="the earlier code")
    parser.add_argument("--topics", type=int, default=10, help="DL21 topics of the effectiveness")
    parser.add_argument("--passages", type=int, default=128, help="passages of a round of encoding")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--splade", type=Path, help="directory of a SPLADE model")
    parser.add_argument("--only", nargs="+", choices=[*TASKS, "splade"], help="measure these models alone")
    given = parser.parse_args(arguments)
    bench, threads = Bench.of(given), given.threads or len(os.sched_getaffinity(0))
    found = lists("trec-dl-2021")
    found = found.only(by_hash(list(found.queries), str)[: given.topics])
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, worktree(given.commit, Path(folder)) as earlier:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(asked_texts(found, given.passages)))
        jobs = [
            (task, "", name)
            for task in TASKS
            for name in ("earlier", *BACKENDS, *(["stored"] if task == "reader" else []))
        ]
        if given.splade:
            jobs += [("splade", str(given.splade.resolve()), name) for name in ("sentence-transformers", *BACKENDS)]
        jobs = [job for job in jobs if not given.only or job[0] in given.only]
        for task in dict.fromkeys(task for task, _, _ in jobs):
            mine = [job for job in jobs if job[0] == task]
            rows += measured(mine, texts, earlier, threads, given.rounds, found)
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


def measured(
    jobs: Sequence[tuple[str, str, str]], texts: Path, earlier: Path, threads: int, rounds: int, found: Lists
) -> list[Row]:
    """The rows of one model: its processes side by side, one working at a time."""
    processes = []
    try:
        for task, model, name in jobs:
            code = earlier if name == "earlier" else ROOT
            job = {"task": task, "model": model or "thresher-mini", "backend": name, "threads": threads}
            job |= {"texts": str(texts), "backends": list(BACKENDS)}
            process = subprocess.Popen(
                [sys.executable, "-c", WORKER, json.dumps(job)],
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
                one = tell(process, "round")
                best[number] = min(best[number] or one, one, key=lambda r: r["seconds"])
        judged = [tell(process, "lists") for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    first, reference = best[0]["seconds"], judged[0]["scores"]
    rows = []
    for (task, model, name), one, scores in zip(jobs, best, judged, strict=True):
        row: Row = {
            "model": TASKS.get(task, Path(model).name),
            "backend": name,
            "dtype": _TYPES.get(pick_backend().name if name == "stored" else name, "float32"),
            "threads": threads,
            "batch": one["texts"],
            "passages_per_s": round(one["texts"] / one["seconds"], 2),
            "ms": round(one["seconds"] * 1000, 1),
            "cpu_ms": round(one["worked"] * 1000, 1),
            "ratio": round(first / one["seconds"], 3),
            "ms_query": round(scores["queries"] * 1000, 2),
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
