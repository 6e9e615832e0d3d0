"""Exact top-k over an impact index: the choice of a plan, bounds, the order of visits, scoring.

Sources: Block-Max Pruning (Mallia, Suel, Tonellotto, SIGIR 2024, arXiv 2405.01117) for bounding blocks of consecutive
documents by summed maxima and visiting them best bound first; superblocks as units of visiting (arXiv 2504.17045);
term-at-a-time scoring with accumulators (`thresher.search.accumulate`). Where this differs:

* A score is accumulated in float64, in ascending term order, into the accumulators of one tile of 2,048 documents. They
  stay in the first-level cache, and the sums are the scores by definition: there is nothing to rescore.
* Tiles are visited by the best bound among their blocks. In a tile, only blocks whose bounds reach the threshold are
  scored, run after run; where more than half of them do, the whole tile is, without looking for blocks. So the choice
  between block-max and term-at-a-time falls tile by tile, from bounds and threshold as they are.
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

from thresher.index.layout import SEGMENT, TILE
from thresher.search.accumulate import WHOLE_CHUNK, score_coarsely, score_whole
from thresher.search.intrinsics import prefetch, take
from thresher.search.lists import add, add_row, find, largest_impact, open_segment, sound
from thresher.search.topk import LEVELS, SAFE, collect, finish, make_room, raise_threshold

__all__ = ["AUTO", "BLOCK_MAX", "STATISTICS", "TERM_AT_A_TIME", "search_many", "search_row"]

AUTO, TERM_AT_A_TIME, BLOCK_MAX = 0, 1, 2
STATISTICS = ("plan", "terms", "postings", "scored", "blocks", "visited", "tiles", "whole", "dropped", "hits")
PLAN, TERMS, POSTINGS, SCORED, BLOCKS, VISITED, TILES, WHOLE, DROPPED, HITS = range(10)
SMALLEST = 5e-324
SMALL = 1_048_576
FEW, WORTH = 1000, 40
"""Coarse sums find up to `FEW` hits, where hits * terms * `WORTH` is at most the passages: scoring a hit again costs
some 45 ns a term, float64 sums about 1 ns a passage more than coarse ones (measured at 123,000)."""
MANY_TERMS = 4096
SAMPLE, LOOSE = 256, 0.02
"""Bounds are loose where more than this share of a sample of blocks reaches the first threshold. On a million passages
whole lists are as quick as bounds even after bisection, and twice as quick in source order."""
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
def walk(start, end, weight, block, impacts, ids, begins, bounds):
    """Find where tiles begin in a list that is not common, and add its maxima to the bounds.

    start, end  int64               the list
    begins      uint32[tiles + 1]   out: first posting of each tile, counted from the list's begin
    bounds      float32[blocks]     in and out
    """
    step, shift = TILE // block, 0
    while block >> shift > 1:
        shift += 1
    origin, tile, at = 0, 0, start
    begins[0] = 0
    current, best = np.int64(-1), np.float32(0.0)
    while at < end:
        at, stop = open_segment(at, end, ids, impacts)
        for p in range(at, stop):
            low = np.int64(ids[np.uint64(p)])
            here = (origin + low) >> shift
            while tile < here // step:
                tile += 1
                begins[tile] = p - start
            # without a branch on whether the block is a new one, which nothing could predict
            known = best if here == current else np.float32(0.0)
            best = max(known, np.float32(impacts[np.uint64(p)]))
            bounds[np.uint64(here)] += weight * (best - known)
            current = here
        at = stop
        origin += SEGMENT
    begins[tile + 1 :] = end - start


@njit(cache=True, nogil=True)
def bound_blocks(terms, weights, bits, rows, kth, maxima, bounds):
    """Add the maxima of the common terms to the bounds.

    bounds  float32[tiles * step]   in and out, in units of impact * (weight / largest weight)
    """
    largest = weights.max()
    for i in range(terms.shape[0]):
        row = rows[terms[i]]
        if 0 <= row < maxima.shape[0]:
            unit = 1.0 if bits == 8 else kth[row, 0] / 255.0
            weight = max(np.float32(weights[i] / largest * unit), TINY)
            own = maxima[row]
            for j in range(own.shape[0]):
                bounds[j] += weight * np.float32(own[j])


@njit(cache=True, nogil=True)
def share_reached(terms, weights, bits, rows, kth, maxima, least):
    """Share of some evenly spaced blocks whose bounds, of the common terms alone, reach `least`."""
    stride = max(maxima.shape[1] // SAMPLE, 1)
    size = (maxima.shape[1] + stride - 1) // stride
    bounds = np.zeros(size, np.float64)
    for i in range(terms.shape[0]):
        row = rows[terms[i]]
        if 0 <= row < maxima.shape[0]:
            weight = weights[i] if bits == 8 else weights[i] * kth[row, 0] / 255.0
            for j in range(size):
                bounds[j] += weight * maxima[row, j * stride]
    reached = 0
    for j in range(size):
        reached += bounds[j] >= least
    return reached / max(size, 1)


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
def alive_runs(bounds, first, step, least, runs):
    """Runs of blocks whose bounds reach `least`, among bounds[first : first + step]; returns (blocks, runs)."""
    alive, count, inside = 0, 0, False
    for b in range(step):
        if bounds[first + b] >= least:
            alive += 1
            if not inside:
                runs[count, 0] = b
                inside = True
            runs[count, 1] = b + 1
        elif inside:
            count += 1
            inside = False
    return alive, count + inside


@njit(cache=True, nogil=True)
def score_by_bounds(
    terms, weights, k, plan, approx, scale, passages, block, bits, starts, rows, kth, dense, impacts, ids, tiles,
    maxima, ranks, state, counts, histogram, buffer, docs, out_docs, out_scores, statistics,
):  # fmt: skip
    """Answer a query by bounds; returns the number of hits. `state` and so on: see `thresher.search.topk`."""
    count, tile_count, step = terms.shape[0], tiles.shape[1] - 1, TILE // block
    mask = np.uint16(TILE - 1)
    largest = weights.max()
    bounds = np.zeros(tile_count * step, np.float32)
    row, places, additions = np.empty(count, np.int64), np.empty(count, np.int64), count + 4
    rare = 0
    for i in range(count):
        row[i] = rows[terms[i]]
        places[i] = rare
        if not 0 <= row[i] < tiles.shape[0]:
            row[i] = -1
            rare += 1
    additions += rare * block
    begins = np.empty((rare, tile_count + 1), np.uint32)
    for i in range(count):
        if row[i] < 0:
            weight = max(np.float32(weights[i] / largest), TINY)
            first, last = np.int64(starts[terms[i]]), np.int64(starts[terms[i] + 1])
            walk(first, last, weight, block, impacts, ids, begins[places[i]], bounds)
    bound_blocks(terms, weights, bits, rows, kth, maxima, bounds)
    factor = largest * (1.0 + additions * 2.0**-23) * approx
    order, tile_bounds = np.empty(tile_count, np.uint32), np.empty(tile_count, np.float32)
    total = visit_order(bounds, step, max(state[0] / factor * SAFE, 1e-31), tile_bounds, order)
    sums = np.empty(TILE, np.float64)
    runs = np.empty((step + 1, 2), np.int64)
    scored, visited, whole, seen = 0, 0, 0, 0
    for o in range(total):
        tile = np.int64(order[o])
        origin = tile * TILE
        low = origin & (SEGMENT - 1)
        room = min(TILE, passages - origin)
        least = max(state[0] / factor * SAFE, 1e-31)
        if tile_bounds[tile] < least:
            continue
        alive, run_count = alive_runs(bounds, tile * step, step, least, runs)
        entire = plan == AUTO and alive * 2 > step
        seen += 1
        whole += entire or alive == step
        visited += alive
        if entire:
            runs[0, 0], runs[0, 1], run_count = 0, step, 1
        for r in range(run_count):
            sums[runs[r, 0] * block : runs[r, 1] * block] = 0.0
        following = order[min(o + 1, total - 1)]
        for i in range(count):
            start = np.uint64(starts[terms[i]])
            if row[i] < 0:
                first, last = start + np.uint64(begins[places[i], tile]), start + np.uint64(begins[places[i], tile + 1])
                add(first, last, mask, ids, impacts, weights[i], sums)
                scored += np.int64(last - first)
                continue
            if row[i] < dense.shape[0]:
                for r in range(run_count):
                    begin, end = runs[r, 0] * block, min(runs[r, 1] * block, room)
                    add_row(dense[row[i], origin + begin : origin + end], weights[i], sums[begin:end])
                scored += np.int64(tiles[row[i], tile + 1]) - np.int64(tiles[row[i], tile])
                continue
            soon = start + np.uint64(tiles[row[i], following])
            prefetch(impacts, soon)
            prefetch(ids, soon)
            prefetch(ids, soon + np.uint64(32))
            first, last = start + np.uint64(tiles[row[i], tile]), start + np.uint64(tiles[row[i], tile + 1])
            if entire:
                add(first, last, mask, ids, impacts, weights[i], sums)
                scored += np.int64(last - first)
                continue
            at, end = np.int64(first), np.int64(last)
            for r in range(run_count):
                at = find(low + runs[r, 0] * block, at, end, ids)
                begin = at
                at = find(low + runs[r, 1] * block, at, end, ids)
                add(np.uint64(begin), np.uint64(at), mask, ids, impacts, weights[i], sums)
                scored += at - begin
        make_room(k, TILE, scale, ranks, state, counts, histogram, buffer, docs)
        for r in range(run_count):
            last_doc = min(runs[r, 1] * block, room)
            collect(sums, runs[r, 0] * block, last_doc, origin, state, counts, histogram, buffer, docs)
        raise_threshold(k, state, counts, histogram)
    statistics[SCORED], statistics[VISITED], statistics[TILES], statistics[WHOLE] = scored, visited, seen, whole
    return finish(k, scale, ranks, state, counts, buffer, docs, out_docs, out_scores)


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
    if k == 0 or entries == 0:
        return 0
    least = seed(terms, weights, k, rows, kth)
    if plan == AUTO and (
        passages <= SMALL
        or k * 20_000 > passages
        or share_reached(terms, weights, bits, rows, kth, maxima, least) > LOOSE
    ):
        plan = TERM_AT_A_TIME  # measured: everything is scored before bounds could pay for themselves
    statistics[PLAN] = plan
    if plan == TERM_AT_A_TIME:
        statistics[SCORED], statistics[VISITED] = entries, maxima.shape[1]
        statistics[TILES] = statistics[WHOLE] = tiles.shape[1] - 1
        few = k <= FEW and (k * count * WORTH <= passages or k <= 10)
        if few and count <= MANY_TERMS and total > least * 2.0**-8:
            found = score_coarsely(
                terms, weights, total, least, k, scale, passages, 2**bits - 1, starts, rows, kth, dense, impacts, ids,
                tiles, ranks, out_docs, out_scores,
            )  # fmt: skip
            if found >= 0:
                return found
    room = 2 * k + 2 * WHOLE_CHUNK
    state, counts, histogram = np.empty(2, np.float64), np.zeros(3, np.int64), np.zeros(LEVELS, np.int32)
    state[0] = least
    state[1] = (LEVELS - 1) / max(total, least)
    counts[1] = np.int64(least * state[1])
    buffer, docs = np.empty(room, np.float64), np.empty(room, np.uint32)
    if plan == TERM_AT_A_TIME:
        return score_whole(
            terms, weights, k, scale, passages, starts, rows, dense, impacts, ids, tiles, ranks, state, counts,
            histogram, buffer, docs, out_docs, out_scores,
        )  # fmt: skip
    return score_by_bounds(
        terms, weights, k, plan, approx, scale, passages, block, bits, starts, rows, kth, dense, impacts, ids, tiles,
        maxima, ranks, state, counts, histogram, buffer, docs, out_docs, out_scores, statistics,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def search_row(
    terms, weights, k, plan, approx, max_terms, scale, passages, block, bits, starts, rows, kth, dense,
    impacts, ids, tiles, maxima, ranks, checked, out_docs, out_scores, statistics,
):  # fmt: skip
    """Answer one query; returns -1; 8 * term + a file where a list is damaged; -2 for a bad weight.

    terms, weights   int64[n], float32[n]; see `tidy`
    k           hits wanted
    plan        AUTO, TERM_AT_A_TIME or BLOCK_MAX
    approx      1 for exact; below 1, bounds are scaled by it
    max_terms   heaviest terms kept of a query
    scale … ranks   the index, see `thresher.index.layout`
    checked     uint8[terms]     in and out: 1 where the list has been found sound
    out_docs    uint32[k'], out_scores float64[k']   out, k' = min(k, passages)
    statistics  int64[10]        out, see STATISTICS
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
    out_docs    uint32[q, k'], out_scores float64[q, k'], statistics int64[q, 10]   out
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
