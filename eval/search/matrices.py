"""Sparse collections as plain arrays, which every engine of the panel is built from.

A collection is rows of distinct ascending term ids with whole impacts 1 … 255, and query sets of the same form with
whole weights whose largest is exactly 32 and, beside them, the float weights they were rounded from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eval.search.columns import Columns


@dataclass
class Rows:
    """Compressed rows: indptr int64[n + 1], terms uint32 or uint16[nnz], weights uint8 impacts or float32[nnz]."""

    indptr: NDArray[np.int64]
    terms: NDArray[Any]
    weights: NDArray[Any]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Terms and weights of row i."""
        part = slice(self.indptr[i], self.indptr[i + 1])
        return self.terms[part], self.weights[part]

    def take(self, rows: NDArray[np.integer[Any]]) -> Rows:
        """The rows with these numbers, in that order."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        at = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return Rows(indptr, self.terms[at], self.weights[at])


@dataclass
class Matrix:
    """A collection and the queries it is asked.

    Attributes:
        order: int64[n], an order of the documents that suits engines with block maxima; None for the one they have.
        columns: posting lists of the documents in that order, where they are on disk already.
    """

    name: str
    terms: int
    documents: Rows
    queries: dict[str, Rows]
    about: dict[str, Any] = field(default_factory=dict)
    order: NDArray[np.int64] | None = None
    columns: Columns | None = None

    @property
    def ordered(self) -> NDArray[np.int64]:
        """`order`, or the one they have."""
        return np.arange(len(self.documents)) if self.order is None else self.order


@njit(cache=True)
def gather(
    indptr: NDArray[np.int64], terms: NDArray[Any], weights: NDArray[Any], rows: NDArray[np.int64],
    new: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]],
) -> None:  # fmt: skip
    """Copy rows, in the order of `rows`, into the arrays `new`: (indptr from 0 on, terms, weights)."""
    new_indptr, new_terms, new_weights = new
    for i in range(len(rows)):
        first, last = indptr[rows[i]], indptr[rows[i] + 1]
        at = new_indptr[i]
        for j in range(last - first):
            new_terms[at + j] = terms[first + j]
            new_weights[at + j] = weights[first + j]
        new_indptr[i + 1] = at + last - first


def gathered(rows: Rows, wanted: NDArray[np.int64]) -> Rows:
    """As `Rows.take`, with no more memory than the result needs."""
    size = int(np.diff(rows.indptr)[wanted].sum())
    new = np.zeros(len(wanted) + 1, np.int64), np.empty(size, rows.terms.dtype), np.empty(size, rows.weights.dtype)
    gather(rows.indptr, rows.terms, rows.weights, wanted, new)
    return Rows(*new)


def from_pairs(rows: NDArray[Any], terms: NDArray[Any], weights: NDArray[Any], n: int) -> Rows:
    """Rows of (row, term, weight) triples; pairs that occur twice add up."""
    key = rows.astype(np.int64) << 32 | terms.astype(np.int64)
    order = np.argsort(key, kind="stable")
    key, weights = key[order], weights[order]
    firsts = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1]))) if len(key) else np.empty(0, np.int64)
    summed = np.add.reduceat(weights, firsts) if len(key) else weights
    indptr = np.searchsorted(key[firsts] >> 32, np.arange(n + 1)).astype(np.int64)
    return Rows(indptr, (key[firsts] & 0xFFFFFFFF).astype(np.uint32), summed.astype(np.float32))


def to_impacts(rows: Rows, largest: float) -> Rows:
    """Weights as whole impacts: 255 stands for `largest`, nothing becomes 0."""
    return Rows(rows.indptr, rows.terms, np.clip(np.rint(rows.weights * (255 / largest)), 1, 255).astype(np.uint8))


def whole_weights(weights: NDArray[Any], largest: int = 32) -> NDArray[np.float32]:
    """Weights as whole numbers 1 … `largest`, which stands for the heaviest."""
    return np.asarray(np.maximum(1, np.rint(weights * (largest / weights.max()))), np.float32)


def whole_queries(rows: Rows) -> Rows:
    """Query weights as whole numbers, the largest of each query exactly 32 (which `bmp` then scores as they are)."""
    weights = rows.weights.copy()
    for i in range(len(rows)):
        part = slice(rows.indptr[i], rows.indptr[i + 1])
        if part.stop > part.start:
            weights[part] = whole_weights(weights[part])
    return Rows(rows.indptr, rows.terms, weights.astype(np.float32))


def save(matrix: Matrix, file: Path) -> None:
    """Write a collection as one npz file."""
    arrays: dict[str, Any] = {
        "about": np.frombuffer(
            json.dumps({"name": matrix.name, "terms": matrix.terms, **matrix.about}).encode(), np.uint8
        )
    }
    for name, rows in {"documents": matrix.documents, **{f"q.{k}": v for k, v in matrix.queries.items()}}.items():
        arrays |= {f"{name}/indptr": rows.indptr, f"{name}/terms": rows.terms, f"{name}/weights": rows.weights}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **arrays)
    partial.rename(file)


def load(file: Path) -> Matrix:
    """Read what `save` wrote."""
    with np.load(file, allow_pickle=False) as z:
        about = json.loads(z["about"].tobytes())
        rows = {
            name: Rows(*(z[f"{name}/{part}"] for part in ("indptr", "terms", "weights")))
            for name in {key.split("/")[0] for key in z.files if "/" in key}
        }
    queries = {name[2:]: value for name, value in sorted(rows.items()) if name.startswith("q.")}
    return Matrix(about.pop("name"), about.pop("terms"), rows["documents"], queries, about)
