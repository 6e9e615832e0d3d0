"""Flat arrays and many strings in files: written in a stream, opened by memory mapping.

An array file holds the elements alone, little-endian and row after row; type and shape are given by the layout, and
the size of the file must be exactly theirs. Opening touches no element.

Each of many strings is found by its number without reading the others. There are two kinds of store, of two files each.
Offsets are uint32 where the bytes end below 2^32, else int64; they and what they point to are checked when a string is
read, so that opening costs the same for a thousand strings as for a hundred million.

* A **plain** store: `NAME.bytes`, the UTF-8 of all strings one after another, and `NAME.offsets`, [n + 1], where each
  begins.
* A **packed** store, for short strings with much in common, as docnos and sorted words have: `GROUP` strings share a
  group, `NAME.offsets` says where each group begins. A group is its width w (a byte: 1, 2 or 4, plus 16 where all
  lengths are equal), the length of the prefix that all its strings share, the length of each string after it (only one
  where all are equal), each of w bytes, little-endian; then the prefix, then the rest of each string. So a string is
  found by one sum, where front coding would rebuild all before it.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from thresher.errors import ArtifactError, DamagedArtifactError
from thresher.mapping import map_file, reserve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = "NDArray[Any]"
"""An array whose type is one of several, or known only when a file is opened."""


def map_array(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
    """Open `file` as a read-only array of `dtype` and `shape`, without reading it.

    The result is a plain `ndarray` over the mapping, not a `numpy.memmap`: kernels dispatch on it several times faster.

    Raises:
        DamagedArtifactError: the file is missing, or its size is not that of the array.
        ArtifactError: this machine stores numbers with the most significant byte first.
    """
    if sys.byteorder != "little":
        raise ArtifactError("an index can be opened on little-endian machines only")
    wanted = int(np.dtype(dtype).itemsize)
    for extent in shape:
        wanted *= extent
    mapped = map_file(file)
    if mapped.nbytes != wanted:
        problem = f"the file has {mapped.nbytes} bytes where the layout needs {wanted}; rebuild the index"
        raise DamagedArtifactError(str(file), problem)
    if not wanted:
        array: Array = np.empty(shape, dtype)
        array.flags.writeable = False
        return array
    return np.frombuffer(mapped, dtype).reshape(shape)


def create_array(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
    """Make `file` and map it for writing, zeroed. Pages go to disk as the system sees fit, so memory stays bounded.

    Raises:
        OSError: the disk has no room for it.
    """
    reserve(file, math.prod(shape) * np.dtype(dtype).itemsize)
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.memmap(file, dtype=np.dtype(dtype), mode="r+", shape=shape).view(np.ndarray)


def write_array(file: Path, array: Array) -> None:
    """Write `array` to `file`."""
    with file.open("wb") as stream:
        np.ascontiguousarray(array).tofile(stream)


GROUP = 16
_EQUAL = 16
_WIDTHS = (1, 2, 4)
_COPIED = 2**20


class StringWriter:
    """Append strings to a plain store. Close it to make the store whole."""

    def __init__(self, directory: Path, name: str) -> None:
        self._bytes = (directory / f"{name}.bytes").open("wb")
        self._offsets = directory / f"{name}.offsets"
        self._wide_file = directory / f"{name}.offsets.wide"
        self._wide = self._wide_file.open("w+b")
        self._end = 0
        np.zeros(1, np.int64).tofile(self._wide)

    def extend(self, strings: Iterable[bytes]) -> None:
        """Append every one of `strings`."""
        parts = list(strings)
        if parts:
            ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts))) + self._end
            self._end = int(ends[-1])
            self._bytes.write(b"".join(parts))
            ends.tofile(self._wide)

    def abandon(self) -> None:
        """Close the files as they are; the store is not whole."""
        self._bytes.close()
        self._wide.close()

    def close(self) -> None:
        """Write both files."""
        self._bytes.close()
        self._wide.seek(0)
        with self._offsets.open("wb") as narrow:
            while len(part := np.fromfile(self._wide, np.int64, _COPIED)):
                part.astype(_offset_type(self._end)).tofile(narrow)
        self._wide.close()
        self._wide_file.unlink()


class PackedWriter(StringWriter):
    """Append strings to a packed store. Close it to make the store whole."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory, name)
        self._waiting: list[bytes] = []

    def extend(self, strings: Iterable[bytes]) -> None:
        """Append every one of `strings`."""
        waiting = self._waiting
        waiting.extend(strings)
        whole = len(waiting) // GROUP * GROUP
        super().extend(_pack(waiting[at : at + GROUP]) for at in range(0, whole, GROUP))
        self._waiting = waiting[whole:]

    def close(self) -> None:
        """Write both files."""
        if self._waiting:
            super().extend([_pack(self._waiting)])
        super().close()


