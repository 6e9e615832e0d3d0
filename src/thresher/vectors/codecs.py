"""How the vectors of a forward index are stored: float16, int8 with a scale a vector, or product-quantised.

- `float16`: 2 bytes a dimension.
- `int8`: a vector's values over its scale (largest magnitude / 127), rounded: 1 byte a dimension and 4 for the scale.
- `pq<m>`: product quantisation (Jégou, Douze, Schmid, TPAMI 2011) trained through faiss: m bytes a vector, each
  the nearest of 256 centroids of one m-th of the dimensions. Decoding is a table look-up and needs no faiss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, DamagedArtifactError, InputError, require

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_CENTROIDS = 256


@dataclass(frozen=True, slots=True)
class Stored:
    """Vectors as they lie on disk.

    Attributes:
        codes: [n, width]: float16 values, int8 values, or uint8 centroid numbers.
        scales: float32[n] for int8, else None.
        codebook: float32[m, 256, dimensions / m] for product quantisation, else None.
    """

    codes: NDArray[Any]
    scales: NDArray[np.float32] | None = None
    codebook: NDArray[np.float32] | None = None

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
            return np.ascontiguousarray(self.codebook[parts, codes].reshape(len(rows), -1))
        vectors = codes.astype(np.float32)
        return vectors if self.scales is None else vectors * self.scales[rows, None]

    def save(self, directory: Path) -> None:
        """Write the arrays as `.npy` files."""
        for name, array in (("codes", self.codes), ("scales", self.scales), ("codebook", self.codebook)):
            if array is not None:
                np.save(directory / f"{name}.npy", array, allow_pickle=False)


def parse_storage(storage: str) -> tuple[str, int]:
    """`("float16" | "int8" | "pq", bytes a vector for pq)` of a storage name.

    Raises:
        ConfigError: the name is unknown.
    """
    if storage in ("float16", "int8"):
        return storage, 0
    if storage.startswith("pq") and storage[2:].isdigit() and int(storage[2:]) > 0:
        return "pq", int(storage[2:])
    raise ConfigError(
        f"unknown vector storage {storage!r}; use float16, int8, or pq and the bytes a vector, as in pq48"
    )


def encode_vectors(vectors: NDArray[Any], storage: str, *, seed: int = 0) -> Stored:
    """Store float vectors [n, dimensions].

    Args:
        vectors: finite values.
        storage: `float16`, `int8` or `pq<m>`.
        seed: of the k-means of product quantisation.

    Raises:
        InputError: a value is not finite or does not fit, or there are too few vectors to train on.
        MissingExtraError: product quantisation without faiss.
    """
    kind, parts = parse_storage(storage)
    if vectors.ndim != 2:
        raise InputError(f"vectors have the shape {vectors.shape}; one row a passage is expected")
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InputError(f"vector {row} holds a value that is not finite; encode it again")
    if kind == "float16":
        codes = vectors.astype(np.float16)
        if not np.isfinite(codes).all():
            raise InputError("a value exceeds float16 (65,504); normalise the vectors")
        return Stored(codes)
    if kind == "int8":
        largest = np.abs(vectors.astype(np.float32)).max(axis=1, initial=0.0)
        scales = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
        return Stored(np.rint(vectors.astype(np.float32) / scales[:, None]).astype(np.int8), scales)
    return _product_quantise(np.ascontiguousarray(vectors, dtype=np.float32), parts, seed)


def open_vectors(directory: Path, storage: str, n: int, dimensions: int) -> Stored:
    """Map the arrays that `Stored.save` wrote, checked against what the manifest says.

    Raises:
        DamagedArtifactError: an array has another type or shape.
    """
    kind, parts = parse_storage(storage)
    if kind == "pq":
        shape = (parts, _CENTROIDS, dimensions // parts)
        return Stored(
            load_array(directory / "codes.npy", np.uint8, (n, parts)),
            codebook=np.asarray(load_array(directory / "codebook.npy", np.float32, shape)),
        )
    if kind == "int8":
        scales = load_array(directory / "scales.npy", np.float32, (n,))
        return Stored(load_array(directory / "codes.npy", np.int8, (n, dimensions)), np.asarray(scales))
    return Stored(load_array(directory / "codes.npy", np.float16, (n, dimensions)))


def load_array(file: Path, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a `.npy` file read-only.

    Raises:
        DamagedArtifactError: it cannot be read, or holds another type or shape.
    """
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r" if 0 not in shape else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the forward index") from err
    if array.dtype != dtype or array.shape != shape:
        raise DamagedArtifactError(
            str(file), f"holds {array.dtype}{array.shape}, not {np.dtype(dtype)}{shape}; rebuild the forward index"
        )
    return array


def _product_quantise(vectors: NDArray[np.float32], parts: int, seed: int) -> Stored:
    faiss: Any = require("faiss", extra="faiss-cpu", purpose="product quantisation")
    n, dimensions = vectors.shape
    if dimensions % parts:
        raise InputError(f"pq{parts} needs dimensions divisible by {parts}, but vectors have {dimensions}")
    if n < _CENTROIDS:
        raise InputError(f"product quantisation trains {_CENTROIDS} centroids and needs as many vectors; there are {n}")
    quantiser = faiss.ProductQuantizer(dimensions, parts, 8)
    quantiser.cp.seed = seed
    quantiser.cp.min_points_per_centroid = 1
    quantiser.train(vectors)
    codebook = faiss.vector_to_array(quantiser.centroids).reshape(parts, _CENTROIDS, dimensions // parts)
    return Stored(quantiser.compute_codes(vectors), codebook=codebook.astype(np.float32))
