"""Compressed rows (`SparseBatch`): from dense torch batches and from mappings, concatenated, sliced and reordered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray


def rows_of(dense: torch.Tensor, limit: int | None = None) -> SparseBatch:
    """The positive entries of a tensor float[n, V], at most the `limit` largest of each row.

    Ties at the limit go to the lower term ids, so that a row does not depend on its batch.
    """
    if dense.is_sparse:
        dense = dense.to_dense()
    dense = dense.float()
    n, width = dense.shape
    if limit is not None and limit < width:
        values, _ = dense.topk(limit, dim=1)
        keep = dense >= values[:, -1:]
        surplus = keep.sum(1) > limit
        if bool(surplus.any()):
            keep[surplus] = _without_surplus(dense[surplus], values[surplus, -1:], limit)
        found = (keep & (dense > 0)).nonzero()
    else:
        found = (dense > 0).nonzero()
    weights = dense[found[:, 0], found[:, 1]].cpu().numpy().astype(np.float32, copy=False)
    rows, terms = found.cpu().numpy().T
    indptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    return SparseBatch(indptr, terms.astype(np.uint32), weights)


def _without_surplus(dense: torch.Tensor, threshold: torch.Tensor, limit: int) -> torch.Tensor:
    """A mask of exactly `limit` entries per row: those above the threshold, then ties by ascending term id."""
    above, equal = dense > threshold, dense == threshold
    left = limit - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= left))


def concatenate(parts: Sequence[SparseBatch], order: NDArray[np.intp] | None = None) -> SparseBatch:
    """Batches, concatenated.

    Args:
        parts: the batches.
        order: int[n], a permutation; if given, row r of the concatenation goes to position `order[r]` of the result.
    """
    if not parts:
        return SparseBatch(np.zeros(1, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    indptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    joined = SparseBatch(
        indptr, np.concatenate([part.terms for part in parts]), np.concatenate([part.weights for part in parts])
    )
    if order is None:
        return joined
    places = np.empty(len(order), dtype=np.intp)
    places[order] = np.arange(len(order))
    return take_rows(joined, places)


def take_rows(batch: SparseBatch, rows: NDArray[np.intp]) -> SparseBatch:
    """The rows of `batch` at the positions `rows`, int[m], in that order; positions may repeat."""
    counts = np.diff(batch.indptr)[rows]
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    source = np.repeat(batch.indptr[:-1][rows] - indptr[:-1], counts) + np.arange(indptr[-1])
    return SparseBatch(indptr, batch.terms[source], batch.weights[source])


def row_slice(batch: SparseBatch, start: int, stop: int) -> SparseBatch:
    """Rows `start` to `stop` of `batch`."""
    low, high = int(batch.indptr[start]), int(batch.indptr[stop])
    return SparseBatch(batch.indptr[start : stop + 1] - low, batch.terms[low:high], batch.weights[low:high])


def from_mappings(rows: Sequence[Mapping[int, float]]) -> SparseBatch:
    """Rows of term id to weight; entries that are not positive are dropped."""
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    terms: list[int] = []
    weights: list[float] = []
    for i, row in enumerate(rows):
        kept = sorted((term, weight) for term, weight in row.items() if weight > 0)
        terms.extend(term for term, _ in kept)
        weights.extend(weight for _, weight in kept)
        indptr[i + 1] = len(terms)
    return SparseBatch(indptr, np.array(terms, dtype=np.uint32), np.array(weights, dtype=np.float32))
