"""Rows of a collection that need not fit in memory: `indptr.npy`, `terms.npy`, `weights.npy` in a folder, mapped.

`write_shuffled` puts a stream of rows into a given order in two passes, both sequential: each row goes to the file of
the bucket its place falls in, then each bucket is put in order in memory.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from eval.search.matrices import Rows, gathered

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

BUCKET = 2**17
"""Rows that are put in order at a time."""
ARRAYS = ("indptr", "terms", "weights")


def open_rows(folder: Path) -> Rows:
    """The rows in a folder, mapped into memory."""
    return Rows(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS))


def is_written(folder: Path) -> bool:
    """Whether the rows in a folder are complete: `indptr` is written last."""
    return (folder / "indptr.npy").is_file()


def write_rows(folder: Path, parts: Iterable[Rows], size: int, types: tuple[Any, Any] = (np.uint16, np.uint8)) -> None:
    """Write rows that come in parts; `size`, their entries together, is known before."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [np.zeros(1, np.int64)]
    open_array = np.lib.format.open_memmap
    terms, weights = (
        open_array(folder / f"{name}.npy", "w+", dtype, (size,)) for name, dtype in zip(ARRAYS[1:], types, strict=True)
    )
    at = 0
    for part in parts:
        after = at + len(part.terms)
        terms[at:after], weights[at:after] = part.terms, part.weights
        lengths.append(np.diff(part.indptr))
        at = after
    terms.flush()
    weights.flush()
    partial = folder / "indptr.partial.npy"
    np.save(partial, np.cumsum(np.concatenate(lengths)))
    partial.rename(folder / "indptr.npy")


class Buckets:
    """Rows set down in files by the place they are to have.

    Args:
        folder: where the files go.
        places: int64[n], the place of each row in the order they come.
        rows: places in a bucket.
    """

    def __init__(self, folder: Path, places: NDArray[np.int64], rows: int = BUCKET) -> None:
        self._folder, self._places, self._rows = folder, places, rows
        self.count = -(-len(places) // rows)
        self._lengths = np.zeros(len(places), np.int32)
        self._done = 0
        folder.mkdir(parents=True, exist_ok=True)

    def extend(self, part: Rows) -> None:
        """The next rows: uint16 terms, uint8 weights."""
        places = self._places[self._done : self._done + len(part)]
        bucket = places // self._rows
        order = np.argsort(bucket, kind="stable")
        grouped = gathered(part, order)
        edges = grouped.indptr[np.searchsorted(bucket[order], np.arange(self.count + 1))]
        for b in np.unique(bucket):
            for name in ("terms", "weights"):
                with self._file(int(b), name) as stream:
                    getattr(grouped, name)[edges[b] : edges[b + 1]].tofile(stream)
        self._lengths[self._done : self._done + len(part)] = np.diff(part.indptr)
        self._done += len(part)

    def _file(self, bucket: int, name: str) -> BinaryIO:
        return (self._folder / f"{bucket}.{name}").open("ab")

    @property
    def size(self) -> int:
        """Entries of all rows."""
        return int(self._lengths.sum(dtype=np.int64))

    def read(self, bucket: int) -> Rows:
        """The rows of a bucket, in order of their places."""
        own = np.flatnonzero(self._places // self._rows == bucket)
        indptr = np.concatenate(([0], np.cumsum(self._lengths[own], dtype=np.int64)))
        terms = np.fromfile(self._folder / f"{bucket}.terms", np.uint16)
        weights = np.fromfile(self._folder / f"{bucket}.weights", np.uint8)
        return gathered(Rows(indptr, terms, weights), np.argsort(self._places[own]))


def write_shuffled(folder: Path, parts: Iterable[Rows], order: NDArray[np.int64], bucket: int = BUCKET) -> None:
    """Write the rows that come in `parts` into a folder, the row that comes at `order[i]` as number i."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    scratch = folder / "buckets"
    shutil.rmtree(scratch, ignore_errors=True)
    buckets = Buckets(scratch, places, bucket)
    for part in parts:
        buckets.extend(part)
    write_rows(folder, (buckets.read(b) for b in range(buckets.count)), buckets.size)
    shutil.rmtree(scratch)
