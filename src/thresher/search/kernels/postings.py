"""Posting lists as kernels read them: scanned from the beginning, or entered anywhere by a search.

See `thresher.index.layout` for chunks, skip entries and superblocks. A skip entry's impact is 0, so a loop that adds it
to the sum of whatever document its id names adds nothing.

Postings are added four at a time: their ids and products are known before the first sum is written, so that no load
waits to see whether a store before it goes to the same place.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.index.layout import CHUNK
from thresher.index.lists import CHUNK_BITS, SUPERBLOCK_BITS, open_chunk

FOUR = np.uint64(4)


@njit(cache=True, nogil=True)
def add(first, last, mask, ids, impacts, weight, sums):
    """Add weight * impact of entries first ... last - 1 (uint64) to the sums of their documents.

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
def add_allowed(first, last, ids, impacts, weight, sums, allowed):
    """As `add`, of the documents of a chunk that may be returned; impacts of others are not read.

    allowed  uint8[documents of the chunk], 1 where the document may be returned;  sums  float64[CHUNK]
    """
    for p in range(first, last):
        doc = np.uint64(ids[np.uint64(p)])
        if allowed[doc]:
            sums[doc] += weight * np.float64(impacts[np.uint64(p)])


@njit(cache=True, nogil=True)
def quantised_product(weight, impact):
    """Weight * impact / 65,536, rounded up; uint16. weight uint32, the product at most 2^32 - 65,536."""
    product = np.uint32(weight * np.uint32(impact) + np.uint32(65535))  # narrow, hence quicker
    return np.uint16(product >> np.uint32(16))


@njit(cache=True, nogil=True)
def add_quantised(first, last, mask, ids, impacts, weight, sums):
    """As `add`, in whole numbers: weight * impact / 65,536, rounded up.

    weight  uint32;  sums  uint16[mask + 1]
    """
    p = np.uint64(first)
    while p + FOUR <= last:
        a, b, c, d = ids[p], ids[p + np.uint64(1)], ids[p + np.uint64(2)], ids[p + np.uint64(3)]
        part_a = quantised_product(weight, impacts[p])
        part_b = quantised_product(weight, impacts[p + np.uint64(1)])
        part_c = quantised_product(weight, impacts[p + np.uint64(2)])
        part_d = quantised_product(weight, impacts[p + np.uint64(3)])
        sums[np.uint64(a & mask)] += part_a
        sums[np.uint64(b & mask)] += part_b
        sums[np.uint64(c & mask)] += part_c
        sums[np.uint64(d & mask)] += part_d
        p += FOUR
    while p < last:
        sums[np.uint64(ids[p] & mask)] += quantised_product(weight, impacts[p])
        p += np.uint64(1)


@njit(cache=True, nogil=True)
def add_row(own, weight, sums):
    """Add weight * impact of some documents' part of a dense row to their sums, float64[len(own)...]."""
    for i in range(own.shape[0]):
        sums[i] += weight * np.float64(own[i])


@njit(cache=True, nogil=True)
def add_row_quantised(own, weight, sums):
    """As `add_row`, in whole numbers as `add_quantised`: weight uint32, sums uint16[len(own)...]."""
    for i in range(own.shape[0]):
        sums[i] += quantised_product(weight, own[i])


@njit(cache=True, nogil=True)
def find(low, first, last, ids):
    """The first of entries first ... last - 1, ascending in one chunk, whose id is at least `low`; `last` if none."""
    while first < last:
        middle = (first + last) >> 1
        if np.int64(ids[np.uint64(middle)]) < low:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, nogil=True)
def find_in_superblock(low, first, last, ids):
    """As `find`, among entries of one superblock: counts the ids below `low`, 16 at a time and without a branch."""
    own, here, below = ids[first:last], np.uint16(low), np.uint16(0)
    for p in range(own.shape[0]):
        below = np.uint16(below + np.uint16(own[p] < here))
    return first + np.int64(below)


@njit(cache=True, nogil=True)
def largest_impact(term, starts, rows, kth, impacts):
    """The largest impact of a list: stored, or found by a scan where the list has fewer than ten postings."""
    if rows[term] >= 0:
        return np.int64(kth[rows[term], 0])
    best = np.int64(0)
    for p in range(starts[term], starts[term + 1]):
        best = max(best, np.int64(impacts[p]))
    return best


@njit(cache=True, nogil=True, inline="always")
def postings_of(term, index):
    """How many postings a list has."""
    row = np.int64(index.rows[term])
    if 0 <= row < index.dense.shape[0]:
        return np.int64(index.superblocks[row, index.superblocks.shape[1] - 1])
    return np.int64(index.starts[term + 1]) - np.int64(index.starts[term])


@njit(cache=True, nogil=True)
def rescore(query, index, docs, size, sums):
    """The sums of some documents by definition: float64, in ascending term order.

    query, index   `QueryTerms`, `Postings`
    docs           uint32[size...]    ascending
    sums           float64[size...]   out
    """
    starts, rows, dense, superblocks = index.starts, index.rows, index.dense, index.superblocks
    impacts, ids = index.impacts, index.ids
    sums[:size] = 0.0
    for i in range(query.terms.shape[0]):
        term, weight = query.terms[i], query.weights[i]
        start, end, row = np.int64(starts[term]), np.int64(starts[term + 1]), np.int64(rows[term])
        if 0 <= row < dense.shape[0]:
            for c in range(size):
                sums[c] += weight * np.float64(dense[row, docs[c]])
            continue
        if 0 <= row < superblocks.shape[0]:
            for c in range(size):
                doc = np.int64(docs[c])
                last = start + np.int64(superblocks[row, (doc >> SUPERBLOCK_BITS) + 1])
                low = doc & (CHUNK - 1)
                p = find_in_superblock(low, start + np.int64(superblocks[row, doc >> SUPERBLOCK_BITS]), last, ids)
                if p < last and np.int64(ids[p]) == low:
                    sums[c] += weight * np.float64(impacts[p])
            continue
        chunk = 0
        at, stop = open_chunk(start, end, ids, impacts)
        for c in range(size):
            doc = np.int64(docs[c])
            while chunk < doc >> CHUNK_BITS:
                at, stop = open_chunk(stop, end, ids, impacts)
                chunk += 1
            low = doc & (CHUNK - 1)
            at = find(low, at, stop, ids)
            if at < stop and np.int64(ids[at]) == low:
                sums[c] += weight * np.float64(impacts[at])
