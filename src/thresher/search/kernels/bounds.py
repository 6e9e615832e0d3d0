"""Block-max pruning: superblocks bounded by summed maxima and visited best first, blocks in them bounded when reached.

Sources: Block-Max Pruning (Mallia, Suel, Tonellotto, SIGIR 2024, arXiv 2405.01117) for bounding blocks of consecutive
documents and visiting them best bound first; superblock pruning (arXiv 2504.17045) for the two levels. Differences:

* Common terms bound blocks by stored maxima; the postings of other terms, some ten thousand a term in millions of
  documents, are scanned. Both go chunk after chunk, so that the bounds of a chunk stay in the first-level cache. Where
  a list has many postings in a chunk, the maxima of its blocks are found without a branch and added all at once: most
  of the time of bounding goes into these lists, and most of that went into branches that nothing predicts.
* Superblocks of 2,048 documents are visited by the best bound among their blocks. Superblock maxima would be looser,
  and are not kept: sums of them rule out almost no superblock, in the best of orders too.
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
from thresher.index.lists import open_chunk
from thresher.search.kernels.intrinsics import prefetch
from thresher.search.kernels.late import is_late
from thresher.search.kernels.masks import mask_blocks, mask_sums
from thresher.search.kernels.postings import add, add_row, find, find_in_superblock
from thresher.search.kernels.topk import LIMIT, SAFE, SMALLEST, collect, finish, make_room, raise_threshold
from thresher.search.kernels.types import AUTO, EXACT, SCORED, SUPERBLOCKS, VISITED, WHOLE_SUPERBLOCKS, Bounds

FEW = 32
"""From one posting for this many blocks of a chunk on, the maxima of all its blocks are added: to clear and add those
of a thousand blocks takes as long as some 30 postings one by one."""
TINY = np.float32(1e-30)
LOWEST = 1e-31
"""Bounds are compared with at least this, so that blocks without a posting are never visited."""
VISIT_LEVELS = 256
"""Levels of bounds, in the order of visits."""
FIRST, MANY = 8, 0.25
"""After `FIRST` superblocks the plan may give up, where more than `MANY` of all reach the threshold then: visiting one
takes some 6 us, and term-at-a-time 1.6 us for as many documents (measured on two million)."""


@njit(cache=True, nogil=True)
def bound_chunk(first, last, weight, shift, index, best, bounds):
    """Add weight * the largest impact in each block of entries first ... last - 1, all of one chunk, to the bounds.

    shift   int64                a block has 1 << shift documents
    index   `Postings`
    best    impacts[blocks of a chunk]   scratch
    bounds  float32[blocks of the chunk]   in and out
    """
    impacts, ids = index.impacts, index.ids
    if (last - first) * FEW < best.shape[0]:
        at = first
        while at < last:
            block = np.int64(ids[np.uint64(at)]) >> shift
            largest = np.int64(impacts[np.uint64(at)])
            at += 1
            while at < last and np.int64(ids[np.uint64(at)]) >> shift == block:
                largest = max(largest, np.int64(impacts[np.uint64(at)]))
                at += 1
            bounds[np.uint64(block)] += weight * np.float32(largest)
        return
    best[:] = 0
    for p in range(first, last):
        block = np.uint64(np.int64(ids[np.uint64(p)]) >> shift)
        best[block] = max(best[block], impacts[np.uint64(p)])
    for j in range(bounds.shape[0]):
        bounds[j] += weight * np.float32(best[j])


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
def bound_blocks(query, index):
    """`Bounds` of all blocks and superblocks, in units of impact * (weight / largest weight)."""
    terms, maxima, count = query.terms, index.maxima, query.terms.shape[0]
    superblocks, step = index.superblocks.shape[1] - 1, SUPERBLOCK // index.block
    rows, places, ends = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    weights, rare, shift, per_chunk = np.empty(count, np.float32), 0, 0, CHUNK // index.block
    while index.block >> shift > 1:
        shift += 1
    for i in range(count):
        row, weight = np.int64(index.rows[terms[i]]), query.weights[i] / query.weights.max()
        rows[i], places[i], ends[i] = row, rare, np.int64(index.starts[terms[i]])
        if not 0 <= row < maxima.shape[0]:
            rows[i] = -1
            rare += 1
        elif index.bits != 8:
            weight *= index.kth[row, 0] / 255.0
        weights[i] = max(np.float32(weight), TINY)
    begins = np.empty((rare, (index.passages + CHUNK - 1) // CHUNK, 2), np.uint32)
    blocks, best = np.zeros(superblocks * step, np.float32), np.empty(per_chunk, index.impacts.dtype)
    for chunk in range(begins.shape[1]):
        here = blocks[chunk * per_chunk : (chunk + 1) * per_chunk]
        for i in range(count):
            if rows[i] >= 0:
                own = maxima[rows[i], chunk * per_chunk : (chunk + 1) * per_chunk]
                for j in range(own.shape[0]):
                    here[j] += weights[i] * np.float32(own[j])
                continue
            start = np.int64(index.starts[terms[i]])
            first, last = open_chunk(ends[i], np.int64(index.starts[terms[i] + 1]), index.ids, index.impacts)
            ends[i] = last
            prefetch(index.impacts, last)
            prefetch(index.ids, last)
            prefetch(index.ids, last + 32)
            begins[places[i], chunk, 0], begins[places[i], chunk, 1] = first - start, last - start
            bound_chunk(first, last, weights[i], shift, index, best, here)
    return Bounds(rows, places, begins, blocks, best_blocks(blocks, superblocks))


@njit(cache=True, nogil=True)
def best_blocks(blocks, superblocks):
    """float32[superblocks]: the best bound among the blocks of each."""
    best_of, step = np.empty(superblocks, np.float32), blocks.shape[0] // max(superblocks, 1)
    for superblock in range(superblocks):
        best = np.float32(0.0)
        for j in range(superblock * step, (superblock + 1) * step):
            best = max(best, blocks[j])
        best_of[superblock] = best
    return best_of


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
            first, last = rare_entries(np.int64(start), superblock, bounds.begins[bounds.places[i]], ids)
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
def rare_entries(start, superblock, begins, ids):
    """The entries (first, after; uint64) in a superblock of a list without a directory row that begins at `start`.

    begins  uint32[chunks, 2], as in `Bounds`
    """
    chunk, low = superblock * SUPERBLOCK // CHUNK, superblock * SUPERBLOCK % CHUNK
    after = start + np.int64(begins[chunk, 1])
    first = find(low, start + np.int64(begins[chunk, 0]), after, ids)
    return np.uint64(first), np.uint64(find(low + SUPERBLOCK, first, after, ids))


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
def score_by_bounds(query, request, index, allowed, top, hits):
    """Answer a query by bounds; returns the number of hits, -1 where it gives up: `top` then holds a threshold.

    request   `Request`; by the plan `AUTO` it may give up, and score a superblock whole for blocks that need not be.
              Its limits say what bounds are multiplied by, and how many superblocks are visited, those with the best
              bounds; the answer is exact all the same where no other reaches the threshold by then
    index, allowed     `Postings`, `Allowed`
    top                `TopK` with room for 2 * k + 2 * SUPERBLOCK
    hits               `Hits` out: also counts what was scored and visited
    """
    work, step = hits.statistics, SUPERBLOCK // index.block
    work[SCORED] = work[VISITED] = work[SUPERBLOCKS] = work[WHOLE_SUPERBLOCKS] = 0
    choose, limits, bounds = request.plan == AUTO, request.limits, bound_blocks(query, index)
    order = np.empty(bounds.superblocks.shape[0], np.uint32)
    factor = max(query.weights.max() * (1.0 + (query.terms.shape[0] + 4) * 2.0**-23) * limits.blocks, SMALLEST)
    least, masked = max(top.limits[LIMIT] / factor * SAFE, LOWEST), allowed.mask.shape[0] > 0
    if masked:
        mask_blocks(least, index.block, allowed, bounds)
    total = visit_order(bounds.superblocks, least, order)
    sums, all_runs = np.empty(SUPERBLOCK, np.float64), np.empty((step + 1, 2), np.int64)
    judged, entered, most = False, 0, limits.superblocks / bounds.superblocks.shape[0]
    for o in range(total):
        if is_late(request.deadline, work):
            break
        superblock = np.int64(order[o])
        least = max(top.limits[LIMIT] / factor * SAFE, LOWEST)
        if bounds.superblocks[superblock] < least:
            continue
        if choose and not judged and entered == FIRST:
            if min(share_reaching(bounds.superblocks, least), most) > MANY:
                return -1
            judged = True
        if entered >= limits.superblocks:
            work[EXACT] = 0.0
            break
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
