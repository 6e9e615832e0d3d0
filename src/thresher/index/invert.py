"""From rows of weighted terms to posting lists, block directories and stored impacts: the kernels of the builder.

Inversion is one counting pass (done while passages arrive) and one placing pass: every posting goes straight to its
final place, list after list, so the only memory is one cursor per term. All arrays may be larger than memory; they are
memory-mapped files.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["SKIP", "count_gaps", "count_terms", "directory", "kth_largest", "place"]

SKIP = 65535
"""The gap that stands for a step without posting."""


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
def count_gaps(indptr, terms, order, rows, lengths):
    """Turn the lengths of rare lists into the entries their gaps take: one a posting, one for every 65,535 ids skipped.

    indptr, terms, order, rows as in `place`; lengths int64[terms], in: postings; out: entries (common terms unchanged)
    """
    last = np.full(rows.shape[0], -1, np.int64)
    for doc in range(order.shape[0]):
        source = order[doc]
        for p in range(indptr[source], indptr[source + 1]):
            term = terms[p]
            if rows[term] < 0:
                lengths[term] += (doc - last[term] - 1) // SKIP
                last[term] = doc


@njit(cache=True, nogil=True)
def place(indptr, terms, weights, order, scale, top, block, step, starts, bases, rows, impacts, local, gaps, offsets):
    """Put every posting into its list, and count the postings of blocks.

    indptr    int64[n + 1]      rows of passages in the order they came
    terms     uint32[nnz]       term ids, each below len(rows) (checked when they came)
    weights   float32[nnz]      positive, finite
    order     uint32[n]         internal id -> number in the order they came
    scale     float64           one unit of impact; impact = rint(weight / scale), at least 1, at most `top`
    starts    int64[terms + 1], bases int64[terms], rows int32[terms]   where the lists lie, see `layout`
    impacts, local, gaps        out
    offsets   uint16[rows, tiles, step + 1]   in: zeros; out: [row, tile, 1 + b] is the number of postings in block b
    """
    cursors = np.zeros(rows.shape[0], np.int64)
    ends = bases.copy()
    last = np.full(rows.shape[0], -1, np.int64)
    for doc in range(order.shape[0]):
        source = order[doc]
        here = doc // block
        tile, within = here // step, here % step + 1
        low = np.uint16(doc - tile * step * block)
        for p in range(indptr[source], indptr[source + 1]):
            term = terms[p]
            at = cursors[term]
            cursors[term] = at + 1
            impact = min(max(np.rint(np.float64(weights[p]) / scale), 1.0), top)
            impacts[starts[term] + at] = np.int64(impact)
            row = rows[term]
            if row >= 0:
                local[bases[term] + at] = low
                offsets[row, tile, within] += np.uint16(1)
                continue
            gap = doc - last[term]
            last[term] = doc
            while gap > SKIP:
                gaps[ends[term]] = SKIP
                ends[term] += 1
                gap -= SKIP
            gaps[ends[term]] = gap
            ends[term] += 1


@njit(cache=True, nogil=True)
def directory(starts, rows, impacts, kth, bits, tiles, offsets, maxima):
    """Finish the directory of the common terms.

    kth       uint8 or uint16[terms, 4]       column 0 is the list's largest impact
    tiles     uint32[rows, tiles + 1]         out: first posting of each tile
    offsets   uint16[rows, tiles, step + 1]   in: counts, as `place` leaves them; out: first posting of each block
    maxima    uint8[rows, blocks]             out; 16-bit impacts become ceil(255 * impact / largest)
    """
    step = offsets.shape[2] - 1
    for term in range(rows.shape[0]):
        row = rows[term]
        if row < 0:
            continue
        p = starts[term]
        largest = np.int64(kth[term, 0])
        for tile in range(offsets.shape[1]):
            tiles[row, tile] = p - starts[term]
            for b in range(step):
                count = np.int64(offsets[row, tile, b + 1])
                best = np.int64(0)
                for q in range(p, p + count):
                    best = max(best, np.int64(impacts[q]))
                p += count
                offsets[row, tile, b + 1] = offsets[row, tile, b] + count
                if tile * step + b < maxima.shape[1]:
                    if bits == 16:
                        best = (best * 255 + largest - 1) // largest
                    maxima[row, tile * step + b] = best
        tiles[row, offsets.shape[1]] = p - starts[term]


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
