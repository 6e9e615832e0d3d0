"""What a kernel will trust, checked before it is trusted.

An index is read through memory maps, and a flipped byte in an offset must not send a kernel outside them. Checking
whole arrays on opening would read the index; so a posting list is checked when a query first names its term, once in
the life of a `Searcher`, at about the price of scoring the list.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201, ANN202, PLR0911

from __future__ import annotations

import numpy as np
from numba import njit

from thresher.index.invert import SKIP

__all__ = ["sound"]


@njit(cache=True, nogil=True)
def sound(term, passages, block, starts, bases, rows, impacts, local, gaps, tiles, offsets):
    """Whether every offset and id of the term's list lies where the layout says.

    Checked are: the list within `impacts` and within `locals` or `gaps`; tiles and blocks ascending from 0 to the
    list's length; ids ascending and inside their blocks. Impacts and maxima may hold anything: they lead nowhere.
    """
    start, end = starts[term], starts[term + 1]
    base, row = bases[term], np.int64(rows[term])
    if start < 0 or end < start or end > impacts.shape[0] or base < 0 or row < -1 or row >= tiles.shape[0]:
        return False
    length = end - start
    if row < 0:
        return sound_gaps(length, base, passages, gaps)
    count, step = offsets.shape[1], offsets.shape[2] - 1
    if base > local.shape[0] - length or tiles[row, 0] != 0 or tiles[row, count] != length:
        return False
    for tile in range(count):
        first, last = np.int64(tiles[row, tile]), np.int64(tiles[row, tile + 1])
        if last < first or last > length or offsets[row, tile, 0] != 0 or offsets[row, tile, step] != last - first:
            return False
        room = min(step * block, passages - tile * step * block)
        for b in range(step):
            begin, stop = np.int64(offsets[row, tile, b]), np.int64(offsets[row, tile, b + 1])
            if stop < begin or stop > last - first:
                return False
            before = b * block - 1
            for p in range(base + first + begin, base + first + stop):
                if np.int64(local[p]) <= before:
                    return False
                before = np.int64(local[p])
            if before >= min((b + 1) * block, room) and stop > begin:
                return False
    return True


@njit(cache=True, nogil=True)
def sound_gaps(length, base, passages, gaps):
    """Whether `length` ids can be decoded from gaps[base:], each below `passages`."""
    doc = np.int64(-1)
    at = base
    for _ in range(length):
        while at < gaps.shape[0] and gaps[at] == SKIP:
            doc += SKIP
            at += 1
        if at >= gaps.shape[0] or gaps[at] == 0:
            return False
        doc += np.int64(gaps[at])
        at += 1
        if doc >= passages:
            return False
    return True
