"""Orders of documents that put similar ones side by side, so that blocks have tight bounds.

Recursive graph bisection: Dhulipala, Kabiljo, Karrer, Ottaviano, Pupyrev, Shalita (KDD 2016), for inverted indexes as
in Mackenzie, Mallia, Petri, Culpepper, Suel (ECIR 2019). A range of documents is halved; documents are exchanged
between the halves while that lowers the estimated cost of the gaps, d1·log2(n1/(d1+1)) + d2·log2(n2/(d2+1)) summed
over terms with d1 and d2 postings in the halves; then each half in the same way, down to `LEAF` documents. What a
document gains in the right half is the sum of what its postings save there. Exchanging the best pairs while both gain
together is giving the right half, of the documents that may move, those that gain most: a selection, not a sort.

What differs, since tight maxima are wanted and not short gaps, and millions of documents are to be done in minutes:

* Of each document only the `HEAVIEST` terms take part; terms in fewer than `RARE` or more than a tenth of the documents
  do not.
* Halves of more than `SAMPLE` documents begin from what a sample of them settles on. Millions of documents in random
  order are two nearly equal halves; a small advantage takes dozens of rounds to grow into a division, which the sample
  does in a hundredth of the time. Without it topics are divided on the first levels, the more the larger the
  collection.
* Half of the documents, drawn anew, may move in a round. Where all may, similar documents in different halves change
  places for ever.
* Ranges are divided at multiples of a superblock, so that none holds the ends of two ranges; smaller ones at multiples
  of `LEAF`.

Halves are independent and documents of a range keep their order, so the result is the same for any number of threads.

The cheap alternative is a similarity hash (Charikar, STOC 2002): 32 signs of weighted sums over random planes.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.mapping import release

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.memory import MemoryLimit

LEAF = 32
HEAVIEST = 32
RARE = 4
ROUNDS, STILL = 24, 500
"""Rounds for a range at most; it is left when less than one document in `STILL` moves in two of them."""
SAMPLE, SAMPLE_ROUNDS, SAMPLE_STILL = 131_072, 64, 2000
"""Documents of a sample, at most twice as many, and the same of its rounds."""
PART = 65_536
"""Documents whose rows are copied side by side, before they are bisected to the end: they fit in the cache."""
TABLE = 4096
SCRATCH = 20
"""Bytes of memory for each document beside its terms: its place, side, sum, and what divides it."""


class Heavy(NamedTuple):
    """The terms that take part: those of document d are terms[d, : sizes[d]]; uint16 or uint32[n, width], uint8[n]."""

    terms: Array
    sizes: NDArray[np.uint8]


class Scales(NamedTuple):
    """Scratch to weigh what documents gain in the right half of a range.

    Attributes:
        degrees: int32[vocabulary, 2], zeros between ranges: postings of each term in the left and the right half.
        gains: float32[vocabulary, 2], what a posting in the left, in the right half saves by being in the right one.
        touched: uint32[vocabulary], the terms in the range.
        logs: float32[TABLE], log2(1), log2(2), ...
        sides: uint8[documents], 1 in the right half, by place in the range.
        sums: float32[documents], what the documents that may move gain.
        movers: uint32[documents], their places.
    """

    degrees: NDArray[np.int32]
    gains: NDArray[np.float32]
    touched: NDArray[np.uint32]
    logs: NDArray[np.float32]
    sides: NDArray[np.uint8]
    sums: NDArray[np.float32]
    movers: NDArray[np.uint32]


def bisection_order(
    indptr: NDArray[np.int64],
    terms: NDArray[np.uint32],
    weights: NDArray[np.float32],
    vocabulary: int,
    threads: int = 2,
    memory: MemoryLimit | None = None,
) -> NDArray[np.uint32]:
    """Internal id -> row, by recursive graph bisection.

    It keeps 64 bytes a document, twice as many where there are more than 65,536 terms.

    indptr int64[n + 1], terms uint32[nnz], weights float32[nnz]; `vocabulary` is the number of term ids. With a limit
    on memory, pages of mapped rows are given back.

    Raises:
        ConfigError: the limit is too low.
    """
    n = indptr.shape[0] - 1
    order = np.arange(n, dtype=np.uint32)
    if n <= LEAF:
        return order
    if memory is not None:
        kept = HEAVIEST * _type_for(vocabulary).itemsize + SCRATCH
        memory.require(n * kept, f"ordering {n:,} passages by bisection")
    rows = (indptr, terms, weights)
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        heavy = _heavy(rows, vocabulary, pool, given_back=memory is not None)

        def split(part: tuple[int, int]) -> list[tuple[int, int]]:
            first, last = part
            if last - first <= PART:
                return [part]
            middle = middle_of(first, last)
            divide(heavy, order, first, middle, last, SAMPLE, _scales(vocabulary, last - first))
            return [(first, middle), (middle, last)]

        def finish(part: tuple[int, int]) -> None:
            bisect(heavy, order, part[0], part[1], _scales(vocabulary, part[1] - part[0]))

        parts, before = [(0, n)], 0
        while len(parts) > before:
            before = len(parts)
            parts = [half for halves in pool.map(split, parts) for half in halves]
        list(pool.map(finish, parts))
    return order


def _type_for(vocabulary: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The type of term ids."""
    return np.dtype(np.uint16) if vocabulary <= 65_536 else np.dtype(np.uint32)


