"""Orders of documents that put similar ones side by side, so that blocks have tight bounds.

Recursive graph bisection: Dhulipala, Kabiljo, Karrer, Ottaviano, Pupyrev, Shalita (KDD 2016), for inverted indexes as
in Mackenzie, Mallia, Petri, Culpepper, Suel (ECIR 2019). A range of documents is halved; documents are exchanged
between the halves while that lowers the estimated cost of the gaps, d1·log2(n1/(d1+1)) + d2·log2(n2/(d2+1)) summed
over terms with d1 and d2 postings in the halves; then each half in the same way, down to `LEAF` documents.

Cut-offs, since what is wanted here is tight maxima and not short gaps: of each document only its heaviest terms take
part; terms in fewer than `RARE` or more than a tenth of the documents do not; a range is left when less than one
document in two hundred would move. Halves are independent, so the result does not depend on the number of threads.

The cheap alternative is a similarity hash (Charikar, STOC 2002): 32 signs of weighted sums over random planes.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAF = 32
ITERATIONS = 12
HEAVIEST = 32
RARE = 4
TABLE = 4096


class Halves(NamedTuple):
    """Rows of terms, and scratch to weigh moves between the two halves of a range of documents.

    Attributes:
        indptr, terms: int64[n + 1], uint32[nnz], rows of terms by document.
        order: uint32[n], documents in their present order.
        degrees: int32[2, vocabulary], zeros between rounds: postings of each term in the left and the right half.
        savings: float32[2, vocabulary], what moving one posting of the term to the right, to the left saves.
        touched: uint32[vocabulary], the terms in the range.
        logs: float32[TABLE], log2(1), log2(2), ...
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.uint32]
    order: NDArray[np.uint32]
    degrees: NDArray[np.int32]
    savings: NDArray[np.float32]
    touched: NDArray[np.uint32]
    logs: NDArray[np.float32]


def bisection_order(
    indptr: NDArray[np.int64],
    terms: NDArray[np.uint32],
    weights: NDArray[np.float32],
    vocabulary: int,
    threads: int = 2,
) -> NDArray[np.uint32]:
    """Internal id -> row, by recursive graph bisection.

    indptr int64[n + 1], terms uint32[nnz], weights float32[nnz]; `vocabulary` is the number of term ids.
    """
    n = indptr.shape[0] - 1
    order = np.arange(n, dtype=np.uint32)
    if n <= LEAF:
        return order
    few, kept = heaviest(indptr, terms, weights, vocabulary, HEAVIEST)
    logs = np.log2(np.arange(1, TABLE + 1, dtype=np.float64)).astype(np.float32)

    def split(first, last):
        middle = (first + last) // 2
        bisect(few, kept, vocabulary, order, first, last, logs, False)
        return (first, middle), (middle, last)

    def finish(part):
        bisect(few, kept, vocabulary, order, part[0], part[1], logs, True)

    parts = split(0, n)
    with ThreadPoolExecutor(min(threads, 2)) as pool:
        list(pool.map(finish, parts))
    return order


