"""The kinds of columns, opened by memory mapping: numbers, strings and lists of strings.

`thresher.index.columns` describes their files. A comparison is one pass over an array of a narrow type: of numbers it
is a range, and of strings a range of codes, since the dictionary is sorted.
"""

from __future__ import annotations

from functools import cached_property, reduce
from math import ceil, floor, inf, nextafter
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.checks import shown
from thresher.errors import DamagedArtifactError, InputError
from thresher.index.arrays import PackedStore, map_array
from thresher.index.column_writer import LOWEST, MISSING, Stored
from thresher.index.fields import DAY, FIELD_TYPES
from thresher.index.filters import span_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.fields import Value
    from thresher.index.filters import Where

_FEW = 8
"""Values up to which a list is compared one by one."""
_SCAN = 24
"""String comparisons of a binary search, about."""
_DTYPES = {"integer": ("int8", "int16", "int32", "int64"), "boolean": ("int8",), "float": ("float64",),
           "string": ("uint8", "uint16", "uint32")}  # fmt: skip
_DTYPES["date"] = _DTYPES["integer"]
_FIRST_DAY, _LAST_DAY = (int(np.datetime64(day, "D").astype(np.int64)) for day in ("0000-12-30", "10000-01-02"))


class Column(Protocol):
    """The values of one field."""

    def mask(self, condition: Where) -> NDArray[np.bool_]:
        """bool[passages]: which passages fulfil a condition that fits the type; a fresh array."""

    def counts(self, mask: NDArray[np.bool_] | None) -> dict[Value, int]:
        """Passages of the mask that have each value."""

    def stored(self, numbers: NDArray[np.int64], most: int) -> Iterator[tuple[int, Stored]]:
        """What is stored of the passages with these numbers, in parts of at most `most` values and where each begins.

        Parts of a column of lists all begin at 0 and give the passages themselves.
        """


def open_column(directory: Path, number: str, entry: dict[str, object], passages: int) -> Column:
    """The column that an entry of `columns.json` describes.

    Raises:
        ValueError, KeyError, TypeError: the entry is not what a writer writes.
        DamagedArtifactError: a file is missing or of the wrong size.
    """
    kind, dtype = entry["type"], entry.get("dtype")
    if kind not in FIELD_TYPES or (kind != "strings" and dtype not in _DTYPES[str(kind)]):
        raise ValueError(f"column {number} is of type {shown(kind)} and {shown(dtype)}")
    if kind not in ("string", "strings"):
        return _NumberColumn(directory / f"{number}.values", str(kind), str(dtype), passages)
    count = _size(entry["strings"])
    strings = PackedStore(directory, f"{number}.strings", count)
    if kind == "string":
        return _StringColumn(directory / f"{number}.values", strings, str(dtype), passages)
    entries = _size(entry["entries"])
    starts = map_array(directory / f"{number}.starts", np.uint32 if entries < 2**32 else np.int64, (count + 1,))
    rows = map_array(directory / f"{number}.passages", np.uint32, (entries,))
    return _ListColumn(directory / f"{number}.starts", strings, starts, rows, passages)


def _flags(array: Array) -> NDArray[np.bool_]:
    """The array, which is of flags."""
    return np.asarray(array, bool)


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError(f"{shown(value)} is not a size")
    return value


