"""One small file or artifact of every kind, damaged ones, and the values that no call expects."""

import gzip
import json
import os
import random
import shutil
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np

TEXTS = (
    "Threshing separates grain from chaff. The grain is kept.",
    "A mill grinds grain into flour.",
    "Bread is baked from flour, water and salt. It rises slowly.",
    "Le pain rassis sert à faire du pain perdu.",
    "Winnowing uses the wind: chaff flies, grain falls.",
    "A combine harvester reaps, threshes and winnows in one pass.",
)
RECIPE = "[encode]\nencoder = 'bm25'\n\n[ask]\nrerank = ''\ncontext = 'lexical'\n"
RECORDING = '{"query": "grain", "hits": []}\n'


def fill(folder: Path) -> Path:
    """Write the files, and build what is built of them."""
    from thresher import Index, VectorStore, build_index, open_corpus
    from thresher.encode import Bm25Encoder, encode_corpus
    from thresher.quality import QualityEstimator, write_scores

    rows = [{"docno": f"d{i}", "title": f"T{i}", "text": text} for i, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.tsv").write_text("q1\tgrain and chaff\nq2\tflour\n")
    (folder / "qrels.txt").write_text("q1 0 d0 2\nq1 0 d4 1\nq2 0 d1 1\n")
    (folder / "a.run").write_text("q1 Q0 d0 1 3.5 a\nq1 Q0 d2 2 2.5 a\nq2 Q0 d2 1 1.5 a\n")
    (folder / "b.run").write_text("q1 Q0 d4 1 3.5 b\nq2 Q0 d1 1 1.5 b\n")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "rows.csv").write_text("plan,calls,nDCG@10\na,1,.5\nb,2,.6\n")
    (folder / "page.txt").write_text(TEXTS[0])
    build_index(folder / "index", folder / "corpus.jsonl", folder / "recipe.toml")
    corpus = open_corpus(folder / "corpus.jsonl")
    encode_corpus(corpus, Bm25Encoder.fit(TEXTS), folder / "encoded")
    docnos, vectors = [row["docno"] for row in rows], np.eye(6, 8, dtype=np.float32)
    VectorStore.build(folder / "vectors", [vectors], docnos=docnos)
    estimator = QualityEstimator.from_name("length")
    scores = estimator.score(TEXTS)
    write_scores(folder / "scores", docnos, scores, estimator=estimator, corpus_fingerprint=corpus.fingerprint())
    index = Index.open(folder / "index")  # compiles the kernels before anything is timed
    index.search_batch(["grain", "flour"])
    index.search("grain", explain=True)
    return folder


def damage(folder: Path) -> None:
    """Make `folder` with files that no reader should take."""
    (folder / "directory").mkdir(parents=True, exist_ok=True)
    files = {
        "empty": b"",
        "noise": random.Random(0).randbytes(3000),
        "cut.gz": gzip.compress(b"q1 Q0 d1 1 2.0 a\n" * 500)[:-20],
        "deep.json": b"[" * 100_000,
        "list.json": b"[1, 2, 3]\n",
        "wrong.toml": b"encode = 3\n[index]\nbits = 'many'\n",
        "utf16.txt": "q1\tgrain\n".encode("utf-16"),
        "nul.tsv": b"q1\t\x00\n\x00\n",
        "columns.txt": b"q1 0 d1 9999999999999999999999999\nq1 Q0 d1 1 nan a\n",
    }
    for name, content in files.items():
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        (folder / name).write_bytes(content)
    if not (folder / "loop").is_symlink():
        (folder / "loop").unlink(missing_ok=True)
        (folder / "loop").symlink_to("loop")
    for kind in ("index", "scores", "vectors"):
        (folder / f"half-{kind}").mkdir(exist_ok=True)
        (folder / f"half-{kind}" / "manifest.json").write_text(f'{{"kind": "{kind}", "format": 1e999}}')


PATHS = (
    "missing", ".", "directory", "empty", "noise", "cut.gz", "deep.json", "list.json", "wrong.toml", "utf16.txt",
    "nul.tsv", "columns.txt", "loop", "half-index", "half-scores", "half-vectors", "missing/below", "empty/below",
    "n" * 300, "a\x00b", "\ud800",
)  # fmt: skip

