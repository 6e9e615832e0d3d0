"""Columns of metadata fields: opened by memory mapping, evaluated with numpy; `column_writer` writes them.

A directory holds `columns.json`, which lists the columns, and the files of each, named after its number there. What is
missing has no column (a field that no passage has) or a value that nothing equals.

* Numbers: `N.values`, one a passage. `integer`, `date` (microseconds since 1970 in UTC) and `boolean` have the
  narrowest signed type, whose smallest value means missing; `float` has float64 and NaN.
* `string`: `N.values`, one code a passage in the narrowest unsigned type, whose largest value means missing; and the
  distinct strings in bytewise order, a packed store `N.strings`, so that an order or a prefix is a range of codes.
* `strings`: the store `N.strings`, and by code the passages that have it: `N.passages`, uint32, ascending for each
  code, and `N.starts`, [codes + 1], where each code's passages begin.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import is_a, shown
from thresher.errors import DamagedArtifactError, InputError
from thresher.files import ABSENT
from thresher.index.column_kinds import Column, open_column
from thresher.index.column_writer import COLUMNS
from thresher.index.fields import typed
from thresher.index.filters import check_field

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.fields import Schema, Value
    from thresher.index.filters import Where


class Columns:
    """The columns of the passages of one part of an index. Open them with `Columns.open`.

    Attributes:
        schema: the collection's fields and their types.
        passages: number of passages.
    """

    def __init__(self, schema: Schema, passages: int, columns: dict[str, Column]) -> None:
        self.schema, self.passages = dict(schema), passages
        self._columns = columns

    @classmethod
    def open(cls, directory: Path, schema: Schema, passages: int) -> Columns:
        """Open the columns in `directory` by memory mapping; a field that has none there is missing everywhere.

        Args:
            directory: what `ColumnWriter` wrote; it may be absent, which means that no passage has a field.
            schema: the collection's.
            passages: number of passages.

        Raises:
            DamagedArtifactError: a file is missing, of the wrong size, or says what no writer writes; names it.
        """
        file = directory / COLUMNS
        if not directory.is_dir():
            return cls(schema, passages, {})
        try:
            document = json.loads(file.read_bytes())
            entries = document["columns"]
            if document["passages"] != passages or not isinstance(entries, list):
                raise ValueError(f"it is for {shown(document['passages'])} passages, not {passages}")
            wanted = typed(schema)
            columns = {
                entry["name"]: open_column(directory, str(number), entry, passages)
                for number, entry in enumerate(entries)
                if wanted.get(entry["name"]) == entry["type"]
            }
        except (*ABSENT, ValueError, KeyError, TypeError, OverflowError, RecursionError) as err:
            raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the index") from err
        return cls(schema, passages, columns)

    def column(self, field: str) -> Column | None:
        """The column of a field; None where no passage has the field."""
        return self._columns.get(field)

    def mask(self, where: Where) -> NDArray[np.bool_]:
        """bool[passages]: which passages the filter allows, by number; a fresh array.

        Raises:
            InputError: a field does not exist, or is compared with a value of another type.
            DamagedArtifactError: a column holds what no writer writes.
        """
        where.check(self.schema)
        return self._evaluate(where)

    def counts(self, field: str, mask: NDArray[np.bool_] | None = None) -> dict[Value, int]:
        """How many passages have each value of a field, the most frequent values first; sum them over parts.

        Args:
            field: its name.
            mask: bool[passages], which passages to count; default: all.

        Returns:
            Counts by value: str, int, float or bool. Dates are counted by day in UTC, as ISO 8601 text (`2024-05-01`).
            Of a field with lists, a passage counts once for each of its values. Missing values are not counted.

        Raises:
            InputError: there is no such field, or it has no column, or the mask has another shape.
            DamagedArtifactError: the column holds what no writer writes.
        """
        check_field(field, self.schema)
        if mask is not None and (not is_a(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.passages,)):
            raise InputError(f"the mask must be an array of {self.passages} flags; got {shown(mask)}")
        column = self._columns.get(field)
        found = {} if column is None else column.counts(mask)
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    def _evaluate(self, where: Where) -> NDArray[np.bool_]:
        if where.op == "not":
            inner = self._evaluate(where.parts[0])
            return np.logical_not(inner, out=inner)
        if where.op in ("and", "or"):
            found = self._evaluate(where.parts[0])
            for part in where.parts[1:]:
                if where.op == "and":
                    if not found.any():
                        break
                    found &= self._evaluate(part)
                else:
                    if found.all():
                        break
                    found |= self._evaluate(part)
            return found
        column = self._columns.get(where.field)
        return np.zeros(self.passages, bool) if column is None else column.mask(where)
