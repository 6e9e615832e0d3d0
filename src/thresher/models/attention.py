"""Attention of packed texts in bfloat16, for the int8 engine: two matrix products and the compiled loops around them.

Texts of like length, one behind the other, are a group, with one product for all of their heads. Numbers in bfloat16
are stored as uint16, which are the upper bits of a float32. What lies behind a text's end is 0 and takes no part, so
that the result of a text depends on that text alone. Products are added up in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from thresher._lazy import njit
from thresher.models.kernels import Rows, Weights, store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.backend import Joined

_STEP = 8  # lengths are rounded up to it: each size of a product is compiled once
_NUMBERS = 1 << 18  # most attention weights of a group, which stay in a core's cache


class Product(NamedTuple):
    """A linear map of tokens that is not yet in numbers.

    Attributes:
        sums: int32[n or more, outputs], the integer product.
        rows: what went in.
        weights: of the map.
    """

    sums: NDArray[np.int32]
    rows: Rows
    weights: Weights


class Group(NamedTuple):
    """Texts of like length and what their attention is computed in; P is the length rounded up.

    Attributes:
        bounds: int64[texts + 1], row of the first token of each text, and behind the last.
        inner: uint16[3, texts, heads, P, width], queries, keys and values.
        weights: uint16[texts, heads, P, P], of attention.
        totals: float32[texts, heads, P], of the weights of a row.
        mixed: uint16[texts, heads, P, width].
        tensors: queries, keys, values, weights and mixed states again, bfloat16[texts * heads, P, ...].
    """

    bounds: NDArray[np.int64]
    inner: NDArray[np.uint16]
    weights: NDArray[np.uint16]
    totals: NDArray[np.float32]
    mixed: NDArray[np.uint16]
    tensors: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def groups(lengths: Sequence[int], heads: int, width: int) -> list[Group]:
    """Groups of texts that are packed in this order; those of a pass share memory, one after the other.

    Args:
        lengths: tokens of the texts.
        heads: of a layer.
        width: of a head.
    """
    cuts: list[tuple[int, int, int]] = []  # first text, text behind the last, length rounded up
    for text, length in enumerate(lengths):
        size = -(-length // _STEP) * _STEP
        if cuts and cuts[-1][2] == size and (text + 1 - cuts[-1][0]) * heads * size * size <= _NUMBERS:
            cuts[-1] = (cuts[-1][0], text + 1, size)
        else:
            cuts.append((text, text + 1, size))
    bounds = np.cumsum([0, *lengths])
    rows = max((after - first) * size for first, after, size in cuts) * heads
    long = max((after - first) * size * size for first, after, size in cuts) * heads
    inner, mixed = np.empty(3 * rows * width, np.uint16), np.empty(rows * width, np.uint16)
    weights, totals = np.empty(long, np.uint16), np.empty(rows, np.float32)
    found = []
    for first, after, size in cuts:
        n = (after - first) * heads
        shape = (after - first, heads, size)
        parts = inner[: 3 * n * size * width].reshape(3, *shape, width)
        own = weights[: n * size * size].reshape(*shape, size)
        out = mixed[: n * size * width].reshape(*shape, width)
        q, k, v, s, o = (
            torch.from_numpy(part.reshape(n, size, -1)).view(torch.bfloat16) for part in (*parts, own, out)
        )
        whole = totals[: n * size].reshape(shape)
        found.append(Group(bounds[first : after + 1], parts, own, whole, out, (q, k.transpose(1, 2), v, s, o)))
    return found


class Mixer:
    """Attention of a pass over packed texts.

    Args:
        lengths: tokens of the texts.
        heads: of a layer.
        hidden: numbers in a state.
        joined: where texts are pairs; None where they are single texts.
    """

    def __init__(self, lengths: Sequence[int], heads: int, hidden: int, joined: Joined | None) -> None:
        self._groups = groups(lengths, heads, hidden // heads)
        self._scale = np.float32(1 / np.sqrt(hidden // heads))
        self._joined, self._open = joined, np.zeros((2, heads), np.float32)
        self._queries = np.array([0] * len(lengths) if joined is None else joined.queries, np.int64)

    def __call__(self, product: Product, layer: int, into: Rows) -> None:
        """Attention within each text, stored in int8.

        Args:
            product: makes queries, keys and values of all heads.
            layer: counted from the first that runs.
            into: where each token's mixed state is stored.
        """
        gates, text = self._open if self._joined is None else self._joined.gates[layer].numpy(), 0
        for group in self._groups:
            q, k, v, weights, mixed = group.tensors
            queries = self._queries[text : text + len(group.bounds) - 1]
            text += len(queries)
            deal(*product, group.bounds, group.inner)
            torch.bmm(q, k, out=weights)
            weigh(group.weights, group.totals, group.bounds, gates, queries, self._scale)
            torch.bmm(weights, v, out=mixed)
            collect(group.mixed, group.totals, group.bounds, into)


@njit(nogil=True, cache=True)
def _round(bits: NDArray[np.int32], out: NDArray[np.uint16]) -> None:
    """Round float32 numbers, given as their bits, to the nearest bfloat16, of two the even one."""
    for j in range(len(bits)):
        out[j] = np.uint16((bits[j] + np.int32(0x7FFF) + ((bits[j] >> np.int32(16)) & np.int32(1))) >> np.int32(16))


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def deal(
    sums: NDArray[np.int32], rows: Rows, weights: Weights, bounds: NDArray[np.int64], inner: NDArray[np.uint16]
) -> None:
    """The linear map of texts, from its integer product, as queries, keys and values of each head."""
    _, texts, heads, _, width = inner.shape
    row = np.empty(sums.shape[1], np.float32)
    short = np.empty(sums.shape[1], np.uint16)
    for text in range(texts):
        low, length = bounds[text], bounds[text + 1] - bounds[text]
        inner[:, text, :, length:] = 0
        for i in range(length):
            at = low + i
            scale, largest, column = rows.scales[at], rows.largest[at], weights.columns[rows.places[at]]
            mine = sums[at]
            for j in range(len(row)):
                value = np.float32(mine[j]) * scale + np.float32(column[j]) * largest
                row[j] = value * weights.scales[j] + weights.bias[j]
            _round(row.view(np.int32), short)
            for part in range(3):
                for head in range(heads):
                    own, start = inner[part, text, head, i], (part * heads + head) * width
                    for j in range(width):
                        own[j] = short[start + j]


@njit(nogil=True, cache=True)
def _top(row: NDArray[np.uint16]) -> np.int32:
    """The bits as float32 of the largest of bfloat16 numbers, of -1e30 if there are none."""
    best = np.int32(-0x714B)  # numbers are in the order of their bits, where those below 0 are turned round
    for j in range(len(row)):
        bits = np.int32(np.int16(row[j]))
        best = max(best, np.int32(bits ^ ((bits >> np.int32(15)) & np.int32(0x7FFF))))
    return np.int32(np.int32(best ^ ((best >> np.int32(15)) & np.int32(0x7FFF))) << np.int32(16))


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _raise(row: NDArray[np.uint16], scale: np.float32, add: np.float32, spare: NDArray[np.int32]) -> np.float32:
    """Replace logits x in bfloat16 by 2 ** (x * scale + add), which is at most 1, in bfloat16 too; their sum.

    The power of the fraction is a polynomial, wrong by 4e-6 at most.
    """
    n = len(row)
    bits, whole = spare[:n], spare[len(spare) // 2 :]
    numbers = bits.view(np.float32)
    for j in range(n):
        bits[j] = np.int32(np.int32(row[j]) << np.int32(16))
    for j in range(n):
        x = max(numbers[j] * scale + add, np.float32(-100.0))
        floor = np.floor(x)
        f = x - floor
        p = f * np.float32(1.3697664e-02) + np.float32(5.1690358e-02)
        p = p * f + np.float32(2.4163845e-01)
        p = p * f + np.float32(6.9296612e-01)
        numbers[j] = p * f + np.float32(1.0000037)
        whole[j] = np.int32(np.int32(floor) << np.int32(23))
    for j in range(n):
        found = np.int32(bits[j] + whole[j])
        found = np.int32(found + np.int32(0x7FFF) + np.int32(np.int32(found >> np.int32(16)) & np.int32(1)))
        row[j] = np.uint16(found >> np.int32(16))
        bits[j] = found & np.int32(-0x10000)
    total = np.float32(0.0)
    for j in range(n):
        total += numbers[j]
    return total


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def weigh(
    logits: NDArray[np.uint16],
    totals: NDArray[np.float32],
    bounds: NDArray[np.int64],
    gates: NDArray[np.float32],
    queries: NDArray[np.int64],
    scale: np.float32,
) -> None:
    """Weights of attention in place of logits, not yet divided by their `totals`; both as in `Group`."""
    texts, heads, size, _ = logits.shape
    spare = np.empty(2 * size, np.int32)
    numbers = spare.view(np.float32)
    two = np.float32(1.4426950408889634)  # turns exponents of e into exponents of 2
    scale = scale * two
    for text in range(texts):
        length, cut = bounds[text + 1] - bounds[text], queries[text]
        for head in range(heads):
            for i in range(length):
                row = logits[text, head, i]
                here = np.float32(0.0) if i < cut else gates[1, head] * two
                there = gates[0, head] * two if i < cut else np.float32(0.0)
                spare[0], spare[1] = _top(row[:cut]), _top(row[cut:length])
                top = max(numbers[0] * scale + here, numbers[1] * scale + there)
                total = _raise(row[cut:length], scale, there - top, spare)
                if cut > 0:
                    total += _raise(row[:cut], scale, here - top, spare)
                totals[text, head, i] = total
                for j in range(length, size):
                    row[j] = np.uint16(0)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def collect(mixed: NDArray[np.uint16], totals: NDArray[np.float32], bounds: NDArray[np.int64], into: Rows) -> None:
    """Store the mixed states of each token, all heads side by side and divided by the totals, in int8."""
    texts, heads, _, width = mixed.shape
    bits = np.empty(heads * width, np.int32)
    row = bits.view(np.float32)
    for text in range(texts):
        low = bounds[text]
        for i in range(bounds[text + 1] - low):
            for head in range(heads):
                own, start = mixed[text, head, i], head * width
                for j in range(width):
                    bits[start + j] = np.int32(own[j]) << np.int32(16)
            for head in range(heads):
                factor = np.float32(1.0) / totals[text, head, i]
                for j in range(head * width, head * width + width):
                    row[j] *= factor
            store(row, into, low + i)
