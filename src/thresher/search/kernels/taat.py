"""Term-at-a-time: every posting of the query's lists is added to its document's sum, window after window of documents.

Two ways, by how many hits are wanted.

* **Quantised** accumulators (few hits): sums are 16-bit whole numbers of a unit chosen so that no sum can overflow; a
  contribution is rounded up, so a sum never lies below the true one and less than `margin` above it. A window's sums
  are 32 KB; zeroing them and finding those that reach the threshold cost next to nothing (16 at a time). The k-th best
  quantised sum less the margin says which documents can be among the k best: a few more than k, which are rescored
  exactly. Dense rows come last, as the light lists do in MaxScore (Turtle and Flood, 1995): `rest` bounds what they can
  add, and where only some documents of a window reach the threshold with it, these alone are completed.
* **Float** accumulators (many hits): sums are float64, in ascending term order, hence the scores by definition.

Proof of the margin, u the unit, n the terms, m the largest impact the index can store: a term's 16.16 fixed-point
weight is weight / u · 2^16 and 1 to 2 more, so a contribution is at least (weight / u + 2^-16) · impact and less than
weight / u · impact + 1 + 2 · m / 2^16. The float64 sum s has a relative error of n · 2^-53, less than 2^-16 units for
any n that fits. So a quantised sum c satisfies c - margin < s / u <= c for margin = n + ceil(2 · n · m / 2^16) + 2.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator, call-overload"
# ruff: noqa: ANN001, ANN201, PLR0912

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK
from thresher.index.lists import open_chunk
from thresher.search.kernels.intrinsics import prefetch
from thresher.search.kernels.late import is_late
from thresher.search.kernels.masks import any_set, first_from, mask_sums
from thresher.search.kernels.postings import (
    add,
    add_allowed,
    add_quantised,
    add_row,
    add_row_quantised,
    quantised_product,
    rescore,
)
from thresher.search.kernels.topk import (
    SAFE,
    SIZE,
    SMALLEST,
    collect,
    collect_some,
    finish,
    hand_over,
    keep_best,
    keep_reaching,
    kth_of,
    make_room,
    raise_threshold,
)
from thresher.search.kernels.types import Cursors, QuantisedTopK, TopK

QUANTISED_WINDOW = 16_384
FLOAT_WINDOW = 4096
ROOM = 8192
"""Documents that quantised accumulators keep as candidates; where more tie, float ones answer."""
LANES = QUANTISED_WINDOW // 16
LEVEL_BITS = 6
GROUPS = LANES // 16
BUSY = 64
"""Lanes; a window of which more may reach the threshold has its dense rows added whole."""
FEW_ALLOWED = 40
"""Where at most one of 40 documents may be returned, passing over postings of others is quicker than adding them."""
Q_THRESHOLD, Q_SIZE, Q_EDGE, Q_ABOVE = range(4)  # of `QuantisedTopK.counts`


@njit(cache=True, nogil=True, inline="always")
def open_cursors(terms, index):
    """`Cursors` at the beginning of the terms' lists."""
    count = terms.shape[0]
    at, ends, runs = np.empty(count, np.int64), np.empty(count, np.int64), np.empty((count, 2), np.uint64)
    for i in range(count):
        at[i] = np.int64(index.starts[terms[i]])
        ends[i] = at[i]
    return Cursors(at, ends, runs)


@njit(cache=True, nogil=True, inline="always")
def open_window(window, size, terms, index, cursors):
    """Set `cursors.runs` to the entries of each list in a window of `size` documents; empty for dense rows.

    Windows come in ascending order, each opened or skipped (`skip_window`); `terms` is uint32[n], `index` a `Postings`.
    """
    starts, rows, superblocks = index.starts, index.rows, index.superblocks
    impacts, ids = index.impacts, index.ids
    at, ends, runs = cursors.at, cursors.ends, cursors.runs
    low = np.int64(window * size) & (CHUNK - 1)
    final, per_window, dense = low + size - 1, size // SUPERBLOCK, index.dense.shape[0]
    for i in range(terms.shape[0]):
        term = terms[i]
        row = np.int64(rows[term])
        if 0 <= row < dense:
            runs[i, 0] = runs[i, 1] = np.uint64(0)
            continue
        if 0 <= row < superblocks.shape[0]:
            start, superblock = np.uint64(starts[term]), window * per_window
            first = start + np.uint64(superblocks[row, superblock])
            last = start + np.uint64(superblocks[row, min(superblock + per_window, superblocks.shape[1] - 1)])
        else:
            if low == 0:
                begin = at[i] if window == 0 else ends[i]
                at[i], ends[i] = open_chunk(begin, np.int64(starts[term + 1]), ids, impacts)
            first = np.uint64(at[i])
            at[i] = skip(final, at[i], ends[i], ids)
            last = np.uint64(at[i])
        runs[i, 0], runs[i, 1] = first, last
        prefetch(ids, first)
        prefetch(ids, first + np.uint64(32))
        prefetch(impacts, first)


