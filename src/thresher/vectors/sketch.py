"""An upper bound on a dense score from a few bytes, so that most full vectors need not be looked up.

A sketch keeps the first `width` coordinates of a vector in a rotated basis (principal axes, largest first) as int8, and
two lengths: that of what rounding lost, and that of the coordinates left out. With q and v rotated and cut in the
same place, Cauchy-Schwarz gives

    q . v  <=  q1 . s + |q1| * |v1 - s| + |q2| * |v2|

where s is the rounded v1. Both lengths are rounded up, and a margin covers the arithmetic, so that the bound is never
below the score that is computed from the stored vector. The published early stopping (Leonhardt et al., WWW 2022) has
one bound for all passages of a query, the largest dense score there can be; with a bound for each passage, those
that cannot reach the top are known without reading their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.vectors.codecs import close_array, create_array, load_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from thresher.vectors.codecs import Stored

_MARGIN = 1e-5
"""Relative to the product of the lengths: float32 arithmetic of a few hundred terms errs below this."""
_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Sketch:
    """Rounded leading coordinates of vectors.

    Attributes:
        rotation: float32[dimensions, dimensions], orthogonal; columns are the new axes.
        codes: int8[n, width].
        scales: float32[n]: code times scale is a coordinate.
        lengths: float32[n, 2]: of what rounding lost, and of the coordinates left out; rounded up.
    """

    rotation: NDArray[np.float32]
    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    lengths: NDArray[np.float32]

    def bounds(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Upper bounds on the dot products of `query` with the vectors at `rows`, float64[len(rows)]."""
        rotated = query.astype(np.float64) @ self.rotation.astype(np.float64)
        width = self.codes.shape[1]
        head, tail = rotated[:width], rotated[width:]
        approximate = (self.codes[rows].astype(np.float64) @ head) * self.scales[rows]
        lengths = self.lengths[rows].astype(np.float64)
        norm = float(np.linalg.norm(rotated))
        slack: NDArray[np.float64] = lengths @ np.array([np.linalg.norm(head), np.linalg.norm(tail)])
        size = np.abs(approximate) + slack + norm * self._head_lengths(rows)
        return approximate + slack + _MARGIN * (size + norm)

    def _head_lengths(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        head: NDArray[np.float64] = np.linalg.norm(self.codes[rows].astype(np.float64), axis=1) * self.scales[rows]
        return head


def write_sketch(directory: Path, vectors: Stored, width: int, *, sample: int = 20_000, seed: int = 0) -> None:
    """Sketch `vectors`, as they decode from storage, into `sketch_*.npy`.

    Args:
        directory: where the files go.
        vectors: what the bounds are to hold for.
        width: coordinates kept; at most the dimensions.
        sample: vectors from which the principal axes are computed.
        seed: for choosing that sample.
    """
    n, width = len(vectors), min(width, vectors.dimensions)
    chosen = np.arange(n)
    if n > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))
    wide = vectors.decode(chosen).astype(np.float64)
    _, axes = np.linalg.eigh(wide.T @ wide)
    rotation = np.ascontiguousarray(axes[:, ::-1]).astype(np.float32)
    codes = create_array(directory / "sketch_codes.npy", np.int8, (n, width))
    scales, lengths = np.ones(n, np.float32), np.zeros((n, 2), np.float32)
    for low in range(0, n, _CHUNK):
        rows = slice(low, min(low + _CHUNK, n))
        rotated = vectors.decode(np.arange(rows.start, rows.stop)).astype(np.float64) @ rotation.astype(np.float64)
        head, tail = rotated[:, :width], rotated[:, width:]
        largest = np.abs(head).max(axis=1, initial=0.0)
        scales[rows] = np.where(largest > 0, largest / 127.0, 1.0)
        rounded = np.rint(head / scales[rows, None].astype(np.float64))
        codes[rows] = rounded
        lost = head - rounded * scales[rows, None].astype(np.float64)
        both = np.stack([np.linalg.norm(lost, axis=1), np.linalg.norm(tail, axis=1)], axis=1)
        lengths[rows] = np.nextafter((both * (1 + 1e-6)).astype(np.float32), np.float32(np.inf))
    close_array(directory / "sketch_codes.npy", codes)
    for name, array in (("rotation", rotation), ("scales", scales), ("lengths", lengths)):
        np.save(directory / f"sketch_{name}.npy", array, allow_pickle=False)


def open_sketch(directory: Path, n: int, dimensions: int, width: int) -> Sketch:
    """Map what `write_sketch` wrote.

    Raises:
        DamagedArtifactError: an array has another type or shape.
    """

    def array(name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[np.generic]:
        return np.asarray(load_array(directory / f"sketch_{name}.npy", dtype, shape))

    return Sketch(
        rotation=array("rotation", np.float32, (dimensions, dimensions)).astype(np.float32, copy=False),
        codes=array("codes", np.int8, (n, width)).astype(np.int8, copy=False),
        scales=array("scales", np.float32, (n,)).astype(np.float32, copy=False),
        lengths=array("lengths", np.float32, (n, 2)).astype(np.float32, copy=False),
    )
