"""Flat arrays in files: written in a stream, opened by memory mapping.

An array file holds the elements alone, little-endian and row after row; type and shape are given by the layout, and
the size of the file must be exactly theirs. Opening touches no element.
"""

from __future__ import annotations

import mmap
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thresher.errors import ArtifactError, DamagedArtifactError

if TYPE_CHECKING:
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
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            if size != wanted:
                problem = f"the file has {size} bytes where the layout needs {wanted}; rebuild the index"
                raise DamagedArtifactError(str(file), problem)
            if size == 0:
                array: Array = np.empty(shape, dtype)
                array.flags.writeable = False
                return array
            mapping = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as err:
        raise DamagedArtifactError(str(file), f"the file cannot be opened ({err}); rebuild the index") from err
    return np.frombuffer(mapping, dtype).reshape(shape)


def create_array(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Array:
    """Make `file` and map it for writing, zeroed. Pages go to disk as the system sees fit, so memory stays bounded."""
    if 0 in shape:
        file.write_bytes(b"")
        return np.empty(shape, dtype)
    return np.memmap(file, dtype=np.dtype(dtype), mode="w+", shape=shape).view(np.ndarray)


def write_array(file: Path, array: Array) -> None:
    """Write `array` to `file`."""
    with file.open("wb") as stream:
        np.ascontiguousarray(array).tofile(stream)
