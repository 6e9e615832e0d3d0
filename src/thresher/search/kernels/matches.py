"""Which documents hold any of some terms: what facets are counted over."""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK, VALID
from thresher.index.lists import SUPERBLOCK_BITS, open_chunk, validate
from thresher.search.kernels.types import DONE, FAULTS


@njit(cache=True, nogil=True)
def mark(terms, index, flags):
    """Set the flags of all documents that hold one of the terms; returns a status, as `search_row`.

    terms   int64[n]           known
    index   `Postings`
    flags   uint8[passages]    in and out, by internal id
    """
    for term in terms:
        if index.validated[term] == 0:
            fault = validate(term, index)
            if fault != VALID:
                return term * FAULTS + fault
            index.validated[term] = 1
        mark_list(term, index, flags)
    return np.int64(DONE)


@njit(cache=True, nogil=True)
def mark_list(term, index, flags):
    """Set the flags of all documents of a valid list."""
    start, end, row = np.int64(index.starts[term]), np.int64(index.starts[term + 1]), np.int64(index.rows[term])
    if 0 <= row < index.dense.shape[0]:
        for doc in range(index.passages):
            flags[doc] |= np.uint8(index.dense[row, doc] > 0)
        return
    if 0 <= row < index.superblocks.shape[0]:
        begins, per_chunk = index.superblocks[row], CHUNK // SUPERBLOCK
        for superblock in range(0, begins.shape[0] - 1, per_chunk):
            after = min(superblock + per_chunk, begins.shape[0] - 1)
            origin = superblock << SUPERBLOCK_BITS
            for p in range(start + np.int64(begins[superblock]), start + np.int64(begins[after])):
                flags[origin + np.int64(index.ids[p])] = 1
        return
    origin = 0
    while start < end:
        first, last = open_chunk(start, end, index.ids, index.impacts)
        for p in range(first, last):
            flags[origin + np.int64(index.ids[p])] = 1
        start = last
        origin += CHUNK
