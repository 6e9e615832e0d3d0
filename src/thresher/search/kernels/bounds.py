"""Block-max pruning: superblocks bounded by summed maxima and visited best first, blocks in them bounded when reached.

Sources: Block-Max Pruning (Mallia, Suel, Tonellotto, SIGIR 2024, arXiv 2405.01117) for bounding blocks of consecutive
documents and visiting them best bound first; superblock pruning (arXiv 2504.17045) for the two levels. Where this
differs:

* Common terms bound blocks by stored maxima, in one pass; the postings of each other term, a few thousand, are walked,
  which also says where its tiles begin.
* Tiles of 2,048 documents are the superblocks, visited by the best bound among their blocks. Superblock maxima would be
  looser, and are not kept: sums of them rule out next to no tile.
* Of a tile that is visited only blocks that reach the threshold are scored, run after run; where more than half of them
  do and the plan may choose, the whole tile is, without looking for blocks. Where after a few tiles too many are still
  to be visited, such a plan gives up, and the threshold it has reached serves the next one.
* Bounds are float32 sums over weights divided by the largest, raised by twice the error bound of such a sum (relative
  (additions + 4) · 2^-23; weights below 1e-30 of the largest count as that): no bound lies below a score in its block.
* A score is accumulated in float64, in ascending term order, into the accumulators of one tile. They stay in the
  first-level cache, and the sums are the scores by definition: there is nothing to rescore.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.index.layout import SEGMENT, TILE
from thresher.search.kernels.intrinsics import prefetch
from thresher.search.kernels.postings import add, add_row, find_in_tile, open_segment
from thresher.search.kernels.topk import SAFE, SMALLEST, collect, finish, make_room, raise_threshold

TINY = np.float32(1e-30)
TILE_BITS = TILE.bit_length() - 1
LEVELS = 256
"""Of bounds, in the order of visits."""
FIRST, MANY = 8, 0.25
"""After `FIRST` tiles the plan may give up, where more than `MANY` of all tiles reach the threshold then: visiting one
takes some 6 us, and term-at-a-time 1.6 us for as many documents (measured on two million)."""


@njit(cache=True, nogil=True)
def walk(start, end, weight, shift, impacts, ids, begins, bounds):
    """Find where tiles begin in a list that is not common, and add its largest impact in each block to the bounds.

    start, end  int64               the list
    shift       int64               a block has 1 << shift documents
    begins      uint32[tiles + 1]   out: first posting of each tile, counted from the list's begin
    bounds      float32[blocks]     in and out
    """
    origin, tile, at = 0, 0, start
    begins[0] = 0
    while at < end:
        at, stop = open_segment(at, end, ids, impacts)
        while at < stop:
            here = (origin + np.int64(ids[np.uint64(at)])) >> TILE_BITS
            while tile < here:
                tile += 1
                begins[tile] = at - start
            limit = ((here + 1) << TILE_BITS) - origin
            while at < stop and np.int64(ids[np.uint64(at)]) < limit:
                block = np.int64(ids[np.uint64(at)]) >> shift
                best = np.int64(impacts[np.uint64(at)])
                at += 1
                while at < stop and np.int64(ids[np.uint64(at)]) >> shift == block:
                    best = max(best, np.int64(impacts[np.uint64(at)]))
                    at += 1
                bounds[np.uint64(block + (origin >> shift))] += weight * np.float32(best)
        origin += SEGMENT
    begins[tile + 1 :] = end - start


@njit(cache=True, nogil=True)
def visit_order(bounds, least, order):
    """Overwrite the front of `order` with the tiles whose bounds reach `least`, best first; returns their number.

    A counting sort over levels between `least` and the largest bound: tiles of one level stay in index order.
    """
    high = bounds.max()
    if high < least:
        return 0
    per_unit = np.float64(LEVELS - 1) / max(np.float64(high) - least, 1e-30)
    ends = np.zeros(LEVELS + 1, np.int64)
    for tile in range(bounds.shape[0]):
        if bounds[tile] >= least:
            ends[LEVELS - np.int64((bounds[tile] - least) * per_unit)] += 1
    for level in range(LEVELS):
        ends[level + 1] += ends[level]
    total = ends[LEVELS]
    for tile in range(bounds.shape[0]):
        if bounds[tile] >= least:
            level = LEVELS - 1 - np.int64((bounds[tile] - least) * per_unit)
            order[ends[level]] = tile
            ends[level] += 1
    return total


@njit(cache=True, nogil=True)
def share_reaching(bounds, least):
    """Share of the tiles whose bounds reach `least`."""
    reached = 0
    for tile in range(bounds.shape[0]):
        reached += bounds[tile] >= least
    return reached / bounds.shape[0]


@njit(cache=True, nogil=True)
def alive_runs(bounds, least, runs):
    """Runs of blocks whose bounds reach `least`; returns (blocks, runs)."""
    alive, count, inside = 0, 0, False
    for b in range(bounds.shape[0]):
        if bounds[b] >= least:
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
def bound(terms, weights, block, bits, starts, rows, kth, impacts, ids, maxima, row, places, begins, blocks, tiles):
    """Bounds of all blocks, and the best of each tile, in units of impact * (weight / largest weight).

    row, places    int64[n]    out: the row of a common term, else -1; which row of `begins` is another term's
    blocks, tiles  float32[tiles * step], float32[tiles]   out
    """
    largest, rare, shift = weights.max(), 0, 0
    while block >> shift > 1:
        shift += 1
    blocks[:] = 0.0
    for i in range(terms.shape[0]):
        row[i], places[i] = rows[terms[i]], rare
        weight = weights[i] / largest
        if 0 <= row[i] < maxima.shape[0]:
            own = maxima[row[i]]
            scaled = max(np.float32(weight if bits == 8 else weight * kth[row[i], 0] / 255.0), TINY)
            for j in range(own.shape[0]):
                blocks[j] += scaled * np.float32(own[j])
            continue
        row[i] = -1
        first, last = np.int64(starts[terms[i]]), np.int64(starts[terms[i] + 1])
        walk(first, last, max(np.float32(weight), TINY), shift, impacts, ids, begins[rare], blocks)
        rare += 1
    step = blocks.shape[0] // tiles.shape[0]
    for tile in range(tiles.shape[0]):
        best = np.float32(0.0)
        for j in range(tile * step, (tile + 1) * step):
            best = max(best, blocks[j])
        tiles[tile] = best


@njit(cache=True, nogil=True)
def rare_terms(terms, rows, common):
    """How many terms have lists without a directory."""
    count = 0
    for i in range(terms.shape[0]):
        count += not 0 <= rows[terms[i]] < common
    return count


@njit(cache=True, nogil=True)
def score_runs(
    tile, following, entire, runs, block, room, terms, weights, row, places, starts, dense, impacts, ids, tiles, begins,
    sums,
):  # fmt: skip
    """Zero the sums of a tile's runs of blocks and add all postings in them; returns how many.

    Of walked lists, whose postings in a tile are few, all are added: sums outside the runs are never looked at.

    following  int64   the tile that is visited next
    entire     bool    the runs are one, the whole tile
    room       int64   documents in the tile
    """
    mask, origin, scored = np.uint16(TILE - 1), tile * TILE, 0
    low = origin & (SEGMENT - 1)
    for r in range(runs.shape[0]):
        sums[runs[r, 0] * block : runs[r, 1] * block] = 0.0
    for i in range(terms.shape[0]):
        start = np.uint64(starts[terms[i]])
        if row[i] < 0:
            first, last = start + np.uint64(begins[places[i], tile]), start + np.uint64(begins[places[i], tile + 1])
            add(first, last, mask, ids, impacts, weights[i], sums)
            scored += np.int64(last - first)
            continue
        if row[i] < dense.shape[0]:
            for r in range(runs.shape[0]):
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
        for r in range(runs.shape[0]):
            at = find_in_tile(low + runs[r, 0] * block, at, end, ids)
            begin = at
            if runs[r, 1] * block < TILE:
                at = find_in_tile(low + runs[r, 1] * block, at, end, ids)
            else:
                at = end
            add(np.uint64(begin), np.uint64(at), mask, ids, impacts, weights[i], sums)
            scored += at - begin
    return scored


@njit(cache=True, nogil=True)
def score_by_bounds(
    terms, weights, k, choose, approx, scale, passages, block, bits, starts, rows, kth, dense, impacts, ids, tiles,
    maxima, ranks, state, counts, histogram, buffer, docs, out_docs, out_scores, work,
):  # fmt: skip
    """Answer a query by bounds; returns the number of hits, -1 where it gives up: `state` then holds a threshold.

    choose   bool      whether it may give up, and score a tile whole for blocks that need not be
    approx   float64   what bounds are multiplied by, 1 for exact results
    state, counts, histogram, buffer, docs   see `thresher.search.kernels.topk`
    work     int64[4]  out: postings and blocks scored, tiles entered, tiles scored whole
    """
    count, tile_count, step = terms.shape[0], tiles.shape[1] - 1, TILE // block
    row, places = np.empty(count, np.int64), np.empty(count, np.int64)
    begins = np.empty((rare_terms(terms, rows, tiles.shape[0]), tile_count + 1), np.uint32)
    bounds, blocks = np.empty(tile_count, np.float32), np.empty(tile_count * step, np.float32)
    bound(
        terms, weights, block, bits, starts, rows, kth, impacts, ids, maxima, row, places, begins, blocks, bounds
    )  # fmt: skip
    order = np.empty(tile_count, np.uint32)
    factor = max(weights.max() * (1.0 + (count + 4) * 2.0**-23) * approx, SMALLEST)
    total = visit_order(bounds, max(state[0] / factor * SAFE, 1e-31), order)
    sums, all_runs = np.empty(TILE, np.float64), np.empty((step + 1, 2), np.int64)
    work[:] = 0
    judged = False
    for o in range(total):
        tile = np.int64(order[o])
        least = max(state[0] / factor * SAFE, 1e-31)
        if bounds[tile] < least:
            continue
        if choose and not judged and work[2] == FIRST:
            if share_reaching(bounds, least) > MANY:
                return -1
            judged = True
        alive, run_count = alive_runs(blocks[tile * step : (tile + 1) * step], least, all_runs)
        if alive == 0:
            continue
        entire = choose and alive * 2 > step
        if entire:
            all_runs[0, 0], all_runs[0, 1], run_count = 0, step, 1
        runs, origin = all_runs[:run_count], tile * TILE
        room = min(TILE, passages - origin)
        work[0] += score_runs(
            tile, np.int64(order[min(o + 1, total - 1)]), entire, runs, block, room, terms, weights, row, places,
            starts, dense, impacts, ids, tiles, begins, sums,
        )  # fmt: skip
        work[1] += alive
        work[2] += 1
        work[3] += entire or alive == step
        make_room(k, TILE, scale, ranks, state, counts, histogram, buffer, docs)
        for r in range(run_count):
            collect(
                sums, runs[r, 0] * block, min(runs[r, 1] * block, room), origin, state, counts, histogram, buffer, docs
            )
        raise_threshold(k, state, counts, histogram)
    return finish(k, scale, ranks, state, counts, buffer, docs, out_docs, out_scores)
