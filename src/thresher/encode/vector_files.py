"""Readers of files of encoded passages: JSON lines, parquet, and scipy's compressed rows. Checked, never repaired.

Anserini's `JsonVectorCollection` is JSON lines `{"id", "contents", "vector": {term: weight}}`; parquet has the columns
`docno`, `indices` and `values`. Files are read in passes, never whole: one finds the vocabulary, one the docnos, later
ones yield passages with their weighted terms.
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import shown
from thresher.encode.encoder import from_mappings, row_slice
from thresher.encode.query_side import QuerySide, TermsOnly
from thresher.encode.shards import UNREADABLE
from thresher.errors import InputError, ThresherError, require
from thresher.files import COMPRESSED, read_json_lines
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa


CHUNK = 1024

_LARGEST = float(np.finfo(np.float32).max)

_NUMBERED = 1 << 24
"""The most terms of a vocabulary of numbers."""

_ARROW = (OSError, ValueError, NotImplementedError, LookupError, TypeError, MemoryError)
"""What pyarrow raises for a file that it cannot read."""


class GivenVectors:
    """What the readers of the three formats share.

    Attributes:
        path: the file or folder.
        vocabulary: the term strings by term id.
        named: whether the data names its terms; if not, the vocabulary is their numbers as text.
    """

    path: Path
    vocabulary: tuple[str, ...]
    named = True

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        raise NotImplementedError

    @cached_property
    def docnos(self) -> Sequence[str]:
        """The docno of each passage, in order; reads the data once."""
        return [passage.docno for passages, _ in self for passage in passages]

    @property
    def query_side(self) -> QuerySide:
        """Queries are weighted terms: the data says nothing of an encoder."""
        return TermsOnly(self.vocabulary, f"weighted-terms({self.path.name})")


class JsonVectors(GivenVectors):
    """Anserini's `JsonVectorCollection`: a file, or a folder of files, of JSON lines.

    Weights may be whole or not; each must be finite and not negative, and 0 means without. `vocabulary` is sorted by
    code point.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        files = sorted(p for p in self.path.iterdir() if p.is_file()) if self.path.is_dir() else [self.path]
        self._files = [p for p in files if plain_name(p).endswith((".json", ".jsonl"))]
        if not self._files:
            raise InputError("no .json, .jsonl or .jsonl.gz file in this folder", str(self.path))
        terms = {term for _, vector in self._records() for term, weight in vector.items() if weight}
        self.vocabulary = tuple(sorted(terms))

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        ids = {term: i for i, term in enumerate(self.vocabulary)}
        records = self._records()
        while chunk := list(islice(records, CHUNK)):
            rows = [{ids[term]: weight for term, weight in vector.items() if weight} for _, vector in chunk]
            yield [passage for passage, _ in chunk], from_mappings(rows)

    def _records(self) -> Iterator[tuple[Passage, dict[str, float]]]:
        for file in self._files:
            for number, record in read_json_lines(file):
                yield _json_record(record, str(file), number)


