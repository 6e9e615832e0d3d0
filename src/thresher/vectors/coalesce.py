"""Fewer vectors a document: neighbouring passages that say nearly the same share one.

Algorithm: sequential coalescing (Leonhardt, Rudra, Khosla, Anand, Anand, WWW 2022, arXiv 2110.06051, algorithm 1). A
document's passages are walked in order; a passage whose cosine distance to the mean of the current group is at least
`delta` opens a new group, any other joins it. A group is stored as the mean of its vectors.

Of unit vectors, the mean is scaled back to unit length, so that dot products stay cosines; the paper leaves it as is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def coalesce(
    vectors: NDArray[Any], firsts: NDArray[np.int64], delta: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Join neighbouring vectors within each document.

    Args:
        vectors: float[n, d], a document's passages together and in order.
        firsts: int64[n_documents + 1], where each document's rows start.
        delta: cosine distance from which a passage opens a new group; 0 joins nothing, 2 gives one vector a document.

    Returns:
        The groups' vectors float32[m, d], and where each document's start, int64[n_documents + 1].

    Raises:
        InputError: `delta` is no cosine distance.
    """
    if not 0 <= delta <= 2:
        raise InputError(f"delta is {delta}; a cosine distance lies between 0 and 2")
    groups: list[NDArray[np.float32]] = []
    starts = [0]
    for low, high in pairwise(firsts):
        rows = vectors[low:high].astype(np.float32)
        begin = 0
        total = np.zeros(rows.shape[1], dtype=np.float32)
        for i, row in enumerate(rows):
            if i > begin and _distance(total, row) >= delta:
                groups.append(_centre(rows[begin:i]))
                begin, total = i, np.zeros_like(total)
            total = total + row
        if len(rows):
            groups.append(_centre(rows[begin:]))
        starts.append(len(groups))
    joined = np.stack(groups) if groups else np.zeros((0, vectors.shape[1]), dtype=np.float32)
    return joined, np.array(starts, dtype=np.int64)


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 - float(a @ b) / length if length else 0.0


def _centre(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = rows.mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1)
    length = float(np.linalg.norm(mean))
    unit = bool(np.allclose(lengths, 1.0, atol=1e-2)) and length > 0
    return (mean / np.float32(length)).astype(np.float32) if unit and len(rows) > 1 else mean
