"""Writing the columns of metadata fields in a stream; `thresher.index.columns` describes the files.

Values leave memory as passages come. Distinct strings get numbers in runs of bounded size; at the end the sorted runs
are merged into one dictionary, and the numbers become places in it.
"""

from __future__ import annotations

import heapq
import json
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from thresher.errors import InputError
from thresher.index.arrays import PackedWriter, StringStore, StringWriter, create_array, write_array
from thresher.index.fields import column_value, typed, wrong_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.columns import Columns
    from thresher.index.fields import ColumnValue, Schema
    from thresher.records import Passage

    Values: TypeAlias = Sequence[ColumnValue | None]
    Entry: TypeAlias = dict[str, int | str]
    """What `columns.json` says of a column."""

COLUMNS = "columns.json"
MISSING = 2**32 - 1
"""In place of a string's number."""
_RUN, _RUN_CHARACTERS = 2**17, 2**26
"""Distinct strings of a run, and their characters."""
_CHUNK, _TAKEN = 2**18, 2**16
"""Numbers read or written at a time, and values whose strings are looked up at a time."""
_GATHERED = 2048
"""Strings that gather before they are written."""
_SIGNED = ("int8", "int16", "int32", "int64")
_UNSIGNED = ("uint8", "uint16", "uint32")
LOWEST = -(2**63)
"""In place of a whole number."""


class Stored(NamedTuple):
    """What a column holds of some passages.

    Attributes:
        values: int64 or float64, as `ColumnWriter` spools numbers; or uint32, numbers of strings.
        strings: gives the strings with these numbers, int64[n], ascending.
        rows: of lists, uint32: which passage each value belongs to, from 0; ascending for each string.
    """

    values: Array
    strings: Callable[[NDArray[np.int64]], list[str]] = lambda _: []
    rows: Array = np.zeros(0, np.uint32)


class ColumnWriter:
    """Writes the columns of some passages.

    Args:
        directory: where the files go; made when the first value comes, so that passages without metadata have none.
        schema: type by field; fields that no passage has get no column.
    """

    def __init__(self, directory: Path, schema: Schema) -> None:
        self._directory = directory
        self._kinds = typed(schema)
        self._columns: dict[str, _Numbers | _Strings | _Lists] = {}
        self._passages = 0

    def add(self, passages: Sequence[Passage]) -> None:
        """Append the fields of `passages`, which follow those added before.

        Raises:
            InputError: a value is not of its field's type; names docno and field.
        """
        present = {name for passage in passages for name in passage.metadata} if self._kinds else set()
        for name, kind in self._kinds.items():
            if name in present:
                values = _converted(name, kind, passages)
                if name not in self._columns and any(value is not None for value in values):
                    self._columns[name] = self._new(kind)
                if name in self._columns:
                    self._columns[name].extend(self._passages, values)
        self._passages += len(passages)

    def add_columns(self, columns: Columns, numbers: NDArray[np.int64]) -> None:
        """Append the fields of passages that have columns already, as a merge does; no metadata is read.

        Args:
            columns: of some passages.
            numbers: int64[n], ascending: which of them, by number.
        """
        for name, kind in self._kinds.items():
            column = columns.column(name)
            if column is not None:
                if name not in self._columns:
                    self._columns[name] = self._new(kind)
                for at, stored in column.stored(numbers, _TAKEN):
                    self._columns[name].take(self._passages + at, stored)
        self._passages += len(numbers)

    def close(self) -> dict[str, int]:
        """Write what remains; returns the bytes of each file, by name with the directory's."""
        if not self._columns:
            return {}
        entries = [
            {"name": name, "type": self._kinds[name], **self._columns[name].close(self._passages)}
            for name in self._columns
        ]
        document = {"passages": self._passages, "columns": entries}
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (self._directory / COLUMNS).write_text(text, encoding="utf-8")
        files = sorted(self._directory.iterdir())
        return {f"{self._directory.name}/{file.name}": file.stat().st_size for file in files}

    def _new(self, kind: str) -> _Numbers | _Strings | _Lists:
        self._directory.mkdir(parents=True, exist_ok=True)
        place = self._directory, str(len(self._columns))
        if kind == "string":
            return _Strings(*place)
        return _Lists(*place) if kind == "strings" else _Numbers(*place, whole=kind != "float")


def _converted(name: str, kind: str, passages: Sequence[Passage]) -> Values:
    made: list[ColumnValue | None] = []
    for passage in passages:
        value = passage.metadata.get(name)
        try:
            made.append(None if value is None else column_value(kind, value))
        except ValueError as err:
            raise InputError(wrong_value(passage.docno, name, value, kind, err)) from None
    return made