@njit(cache=True, nogil=True)
def heaviest(indptr, terms, weights, vocabulary, count):
    """Rows of the `count` heaviest terms of each document that are neither rare nor everywhere."""
    n = indptr.shape[0] - 1
    df = np.zeros(vocabulary, np.int64)
    for p in range(terms.shape[0]):
        df[terms[p]] += 1
    few = np.zeros(n + 1, np.int64)
    kept = np.empty(min(terms.shape[0], n * count), np.uint32)
    size = 0
    for doc in range(n):
        first, last = indptr[doc], indptr[doc + 1]
        least = np.float32(0.0)
        if last - first > count:
            least = np.partition(weights[first:last], last - first - count)[last - first - count]
        for p in range(first, last):
            if weights[p] >= least and RARE <= df[terms[p]] <= max(n // 10, 64) and size - few[doc] < count:
                kept[size] = terms[p]
                size += 1
        few[doc + 1] = size
    return few, kept[:size].copy()


@njit(cache=True, nogil=True)
def bisect(indptr, terms, vocabulary, order, first, last, logs, deep):
    """Rearrange order[first:last] by bisection; one level of it, or all where `deep`."""
    degrees = np.zeros((2, vocabulary), np.int32)
    savings = np.zeros((2, vocabulary), np.float32)
    halves = Halves(indptr, terms, order, degrees, savings, np.empty(vocabulary, np.uint32), logs)
    gains = np.empty(last - first, np.float32)
    stack = np.empty((128, 2), np.int64)
    stack[0, 0], stack[0, 1] = first, last
    depth = 1
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        if high - low <= LEAF:
            continue
        middle = (low + high) // 2
        for _ in range(ITERATIONS):
            moved = exchange(low, middle, high, halves, gains)
            if moved * 200 < high - low:
                break
        if deep:
            stack[depth, 0], stack[depth, 1] = low, middle
            stack[depth + 1, 0], stack[depth + 1, 1] = middle, high
            depth += 2


@njit(cache=True, nogil=True)
def log2_of(x, logs):
    """log2(x) for whole x >= 1, from a table where it reaches."""
    if x <= TABLE:
        return logs[x - 1]
    return np.float32(np.log2(np.float64(x)))


@njit(cache=True, nogil=True)
def exchange(low, middle, high, halves, gains):
    """One round: swap the documents of the two halves that gain most; returns how many moved.

    gains   float32[high - low...]   scratch
    """
    indptr, terms, order = halves.indptr, halves.terms, halves.order
    to_right, to_left = halves.savings[0], halves.savings[1]
    weigh_moves(low, middle, high, halves)
    for i in range(low, high):
        doc = order[i]
        gain = np.float32(0.0)
        if i < middle:
            for p in range(indptr[doc], indptr[doc + 1]):
                gain += to_right[terms[p]]
        else:
            for p in range(indptr[doc], indptr[doc + 1]):
                gain += to_left[terms[p]]
        gains[i - low] = gain
    half = middle - low
    a_order = np.argsort(-gains[:half])
    b_order = np.argsort(-gains[half : high - low])
    moved = 0
    for j in range(min(half, high - middle)):
        a, b = a_order[j], half + b_order[j]
        if gains[a] + gains[b] <= 0:
            break
        order[low + a], order[low + b] = order[low + b], order[low + a]
        moved += 2
    return moved


@njit(cache=True, nogil=True)
def weigh_moves(low, middle, high, halves):
    """What moving one posting of each term to the other half saves, into `halves.savings`."""
    indptr, terms, order, touched, logs = halves.indptr, halves.terms, halves.order, halves.touched, halves.logs
    left, right = halves.degrees[0], halves.degrees[1]
    to_right, to_left = halves.savings[0], halves.savings[1]
    count = 0
    for i in range(low, high):
        doc = order[i]
        for p in range(indptr[doc], indptr[doc + 1]):
            term = terms[p]
            if left[term] + right[term] == 0:
                touched[count] = term
                count += 1
            if i < middle:
                left[term] += 1
            else:
                right[term] += 1
    log_left = log2_of(middle - low, logs)
    log_right = log2_of(high - middle, logs)
    for t in range(count):
        term = touched[t]
        a, b = left[term], right[term]
        cost = a * (log_left - log2_of(a + 1, logs)) + b * (log_right - log2_of(b + 1, logs))
        if a > 0:
            after = (a - 1) * (log_left - log2_of(a, logs)) + (b + 1) * (log_right - log2_of(b + 2, logs))
            to_right[term] = cost - after
        if b > 0:
            after = (a + 1) * (log_left - log2_of(a + 2, logs)) + (b - 1) * (log_right - log2_of(b, logs))
            to_left[term] = cost - after
        left[term], right[term] = 0, 0


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
