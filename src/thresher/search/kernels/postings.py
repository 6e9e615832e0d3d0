"""Posting lists as kernels read them: walked from the begin, tile after tile; entered anywhere by a search.

See `thresher.index.layout` for heads, segments and tiles. A head's impact is 0, so that a loop that adds a head to the
sum of whatever document its id names adds nothing.

Postings are added four at a time: their ids and parts are known before the first sum is written, so that no load waits
to see whether a store before it goes to the same place.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201, PLR0911, PLR0912

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.index.layout import SEGMENT, TILE

SEGMENT_BITS = SEGMENT.bit_length() - 1
TILE_BITS = TILE.bit_length() - 1
SOUND, IDS, TILES = range(3)
"""What `sound` finds: nothing, or the file at fault."""
FOUR = np.uint64(4)


@njit(cache=True, nogil=True)
def add(first, last, mask, ids, impacts, weight, sums):
    """Add weight * impact of entries first … last - 1 (uint64) to the sums of their documents.

    mask  uint16; the sum of id is sums[id & mask];  weight float64;  sums float64[mask + 1]
    """
    p = np.uint64(first)
    while p + FOUR <= last:
        a, b, c, d = ids[p], ids[p + np.uint64(1)], ids[p + np.uint64(2)], ids[p + np.uint64(3)]
        part_a = weight * np.float64(impacts[p])
        part_b = weight * np.float64(impacts[p + np.uint64(1)])
        part_c = weight * np.float64(impacts[p + np.uint64(2)])
        part_d = weight * np.float64(impacts[p + np.uint64(3)])
        sums[np.uint64(a & mask)] += part_a
        sums[np.uint64(b & mask)] += part_b
        sums[np.uint64(c & mask)] += part_c
        sums[np.uint64(d & mask)] += part_d
        p += FOUR
    while p < last:
        sums[np.uint64(ids[p] & mask)] += weight * np.float64(impacts[p])
        p += np.uint64(1)


@njit(cache=True, nogil=True)
def part_of(weight, impact):
    """A 65,536th of weight * impact, rounded up; uint16. weight uint32, the product at most 2^32 - 65,536."""
    product = np.uint32(weight * np.uint32(impact) + np.uint32(65535))  # narrow, hence quicker
    return np.uint16(product >> np.uint32(16))


@njit(cache=True, nogil=True)
def add_coarsely(first, last, mask, ids, impacts, weight, sums):
    """As `add`, in whole numbers: a 65,536th of weight * impact, rounded up.

    weight  uint32;  sums  uint16[mask + 1]
    """
    p = np.uint64(first)
    while p + FOUR <= last:
        a, b, c, d = ids[p], ids[p + np.uint64(1)], ids[p + np.uint64(2)], ids[p + np.uint64(3)]
        part_a = part_of(weight, impacts[p])
        part_b = part_of(weight, impacts[p + np.uint64(1)])
        part_c = part_of(weight, impacts[p + np.uint64(2)])
        part_d = part_of(weight, impacts[p + np.uint64(3)])
        sums[np.uint64(a & mask)] += part_a
        sums[np.uint64(b & mask)] += part_b
        sums[np.uint64(c & mask)] += part_c
        sums[np.uint64(d & mask)] += part_d
        p += FOUR
    while p < last:
        sums[np.uint64(ids[p] & mask)] += part_of(weight, impacts[p])
        p += np.uint64(1)


@njit(cache=True, nogil=True)
def add_row(own, weight, sums):
    """Add weight * impact of some documents' part of a dense row to their sums, float64[len(own)…]."""
    for i in range(own.shape[0]):
        sums[i] += weight * np.float64(own[i])


@njit(cache=True, nogil=True)
def add_row_coarsely(own, weight, sums):
    """As `add_row`, in whole numbers as `add_coarsely`: weight uint32, sums uint16[len(own)…]."""
    for i in range(own.shape[0]):
        sums[i] += part_of(weight, own[i])


@njit(cache=True, nogil=True)
def open_segment(at, end, ids, impacts):
    """First posting and end of the segment that begins with entry `at` of a list that is not common."""
    if at < end and impacts[np.uint64(at)] == 0:
        return at + 1, at + 1 + np.int64(ids[np.uint64(at)])
    return at, end


