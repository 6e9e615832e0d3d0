"""How vectors are stored: float16, int8 with one scale a vector, or product-quantised; and sketches that bound them.

- `float16`: 2 bytes a dimension.
- `int8`: a vector's values over its scale (largest magnitude / 127), rounded: 1 byte a dimension and 4 for the scale.
- `pq<m>`: product quantisation (Jégou, Douze, Schmid, TPAMI 2011) trained through faiss: m bytes a vector, each
  the nearest of 256 centroids of one m-th of the dimensions. Decoding is a table look-up and needs no faiss.

A sketch gives an upper bound on a dense score from a few bytes, so that most full vectors need not be looked up. It
keeps the first `width` coordinates of a vector in a rotated basis (principal axes, largest first) as int8, and two
lengths: that of what rounding lost, and that of the coordinates left out. With q and v rotated and cut in the same
place, Cauchy-Schwarz gives

    q . v  <=  q1 . s + |q1| * |v1 - s| + |q2| * |v2|

where s is the rounded v1. Both lengths are rounded up, and a margin covers the arithmetic, so that the bound is never
below the score that is computed from the stored vector. The published early stopping (Leonhardt et al., WWW 2022) has
one bound for all passages of a query, the largest dense score there can be; with a bound for each passage, those
that cannot reach the top are known without reading their vectors.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.lib.format import (
    dtype_to_descr,
    read_array_header_1_0,
    read_array_header_2_0,
    read_magic,
    write_array_header_1_0,
)

from thresher.checks import is_a, shown
from thresher.errors import ConfigError, DamagedArtifactError, InputError, require
from thresher.files import UNREADABLE_ARRAYS
from thresher.mapping import map_file, reserve

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray


CHUNK = 65_536
"""Vectors held in memory at a time."""
CENTROIDS = 256
_HEADER = 65_536
"""What NumPy raises for files that are not arrays: their header is Python source."""
_TRAINED_ON = 256 * CENTROIDS  # vectors; more do not move the centroids of k-means


class Rows(Protocol):
    """Vectors that are read a part at a time."""

    dimensions: int

    def __len__(self) -> int: ...

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.floating]:
        """The vectors of these rows, float[len(numbers), dimensions]."""


class Decoded(Protocol):
    """Vectors that are decoded from what is stored of them."""

    def __len__(self) -> int: ...

    @property
    def dimensions(self) -> int:
        """Dimensions of a decoded vector."""

    def decode(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of `rows`, float32[len(rows), dimensions]."""


