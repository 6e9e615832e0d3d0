"""Damaged and hostile files of every format that is imported: an error that names the file, or what they hold.

Each case is a small file, changed at random: bits flipped, the end cut off, a block spliced in from elsewhere, a count
replaced by an enormous one, or a value of JSON by another. Every other change of a compressed file is made to its
content, which is packed again, so that no checksum stops it. A child process whose memory is limited opens the file as
encoded passages and reads all rows. Anything but rows or a `ThresherError` that names the file is a failure: a crash, a
hang, another exception, an allocation beyond the limit. `folder` is an exported folder of which any one file is
changed, `faiss` the vectors of an index file.
"""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import time
import zipfile
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.bench import Bench, options
from thresher import registry
from thresher.build.stream import build_index
from thresher.encode.encoder import load_query_encoder
from thresher.errors import MissingExtraError, ThresherError
from thresher.index.exchange import export_index, open_encoded
from thresher.index.exchange.folder import ExportedFolder
from thresher.index.exchange.formats import all_formats
from thresher.records import Passage
from thresher.vectors.codecs import Stored
from thresher.vectors.faiss_files import KINDS, SUFFIX, FaissFile, write_faiss

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from eval.bench import Row

SEED, CASES = 19, 2000
MEMORY = 2**29
"""Bytes of memory that a child may take more than it has when it begins."""
SECONDS = 20
"""Seconds that a case may take."""
HUGE = (2**16 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)


FOLDER, FAISS = "folder", "faiss"
JSON = (".json", ".jsonl", ".ndjson", ".gz")
_VALUE = re.compile(rb'-?\d+(?:\.\d+)?|"[^"]*"|[\[\]{}:,]')
VALUES = (
    b"null", b"true", b"-1", b"0", b"1e308", b"1e999", b"NaN", b"0.5", b"4294967295", b"18446744073709551616",
    b'""', b'"x"', b'"\\ud800"', b"[]", b"{}", b"[1]", b'{"a":1}', b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"",
)  # fmt: skip
"""What a value of JSON is replaced by."""


def formats() -> list[str]:
    """The formats that are read, and what else is."""
    return [*(made.name for made in all_formats() if made.reads and made.writes), FOLDER, FAISS]


def originals(folder: Path, name: str) -> list[Path]:
    """Whole files of a format: of one and of many documents, compressed and not."""
    if name == FAISS:
        return [vector_file(folder, kind) for kind in KINDS]
    if name == FOLDER:
        return [file.parent for one in ("ciff", "npz", "qdrant") for file in exported(folder, one)]
    return exported(folder, name)


def exported(folder: Path, name: str) -> list[Path]:
    """The documents of exports in a format, of one and of many documents, compressed and not."""
    made = {one.name: one for one in all_formats()}[name]
    found = []
    rng = random.Random(SEED)  # noqa: S311
    words = [f"word{i}" for i in range(60)]
    passages = [Passage(f"d{i}", " ".join(rng.choices(words, k=12)), metadata={"i": i}) for i in range(150)]
    for count in (1, 150):
        index = folder / f"index-{count}"
        if not index.exists():
            build_index(index, passages[:count], "bm25")
        for packed in (False, True) if made.packs else (False,):
            target = folder / f"{name}-{count}-{packed:d}"
            done = export_index(index, target, format=name, gz=packed)
            found.append(target / done.files[0])
    return found


def vector_file(folder: Path, kind: str) -> Path:
    """A file of faiss."""
    file = folder / f"{kind}{SUFFIX}"
    vectors = np.random.default_rng(SEED).standard_normal((150, 8)).astype(np.float16)
    write_faiss(Stored(vectors), file, kind=kind, links=8)
    return file


def damaged(file: Path, content: bytes, rng: random.Random) -> bytes:
    """The content of a file changed; of every other compressed one what is packed in it."""
    if rng.random() < 0.5:
        if file.name.endswith(".gz"):
            return gzip.compress(mutated(gzip.decompress(content), rng, text=True), 1)
        if file.name.endswith(".npz"):
            return repacked(content, rng)
    return mutated(content, rng, text=file.name.endswith(JSON))


