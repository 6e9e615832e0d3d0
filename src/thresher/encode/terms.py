"""What an index stores of its terms: their strings, sorted, and their weights, quantised.

A vocabulary is sorted: term ids are ranks in bytewise order, so a term is found by binary search in a mapped file.
Opening reads neither file, so a million terms cost no more than ten. `vocabulary.bytes` is the UTF-8 of all terms in
order, and `vocabulary.offsets` their starts, int64[n + 1], little-endian.

Weights become 8 or 16 bits linearly (uniform quantisation: Anh, de Kretser and Moffat, SIGIR 2001). An impact is a
weight divided by the scale and rounded, from 1 to 255 or 65,535. The scale is the largest weight of the collection
divided by the largest impact, so impact times scale is within half a scale of the weight. A positive weight has an
impact of at least 1: rounding never drops a posting, so a passage with a positive score keeps one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, overload

import numpy as np

from thresher.artifact import map_file
from thresher.errors import ConfigError, DamagedArtifactError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

Bits = Literal[8, 16]
Item = TypeVar("Item", bound=np.generic)
_BYTES, _OFFSETS = "vocabulary.bytes", "vocabulary.offsets"


def write_vocabulary(directory: Path, terms: Iterable[str]) -> None:
    """Write `terms`, which ascend by code point, into `directory`."""
    encoded = [term.encode() for term in terms]
    offsets = np.zeros(len(encoded) + 1, dtype="<i8")
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    (directory / _BYTES).write_bytes(b"".join(encoded))
    offsets.tofile(directory / _OFFSETS)


class SortedVocabulary(Sequence[str]):
    """The terms that `write_vocabulary` wrote to a directory, looked up in the mapped files.

    Args:
        directory: holds the two files.
        count: number of terms.

    Raises:
        DamagedArtifactError: a file is missing or has the wrong size.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self._file, self._offsets_file = directory / _BYTES, directory / _OFFSETS
        self._offsets: NDArray[np.int64] = _map(self._offsets_file, np.dtype("<i8"))
        if len(self._offsets) != count + 1:
            problem = f"holds {len(self._offsets)} offsets, expected {count + 1}; rebuild the index"
            raise DamagedArtifactError(str(self._offsets_file), problem)
        self._bytes: NDArray[np.uint8] = _map(self._file, np.dtype("|u1"))
        if self._offsets[0] != 0 or self._offsets[-1] != len(self._bytes):
            problem = f"has {len(self._bytes)} bytes, but its offsets end at {self._offsets[-1]}; rebuild the index"
            raise DamagedArtifactError(str(self._file), problem)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[at] for at in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        try:
            return self._raw(number % len(self)).decode()
        except UnicodeDecodeError as err:
            problem = f"entry {number} is not UTF-8 ({err.reason}); rebuild the index"
            raise DamagedArtifactError(str(self._file), problem) from err

    def find(self, term: str) -> int:
        """The id of `term`, -1 if it is not in the vocabulary. O(log n) reads of the mapped file."""
        try:
            wanted = term.encode()
        except UnicodeEncodeError:  # a lone surrogate is not in any vocabulary
            return -1
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self._raw(low) == wanted else -1

    def _raw(self, number: int) -> bytes:
        start, end = int(self._offsets[number]), int(self._offsets[number + 1])
        if not 0 <= start <= end <= len(self._bytes):
            problem = f"entry {number} spans bytes {start} to {end} of {len(self._bytes)}; rebuild the index"
            raise DamagedArtifactError(str(self._offsets_file), problem)
        return self._bytes[start:end].tobytes()


def _map(file: Path, dtype: np.dtype[Item]) -> NDArray[Item]:
    """A read-only array over `file`, which may be empty."""
    mapped = map_file(file)
    if mapped.nbytes % dtype.itemsize:
        raise DamagedArtifactError(str(file), f"has {mapped.nbytes} bytes, which are not whole numbers; rebuild it")
    return np.frombuffer(mapped, dtype) if mapped.nbytes else np.empty(0, dtype)


@dataclass(frozen=True, slots=True)
class LinearScale:
    """The conversion of weights to impacts and back.

    Attributes:
        scale: weight of impact 1; positive and finite.
        bits: 8 or 16.
    """

    scale: float
    bits: Bits = 8

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise ConfigError(f"bits is {self.bits!r}; weights are quantised to 8 or 16 bits")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"scale {self.scale!r} is not a positive finite number")

    @property
    def largest(self) -> int:
        """The largest impact: 255 or 65,535."""
        return (1 << self.bits) - 1

    def quantize(self, weights: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Impacts of weights, uint8[n] or uint16[n].

        Args:
            weights: float32[n], positive; weights above `largest * scale` get the largest impact.

        Raises:
            InputError: a weight is not positive or not finite.
        """
        if len(weights) and not (np.isfinite(weights).all() and weights.min() > 0):
            at = int(np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))[0])
            raise InputError(f"weight {weights[at]!r} at position {at} is not a positive finite number")
        impacts: NDArray[np.float64] = np.clip(np.rint(weights.astype(np.float64) / self.scale), 1, self.largest)
        return impacts.astype(np.uint8) if self.bits == 8 else impacts.astype(np.uint16)

    def restore(self, impacts: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.float32]:
        """The weights of impacts, float32[n]."""
        return (impacts.astype(np.float64) * self.scale).astype(np.float32)


def fit_scale(largest_weight: float, bits: Bits = 8) -> LinearScale:
    """The scale that maps `largest_weight` to the largest impact; 1 for a collection without weights (0).

    Raises:
        ConfigError: `bits` is neither 8 nor 16.
        InputError: the weight is negative or not finite.
    """
    if bits not in (8, 16):
        raise ConfigError(f"bits is {bits!r}; weights are quantised to 8 or 16 bits")
    if largest_weight == 0:
        return LinearScale(1.0, bits)
    return LinearScale(float(largest_weight) / ((1 << bits) - 1), bits)