class Bounds(Protocol):
    """Upper bounds on dot products, from less than the vectors."""

    def bounds(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Upper bounds on the dot products of `query` with the vectors at `rows`, float64[len(rows)]."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Vectors as they lie on disk.

    Attributes:
        codes: [n, width]: float16 values, int8 values, or uint8 centroid numbers.
        scales: float32[n] for int8, else None.
        codebook: float32[m, 256, dimensions / m] for product quantisation, else None.
    """

    codes: NDArray[np.generic]
    scales: NDArray[np.float32] | None = None
    codebook: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.codes.shape[0])

    @property
    def dimensions(self) -> int:
        """Dimensions of a decoded vector."""
        if self.codebook is None:
            return int(self.codes.shape[1])
        return int(self.codebook.shape[0] * self.codebook.shape[2])

    def decode(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of `rows`, float32[len(rows), dimensions]."""
        codes = self.codes[rows]
        if self.codebook is not None:
            parts = np.arange(self.codebook.shape[0])
            return np.ascontiguousarray(self.codebook[parts, codes].reshape(len(rows), self.dimensions))
        vectors = codes.astype(np.float32)
        return vectors if self.scales is None else vectors * self.scales[rows, None]


def parse_storage(storage: str) -> tuple[str, int]:
    """`("float16" | "int8" | "pq", bytes a vector for pq)` of a storage name.

    Raises:
        ConfigError: the name is unknown.
    """
    text = storage if is_a(storage, str) else ""
    if text in ("float16", "int8"):
        return text, 0
    if text.startswith("pq") and text[2:].isdecimal() and len(text) < 8:
        parts = int(text[2:])
        if parts > 0:
            return "pq", parts
    raise ConfigError(
        f"unknown vector storage {shown(storage)}; use float16, int8, or pq and the bytes a vector, as in pq48"
    )


def write_vectors(
    directory: Path, vectors: Rows, storage: str, *, seed: int = 0, codebook: NDArray[np.float32] | None = None
) -> None:
    """Encode `vectors` into `codes.npy` and, where the storage needs them, `scales.npy` and `codebook.npy`.

    Args:
        directory: where the files go.
        vectors: finite values.
        storage: `float16`, `int8` or `pq<m>`.
        seed: for the k-means of product quantisation.
        codebook: float32[m, 256, dimensions / m] to use for product quantisation; None to train one on these vectors.

    Raises:
        InputError: a value does not fit, or there are too few vectors to train on.
        MissingExtraError: product quantisation without faiss.
    """
    kind, parts = parse_storage(storage)
    n, dimensions = len(vectors), vectors.dimensions
    scales = np.empty(n if kind == "int8" else 0, np.float32)
    if kind != "pq":
        codebook = np.zeros((0, 0, 0), np.float32)
    else:
        codebook = _train_product_quantiser(vectors, parts, seed) if codebook is None else codebook
        np.save(directory / "codebook.npy", codebook, allow_pickle=False)
    dtype = {"float16": np.float16, "int8": np.int8, "pq": np.uint8}[kind]
    codes = create_array(directory / "codes.npy", dtype, (n, parts if kind == "pq" else dimensions))
    for low in range(0, n, CHUNK):
        high = min(low + CHUNK, n)
        chunk = vectors.rows(np.arange(low, high))
        if kind == "float16":
            codes[low:high] = _as_float16(chunk)
        elif kind == "int8":
            codes[low:high], scales[low:high] = _as_int8(chunk)
        else:
            codes[low:high] = _nearest_centroids(chunk, codebook)
    close_array(directory / "codes.npy", codes)
    if kind == "int8":
        np.save(directory / "scales.npy", scales, allow_pickle=False)


def open_vectors(directory: Path, storage: str, n: int, dimensions: int) -> Stored:
    """Map what `write_vectors` wrote, checked against the manifest.

    Raises:
        DamagedArtifactError: an array has another type or shape.
    """
    kind, parts = parse_storage(storage)
    if kind == "pq":
        if dimensions % parts:
            problem = f"{parts} parts do not divide {dimensions} dimensions; rebuild the vectors"
            raise DamagedArtifactError(str(directory / "manifest.json"), problem)
        shape = (parts, CENTROIDS, dimensions // parts)
        return Stored(
            load_array(directory / "codes.npy", np.uint8, (n, parts)),
            codebook=np.asarray(load_array(directory / "codebook.npy", np.float32, shape)),
        )
    if kind == "int8":
        scales = load_array(directory / "scales.npy", np.float32, (n,))
        return Stored(load_array(directory / "codes.npy", np.int8, (n, dimensions)), np.asarray(scales))
    return Stored(load_array(directory / "codes.npy", np.float16, (n, dimensions)))


def create_array(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """A `.npy` file mapped for writing; an array in memory where it has no elements, since such files cannot be mapped.

    Pass it to `close_array` when it is filled.

    Raises:
        OSError: the disk has no room for it.
    """
    kind = np.dtype(dtype)
    if 0 in shape:
        return np.zeros(shape, kind)
    header = io.BytesIO()
    write_array_header_1_0(header, {"descr": dtype_to_descr(kind), "fortran_order": False, "shape": shape})
    reserve(file, header.tell() + math.prod(shape) * kind.itemsize)
    with file.open("r+b") as stream:
        stream.write(header.getvalue())
    return np.memmap(file, kind, "r+", header.tell(), shape)


def close_array(file: Path, array: NDArray[np.generic]) -> None:
    """Write what `create_array` gave to its file."""
    if isinstance(array, np.memmap):
        array.flush()
    else:
        np.save(file, array, allow_pickle=False)


def load_array(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Map a `.npy` file read-only.

    Raises:
        DamagedArtifactError: it cannot be read, or holds another type or shape.
    """
    mapped, wanted = map_file(file), np.dtype(dtype)
    start = io.BytesIO(mapped[:_HEADER])
    try:
        read = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}[read_magic(start)]
        found, by_columns, kind = read(start)
    except UNREADABLE_ARRAYS as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the vectors") from err
    count = math.prod(shape)
    if kind != wanted or found != shape or by_columns or mapped.nbytes != start.tell() + count * wanted.itemsize:
        problem = f"holds {kind}{found} in {mapped.nbytes} bytes, not {wanted}{shape}; rebuild the vectors"
        raise DamagedArtifactError(str(file), problem)
    return np.frombuffer(mapped, wanted, count, start.tell()).reshape(shape) if count else np.zeros(shape, wanted)


def _as_float16(vectors: NDArray[np.floating]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        codes = vectors.astype(np.float16)
    if not np.isfinite(codes).all():
        raise InputError("a value exceeds float16 (65,504); normalise the vectors")
    return codes


def _as_int8(vectors: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    largest = np.abs(vectors.astype(np.float32)).max(axis=1, initial=0.0)
    scales = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.rint(vectors.astype(np.float32) / scales[:, None]).astype(np.int8), scales


def _train_product_quantiser(vectors: Rows, parts: int, seed: int) -> NDArray[np.float32]:
    """Centroids float32[parts, 256, dimensions / parts], from a sample where there are many vectors."""
    faiss = require("faiss", extra="faiss-cpu", purpose="product quantisation")
    n, dimensions = len(vectors), vectors.dimensions
    if dimensions % parts:
        raise InputError(f"pq{parts} needs dimensions divisible by {parts}, but vectors have {dimensions}")
    if n < CENTROIDS:
        raise InputError(f"product quantisation trains {CENTROIDS} centroids and needs as many vectors; there are {n}")
    numbers = np.arange(n)
    if n > _TRAINED_ON:
        numbers = np.sort(np.random.default_rng(seed).choice(n, _TRAINED_ON, replace=False))
    quantiser = faiss.ProductQuantizer(dimensions, parts, 8)
    quantiser.cp.seed = seed
    quantiser.cp.min_points_per_centroid = 1
    quantiser.train(np.ascontiguousarray(vectors.rows(numbers), dtype=np.float32))
    centroids = faiss.vector_to_array(quantiser.centroids).reshape(parts, CENTROIDS, dimensions // parts)
    codebook: NDArray[np.float32] = centroids.astype(np.float32)
    return codebook


def _nearest_centroids(vectors: NDArray[np.floating], codebook: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8[n, parts]: for each part of a vector, the number of the nearest centroid."""
    faiss = require("faiss", extra="faiss-cpu", purpose="product quantisation")
    parts, centroids, width = codebook.shape
    quantiser = faiss.ProductQuantizer(parts * width, parts, centroids.bit_length() - 1)
    faiss.copy_array_to_vector(codebook.ravel(), quantiser.centroids)
    codes: NDArray[np.uint8] = quantiser.compute_codes(np.ascontiguousarray(vectors, dtype=np.float32))
    return codes


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
        return self.at(rows).all_bounds(query)

    def at(self, rows: NDArray[np.int64]) -> Sketch:
        """The sketch of these rows alone."""
        return Sketch(self.rotation, self.codes[rows], self.scales[rows], self.lengths[rows])

    def all_bounds(self, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Upper bounds on the dot products of `query` with every vector, float64[n]."""
        rotated = query.astype(np.float64) @ self.rotation.astype(np.float64)
        codes, width = self.codes.astype(np.float64), self.codes.shape[1]
        head, tail = rotated[:width], rotated[width:]
        approximate = (codes @ head) * self.scales
        norm = float(np.linalg.norm(rotated))
        slack: NDArray[np.float64] = self.lengths.astype(np.float64) @ np.array(
            [np.linalg.norm(head), np.linalg.norm(tail)]
        )
        size = np.abs(approximate) + slack + norm * (np.linalg.norm(codes, axis=1) * self.scales)
        bounds: NDArray[np.float64] = approximate + slack + _MARGIN * (size + norm)
        return bounds


def write_sketch(
    directory: Path,
    vectors: Decoded,
    width: int,
    *,
    sample: int = 20_000,
    seed: int = 0,
    rotation: NDArray[np.float32] | None = None,
) -> None:
    """Sketch `vectors`, as they decode from storage, into `sketch_*.npy`.

    Args:
        directory: where the files go.
        vectors: what the bounds are to hold for.
        width: coordinates kept; at most the dimensions.
        sample: vectors from which the principal axes are computed.
        seed: for choosing that sample.
        rotation: float32[dimensions, dimensions], the axes of another sketch, in place of those of these vectors.
    """
    n, width = len(vectors), min(width, vectors.dimensions)
    if rotation is None:
        rotation = _principal_axes(vectors, sample, seed)
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


def _principal_axes(vectors: Decoded, sample: int, seed: int) -> NDArray[np.float32]:
    """Axes of a sample, float32[dimensions, dimensions], by columns, those of the largest variance first."""
    n = len(vectors)
    chosen = np.arange(n)
    if n > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))
    wide = vectors.decode(chosen).astype(np.float64)
    _, axes = np.linalg.eigh(wide.T @ wide)
    return np.ascontiguousarray(axes[:, ::-1]).astype(np.float32)


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
