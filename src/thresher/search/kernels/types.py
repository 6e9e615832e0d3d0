"""What kernels take and return: structures of arrays, and the numbers of plans, statuses and statistics.

`NamedTuple`s cost next to nothing in compiled code: they are passed as their fields. Functions that take an index and
run once a query or a window are inlined (`inline="always"`), since a call copies all fields. This module imports
neither numba nor numpy at run time, so that the rest of the package can use its names without loading them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thresher.index.arrays import Array

AUTO, TERM_AT_A_TIME, BLOCK_MAX = range(3)
"""Plans: bounds first, which may give up for term-at-a-time; or one of the two."""
PLANS = {"auto": AUTO, "term-at-a-time": TERM_AT_A_TIME, "block-max": BLOCK_MAX}
PLAN_NAMES = {number: name for name, number in PLANS.items()}

DONE, BAD_WEIGHT = -1, -2
"""Statuses: nothing is wrong; query q of a batch, `BAD_WEIGHT - q`, has a weight that is negative or not finite.

Others are at least 0, `FAULTS` x term + fault: the posting list of a term is damaged, in the file
`thresher.index.layout.FAULT_FILES[fault]`.
"""
FAULTS = 8

(
    PLAN,
    TERMS,
    POSTINGS,
    SCORED,
    BLOCKS,
    VISITED,
    SUPERBLOCKS,
    WHOLE_SUPERBLOCKS,
    EXACT,
    COMPLETE,
    FIRST_TERMS,
    RESCORED,
    HITS,
    THRESHOLD,
    BOUND,
) = range(15)
"""Places in the statistics of a query, float64[15]: the plan that answered, whether the answer is exact and whether it
is complete (1 or 0), the number of hits; the others are described in `thresher.search.results.Explanation`."""
STATISTICS = 15
FOREVER = 2**63 - 1
"""No deadline."""


class Postings(NamedTuple):
    """An index as kernels read it; arrays as in `thresher.index.layout`.

    Attributes:
        starts: uint32 or int64[terms + 1].
        rows: int32[terms].
        kth: uint8 or uint16[numbered, 4].
        dense: uint8 or uint16[dense, passages].
        impacts: uint8 or uint16[entries].
        ids: uint16[entries].
        superblocks: uint32[common, superblocks + 1], the file `tiles`.
        maxima: uint8[common, blocks].
        ranks: uint32[passages].
        validated: uint8[terms], in and out: 1 where the posting list has been found valid.
        scale: float64, one unit of impact in the encoder's weights.
        passages, block, bits: int64.
    """

    starts: Array
    rows: NDArray[np.int32]
    kth: Array
    dense: Array
    impacts: Array
    ids: NDArray[np.uint16]
    superblocks: NDArray[np.uint32]
    maxima: NDArray[np.uint8]
    ranks: NDArray[np.uint32]
    validated: NDArray[np.uint8]
    scale: float
    passages: int
    block: int
    bits: int


class Allowed(NamedTuple):
    """Which documents may be returned: those that are neither deleted nor filtered out.

    Attributes:
        mask: uint8[passages] by internal id, 1 where a document may be returned; empty where all may.
        docs: uint32[size], the internal ids of those that may, ascending, where they are few; else empty.
        superblocks: uint8[superblocks], 1 where one of the superblock's documents may; empty where all may.
        size: int64, how many may.
    """

    mask: NDArray[np.uint8]
    docs: NDArray[np.uint32]
    superblocks: NDArray[np.uint8]
    size: int


class QueryTerms(NamedTuple):
    """A normalised query: terms uint32[n] ascending and known, weights float64[n] positive and finite."""

    terms: NDArray[np.uint32]
    weights: NDArray[np.float64]


class Limits(NamedTuple):
    """How much of a search is done, see `thresher.search.effort.Effort`.

    Attributes:
        terms: int64, the heaviest terms that are scored.
        candidates: int64, documents that are scored again by all terms; 0 for none.
        blocks: float64, what bounds are scaled by; 1 for exact results.
        superblocks: int64, visited at most.
        postings: float64, share of the query's postings that may be scored; 1 for all.
        left_out: float64, share of the bound of all sums that terms which are not scored may add; 0 for none.
    """

    terms: int
    candidates: int
    blocks: float
    superblocks: int
    postings: float
    left_out: float


class Request(NamedTuple):
    """What is wanted of a query.

    Attributes:
        k: int64, hits wanted.
        plan: int64, one of `PLANS`.
        limits: `Limits`.
        least: float64, a score: documents below it are not wanted; 0 where all are.
        deadline: int64, nanoseconds by `thresher.search.kernels.intrinsics.clock`; `FOREVER` for none.
        rough: bool, whether scores may be upper bounds and the hits in any order: they will be scored again.
    """

    k: int
    plan: int
    limits: Limits
    least: float
    deadline: int
    rough: bool


class Hits(NamedTuple):
    """Where an answer goes; k' = min(k, passages).

    Attributes:
        docs, scores: uint32[k'], float64[k'].
        statistics: float64[STATISTICS].
    """

    docs: NDArray[np.uint32]
    scores: NDArray[np.float64]
    statistics: NDArray[np.float64]


class TopK(NamedTuple):
    """The k best documents so far, see `thresher.search.kernels.topk`.

    Attributes:
        k: int64, documents wanted.
        scale: float64, and ranks: uint32[passages], as in `Postings`.
        limits: float64[2], the threshold in units of sums, and levels per unit of sum.
        counts: int64[3], entries in the buffer, the level of the threshold, entries at or above that level.
        histogram: int32[THRESHOLD_LEVELS], entries by level.
        sums, docs: float64[room], uint32[room], the buffer.
    """

    k: int
    scale: float
    ranks: NDArray[np.uint32]
    limits: NDArray[np.float64]
    counts: NDArray[np.int64]
    histogram: NDArray[np.int32]
    sums: NDArray[np.float64]
    docs: NDArray[np.uint32]


class Cursors(NamedTuple):
    """Positions in a query's posting lists as windows of documents go by.

    Attributes:
        at, ends: int64[n], of lists without a directory: the next entry, and the end of its chunk's postings.
        runs: uint64[n, 2], first and last entry of each list in the current window.
    """

    at: NDArray[np.int64]
    ends: NDArray[np.int64]
    runs: NDArray[np.uint64]


class QuantisedTopK(NamedTuple):
    """Documents whose quantised sums may be among the k best, see `thresher.search.kernels.taat`.

    Attributes:
        k: int64, documents wanted.
        margin: int64, how far a quantised sum may exceed the true one.
        rest: int64, at least what the dense rows add to any sum.
        dense_rows, dense_weights: int64[m], uint32[m], the query's dense rows and their fixed-point weights.
        counts: int64[4], the threshold, entries, the histogram's level of the threshold, entries at or above it.
        histogram: int32[levels], entries by the upper bits of their sums.
        values, docs: uint16[room], uint32[room], the entries.
        sums: uint16[QUANTISED_WINDOW], accumulators of the current window.
        lanes, tops: uint16[LANES], uint16[GROUPS], scratch: maxima of the accumulators.
        mask: uint8[passages], as `Allowed.mask`.
    """

    k: int
    margin: int
    rest: int
    dense_rows: NDArray[np.int64]
    dense_weights: NDArray[np.uint32]
    counts: NDArray[np.int64]
    histogram: NDArray[np.int32]
    values: NDArray[np.uint16]
    docs: NDArray[np.uint32]
    sums: NDArray[np.uint16]
    lanes: NDArray[np.uint16]
    tops: NDArray[np.uint16]
    mask: NDArray[np.uint8]


class Bounds(NamedTuple):
    """Upper bounds of a query's scores, see `thresher.search.kernels.bounds`.

    Attributes:
        rows: int64[n], the directory row of a common term, else -1.
        places: int64[n], the row of `begins` of a term without a directory row.
        begins: uint32[rare, chunks, 2], in the lists of those terms the first entry of each chunk's postings and the
            one after the last, counted from the list's beginning.
        blocks: float32[superblocks * blocks per superblock], bounds of blocks.
        superblocks: float32[superblocks], the best bound among the blocks of each.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    begins: NDArray[np.uint32]
    blocks: NDArray[np.float32]
    superblocks: NDArray[np.float32]
