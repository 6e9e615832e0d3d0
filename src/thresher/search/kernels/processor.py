"""Exact top-k over an impact index: queries made fit for scoring, the choice of a plan, one query or many.

Plans: term-at-a-time (`thresher.search.kernels.taat`) and block-max pruning (`thresher.search.kernels.bounds`). Both
give the hits that scoring every document would, with the same scores to the last bit. The threshold starts from the
stored k-th
impacts and is inclusive.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.index.layout import TILE
from thresher.search.kernels.bounds import score_by_bounds
from thresher.search.kernels.intrinsics import take
from thresher.search.kernels.postings import largest_impact, sound
from thresher.search.kernels.taat import WHOLE_CHUNK, score_coarsely, score_whole
from thresher.search.kernels.topk import SAFE, SMALLEST, open_top

AUTO, TERM_AT_A_TIME, BLOCK_MAX = 0, 1, 2
PLAN, TERMS, POSTINGS, SCORED, BLOCKS, VISITED, TILES, WHOLE, DROPPED, HITS, THRESHOLD, BOUND = range(12)
"""Of `statistics`: the plan that answered, terms dropped by `max_terms`, and what `Explanation` says of the others."""
FEW, WORTH = 1000, 40
"""Coarse sums find up to `FEW` hits, where hits * terms * `WORTH` is at most the passages: scoring a hit again costs
some 45 ns a term, float64 sums about 1 ns a passage more than coarse ones (measured at 123,000)."""
MANY_TERMS = 4096
BOUNDED_TERMS = 512
"""Terms of the longest query that bounds are tried for: they keep four bytes a tile for each rare one."""


@njit(cache=True, nogil=True)
def tidy(terms, weights, known, max_terms, out_terms, out_weights):
    """A query's row made fit for scoring; returns (terms kept, terms dropped by `max_terms`), (-1, 0) for a bad weight.

    Terms outside 0 … known - 1 and weights of 0 go; the rest is sorted, repeated terms add up (in float64, rounded to
    float32 once). Of more than `max_terms` terms the heaviest stay, among equals the smaller ids.
    terms int64[n], weights float32[n]; out_terms uint32[n], out_weights float64[n]   out
    """
    size = 0
    ascending = True
    for p in range(terms.shape[0]):
        if not 0 <= weights[p] < np.inf:
            return -1, 0
        if 0 <= terms[p] < known and weights[p] > 0:
            out_terms[size] = terms[p]
            out_weights[size] = weights[p]
            ascending = ascending and (size == 0 or out_terms[size - 1] < out_terms[size])
            size += 1
    if not ascending:
        order = np.argsort(out_terms[:size], kind="mergesort")
        old_terms, old_weights = out_terms[:size].copy(), out_weights[:size].copy()
        count = 0
        for p in range(size):
            if count > 0 and out_terms[count - 1] == old_terms[order[p]]:
                out_weights[count - 1] += old_weights[order[p]]
            else:
                out_terms[count], out_weights[count] = old_terms[order[p]], old_weights[order[p]]
                count += 1
        size = count
        for p in range(size):
            out_weights[p] = np.float64(np.float32(out_weights[p]))
            if not out_weights[p] < np.inf:
                return -1, 0
    if size <= max_terms:
        return size, 0
    heaviest = np.sort(np.argsort(-out_weights[:size], kind="mergesort")[:max_terms])
    for p in range(max_terms):
        out_terms[p], out_weights[p] = out_terms[heaviest[p]], out_weights[heaviest[p]]
    return max_terms, size - max_terms


@njit(cache=True, nogil=True)
def seed(terms, weights, k, rows, kth):
    """A sum that k documents reach: k documents of a list reach weight * its k-th largest impact."""
    least = 0.0
    column = 0 if k <= 1 else (1 if k <= 10 else (2 if k <= 100 else 3))
    if k <= 1000:
        for i in range(terms.shape[0]):
            if rows[terms[i]] >= 0:
                least = max(least, weights[i] * kth[rows[terms[i]], column])
    return max(least * SAFE, SMALLEST)


@njit(cache=True, nogil=True)
def search_one(
    terms, weights, k, plan, approx, scale, passages, block, bits, starts, rows, kth, dense, impacts, ids, tiles,
    maxima, ranks, out_docs, out_scores, statistics,
):  # fmt: skip
    """Answer one query whose terms have been checked; returns the number of hits. Arguments as `search_many`."""
    count = terms.shape[0]
    entries, total = 0, 0.0
    for i in range(count):
        term = terms[i]
        row = np.int64(rows[term])
        if 0 <= row < dense.shape[0]:
            entries += np.int64(tiles[row, tiles.shape[1] - 1])
        else:
            entries += np.int64(starts[term + 1]) - np.int64(starts[term])
        total += weights[i] * largest_impact(term, starts, rows, kth, impacts)
    statistics[TERMS], statistics[POSTINGS], statistics[BLOCKS] = count, entries, maxima.shape[1]
    k = min(k, passages)
    statistics[PLAN] = TERM_AT_A_TIME
    if k == 0 or entries == 0:
        return 0
    least = seed(terms, weights, k, rows, kth)
    statistics[THRESHOLD], statistics[BOUND] = least * scale, total * scale
    if plan == BLOCK_MAX or (plan == AUTO and count <= BOUNDED_TERMS):
        found, least = search_by_bounds(
            terms, weights, total, least, k, plan, approx, scale, passages, block, bits, starts, rows, kth, dense,
            impacts, ids, tiles, maxima, ranks, out_docs, out_scores, statistics,
        )  # fmt: skip
        if found >= 0:
            statistics[PLAN] = plan
            return found
    statistics[SCORED], statistics[VISITED] = entries, maxima.shape[1]
    statistics[TILES] = statistics[WHOLE] = tiles.shape[1] - 1
    return search_term_at_a_time(
        terms, weights, total, least, k, scale, passages, bits, starts, rows, kth, dense, impacts, ids, tiles, ranks,
        out_docs, out_scores,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def search_by_bounds(
    terms, weights, total, least, k, plan, approx, scale, passages, block, bits, starts, rows, kth, dense, impacts, ids,
    tiles, maxima, ranks, out_docs, out_scores, statistics,
):  # fmt: skip
    """Number of hits, -1 where the plan gave up, and a sum that k documents reach."""
    state, counts, histogram, buffer, docs = open_top(least, total, 2 * k + 2 * TILE)
    work = np.empty(4, np.int64)
    found = score_by_bounds(
        terms, weights, k, plan == AUTO, approx, scale, passages, block, bits, starts, rows, kth, dense, impacts, ids,
        tiles, maxima, ranks, state, counts, histogram, buffer, docs, out_docs, out_scores, work,
    )  # fmt: skip
    statistics[SCORED], statistics[VISITED], statistics[TILES], statistics[WHOLE] = work
    return found, state[0]


@njit(cache=True, nogil=True)
def search_term_at_a_time(
    terms, weights, total, least, k, scale, passages, bits, starts, rows, kth, dense, impacts, ids, tiles, ranks,
    out_docs, out_scores,
):  # fmt: skip
    """Number of hits, by coarse sums where they pay and suffice. `least`: a sum that k documents reach."""
    count = terms.shape[0]
    few = k <= FEW and (k * count * WORTH <= passages or k <= 10)
    if few and count <= MANY_TERMS and total > least * 2.0**-8:
        found = score_coarsely(
            terms, weights, total, least, k, scale, passages, 2**bits - 1, starts, rows, kth, dense, impacts, ids,
            tiles, ranks, out_docs, out_scores,
        )  # fmt: skip
        if found >= 0:
            return found
    state, counts, histogram, buffer, docs = open_top(least, total, 2 * k + 2 * WHOLE_CHUNK)
    return score_whole(
        terms, weights, k, scale, passages, starts, rows, dense, impacts, ids, tiles, ranks, state, counts, histogram,
        buffer, docs, out_docs, out_scores,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def search_row(
    terms, weights, k, plan, approx, max_terms, scale, passages, block, bits, starts, rows, kth, dense,
    impacts, ids, tiles, maxima, ranks, checked, out_docs, out_scores, statistics,
):  # fmt: skip
    """Answer one query; returns -1; 8 * term + a file where a list is damaged; -2 for a bad weight.

    terms, weights   int64[n], float32[n]; see `tidy`
    k           hits wanted
    plan        AUTO, bounds that may give up for TERM_AT_A_TIME; or one of the two
    approx      1 for exact; below 1, bounds are scaled by it
    max_terms   heaviest terms kept of a query
    scale … ranks   the index, see `thresher.index.layout`
    checked     uint8[terms]     in and out: 1 where the list has been found sound
    out_docs    uint32[k'], out_scores float64[k']   out, k' = min(k, passages)
    statistics  float64[12]      out, see `PLAN` and so on
    """
    statistics[:] = 0
    own_terms, own_weights = np.empty(terms.shape[0], np.uint32), np.empty(terms.shape[0], np.float64)
    kept, dropped = tidy(terms, weights, rows.shape[0], max_terms, own_terms, own_weights)
    if kept < 0:
        return np.int64(-2)
    statistics[DROPPED] = dropped
    for i in range(kept):
        term = own_terms[i]
        if checked[term] == 0:
            fault = sound(term, passages, starts, rows, dense, ids, impacts, tiles)
            if fault > 0:
                return np.int64(term) * 8 + fault
            checked[term] = 1
    statistics[HITS] = search_one(
        own_terms[:kept], own_weights[:kept], k, plan, approx, scale, passages, block, bits, starts, rows,
        kth, dense, impacts, ids, tiles, maxima, ranks, out_docs, out_scores, statistics,
    )  # fmt: skip
    return np.int64(-1)


@njit(cache=True, nogil=True)
def search_many(
    counter, indptr, terms, weights, k, plan, approx, max_terms, scale, passages, block, bits, starts, rows, kth,
    dense, impacts, ids, tiles, maxima, ranks, checked, out_docs, out_scores, statistics,
):  # fmt: skip
    """Answer queries until the counter is at the end; threads may share it. As `search_row`, -2 - q for a bad weight.

    counter     int64[1]   in and out: the next query
    indptr      int64[q + 1], terms int64[nnz], weights float32[nnz]
    out_docs    uint32[q, k'], out_scores float64[q, k'], statistics float64[q, 12]   out
    """
    while True:
        q = take(counter)
        if q >= indptr.shape[0] - 1:
            return np.int64(-1)
        first, last = indptr[q], indptr[q + 1]
        status = search_row(
            terms[first:last], weights[first:last], k, plan, approx, max_terms, scale, passages, block, bits,
            starts, rows, kth, dense, impacts, ids, tiles, maxima, ranks, checked, out_docs[q], out_scores[q],
            statistics[q],
        )  # fmt: skip
        if status != -1:
            return status if status >= 0 else np.int64(-2 - q)
