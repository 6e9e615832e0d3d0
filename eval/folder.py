"""From a folder of a thousand files to a page: what each command takes on a machine that compiled nothing before.

The folder is made of the documentation installed with Python, as Markdown, HTML and plain text by turns, several
sections a file. Compiled loops go to a cache that is empty at first, as after an installation. Parts, in this order:

- build: `thresher build FOLDER -o INDEX`, with the seconds of its stages; `other_s` is start, loading and estimate;
- serve: `thresher serve INDEX` until the page and a first answer to a search have come;
- sync-unchanged: `thresher sync` with nothing changed;
- sync-one: the same after an edit of one file.

    python -m eval folder --files 1000
"""

from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import httpx2

from eval.bench import Bench, Row, options
from eval.serve import served
from thresher.corpus.installed import InstalledDocumentation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from thresher.records import Passage

SECTIONS, FOLDER_FILES = 17, 50
"""Sections of a file, and files of a folder."""
STAGES = ("read", "encode", "store", "index", "vectors")
COLUMNS = [
    "part", "seconds", "cpu_s", "files", "bytes", "passages", *(f"{stage}_s" for stage in STAGES), "other_s", "load",
]  # fmt: skip
NOTE = (
    "seconds are of the wall, cpu_s those of all cores. load: processes that wanted a core in the minute before the "
    "part began; where that is not near 0, seconds are longer than the command takes alone."
)


def page(sections: Sequence[Passage], kind: str) -> str:
    """A file of these sections as `md`, `html` or `txt`."""
    if kind == "md":
        return "\n\n".join(f"# {one.title}\n\n{one.text}" for one in sections)
    if kind == "txt":
        return "\n\n".join(f"{one.title}\n{'=' * len(one.title)}\n\n{one.text}" for one in sections)
    body = "".join(
        f"<h2 id='s{number}'>{html.escape(one.title)}</h2>"
        + "".join(f"<p>{html.escape(part)}</p>\n" for part in one.text.split("\n\n"))
        for number, one in enumerate(sections)
    )
    return f"<!doctype html><title>{html.escape(sections[0].title)}</title><nav>Home</nav><main>{body}</main>"


def make_folder(root: Path, files: int) -> Row:
    """Write the files; how many they are, and their bytes."""
    shutil.rmtree(root, ignore_errors=True)
    made = size = 0
    source = iter(InstalledDocumentation())
    while made < files and (sections := list(islice(source, SECTIONS))):
        kind = ("md", "html", "txt")[made % 3]
        file = root / f"part-{made // FOLDER_FILES:02d}" / f"page-{made:04d}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        size += file.write_bytes(page(sections, kind).encode())
        made += 1
    return {"files": made, "bytes": size}


@contextmanager
def timed(part: str) -> Iterator[Row]:
    """A row with the seconds that the block takes, and those of the processes it waits for."""
    row: Row = {"part": part, "load": os.getloadavg()[0]}
    began, before = time.perf_counter(), os.times()
    yield row
    row["seconds"] = time.perf_counter() - began
    after = os.times()
    row["cpu_s"] = sum(after[2:4]) - sum(before[2:4])  # user and system time of children
    print(json.dumps(row), flush=True)


def command(*arguments: str | Path) -> Row:
    """What a command of thresher prints as JSON."""
    line = [sys.executable, "-m", "thresher", *map(str, arguments), "--json"]
    found: Row = json.loads(subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout)
    return found


def measured(work: Path, files: int) -> list[Row]:
    """The rows of all parts."""
    folder, index = work / "folder", work / "index-folder"
    about = make_folder(folder, files)
    for old in (index, work / "numba"):
        shutil.rmtree(old, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(work / "numba")
    with timed("build") as build:
        report = command("build", folder, "-o", index)
    stages = {stage["stage"]: stage["seconds"] for stage in report["usage"]}
    build |= {**about, "passages": report["counts"]["passages"], **{f"{stage}_s": stages[stage] for stage in STAGES}}
    build["other_s"] = build["seconds"] - sum(stages.values())
    with timed("serve") as serve, served(index) as server:
        began = time.perf_counter()
        httpx2.get(server.url).raise_for_status()
        httpx2.post(f"{server.url}/search", json={"query": "read a file"}, timeout=120).raise_for_status()
        answered = time.perf_counter() - began
    serve["first_answer_s"] = answered
    with timed("sync-unchanged") as unchanged:
        command("sync", index, folder)
    edited = folder / "part-00" / "page-0000.md"
    edited.write_text(f"{edited.read_text(encoding='utf-8')}\n\nA line that was added.\n", encoding="utf-8")
    with timed("sync-one") as one:
        command("sync", index, folder)
    return [build, serve, unchanged, one]


def main(arguments: Sequence[str]) -> None:
    """Run the parts and write folder.json."""
    parser = options("folder", __doc__)
    parser.add_argument("--files", type=int, default=1000, help="files of the folder")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows = measured(bench.work, given.files)
    bench.write(
        "folder", rows, columns=[*COLUMNS, "first_answer_s"], note=NOTE, title="From a folder to a page",
        packages=("torch", "numba", "tokenizers"),
    )  # fmt: skip
