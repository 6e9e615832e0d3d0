"""From rows of weighted terms to posting lists, block directories and stored impacts: the kernels of the builder.

Inversion is one counting pass (done while passages arrive) and one placing pass: every posting goes straight to its
final place, list after list, so the only memory is one cursor per term. All arrays may be larger than memory; they are
memory-mapped files.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.index.arrays import Array


class Spool(NamedTuple):
    """The rows that were added.

    Attributes:
        indptr: int64[n + 1], rows of passages in the order they came.
        terms: uint32[nnz], term ids, ascending in a row, each below the number of terms (checked on arrival).
        weights: float32[nnz], positive, finite.
        order: uint32[n], internal id -> number in the order they came.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.uint32]
    weights: NDArray[np.float32]
    order: NDArray[np.uint32]


class Lists(NamedTuple):
    """The posting lists being written; arrays as in `thresher.index.layout`.

    Attributes:
        starts, rows: int64[terms + 1], int32[terms].
        last: uint16[terms], the last chunk that a list without a directory row reaches.
        kth, dense, impacts, ids, maxima: zeros at first.
        superblocks: uint32[common, superblocks + 1], zeros; then postings by superblock; then first postings.
        scale: one unit of impact; impact = rint(weight / scale), at least 1, at most `top`.
        top: int64, the largest possible impact.
        block: documents in a block.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    last: NDArray[np.uint16]
    kth: Array
    dense: Array
    impacts: Array
    ids: NDArray[np.uint16]
    superblocks: NDArray[np.uint32]
    maxima: NDArray[np.uint8]
    scale: float
    top: int
    block: int


@njit(cache=True, nogil=True)
def count_terms(terms, weights, lengths, largest):
    """Add a batch of postings to the lengths of the lists, and raise their largest weights.

    terms    uint32[nnz]       ids, each below len(lengths)
    weights  float32[nnz]
    lengths  int64[terms]      in and out
    largest  float32[terms]    in and out
    """
    for p in range(terms.shape[0]):
        lengths[terms[p]] += 1
        largest[terms[p]] = max(largest[terms[p]], weights[p])


@njit(cache=True, nogil=True)
def last_chunks(spool, rows, common, last):
    """The last chunk that each list without a directory row reaches; 0 for common ones.

    spool, rows   `Spool`, int32[terms]
    common        int64            common terms
    last          uint16[terms]    in: zeros; out
    """
    indptr, terms, order = spool.indptr, spool.terms, spool.order
    for doc in range(CHUNK, order.shape[0]):
        source = order[doc]
        chunk = np.uint16(doc // CHUNK)
        for p in range(indptr[source], indptr[source + 1]):
            last[terms[p]] = chunk
    for term in range(rows.shape[0]):
        if 0 <= rows[term] < common:
            last[term] = 0


@njit(cache=True, nogil=True)
def first_at_least(term, terms, first, after):
    """The first of places first ... after - 1, whose terms ascend, with at least this term; `after` if none."""
    while first < after:
        middle = (first + after) // 2
        if terms[middle] < term:
            first = middle + 1
        else:
            after = middle
    return first


@njit(cache=True, nogil=True)
def place(first, after, spool, lists):
    """Put every posting of terms first ... after - 1 into its list, and count the postings in superblocks."""
    indptr, terms, weights, order = spool.indptr, spool.terms, spool.weights, spool.order
    starts, rows, last, dense, superblocks = lists.starts, lists.rows, lists.last, lists.dense, lists.superblocks
    impacts, ids, scale, top = lists.impacts, lists.ids, lists.scale, np.float64(lists.top)
    cursors = starts[first:after].copy()
    skips = starts[first:after].copy()
    chunks = np.zeros(after - first, np.uint16)
    for i in range(after - first):
        cursors[i] += last[first + i] > 0
    common = superblocks.shape[0]
    for doc in range(order.shape[0]):
        source = order[doc]
        low, chunk, superblock = np.uint16(doc % CHUNK), doc // CHUNK, doc // SUPERBLOCK + 1
        begin, end = indptr[source], indptr[source + 1]
        if first > 0:
            begin = first_at_least(first, terms, begin, end)
        for p in range(begin, end):
            term = np.int64(terms[p])
            if term >= after:
                break
            i = term - first
            row = np.int64(rows[term])
            impact = np.int64(min(max(np.rint(np.float64(weights[p]) / scale), 1.0), top))
            if 0 <= row < common:
                superblocks[row, superblock] += np.uint32(1)
                if row < dense.shape[0]:
                    dense[row, doc] = impact
                    continue
            if last[term] > 0:
                while chunks[i] < chunk:
                    ids[skips[i]] = cursors[i] - skips[i] - 1
                    chunks[i] += np.uint16(1)
                    skips[i] = cursors[i]
                    cursors[i] += chunks[i] < last[term]
            at = cursors[i]
            cursors[i] = at + 1
            impacts[at] = impact
            ids[at] = low


@njit(cache=True, nogil=True)
def fill_directory(first, after, lists):
    """Finish the directory rows of the common ones of terms first ... after - 1: superblocks and maxima.

    16-bit impacts become maxima of ceil(255 * impact / largest).
    """
    starts, rows, dense, impacts, ids = lists.starts, lists.rows, lists.dense, lists.impacts, lists.ids
    superblocks, maxima, block = lists.superblocks, lists.maxima, lists.block
    step, wide = SUPERBLOCK // block, lists.top > 255
    for term in range(first, after):
        row = rows[term]
        if not 0 <= row < superblocks.shape[0]:
            continue
        largest = np.int64(lists.kth[row, 0])
        for s in range(superblocks.shape[1] - 1):
            superblocks[row, s + 1] += superblocks[row, s]
        if row < dense.shape[0]:
            for doc in range(dense.shape[1]):
                best = np.int64(dense[row, doc])
                if wide:
                    best = (best * 255 + largest - 1) // largest
                maxima[row, doc // block] = max(np.int64(maxima[row, doc // block]), best)
            continue
        for s in range(superblocks.shape[1] - 1):
            for p in range(starts[term] + superblocks[row, s], starts[term] + superblocks[row, s + 1]):
                best = np.int64(impacts[p])
                if wide:
                    best = (best * 255 + largest - 1) // largest
                here = s * step + (np.int64(ids[p]) % SUPERBLOCK) // block
                maxima[row, here] = max(np.int64(maxima[row, here]), best)


@njit(cache=True, nogil=True)
def kth_largest(first, after, ks, lists):
    """Overwrite `kth[row, i]` with the ks[i]-th largest impact of each list of terms first ... after - 1.

    0 where the list is shorter; ks int64[m], ascending.
    """
    starts, rows, dense, impacts, kth = lists.starts, lists.rows, lists.dense, lists.impacts, lists.kth
    counts = np.zeros(lists.top + 1, np.int64)
    for term in range(first, after):
        row = rows[term]
        if row < 0:
            continue
        highest = np.int64(0)
        own = dense[row] if row < dense.shape[0] else impacts[starts[term] : starts[term + 1]]
        for p in range(own.shape[0]):
            impact = np.int64(own[p])
            counts[impact] += 1
            highest = max(highest, impact)
        seen = np.int64(0)
        i = 0
        for impact in range(highest, 0, -1):
            seen += counts[impact]
            while i < ks.shape[0] and seen >= ks[i]:
                kth[row, i] = impact
                i += 1
            if i == ks.shape[0]:
                break
        counts[: highest + 1] = 0
