"""Damages the files of an index and searches it: `python damage.py INDEX SEED CASES` prints what came of it.

Run it in a process of its own, so that a crash is seen: the last line on standard error names the case. Whatever the
files hold, a search gives an error of thresher or a well-formed answer. Every case restores what it changed.
"""

import hashlib
import json
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np

from thresher.errors import ThresherError
from thresher.ranking import Ranking
from thresher.search import Index
from thresher.vectors import VectorStore

HOSTILE = (0, 1, -1, 2, 7, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**47, 2**63, 2**64, 10**30)
JUNK = (None, "", "x", [], {}, True, 0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), "\ud800", [[]] * 3)
ARRAYS = {"kth", "dense", "maxima", "impacts", "ids", "tiles", "lengths", "long", "kinds", "ranks", "sources"}
"""What kernels read: half of all damage goes there."""
WIDTHS = (np.uint8, np.uint16, np.uint32, np.int64, np.float32)


def damaged(content, rng):
    """The bytes of a file after one of several kinds of damage."""
    hurt, size = bytearray(content), len(content)
    match rng.integers(8):
        case 0:  # flipped bits
            for _ in range(rng.integers(1, 5)):
                hurt[rng.integers(size)] ^= 1 << rng.integers(8)
        case 1:  # numbers, aligned
            width = WIDTHS[rng.integers(len(WIDTHS))]
            numbers = np.frombuffer(bytes(hurt[: size // width().itemsize * width().itemsize]), width).copy()
            for _ in range(rng.integers(1, 4) if len(numbers) else 0):
                value = HOSTILE[rng.integers(len(HOSTILE))] if rng.integers(2) else int(rng.integers(2**63))
                numbers[rng.integers(len(numbers))] = width(value % 2 ** (8 * width().itemsize - (width is np.int64)))
            hurt[: numbers.nbytes] = numbers.tobytes()
        case 2:  # a run of one value
            first = rng.integers(size)
            length = min(size - first, int(rng.integers(1, 4000)))
            hurt[first : first + length] = bytes([rng.choice([0, 1, 127, 128, 254, 255])]) * length
        case 3:  # two parts exchanged
            length = int(rng.integers(1, max(size // 2, 2)))
            a, b = sorted(rng.integers(0, max(size - length, 1), 2).tolist())
            if a + length <= b:
                hurt[a : a + length], hurt[b : b + length] = hurt[b : b + length], hurt[a : a + length]
        case 4:  # noise
            first = rng.integers(size)
            length = min(size - first, int(rng.integers(1, 2000)))
            hurt[first : first + length] = rng.bytes(length)
        case 5:  # cut short
            del hurt[rng.integers(size) :]
        case 6:  # too long
            hurt += rng.bytes(int(rng.integers(1, 64)))
        case _:  # everything
            hurt[:] = bytes([rng.choice([0, 255])]) * size if rng.integers(2) else rng.bytes(size)
    return bytes(hurt)


def misled(document, rng):
    """A JSON document with a value somewhere replaced by a hostile one, or a key removed."""
    places = []

    def walk(value):
        if isinstance(value, dict | list):
            for key in value if isinstance(value, dict) else range(len(value)):
                places.append((value, key))
                walk(value[key])

    walk(document)
    for _ in range(rng.integers(1, 3) if places else 0):
        inside, key = places[rng.integers(len(places))]
        try:
            inside[key]
        except (KeyError, IndexError):
            continue
        if rng.integers(8) == 0:
            del inside[key]
        else:
            inside[key] = (*HOSTILE, *JUNK)[rng.integers(len(HOSTILE) + len(JUNK))]
    return json.dumps(document).encode()


def sealed(manifest):
    """The manifest with a checksum of what it says now."""
    manifest.pop("manifest_sha256", None)
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
    manifest["manifest_sha256"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return json.dumps(manifest).encode()


class Case:
    """One damage to the artifact at `path`: files to their new contents."""

    def __init__(self, path, rng):
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size]
        self.changed = {}
        self.path = path
        arrays = [file for file in files if file.name in ARRAYS]
        for _ in range(1 + (rng.integers(4) == 0)):
            among = arrays if rng.integers(2) else files
            file = among[rng.integers(len(among))]
            content = file.read_bytes()
            if file.suffix == ".json" and rng.integers(4):
                self.changed[file] = misled(json.loads(content), rng)
                if file.name == "manifest.json":
                    self.changed[file] = sealed(json.loads(self.changed[file]))
            elif rng.integers(12) == 0:
                self.changed[file] = files[rng.integers(len(files))].read_bytes()
            else:
                self.changed[file] = damaged(content, rng)
        if rng.integers(3):
            self.reseal()

    def reseal(self):
        """Let every manifest above a changed file say its new size and checksum."""
        for file, content in sorted(self.changed.items(), reverse=True):
            for folder in file.parents:
                manifest = folder / "manifest.json"
                if not manifest.is_file() or manifest in self.changed:
                    continue
                document = json.loads(manifest.read_bytes())
                entry = document["files"].get(file.relative_to(folder).as_posix())
                if entry is not None:
                    entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
                    self.changed[manifest] = sealed(document)
                if folder == self.path:
                    break

    def __enter__(self):
        self.whole = {file: file.read_bytes() for file in self.changed}
        for file, content in self.changed.items():
            put(file, content)

    def __exit__(self, *_):
        for file, content in self.whole.items():
            put(file, content)


def put(file, content):
    """A new file of that name: one that is mapped stays as it is."""
    other = file.with_name(file.name + ".new")
    other.write_bytes(content)
    other.replace(file)


def look(found):
    """Read everything of an answer."""
    assert all(isinstance(docno, str) for docno in found.docnos)
    for hit in found[:3]:
        assert isinstance(hit.text, str)


def attempt(errors, ask, *given, **options):
    """Call `ask`: an answer, or None for an error of thresher."""
    try:
        return ask(*given, **options)
    except ThresherError as err:
        assert str(err), type(err)
        errors[type(err).__name__] = errors.get(type(err).__name__, 0) + 1
        return None


def search(path, rng, errors):
    """Ask everything of the index at `path`."""
    index = attempt(errors, Index.open, path)
    if index is not None:
        terms = max(len(index._now.parts[0].searcher.vocabulary), 1)
        for plan in ("auto", "term-at-a-time", "block-max"):
            for k in (1, int(rng.integers(2, 60)), 300, 5000):
                some = np.unique(rng.integers(0, min(terms, 2000), rng.integers(1, 24)))
                weights = rng.choice([1.0, 0.25, 1e30, 1e-30, 3.0], len(some)).astype(np.float32)
                ask = (some, weights) if rng.integers(2) else (some, np.ones(len(some), np.float32))
                found = attempt(errors, index.search, ask, k, plan=plan)
                if found is not None and k < 60:
                    attempt(errors, look, found)
        one, *more = (f"w{i}" for i in rng.integers(0, 60, 4))
        found = attempt(errors, index.search, " ".join((one, *more)), 10, explain=True)
        attempt(errors, index.search, {one: 1.0, "unknown": 2.0}, 10, tiers="first")
        attempt(errors, index.search_batch, [one, {one: 2.0}], 10, threads=2)
        attempt(errors, index.search, "w1 w2", 10, where={"source": "x"})
        attempt(errors, index.facets, "source", "w1", where="source prefix x")
        attempt(errors, index.numbers, ["d1", "d7", "nothing"])
        attempt(errors, index.passages, ["d3"])
        attempt(errors, lambda: index.recipe)
        attempt(errors, lambda: index.encoder.fingerprint)
        store = attempt(errors, lambda: index.vectors)
        if store is not None:
            dense(index, store, found, rng, errors)
        attempt(errors, index.close)
    if (path / "by-docno").is_dir():
        store = attempt(errors, VectorStore.open, path / "by-docno")
        if store is not None:
            dense(None, store, Ranking([f"d{i}" for i in range(20)]), rng, errors)


def dense(index, store, found, rng, errors):
    """Ask everything of vectors."""
    vector = rng.normal(size=min(store.dimensions, 4096)).astype(np.float32)
    if index is not None:
        for by in ("dense", "both"):
            answer = attempt(errors, index.search, "w1 w2", 5, by=by, vector=vector)
            if answer is not None:
                attempt(errors, look, answer)
    if found is not None and len(found):
        for stopping in ("exact", "length", "none"):
            settings = {"stopping": stopping, "feedback": int(rng.integers(3)), "missing": "mean"}
            attempt(errors, store.interpolate, found, vector, k=5, **settings)


def main():
    path, seed, cases = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    errors, raw = {}, []
    for case in range(cases):
        rng = np.random.default_rng((seed, case))
        made = Case(path, rng)
        sys.stderr.write(f"{seed} {case} {[str(file.relative_to(path)) for file in made.changed]}\n")
        sys.stderr.flush()
        try:
            with made:
                search(path, rng, errors)
        except Exception:
            raw.append(f"case {seed} {case}: {traceback.format_exc(limit=-4)}")
    sys.stdout.write(json.dumps({"cases": cases, "errors": errors, "raw": raw}))


if __name__ == "__main__":
    main()
