"""Compressed rows in files of arrays, read and written some rows at a time: what `.npz` and Big-ANN files share.

`indptr` alone is held, 8 bytes a passage. Entries are read in the order of the file and checked as they come: terms
below the width and distinct in a row, weights finite and not negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from thresher.errors import InputError
from thresher.index.exchange.given import CHUNK, LARGEST, GivenVectors, numbered, passage_of
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.exchange.documents import Documents
    from thresher.index.exchange.given import Names

ENTRIES = 2**22
"""Entries that are read at a time, but for a row that has more."""
PIECE = 2**20
"""Bytes that are read at a time where nothing says how many there are."""


class CsrVectors(GivenVectors):
    """Rows of a matrix, one a passage, with docnos and terms from elsewhere; by default their numbers.

    Subclasses give `indptr`, the width, the types of the entries, and the two streams.
    """

    indptr: NDArray[np.int64]
    index_type: np.dtype[np.generic]
    value_type: np.dtype[np.generic]

    def _take(self, path: Path, names: Names, indptr: NDArray[np.int64], width: int) -> None:
        """Set what all share, once `indptr` was read.

        Raises:
            InputError: docnos or terms are not as many as the matrix has rows or columns.
        """
        self.path, self.indptr = path, indptr
        self.facts = names.facts
        n = len(indptr) - 1
        if indptr[0] != 0 or bool((indptr[1:] < indptr[:-1]).any()):
            raise InputError("indptr does not ascend from 0; write the matrix again", str(path))
        self.docnos = tuple(names.docnos) if names.docnos is not None else _Numbers(n)
        self.named = names.vocabulary is not None
        self.vocabulary = tuple(names.vocabulary) if names.vocabulary is not None else numbered(width, path)
        if len(self.docnos) != n or len(self.vocabulary) != width:
            raise InputError(
                f"a matrix of {n} x {width}, but {len(self.docnos)} docnos and {len(self.vocabulary)} terms are given",
                str(path),
            )

    def streams(self) -> AbstractContextManager[tuple[BinaryIO, BinaryIO]]:
        """The indices and the values from their beginnings, as files."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        n, start = len(self.indptr) - 1, 0
        with self.streams() as (indices, values):
            while start < n:
                stop = int(np.searchsorted(self.indptr, self.indptr[start] + ENTRIES, side="right")) - 1
                stop = min(max(stop, start + 1), start + CHUNK, n)
                count = int(self.indptr[stop] - self.indptr[start])
                terms = read_array(indices, self.index_type, count, self.path, "indices")
                weights = read_array(values, self.value_type, count, self.path, "values")
                passages = [passage_of(self.docnos[i], "", "", str(self.path), i + 1) for i in range(start, stop)]
                yield passages, self._batch(start, stop, terms, weights)
                start = stop

    def _batch(self, start: int, stop: int, terms: Array, values: Array) -> SparseBatch:
        indptr = self.indptr[start : stop + 1] - self.indptr[start]
        width = len(self.vocabulary)
        inside = (terms >= 0) & (terms < width)
        with np.errstate(invalid="ignore"):
            fine = inside & (values >= 0) & (values <= LARGEST)  # which a NaN is not either
        if not bool(fine.all()):
            at = int(np.argmin(fine))
            row = start + int(np.searchsorted(indptr, at, side="right"))
            problem = (
                f"an entry has index {terms[at]} and value {values[at]}; indices are below {width}, values finite "
            )
            raise InputError(f"{problem}and not negative", str(self.path), row)
        scale = 1.0 if self.facts is None else self.facts.scale
        weights = (values.astype(np.float64) * scale).astype(np.float32)
        ids = terms.astype(np.uint32)
        rows = np.repeat(np.arange(stop - start), np.diff(indptr))
        same = rows[1:] == rows[:-1]
        if bool((same & (ids[1:] <= ids[:-1])).any()):
            order = np.lexsort((ids, rows))
            ids, weights = ids[order], weights[order]
            twice = same & (ids[1:] == ids[:-1])
            if bool(twice.any()):
                row = start + int(rows[int(np.argmax(twice))]) + 1
                raise InputError("a row names a term twice; call sum_duplicates() before saving", str(self.path), row)
        kept = weights > 0
        if not kept.all():
            counts = np.bincount(rows[kept], minlength=stop - start)
            ids, weights = ids[kept], weights[kept]
            indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        return SparseBatch(indptr, ids, weights)


class _Numbers(tuple[str, ...]):
    """Row numbers as docnos, made when they are asked for."""

    __slots__ = ()

    def __new__(cls, count: int) -> _Numbers:
        return super().__new__(cls, map(str, range(count)))


def read_array(stream: BinaryIO, dtype: np.dtype[np.generic], count: int, path: Path, what: str) -> Array:
    """The next `count` numbers; memory grows with what is there, not with `count`.

    Raises:
        InputError: the file ends before.
    """
    wanted, pieces = count * dtype.itemsize, []
    while wanted:
        piece = stream.read(min(wanted, 16 * PIECE))
        if not piece:
            raise InputError(f"it ends within its {what}, {wanted:,} bytes too early; write it again", str(path))
        pieces.append(piece)
        wanted -= len(piece)
    return np.frombuffer(b"".join(pieces), dtype)


def count_rows(documents: Documents) -> NDArray[np.int64]:
    """int64[documents + 1]: where each document's row begins; one pass over the posting lists."""
    counts = [np.diff(batch.rows.indptr) for batch in documents.batches(2**16)]
    indptr = np.zeros(len(documents) + 1, np.int64)
    np.cumsum(np.concatenate(counts), out=indptr[1:])
    return indptr
