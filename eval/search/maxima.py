"""What maxima of other units and widths would be worth: how much they rule out, how large they are, how fast to add.

Takes the collections and indexes that `search-panel` left in `--work`, and queries that the panel does not ask where
there are such. The share of units whose bound reaches the true k-th score is the least that any order of visits could
do.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from scipy import sparse

from eval.bench import Bench, Row, options
from eval.search.engines import Thresher
from eval.search.matrices import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from thresher.index.layout import Layout

    Ints = NDArray[np.int64]
    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float32]

TRACKS = {
    "real-lexical": ("words seen",),
    "real-learned": ("own seen", "splade seen"),
    "synthetic-1m": ("synthetic",),
}
QUERIES, ROUNDS = 40, 5
STEP = 17  # of 4-bit maxima: 15 · 17 = 255


@njit(nogil=True)
def add_dense(rows: Bytes, chosen: Ints, weights: Floats, bounds: Floats) -> None:
    """Of one byte a block."""
    for i in range(weights.shape[0]):
        own, weight = rows[chosen[i]], weights[i]
        for j in range(own.shape[0]):
            bounds[j] += weight * np.float32(own[j])


@njit(nogil=True)
def add_packed(rows: Bytes, chosen: Ints, weights: Floats, bounds: Floats) -> None:
    """Of 4-bit maxima: block j in the low half of byte j, block j + half in its high half, so both lie in a row."""
    for i in range(weights.shape[0]):
        own, weight = rows[chosen[i]], weights[i] * np.float32(STEP)
        half = own.shape[0]
        for j in range(half):
            bounds[j] += weight * np.float32(own[j] & 15)
        for j in range(half):
            bounds[half + j] += weight * np.float32(own[j] >> 4)


@njit(nogil=True)
def add_sparse(
    starts: Ints, blocks: NDArray[np.uint32], values: Bytes, chosen: Ints, weights: Floats, bounds: Floats
) -> None:
    """Of maxima that are not 0, with the numbers of their blocks."""
    for i in range(weights.shape[0]):
        weight = weights[i]
        for p in range(starts[chosen[i]], starts[chosen[i] + 1]):
            bounds[blocks[p]] += weight * np.float32(values[p])


def maxima_of(ids: Ints, impacts: Ints, unit: int) -> tuple[Ints, Ints]:
    """Units that hold a posting of an ascending list, and the largest impact in each."""
    units = ids // unit
    first = np.flatnonzero(np.concatenate(([True], units[1:] != units[:-1])))
    return units[first], np.maximum.reduceat(impacts, first)


def shares(lists: Sequence[tuple[float, Ints, Ints]], passages: int, threshold: float) -> dict[str, float]:
    """Share of units, by kind, whose bound reaches the threshold. lists: (weight, ids, impacts) of each term."""
    found: dict[str, float] = {}
    blocks = -(-passages // 2048) * 32
    for name, unit, step in (("64", 64, 1), ("64, 4-bit", 64, STEP), ("512", 512, 1), ("2048", 2048, 1)):
        bounds = np.zeros(blocks * 64 // unit)
        for weight, ids, impacts in lists:
            units, best = maxima_of(ids, impacts, unit)
            bounds[units] += weight * (-(-best // step) * step)
        alive = bounds >= threshold
        found[name] = alive.sum() / -(-passages // unit)
        if name == "64":
            found["2048, best block"] = alive.reshape(-1, 32).any(axis=1).sum() / -(-passages // 2048)
    return found


def speeds(layout: Layout, asked: Sequence[tuple[Ints, Floats]]) -> dict[str, float]:
    """Median microseconds a query to add the maxima of its common terms, in three forms, and the forms' bytes."""
    n, maxima = layout.counts, layout.maxima
    width = n.blocks + n.blocks % 2
    padded = np.zeros((n.common, width), np.uint8)
    padded[:, : n.blocks] = maxima
    fourth = -(-padded.astype(np.int16) // STEP)
    packed = (fourth[:, : width // 2] | fourth[:, width // 2 :] << 4).astype(np.uint8)
    held = sparse.csr_matrix(maxima)
    starts, blocks, values = held.indptr.astype(np.int64), held.indices.astype(np.uint32), held.data
    best = np.full((3, len(asked)), np.inf)
    bounds = np.zeros(width, np.float32)
    for _ in range(ROUNDS):
        for i, (terms, weights) in enumerate(asked):
            rows = layout.rows[terms]
            common = (rows >= 0) & (rows < n.common)
            chosen, scaled = rows[common].astype(np.int64), weights[common].astype(np.float32)
            forms: tuple[Callable[[], None], ...] = (
                partial(add_dense, padded, chosen, scaled, bounds),
                partial(add_packed, packed, chosen, scaled, bounds),
                partial(add_sparse, starts, blocks, values, chosen, scaled, bounds),
            )
            for form, run in enumerate(forms):
                clock = time.perf_counter()
                run()
                best[form, i] = min(best[form, i], (time.perf_counter() - clock) * 1e6)
    dense, four, thin = np.median(best, axis=1).tolist()
    return {
        "dense_us": dense, "dense_bytes": maxima.size / n.postings,
        "4-bit_us": four, "4-bit_bytes": packed.size / n.postings,
        "sparse_us": thin, "sparse_bytes": 3 * len(values) / n.postings,
    }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("search-maxima", __doc__).parse_args(arguments))
    rows: list[Row] = []
    for name, tracks in TRACKS.items():
        matrix = load(bench.work / f"{name}.npz")
        engine = Thresher(bench.work / "indexes" / name / "thresher--default", "default")
        engine.open()
        layout, documents = engine.index.layouts[0], matrix.documents
        columns = sparse.csr_matrix(
            (documents.weights, documents.terms, documents.indptr), shape=(len(documents), matrix.terms)
        ).tocsc()
        for track in tracks:
            asked = [engine.index.terms(matrix.queries[track].row(i)) for i in range(QUERIES)]
            asked = [(terms, weights) for terms, weights in asked if len(terms)]
            form = speeds(layout, asked)
            for k in (10, 1000):
                parts = []
                for terms, weights in asked:
                    hits = engine.index.search((terms, weights), k)
                    if len(hits) < k:
                        continue
                    lists = [
                        (float(w), columns.indices[span].astype(np.int64), columns.data[span].astype(np.int64))
                        for t, w in zip(terms, weights, strict=True)
                        if (span := slice(columns.indptr[t], columns.indptr[t + 1])).stop > span.start
                    ]
                    parts.append(shares(lists, len(documents), hits.scores[-1] / layout.counts.scale))
                mean = {key: float(np.mean([part[key] for part in parts])) for key in parts[0]}
                rows.append({"collection": name, "track": track, "k": k, **mean, **form})
                print(rows[-1], flush=True)
    columns_shown = {"collection": "", "track": "", "k": ""} | dict.fromkeys(mean, ".3f")
    columns_shown |= {key: ".1f" if key.endswith("us") else ".2f" for key in form}
    bench.write("search-maxima", rows, columns=columns_shown, note=NOTE)


NOTE = (
    "Means over 40 queries, in the order the passages came. 64, 512, 2048: share of units of so many passages whose "
    "bound, the sum of the lists' largest impacts in the unit, reaches the true k-th score; `4-bit`: maxima rounded up "
    "to multiples of 17; `best block`: units one of whose blocks of 64 does. dense, 4-bit, sparse: median microseconds "
    "by the clock to add the maxima by block of a query's common terms, and bytes a posting of the maxima of all "
    "common terms, as one byte a block, half a byte, or three bytes for each block that holds a posting."
)