@njit(cache=True, nogil=True, inline="always")
def skip_window(window, size, terms, index, cursors):
    """Move `cursors` past a window that nothing is added of; as `open_window`."""
    rows, common, at, ends = index.rows, index.superblocks.shape[0], cursors.at, cursors.ends
    low = np.int64(window * size) & (CHUNK - 1)
    for i in range(terms.shape[0]):
        if 0 <= rows[terms[i]] < common:
            continue
        if low == 0:
            begin = at[i] if window == 0 else ends[i]
            at[i], ends[i] = open_chunk(begin, np.int64(index.starts[terms[i] + 1]), index.ids, index.impacts)
        at[i] = skip(low + size - 1, at[i], ends[i], index.ids)


@njit(cache=True, nogil=True)
def skip(final, at, end, ids):
    """The first of the entries at ... end - 1 whose id is above `final`: by doubling steps, then halving them."""
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


@njit(cache=True, nogil=True, inline="always")
def add_window_quantised(terms, fixed, index, cursors, sums):
    """Add the runs of all lists to the sums of a window, uint16[QUANTISED_WINDOW], with fixed-point weights."""
    impacts, ids, runs = index.impacts, index.ids, cursors.runs
    mask = np.uint16(sums.shape[0] - 1)
    for i in range(terms.shape[0]):
        add_quantised(runs[i, 0], runs[i, 1], mask, ids, impacts, fixed[i], sums)


@njit(cache=True, nogil=True, inline="always")
def add_window(window, query, index, cursors, sums):
    """Add the runs of all lists, and dense rows, to the sums of a window, float64[FLOAT_WINDOW], in term order."""
    rows, dense, impacts, ids, runs = index.rows, index.dense, index.impacts, index.ids, cursors.runs
    size = sums.shape[0]
    mask = np.uint16(size - 1)
    for i in range(query.terms.shape[0]):
        row = np.int64(rows[query.terms[i]])
        if 0 <= row < dense.shape[0]:
            add_row(dense[row, window * size : min((window + 1) * size, dense.shape[1])], query.weights[i], sums)
        else:
            add(runs[i, 0], runs[i, 1], mask, ids, impacts, query.weights[i], sums)


@njit(cache=True, nogil=True)
def lane_maxima(values, tops):
    """The largest of each sixteen values that lie a sixteenth of them apart; compiled to 16 comparisons at a time.

    values uint16[16 * n], tops uint16[n]   tops out
    """
    count = tops.shape[0]
    for i in range(count):
        best = values[i]
        for j in range(1, 16):
            best = max(best, values[i + j * count])
        tops[i] = best


@njit(cache=True, nogil=True)
def allowed_maxima(values, mask, tops):
    """As `lane_maxima`, of the values whose documents may be returned.

    mask   uint8[m], m at most 16 * n: 1 where the document may; later values count as 0
    """
    count = tops.shape[0]
    if mask.shape[0] == values.shape[0]:
        for i in range(count):
            best = np.uint16(values[i] * np.uint16(mask[i]))
            for j in range(1, 16):
                best = max(best, np.uint16(values[i + j * count] * np.uint16(mask[i + j * count])))
            tops[i] = best
        return
    for i in range(count):
        tops[i] = 0
        for p in range(i, mask.shape[0], count):
            tops[i] = max(tops[i], np.uint16(values[p] * np.uint16(mask[p])))


@njit(cache=True, nogil=True)
def count_reaching(lanes, low):
    """How many of at most 65,535 lanes reach `low`; counted in 16 bits, which keeps the loop as wide as its values."""
    count = np.uint16(0)
    for lane in range(lanes.shape[0]):
        count = np.uint16(count + np.uint16(lanes[lane] >= low))
    return np.int64(count)


@njit(cache=True, nogil=True)
def lanes_reaching(low, sums, mask, lanes):
    """Set `lanes` to the maxima of the sums; returns how many reach `low`.

    Most documents that reach it may be returned as a rule, so the mask is asked where many lanes do.
    mask   uint8[m], of the window's documents; empty where all may be returned
    """
    lane_maxima(sums, lanes)
    reached = count_reaching(lanes, low)
    if mask.shape[0] > 0 and reached > BUSY:
        allowed_maxima(sums, mask, lanes)
        reached = count_reaching(lanes, low)
    return reached


