"""Dot products of one query with many vectors, the same to the last bit however many are scored together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def best_dots(
    vectors: NDArray[np.float32], query: NDArray[np.float32], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The largest dot product of each group.

    vectors  float32[n, d]      groups one after the other
    query    float32[d]
    starts   int64[groups + 1]  group i has the rows starts[i] to starts[i + 1], at least one

    Sums are float64 in ascending order of dimension, so that a score does not depend on the shape of a batch, as that
    of a matrix product may. O(n * d).
    """
    best = np.empty(len(starts) - 1, dtype=np.float64)
    for group in range(len(starts) - 1):
        largest = -np.inf
        for row in range(starts[group], starts[group + 1]):
            total = 0.0
            for i in range(query.shape[0]):
                total += np.float64(vectors[row, i]) * np.float64(query[i])
            largest = max(largest, total)
        best[group] = largest
    return best