def repacked(content: bytes, rng: random.Random) -> bytes:
    """A zip archive with one of its members changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", rng.choice((0, 8))) as changed:
        chosen = rng.choice(archive.namelist())
        for name in archive.namelist():
            member = archive.read(name)
            changed.writestr(name, mutated(member, rng) if name == chosen else member)
    return out.getvalue()


def mutated(content: bytes, rng: random.Random, *, text: bool = False) -> bytes:
    """`content` changed in one to four ways; text mostly by values of JSON."""
    out = bytearray(content)
    kinds = ("flip", "cut", "splice", "count", "varint", "byte", *("value",) * (12 * text))
    for _ in range(rng.choice((1, 1, 2, 4))):
        kind, at = rng.choice(kinds), rng.randrange(max(len(out), 1))
        if kind == "flip" and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == "byte" and out:
            out[at] = rng.choice((0, 1, 127, 128, 255))
        elif kind == "cut":
            del out[at:]
        elif kind == "splice":
            start = rng.randrange(max(len(content), 1))
            out[at : at + rng.choice((0, 8, 64))] = content[start : start + rng.choice((1, 8, 64, 512))]
        elif kind == "count":
            number = struct.pack("<Q", rng.choice(HUGE))[: rng.choice((4, 8))]
            at = rng.choice((0, 8, 16, at))
            out[at : at + len(number)] = number
        elif kind == "value":
            found = _VALUE.search(out, at)
            if found:
                out[found.start() : found.end()] = rng.choice(VALUES)
        else:
            out[at : at + 1] = varint(rng.choice(HUGE))
    return bytes(out)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def read_one(path: Path) -> str:
    """Read a file: `read`, `named` for an error that names it, or what is wrong."""
    try:
        if path.name.endswith(SUFFIX):
            file = FaissFile.open(path)
            fits = sum(map(len, file.batches())) == len(file)
        else:
            fits = _read_passages(path)
        if not fits:
            return "rows that do not fit together"
    except MissingExtraError:
        return "needs an extra"
    except ThresherError as err:
        return "named" if path.name in str(err) else f"an error without the file: {str(err)[:200]}"
    except Exception as err:
        return f"{type(err).__name__}: {str(err)[:200]}"
    return "read"


def _read_passages(path: Path) -> bool:
    """Read all that an import takes; returns whether it fits together."""
    opened = open_encoded(path)
    fits = True
    for passages, batch in opened:
        fits = fits and len(passages) == len(batch) and bool(np.isfinite(batch.weights).all())
    if isinstance(opened, ExportedFolder) and opened.encoder is not None:
        fits = fits and (opened.tokens is None or len(opened.tokens) == opened.facts.documents)
        load_query_encoder(opened.encoder)
    return fits


def child(pipe: Connection) -> None:
    """Read the files whose paths come through the pipe, under a limit of memory; send what became of each."""
    import gc

    names: Any = registry
    names.entry_points = cache(names.entry_points)  # or looking for other packages' formats takes most of the time
    first = pipe.recv()
    read_one(first)  # what is imported and compiled once does not count
    pipe.send(("read", 0))
    gc.collect()
    gc.freeze()  # or each collection would take longer than a case
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (path := pipe.recv()) is not None:
        signal.alarm(SECONDS)
        outcome = read_one(path)
        signal.alarm(0)
        gc.collect()
        pipe.send((outcome, peak_kib()))


def peak_kib() -> int:
    """The most memory resident in this process so far; what `getrusage` gives is that of its parent as well."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class Reader:
    """A child process that reads files; a new one is started where it dies."""

    def __init__(self, whole: Path) -> None:
        self._whole = whole
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=child, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.send(self._whole)
        self._pipe.recv()

    def read(self, path: Path) -> tuple[str, int]:
        """What became of a file, and the most memory that the child has taken, in KiB."""
        try:
            self._pipe.send(path)
            if self._pipe.poll(SECONDS + 10):
                outcome: tuple[str, int] = self._pipe.recv()
                return outcome
        except (EOFError, OSError):
            pass
        self._process.kill()
        self._process.join()
        code = self._process.exitcode
        self._start()
        return f"the process ended with {code}", 0

    def close(self) -> None:
        """End the child."""
        self._pipe.send(None)
        self._process.join(10)


def cases(files: Sequence[Path], count: int, folder: Path) -> Iterator[Path]:
    """So many damaged files, or folders of which one file is damaged, written one after the other."""
    rng = random.Random(SEED)  # noqa: S311
    folder.mkdir(exist_ok=True)
    for number in range(count):
        whole = files[number % len(files)]
        path = folder / f"case{number % 8}-{whole.name}"
        if whole.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(whole, path)
            changed = rng.choice(sorted(file for file in path.rglob("*") if file.is_file()))
        else:
            changed = path
        content = (whole / changed.relative_to(path)).read_bytes() if whole.is_dir() else whole.read_bytes()
        changed.write_bytes(damaged(whole if changed == path else changed, content, rng))
        yield path


def measure(name: str, count: int, folder: Path) -> Row:
    """The cases of one format in a row."""
    files = originals(folder, name)
    reader, started, peak = Reader(files[-1]), time.perf_counter(), 0
    outcomes: Counter[str] = Counter()
    for path in cases(files, count, folder / "cases"):
        outcome, memory = reader.read(path)
        outcomes[outcome] += 1
        peak = max(peak, memory)
        if outcome not in ("named", "read"):
            kept = folder / f"failed-{name}-{sum(outcomes.values())}-{path.name}"
            shutil.copytree(path, kept) if path.is_dir() else shutil.copy(path, kept)
            print(name, path.name, outcome, flush=True)
    reader.close()
    failures = {outcome: n for outcome, n in outcomes.items() if outcome not in ("named", "read")}
    return {
        "format": name, "cases": count, "errors_named": outcomes["named"], "read_anyway": outcomes["read"],
        "failures": sum(failures.values()), "seconds": time.perf_counter() - started, "peak_mb": peak / 1024,
        "kinds": json.dumps(failures),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    parser = options("exchange-fuzz", __doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="for each format")
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    rows = []
    for name in formats():
        key = f"exchange-fuzz-{name}-{given.cases}"
        rows.append(bench.kept(key, partial(_measured, name, given.cases, bench)))
        print(rows[-1], flush=True)
    columns = dict.fromkeys(rows[0], "") | {"seconds": ".1f", "peak_mb": ".0f"}
    bench.write("exchange-fuzz", rows, seed=SEED, columns=columns, note=NOTE)


def _measured(name: str, count: int, bench: Bench) -> Row:
    folder = bench.work / f"exchange-fuzz-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return measure(name, count, folder)


NOTE = (
    "Small files changed at random: bits and bytes, truncation, spliced blocks, enormous counts, values of JSON; also "
    "inside of what is compressed. folder: one file of an exported folder. errors_named: refused "
    "with an error that names the file. read_anyway: what was changed left a valid file. failures: crashes, hangs, "
    f"other exceptions, memory of {MEMORY >> 20} MiB more than an idle process; kinds names them. peak_mb: the most "
    "memory resident in the process that reads, with what it has loaded."
)