class _NumberColumn:
    """Integers, dates, flags or floats."""

    def __init__(self, file: Path, kind: str, dtype: str, passages: int) -> None:
        self._file, self._kind = file, kind
        self._values = map_array(file, dtype, (passages,))
        if kind == "float":
            self._low, self._high = -inf, inf
        else:
            limits = np.iinfo(self._values.dtype)
            self._low, self._high = int(limits.min) + 1, int(limits.max)

    def mask(self, condition: Where) -> NDArray[np.bool_]:
        if condition.op == "exists":
            return self._there()
        if condition.op == "ne":
            low, high = self._range("eq", condition.values[0])
            return self._there() & ~self._between(low, high)
        if condition.op != "in":
            return self._between(*self._range(condition.op, condition.values[0]))
        ranges = [self._range("eq", value) for value in condition.values]
        if len(ranges) > _FEW and self._kind != "date":
            wanted = [low for low, high in ranges if self._low <= low == high <= self._high]
            return _flags(np.isin(self._values, wanted))
        return reduce(
            lambda found, one: np.logical_or(found, self._between(*one), out=found),
            ranges,
            np.zeros(len(self._values), bool),
        )

    def counts(self, mask: NDArray[np.bool_] | None) -> dict[Value, int]:
        there = self._there() if mask is None else self._there() & mask
        values = self._values[there]
        if self._kind == "date":
            values = values.astype(np.int64) // DAY
        found, counts = _distinct(values)
        if self._kind == "date":
            if len(found) and not _FIRST_DAY <= int(found[0]) <= int(found[-1]) <= _LAST_DAY:
                self._refuse()
            days = found.astype("datetime64[D]").astype(str)
            return dict(zip(days.tolist(), counts.tolist(), strict=True))
        if self._kind == "boolean":
            if len(found) and not 0 <= int(found[0]) <= int(found[-1]) <= 1:
                self._refuse()
            found = found.astype(bool)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    def stored(self, numbers: NDArray[np.int64], most: int) -> Iterator[tuple[int, Stored]]:
        for first in range(0, len(numbers), most):
            values = self._values[numbers[first : first + most]]
            if self._kind != "float":
                values = np.where(values < self._low, LOWEST, values.astype(np.int64))
            yield first, Stored(values)

    def _there(self) -> NDArray[np.bool_]:
        if self._kind == "float":
            return _flags(np.equal(self._values, self._values))
        return _flags(np.greater_equal(self._values, self._values.dtype.type(self._low)))

    def _between(self, low: float, high: float) -> NDArray[np.bool_]:
        """Which values are at least `low` and at most `high`."""
        values, make = self._values, self._values.dtype.type
        low, high = max(low, self._low), min(high, self._high)
        if low > high:
            return np.zeros(len(values), bool)
        if low == high:
            return _flags(np.equal(values, make(low)))
        if high == self._high:
            return _flags(np.greater_equal(values, make(low)))
        found = _flags(np.less_equal(values, make(high)))
        if self._kind == "float" and low == self._low:
            return found  # NaN is not below anything
        found &= np.greater_equal(values, make(low))
        return found

    def _range(self, op: str, value: Value) -> tuple[float, float]:
        """The smallest and the largest number that fulfil a comparison; no number does where they are the wrong way."""
        if self._kind == "date":
            begin, end = span_of(value)
            bounds = {"eq": (begin, end - 1), "gt": (end, inf), "gte": (begin, inf), "lt": (-inf, begin - 1)}
            return bounds.get(op, (-inf, end - 1))
        number = int(value) if isinstance(value, bool) else value
        if isinstance(number, str):
            raise InputError(f"{shown(value)} is not a number")
        if self._kind == "float":
            least, most = _floats_around(number)
            below, above = nextafter(most, -inf), nextafter(least, inf)
            below, above = (below if most == number else most), (above if least == number else least)
        else:
            least, most = ceil(number), floor(number)
            below, above = ceil(number) - 1, floor(number) + 1
        bounds = {"eq": (least, most), "gt": (above, inf), "gte": (least, inf), "lt": (-inf, below)}
        return bounds.get(op, (-inf, most))

    def _refuse(self) -> None:
        raise DamagedArtifactError(
            str(self._file), f"holds values that are not of type {self._kind}; rebuild the index"
        )


def _distinct(values: Array) -> tuple[Array, NDArray[np.int64]]:
    """The distinct values, ascending, and how often each comes; those of narrow types without sorting."""
    if values.dtype.kind != "i" or values.dtype.itemsize > 2 or not len(values):
        return np.unique(values, return_counts=True)
    low = int(values.min())
    counts = np.bincount(values.astype(np.intp) - low)
    found = np.flatnonzero(counts)
    return found + low, counts[found]


