"""Weights as impacts: quantised to 8 or 16 bits linearly (Anh, de Kretser and Moffat, SIGIR 2001).

An impact is a weight divided by the scale and rounded, from 1 to 255 or 65,535. The scale is the largest weight of the
collection divided by the largest impact, so impact times scale is within half a scale of the weight. A positive weight
has an impact of at least 1: rounding never drops a posting, so a passage with a positive score keeps one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bits = Literal[8, 16]


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
