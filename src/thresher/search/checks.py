"""What a kernel will trust, checked before it is trusted.

An index is read through memory maps, and a flipped byte in an offset must not send a kernel outside them. Checking
whole arrays on opening would read the index; so a posting list is checked when a query first names its term, once in
the life of a `Searcher`, at about the price of scoring the list.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment"
# ruff: noqa: ANN001, ANN201, PLR0911

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["sound"]


@njit(cache=True, nogil=True)
def sound(term, passages, block, starts, bases, rows, impacts, lows, docs, pointers, maxima):
    """Whether every offset and id of the term's list lies where the layout says.

    Checked are: the list within `impacts` and within `lows` or `docs`; block pointers ascending from 0 to the list's
    length; ids ascending and inside their blocks. Impacts and maxima may hold anything: they lead nowhere.
    """
    start, end = starts[term], starts[term + 1]
    base, row = bases[term], np.int64(rows[term])
    if start < 0 or end < start or end > impacts.shape[0] or base < 0 or row < -1 or row >= maxima.shape[0]:
        return False
    length = end - start
    if row < 0:
        if base + length > docs.shape[0]:
            return False
        before = np.int64(-1)
        for p in range(base, base + length):
            if np.int64(docs[p]) <= before:
                return False
            before = np.int64(docs[p])
        return before < passages
    if base + length > lows.shape[0] or pointers[row, 0] != 0 or pointers[row, maxima.shape[1]] != length:
        return False
    for j in range(maxima.shape[1]):
        first, last = np.int64(pointers[row, j]), np.int64(pointers[row, j + 1])
        if last < first or last > length:
            return False
        room = min(block, passages - j * block)
        before = np.int64(-1)
        for p in range(base + first, base + last):
            local = (np.int64(lows[p]) - j * block) & 0xFFFF
            if local <= before or local >= room:
                return False
            before = local
    return True