class _Spool:
    """Numbers of one type appended to a file, and read again a chunk at a time. No descriptor stays open."""

    def __init__(self, file: Path, dtype: type[np.generic]) -> None:
        self.file, self.dtype = file, dtype
        self.count = 0

    def extend(self, values: Array) -> None:
        with self.file.open("ab") as stream:
            values.astype(self.dtype, copy=False).tofile(stream)
        self.count += len(values)

    def pad(self, count: int, value: float) -> None:
        """Append `value` until there are `count`."""
        while self.count < count:
            self.extend(np.full(min(count - self.count, _CHUNK), value, self.dtype))

    def read(self, first: int, count: int) -> Array:
        """At most `count` numbers from number `first` on."""
        return np.fromfile(self.file, self.dtype, count, offset=first * np.dtype(self.dtype).itemsize)

    def chunks(self) -> Iterator[tuple[int, Array]]:
        """Where each chunk begins, and the chunk."""
        for first in range(0, self.count, _CHUNK):
            yield first, self.read(first, _CHUNK)

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)


class _Numbers:
    """The column of a field of integers, dates, flags or floats."""

    def __init__(self, directory: Path, number: str, *, whole: bool) -> None:
        self._file = directory / f"{number}.values"
        self._whole = whole
        self._missing = LOWEST if whole else np.nan
        self._spool = _Spool(directory / f"{number}.spool", np.int64 if whole else np.float64)
        self._low, self._high = 0, 0

    def extend(self, start: int, values: Values) -> None:
        self._spool.pad(start, self._missing)
        self._append(np.array([self._missing if value is None else value for value in values], self._spool.dtype))

    def take(self, start: int, stored: Stored) -> None:
        self._spool.pad(start, self._missing)
        self._append(stored.values)

    def _append(self, array: Array) -> None:
        """Append int64 or float64 values."""
        if self._whole:
            there = array[array != LOWEST]
            self._low = min(self._low, int(there.min(initial=0)))
            self._high = max(self._high, int(there.max(initial=0)))
        self._spool.extend(array)

    def close(self, passages: int) -> Entry:
        self._spool.pad(passages, self._missing)
        dtype, missing = "float64", 0
        if self._whole:
            dtype = next(
                name for name in _SIGNED if np.iinfo(name).min < self._low and self._high <= np.iinfo(name).max
            )
            missing = np.iinfo(dtype).min
        made = create_array(self._file, dtype, (passages,))
        for at, part in self._spool.chunks():
            made[at : at + len(part)] = np.where(part == LOWEST, missing, part) if self._whole else part
        self._spool.remove()
        return {"dtype": dtype}


class _Dictionary:
    """Distinct strings: numbered in runs as they come, and at the end by their place in bytewise order."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._numbers: dict[str, int] = {}
        self._characters = 0
        self._runs: list[int] = []  # strings of each run

    def number(self, string: str) -> int:
        """The string's number in the present run."""
        found = self._numbers.get(string)
        if found is None:
            found = self._numbers[string] = len(self._numbers)
            self._characters += len(string)
        return found

    def is_full(self) -> bool:
        """Whether the present run should end."""
        return len(self._numbers) >= _RUN or self._characters >= _RUN_CHARACTERS

    def end_run(self) -> None:
        """Sort the strings of the present run and begin the next one."""
        run = self._part(len(self._runs))
        encoded = [string.encode() for string in self._numbers]
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        ranks = np.empty(len(order), np.uint32)
        ranks[order] = np.arange(len(order), dtype=np.uint32)
        write_array(self._directory / f"{run}.ranks", ranks)
        writer = StringWriter(self._directory, run)
        writer.extend(encoded[at] for at in order)
        writer.close()
        self._runs.append(len(order))
        self._numbers, self._characters = {}, 0

    def close(self) -> int:
        """Write the dictionary; returns the number of strings. Then `places` answers."""
        places = [
            create_array(self._directory / f"{self._part(run)}.places", np.uint32, (size,))
            for run, size in enumerate(self._runs)
        ]
        writer = PackedWriter(self._directory, self._name)
        count, last = 0, None
        waiting: list[bytes] = []
        for string, run, at in heapq.merge(*(self._sorted(run) for run in range(len(self._runs)))):
            if string != last:
                waiting.append(string)
                count, last = count + 1, string
                if not count % _GATHERED:
                    writer.extend(waiting)
                    waiting.clear()
            places[run][at] = count - 1
        writer.extend(waiting)
        writer.close()
        return count

    def places(self, run: int) -> NDArray[np.uint32]:
        """uint32[strings of the run]: place in the dictionary, by number in the run."""
        part = self._part(run)
        places = np.fromfile(self._directory / f"{part}.places", np.uint32)
        return places[np.fromfile(self._directory / f"{part}.ranks", np.uint32)]

    def remove(self) -> None:
        for run in range(len(self._runs)):
            for file in self._directory.glob(f"{self._part(run)}.*"):
                file.unlink()

    def _sorted(self, run: int) -> Iterator[tuple[bytes, int, int]]:
        store = StringStore(self._directory, self._part(run), self._runs[run])
        return ((store.raw(at), run, at) for at in range(len(store)))

    def _part(self, run: int) -> str:
        return f"{self._name}.run-{run}"


