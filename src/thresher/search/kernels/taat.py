"""Term-at-a-time: every posting of the query's lists is added to its document's sum, chunk of documents after chunk.

Two ways, by how many hits are wanted.

* **Coarse** (few hits): sums are 16-bit whole numbers of a unit chosen so that no sum can overflow; a contribution is
  rounded up, so a sum never lies below the true one and less than `margin` above it. A chunk's sums are 32 KB; zeroing
  them and looking for those that reach the threshold cost next to nothing (16 at a time). The k-th best coarse sum
  less the margin says which documents can be among the k best: a few more than k, which are scored by definition.
  Dense rows come last, as the light lists do in MaxScore (Turtle and Flood, 1995): `rest` bounds what they can add, and
  where only some documents of a chunk reach the threshold with it, these alone are completed.
* **Whole** (many hits): sums are float64, in ascending term order, hence the scores by definition.

Proof of the margin, u the unit, n the terms, m the largest impact the index can store: a term's 16.16 fixed-point
weight is weight / u · 2^16 and 1 to 2 more, so a contribution is at least (weight / u + 2^-16) · impact and less than
weight / u · impact + 1 + 2 · m / 2^16. The float64 sum s has a relative error of n · 2^-53, less than 2^-16 units for
any n that fits. So a coarse sum c satisfies c - margin < s / u <= c for margin = n + ceil(2 · n · m / 2^16) + 2.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201, PLR0912

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.index.layout import SEGMENT, TILE
from thresher.search.kernels.intrinsics import prefetch
from thresher.search.kernels.postings import (
    add,
    add_coarsely,
    add_row,
    add_row_coarsely,
    open_segment,
    part_of,
    rescore,
)
from thresher.search.kernels.topk import SAFE, collect, finish, keep_reaching, make_room, raise_threshold

COARSE_CHUNK = 16_384
WHOLE_CHUNK = 4096
ROOM = 4096
"""Documents the coarse plan keeps in view; where more tie, the whole plan answers."""
LANES = COARSE_CHUNK // 16
LEVEL_BITS = 6
GROUPS = LANES // 16
BUSY = 64
"""Sixteenths of a document; a chunk of which more may reach the threshold has its dense rows added whole."""


@njit(cache=True, nogil=True)
def fill(
    chunk, size, coarse, terms, fixed, weights, starts, rows, dense, impacts, ids, tiles, cursors, ends, runs, sums,
    coarse_sums,
):  # fmt: skip
    """Zero the sums of a chunk of `size` documents and add all postings in it; but if coarse, not those of dense rows.

    Chunks come in ascending order.

    fixed, weights       uint32[n], float64[n]   the coarse and the true weights; `coarse` says which count
    cursors, ends        int64[n]    in and out, for lists that are not common: next entry, end of the segment's
    runs                 uint64[n, 2]   scratch
    sums, coarse_sums    float64[size], uint16[size]   one of them out
    """
    low = np.int64(chunk * size) & (SEGMENT - 1)
    mask, final = np.uint16(size - 1), low + size - 1
    per_chunk = size // TILE
    if coarse:
        coarse_sums[:] = 0
    else:
        sums[:] = 0
    for i in range(terms.shape[0]):
        term = terms[i]
        row = np.int64(rows[term])
        if 0 <= row < dense.shape[0]:
            runs[i, 0] = runs[i, 1] = np.uint64(0)
            continue
        if 0 <= row < tiles.shape[0]:
            start, tile = np.uint64(starts[term]), chunk * per_chunk
            first = start + np.uint64(tiles[row, tile])
            last = start + np.uint64(tiles[row, min(tile + per_chunk, tiles.shape[1] - 1)])
        else:
            if low == 0:
                at = cursors[i] if chunk == 0 else ends[i]
                cursors[i], ends[i] = open_segment(at, np.int64(starts[term + 1]), ids, impacts)
            first = np.uint64(cursors[i])
            cursors[i] = skip(final, cursors[i], ends[i], ids)
            last = np.uint64(cursors[i])
        runs[i, 0], runs[i, 1] = first, last
        prefetch(ids, first)
        prefetch(ids, first + np.uint64(32))
        prefetch(impacts, first)
    for i in range(terms.shape[0]):
        if coarse:
            add_coarsely(runs[i, 0], runs[i, 1], mask, ids, impacts, fixed[i], coarse_sums)
            continue
        row = np.int64(rows[terms[i]])
        if 0 <= row < dense.shape[0]:
            add_row(dense[row, chunk * size : min((chunk + 1) * size, dense.shape[1])], weights[i], sums)
        else:
            add(runs[i, 0], runs[i, 1], mask, ids, impacts, weights[i], sums)


@njit(cache=True, nogil=True)
def skip(final, at, end, ids):
    """The first of the entries at … end - 1 whose id is above `final`: by doubling steps, then halving them."""
    step = 32
    while at + step < end and np.int64(ids[np.uint64(at + step)]) <= final:
        at += step
        step *= 2
    last = min(at + step, end)
    while at < last:
        middle = (at + last) >> 1
        if np.int64(ids[np.uint64(middle)]) <= final:
            at = middle + 1
        else:
            last = middle
    return at


@njit(cache=True, nogil=True)
def fold(values, tops):
    """The largest of each sixteen values that lie a sixteenth of them apart: a form the compiler does 16 at a time.

    values uint16[16 * n], tops uint16[n]   tops out
    """
    count = tops.shape[0]
    for i in range(count):
        best = values[i]
        for j in range(1, 16):
            best = max(best, values[i + j * count])
        tops[i] = best


@njit(cache=True, nogil=True)
def reaching(lanes, low):
    """How many of at most 65,535 lanes reach `low`; counted in 16 bits, which keeps the loop as wide as its values."""
    count = np.uint16(0)
    for lane in range(lanes.shape[0]):
        count = np.uint16(count + np.uint16(lanes[lane] >= low))
    return np.int64(count)


@njit(cache=True, nogil=True)
def kth_of(k, values):
    """The k-th largest of at least k values, int64: by a sorted list of the k largest while they are few."""
    if k > 64:
        return np.int64(np.partition(values, values.shape[0] - k)[values.shape[0] - k])
    best = np.zeros(k, np.uint16)
    for value in values:
        if value > best[k - 1]:
            at = k - 1
            while at > 0 and best[at - 1] < value:
                best[at] = best[at - 1]
                at -= 1
            best[at] = value
    return np.int64(best[k - 1])


@njit(cache=True, nogil=True)
def collect_coarsely(
    k, margin, gate, rest, dense, dense_rows, dense_fixed, sums, lanes, tops, origin, size, edge, above, histogram,
    values, docs,
):  # fmt: skip
    """Append documents of a chunk whose coarse sums reach `gate`, raising it as they come.

    Returns (gate, size, edge, above); size -1 where there is no room. The gate stays `margin` below an edge that k
    documents reach. lanes uint16[LANES] and tops uint16[GROUPS] are scratch; histogram int32[1024] counts sums by their
    upper ten bits; values uint16[ROOM], docs uint32[ROOM].
    rest                     int64                at least what the dense rows add to any sum
    dense_rows, dense_fixed  int64[m], uint32[m]  the dense rows of the query, whose impacts `sums` lacks
    """
    fold(sums, lanes)
    count = dense_rows.shape[0]
    low = np.uint16(max(np.int64(gate) - rest, 0))
    reached = reaching(lanes, low)
    if count > 0 and (low == 0 or reached > BUSY):
        for j in range(count):
            own = dense[dense_rows[j], origin : min(origin + sums.shape[0], dense.shape[1])]
            add_row_coarsely(own, dense_fixed[j], sums)
        fold(sums, lanes)
        count, rest, low = 0, 0, gate
        reached = reaching(lanes, low)
    if reached == 0:
        return gate, size, edge, above
    fold(lanes, tops)
    for group in range(GROUPS):
        if tops[group] < low:
            continue
        for lane in range(group, LANES, GROUPS):
            if lanes[lane] < low:
                continue
            if size + 16 > ROOM:
                size = keep_reaching(gate, size, values, docs)
                if size + 16 > ROOM:
                    return gate, -1, edge, above
            for i in range(lane, COARSE_CHUNK, LANES):
                if sums[i] < low:
                    continue
                total = sums[i]
                for j in range(count):
                    total += part_of(dense_fixed[j], dense[dense_rows[j], origin + i])
                if total >= gate:
                    values[size], docs[size] = total, origin + i
                    size += 1
                    level = np.int64(total) >> LEVEL_BITS
                    histogram[level] += 1
                    above += level >= edge
            if above - histogram[edge] >= k:
                while above - histogram[edge] >= k:
                    above -= histogram[edge]
                    edge += 1
                higher = (edge << LEVEL_BITS) - margin
                if higher > np.int64(gate):
                    gate, low = np.uint16(higher), np.uint16(higher - rest)
    return gate, size, edge, above


@njit(cache=True, nogil=True)
def score_coarsely(
    terms, weights, total, least, k, scale, passages, top, starts, rows, kth, dense, impacts, ids, tiles, ranks,
    out_docs, out_scores,
):  # fmt: skip
    """Answer a query by coarse sums; returns the number of hits, -1 where too many documents come too close.

    total  float64: sum of weights * largest impacts of the lists
    least  float64    a sum that k documents reach, if there are k
    top    int64      largest impact the index can store
    """
    count = terms.shape[0]
    unit = total / (65535 - 3 * count - 8)
    margin = count + (2 * count * top >> 16) + 3
    fixed, cursors, ends = np.empty(count, np.uint32), np.empty(count, np.int64), np.empty(count, np.int64)
    runs = np.empty((count, 2), np.uint64)
    dense_rows, dense_fixed, dense_count, rest = np.empty(count, np.int64), np.empty(count, np.uint32), 0, 0
    for i in range(count):
        fixed[i] = np.uint32(np.int64(min(weights[i] / unit * 65536.0, 4294967290.0)) + 2)
        cursors[i] = np.int64(starts[terms[i]])
        ends[i] = cursors[i]
        row = np.int64(rows[terms[i]])
        if 0 <= row < dense.shape[0]:
            dense_rows[dense_count], dense_fixed[dense_count] = row, fixed[i]
            dense_count += 1
            rest += np.int64(part_of(fixed[i], kth[row, 0]))
    dense_rows, dense_fixed = dense_rows[:dense_count], dense_fixed[:dense_count]
    gate = np.uint16(max(np.int64(min(least / unit * SAFE, 65535.0)), 1))
    sums, nothing = np.empty(COARSE_CHUNK, np.uint16), np.empty(0, np.float64)
    lanes, tops = np.empty(LANES, np.uint16), np.empty(GROUPS, np.uint16)
    histogram, values, docs = (
        np.zeros(1 << (16 - LEVEL_BITS), np.int32),
        np.empty(ROOM, np.uint16),
        np.empty(ROOM, np.uint32),
    )
    size, edge, above = 0, np.int64(gate) >> LEVEL_BITS, 0
    for chunk in range((passages + COARSE_CHUNK - 1) // COARSE_CHUNK):
        fill(
            chunk, COARSE_CHUNK, True, terms, fixed, weights, starts, rows, dense, impacts, ids, tiles, cursors, ends,
            runs, nothing, sums,
        )  # fmt: skip
        gate, size, edge, above = collect_coarsely(
            k, margin, gate, rest, dense, dense_rows, dense_fixed, sums, lanes, tops, chunk * COARSE_CHUNK, size,
            edge, above, histogram, values, docs,
        )  # fmt: skip
        if size < 0:
            return -1
    size = keep_reaching(gate, size, values, docs)
    if size > k:
        size = keep_reaching(np.uint16(max(kth_of(k, values[:size]) - margin + 1, 0)), size, values, docs)
    if size > 4 * k + 64:
        return -1
    exact = np.empty(size, np.float64)
    docs = np.sort(docs[:size])
    rescore(terms, weights, starts, rows, dense, impacts, ids, tiles, docs, size, exact)
    state, counts = np.zeros(2, np.float64), np.zeros(3, np.int64)
    counts[0] = size
    return finish(k, scale, ranks, state, counts, exact, docs, out_docs, out_scores)


@njit(cache=True, nogil=True)
def score_whole(
    terms, weights, k, scale, passages, starts, rows, dense, impacts, ids, tiles, ranks, state, counts, histogram,
    buffer, docs, out_docs, out_scores,
):  # fmt: skip
    """Answer a query by float64 sums of all documents; returns the number of hits.

    state, counts, histogram, buffer, docs   see `thresher.search.kernels.topk`; room for 2 * k + 2 * WHOLE_CHUNK
    """
    count = terms.shape[0]
    cursors, ends, runs = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((count, 2), np.uint64)
    for i in range(count):
        cursors[i] = np.int64(starts[terms[i]])
        ends[i] = cursors[i]
    sums, nothing, fixed = np.empty(WHOLE_CHUNK, np.float64), np.empty(0, np.uint16), np.empty(count, np.uint32)
    for chunk in range((passages + WHOLE_CHUNK - 1) // WHOLE_CHUNK):
        fill(
            chunk, WHOLE_CHUNK, False, terms, fixed, weights, starts, rows, dense, impacts, ids, tiles, cursors, ends,
            runs, sums, nothing,
        )  # fmt: skip
        origin = chunk * WHOLE_CHUNK
        make_room(k, WHOLE_CHUNK, scale, ranks, state, counts, histogram, buffer, docs)
        collect(sums, 0, min(WHOLE_CHUNK, passages - origin), origin, state, counts, histogram, buffer, docs)
        raise_threshold(k, state, counts, histogram)
    return finish(k, scale, ranks, state, counts, buffer, docs, out_docs, out_scores)
