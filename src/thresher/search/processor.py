"""Exact top-k over an impact index: bounds, the order of visits, scoring.

Sources: Block-Max Pruning (Mallia, Suel, Tonellotto, SIGIR 2024, arXiv 2405.01117) for bounding blocks of consecutive
documents by summed maxima and visiting them best bound first; superblocks as units of visiting (arXiv 2504.17045);
term-at-a-time scoring with accumulators. Where this differs:

* A score is accumulated in float64, in ascending term order, into the accumulators of one tile of about 2,048
  documents. They stay in the first-level cache, and the sums are the scores by definition: there is nothing to rescore,
  whatever the weights.
* Tiles are visited by the best bound among their blocks. In a tile, only blocks whose bounds reach the threshold are
  scored, run after run, through the directory; where more than half of them do, the whole tile is, without looking for
  blocks. So the choice between block-max and term-at-a-time falls tile by tile, from bounds and threshold as they are.
* Bounds are float32 sums over weights divided by the largest, raised by twice the error bound of such a sum (relative
  (additions + 4) · 2^-23; weights below 1e-30 of the largest count as that): no bound lies below a score in its block.
* The threshold starts from the stored k-th impacts and is inclusive.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201, ANN202, PLR0912, PLR0915

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.index.invert import SKIP
from thresher.search.checks import sound
from thresher.search.prefetch import prefetch
from thresher.search.topk import LEVELS, SAFE, collect, finish, make_room, raise_threshold

__all__ = ["AUTO", "BLOCK_MAX", "STATISTICS", "TERM_AT_A_TIME", "search_many"]

AUTO, TERM_AT_A_TIME, BLOCK_MAX = 0, 1, 2
STATISTICS = ("plan", "terms", "postings", "scored", "blocks", "visited", "tiles", "whole", "dropped")
PLAN, TERMS, POSTINGS, SCORED, BLOCKS, VISITED, TILES, WHOLE, DROPPED = range(9)
SMALLEST = 5e-324
SMALL = 32_768
TINY = np.float32(1e-30)


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
    if size <= max_terms:
        return size, 0
    heaviest = np.sort(np.argsort(-out_weights[:size], kind="mergesort")[:max_terms])
    for p in range(max_terms):
        out_terms[p], out_weights[p] = out_terms[heaviest[p]], out_weights[heaviest[p]]
    return max_terms, size - max_terms


@njit(cache=True, nogil=True)
def seed(terms, weights, k, kth):
    """A sum that k documents reach: k documents of a list reach weight * its k-th largest impact."""
    least = 0.0
    column = 0 if k <= 1 else (1 if k <= 10 else (2 if k <= 100 else 3))
    if k <= 1000:
        for i in range(terms.shape[0]):
            least = max(least, weights[i] * kth[terms[i], column])
    return max(least * SAFE, SMALLEST)


@njit(cache=True, nogil=True)
def decode_rare(term, weight, block, step, starts, bases, impacts, gaps, decoded, first, tile_begins, bounds):
    """Decode a rare list, find where tiles begin in it, and add its maxima to the bounds.

    decoded      uint16[…]          out from `first` on: ids modulo the tile
    tile_begins  uint32[tiles + 1]  out: first posting of each tile
    bounds       float32[tiles * step]   in and out; empty where no bounds are wanted
    """
    start, at = np.uint64(starts[term]), np.uint64(bases[term])
    length = starts[term + 1] - starts[term]
    size = step * block
    inverse = (2**20 + block - 1) // block  # local * inverse >> 20 is local // block: local < 2^11, block <= 2^8
    doc, tile, origin = np.int64(-1), np.int64(0), np.int64(0)
    tile_begins[0] = 0
    current, best = np.int64(-1), np.float32(0.0)
    bounded = bounds.shape[0] > 0
    one, to = np.uint64(1), np.uint64(first)
    for p in range(length):
        gap = np.int64(gaps[at])
        at += one
        while gap == SKIP:
            doc += SKIP
            gap = np.int64(gaps[at])
            at += one
        doc += gap
        while doc >= origin + size:
            tile += 1
            origin += size
            tile_begins[tile] = p
        local = doc - origin
        decoded[to] = local
        to += one
        if bounded:  # without a branch on whether the block is a new one, which nothing could predict
            here = tile * step + (local * inverse >> 20)
            known = best if here == current else np.float32(0.0)
            best = max(known, np.float32(impacts[start]))
            bounds[np.uint64(here)] += weight * (best - known)
            current = here
            start += one
    for t in range(tile + 1, tile_begins.shape[0]):
        tile_begins[t] = length


@njit(cache=True, nogil=True)
def bound_blocks(terms, weights, bits, rows, kth, maxima, bounds):
    """Add the maxima of the common terms to the bounds.

    bounds  float32[tiles * step]   in and out, in units of impact * (weight / largest weight)
    """
    largest = weights.max()
    for i in range(terms.shape[0]):
        row = rows[terms[i]]
        if row >= 0:
            unit = 1.0 if bits == 8 else kth[terms[i], 0] / 255.0
            weight = max(np.float32(weights[i] / largest * unit), TINY)
            own = maxima[row]
            for j in range(own.shape[0]):
                bounds[j] += weight * np.float32(own[j])


@njit(cache=True, nogil=True)
def visit_order(bounds, step, least, tile_bounds, order):
    """Overwrite the front of `order` with the tiles whose best block reaches `least`, best first; returns their number.

    A counting sort over 256 levels between `least` and the largest bound: tiles of one level stay in index order.
    tile_bounds  float32[tiles]   out: largest bound among the blocks
    """
    levels = 256
    high = np.float32(0.0)
    for tile in range(tile_bounds.shape[0]):
        best = np.float32(0.0)
        for j in range(tile * step, (tile + 1) * step):
            best = max(best, bounds[j])
        tile_bounds[tile] = best
        high = max(high, best)
    if high < least:
        return 0
    per_unit = np.float64(levels - 1) / max(np.float64(high) - least, 1e-30)
    ends = np.zeros(levels + 1, np.int64)
    for tile in range(tile_bounds.shape[0]):
        if tile_bounds[tile] >= least:
            ends[levels - np.int64((tile_bounds[tile] - least) * per_unit)] += 1
    for level in range(levels):
        ends[level + 1] += ends[level]
    total = ends[levels]
    for tile in range(tile_bounds.shape[0]):
        if tile_bounds[tile] >= least:
            level = levels - 1 - np.int64((tile_bounds[tile] - least) * per_unit)
            order[ends[level]] = tile
            ends[level] += 1
    return total


@njit(cache=True, nogil=True)
def add_postings(first, last, shift, ids, impacts, weight, sums):
    """Add weight * impact of postings first … last - 1 to the sums of their documents.

    first, last  uint64    in `impacts`; the id of posting p is ids[p + shift]
    """
    for p in range(first, last):
        sums[np.uint64(ids[p + shift])] += weight * np.float64(impacts[p])


@njit(cache=True, nogil=True)
def search_one(
    terms, weights, k, plan, approx, scale, passages, block, bits, reordered, starts, bases, rows, kth, impacts,
    local, gaps, tiles, offsets, maxima, ranks, out_docs, out_scores, statistics,
):  # fmt: skip
    """Answer one query whose terms have been checked; returns the number of hits. Arguments as `search_many`."""
    count, tile_count, step = terms.shape[0], offsets.shape[1], offsets.shape[2] - 1
    size = step * block
    row, shift = np.empty(count, np.int64), np.empty(count, np.uint64)
    postings, rare_count, rare_postings, largest_sum = 0, 0, 0, 0.0
    for i in range(count):
        term = terms[i]
        row[i] = rows[term]
        length = starts[term + 1] - starts[term]
        shift[i] = np.uint64(bases[term]) - np.uint64(starts[term])
        if row[i] < 0:
            shift[i] = np.uint64(rare_postings) - np.uint64(starts[term])
            row[i] = -1 - rare_count
            rare_count += 1
            rare_postings += length
        postings += length
        largest_sum += weights[i] * kth[term, 0]
    statistics[TERMS], statistics[POSTINGS], statistics[BLOCKS] = count, postings, maxima.shape[1]
    k = min(k, passages)
    if k == 0 or postings == 0:
        return 0
    if (
        plan == AUTO
        and postings * 4 > passages
        and (passages <= SMALL * (1 if reordered else 8) or k * 2000 > passages)
    ):
        plan = TERM_AT_A_TIME  # measured: everything is scored before bounds could pay for themselves
    statistics[PLAN] = plan

    largest = weights.max()
    bounds = np.zeros(tile_count * step if plan != TERM_AT_A_TIME else 0, np.float32)
    decoded = np.empty(rare_postings, np.uint16)
    begins = np.empty((rare_count, tile_count + 1), np.uint32)
    for i in range(count):
        if row[i] < 0:
            first = np.int64(shift[i] + np.uint64(starts[terms[i]]))
            weight = max(np.float32(weights[i] / largest), TINY)
            own = begins[-1 - row[i]]
            decode_rare(terms[i], weight, block, step, starts, bases, impacts, gaps, decoded, first, own, bounds)

    state, counts = np.empty(2, np.float64), np.zeros(3, np.int64)
    state[0] = seed(terms, weights, k, kth)
    state[1] = (LEVELS - 1) / max(largest_sum, state[0])
    counts[1] = np.int64(state[0] * state[1])
    histogram = np.zeros(LEVELS, np.int32)
    buffer, docs = np.empty(2 * k + 2 * size, np.float64), np.empty(2 * k + 2 * size, np.uint32)
    order, tile_bounds = np.empty(tile_count, np.uint32), np.empty(tile_count, np.float32)
    total = tile_count
    factor = 1.0
    if plan == TERM_AT_A_TIME:
        for tile in range(tile_count):
            order[tile] = tile
    else:
        bound_blocks(terms, weights, bits, rows, kth, maxima, bounds)
        factor = largest * (1.0 + (count + rare_count * block + 4) * 2.0**-23) * approx
        total = visit_order(bounds, step, max(state[0] / factor * SAFE, 1e-31), tile_bounds, order)
    sums = np.empty(size, np.float64)
    runs = np.empty((step + 1, 2), np.int64)
    scored, visited, whole, seen = 0, 0, 0, 0
    for o in range(total):
        tile = np.int64(order[o])
        origin = tile * size
        room = min(size, passages - origin)
        alive = step
        run_count = 1
        runs[0, 0], runs[0, 1] = 0, step
        if plan != TERM_AT_A_TIME:
            least = max(state[0] / factor * SAFE, 1e-31)
            if tile_bounds[tile] < least:
                continue
            alive, run_count, open_run = 0, 0, False
            for b in range(step):
                if bounds[tile * step + b] >= least:
                    alive += 1
                    if not open_run:
                        runs[run_count, 0] = b
                        open_run = True
                    runs[run_count, 1] = b + 1
                elif open_run:
                    run_count += 1
                    open_run = False
            run_count += open_run
        entire = plan == AUTO and alive * 2 > step
        seen += 1
        whole += entire or alive == step
        visited += alive
        if entire:
            sums[:room] = 0.0
        else:
            for r in range(run_count):
                sums[runs[r, 0] * block : runs[r, 1] * block] = 0.0
        following = order[min(o + 1, total - 1)]
        for i in range(count):
            start = np.uint64(starts[terms[i]])
            if row[i] >= 0:
                soon = start + np.uint64(tiles[row[i], following])
                prefetch(impacts, soon)
                prefetch(local, soon + shift[i])
                prefetch(local, soon + shift[i] + np.uint64(32))
            if row[i] < 0:
                own = begins[-1 - row[i]]
                first, last = start + np.uint64(own[tile]), start + np.uint64(own[tile + 1])
                add_postings(first, last, shift[i], decoded, impacts, weights[i], sums)
                scored += own[tile + 1] - own[tile]
                continue
            start += np.uint64(tiles[row[i], tile])
            inside = offsets[row[i], tile]
            if entire:
                last = start + np.uint64(inside[step])
                add_postings(start, last, shift[i], local, impacts, weights[i], sums)
                scored += np.int64(last - start)
                continue
            for r in range(run_count):
                first, last = start + np.uint64(inside[runs[r, 0]]), start + np.uint64(inside[runs[r, 1]])
                add_postings(first, last, shift[i], local, impacts, weights[i], sums)
                scored += np.int64(last - first)
        make_room(k, size, scale, ranks, state, counts, histogram, buffer, docs)
        for r in range(run_count):
            last_doc = min(runs[r, 1] * block, room)
            collect(sums, runs[r, 0] * block, last_doc, origin, state, counts, histogram, buffer, docs)
        raise_threshold(k, state, counts, histogram)
    statistics[SCORED], statistics[VISITED], statistics[TILES], statistics[WHOLE] = scored, visited, seen, whole
    return finish(k, scale, ranks, state, counts, buffer, docs, out_docs, out_scores)


@njit(cache=True, nogil=True)
def search_many(
    indptr, terms, weights, k, plan, approx, max_terms, scale, passages, block, bits, reordered, starts, bases, rows,
    kth, impacts, local, gaps, tiles, offsets, maxima, ranks, checked, out_docs, out_scores, out_counts, statistics,
):  # fmt: skip
    """Answer queries in turn; returns -1, a term whose list is damaged, or -2 - q for a bad weight in query q.

    indptr      int64[q + 1], terms int64[nnz], weights float32[nnz]; see `tidy`
    k           hits wanted
    plan        AUTO, TERM_AT_A_TIME or BLOCK_MAX
    approx      1 for exact; below 1, bounds are scaled by it
    max_terms   heaviest terms kept of a query
    scale … ranks   the index, see `thresher.index.layout`
    checked     uint8[terms]         in and out: 1 where the list has been found sound
    out_docs    uint32[q, k'], out_scores float64[q, k'], out_counts int64[q]   out, k' = min(k, passages)
    statistics  int64[q, 9]          out, see STATISTICS
    """
    for q in range(indptr.shape[0] - 1):
        first, last = indptr[q], indptr[q + 1]
        own_terms, own_weights = np.empty(last - first, np.uint32), np.empty(last - first, np.float64)
        kept, dropped = tidy(terms[first:last], weights[first:last], rows.shape[0], max_terms, own_terms, own_weights)
        if kept < 0:
            return np.int64(-2 - q)
        statistics[q, DROPPED] = dropped
        for i in range(kept):
            term = own_terms[i]
            if checked[term] == 0:
                if not sound(term, passages, block, starts, bases, rows, impacts, local, gaps, tiles, offsets):
                    return np.int64(term)
                checked[term] = 1
        out_counts[q] = search_one(
            own_terms[:kept], own_weights[:kept], k, plan, approx, scale, passages, block, bits, reordered, starts,
            bases, rows, kth, impacts, local, gaps, tiles, offsets, maxima, ranks, out_docs[q], out_scores[q],
            statistics[q],
        )  # fmt: skip
    return np.int64(-1)