def _floats_around(number: float) -> tuple[float, float]:
    """The smallest float that is at least `number`, and the largest that is at most that."""
    near = float(number)
    return (near if near >= number else nextafter(near, inf)), (near if near <= number else nextafter(near, -inf))


class _Dictionary:
    """Distinct strings in bytewise order, which is the order of Python's strings as well."""

    def __init__(self, strings: PackedStore) -> None:
        self._strings = strings

    def __len__(self) -> int:
        return len(self._strings)

    def several(self, codes: NDArray[np.int64]) -> list[str]:
        """The strings with these codes, int64[n], ascending."""
        try:
            return [string.decode() for string in self._strings.several(codes)]
        except UnicodeDecodeError:
            return [self._strings[code] for code in codes.tolist()]  # which names the file

    def counted(self, counts: NDArray[np.int64]) -> dict[Value, int]:
        """The strings with a count, and their counts; `counts` is int64[strings]."""
        found = np.flatnonzero(counts)
        return dict(zip(self.several(found), counts[found].tolist(), strict=True))

    def first(self, fits: Callable[[bytes], bool]) -> int:
        """The first code whose string fits, where all after it do, too; their number where none does."""
        low, high = 0, len(self._strings)
        while low < high:
            middle = (low + high) // 2
            if fits(self._strings.raw(middle)):
                high = middle
            else:
                low = middle + 1
        return low

    def codes(self, values: Iterable[Value]) -> list[int]:
        """The codes of those values that there are, ascending."""
        wanted = {str(value).encode() for value in values}
        size = len(self._strings)
        if len(wanted) * _SCAN > size:
            return [code for code in range(size) if self._strings.raw(code) in wanted]
        found = set()
        for value in wanted:
            code = self.first(value.__le__)
            if code < size and self._strings.raw(code) == value:
                found.add(code)
        return sorted(found)

    def range(self, op: str, value: str) -> tuple[int, int]:
        """The first code that fulfils a comparison, and the first one after those."""
        wanted = value.encode()
        least, above = self.first(wanted.__le__), self.first(wanted.__lt__)
        if op == "prefix":
            size = len(wanted)
            return least, self.first(lambda string: string[:size] > wanted)
        bounds = {"eq": (least, above), "gt": (above, len(self)), "gte": (least, len(self)), "lt": (0, least)}
        return bounds.get(op, (0, above))


class _StringColumn:
    """Texts."""

    def __init__(self, file: Path, strings: PackedStore, dtype: str, passages: int) -> None:
        self._file, self._dictionary = file, _Dictionary(strings)
        self._codes = map_array(file, dtype, (passages,))
        self._missing = int(np.iinfo(self._codes.dtype).max)
        if len(strings) > self._missing:
            raise ValueError(f"{len(strings)} strings do not fit {dtype}")

    @cached_property
    def _values(self) -> Array:
        """The codes, checked once.

        Raises:
            DamagedArtifactError: one has no string.
        """
        wrong = self._codes >= len(self._dictionary)
        if np.count_nonzero(wrong) != np.count_nonzero(self._codes == self._missing):
            raise DamagedArtifactError(str(self._file), "holds codes that no string has; rebuild the index")
        return self._codes

    def mask(self, condition: Where) -> NDArray[np.bool_]:  # noqa: PLR0911  (one a comparison)
        codes, make = self._values, self._codes.dtype.type
        if condition.op == "exists":
            return _flags(np.not_equal(codes, make(self._missing)))
        if condition.op == "in":
            found = self._dictionary.codes(condition.values)
            if len(found) <= _FEW:
                start = np.zeros(len(codes), bool)
                return reduce(lambda made, code: np.logical_or(made, codes == make(code), out=made), found, start)
            table = np.zeros(len(self._dictionary) + 1, bool)
            table[found] = True
            return _flags(table[np.minimum(codes, make(min(len(self._dictionary), self._missing)))])
        if condition.op == "ne":
            first, after = self._dictionary.range("eq", str(condition.values[0]))
            there = _flags(np.not_equal(codes, make(self._missing)))
            return there if first == after else np.logical_and(there, codes != make(first), out=there)
        first, after = self._dictionary.range(condition.op, str(condition.values[0]))
        if first >= after:
            return np.zeros(len(codes), bool)
        if after == first + 1:
            return _flags(np.equal(codes, make(first)))
        made = _flags(np.less(codes, make(after)))
        return made if first == 0 else np.logical_and(made, codes >= make(first), out=made)

    def counts(self, mask: NDArray[np.bool_] | None) -> dict[Value, int]:
        codes = self._values if mask is None else self._values[mask]
        counts = np.bincount(codes[codes != self._missing], minlength=len(self._dictionary))
        return self._dictionary.counted(counts)

    def stored(self, numbers: NDArray[np.int64], most: int) -> Iterator[tuple[int, Stored]]:
        for first in range(0, len(numbers), most):
            codes = self._values[numbers[first : first + most]].astype(np.uint32)
            yield first, Stored(np.where(codes == self._missing, np.uint32(MISSING), codes), self._dictionary.several)