@njit(cache=True, nogil=True, inline="always")
def collect_quantised(origin, dense, top):
    """Append documents of a window whose quantised sums reach the threshold; False where there is no room.

    origin  int64     first document of the window, whose accumulators `top.sums` lack the dense rows
    dense   `Postings.dense`
    top     `QuantisedTopK`, in and out
    """
    sums, lanes = top.sums, top.lanes
    own = top.mask[origin : origin + sums.shape[0]]
    missing, rest = top.dense_rows.shape[0], top.rest
    low = np.uint16(max(top.counts[Q_THRESHOLD] - rest, 0))
    reached = lanes_reaching(low, sums, own, lanes)
    if missing > 0 and (low == 0 or reached > BUSY):
        for j in range(missing):
            part = dense[top.dense_rows[j], origin : min(origin + sums.shape[0], dense.shape[1])]
            add_row_quantised(part, top.dense_weights[j], sums)
        missing, rest, low = 0, 0, np.uint16(top.counts[Q_THRESHOLD])
        reached = lanes_reaching(low, sums, own, lanes)
    if reached == 0:
        return True
    lane_maxima(lanes, top.tops)
    return append_lanes(origin, dense, missing, rest, low, top)


@njit(cache=True, nogil=True, inline="always")
def append_lanes(origin, dense, missing, rest, low, top):
    """Append the documents of lanes that reach `low`, raising the threshold as they come; False where there is no room.

    The threshold stays `margin` below an edge that k documents reach.

    missing   int64    of the query's dense rows, this many of the first are not in the accumulators
    rest      int64    at least what these add to any sum
    low       uint16   the threshold less the rest
    """
    sums, lanes, tops, histogram, values, docs = top.sums, top.lanes, top.tops, top.histogram, top.values, top.docs
    mask, masked = top.mask, top.mask.shape[0] > 0
    dense_rows, dense_weights, k = top.dense_rows, top.dense_weights, top.k
    threshold, size = np.uint16(top.counts[Q_THRESHOLD]), top.counts[Q_SIZE]
    edge, above = top.counts[Q_EDGE], top.counts[Q_ABOVE]
    for group in range(GROUPS):
        if tops[group] < low:
            continue
        for lane in range(group, LANES, GROUPS):
            if lanes[lane] < low:
                continue
            if size + 16 > ROOM:
                size = keep_reaching(threshold, size, values, docs)
                if size + 16 > ROOM:
                    return False
            for i in range(lane, QUANTISED_WINDOW, LANES):
                if sums[i] < low or (masked and mask[origin + i] == 0):
                    continue
                total = sums[i]
                for j in range(missing):
                    total += quantised_product(dense_weights[j], dense[dense_rows[j], origin + i])
                if total >= threshold:
                    total = min(np.int64(total), 65_535)  # more only where the file denies its largest impacts
                    values[size], docs[size] = total, origin + i
                    size += 1
                    level = total >> LEVEL_BITS
                    histogram[level] += 1
                    above += level >= edge
            if above - histogram[edge] >= k:
                while above - histogram[edge] >= k:
                    above -= histogram[edge]
                    edge += 1
                higher = (edge << LEVEL_BITS) - top.margin
                if higher > np.int64(threshold):
                    threshold, low = np.uint16(higher), np.uint16(higher - rest)
    top.counts[Q_THRESHOLD], top.counts[Q_SIZE] = np.int64(threshold), size
    top.counts[Q_EDGE], top.counts[Q_ABOVE] = edge, above
    return True


@njit(cache=True, nogil=True, inline="always")
def units(query):
    """In how many units of a quantised sum the largest possible sum is divided."""
    return 65535 - 3 * query.terms.shape[0] - 8


