"""Posting lists of rows on disk, in any order of documents: `indptr.npy`, `docs.npy`, `impacts.npy` in a folder.

Nothing but one cursor for each term is in memory; the arrays are mapped. Engines that take posting lists are built from
them, and the exact scores of queries are summed over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from eval.search.truth import best_scores, true_scores

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from eval.search.matrices import Rows

DEEPEST = 1000


@dataclass
class Columns:
    """Posting lists: indptr int64[terms + 1], docs uint32[nnz] ascending in a list, impacts uint8[nnz]."""

    indptr: NDArray[np.int64]
    docs: NDArray[np.uint32]
    impacts: NDArray[np.uint8]


@njit(cache=True)
def count(terms: NDArray[Any], lengths: NDArray[np.int64]) -> None:
    """Count postings by term."""
    for p in range(len(terms)):
        lengths[terms[p]] += 1


@njit(cache=True)
def place(
    indptr: NDArray[np.int64], terms: NDArray[Any], impacts: NDArray[np.uint8], order: NDArray[np.int64],
    cursors: NDArray[np.int64], docs: NDArray[Any], out: NDArray[Any],
) -> None:  # fmt: skip
    """Put the postings of the row order[i] into the lists, as document i."""
    for i in range(len(order)):
        for p in range(indptr[order[i]], indptr[order[i] + 1]):
            at = cursors[terms[p]]
            cursors[terms[p]] = at + 1
            docs[at], out[at] = i, impacts[p]


def starts(terms: NDArray[Any], count_of: int) -> NDArray[np.int64]:
    """int64[terms + 1]: where the list of each of so many terms begins."""
    lengths = np.zeros(count_of, np.int64)
    count(terms, lengths)
    return np.concatenate(([0], np.cumsum(lengths)))


def write_columns(folder: Path, rows: Rows, terms: int, order: NDArray[np.int64] | None = None) -> Columns:
    """Invert rows; document i is row order[i], or row i."""
    folder.mkdir(parents=True, exist_ok=True)
    indptr = starts(rows.terms, terms)
    docs = np.lib.format.open_memmap(folder / "docs.npy", "w+", np.uint32, (int(indptr[-1]),))
    impacts = np.lib.format.open_memmap(folder / "impacts.npy", "w+", np.uint8, (int(indptr[-1]),))
    wanted = np.arange(len(rows)) if order is None else order.astype(np.int64)
    place(rows.indptr, rows.terms, rows.weights, wanted, indptr[:-1].copy(), docs, impacts)
    docs.flush()
    impacts.flush()
    np.save(folder / "indptr.npy", indptr)
    return Columns(indptr, docs, impacts)


def open_columns(folder: Path) -> Columns:
    """What `write_columns` wrote, mapped."""
    return Columns(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "docs", "impacts")))


def best_of(columns: Columns, queries: Rows, n: int) -> NDArray[np.float64]:
    """float64[queries, 1000]: the largest scores of each query, descending; 0 where fewer passages have one."""
    best = np.zeros((len(queries), DEEPEST))
    for i in range(len(queries)):
        terms, weights = queries.row(i)
        found = best_scores(true_scores(columns.indptr, columns.docs, columns.impacts, terms, weights, n), DEEPEST)
        best[i, : len(found)] = found
    return best


@njit(cache=True)
def scores_of(
    indptr: NDArray[np.int64], terms: NDArray[Any], impacts: NDArray[np.uint8], weights: NDArray[np.float64],
    ids: NDArray[np.int64],
) -> NDArray[np.float64]:  # fmt: skip
    """Scores of rows: float64 sums in ascending order of terms; `weights` are the query's, one for every term."""
    scores = np.zeros(len(ids))
    for i in range(len(ids)):
        for p in range(indptr[ids[i]], indptr[ids[i] + 1]):
            scores[i] += weights[terms[p]] * impacts[p]
    return scores
