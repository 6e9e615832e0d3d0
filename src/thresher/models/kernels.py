"""Compiled loops of the int8 forward pass: everything between two integer matrix products, in one pass over a row.

A row of activations is stored as int8 with one scale of its own, and its largest number beside it, exactly: the states
of a BERT have one number far beyond the others, which would leave those a few steps of the scale only (LLM.int8() keeps
whole columns; Dettmers and others, NeurIPS 2022, arXiv 2208.07339). A matrix of weights is stored as int8 with a scale
for each output. The product of the two is an exact integer, and every other number of a row is computed from that row
alone, so that a text's states do not depend on what else is in the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rows(NamedTuple):
    """Activations in int8: the value is `numbers * scales[:, None]`, but for the largest of each row.

    Attributes:
        numbers: int8[n or more, width], 0 in place of the largest; rows from n on are padding.
        scales: float32[n or more].
        largest: float32[n or more].
        places: int32[n or more], where in its row the largest is.
    """

    numbers: NDArray[np.int8]
    scales: NDArray[np.float32]
    largest: NDArray[np.float32]
    places: NDArray[np.int32]


class Weights(NamedTuple):
    """A linear map in int8.

    Attributes:
        columns: int8[inputs, outputs].
        scales: float32[outputs].
        bias: float32[outputs].
    """

    columns: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.float32]


class Norm(NamedTuple):
    """A layer normalisation.

    Attributes:
        weight: float32[width].
        bias: float32[width].
        epsilon: added to the variance.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    epsilon: np.float32


@njit(nogil=True, cache=True)
def _peak(bits: NDArray[np.int32]) -> np.int32:
    """The largest magnitude of float32 numbers, all as their bits.

    Numbers without their sign are in the order of their bits, and the maximum of integers is compiled to vector
    instructions; that of floating numbers is not.
    """
    peak = np.int32(0)
    for j in range(len(bits)):
        peak = max(peak, np.int32(bits[j] & np.int32(0x7FFFFFFF)))
    return peak


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def store(row: NDArray[np.float32], into: Rows, at: int) -> None:
    """Store float32[width] as row `at`."""
    width = len(row)
    bits = row.view(np.int32)
    peak = _peak(bits)
    place = np.int32(width - 1)
    for j in range(width):
        place = min(place, np.int32(j) if bits[j] & np.int32(0x7FFFFFFF) == peak else np.int32(width - 1))
    largest, row[place] = row[place], np.float32(0.0)
    bits[place] = _peak(bits)
    step = max(row[place], np.float32(1e-20))
    row[place] = np.float32(0.0)
    inverse = np.float32(127.0) / step
    numbers = into.numbers[at]
    for j in range(width):
        numbers[j] = np.int8(np.int32(np.rint(row[j] * inverse)))
    row[place] = largest
    into.scales[at], into.largest[at], into.places[at] = step / np.float32(127.0), largest, place


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def quantise(states: NDArray[np.float32], into: Rows, first: int) -> None:
    """Store float32[n, width] as the rows from `first` on."""
    for i in range(len(states)):
        store(states[i], into, first + i)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def spread(sums: NDArray[np.int32], rows: Rows, weights: Weights, first: int, out: NDArray[np.float32]) -> None:
    """The linear map of n rows from the one numbered `first`, float32[n, outputs], from the integer product."""
    for i in range(len(out)):
        at = first + i
        scale, largest, column = rows.scales[at], rows.largest[at], weights.columns[rows.places[at]]
        mine, row = sums[at], out[i]
        for j in range(len(row)):
            value = np.float32(mine[j]) * scale + np.float32(column[j]) * largest
            row[j] = value * weights.scales[j] + weights.bias[j]


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def settle(
    sums: NDArray[np.int32], rows: Rows, weights: Weights, states: NDArray[np.float32], norm: Norm, into: Rows
) -> None:
    """Add the linear map of n rows to `states` float32[n, width], normalise them in place, store them in int8 too."""
    n, width = states.shape
    for i in range(n):
        scale, largest, column = rows.scales[i], rows.largest[i], weights.columns[rows.places[i]]
        mine, row = sums[i], states[i]
        total = np.float32(0.0)
        for j in range(width):
            value = np.float32(mine[j]) * scale + np.float32(column[j]) * largest
            row[j] += value * weights.scales[j] + weights.bias[j]
            total += row[j]
        mean = total / np.float32(width)
        square = np.float32(0.0)
        for j in range(width):
            square += (row[j] - mean) * (row[j] - mean)
        factor = np.float32(1.0) / np.sqrt(square / np.float32(width) + norm.epsilon)
        for j in range(width):
            row[j] = (row[j] - mean) * factor * norm.weight[j] + norm.bias[j]
        store(row, into, i)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def activate(sums: NDArray[np.int32], rows: Rows, weights: Weights, n: int, into: Rows) -> None:
    """Gaussian error linear units of the linear map of n rows, stored in int8.

    The normal distribution is a polynomial up to 4 standard deviations, which makes a unit wrong by 2e-4 at most: a
    fraction of a step of int8.
    """
    width = sums.shape[1]
    row = np.empty(width, np.float32)
    half = np.float32(0.5)
    for i in range(n):
        scale, largest, column = rows.scales[i], rows.largest[i], weights.columns[rows.places[i]]
        mine = sums[i]
        for j in range(width):
            value = np.float32(mine[j]) * scale + np.float32(column[j]) * largest
            x = value * weights.scales[j] + weights.bias[j]
            t = min(max(x, np.float32(-4.0)), np.float32(4.0))
            s = t * t
            p = s * np.float32(2.292605217e-08) + np.float32(-1.606824185e-06)
            p = p * s + np.float32(4.813961641e-05)
            p = p * s + np.float32(-8.160645957e-04)
            p = p * s + np.float32(8.784107864e-03)
            p = p * s + np.float32(-6.460477412e-02)
            p = p * s + np.float32(3.979133368e-01)
            row[j] = x * (half + t * p)
        store(row, into, i)


@njit(nogil=True, cache=True)
def raise_peaks(sums: NDArray[np.int32], bounds: NDArray[np.int64], peaks: NDArray[np.int32]) -> None:
    """Raise `peaks` int32[texts, outputs] to the integer products of tokens: of text i from bounds[i] to bounds[i + 1].

    Bounds may lie outside of the rows of `sums`, which then hold a part of the text or none.
    """
    width, last = peaks.shape[1], len(sums)
    for text in range(len(peaks)):
        best = peaks[text]
        low, high = max(bounds[text], 0), min(bounds[text + 1], last)
        for i in range(low, high, 4):  # the last rows of a text may be taken twice, which changes no maximum
            one, two = sums[i], sums[min(i + 1, high - 1)]
            three, four = sums[min(i + 2, high - 1)], sums[min(i + 3, high - 1)]
            for j in range(width):
                best[j] = max(one[j], two[j], three[j], four[j], best[j])