class StringStore:
    """The strings of a plain store, by number.

    Raises:
        DamagedArtifactError: a file is missing or of the wrong size.
    """

    def __init__(self, directory: Path, name: str, count: int) -> None:
        self._count = count
        self._file = directory / f"{name}.bytes"
        self._offsets_file = directory / f"{name}.offsets"
        self._view = map_file(self._file)
        offsets = _offset_type(self._view.nbytes)
        self.offsets: Array = map_array(self._offsets_file, offsets, (self._pieces() + 1,))

    def __len__(self) -> int:
        return self._count

    @property
    def letters(self) -> memoryview:
        """The UTF-8 of all strings one after another; in a packed store, of its groups."""
        return self._view

    def _pieces(self) -> int:
        return self._count

    def _piece(self, number: int) -> bytes:
        start, end = self.offsets[number : number + 2].tolist()
        if not 0 <= start <= end <= len(self._view):
            problem = f"entry {number} spans bytes {start} to {end} of {len(self._view)}; rebuild the index"
            raise DamagedArtifactError(str(self._offsets_file), problem)
        return bytes(self._view[start:end])

    def raw(self, number: int) -> bytes:
        """The UTF-8 of string `number`, 0 … count - 1.

        Raises:
            DamagedArtifactError: its offsets point to something that is not a string.
        """
        return self._piece(number)

    def several(self, numbers: NDArray[np.int64]) -> list[bytes]:
        """The UTF-8 of the strings with these numbers, int64[n], ascending.

        Raises:
            DamagedArtifactError: as `raw`.
        """
        starts, ends = self.offsets[numbers].astype(np.int64), self.offsets[numbers + 1].astype(np.int64)
        if not bool(((starts <= ends) & (ends <= len(self._view))).all()):
            return [self.raw(number) for number in numbers.tolist()]
        view = self._view
        return [bytes(view[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def __getitem__(self, number: int) -> str:
        try:
            return self.raw(number).decode()
        except UnicodeDecodeError as err:
            problem = f"entry {number} is not UTF-8 ({err.reason}); rebuild the index"
            raise DamagedArtifactError(str(self._file), problem) from err


class PackedStore(StringStore):
    """The strings of a packed store, by number."""

    def _pieces(self) -> int:
        return -(-self._count // GROUP)

    def several(self, numbers: NDArray[np.int64]) -> list[bytes]:
        """As in a plain store; a group is read once."""
        found: list[bytes] = []
        if not len(numbers):
            return found
        groups, firsts = np.unique(numbers // GROUP, return_index=True)
        for group, own in zip(groups.tolist(), np.split(numbers % GROUP, firsts[1:]), strict=True):
            strings = self._group(group)
            found += strings if len(own) == len(strings) else [strings[at] for at in own.tolist()]
        return found

    def _head(self, group: int, piece: bytes) -> tuple[int, int, Sequence[int], int]:
        """What stands before the strings of a group: where they begin, the prefix's length, the lengths, and how many.

        There is one length where all strings are equally long; otherwise one each.
        """
        size = min(GROUP, self._count - group * GROUP)
        kind = piece[0] if piece else 0
        width, equal = kind & ~_EQUAL, kind & _EQUAL
        begin = 1 + width * (2 if equal else size + 1)
        if width not in _WIDTHS or begin > len(piece):
            self._refuse(group)
        numbers = piece[1:begin] if width == 1 else np.frombuffer(piece, f"<u{width}", begin // width, 1).tolist()
        shared, lengths = numbers[0], numbers[1:]
        if begin + shared + (lengths[0] * size if equal else sum(lengths)) != len(piece):
            self._refuse(group)
        return begin, shared, lengths, size

    def _group(self, group: int) -> list[bytes]:
        """All strings of a group."""
        piece = self._piece(group)
        begin, shared, lengths, size = self._head(group, piece)
        prefix, at, strings = piece[begin : begin + shared], begin + shared, []
        for length in lengths if len(lengths) == size else [lengths[0]] * size:
            strings.append(prefix + piece[at : at + length])
            at += length
        return strings

    def raw(self, number: int) -> bytes:
        """As in a plain store."""
        group, at = divmod(number, GROUP)
        piece = self._piece(group)
        begin, shared, lengths, size = self._head(group, piece)
        own, before = (lengths[at], sum(lengths[:at])) if len(lengths) == size else (lengths[0], lengths[0] * at)
        first = begin + shared + before
        return piece[begin : begin + shared] + piece[first : first + own]

    def _refuse(self, group: int) -> NoReturn:
        raise DamagedArtifactError(str(self._file), f"group {group} is not what was written; rebuild the index")


def _offset_type(end: int) -> type[np.uint32] | type[np.int64]:
    return np.uint32 if end < 2**32 else np.int64


def _pack(strings: list[bytes]) -> bytes:
    """One group of a packed store."""
    low, high = min(strings), max(strings)
    least = min(len(low), len(high))
    shared = next((at for at in range(least) if low[at] != high[at]), least)
    rests = [string[shared:] for string in strings]
    lengths = list(map(len, rests))
    longest = max(shared, *lengths)
    width = 1 if longest < 2**8 else 2 if longest < 2**16 else 4
    equal = len(set(lengths)) == 1
    numbers = [shared, *(lengths[:1] if equal else lengths)]
    header = np.array(numbers, f"<u{width}").tobytes() if width > 1 else bytes(numbers)
    return b"".join([bytes([width | (_EQUAL if equal else 0)]), header, low[:shared], *rests])