class ParquetVectors(GivenVectors):
    """Parquet with `docno: string`, `indices: list<uint32>`, `values: list<number>`, and optionally `text`, `title`."""

    def __init__(self, path: str | Path, vocabulary: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        require("pyarrow.parquet", extra="parquet", purpose="reading parquet")
        schema = self._schema()
        missing = [name for name in ("docno", "indices", "values") if name not in schema.names]
        if missing:
            raise InputError(f"no column {', '.join(missing)}; it has {', '.join(schema.names)}", str(self.path))
        self._columns = [n for n in ("docno", "indices", "values", "text", "title") if n in schema.names]
        stored = (schema.metadata or {}).get(b"vocabulary")
        if vocabulary is None and stored is not None:
            vocabulary = self._stored(stored)
        self.named = vocabulary is not None
        if vocabulary is None:
            vocabulary = _numbered(self._largest() + 1, self.path)
        self.vocabulary = tuple(vocabulary)

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        done = 0
        for rows in self._tables(self._columns):
            vectors = []
            for number, row in enumerate(rows, start=done + 1):
                indices, values = row["indices"] or [], row["values"] or []
                if not isinstance(indices, list) or not isinstance(values, list) or not all(map(_is_index, indices)):
                    raise InputError("indices must be whole numbers, and values numbers", str(self.path), number)
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
            fields = [(r["docno"], r.get("text"), r.get("title")) for r in rows]
            passages = [_passage(*row, str(self.path), n) for n, row in enumerate(fields, done + 1)]
            done += len(rows)
            yield passages, from_mappings(vectors)

    def _schema(self) -> pa.Schema:
        import pyarrow.parquet as pq

        try:
            return pq.read_schema(self.path)
        except _ARROW as err:
            raise InputError(f"cannot be read as parquet: {err}", str(self.path)) from err

    def _tables(self, columns: list[str]) -> Iterator[list[dict[str, object]]]:
        """The rows of these columns, a batch at a time."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(CHUNK, columns=columns):
                    yield batch.to_pylist()
        except _ARROW as err:
            if isinstance(err, ThresherError):
                raise
            raise InputError(f"cannot be read as parquet: {err}", str(self.path)) from err

    def _stored(self, stored: bytes) -> tuple[str, ...]:
        """The vocabulary in the file's metadata."""
        try:
            words = json.loads(stored)
        except (ValueError, RecursionError) as err:
            raise InputError(f"the vocabulary in its metadata is not JSON ({err})", str(self.path)) from err
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError("the vocabulary in its metadata is not a list of strings", str(self.path))
        return tuple(words)

    def _word(self, index: int, number: int) -> str:
        if not 0 <= index < len(self.vocabulary):
            raise InputError(
                f"index {index} is outside the vocabulary of {len(self.vocabulary)}", str(self.path), number
            )
        return self.vocabulary[index]

    def _largest(self) -> int:
        largest = -1
        for rows in self._tables(["indices"]):
            for row in rows:
                indices = row["indices"]
                if isinstance(indices, list):
                    largest = max(largest, *(i for i in indices if isinstance(i, int)), -1)
        return largest


class CsrVectors(GivenVectors):
    """A scipy compressed-row matrix, `scipy.sparse.save_npz`: one row a passage."""

    def __init__(
        self, path: str | Path, docnos: Sequence[str] | None = None, vocabulary: Sequence[str] | None = None
    ) -> None:
        self.path = Path(path)
        matrix = _csr(self.path)
        self._batch = matrix[0]
        n, width = matrix[1]
        self.docnos = tuple(docnos) if docnos is not None else tuple(str(i) for i in range(n))
        self.named = vocabulary is not None
        self.vocabulary = tuple(vocabulary) if vocabulary is not None else _numbered(width, self.path)
        if len(self.docnos) != n or len(self.vocabulary) != width:
            raise InputError(
                f"a matrix of {n} x {width}, but {len(self.docnos)} docnos and {len(self.vocabulary)} terms are given",
                str(self.path),
            )

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        for start in range(0, len(self.docnos), CHUNK):
            stop = min(start + CHUNK, len(self.docnos))
            docnos = enumerate(self.docnos[start:stop], start + 1)
            passages = [_passage(docno, "", "", str(self.path), number) for number, docno in docnos]
            yield passages, row_slice(self._batch, start, stop)


def _json_record(record: Mapping[str, object], source: str, number: int) -> tuple[Passage, dict[str, float]]:
    vector = record.get("vector")
    if not isinstance(vector, dict) or "id" not in record:
        raise InputError("expected {'id', 'contents', 'vector': {term: weight}}", source, number)
    for term, weight in vector.items():
        _check_weight(term, weight, source, number)
    passage = _passage(record["id"], record.get("contents"), "", source, number)
    return passage, {term: float(weight) for term, weight in vector.items()}


def _passage(docno: object, text: object, title: object, source: str, number: int) -> Passage:
    """The passage of a record; its text and title may be null, and its docno a number."""
    docno = str(docno) if isinstance(docno, int) and not isinstance(docno, bool) else docno
    for name, value in (("docno", docno), ("text", "" if text is None else text), ("title", title or "")):
        if not isinstance(value, str):
            raise InputError(f"the {name} is {shown(value)}; it must be a string", source, number)
    try:
        return Passage(str(docno), str(text or ""), str(title or ""))
    except InputError as err:
        raise InputError(str(err.args[0]), source, number) from None


def _check_weight(term: str, weight: object, source: str, number: int) -> None:
    """Check a weight: a number that float32 holds, and not negative. What is 0, also as float32, is left out later.

    Raises:
        InputError: it is something else; names the record.
    """
    good = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight <= _LARGEST
    if not good:
        raise InputError(
            f"term {shown(term)} has the weight {shown(weight)}; a weight is a finite number of at least 0",
            source,
            number,
        )


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbered(count: int, path: Path) -> tuple[str, ...]:
    """A vocabulary of numbers, for data that does not name its terms."""
    if count > _NUMBERED:
        raise InputError(
            f"terms are numbered up to {count - 1}, but not named; give their names (vocabulary)", str(path)
        )
    return tuple(str(number) for number in range(count))


def _csr(path: Path) -> tuple[SparseBatch, tuple[int, int]]:
    """The matrix as checked rows with ascending terms, and its shape."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            if bytes(data["format"].item()) != b"csr":
                raise InputError(f"the matrix is in {data['format'].item()!r} format; save it with tocsr()", str(path))
            indptr, indices, values = (data[name] for name in ("indptr", "indices", "data"))
            n, width = (int(size) for size in data["shape"])
        for array, kinds in ((indptr, "iu"), (indices, "iu"), (values, "biuf")):
            if array.ndim != 1 or array.dtype.kind not in kinds:
                raise InputError(f"an array is {array.dtype}{array.shape}; write the matrix again", str(path))
    except UNREADABLE as err:
        if isinstance(err, InputError):
            raise
        raise InputError(f"not a matrix of scipy.sparse.save_npz ({type(err).__name__}: {err})", str(path)) from err
    rising = (
        n >= 0
        and len(indptr) == n + 1
        and indptr[0] == 0
        and indptr[-1] == len(indices)
        and bool((np.diff(indptr) >= 0).all())
    )
    inside = bool(((indices >= 0) & (indices < width)).all())
    if not rising or not inside or len(values) != len(indices):
        raise InputError(f"the arrays of the {n} x {width} matrix do not fit together; write it again", str(path))
    if not ((values >= 0) & (values <= _LARGEST)).all():  # which a NaN is not either
        raise InputError("weights must be finite and not negative; remove the others", str(path))
    values = values.astype(np.float32)
    row = np.repeat(np.arange(n), np.diff(indptr))
    order = np.lexsort((indices, row))
    order = order[values[order] > 0]
    row, terms = row[order], indices[order].astype(np.uint32)
    if bool(((np.diff(row) == 0) & (np.diff(terms.astype(np.int64)) == 0)).any()):
        raise InputError("a row names a term twice; call sum_duplicates() before saving", str(path))
    starts = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=n), out=starts[1:])
    return SparseBatch(starts, terms, values[order]), (n, width)


def plain_name(path: Path) -> str:
    """The name without the suffix of a compression."""
    for suffix in COMPRESSED:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.name
