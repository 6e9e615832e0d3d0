"""Sparse collections as plain arrays: what every engine of the panel is fed.

A collection is rows of distinct ascending term ids with whole impacts 1 … 255, and query sets of the same form with
whole weights whose largest is exactly 32 and, beside them, the float weights they were rounded from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Rows:
    """Compressed rows: indptr int64[n + 1], terms uint32[nnz], weights (uint8 impacts, float32 query weights)."""

    indptr: np.ndarray
    terms: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.indptr[i], self.indptr[i + 1])
        return self.terms[part], self.weights[part]

    def take(self, rows: np.ndarray) -> Rows:
        lengths = np.diff(self.indptr)[rows]
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        at = np.repeat(self.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return Rows(indptr, self.terms[at], self.weights[at])


@dataclass
class Matrix:
    """A collection and the queries it is asked."""

    name: str
    terms: int
    documents: Rows
    queries: dict[str, Rows]
    about: dict = field(default_factory=dict)


def from_pairs(rows: np.ndarray, terms: np.ndarray, weights: np.ndarray, n: int) -> Rows:
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


def whole_weights(weights: np.ndarray, largest: int = 32) -> np.ndarray:
    """Weights as whole numbers 1 … `largest`, which stands for the heaviest."""
    return np.maximum(1, np.rint(weights * (largest / weights.max()))).astype(np.float32)


def whole_queries(rows: Rows) -> Rows:
    """Query weights as whole numbers, the largest of each query exactly 32 (which `bmp` then scores as they are)."""
    weights = rows.weights.copy()
    for i in range(len(rows)):
        part = slice(rows.indptr[i], rows.indptr[i + 1])
        if part.stop > part.start:
            weights[part] = whole_weights(weights[part])
    return Rows(rows.indptr, rows.terms, weights.astype(np.float32))


def save(matrix: Matrix, file: Path) -> None:
    import json

    arrays = {
        "about": np.frombuffer(
            json.dumps({"name": matrix.name, "terms": matrix.terms, **matrix.about}).encode(), np.uint8
        )
    }
    for name, rows in {"documents": matrix.documents, **{f"q.{k}": v for k, v in matrix.queries.items()}}.items():
        arrays |= {f"{name}/indptr": rows.indptr, f"{name}/terms": rows.terms, f"{name}/weights": rows.weights}
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.rename(file)


def load(file: Path) -> Matrix:
    import json

    with np.load(file, allow_pickle=False) as z:
        about = json.loads(z["about"].tobytes())
        rows = {
            name: Rows(*(z[f"{name}/{part}"] for part in ("indptr", "terms", "weights")))
            for name in {key.split("/")[0] for key in z.files if "/" in key}
        }
    queries = {name[2:]: value for name, value in sorted(rows.items()) if name.startswith("q.")}
    return Matrix(about.pop("name"), about.pop("terms"), rows["documents"], queries, about)
