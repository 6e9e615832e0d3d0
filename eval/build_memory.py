"""Resident memory and speed of a build with pruning, duplicates and tiers, over passages that arrive through a pipe.

Writes eval/results/build-memory.json.

The corpus is the texts and small collections under THRESHER_DATA, repeated until there are enough: every copy has new
docnos and every fifth word replaced by a random word of the corpus, so that few passages are folded into another one.
It is generated while `thresher build -` reads it, in a process of its own, whose largest resident set is reported.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING, Any

from eval.bench import Bench, Row, options
from thresher.artifact import read_manifest
from thresher.errors import DataNotFoundError
from thresher.evaluate.collections import data_dir
from thresher.index.commit import read_commit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TEXTS = (
    "text/gcide-entries.jsonl.gz",
    "text/wordnet30-glosses.jsonl.gz",
    "text/reuters21578.jsonl.gz",
    "text/2wiki-corpus.json.gz",
    "trec-dl/msmarco-v1-mini.jsonl.gz",
    "trec-dl/msmarco-v2-mini.jsonl.gz",
    "collections/nfcorpus/corpus.jsonl.gz",
    "collections/scifact/corpus.jsonl.gz",
)
EVERY = 5
RECIPE = """
[prune]
estimator = "embedded"
keep = 0.8
similarity = 0.8
"""


def texts(root: Path) -> Iterator[str]:
    """Title and text of all passages, in the order of the files."""
    for name in TEXTS:
        with gzip.open(root / name, "rt", encoding="utf-8") as stream:
            records = json.load(stream) if name.endswith(".json.gz") else map(json.loads, stream)
            for record in records:
                text = record.get("text") or record.get("contents") or ""
                yield f"{record.get('title') or ''} {text}".strip()


def passages(root: Path, wanted: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`wanted` docnos and texts; copy 0 is as it is, later ones have every fifth word replaced."""
    draw = random.Random(seed)  # noqa: S311  (a sample, not a secret)
    words = [word for number, text in enumerate(texts(root)) if number % 20 == 0 for word in text.split()]
    done = 0
    for copy in count():
        for number, text in enumerate(texts(root)):
            if not text:
                continue
            if done == wanted:
                return
            parts = text.split()
            if copy:
                for place in range(draw.randrange(min(EVERY, len(parts))), len(parts), EVERY):
                    parts[place] = draw.choice(words)
            yield f"c{copy}-{number}", " ".join(parts)
            done += 1


def build(bench: Bench, root: Path, wanted: int) -> Row:
    """One build of `wanted` passages: its figures."""
    folder = bench.work / "build-memory"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    target = folder / f"index-{wanted}"
    arguments = ["build", "-", "--recipe", str(folder / "recipe.toml"), "--format", "jsonl", "-o", str(target)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", "from thresher.cli import main; main()", *arguments, "--overwrite", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    for docno, text in passages(root, wanted):
        process.stdin.write(json.dumps({"docno": docno, "text": text}).encode() + b"\n")
    process.stdin.close()
    if process.wait():
        raise RuntimeError(f"the build ended with {process.returncode}")
    seconds = time.perf_counter() - started
    fields: Any = read_manifest(target).fields
    counts = read_manifest(target / read_commit(target).segments[0].folder / "pruning").fields["counts"]
    stages = {stage["stage"]: stage["seconds"] for stage in fields["usage"]}
    return {
        "passages": wanted,
        "not_folded": counts["passages"] - counts["duplicate"],
        "junk": counts["junk"],
        "first_tier": counts["tier_1"],
        "second_tier": counts["tier_2"],
        "peak_resident_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "seconds": seconds,
        "passages_per_second": wanted / seconds,
        **{f"{name}_seconds": taken for name, taken in stages.items()},
    }


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("build-memory", __doc__)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000, 1_000_000], help="ascending")
    given = parser.parse_args(arguments)
    bench, root = Bench.of(given), data_dir()
    if root is None:
        raise DataNotFoundError("THRESHER_DATA names no folder; set it to the folder of the collections")
    rows = []
    for wanted in given.passages:
        rows.append(build(bench, root, wanted))
        print(json.dumps(rows[-1]), flush=True)
    bench.write(
        "build-memory", rows, seed=0, packages=["rensa"], title="Memory of a build with pruning, duplicates and tiers",
        note="Seconds include the time that the generator of passages takes, in a process of its own.",
    )  # fmt: skip