STRINGS = (
    "", " ", "\n", "nan", "-1", "1e999", "1" * 30, "auto", "none", "bm25", "bm25:", ":", ":x", "a:b:c",
    "lexical", "@", "AP@0",
    "nDCG@99999999999999999999", "AP(rel=-1)", "http://", "http://127.0.0.1:99999", "\ud800", "a\x00b", "\x1b[31mred",
    "\u202eabc", "\ufeff", "e\u0301" * 50, "漢字" * 400, "x" * 200_000, "{" * 5000, "[ask]\nk = 'x'", "%s %d {0} {x}",
)  # fmt: skip

NUMBERS = (
    True, 0, -1, 1, 2, 2**31, 2**32, 2**63, -(2**63) - 1, 10**20, 10**400, 0.5, -0.0, 1.5, float("nan"),
    float("inf"), float("-inf"), 1e308, 5e-324, np.float64("nan"), np.float32(0.5), np.int64(-1), np.uint8(255),
    np.bool_(True), 1 + 2j, Decimal("NaN"), Decimal("1.5"), Fraction(1, 3),
)  # fmt: skip

OTHERS = (
    None, ..., object(), object, len, int, NotImplemented, slice(1, 2), datetime(2020, 1, 1, tzinfo=UTC),
    b"", b"\xff\xfe", bytearray(b"bytes"), memoryview(b"view"), ValueError("an error"),
)  # fmt: skip

CONTAINERS = (
    [], (), {}, set(), frozenset({1}), [None], [[]], [[[]]], ["a", "a"], ["a", 1], [1, "a"],
    ["\ud800"], [b"a"], [float("nan")], [10**400], [-1], [2**63], [1.5], [True], {"a": None}, {1: 2},
    {"a": {"b": float("nan")}}, {"a": {"b": "c"}},
    {"": {"": 0}}, {"q1": {"d1": 10**400}}, {"q1": {"d1": None}}, {"q1": [1, 2]}, {None: None}, {"a": [{}]}, [("a",)],
    [("a", 1.0, 2)], [("a", "b")], [(None, None)], [("a", float("nan"))], [("a", 10**400)], range(3), ["x" * 10_000],
)  # fmt: skip

ARRAYS = (
    np.array(None), np.array(1.5), np.zeros(0), np.zeros((0, 3)), np.zeros((2, 3)), np.zeros((2, 3, 4)),
    np.array(["a", "b"]), np.array([np.nan, 1.0]), np.array([np.inf]), np.array([-1, 5]), np.array([2**63],
    np.uint64),
    np.array([2**40]), np.array([True, False]), np.array([None, "a"]), np.array([1 + 2j]), np.zeros(4, np.float16),
    np.arange(6, dtype=">f4"), np.arange(12.0)[::2], np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")]),
    np.array(["2020-01-01"], "datetime64[D]"), np.zeros(6, np.uint8), np.zeros(8, np.float32),
    np.full(8, np.nan, np.float32),
)  # fmt: skip

VALUES = (*STRINGS, *NUMBERS, *OTHERS, *CONTAINERS, *ARRAYS)


def hostile(rng: random.Random, annotation: str) -> object:
    """A value that the parameter does not expect: half the time one that looks like what it takes."""
    if "Path" in annotation and rng.random() < 0.7:
        path = rng.choice(PATHS)
        return path if rng.random() < 0.5 or "\x00" in path else Path(path)
    near = []
    if "str" in annotation:
        near += STRINGS
    if "int" in annotation or "float" in annotation:
        near += NUMBERS
    if "NDArray" in annotation or "ArrayLike" in annotation:
        near += ARRAYS
    if any(name in annotation for name in ("Sequence", "Mapping", "Iterable", "list", "dict", "tuple")):
        near += CONTAINERS
    if near and rng.random() < 0.6:
        return rng.choice(near)
    return rng.choice(VALUES)


def listing(folder: Path, without: Path) -> set[str]:
    """Every path below `folder`, except those below `without`."""
    return {
        str(Path(root) / name)
        for root, folders, files in os.walk(folder)
        if not Path(root).is_relative_to(without)
        for name in (*folders, *files)
    }
