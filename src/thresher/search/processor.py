"""Exact top-k over an impact index: bounds of blocks, the order of visits, scoring, and the choice of plan.

Sources: Block-Max Pruning (Mallia, Suel, Tonellotto, SIGIR 2024, arXiv 2405.01117) for filtering blocks of consecutive
documents by summed maxima and visiting them in descending order of bound; term-at-a-time scoring with
accumulators. Where this differs:

* A score is accumulated in float64, in ascending term order, into a few kilobytes of accumulators for one range of
  documents at a time. They stay in the first-level cache, and the sums are the scores by definition: there is nothing
  to rescore, whatever the weights.
* Both plans read the same lists. Term-at-a-time walks ranges of about 2,048 documents in order; block-max visits
  single blocks, best bound first, and finds each list's part through the block directory.
* Bounds are float32 sums over weights divided by the largest, raised by twice the error bound of such a sum
  (n + 4 units of 2^-23 relative, and 1e-30 against underflow): no bound lies below a score in its block.
* The threshold starts from the stored k-th impacts and is inclusive.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.search.checks import sound
from thresher.search.topk import cut, sort_best

__all__ = ["AUTO", "BLOCK_MAX", "STATISTICS", "TERM_AT_A_TIME", "search_many"]

AUTO, TERM_AT_A_TIME, BLOCK_MAX = 0, 1, 2
STATISTICS = ("plan", "postings", "scored", "blocks", "candidates", "visited", "entered")
TILE = 2048
SMALLEST = 5e-324
ALL_RANKS = 2**32


@njit(cache=True, nogil=True)
def accumulate(first, last, base, start, lows, impacts, weight, origin, sums):
    """Add weight * impact of postings first … last - 1 of a common list to the sums of a range from `origin` on."""
    for p in range(first, last):
        local = (np.int64(lows[base + p]) - origin) & 0xFFFF
        sums[local] += weight * impacts[start + p]


@njit(cache=True, nogil=True)
def accumulate_rare(first, last, base, start, docs, impacts, weight, origin, sums):
    """The same for a rare list."""
    for p in range(first, last):
        sums[np.int64(docs[base + p]) - origin] += weight * impacts[start + p]


@njit(cache=True, nogil=True)
def collect(sums, room, origin, scale, ranks, state, best_scores, best_ranks, best_docs, size):
    """Append the documents of a range whose score reaches the threshold; returns the new size.

    state   float64[3]   threshold of the score; a sum below state[1] cannot reach it; rank a tie must stay below
    """
    least = state[1]
    for group in range(0, room, 16):
        end = min(group + 16, room)
        hits = 0
        for i in range(group, end):
            hits += sums[i] >= least
        if hits == 0:
            continue
        for i in range(group, end):
            if sums[i] >= least:
                score = sums[i] * scale
                rank = ranks[origin + i]
                if score > state[0] or (score == state[0] and rank < state[2]):
                    best_scores[size] = score
                    best_ranks[size] = rank
                    best_docs[size] = origin + i
                    size += 1
    return size


@njit(cache=True, nogil=True)
def tighten(k, slack, scale, state, best_scores, best_ranks, best_docs, size):
    """Cut the buffer to the k best once it holds `slack` more, and raise the threshold; returns the new size."""
    if size < k + slack:
        return size
    worst = cut(best_scores, best_ranks, best_docs, size, k)
    if best_scores[worst] >= state[0]:
        state[0] = best_scores[worst]
        state[1] = max(state[1], best_scores[worst] / scale * (1 - 2.0**-50))
        state[2] = best_ranks[worst]
    return k


@njit(cache=True, nogil=True)
def seed(terms, weights, k, kth, scale, state):
    """Start the threshold: k documents of a list score at least weight * its k-th largest impact."""
    column = 0 if k <= 1 else (1 if k <= 10 else (2 if k <= 100 else 3))
    least = 0.0
    if k <= 1000:
        for i in range(terms.shape[0]):
            least = max(least, weights[i] * kth[terms[i], column])
    state[0] = least * scale
    state[1] = max(least * (1 - 2.0**-50), SMALLEST)
    state[2] = ALL_RANKS


@njit(cache=True, nogil=True)
def exhaust(
    terms,
    weights,
    k,
    scale,
    passages,
    block,
    starts,
    bases,
    rows,
    impacts,
    lows,
    docs,
    pointers,
    maxima,
    ranks,
    state,
    best_scores,
    best_ranks,
    best_docs,
):
    """Term-at-a-time over all documents, a range at a time; returns the number of entries in the buffer."""
    blocks = maxima.shape[1]
    step = max(1, TILE // block)
    sums = np.empty(step * block, np.float64)
    cursors = np.zeros(terms.shape[0], np.int64)
    size = 0
    for first_block in range(0, blocks, step):
        last_block = min(first_block + step, blocks)
        origin = first_block * block
        room = min(last_block * block, passages) - origin
        sums[:room] = 0.0
        for i in range(terms.shape[0]):
            term = terms[i]
            row, base, start = rows[term], bases[term], starts[term]
            first = cursors[i]
            if row >= 0:
                last = np.int64(pointers[row, last_block])
                accumulate(first, last, base, start, lows, impacts, weights[i], origin, sums)
            else:
                last = first
                length = starts[term + 1] - start
                while last < length and docs[base + last] < origin + room:
                    last += 1
                accumulate_rare(first, last, base, start, docs, impacts, weights[i], origin, sums)
            cursors[i] = last
        size = collect(sums, room, origin, scale, ranks, state, best_scores, best_ranks, best_docs, size)
        size = tighten(k, max(1, k // 4), scale, state, best_scores, best_ranks, best_docs, size)
    return size


@njit(cache=True, nogil=True)
def block_bounds(terms, weights, block, bits, starts, bases, rows, kth, impacts, docs, maxima, bounds, rare):
    """Bound every block from above, and find where rare lists meet the blocks.

    bounds   float32[blocks]                       out, in units of impact * (weight / largest weight)
    rare     uint32[rare terms, blocks + 1]        out, as `pointers`, in the order of `terms`
    """
    blocks = maxima.shape[1]
    bounds[:] = 0.0
    largest = weights.max()
    r = 0
    for i in range(terms.shape[0]):
        term = terms[i]
        row = rows[term]
        if row >= 0:
            unit = 1.0 if bits == 8 else kth[term, 0] / 255.0
            weight = np.float32(weights[i] / largest * unit)
            for j in range(blocks):
                bounds[j] += weight * np.float32(maxima[row, j])
            continue
        weight = np.float32(weights[i] / largest)
        base, start = bases[term], starts[term]
        length = starts[term + 1] - start
        p = np.int64(0)
        j = np.int64(0)
        while p < length:
            here = np.int64(docs[base + p]) // block
            while j <= here:
                rare[r, j] = p
                j += 1
            end = (here + 1) * block
            best = np.float32(0.0)
            while p < length and docs[base + p] < end:
                best = max(best, np.float32(impacts[start + p]))
                p += 1
            bounds[here] += weight * best
        while j <= blocks:
            rare[r, j] = length
            j += 1
        r += 1


@njit(cache=True, nogil=True)
def visit_order(bounds, least, order):
    """Overwrite the front of `order` with the blocks whose bound reaches `least`, best first; returns their number.

    A counting sort over 512 levels between `least` and the largest bound: blocks of one level stay in index order.
    """
    levels = 512
    high = np.float32(0.0)
    for j in range(bounds.shape[0]):
        high = max(high, bounds[j])
    if high < least:
        return 0
    step = np.float64(levels - 1) / max(np.float64(high) - least, 1e-30)
    counts = np.zeros(levels + 1, np.int64)
    for j in range(bounds.shape[0]):
        if bounds[j] >= least:
            counts[levels - 1 - np.int64((bounds[j] - least) * step) + 1] += 1
    for level in range(levels):
        counts[level + 1] += counts[level]
    total = counts[levels]
    for j in range(bounds.shape[0]):
        if bounds[j] >= least:
            level = levels - 1 - np.int64((bounds[j] - least) * step)
            order[counts[level]] = j
            counts[level] += 1
    return total


@njit(cache=True, nogil=True)
def visit(
    order,
    total,
    bounds,
    factor,
    addend,
    terms,
    weights,
    k,
    scale,
    passages,
    block,
    starts,
    bases,
    rows,
    impacts,
    lows,
    docs,
    pointers,
    rare,
    ranks,
    state,
    best_scores,
    best_ranks,
    best_docs,
    statistics,
):
    """Score the blocks of `order` whose bounds reach the threshold; returns the number of entries in the buffer."""
    sums = np.empty(block, np.float64)
    size = 0
    visited = 0
    scored = 0
    for o in range(total):
        j = order[o]
        if bounds[j] * factor + addend < state[1]:
            continue
        origin = np.int64(j) * block
        room = min(block, passages - origin)
        sums[:room] = 0.0
        r = 0
        for i in range(terms.shape[0]):
            term = terms[i]
            row, base, start = rows[term], bases[term], starts[term]
            if row >= 0:
                first, last = np.int64(pointers[row, j]), np.int64(pointers[row, j + 1])
                accumulate(first, last, base, start, lows, impacts, weights[i], origin, sums)
            else:
                first, last = np.int64(rare[r, j]), np.int64(rare[r, j + 1])
                accumulate_rare(first, last, base, start, docs, impacts, weights[i], origin, sums)
                r += 1
            scored += last - first
        visited += 1
        size = collect(sums, room, origin, scale, ranks, state, best_scores, best_ranks, best_docs, size)
        size = tighten(k, max(1, k // 4), scale, state, best_scores, best_ranks, best_docs, size)
    statistics[2] = scored
    statistics[5] = visited
    return size


@njit(cache=True, nogil=True)
def search_one(
    terms,
    weights,
    k,
    plan,
    approx,
    scale,
    passages,
    block,
    bits,
    starts,
    bases,
    rows,
    kth,
    impacts,
    lows,
    docs,
    pointers,
    maxima,
    ranks,
    out_docs,
    out_scores,
    statistics,
):
    """Answer one query whose terms have been checked; returns the number of hits. Arguments as `search_many`."""
    blocks = maxima.shape[1]
    postings = 0
    rare_terms = 0
    for i in range(terms.shape[0]):
        postings += starts[terms[i] + 1] - starts[terms[i]]
        rare_terms += rows[terms[i]] < 0
    statistics[1] = postings
    statistics[3] = blocks
    k = min(k, passages)
    if k == 0 or postings == 0:
        return 0
    state = np.empty(3, np.float64)
    seed(terms, weights, k, kth, scale, state)
    room = k + max(1, k // 4) + max(1, TILE // block) * block
    best_scores = np.empty(room, np.float64)
    best_ranks = np.empty(room, np.uint32)
    best_docs = np.empty(room, np.uint32)
    if plan == AUTO:
        plan = BLOCK_MAX if passages > 20_000 and k * 50 < passages else TERM_AT_A_TIME
    size = 0
    if plan == BLOCK_MAX:
        bounds = np.empty(blocks, np.float32)
        rare = np.empty((rare_terms, blocks + 1), np.uint32)
        block_bounds(terms, weights, block, bits, starts, bases, rows, kth, impacts, docs, maxima, bounds, rare)
        largest = weights.max()
        factor = largest * (1.0 + (terms.shape[0] + 4) * 2.0**-23) * approx
        addend = largest * 1e-30
        order = np.empty(blocks, np.uint32)
        total = visit_order(bounds, (state[1] - addend) / factor * (1 - 2.0**-40), order)
        statistics[4] = total
        size = visit(
            order,
            total,
            bounds,
            factor,
            addend,
            terms,
            weights,
            k,
            scale,
            passages,
            block,
            starts,
            bases,
            rows,
            impacts,
            lows,
            docs,
            pointers,
            rare,
            ranks,
            state,
            best_scores,
            best_ranks,
            best_docs,
            statistics,
        )
    else:
        size = exhaust(
            terms,
            weights,
            k,
            scale,
            passages,
            block,
            starts,
            bases,
            rows,
            impacts,
            lows,
            docs,
            pointers,
            maxima,
            ranks,
            state,
            best_scores,
            best_ranks,
            best_docs,
        )
        statistics[2] = postings
        statistics[4] = blocks
        statistics[5] = blocks
    statistics[0] = plan
    if size > k:
        cut(best_scores, best_ranks, best_docs, size, k)
        size = k
    sort_best(best_scores, best_ranks, best_docs, size)
    out_docs[:size] = best_docs[:size]
    out_scores[:size] = best_scores[:size]
    return size


@njit(cache=True, nogil=True)
def search_many(
    indptr,
    terms,
    weights,
    k,
    plan,
    approx,
    scale,
    passages,
    block,
    bits,
    starts,
    bases,
    rows,
    kth,
    impacts,
    lows,
    docs,
    pointers,
    maxima,
    ranks,
    checked,
    out_docs,
    out_scores,
    out_counts,
    statistics,
):
    """Answer queries one after another; returns -1, or the first term whose list is damaged.

    indptr      int64[q + 1], terms uint32[nnz] ascending in a row, below len(rows), weights float64[nnz] positive
    k           hits wanted; plan AUTO, TERM_AT_A_TIME or BLOCK_MAX; approx: 1 exact, below 1 bounds are scaled by it
    scale … ranks   the index, see `thresher.index.layout`
    checked     uint8[terms]         in and out: 1 where the list has been found sound
    out_docs    uint32[q, k'], out_scores float64[q, k'], out_counts int64[q]   out, k' = min(k, passages)
    statistics  int64[q, 7]          out, see STATISTICS
    """
    for q in range(indptr.shape[0] - 1):
        first, last = indptr[q], indptr[q + 1]
        for p in range(first, last):
            term = terms[p]
            if checked[term] == 0:
                if not sound(term, passages, block, starts, bases, rows, impacts, lows, docs, pointers, maxima):
                    return np.int64(term)
                checked[term] = 1
        out_counts[q] = search_one(
            terms[first:last],
            weights[first:last],
            k,
            plan,
            approx,
            scale,
            passages,
            block,
            bits,
            starts,
            bases,
            rows,
            kth,
            impacts,
            lows,
            docs,
            pointers,
            maxima,
            ranks,
            out_docs[q],
            out_scores[q],
            statistics[q],
        )
    return np.int64(-1)
