"""Which docnos have been seen, in 16 bytes each: an open-addressing table of 128-bit hashes.

A Python set of the strings would take 100 to 150 bytes a docno; this table takes 24 to 48, and half as much again for
a moment while it grows. Two different docnos are taken for one with a probability below n^2 / 2^129, which is 10^-21
for a thousand million docnos, so a hit is not verified against the text.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

_START = 1 << 12


class DocnoSet:
    """A set that can only grow, and answers whether a docno is new."""

    def __init__(self) -> None:
        self._size = _START  # a power of two
        self._used = 0
        self._low = array("Q", bytes(8 * _START))
        self._high = array("Q", bytes(8 * _START))

    def __len__(self) -> int:
        return self._used

    def add(self, docno: str) -> bool:
        """Add `docno`; False where it was there already."""
        digest = blake2b(docno.encode(), digest_size=16).digest()
        low = int.from_bytes(digest[:8], "little")
        high = int.from_bytes(digest[8:], "little") or 1  # 0 marks a free place
        if not self._insert(low, high):
            return False
        if 3 * self._used > 2 * self._size:
            self._grow()
        return True

    def _insert(self, low: int, high: int) -> bool:
        lows, highs, mask = self._low, self._high, self._size - 1
        place = low & mask
        while highs[place]:
            if highs[place] == high and lows[place] == low:
                return False
            place = (place + 1) & mask
        lows[place], highs[place] = low, high
        self._used += 1
        return True

    def _grow(self) -> None:
        lows, highs = self._low, self._high
        self._size *= 2
        self._used = 0
        self._low = array("Q", bytes(8 * self._size))
        self._high = array("Q", bytes(8 * self._size))
        for low, high in zip(lows, highs, strict=True):
            if high:
                self._insert(low, high)
