"""Passages and queries that some other system encoded: read, checked, never repaired.

Formats: Anserini's `JsonVectorCollection` (JSON lines `{"id", "contents", "vector": {term: weight}}`), encoded query
files (`qid <TAB> term term ...`, a weight being the number of repetitions), parquet (`docno`, `indices`, `values`), and
scipy's compressed-row `.npz`. Collections are read in passes, never whole: one finds the vocabulary, later ones yield
passages with their weighted terms.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.rows import from_mappings, row_slice
from thresher.errors import DataNotFoundError, InputError, require
from thresher.files import read_text_lines
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CHUNK = 1024


def open_encoded(
    path: str | Path, *, docnos: str | Path | None = None, vocabulary: str | Path | None = None
) -> JsonVectors | ParquetVectors | CsrVectors:
    """Open encoded passages, by the name's ending: a folder or `.json`, `.jsonl` (`.gz`), `.parquet`, `.npz`.

    Args:
        path: the file or folder.
        docnos: for `.npz`, a text file with one docno a line; by default row numbers serve.
        vocabulary: for `.npz` and `.parquet`, a text file with one term a line, in order of id; by default numbers.

    Raises:
        DataNotFoundError: there is nothing at `path`.
        InputError: the ending is unknown, or the content is not what the format says.
    """
    path = Path(path)
    if not path.exists():
        raise DataNotFoundError(f"{path} does not exist; give a file or folder of encoded passages")
    name = path.name.removesuffix(".gz")
    words = None if vocabulary is None else tuple(line for _, line in read_text_lines(vocabulary))
    if path.is_dir() or name.endswith((".json", ".jsonl")):
        return JsonVectors(path)
    if name.endswith(".parquet"):
        return ParquetVectors(path, words)
    if name.endswith(".npz"):
        return CsrVectors(path, None if docnos is None else tuple(line for _, line in read_text_lines(docnos)), words)
    raise InputError(
        f"cannot tell the format of {path.name!r}; use .json, .jsonl, .jsonl.gz, .parquet, .npz or a folder"
    )


class JsonVectors:
    """Anserini's `JsonVectorCollection`: a file, or a folder of files, of JSON lines.

    Weights may be whole or not; each must be finite and positive. `vocabulary` is sorted by code point.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        files = sorted(p for p in self.path.iterdir() if p.is_file()) if self.path.is_dir() else [self.path]
        self._files = [p for p in files if p.name.removesuffix(".gz").endswith((".json", ".jsonl"))]
        if not self._files:
            raise InputError("no .json, .jsonl or .jsonl.gz file in this folder", str(self.path))
        terms = {term for _, vector in self._records() for term in vector}
        self.vocabulary: tuple[str, ...] = tuple(sorted(terms))

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        ids = {term: i for i, term in enumerate(self.vocabulary)}
        records = self._records()
        while chunk := list(islice(records, CHUNK)):
            rows = [{ids[term]: weight for term, weight in vector.items()} for _, vector in chunk]
            yield [passage for passage, _ in chunk], from_mappings(rows)

    def _records(self) -> Iterator[tuple[Passage, dict[str, float]]]:
        for file in self._files:
            for number, line in read_text_lines(file):
                if line.strip():
                    yield _json_record(line, str(file), number)