class _ListColumn:
    """Lists of texts."""

    def __init__(
        self, file: Path, strings: PackedStore, starts: Array, rows: NDArray[np.uint32], passages: int
    ) -> None:
        self._file, self._dictionary, self._passages = file, _Dictionary(strings), passages
        self._starts, self._rows = starts, rows

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """int64[codes + 1]: where each code's passages begin, checked once.

        Raises:
            DamagedArtifactError: they do not ascend from 0 to the end, or a passage does not exist.
        """
        bounds = self._starts.astype(np.int64)
        ascends = bool((np.diff(bounds) >= 0).all())
        if bounds[0] != 0 or bounds[-1] != len(self._rows) or not ascends:
            raise DamagedArtifactError(str(self._file), "does not divide the passages by string; rebuild the index")
        if len(self._rows) and int(self._rows.max()) >= self._passages:
            file = self._file.with_suffix(".passages")
            raise DamagedArtifactError(str(file), "names a passage that does not exist; rebuild the index")
        return bounds

    def mask(self, condition: Where) -> NDArray[np.bool_]:
        made = np.zeros(self._passages, bool)
        bounds = self._bounds
        if condition.op == "exists" or (condition.op == "all" and not condition.values):
            made[self._rows] = True
            return made
        codes = self._dictionary.codes(condition.values)
        if condition.op == "any":
            for code in codes:
                made[self._rows[bounds[code] : bounds[code + 1]]] = True
            return made
        if len(codes) < len(set(condition.values)):
            return made
        rows = self._rows[bounds[codes[0]] : bounds[codes[0] + 1]]
        for code in codes[1:]:
            rows = np.intersect1d(rows, self._rows[bounds[code] : bounds[code + 1]], assume_unique=True)
        made[rows] = True
        return made

    def counts(self, mask: NDArray[np.bool_] | None) -> dict[Value, int]:
        bounds = self._bounds
        if mask is None:
            counts = np.diff(bounds)
        else:
            sums = np.zeros(len(self._rows) + 1, np.int64)
            np.cumsum(mask[self._rows], out=sums[1:])
            counts = sums[bounds[1:]] - sums[bounds[:-1]]
        return self._dictionary.counted(counts)

    def stored(self, numbers: NDArray[np.int64], most: int) -> Iterator[tuple[int, Stored]]:
        bounds = self._bounds
        rows = np.full(self._passages, -1, np.int64)
        rows[numbers] = np.arange(len(numbers))
        for first in range(0, len(self._rows), most):
            kept = rows[self._rows[first : first + most]]
            codes = np.searchsorted(bounds, np.arange(first, first + len(kept)), side="right") - 1
            there = kept >= 0
            yield 0, Stored(codes[there].astype(np.uint32), self._dictionary.several, kept[there].astype(np.uint32))
