"""The k best documents so far, and the threshold the next ones must reach.

Documents whose sum reaches the threshold are appended to a buffer and counted in a histogram of sums over
[0, largest possible sum]; whenever the levels above some edge hold k documents, that edge becomes the threshold
(as in JASS and IOQP). An append costs a few instructions and the threshold follows without comparisons between
documents, where a heap pays log k for each of the thousands that enter on the way to k = 1000.

The threshold only has to be safe: it lies at or a little below the k-th best sum, and documents that tie with it enter.
At the end those that reach it are sorted by (score descending, rank of the docno ascending), a total order, so that
the k best are the same however the documents came.

`top` is a `thresher.search.kernels.types.TopK` throughout.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.search.kernels.types import TopK

THRESHOLD_LEVELS = 1024
SMALLEST = 5e-324
STEEPEST = 1e300
"""Upper limit on levels per unit of sum, so that it stays finite for corrupt posting lists."""
SAFE = 1 - 2.0**-50
"""Relative safety margin for floating-point rounding."""
LIMIT, PER_UNIT = range(2)  # of `TopK.limits`
SIZE, EDGE, ABOVE = range(3)  # of `TopK.counts`


@njit(cache=True, nogil=True)
def level_of(value, per_unit):
    """The level of a sum, int64; no sum is above the last."""
    return np.int64(min(value * per_unit, THRESHOLD_LEVELS - 1.0))


@njit(cache=True, nogil=True)
def open_top(k, scale, ranks, least, total, room):
    """An empty `TopK` with a buffer of `room` entries, for sums from `least`, which k documents reach, to `total`."""
    limits, counts = np.empty(2, np.float64), np.zeros(3, np.int64)
    limits[LIMIT], limits[PER_UNIT] = least, min((THRESHOLD_LEVELS - 1) / max(total, least), STEEPEST)
    counts[EDGE] = level_of(least, limits[PER_UNIT])
    histogram = np.zeros(THRESHOLD_LEVELS, np.int32)
    return TopK(k, scale, ranks, limits, counts, histogram, np.empty(room, np.float64), np.empty(room, np.uint32))


@njit(cache=True, nogil=True)
def collect(sums, first, last, origin, top):
    """Append documents first ... last - 1 of a window whose sums reach the threshold.

    sums     float64[window]   accumulators, by document modulo the window
    origin   int64             first document of the window
    top      in and out; it has room for all appended (`make_room`)
    """
    histogram, buffer, docs = top.histogram, top.sums, top.docs
    least, per_unit = top.limits[LIMIT], top.limits[PER_UNIT]
    size, edge, above = top.counts[SIZE], top.counts[EDGE], top.counts[ABOVE]
    for group in range(first, last, 64):
        end = min(group + 64, last)
        hits = 0
        for i in range(group, end):
            hits += sums[i] >= least
        if hits == 0:
            continue
        for i in range(group, end):
            if sums[i] >= least:
                buffer[size] = sums[i]
                docs[size] = origin + i
                size += 1
                level = level_of(sums[i], per_unit)
                histogram[level] += 1
                above += level >= edge
    top.counts[SIZE], top.counts[ABOVE] = size, above


@njit(cache=True, nogil=True)
def collect_some(sums, some, origin, top):
    """As `collect`, of some documents of a window, uint32[n] ascending."""
    histogram, buffer, docs = top.histogram, top.sums, top.docs
    least, per_unit = top.limits[LIMIT], top.limits[PER_UNIT]
    size, edge, above = top.counts[SIZE], top.counts[EDGE], top.counts[ABOVE]
    for doc in some:
        value = sums[doc - origin]
        if value >= least:
            buffer[size] = value
            docs[size] = doc
            size += 1
            level = level_of(value, per_unit)
            histogram[level] += 1
            above += level >= edge
    top.counts[SIZE], top.counts[ABOVE] = size, above


@njit(cache=True, nogil=True)
def raise_threshold(top):
    """Move the threshold to the highest edge that k documents reach."""
    k, histogram = top.k, top.histogram
    edge, above = top.counts[EDGE], top.counts[ABOVE]
    if above - histogram[edge] < k:
        return
    while edge < THRESHOLD_LEVELS - 1 and above - histogram[edge] >= k:
        above -= histogram[edge]
        edge += 1
    top.counts[EDGE], top.counts[ABOVE] = edge, above
    top.limits[LIMIT] = max(top.limits[LIMIT], edge / top.limits[PER_UNIT] * SAFE)


@njit(cache=True, nogil=True)
def make_room(room, top):
    """Make room for `room` more entries: drop those below the threshold, and if need be all but the k best."""
    size, buffer = top.counts[SIZE], top.sums
    if size + room <= buffer.shape[0]:
        return
    size = keep_reaching(top.limits[LIMIT], size, buffer, top.docs)
    if size + room > buffer.shape[0]:
        size = keep_best(size, top)
        worst = np.inf
        for i in range(size):
            worst = min(worst, buffer[i])
        top.limits[LIMIT] = max(top.limits[LIMIT], worst * SAFE)
    edge = level_of(top.limits[LIMIT], top.limits[PER_UNIT])
    top.histogram[:] = 0
    above = 0
    for i in range(size):
        level = level_of(buffer[i], top.limits[PER_UNIT])
        top.histogram[level] += 1
        above += level >= edge
    top.counts[SIZE], top.counts[EDGE], top.counts[ABOVE] = size, edge, above


@njit(cache=True, nogil=True)
def keep_reaching(least, size, buffer, docs):
    """Move the entries that reach `least` to the front; returns how many. Sums may be of any type."""
    kept = 0
    for i in range(size):
        if buffer[i] >= least:
            buffer[kept], docs[kept] = buffer[i], docs[i]
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def keep_best(size, top):
    """Move the k best entries by score and rank to the front; returns k."""
    k, ranks, buffer, docs = top.k, top.ranks, top.sums, top.docs
    scores, own, places = np.empty(size, np.float64), docs[:size].copy(), np.empty(size, np.uint32)
    for i in range(size):
        scores[i], places[i] = buffer[i] * top.scale, i
    low, high = 0, size - 1
    while low < high:  # Hoare's quickselect
        i, j = partition(scores, ranks, own, places, low, high)
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    kept = np.sort(places[:k])
    for i in range(k):
        buffer[i], docs[i] = buffer[kept[i]], docs[kept[i]]
    return k


@njit(cache=True, nogil=True)
def finish(top, out_docs, out_scores):
    """Write the k best, best first; returns how many there are.

    A counting sort over levels of sums, then a comparison sort inside each level: sums decide levels, scores (sums
    times the scale) and ranks decide inside. Levels do not overlap, since the product is monotone; where it makes two
    sums of neighbouring levels equal, a last pass puts the ranks in order. Ranks are looked up only where scores are
    equal: they lie far apart in memory.
    """
    ranks, buffer, docs = top.ranks, top.sums, top.docs
    size = keep_reaching(top.limits[LIMIT], top.counts[SIZE], buffer, docs)
    if size == 0:
        return 0
    scores, sorted_docs = np.empty(size, np.float64), np.empty(size, np.uint32)
    low, high = buffer[0], buffer[0]
    for i in range(size):
        low, high = min(low, buffer[i]), max(high, buffer[i])
    levels = min(4 * size, 4096)
    per_unit = min((levels - 1) / (high - low), STEEPEST) if high > low else 0.0
    ends = np.zeros(levels + 1, np.int64)
    for i in range(size):
        ends[levels - np.int64((buffer[i] - low) * per_unit)] += 1
    for level in range(levels):
        ends[level + 1] += ends[level]
    for i in range(size):
        level = levels - 1 - np.int64((buffer[i] - low) * per_unit)
        at = ends[level]
        ends[level] += 1
        scores[at], sorted_docs[at] = buffer[i] * top.scale, docs[i]
    first = 0
    for level in range(levels):
        last = ends[level]
        if last - first > 16:
            sort_best(scores, ranks, sorted_docs, first, last - 1)
        first = last
    insert(scores, ranks, sorted_docs, size)
    count = min(top.k, size)
    out_docs[:count] = sorted_docs[:count]
    out_scores[:count] = scores[:count]
    return count


@njit(cache=True, nogil=True)
def before(score, doc, other_score, other_doc, ranks):
    """Whether (score, doc) stands before the other: higher score, or the same and the smaller rank."""
    return score > other_score or (score == other_score and ranks[doc] < ranks[other_doc])


@njit(cache=True, nogil=True)
def partition(scores, ranks, docs, places, low, high):
    """Partition entries low ... high around the middle one; returns (i, j).

    Entries low ... j are not after it, entries i ... high not before.

    places   uint32, moved along; may be empty
    """
    middle = (low + high) // 2
    score, doc = scores[middle], docs[middle]
    i, j = low, high
    while i <= j:
        while before(scores[i], docs[i], score, doc, ranks):
            i += 1
        while before(score, doc, scores[j], docs[j], ranks):
            j -= 1
        if i <= j:
            scores[i], scores[j] = scores[j], scores[i]
            docs[i], docs[j] = docs[j], docs[i]
            if places.shape[0] > 0:
                places[i], places[j] = places[j], places[i]
            i += 1
            j -= 1
    return i, j


@njit(cache=True, nogil=True)
def sort_best(scores, ranks, docs, first, last):
    """Bring entries first ... last nearly into order, best first: quicksort down to 16; `insert` does the rest."""
    none = np.empty(0, np.uint32)
    stack = np.empty((128, 2), np.int64)
    stack[0, 0], stack[0, 1] = first, last
    depth = 1
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        while high - low >= 16:
            i, j = partition(scores, ranks, docs, none, low, high)
            if j - low > high - i:
                stack[depth, 0], stack[depth, 1] = low, j
                low = i
            else:
                stack[depth, 0], stack[depth, 1] = i, high
                high = j
            depth += 1


@njit(cache=True, nogil=True)
def insert(scores, ranks, docs, size):
    """Insertion sort, best first, of entries that are nearly in order."""
    for a in range(1, size):
        score, doc = scores[a], docs[a]
        b = a - 1
        while b >= 0 and before(score, doc, scores[b], docs[b], ranks):
            scores[b + 1], docs[b + 1] = scores[b], docs[b]
            b -= 1
        scores[b + 1], docs[b + 1] = score, doc


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
def hand_over(size, unit, scale, top, hits):
    """Write the k best of the documents that were found, in any order, with quantised sums as scores; returns how many.

    size, unit, scale   int64, float64, float64   of the documents, of the sums, of `Postings`
    top, hits           `QuantisedTopK`, `Hits` out
    """
    values, docs = top.values[:size], top.docs[:size]
    edge = kth_of(top.k, values) if size > top.k else np.int64(0)
    count = 0
    for i in range(size):
        if np.int64(values[i]) > edge:
            hits.docs[count], hits.scores[count] = docs[i], np.float64(values[i]) * unit * scale
            count += 1
    for i in range(size):
        if count < top.k and np.int64(values[i]) == edge:
            hits.docs[count], hits.scores[count] = docs[i], np.float64(edge) * unit * scale
            count += 1
    return count
