"""Parquet as Hugging Face data sets have it: `docno`, `text`, `indices: list<uint32>`, `values: list<number>`.

A list of strings named `terms` may take the place of `indices`. The vocabulary and the scale are in the metadata of the
file, where there are term ids and `thresher` wrote them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import shown
from thresher.durable import replacing
from thresher.errors import InputError, ThresherError, require
from thresher.index.exchange.facts import MARK, Facts
from thresher.index.exchange.formats import Format
from thresher.index.exchange.given import CHUNK, LARGEST, GivenVectors, numbered, passage_of
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.exchange.documents import Documents
    from thresher.index.exchange.given import Names

_ARROW = (OSError, ValueError, NotImplementedError, LookupError, TypeError, MemoryError, OverflowError, RuntimeError)
"""What pyarrow raises for a file that it cannot read."""
_DOCNOS = ("docno", "id", "_id", "doc_id")
_TERMS = ("indices", "terms")
_VOCABULARY = b"vocabulary"
_PURPOSE = "reading and writing parquet"


class Parquet(Format):
    """One row a document, lists of term ids and impacts."""

    name = "parquet"
    title = "Hugging Face parquet"
    suffixes = (".parquet",)
    packs = False

    def write(self, documents: Documents, file: Path) -> None:
        """Row groups of some thousand documents."""
        pa = require("pyarrow", extra="parquet", purpose=_PURPOSE)
        parquet = require("pyarrow.parquet", extra="parquet", purpose=_PURPOSE)
        value = pa.uint8() if documents.facts.bits == 8 else pa.uint16()
        fields = [("docno", pa.string()), ("title", pa.string()), ("text", pa.large_string())]
        fields += [("metadata", pa.string()), ("indices", pa.list_(pa.uint32())), ("values", pa.list_(value))]
        known = {_VOCABULARY: json.dumps(list(documents.words)), MARK.encode(): documents.facts.text()}
        schema = pa.schema(fields, metadata=known)
        with replacing(file) as stream, parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
            for batch in documents.batches():
                passages, offsets = batch.passages, pa.array(batch.rows.indptr.astype(np.int32))
                columns = [
                    pa.array([passage.docno for passage in passages], pa.string()),
                    pa.array([passage.title for passage in passages], pa.string()),
                    pa.array([passage.text for passage in passages], pa.large_string()),
                    pa.array([_metadata(passage) for passage in passages], pa.string()),
                    pa.ListArray.from_arrays(offsets, pa.array(batch.rows.terms)),
                    pa.ListArray.from_arrays(offsets, pa.array(batch.rows.impacts, value)),
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))

    def open(self, path: Path, names: Names) -> ParquetVectors:
        """A file."""
        return ParquetVectors(path, names)


def _metadata(passage: Passage) -> str | None:
    return json.dumps(dict(passage.metadata), ensure_ascii=False) if passage.metadata else None


class ParquetVectors(GivenVectors):
    """Parquet with a docno, a list of term ids or terms, a list of weights, and optionally text, title, metadata."""

    def __init__(self, path: Path, names: Names) -> None:
        self.path = path
        require("pyarrow.parquet", extra="parquet", purpose=_PURPOSE)
        schema = self._schema()
        found = [next((n for n in some if n in schema.names), some[0]) for some in (_DOCNOS, _TERMS, ("values",))]
        missing = [name for name in found if name not in schema.names]
        if missing:
            raise InputError(f"no column {', '.join(missing)}; it has {', '.join(schema.names)}", str(path))
        self._docno, self._list, _ = found
        self._strings = self._check_types(schema)
        self._columns = [*found, *(n for n in ("text", "title", "metadata") if n in schema.names)]
        stored = schema.metadata or {}
        self.facts, vocabulary = names.facts, names.vocabulary
        if self.facts is None and MARK.encode() in stored:
            self.facts = Facts.from_text(stored[MARK.encode()].decode("utf-8", "replace"), str(path))
        if vocabulary is None and _VOCABULARY in stored:
            vocabulary = self._stored(stored[_VOCABULARY])
        if vocabulary is None and self._strings:
            vocabulary = sorted(set().union(*self._words()))
        self.named = vocabulary is not None
        if vocabulary is None:
            vocabulary = numbered(self._largest() + 1, path)
        self.vocabulary = tuple(vocabulary)
        self._numbers = self.numbers_of_words() if self._strings else {}

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        done = 0
        for batch in self._tables(self._columns):
            named = {
                name: batch.column(name).to_pylist() for name in self._columns if name not in (self._list, "values")
            }
            docnos = named[self._docno]
            empty = [None] * len(docnos)
            text, title = (named.get(name, empty) for name in ("text", "title"))
            metadata = [self._object(one, done + i) for i, one in enumerate(named.get("metadata", empty), start=1)]
            rows = zip(docnos, text, title, metadata, strict=True)
            passages = [
                passage_of(docno, one, own, str(self.path), number, more)
                for number, (docno, one, own, more) in enumerate(rows, done + 1)
            ]
            yield passages, self._rows(batch, docnos, done)
            done += len(docnos)

    def _rows(self, batch: pa.RecordBatch, docnos: list[object], done: int) -> SparseBatch:
        lengths, indices = self._flat(batch, self._list, done)
        own, values = self._flat(batch, "values", done)
        wrong = np.flatnonzero(lengths != own)
        if len(wrong):
            at = int(wrong[0])
            raise self._unpaired(docnos[at], int(lengths[at]), int(lengths[at]), int(own[at]), done + at + 1)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        width = len(self.vocabulary)
        with np.errstate(invalid="ignore"):
            fine = (indices >= 0) & (indices < width)
            if not fine.all():
                at = int(np.argmin(fine))
                problem = f"index {indices[at]} is outside the vocabulary of {width}"
                raise InputError(problem, str(self.path), done + int(rows[at]) + 1)
            fine = (values >= 0) & (values <= LARGEST)
        if not fine.all():
            at = int(np.argmin(fine))
            term = self.vocabulary[int(indices[at])]
            problem = f"term {shown(term)} has the weight {values[at]}; a weight is a finite number of at least 0"
            raise InputError(problem, str(self.path), done + int(rows[at]) + 1)
        order = np.lexsort((indices, rows))
        rows, ids = rows[order], indices[order].astype(np.uint32)
        scale = 1.0 if self.facts is None else self.facts.scale
        weights = (values[order].astype(np.float64) * scale).astype(np.float32)
        twice = (rows[1:] == rows[:-1]) & (ids[1:] == ids[:-1])
        if bool(twice.any()):
            at = int(rows[int(np.argmax(twice))])
            distinct = len(np.unique(ids[rows == at]))
            raise self._unpaired(docnos[at], int(lengths[at]), distinct, int(own[at]), done + at + 1)
        kept = weights > 0
        indptr = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(np.bincount(rows[kept], minlength=len(lengths)), out=indptr[1:])
        return SparseBatch(indptr, ids[kept], weights[kept])

    def _unpaired(self, docno: object, count: int, distinct: int, values: int, number: int) -> InputError:
        return InputError(
            f"{docno!r} has {count} indices ({distinct} distinct) and {values} values; they must pair up, each index "
            "once",
            str(self.path),
            number,
        )

    def _flat(self, batch: pa.RecordBatch, name: str, done: int) -> tuple[NDArray[np.int64], Array]:
        """Lengths and entries of a column of lists; ids of terms where these are strings."""
        from pyarrow import compute

        column = batch.column(name)
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        entries = column.flatten()
        if entries.null_count:
            at = int(np.searchsorted(np.cumsum(lengths), int(np.argmax(entries.is_null().to_numpy(False))), "right"))
            raise InputError("indices must be whole numbers, and values numbers", str(self.path), done + at + 1)
        if name == self._list and self._strings:
            words = entries.dictionary_encode()
            table = [self._numbers.get(word, -1) for word in words.dictionary.to_pylist()]
            places = words.indices.to_numpy(zero_copy_only=False)
            ids = np.array(table, np.int64)[places] if table else np.zeros(0, np.int64)
            if len(ids) and int(ids.min()) < 0:
                at = int(np.argmin(ids))
                row = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
                problem = f"term {shown(entries[at].as_py())} is not in the vocabulary"
                raise InputError(problem, str(self.path), done + row + 1)
            return lengths, ids
        if name == self._list:
            entries = compute.cast(entries, "int64")
        return lengths, entries.to_numpy(zero_copy_only=False)

    def _check_types(self, schema: pa.Schema) -> bool:
        """Whether terms are strings.

        Raises:
            InputError: a column is none of lists of terms and numbers.
        """
        import pyarrow as pa

        types = [schema.field(name).type for name in (self._list, "values")]
        inner = [one.value_type if pa.types.is_list(one) or pa.types.is_large_list(one) else None for one in types]
        strings = inner[0] is not None and (pa.types.is_string(inner[0]) or pa.types.is_large_string(inner[0]))
        number = inner[1] is not None and (pa.types.is_integer(inner[1]) or pa.types.is_floating(inner[1]))
        if inner[0] is None or not (strings or pa.types.is_integer(inner[0])) or not number:
            problem = f"columns {self._list} and values are {types[0]} and {types[1]}"
            raise InputError(f"{problem}; indices must be whole numbers, and values numbers, in lists", str(self.path))
        return bool(strings)

    def _schema(self) -> pa.Schema:
        import pyarrow.parquet as pq

        try:
            return pq.read_schema(self.path)
        except _ARROW as err:
            raise InputError(f"cannot be read as parquet: {err}", str(self.path)) from err

    def _tables(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows of these columns, a batch at a time."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                yield from file.iter_batches(CHUNK, columns=columns)
        except _ARROW as err:
            if isinstance(err, ThresherError):
                raise
            raise InputError(f"cannot be read as parquet: {err}", str(self.path)) from err

    def _object(self, text: object, number: int) -> object:
        """Metadata from its JSON."""
        if text is None:
            return None
        try:
            return json.loads(text) if isinstance(text, str) else text
        except (ValueError, RecursionError) as err:
            raise InputError(f"its metadata is not JSON ({err})", str(self.path), number) from None

    def _stored(self, stored: bytes) -> tuple[str, ...]:
        """The vocabulary in the file's metadata."""
        try:
            words = json.loads(stored)
        except (ValueError, RecursionError) as err:
            raise InputError(f"the vocabulary in its metadata is not JSON ({err})", str(self.path)) from err
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError("the vocabulary in its metadata is not a list of strings", str(self.path))
        return tuple(words)

    def _words(self) -> Iterator[set[str]]:
        for batch in self._tables([self._list]):
            yield {word for word in batch.column(self._list).flatten().unique().to_pylist() if word is not None}

    def _largest(self) -> int:
        from pyarrow import compute

        largest = -1
        for batch in self._tables([self._list]):
            found = compute.max(batch.column(self._list).flatten()).as_py()
            largest = max(largest, -1 if found is None else int(found))
        return largest
