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

from thresher.index.layout import SEGMENT, TILE


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
def last_segments(indptr, terms, order, rows, common, last):
    """The last segment each list that is not common reaches; 0 for common ones.

    indptr, terms, order, rows as in `place`; common int64; last uint16[terms]   in: zeros; out
    """
    for doc in range(SEGMENT, order.shape[0]):
        source = order[doc]
        segment = np.uint16(doc // SEGMENT)
        for p in range(indptr[source], indptr[source + 1]):
            last[terms[p]] = segment
    for term in range(rows.shape[0]):
        if 0 <= rows[term] < common:
            last[term] = 0


@njit(cache=True, nogil=True)
def place(
    first, after, indptr, terms, weights, order, scale, top, starts, rows, last, dense, impacts, ids, tiles
):  # fmt: skip
    """Put every posting of terms first … after - 1 into its list, and count the postings in tiles.

    indptr    int64[n + 1]      rows of passages in the order they came
    terms     uint32[nnz]       term ids, ascending in a row, each below len(rows) (checked when they came)
    weights   float32[nnz]      positive, finite
    order     uint32[n]         internal id -> number in the order they came
    scale     float64           one unit of impact; impact = rint(weight / scale), at least 1, at most `top`
    starts    int64[terms + 1], rows int32[terms], last uint16[terms]   the lists, see `layout`, and their last segments
    dense, impacts, ids         out; zeros in
    tiles     uint32[common, tiles + 1]   in: zeros; out: [row, 1 + tile] is the number of postings in the tile
    """
    cursors = starts[first:after].copy()
    heads = starts[first:after].copy()
    segments = np.zeros(after - first, np.uint16)
    for i in range(after - first):
        cursors[i] += last[first + i] > 0
    common = tiles.shape[0]
    for doc in range(order.shape[0]):
        source = order[doc]
        low, segment, tile = np.uint16(doc % SEGMENT), doc // SEGMENT, doc // TILE + 1
        begin, end = indptr[source], indptr[source + 1]
        if first > 0:
            left, right = begin, end
            while left < right:
                middle = (left + right) // 2
                if terms[middle] < first:
                    left = middle + 1
                else:
                    right = middle
            begin = left
        for p in range(begin, end):
            term = np.int64(terms[p])
            if term >= after:
                break
            i = term - first
            row = np.int64(rows[term])
            impact = np.int64(min(max(np.rint(np.float64(weights[p]) / scale), 1.0), top))
            if 0 <= row < common:
                tiles[row, tile] += np.uint32(1)
                if row < dense.shape[0]:
                    dense[row, doc] = impact
                    continue
            if last[term] > 0:
                while segments[i] < segment:
                    ids[heads[i]] = cursors[i] - heads[i] - 1
                    segments[i] += np.uint16(1)
                    heads[i] = cursors[i]
                    cursors[i] += segments[i] < last[term]
            at = cursors[i]
            cursors[i] = at + 1
            impacts[at] = impact
            ids[at] = low


@njit(cache=True, nogil=True)
def directory(first, after, starts, rows, dense, impacts, ids, kth, block, bits, tiles, maxima):
    """Finish the rows of the common ones of the terms first … after - 1.

    kth       uint8 or uint16[numbered, 4]    column 0 is the list's largest impact
    tiles     uint32[common, tiles + 1]       in: counts, as `place` leaves them; out: first posting of each tile
    maxima    uint8[common, blocks]           in: zeros; out; 16-bit impacts become ceil(255 * impact / largest)
    """
    step = TILE // block
    for term in range(first, after):
        row = rows[term]
        if not 0 <= row < tiles.shape[0]:
            continue
        largest = np.int64(kth[row, 0])
        for tile in range(tiles.shape[1] - 1):
            tiles[row, tile + 1] += tiles[row, tile]
        if row < dense.shape[0]:
            for doc in range(dense.shape[1]):
                best = np.int64(dense[row, doc])
                if bits == 16:
                    best = (best * 255 + largest - 1) // largest
                maxima[row, doc // block] = max(np.int64(maxima[row, doc // block]), best)
            continue
        for tile in range(tiles.shape[1] - 1):
            for p in range(starts[term] + tiles[row, tile], starts[term] + tiles[row, tile + 1]):
                best = np.int64(impacts[p])
                if bits == 16:
                    best = (best * 255 + largest - 1) // largest
                here = tile * step + (np.int64(ids[p]) % TILE) // block
                maxima[row, here] = max(np.int64(maxima[row, here]), best)


@njit(cache=True, nogil=True)
def kth_largest(first, after, starts, rows, dense, impacts, ks, top, kth):
    """Overwrite `kth[row, i]` with the ks[i]-th largest impact of the list, 0 where it is shorter.

    ks   int64[m]   ascending
    top  int64      largest possible impact
    """
    counts = np.zeros(top + 1, np.int64)
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