@njit(cache=True, nogil=True, inline="always")
def open_quantised(query, total, least, k, index, allowed, fixed):
    """An empty `QuantisedTopK` for a query; `fixed` uint32[n] out: the weights in fixed point.

    total, least   float64   as in `score_quantised`
    """
    count = query.terms.shape[0]
    unit = total / units(query)
    margin = count + (2 * count * (2**index.bits - 1) >> 16) + 3
    dense_rows, dense_weights, dense_count, rest = np.empty(count, np.int64), np.empty(count, np.uint32), 0, 0
    for i in range(count):
        fixed[i] = np.uint32(np.int64(min(query.weights[i] / unit * 65536.0, 4294967290.0)) + 2)
        row = np.int64(index.rows[query.terms[i]])
        if 0 <= row < index.dense.shape[0]:
            dense_rows[dense_count], dense_weights[dense_count] = row, fixed[i]
            dense_count += 1
            rest += np.int64(quantised_product(fixed[i], index.kth[row, 0]))
    threshold = max(np.int64(min(least / unit * SAFE, 65535.0)), 1)
    counts = np.zeros(4, np.int64)
    counts[Q_THRESHOLD], counts[Q_EDGE] = threshold, threshold >> LEVEL_BITS
    return QuantisedTopK(
        k, margin, rest, dense_rows[:dense_count], dense_weights[:dense_count], counts,
        np.zeros(1 << (16 - LEVEL_BITS), np.int32), np.empty(ROOM, np.uint16), np.empty(ROOM, np.uint32),
        np.empty(QUANTISED_WINDOW, np.uint16), np.empty(LANES, np.uint16), np.empty(GROUPS, np.uint16),
        allowed.mask,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def score_quantised(query, total, least, request, index, allowed, hits):
    """Answer a query by quantised sums; returns the number of hits, -1 where too many documents come too close.

    Where the answer may be rough, hits are the best by quantised sums, which are the scores; no true sum exceeds them.

    total  float64    sum of weights * largest impacts of the lists
    least  float64    a sum that k documents reach, if there are k
    request, index, allowed, hits   `Request`, `Postings`, `Allowed`, `Hits` out
    """
    k, fixed = request.k, np.empty(query.terms.shape[0], np.uint32)
    found = open_quantised(query, total, least, k, index, allowed, fixed)
    cursors, sums, masked = open_cursors(query.terms, index), found.sums, allowed.mask.shape[0] > 0
    for window in range((index.passages + QUANTISED_WINDOW - 1) // QUANTISED_WINDOW):
        if is_late(request.deadline, hits.statistics):
            break
        if masked and not any_in_window(window, QUANTISED_WINDOW, allowed):
            skip_window(window, QUANTISED_WINDOW, query.terms, index, cursors)
            continue
        sums[:] = 0
        open_window(window, QUANTISED_WINDOW, query.terms, index, cursors)
        add_window_quantised(query.terms, fixed, index, cursors, sums)
        if not collect_quantised(window * QUANTISED_WINDOW, index.dense, found):
            return -1
    values, docs = found.values, found.docs
    size = keep_reaching(np.uint16(found.counts[Q_THRESHOLD]), found.counts[Q_SIZE], values, docs)
    if size > k:
        size = keep_reaching(np.uint16(max(kth_of(k, values[:size]) - found.margin + 1, 0)), size, values, docs)
    if request.rough:
        return hand_over(size, total / units(query), index.scale, found, hits)
    if size > 4 * k + 64:
        return -1
    return score_allowed(query, 0.0, k, index, np.sort(docs[:size]), hits)


@njit(cache=True, nogil=True)
def score_allowed(query, least, k, index, docs, hits):
    """Answer a query from the sums of some documents alone; returns the number of hits.

    least         float64             a sum that the k best of them reach, if there are k
    index, hits   `Postings`, `Hits` out
    docs          uint32[n]           ascending
    """
    size, sums, own = docs.shape[0], np.empty(docs.shape[0], np.float64), docs.copy()
    rescore(query, index, docs, size, sums)
    size = keep_reaching(max(least, SMALLEST), size, sums, own)
    counts, limits = np.zeros(3, np.int64), np.zeros(2, np.float64)
    top = TopK(k, index.scale, index.ranks, limits, counts, np.empty(0, np.int32), sums, own)
    counts[SIZE] = keep_best(size, top) if size > 4 * k + 64 else size
    return finish(top, hits.docs, hits.scores)


@njit(cache=True, nogil=True)
def any_in_window(window, size, allowed):
    """Whether one of a window's documents, `size` of them, may be returned."""
    per_window = size // SUPERBLOCK
    return any_set(allowed.superblocks, window * per_window, (window + 1) * per_window)


@njit(cache=True, nogil=True, inline="always")
def open_stretch(chunk, first, after, terms, index, cursors):
    """Set `cursors.runs` to the entries of each list in superblocks first ... after - 1 of a chunk; as `open_window`.

    Of lists without a directory, `cursors.ends` is the end of the chunk's postings; chunks come one after the other.
    """
    starts, rows, superblocks, dense = index.starts, index.rows, index.superblocks, index.dense.shape[0]
    low, final = (first * SUPERBLOCK) & (CHUNK - 1), (after * SUPERBLOCK - 1) & (CHUNK - 1)
    for i in range(terms.shape[0]):
        term = terms[i]
        row = np.int64(rows[term])
        if 0 <= row < dense:
            cursors.runs[i, 0] = cursors.runs[i, 1] = np.uint64(0)
            continue
        if 0 <= row < superblocks.shape[0]:
            begin = np.int64(starts[term]) + np.int64(superblocks[row, first])
            end = np.int64(starts[term]) + np.int64(superblocks[row, after])
        else:
            begin, cursors.ends[i] = open_chunk(cursors.ends[i], np.int64(starts[term + 1]), index.ids, index.impacts)
            begin = skip(low - 1, begin, cursors.ends[i], index.ids)
            end = skip(final, begin, cursors.ends[i], index.ids)
        cursors.runs[i, 0], cursors.runs[i, 1] = np.uint64(begin), np.uint64(end)
        prefetch(index.ids, np.uint64(begin))
        prefetch(index.ids, np.uint64(begin + 32))


@njit(cache=True, nogil=True)
def score_sparse(query, request, index, allowed, top, hits):
    """Answer a query by float64 sums of the few documents that may be returned; returns the number of hits.

    A chunk at a time, from the first to the last superblock with such a document; of dense rows their impacts alone.
    request, index, allowed, hits   `Request`, `Postings`, `Allowed` with its list, `Hits` out
    top                    `TopK` with room for 2 * k + 2 * min(CHUNK, documents in the list)
    """
    terms, weights, dense, at = query.terms, query.weights, index.dense, 0
    cursors, sums, full = open_cursors(terms, index), np.empty(CHUNK, np.float64), np.uint16(CHUNK - 1)
    for chunk in range((index.passages + CHUNK - 1) // CHUNK):
        if is_late(request.deadline, hits.statistics):
            break
        origin, begin = chunk * CHUNK, at
        at = first_from(origin + CHUNK, allowed.docs, begin)
        if at == begin:
            skip_window(chunk, CHUNK, terms, index, cursors)
            continue
        some, own = allowed.docs[begin:at], allowed.mask[origin : origin + CHUNK]
        first, after = np.int64(some[0]) // SUPERBLOCK, np.int64(some[-1]) // SUPERBLOCK + 1
        open_stretch(chunk, first, after, terms, index, cursors)
        few = some.shape[0] * FEW_ALLOWED <= (after - first) * SUPERBLOCK
        if few:
            for doc in some:
                sums[doc - origin] = 0.0
        else:
            sums[first * SUPERBLOCK - origin : after * SUPERBLOCK - origin] = 0.0
        for i in range(terms.shape[0]):
            row, low, high = np.int64(index.rows[terms[i]]), cursors.runs[i, 0], cursors.runs[i, 1]
            if 0 <= row < dense.shape[0]:
                for doc in some:
                    sums[doc - origin] += weights[i] * np.float64(dense[row, doc])
            elif few:
                add_allowed(low, high, index.ids, index.impacts, weights[i], sums, own)
            else:
                add(low, high, full, index.ids, index.impacts, weights[i], sums)
        make_room(some.shape[0], top)
        collect_some(sums, some, origin, top)
        raise_threshold(top)
    return finish(top, hits.docs, hits.scores)


@njit(cache=True, nogil=True)
def score_float(query, request, index, allowed, top, hits):
    """Answer a query by float64 sums of all documents; returns the number of hits.

    request, index, allowed, hits   `Request`, `Postings`, `Allowed`, `Hits` out
    top                    `TopK` with room for 2 * k + 2 * FLOAT_WINDOW
    """
    cursors, sums = open_cursors(query.terms, index), np.empty(FLOAT_WINDOW, np.float64)
    masked = allowed.mask.shape[0] > 0
    for window in range((index.passages + FLOAT_WINDOW - 1) // FLOAT_WINDOW):
        if is_late(request.deadline, hits.statistics):
            break
        if masked and not any_in_window(window, FLOAT_WINDOW, allowed):
            skip_window(window, FLOAT_WINDOW, query.terms, index, cursors)
            continue
        sums[:] = 0
        open_window(window, FLOAT_WINDOW, query.terms, index, cursors)
        add_window(window, query, index, cursors, sums)
        origin = window * FLOAT_WINDOW
        make_room(FLOAT_WINDOW, top)
        last = min(FLOAT_WINDOW, index.passages - origin)
        if masked:
            mask_sums(sums, 0, last, origin, allowed.mask)
        collect(sums, 0, last, origin, top)
        raise_threshold(top)
    return finish(top, hits.docs, hits.scores)
