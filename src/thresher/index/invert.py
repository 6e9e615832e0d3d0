"""From rows of weighted terms to posting lists, block directories and stored impacts: the kernels of the builder.

Inversion is one counting pass (done while passages arrive) and one placing pass: every posting goes straight to its
final place, list after list, so the only memory is one cursor per term. All arrays may be larger than memory; they are
memory-mapped files.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["count_terms", "directory", "kth_largest", "place"]


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
def place(indptr, terms, weights, order, scale, top, block, starts, bases, rows, impacts, lows, docs, pointers):
    """Put every posting into its list, and note where blocks end.

    indptr    int64[n + 1]      rows of passages in the order they came
    terms     uint32[nnz]       term ids, each below len(rows) (checked when they came)
    weights   float32[nnz]      positive, finite
    order     uint32[n]         internal id -> number in the order they came
    scale     float64           one unit of impact; impact = rint(weight / scale), at least 1, at most `top`
    starts    int64[terms + 1], bases int64[terms], rows int32[terms]   where the lists lie, see `layout`
    impacts, lows, docs         out
    pointers  uint32[rows, blocks + 1]   in: zeros; out: [row, j + 1]: end of block j, 0 if it has no postings
    """
    cursors = np.zeros(rows.shape[0], np.int64)
    for doc in range(order.shape[0]):
        source = order[doc]
        after = doc // block + 1
        for p in range(indptr[source], indptr[source + 1]):
            term = terms[p]
            at = cursors[term]
            cursors[term] = at + 1
            impact = min(max(np.rint(np.float64(weights[p]) / scale), 1.0), top)
            impacts[starts[term] + at] = np.int64(impact)
            row = rows[term]
            if row >= 0:
                lows[bases[term] + at] = np.uint16(doc & 0xFFFF)
                pointers[row, after] = at + 1
            else:
                docs[bases[term] + at] = np.uint32(doc)


@njit(cache=True, nogil=True)
def directory(starts, rows, impacts, kth, bits, pointers, maxima):
    """Finish the block directory of the common terms.

    kth       uint8 or uint16[terms, 4]  column 0 is the list's largest impact
    pointers  uint32[rows, blocks + 1]   in: as `place` leaves it; out: where each block begins
    maxima    uint8[rows, blocks]        out; 16-bit impacts become ceil(255 * impact / largest)
    """
    for term in range(rows.shape[0]):
        row = rows[term]
        if row < 0:
            continue
        start = starts[term]
        largest = np.int64(kth[term, 0])
        for j in range(maxima.shape[1]):
            first = pointers[row, j]
            if pointers[row, j + 1] == 0:
                pointers[row, j + 1] = first
            best = np.int64(0)
            for p in range(start + first, start + pointers[row, j + 1]):
                best = max(best, np.int64(impacts[p]))
            if bits == 16:
                best = (best * 255 + largest - 1) // largest
            maxima[row, j] = best


@njit(cache=True, nogil=True)
def kth_largest(starts, impacts, ks, top, kth):
    """Overwrite `kth[term, i]` with the ks[i]-th largest impact of the list, 0 where the list is shorter.

    ks   int64[m]   ascending
    top  int64      largest possible impact
    """
    counts = np.zeros(top + 1, np.int64)
    for term in range(starts.shape[0] - 1):
        first, last = starts[term], starts[term + 1]
        highest = np.int64(0)
        for p in range(first, last):
            impact = np.int64(impacts[p])
            counts[impact] += 1
            highest = max(highest, impact)
        seen = np.int64(0)
        i = 0
        for impact in range(highest, 0, -1):
            seen += counts[impact]
            while i < ks.shape[0] and seen >= ks[i]:
                kth[term, i] = impact
                i += 1
            if i == ks.shape[0] or seen == last - first:
                break
        for p in range(first, last):
            counts[np.int64(impacts[p])] = 0
