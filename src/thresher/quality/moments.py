"""Mean and deviation of columns, the same to the last bit however rows are divided and in whatever order they come.

Sums of floats depend on their order. So each float64 is taken as a whole number times a power of two, and sums are
whole numbers without rounding. What float64 rounds away of a square is added as well (Dekker 1971).
"""

from __future__ import annotations

from fractions import Fraction
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_UNIT = 1200
"""Sums are in units of 2^-1200, below the smallest part of any float64."""
_HALF = 26
_SPLIT = 2.0**27 + 1


class Moments:
    """Sums of columns and of their squares.

    Args:
        sums: of each column, in units of 2^-1200.
        squares: likewise, of the squares.
        rows: how many were added.
    """

    def __init__(self, sums: Sequence[int], squares: Sequence[int], rows: int = 0) -> None:
        self.sums, self.squares, self.rows = list(sums), list(squares), rows

    @classmethod
    def none(cls, columns: int) -> Moments:
        """Those of no rows."""
        return cls([0] * columns, [0] * columns)

    def add(self, table: NDArray[np.float64]) -> None:
        """Take in the rows of a table, finite float64[n, columns] below 1e150."""
        for number, column in enumerate(np.asarray(table, np.float64).T):
            square = column * column
            high = column * _SPLIT - (column * _SPLIT - column)
            low = column - high
            rest = ((high * high - square) + 2 * high * low) + low * low
            self.sums[number] += _exact_sum(column)
            self.squares[number] += _exact_sum(square) + _exact_sum(rest)
        self.rows += len(table)

    def merge(self, other: Moments) -> None:
        """Take in the rows of another."""
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        self.rows += other.rows

    def mean_and_scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each column, float64[columns]; 1 for the deviation of a constant column.

        Raises:
            InputError: there are no rows.
        """
        if not self.rows:
            raise InputError("the collection has no passages to standardise features on")
        n, unit = self.rows, 1 << _UNIT
        means = [float(Fraction(total, n * unit)) for total in self.sums]
        variances = [
            Fraction(n * squares * unit - total * total, (n * unit) ** 2)
            for total, squares in zip(self.sums, self.squares, strict=True)
        ]
        deviations = np.array([sqrt(max(float(variance), 0.0)) for variance in variances])
        return np.array(means), np.where(deviations > 1e-9, deviations, 1.0)


def _exact_sum(values: NDArray[np.float64]) -> int:
    """The sum of finite float64[n] in units of 2^-1200."""
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    total = 0
    for exponent in np.unique(exponents).tolist():
        some = whole[exponents == exponent]
        sums = int((some >> _HALF).sum()), int((some & ((1 << _HALF) - 1)).sum())
        total += ((sums[0] << _HALF) + sums[1]) << (exponent - 53 + _UNIT)
    return total
