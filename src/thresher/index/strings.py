"""Many strings in one file, each found by its number without reading the others.

A store is two files: `NAME.bytes`, the UTF-8 of all strings one after another, and `NAME.offsets`, int64[n + 1], where
each begins. Both are memory-mapped; a string is decoded when it is asked for, and its offsets are checked then, so
that opening costs the same for a thousand strings as for a hundred million.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import DamagedArtifactError
from thresher.index.arrays import map_array

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["StringStore", "StringWriter"]


class StringWriter:
    """Append strings to a store. Close it to make the store whole."""

    def __init__(self, directory: Path, name: str) -> None:
        self._bytes = (directory / f"{name}.bytes").open("wb")
        self._offsets = (directory / f"{name}.offsets").open("wb")
        self._end = 0
        np.zeros(1, np.int64).tofile(self._offsets)

    def extend(self, strings: Iterable[bytes]) -> None:
        """Append every one of `strings`."""
        parts = list(strings)
        ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts))) + self._end
        if parts:
            self._end = int(ends[-1])
            self._bytes.write(b"".join(parts))
            ends.tofile(self._offsets)

    def close(self) -> None:
        """Flush both files."""
        self._bytes.close()
        self._offsets.close()


class StringStore:
    """The strings of a store, by number."""

    def __init__(self, directory: Path, name: str, count: int) -> None:
        self._file = directory / f"{name}.bytes"
        self._offsets_file = directory / f"{name}.offsets"
        self.offsets = map_array(self._offsets_file, np.int64, (count + 1,))
        try:
            size = self._file.stat().st_size
        except OSError as err:
            raise DamagedArtifactError(str(self._file), f"the file cannot be opened ({err})") from err
        self.bytes = map_array(self._file, np.uint8, (size,))
        self._view = self.bytes.data

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def raw(self, number: int) -> bytes:
        """The UTF-8 of string `number`.

        Raises:
            DamagedArtifactError: its offsets do not lie within the file, in order.
        """
        start, end = int(self.offsets[number]), int(self.offsets[number + 1])
        if not 0 <= start <= end <= len(self.bytes):
            problem = f"entry {number} spans bytes {start} to {end} of {len(self.bytes)}; rebuild the index"
            raise DamagedArtifactError(str(self._offsets_file), problem)
        return bytes(self._view[start:end])

    def __getitem__(self, number: int) -> str:
        try:
            return self.raw(number).decode()
        except UnicodeDecodeError as err:
            problem = f"entry {number} is not UTF-8 ({err.reason}); rebuild the index"
            raise DamagedArtifactError(str(self._file), problem) from err