class ParquetVectors:
    """Parquet with `docno: string`, `indices: list<uint32>`, `values: list<number>`, and optionally `text`, `title`."""

    def __init__(self, path: str | Path, vocabulary: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        parquet: Any = require("pyarrow.parquet", extra="parquet", purpose="reading parquet")
        self._parquet = parquet
        schema = self._open().schema_arrow
        missing = [name for name in ("docno", "indices", "values") if name not in schema.names]
        if missing:
            raise InputError(f"no column {', '.join(missing)}; it has {', '.join(schema.names)}", str(self.path))
        self._columns = [n for n in ("docno", "indices", "values", "text", "title") if n in schema.names]
        stored = (schema.metadata or {}).get(b"vocabulary")
        if vocabulary is None and stored is not None:
            vocabulary = tuple(json.loads(stored))
        if vocabulary is None:
            vocabulary = tuple(str(i) for i in range(self._largest() + 1))
        self.vocabulary: tuple[str, ...] = tuple(vocabulary)

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        done = 0
        for table in self._open().iter_batches(CHUNK, columns=self._columns):
            rows = table.to_pylist()
            vectors = []
            for number, row in enumerate(rows, start=done + 1):
                indices, values = row["indices"] or [], row["values"] or []
                if len(indices) != len(values) or len(set(indices)) != len(indices):
                    raise InputError(
                        f"{row['docno']!r} has {len(indices)} indices ({len(set(indices))} distinct) "
                        f"and {len(values)} values; they must pair up, each index once",
                        str(self.path),
                        number,
                    )
                for i, value in zip(indices, values, strict=True):
                    _check_weight(self._word(i, number), value, str(self.path), number)
                vectors.append(dict(zip(indices, values, strict=True)))
            done += len(rows)
            passages = [Passage(r["docno"] or "", r.get("text") or "", r.get("title") or "") for r in rows]
            yield passages, from_mappings(vectors)

    def _open(self) -> Any:
        return self._parquet.ParquetFile(self.path)

    def _word(self, index: int, number: int) -> str:
        if not 0 <= index < len(self.vocabulary):
            raise InputError(
                f"index {index} is outside the vocabulary of {len(self.vocabulary)}", str(self.path), number
            )
        return self.vocabulary[index]

    def _largest(self) -> int:
        largest = -1
        for table in self._open().iter_batches(columns=["indices"]):
            flat = table.column(0).flatten()
            if len(flat):
                largest = max(largest, int(flat.to_numpy().max()))
        return largest


class CsrVectors:
    """A scipy compressed-row matrix, `scipy.sparse.save_npz`: one row a passage."""

    def __init__(
        self, path: str | Path, docnos: Sequence[str] | None = None, vocabulary: Sequence[str] | None = None
    ) -> None:
        self.path = Path(path)
        matrix = _csr(self.path)
        self._batch = matrix[0]
        n, width = matrix[1]
        self.docnos = tuple(docnos) if docnos is not None else tuple(str(i) for i in range(n))
        self.vocabulary: tuple[str, ...] = (
            tuple(vocabulary) if vocabulary is not None else tuple(str(i) for i in range(width))
        )
        if len(self.docnos) != n or len(self.vocabulary) != width:
            raise InputError(
                f"a matrix of {n} x {width}, but {len(self.docnos)} docnos and {len(self.vocabulary)} terms are given",
                str(self.path),
            )

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        for start in range(0, len(self.docnos), CHUNK):
            stop = min(start + CHUNK, len(self.docnos))
            yield [Passage(docno, "") for docno in self.docnos[start:stop]], row_slice(self._batch, start, stop)


def read_encoded_queries(path: str | Path) -> dict[str, Mapping[str, float]]:
    """Encoded queries from `qid <TAB> term term ...` lines (`.gz` or not): qid to term to weight.

    A weight is the number of times the term is repeated.

    Raises:
        DataNotFoundError: the file does not exist.
        InputError: a line has no tab, or a qid comes twice.
    """
    path = Path(path)
    queries: dict[str, Mapping[str, float]] = {}
    for number, line in read_text_lines(path):
        if not line.strip():
            continue
        qid, tab, terms = line.partition("\t")
        if not tab or not qid.strip():
            raise InputError(f"expected 'qid<TAB>term term ...', found {line[:60]!r}", str(path), number)
        if qid in queries:
            raise InputError(f"question {qid!r} comes twice; keep one", str(path), number)
        queries[qid] = {term: float(count) for term, count in Counter(terms.split()).items()}
    return queries


def _json_record(line: str, source: str, number: int) -> tuple[Passage, dict[str, float]]:
    try:
        record = json.loads(line)
    except ValueError as err:
        raise InputError(f"not a JSON object ({err}); one object a line is expected", source, number) from None
    vector = record.get("vector") if isinstance(record, dict) else None
    if not isinstance(vector, dict) or "id" not in record:
        raise InputError("expected {'id', 'contents', 'vector': {term: weight}}", source, number)
    for term, weight in vector.items():
        _check_weight(term, weight, source, number)
    try:
        passage = Passage(str(record["id"]), str(record.get("contents") or ""))
    except InputError as err:
        raise InputError(str(err.args[0]), source, number) from None
    return passage, {term: float(weight) for term, weight in vector.items()}


def _check_weight(term: str, weight: object, source: str, number: int) -> None:
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and math.isfinite(weight) and weight > 0
    if not good:
        raise InputError(
            f"term {term!r} has the weight {weight!r}; a weight is a finite number above 0 (leave out terms without)",
            source,
            number,
        )


def _csr(path: Path) -> tuple[SparseBatch, tuple[int, int]]:
    """The matrix as checked rows with ascending terms, and its shape."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if bytes(data["format"].item()) != b"csr":
                raise InputError(f"the matrix is in {data['format'].item()!r} format; save it with tocsr()", str(path))
            indptr, indices, values = (data[name] for name in ("indptr", "indices", "data"))
            n, width = (int(size) for size in data["shape"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as err:
        if isinstance(err, InputError):
            raise
        raise InputError(f"not a matrix of scipy.sparse.save_npz ({type(err).__name__}: {err})", str(path)) from err
    rising = (
        len(indptr) == n + 1 and indptr[0] == 0 and indptr[-1] == len(indices) and bool((np.diff(indptr) >= 0).all())
    )
    inside = bool(((indices >= 0) & (indices < width)).all())
    if not rising or not inside or len(values) != len(indices):
        raise InputError(f"the arrays of the {n} x {width} matrix do not fit together; write it again", str(path))
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise InputError("weights must be finite and not negative; remove the others", str(path))
    row = np.repeat(np.arange(n), np.diff(indptr))
    order = np.lexsort((indices, row))
    order = order[values[order] > 0]
    row, terms = row[order], indices[order].astype(np.uint32)
    if bool(((np.diff(row) == 0) & (np.diff(terms.astype(np.int64)) == 0)).any()):
        raise InputError("a row names a term twice; call sum_duplicates() before saving", str(path))
    starts = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=n), out=starts[1:])
    return SparseBatch(starts, terms, values[order].astype(np.float32)), (n, width)
