"""The bytewise order of many strings, without holding them as Python objects.

A most-significant-first radix sort with wide digits: strings are sorted by their first seven bytes, those that are
equal so far by the next seven, and so on. A digit is a 63-bit number, nine bits a byte, so that the end of a string
comes before every byte and strings may hold any. It takes about 30 bytes a string, however long they are.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher._lazy import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 7
"""Bytes that are compared at a time."""


def string_order(
    letters: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The numbers of strings in bytewise order; equal ones by number.

    Args:
        letters: uint8[bytes], all strings one after another.
        offsets: uint32 or int64[n + 1], where each begins.

    Returns:
        order: uint32[n].
        repeated: bool[n], True where the string at this place of the order equals the one before.
    """
    n = len(offsets) - 1
    order, repeated = np.arange(n, dtype=np.uint32), np.zeros(n, bool)
    places, groups = np.arange(n, dtype=np.uint32), np.zeros(n, np.uint32)  # what is not yet told apart
    at = 0
    while len(places):
        numbers, keys = order[places], np.empty(len(places), np.uint64)
        read_digits(letters, offsets, numbers, at, keys)
        by_key = np.lexsort((keys, groups)) if at else np.argsort(keys, kind="stable")
        keys = keys[by_key]
        order[places] = numbers[by_key]
        same = np.zeros(len(places) + 1, bool)  # as the place before
        same[1:-1] = (keys[1:] == keys[:-1]) & (groups[1:] == groups[:-1])
        ended = (keys & np.uint64(511)) == 0
        repeated[places] |= same[:-1] & ended
        going = (same[:-1] | same[1:]) & ~ended
        groups = np.cumsum(~same[:-1], dtype=np.uint32)[going]
        places = places[going]
        at += STEP
    return order, repeated


@njit(cache=True, nogil=True)
def read_digits(letters, offsets, numbers, at, keys):
    """The digit of each string that begins at its byte `at`.

    letters, offsets   uint8[bytes], uint32 or int64[n + 1]
    numbers            uint32[m]   of the strings
    at                 int64
    keys               uint64[m]   out
    """
    for i in range(numbers.shape[0]):
        number = np.int64(numbers[i])
        first, end = np.int64(offsets[number]) + at, np.int64(offsets[number + 1])
        key = np.uint64(0)
        for j in range(STEP):
            digit = np.uint64(0)
            if first + j < end:
                digit = np.uint64(letters[first + j]) + np.uint64(1)
            key = (key << np.uint64(9)) | digit
        keys[i] = key
