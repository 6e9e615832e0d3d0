"""Block-max pruning: superblocks bounded by summed maxima and visited best first, blocks in them bounded when reached.

Sources: Block-Max Pruning (Mallia, Suel, Tonellotto, SIGIR 2024, arXiv 2405.01117) for bounding blocks of consecutive
documents and visiting them best bound first; superblock pruning (arXiv 2504.17045) for the two levels. Differences:

* Common terms bound blocks by stored maxima, in one pass; the postings of each other term, a few thousand, are scanned,
  which also gives where its superblocks begin.
* Superblocks of 2,048 documents are visited by the best bound among their blocks. Superblock maxima would be looser,
  and are not kept: sums of them rule out almost no superblock.
* Of a superblock that is visited only blocks that reach the threshold are scored, run after run; where more than half
  of them do and the plan may choose, the whole superblock is, without looking for blocks. Where after a few superblocks
  too many are still to be visited, such a plan gives up, and the threshold it has reached serves the next one.
* Bounds are float32 sums over weights divided by the largest, raised by twice the error bound of such a sum (relative
  (additions + 4) · 2^-23; weights below 1e-30 of the largest count as that): no bound lies below a score in its block.
* A score is accumulated in float64, in ascending term order, into the accumulators of one superblock. They stay in the
  first-level cache, and the sums are the scores by definition: there is nothing to rescore.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK
from thresher.index.lists import SUPERBLOCK_BITS, open_chunk
from thresher.search.kernels.intrinsics import prefetch
from thresher.search.kernels.masks import mask_blocks, mask_sums
from thresher.search.kernels.postings import add, add_row, find_in_superblock
from thresher.search.kernels.topk import LIMIT, SAFE, SMALLEST, collect, finish, make_room, raise_threshold
from thresher.search.kernels.types import SCORED, SUPERBLOCKS, VISITED, WHOLE_SUPERBLOCKS, Bounds

TINY = np.float32(1e-30)
LOWEST = 1e-31
"""Bounds are compared with at least this, so that blocks without a posting are never visited."""
VISIT_LEVELS = 256
"""Levels of bounds, in the order of visits."""
FIRST, MANY = 8, 0.25
"""After `FIRST` superblocks the plan may give up, where more than `MANY` of all reach the threshold then: visiting one
takes some 6 us, and term-at-a-time 1.6 us for as many documents (measured on two million)."""


@njit(cache=True, nogil=True)
def scan(start, end, weight, shift, index, begins, bounds):
    """Find where superblocks begin in a list without a directory row, and add its maximum of each block to the bounds.

    start, end  int64               the list
    shift       int64               a block has 1 << shift documents
    index       `Postings`
    begins      uint32[superblocks + 1]   out: first entry of each superblock, counted from the list's beginning
    bounds      float32[blocks]           in and out
    """
    impacts, ids = index.impacts, index.ids
    origin, superblock, at = 0, 0, start
    begins[0] = 0
    while at < end:
        at, stop = open_chunk(at, end, ids, impacts)
        while at < stop:
            here = (origin + np.int64(ids[np.uint64(at)])) >> SUPERBLOCK_BITS
            while superblock < here:
                superblock += 1
                begins[superblock] = at - start
            limit = ((here + 1) << SUPERBLOCK_BITS) - origin
            while at < stop and np.int64(ids[np.uint64(at)]) < limit:
                block = np.int64(ids[np.uint64(at)]) >> shift
                best = np.int64(impacts[np.uint64(at)])
                at += 1
                while at < stop and np.int64(ids[np.uint64(at)]) >> shift == block:
                    best = max(best, np.int64(impacts[np.uint64(at)]))
                    at += 1
                bounds[np.uint64(block + (origin >> shift))] += weight * np.float32(best)
        origin += CHUNK
    begins[superblock + 1 :] = end - start


@njit(cache=True, nogil=True)
def visit_order(bounds, least, order):
    """Overwrite the front of `order` with the superblocks whose bounds reach `least`, best first; returns their number.

    A counting sort over levels between `least` and the largest bound: superblocks of one level stay in index order.
    """
    high = bounds.max()
    if high < least:
        return 0
    per_unit = np.float64(VISIT_LEVELS - 1) / max(np.float64(high) - least, 1e-30)
    ends = np.zeros(VISIT_LEVELS + 1, np.int64)
    for superblock in range(bounds.shape[0]):
        if bounds[superblock] >= least:
            ends[VISIT_LEVELS - np.int64((bounds[superblock] - least) * per_unit)] += 1
    for level in range(VISIT_LEVELS):
        ends[level + 1] += ends[level]
    total = ends[VISIT_LEVELS]
    for superblock in range(bounds.shape[0]):
        if bounds[superblock] >= least:
            level = VISIT_LEVELS - 1 - np.int64((bounds[superblock] - least) * per_unit)
            order[ends[level]] = superblock
            ends[level] += 1
    return total


@njit(cache=True, nogil=True)
def share_reaching(bounds, least):
    """Share of the superblocks whose bounds reach `least`."""
    reached = 0
    for superblock in range(bounds.shape[0]):
        reached += bounds[superblock] >= least
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
def count_rare(terms, rows, common):
    """How many terms have lists without a directory row."""
    count = 0
    for i in range(terms.shape[0]):
        count += not 0 <= rows[terms[i]] < common
    return count


@njit(cache=True, nogil=True)
def bound_blocks(query, index):
    """`Bounds` of all blocks and superblocks, in units of impact * (weight / largest weight)."""
    terms, weights, maxima = query.terms, query.weights, index.maxima
    count, superblocks, step = terms.shape[0], index.superblocks.shape[1] - 1, SUPERBLOCK // index.block
    rows, places = np.empty(count, np.int64), np.empty(count, np.int64)
    begins = np.empty((count_rare(terms, index.rows, maxima.shape[0]), superblocks + 1), np.uint32)
    blocks, best_of = np.zeros(superblocks * step, np.float32), np.empty(superblocks, np.float32)
    largest, rare, shift = weights.max(), 0, 0
    while index.block >> shift > 1:
        shift += 1
    for i in range(count):
        rows[i], places[i] = index.rows[terms[i]], rare
        weight = weights[i] / largest
        if 0 <= rows[i] < maxima.shape[0]:
            own = maxima[rows[i]]
            scaled = max(np.float32(weight if index.bits == 8 else weight * index.kth[rows[i], 0] / 255.0), TINY)
            for j in range(own.shape[0]):
                blocks[j] += scaled * np.float32(own[j])
            continue
        rows[i] = -1
        first, last = np.int64(index.starts[terms[i]]), np.int64(index.starts[terms[i] + 1])
        scan(first, last, max(np.float32(weight), TINY), shift, index, begins[rare], blocks)
        rare += 1
    for superblock in range(superblocks):
        best = np.float32(0.0)
        for j in range(superblock * step, (superblock + 1) * step):
            best = max(best, blocks[j])
        best_of[superblock] = best
    return Bounds(rows, places, begins, blocks, best_of)


@njit(cache=True, nogil=True)
def score_runs(superblock, following, entire, runs, query, index, bounds, sums):
    """Zero the sums of a superblock's runs of blocks and add all postings in them; returns how many.

    Of scanned lists, whose postings in a superblock are few, all are added: sums outside the runs are never used.

    following  int64     the superblock that is visited next
    entire     bool      the runs are one, the whole superblock
    runs       int64[r, 2]   first and last block of each run
    sums       float64[SUPERBLOCK]   out
    """
    starts, dense, impacts, ids, begins = index.starts, index.dense, index.impacts, index.ids, index.superblocks
    terms, weights, rows, block = query.terms, query.weights, bounds.rows, index.block
    mask, origin, scored = np.uint16(SUPERBLOCK - 1), superblock * SUPERBLOCK, 0
    room = min(SUPERBLOCK, index.passages - origin)
    for r in range(runs.shape[0]):
        sums[runs[r, 0] * block : runs[r, 1] * block] = 0.0
    for i in range(terms.shape[0]):
        start, row = np.uint64(starts[terms[i]]), rows[i]
        if row < 0:
            place = bounds.places[i]
            first = start + np.uint64(bounds.begins[place, superblock])
            last = start + np.uint64(bounds.begins[place, superblock + 1])
            add(first, last, mask, ids, impacts, weights[i], sums)
            scored += np.int64(last - first)
            continue
        if row < dense.shape[0]:
            for r in range(runs.shape[0]):
                begin, end = runs[r, 0] * block, min(runs[r, 1] * block, room)
                add_row(dense[row, origin + begin : origin + end], weights[i], sums[begin:end])
            scored += np.int64(begins[row, superblock + 1]) - np.int64(begins[row, superblock])
            continue
        soon = start + np.uint64(begins[row, following])
        prefetch(impacts, soon)
        prefetch(ids, soon)
        prefetch(ids, soon + np.uint64(32))
        first, last = start + np.uint64(begins[row, superblock]), start + np.uint64(begins[row, superblock + 1])
        if entire:
            add(first, last, mask, ids, impacts, weights[i], sums)
            scored += np.int64(last - first)
        else:
            scored += add_runs(np.int64(first), np.int64(last), origin, runs, index, weights[i], sums)
    return scored


@njit(cache=True, nogil=True)
def add_runs(first, last, origin, runs, index, weight, sums):
    """Add those of entries first ... last - 1, of a superblock that begins at `origin`, that lie in runs of blocks."""
    impacts, ids, block = index.impacts, index.ids, index.block
    mask, low, at, scored = np.uint16(SUPERBLOCK - 1), origin & (CHUNK - 1), first, 0
    for r in range(runs.shape[0]):
        at = find_in_superblock(low + runs[r, 0] * block, at, last, ids)
        begin = at
        if runs[r, 1] * block < SUPERBLOCK:
            at = find_in_superblock(low + runs[r, 1] * block, at, last, ids)
        else:
            at = last
        add(np.uint64(begin), np.uint64(at), mask, ids, impacts, weight, sums)
        scored += at - begin
    return scored


@njit(cache=True, nogil=True)
def score_by_bounds(query, choose, scaled, index, allowed, top, hits):
    """Answer a query by bounds; returns the number of hits, -1 where it gives up: `top` then holds a threshold.

    choose   bool      whether it may give up, and score a superblock whole for blocks that need not be
    scaled   float64   what bounds are multiplied by, 1 for exact results
    index, allowed     `Postings`, `Allowed`
    top                `TopK` with room for 2 * k + 2 * SUPERBLOCK
    hits               `Hits` out: also counts what was scored and visited
    """
    work, step = hits.statistics, SUPERBLOCK // index.block
    work[SCORED] = work[VISITED] = work[SUPERBLOCKS] = work[WHOLE_SUPERBLOCKS] = 0
    bounds = bound_blocks(query, index)
    order = np.empty(bounds.superblocks.shape[0], np.uint32)
    factor = max(query.weights.max() * (1.0 + (query.terms.shape[0] + 4) * 2.0**-23) * scaled, SMALLEST)
    least, masked = max(top.limits[LIMIT] / factor * SAFE, LOWEST), allowed.mask.shape[0] > 0
    if masked:
        mask_blocks(least, index.block, allowed, bounds)
    total = visit_order(bounds.superblocks, least, order)
    sums, all_runs = np.empty(SUPERBLOCK, np.float64), np.empty((step + 1, 2), np.int64)
    judged, entered = False, 0
    for o in range(total):
        superblock = np.int64(order[o])
        least = max(top.limits[LIMIT] / factor * SAFE, LOWEST)
        if bounds.superblocks[superblock] < least:
            continue
        if choose and not judged and entered == FIRST:
            if share_reaching(bounds.superblocks, least) > MANY:
                return -1
            judged = True
        alive, count = alive_runs(bounds.blocks[superblock * step : (superblock + 1) * step], least, all_runs)
        if alive == 0:
            continue
        entire = choose and alive * 2 > step
        if entire:
            all_runs[0, 0], all_runs[0, 1], count = 0, step, 1
        runs, following = all_runs[:count], np.int64(order[min(o + 1, total - 1)])
        work[SCORED] += score_runs(superblock, following, entire, runs, query, index, bounds, sums)
        entered += 1
        work[VISITED] += alive
        work[SUPERBLOCKS] += 1
        work[WHOLE_SUPERBLOCKS] += entire or alive == step
        origin = superblock * SUPERBLOCK
        make_room(SUPERBLOCK, top)
        for r in range(count):
            first, last = runs[r, 0] * index.block, min(runs[r, 1] * index.block, SUPERBLOCK, index.passages - origin)
            if masked:
                mask_sums(sums, first, last, origin, allowed.mask)
            collect(sums, first, last, origin, top)
        raise_threshold(top)
    return finish(top, hits.docs, hits.scores)
