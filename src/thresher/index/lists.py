"""Posting lists as kernels find them in a layout: where chunks begin, whether a list is valid, and all of its postings.

`index` is any structure with the arrays `starts`, `rows`, `dense`, `impacts`, `ids` and `superblocks` and the number of
`passages`, as in `thresher.index.layout`.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK, IDS_FAULT, SUPERBLOCKS_FAULT, VALID

CHUNK_BITS = CHUNK.bit_length() - 1
SUPERBLOCK_BITS = SUPERBLOCK.bit_length() - 1


@njit(cache=True, nogil=True)
def open_chunk(at, end, ids, impacts):
    """First posting and end of the chunk that begins with entry `at` of a list without a directory row."""
    if at < end and impacts[np.uint64(at)] == 0:
        return at + 1, at + 1 + np.int64(ids[np.uint64(at)])
    return at, end


@njit(cache=True, nogil=True)
def validate(term, index):
    """Whether the term's list lies where the layout says: VALID, IDS_FAULT or SUPERBLOCKS_FAULT.

    Kernels use ids and superblock offsets as places in memory, and a flipped byte must not send them outside the files;
    checking whole arrays on opening would read the index. So a list is checked when a query first names its term, at
    about the price of scoring it. Where lists begin and which rows are theirs was checked on opening. Impacts (but for
    skip entries), dense rows and maxima may hold anything: they are not used as offsets.
    """
    start, end, row = np.int64(index.starts[term]), np.int64(index.starts[term + 1]), np.int64(index.rows[term])
    if 0 <= row < index.dense.shape[0]:
        return VALID
    if 0 <= row < index.superblocks.shape[0]:
        return validate_common(start, end, index.superblocks[row], index.ids, index.passages)
    ids, impacts = index.ids, index.impacts
    origin = 0
    while start < end:
        first, last = open_chunk(start, end, ids, impacts)
        if last > end:
            return IDS_FAULT
        before = -1
        for p in range(first, last):
            if np.int64(ids[p]) <= before:
                return IDS_FAULT
            before = np.int64(ids[p])
        if origin + before >= index.passages:
            return IDS_FAULT
        start = last
        origin += CHUNK
    return VALID


@njit(cache=True, nogil=True)
def validate_common(start, end, begins, ids, passages):
    """As `validate`, for a list with a directory row `begins`, uint32[superblocks + 1]."""
    count = begins.shape[0] - 1
    if begins[0] != 0 or np.int64(begins[count]) != end - start:
        return SUPERBLOCKS_FAULT
    for superblock in range(count):
        first, last = np.int64(begins[superblock]), np.int64(begins[superblock + 1])
        if last < first or last > end - start:
            return SUPERBLOCKS_FAULT
        origin = superblock << SUPERBLOCK_BITS
        low = origin & (CHUNK - 1)
        before = low - 1
        for p in range(start + first, start + last):
            if np.int64(ids[p]) <= before:
                return IDS_FAULT
            before = np.int64(ids[p])
        if last > first and before >= low + min(SUPERBLOCK, passages - origin):
            return IDS_FAULT
    return VALID


@njit(cache=True, nogil=True)
def count_postings_of(term, index):
    """Postings of a list, its skip entries not counted; -1 where a skip entry leads past the end of the list."""
    start, end, row = np.int64(index.starts[term]), np.int64(index.starts[term + 1]), np.int64(index.rows[term])
    if 0 <= row < index.dense.shape[0]:
        return np.int64(index.superblocks[row, index.superblocks.shape[1] - 1])
    if 0 <= row < index.superblocks.shape[0]:
        return end - start
    count = 0
    while start < end:
        first, last = open_chunk(start, end, index.ids, index.impacts)
        if last > end:
            return -1
        count += last - first
        start = last
    return count


@njit(cache=True, nogil=True)
def read_list(term, index, docs, impacts):
    """All postings of a valid list: returns how many there are; those of impact 0, which no builder writes, left out.

    docs, impacts   uint32[passages], as `index.impacts`, [passages]   out: internal ids, ascending, and their impacts
    """
    row, count = np.int64(index.rows[term]), 0
    if 0 <= row < index.dense.shape[0]:
        for doc in range(index.passages):
            docs[count], impacts[count] = doc, index.dense[row, doc]
            count += index.dense[row, doc] > 0
        return count
    start, end = np.int64(index.starts[term]), np.int64(index.starts[term + 1])
    if 0 <= row < index.superblocks.shape[0]:
        begins, per_chunk = index.superblocks[row], CHUNK // SUPERBLOCK
        for superblock in range(0, begins.shape[0] - 1, per_chunk):
            first = start + np.int64(begins[superblock])
            last = start + np.int64(begins[min(superblock + per_chunk, begins.shape[0] - 1)])
            count = read_run(first, last, superblock << SUPERBLOCK_BITS, index, count, docs, impacts)
        return count
    origin = 0
    while start < end:
        first, last = open_chunk(start, end, index.ids, index.impacts)
        count = read_run(first, last, origin, index, count, docs, impacts)
        start = last
        origin += CHUNK
    return count


@njit(cache=True, nogil=True)
def read_run(first, last, origin, index, count, docs, impacts):
    """Append entries first ... last - 1, of the chunk that begins at document `origin`; returns the new count."""
    for p in range(first, last):
        docs[count], impacts[count] = origin + np.int64(index.ids[p]), index.impacts[p]
        count += index.impacts[p] > 0
    return count
