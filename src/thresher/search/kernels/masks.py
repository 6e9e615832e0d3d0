"""The documents that may be returned: windows and blocks that hold none are skipped, other documents left out.

Sums of documents that may not be returned never get where the best are looked for, so every threshold is one that
allowed documents reach.

`allowed` is a `thresher.search.kernels.types.Allowed` throughout.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import numpy as np

from thresher._lazy import njit


@njit(cache=True, nogil=True)
def any_set(flags, first, last):
    """Whether one of flags first ... last - 1 (uint8) is set; the last may be beyond the end."""
    for place in range(first, min(last, flags.shape[0])):
        if flags[place] != 0:
            return True
    return False


@njit(cache=True, nogil=True)
def first_from(doc, docs, first):
    """The first of places first ... len(docs) - 1, whose documents ascend, with at least this one, or len(docs)."""
    step, last = 16, docs.shape[0]
    while first + step < last and np.int64(docs[first + step]) < doc:
        first += step
        step *= 2
    last = min(first + step + 1, last)
    while first < last:
        middle = (first + last) >> 1
        if np.int64(docs[middle]) < doc:
            first = middle + 1
        else:
            last = middle
    return first


@njit(cache=True, nogil=True)
def count_windows(docs, size):
    """How many windows of `size` documents hold one of `docs`, uint32[n] ascending."""
    count, at = 0, 0
    while at < docs.shape[0]:
        count += 1
        at = first_from((np.int64(docs[at]) // size + 1) * size, docs, at)
    return count


@njit(cache=True, nogil=True)
def mask_sums(sums, first, last, origin, mask):
    """Set the sums of documents that may not be returned to 0.

    sums          float64[window...]   in and out; that of document origin + i at i
    first, last   int64                i = first ... last - 1
    mask          uint8[passages]
    """
    own = mask[origin + first : origin + last]
    part = sums[first:last]
    for i in range(own.shape[0]):
        part[i] = part[i] if own[i] != 0 else 0.0


@njit(cache=True, nogil=True)
def mask_blocks(least, block, allowed, bounds):
    """Set the bounds of blocks without an allowed document to 0, and the superblocks' bounds accordingly.

    least   float    blocks whose bounds are below are left as they are
    block   int64    documents in a block
    bounds  `Bounds`, in and out
    """
    blocks, best_of = bounds.blocks, bounds.superblocks
    step = blocks.shape[0] // max(best_of.shape[0], 1)
    if allowed.docs.shape[0] > 0:
        held = np.zeros(blocks.shape[0], np.uint8)
        for doc in allowed.docs:
            held[np.int64(doc) // block] = 1
        for b in range(blocks.shape[0]):
            blocks[b] = blocks[b] if held[b] != 0 else np.float32(0.0)
    else:
        for b in range(blocks.shape[0]):
            if blocks[b] < least:
                continue
            if allowed.superblocks[b // step] == 0 or not any_set(allowed.mask, b * block, (b + 1) * block):
                blocks[b] = 0.0
    for superblock in range(best_of.shape[0]):
        best = np.float32(0.0)
        for b in range(superblock * step, (superblock + 1) * step):
            best = max(best, blocks[b])
        best_of[superblock] = best