def _heavy(
    rows: tuple[Array, Array, Array], vocabulary: int, pool: ThreadPoolExecutor, *, given_back: bool = False
) -> Heavy:
    """The terms that take part."""
    indptr, terms, weights = rows
    n, width = len(indptr) - 1, min(HEAVIEST, max(int(np.diff(indptr).max()), 1))
    edges = np.linspace(0, n, max(n // PART, 1) + 1).astype(np.int64).tolist()
    spans = list(pairwise(edges))
    held = np.zeros(vocabulary, np.int64)
    for first in range(0, len(terms), PART * 64):
        count_postings(terms[first : first + PART * 64], held)
        if given_back:
            release(terms[first : first + PART * 64])
    taking = (held >= RARE) & (held <= max(n // 10, 64))
    heavy = Heavy(np.empty((n, width), _type_for(vocabulary)), np.empty(n, np.uint8))

    def choose(span: tuple[int, int]) -> None:
        choose_heaviest(indptr, terms, weights, taking, span[0], span[1], heavy)
        if given_back:
            low, high = indptr[span[0]], indptr[span[1]]
            release(terms[low:high])
            release(weights[low:high])

    list(pool.map(choose, spans))
    return heavy


def _scales(vocabulary: int, size: int) -> Scales:
    """Scratch for ranges of up to `size` documents."""
    return Scales(
        np.zeros((vocabulary, 2), np.int32),
        np.zeros((vocabulary, 2), np.float32),
        np.empty(vocabulary, np.uint32),
        np.log2(np.arange(1, TABLE + 1, dtype=np.float64)).astype(np.float32),
        np.empty(size, np.uint8),
        np.empty(size, np.float32),
        np.empty(size, np.uint32),
    )


@njit(cache=True, nogil=True)
def count_postings(terms, held):
    """Add postings to the numbers of documents that hold each term, int64[vocabulary]."""
    for p in range(terms.shape[0]):
        held[terms[p]] += 1


@njit(cache=True, nogil=True)
def choose_heaviest(indptr, terms, weights, taking, low, high, heavy):
    """Set the rows low ... high - 1 of `heavy`: the heaviest of each document's terms, by bool[vocabulary] `taking`."""
    width = heavy.terms.shape[1]
    for doc in range(low, high):
        first, last = indptr[doc], indptr[doc + 1]
        least, size = np.float32(0.0), 0
        if last - first > width:
            least = np.partition(weights[first:last], last - first - width)[last - first - width]
        for p in range(first, last):
            if weights[p] >= least and taking[terms[p]] and size < width:
                heavy.terms[doc, size] = terms[p]
                size += 1
        heavy.sizes[doc] = size


@njit(cache=True, nogil=True)
def middle_of(low, high):
    """Where to divide a range: at a multiple of a superblock, of a leaf where it is smaller."""
    size, unit = high - low, SUPERBLOCK if high - low > SUPERBLOCK else LEAF
    return low + max((size // 2 + unit // 2) // unit, 1) * unit


@njit(cache=True, nogil=True)
def bisect(heavy, order, first, last, scales):
    """Rearrange order[first:last] by bisection to the end, on a copy of its rows."""
    part = order[first:last].copy()
    own_terms = np.empty((last - first, heavy.terms.shape[1]), heavy.terms.dtype)
    own_sizes = np.empty(last - first, np.uint8)
    for i in range(last - first):
        own_terms[i], own_sizes[i] = heavy.terms[part[i]], heavy.sizes[part[i]]
    own, places = Heavy(own_terms, own_sizes), np.arange(last - first).astype(np.uint32)
    stack = np.empty((128, 2), np.int64)
    stack[0, 0], stack[0, 1] = 0, last - first
    depth = 1
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        if high - low <= LEAF:
            continue
        middle = middle_of(low, high)
        divide(own, places, low, middle, high, SAMPLE, scales)
        stack[depth, 0], stack[depth, 1] = low, middle
        stack[depth + 1, 0], stack[depth + 1, 1] = middle, high
        depth += 2
    for i in range(last - first):
        order[first + i] = part[places[i]]


@njit(cache=True, nogil=True)
def divide(heavy, order, low, middle, high, sample, scales):
    """Rearrange order[low:high] so that each half holds documents alike; within a half they keep their order.

    sample  int64   as `SAMPLE`
    """
    size, right = high - low, high - middle
    sides, docs = scales.sides[:size], order[low:high].copy()
    sides[: size - right], sides[size - right :] = 0, 1
    if size > 2 * sample:
        step = size // sample
        some = docs[::step].copy()
        some_sides = np.zeros(some.shape[0], np.uint8)
        share = right * some.shape[0] // size
        some_sides[some.shape[0] - share :] = 1
        settle(heavy, some, some_sides, SAMPLE_ROUNDS, SAMPLE_STILL, scales)
        take_sides(heavy, docs, right, scales)
    settle(heavy, docs, sides, ROUNDS, STILL, scales)
    left_at, right_at = low, middle
    for i in range(size):
        if sides[i] == 0:
            order[left_at] = docs[i]
            left_at += 1
        else:
            order[right_at] = docs[i]
            right_at += 1


@njit(cache=True, nogil=True)
def log2_of(x, logs):
    """log2(x) for whole x >= 1, from a table where it reaches."""
    if x <= TABLE:
        return logs[x - 1]
    return np.float32(np.log2(np.float64(x)))


@njit(cache=True, nogil=True)
def drawn(doc, round_):
    """Whether a document may move in this round: one bit of a hash of both."""
    x = np.uint32(doc) + np.uint32(round_) * np.uint32(0x9E3779B9)
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return (x >> np.uint32(16)) & np.uint32(1) == 1


@njit(cache=True, nogil=True)
def settle(heavy, docs, sides, rounds, still, scales):
    """Exchange documents between the halves until few move; `scales.gains` are those of the last round.

    docs, sides      uint32[n], uint8[n]   the range, and the half of each; sides in and out
    rounds, still    int64                 see `ROUNDS`, `STILL`
    """
    degrees, touched, size = scales.degrees, scales.touched, docs.shape[0]
    count, right = 0, 0
    for i in range(size):
        doc, side = docs[i], np.int64(sides[i])
        right += side
        for j in range(heavy.sizes[doc]):
            term = heavy.terms[doc, j]
            if degrees[term, 0] + degrees[term, 1] == 0:
                touched[count] = term
                count += 1
            degrees[term, side] += 1
    before = size
    for round_ in range(rounds):
        weigh(touched[:count], size - right, right, scales)
        moved = exchange(heavy, docs, sides, round_, scales)
        if (moved + before) * still < size:
            break
        before = moved
    for t in range(count):
        degrees[touched[t], 0] = degrees[touched[t], 1] = 0


@njit(cache=True, nogil=True)
def weigh(touched, left, right, scales):
    """Set `scales.gains` for halves of these sizes."""
    degrees, gains, logs = scales.degrees, scales.gains, scales.logs
    log_left, log_right = log2_of(left, logs), log2_of(right, logs)
    for term in touched:
        a, b = degrees[term, 0], degrees[term, 1]
        cost = a * (log_left - log2_of(a + 1, logs)) + b * (log_right - log2_of(b + 1, logs))
        gains[term, 0] = gains[term, 1] = np.float32(0.0)
        if a > 0:
            after = (a - 1) * (log_left - log2_of(a, logs)) + (b + 1) * (log_right - log2_of(b + 2, logs))
            gains[term, 0] = cost - after
        if b > 0:
            after = (a + 1) * (log_left - log2_of(a + 2, logs)) + (b - 1) * (log_right - log2_of(b, logs))
            gains[term, 1] = after - cost


@njit(cache=True, nogil=True)
def gain_of(heavy, doc, side, gains):
    """What a document on this side gains in the right half."""
    gain = np.float32(0.0)
    for j in range(heavy.sizes[doc]):
        gain += gains[heavy.terms[doc, j], side]
    return gain


@njit(cache=True, nogil=True)
def exchange(heavy, docs, sides, round_, scales):
    """One round: of the documents that may move, those that gain most go right, as many as were there.

    Returns how many changed sides. Among equals those that are on the right stay, then come the first.
    """
    sums, movers, gains, degrees = scales.sums, scales.movers, scales.gains, scales.degrees
    count, right = 0, 0
    for i in range(docs.shape[0]):
        if drawn(docs[i], round_):
            sums[count] = gain_of(heavy, docs[i], np.int64(sides[i]), gains)
            movers[count] = i
            count += 1
            right += sides[i]
    if right in (0, count):
        return 0
    least = np.partition(sums[:count], count - right)[count - right]
    above, equal = 0, 0
    for c in range(count):
        above += sums[c] > least
        equal += sums[c] == least and sides[movers[c]] == 1
    staying = min(right - above, equal)
    coming, moved = right - above - staying, 0
    for c in range(count):
        i = movers[c]
        before, after = np.int64(sides[i]), np.int64(sums[c] > least)
        if sums[c] == least:
            if before == 1 and staying > 0:
                staying -= 1
                after = 1
            elif before == 0 and coming > 0:
                coming -= 1
                after = 1
        if after != before:
            sides[i] = after
            moved += 1
            for j in range(heavy.sizes[docs[i]]):
                term = heavy.terms[docs[i], j]
                degrees[term, before] -= 1
                degrees[term, after] += 1
    return moved


@njit(cache=True, nogil=True)
def take_sides(heavy, docs, right, scales):
    """Put those `right` documents on the right that gain most there by what a sample has settled on."""
    size, sums, sides = docs.shape[0], scales.sums, scales.sides
    for i in range(size):
        sums[i] = gain_of(heavy, docs[i], 0, scales.gains) + gain_of(heavy, docs[i], 1, scales.gains)
    least = np.partition(sums[:size], size - right)[size - right]
    equal = right
    for i in range(size):
        equal -= sums[i] > least
    for i in range(size):
        sides[i] = sums[i] > least
        if sums[i] == least and equal > 0:
            equal -= 1
            sides[i] = 1


@njit(cache=True, nogil=True)
def similarity_order(indptr, terms, weights, seed):
    """Internal id -> row, sorted by a 32-bit similarity hash (Gray code, so that neighbours differ in few signs)."""
    n = indptr.shape[0] - 1
    keys = np.empty(n, np.int64)
    sums = np.empty(32, np.float32)
    for doc in range(n):
        sums[:] = 0
        for p in range(indptr[doc], indptr[doc + 1]):
            state = np.uint64(terms[p]) + np.uint64(seed)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
            for bit in range(32):
                sums[bit] += weights[p] if (state >> np.uint64(bit)) & np.uint64(1) else -weights[p]
        code = np.int64(0)
        for bit in range(32):
            code = code << 1 | np.int64(sums[bit] > 0)
        for shift in (1, 2, 4, 8, 16):
            code ^= code >> shift
        keys[doc] = code
    return np.argsort(keys, kind="mergesort").astype(np.uint32)