@njit(cache=True, nogil=True)
def find(low, first, last, ids):
    """The first of entries first … last - 1, ascending in one segment, whose id is at least `low`; `last` if none."""
    while first < last:
        middle = (first + last) >> 1
        if np.int64(ids[np.uint64(middle)]) < low:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, nogil=True)
def find_in_tile(low, first, last, ids):
    """As `find`, of entries of one tile: the ids below `low` are counted, 16 at a time and without a branch."""
    own, here, below = ids[first:last], np.uint16(low), np.uint16(0)
    for p in range(own.shape[0]):
        below = np.uint16(below + np.uint16(own[p] < here))
    return first + np.int64(below)


@njit(cache=True, nogil=True)
def largest_impact(term, starts, rows, kth, impacts):
    """The largest impact of a list: stored, or looked for where the list has fewer than ten postings."""
    if rows[term] >= 0:
        return np.int64(kth[rows[term], 0])
    best = np.int64(0)
    for p in range(starts[term], starts[term + 1]):
        best = max(best, np.int64(impacts[p]))
    return best


@njit(cache=True, nogil=True)
def rescore(terms, weights, starts, rows, dense, impacts, ids, tiles, docs, size, sums):
    """The sums of some documents by definition: float64, in ascending term order.

    docs   uint32[size…]    ascending
    sums   float64[size…]   out
    """
    sums[:size] = 0.0
    for i in range(terms.shape[0]):
        term, weight = terms[i], weights[i]
        start, end, row = np.int64(starts[term]), np.int64(starts[term + 1]), np.int64(rows[term])
        if 0 <= row < dense.shape[0]:
            for c in range(size):
                sums[c] += weight * np.float64(dense[row, docs[c]])
            continue
        if 0 <= row < tiles.shape[0]:
            for c in range(size):
                doc = np.int64(docs[c])
                last = start + np.int64(tiles[row, (doc >> TILE_BITS) + 1])
                low = doc & (SEGMENT - 1)
                p = find_in_tile(low, start + np.int64(tiles[row, doc >> TILE_BITS]), last, ids)
                if p < last and np.int64(ids[p]) == low:
                    sums[c] += weight * np.float64(impacts[p])
            continue
        segment = 0
        at, stop = open_segment(start, end, ids, impacts)
        for c in range(size):
            doc = np.int64(docs[c])
            while segment < doc >> SEGMENT_BITS:
                at, stop = open_segment(stop, end, ids, impacts)
                segment += 1
            low = doc & (SEGMENT - 1)
            at = find(low, at, stop, ids)
            if at < stop and np.int64(ids[at]) == low:
                sums[c] += weight * np.float64(impacts[at])


@njit(cache=True, nogil=True)
def sound(term, passages, starts, rows, dense, ids, impacts, tiles):
    """Whether everything of the term's list lies where the layout says: SOUND, or what is at fault.

    A kernel will trust it, and a flipped byte must not send it outside the maps; checking whole arrays on opening would
    read the index. So a list is checked when a query first names its term, at about the price of scoring it. Where
    lists begin and which rows are theirs was checked before. Impacts (but for heads), dense rows and maxima may hold
    anything: they lead nowhere.
    """
    start, end, row = np.int64(starts[term]), np.int64(starts[term + 1]), np.int64(rows[term])
    if 0 <= row < dense.shape[0]:
        return SOUND
    if 0 <= row < tiles.shape[0]:
        count = tiles.shape[1] - 1
        if tiles[row, 0] != 0 or np.int64(tiles[row, count]) != end - start:
            return TILES
        for tile in range(count):
            first, last = np.int64(tiles[row, tile]), np.int64(tiles[row, tile + 1])
            if last < first or last > end - start:
                return TILES
            before = ((tile << TILE_BITS) & (SEGMENT - 1)) - 1
            for p in range(start + first, start + last):
                if np.int64(ids[p]) <= before:
                    return IDS
                before = np.int64(ids[p])
            if last > first and before >= min(TILE, passages - (tile << TILE_BITS)) + (
                (tile << TILE_BITS) & (SEGMENT - 1)
            ):
                return IDS
        return SOUND
    origin = 0
    while start < end:
        first, last = open_segment(start, end, ids, impacts)
        if last > end:
            return IDS
        before = -1
        for p in range(first, last):
            if np.int64(ids[p]) <= before:
                return IDS
            before = np.int64(ids[p])
        if origin + before >= passages:
            return IDS
        start = last
        origin += SEGMENT
    return SOUND