class _Strings:
    """The column of a field of texts."""

    def __init__(self, directory: Path, number: str) -> None:
        self._file = directory / f"{number}.values"
        self._spool = _Spool(directory / f"{number}.spool", np.uint32)
        self._dictionary = _Dictionary(directory, f"{number}.strings")
        self._ends: list[int] = []  # passages before the end of each run

    def extend(self, start: int, values: Values) -> None:
        self._spool.pad(start, MISSING)
        number = self._dictionary.number
        numbers = [number(value) if isinstance(value, str) else MISSING for value in values]
        self._spool.extend(np.array(numbers, np.uint32))
        if self._dictionary.is_full():
            self._end_run()

    def take(self, start: int, stored: Stored) -> None:
        self._spool.pad(start, MISSING)
        codes = stored.values.copy()
        there = codes != MISSING
        codes[there] = _renumbered(codes[there], stored.strings, self._dictionary)
        self._spool.extend(codes)
        if self._dictionary.is_full():
            self._end_run()

    def _end_run(self) -> None:
        self._dictionary.end_run()
        self._ends.append(self._spool.count)

    def close(self, passages: int) -> Entry:
        self._spool.pad(passages, MISSING)
        self._end_run()
        count = self._dictionary.close()
        dtype = next(name for name in _UNSIGNED if count <= np.iinfo(name).max)
        made = create_array(self._file, dtype, (passages,))
        for first, codes in _translated(self._spool, self._dictionary, self._ends):
            made[first : first + len(codes)] = np.where(codes == MISSING, np.iinfo(dtype).max, codes)
        self._spool.remove()
        self._dictionary.remove()
        return {"dtype": dtype, "strings": count}


class _Lists:
    """The column of a field of lists of texts."""

    def __init__(self, directory: Path, number: str) -> None:
        self._directory, self._number = directory, number
        self._strings = _Spool(directory / f"{number}.spool", np.uint32)
        self._passages = _Spool(directory / f"{number}.rows", np.uint32)
        self._dictionary = _Dictionary(directory, f"{number}.strings")
        self._ends: list[int] = []  # entries before the end of each run

    def extend(self, start: int, values: Values) -> None:
        number = self._dictionary.number
        rows: list[int] = []
        numbers: list[int] = []
        for row, value in enumerate(values, start):
            if isinstance(value, tuple):
                rows += [row] * len(value)
                numbers += map(number, value)
        self._passages.extend(np.array(rows, np.uint32))
        self._strings.extend(np.array(numbers, np.uint32))
        if self._dictionary.is_full():
            self._end_run()

    def take(self, start: int, stored: Stored) -> None:
        self._strings.extend(_renumbered(stored.values, stored.strings, self._dictionary))
        self._passages.extend(stored.rows + start)
        if self._dictionary.is_full():
            self._end_run()

    def _end_run(self) -> None:
        self._dictionary.end_run()
        self._ends.append(self._strings.count)

    def close(self, passages: int) -> Entry:
        self._end_run()
        count, entries = self._dictionary.close(), self._strings.count
        starts = np.zeros(count + 1, np.int64)
        for _, codes in _translated(self._strings, self._dictionary, self._ends):
            starts[1:] += np.bincount(codes, minlength=count)
        np.cumsum(starts, out=starts)
        write_array(
            self._directory / f"{self._number}.starts", starts.astype(np.uint32 if entries < 2**32 else np.int64)
        )
        made = create_array(self._directory / f"{self._number}.passages", np.uint32, (entries,))
        rows = np.memmap(self._passages.file, np.uint32, "r") if entries else np.zeros(0, np.uint32)
        free = starts[:-1]
        for first, codes in _translated(self._strings, self._dictionary, self._ends):
            order = np.argsort(codes, kind="stable")
            ordered = codes[order]
            groups, begins, sizes = np.unique(ordered, return_index=True, return_counts=True)
            within = np.arange(len(ordered)) - np.repeat(begins, sizes)
            made[free[ordered] + within] = rows[first + order]
            free[groups] += sizes
        for spool in (self._strings, self._passages):
            spool.remove()
        self._dictionary.remove()
        return {"strings": count, "entries": entries}


def _renumbered(
    codes: Array, strings: Callable[[NDArray[np.int64]], list[str]], dictionary: _Dictionary
) -> NDArray[np.uint32]:
    """The numbers that a dictionary gives the strings with these codes in another one."""
    found, at = np.unique(codes, return_inverse=True)
    numbers = np.array(list(map(dictionary.number, strings(found.astype(np.int64)))), np.uint32)
    return np.asarray(numbers[at], np.uint32)


def _translated(spool: _Spool, dictionary: _Dictionary, ends: list[int]) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """The spooled numbers as places in the dictionary, a part of one run at a time: where it begins, and the part."""
    for run, (low, high) in enumerate(pairwise([0, *ends])):
        places = dictionary.places(run)
        for first in range(low, high, _CHUNK):
            codes = spool.read(first, min(_CHUNK, high - first))
            there = codes != MISSING
            codes[there] = places[codes[there]]
            yield first, codes
