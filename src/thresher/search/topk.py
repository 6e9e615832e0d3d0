"""The k best documents so far, in a buffer that is cut back now and then.

Documents whose score reaches the threshold are appended; when the buffer has grown by a good part of k, the k best are
selected (Hoare's quickselect) and the threshold becomes the worst of them. An append costs two or three instructions
and a cut is linear, where a heap pays log k for each of the thousands of documents that enter on the way to k = 1000.

The order is total: score descending, then the rank of the docno ascending, so that the k best are the same however
the documents come. The threshold is inclusive: a document that ties with the k-th score enters and the docno decides.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["cut", "sort_best"]


@njit(cache=True, nogil=True)
def better(scores, ranks, a, score, rank):
    """Whether entry `a` stands before (score, rank)."""
    return scores[a] > score or (scores[a] == score and ranks[a] < rank)


@njit(cache=True, nogil=True)
def worse(scores, ranks, a, score, rank):
    """Whether entry `a` stands after (score, rank)."""
    return scores[a] < score or (scores[a] == score and ranks[a] > rank)


@njit(cache=True, nogil=True)
def swap(scores, ranks, docs, a, b):
    """Exchange two entries."""
    scores[a], scores[b] = scores[b], scores[a]
    ranks[a], ranks[b] = ranks[b], ranks[a]
    docs[a], docs[b] = docs[b], docs[a]


@njit(cache=True, nogil=True)
def partition(scores, ranks, docs, low, high):
    """Part entries low … high around the middle one; returns (i, j) with low … j not after, i … high not before it."""
    middle = (low + high) // 2
    score, rank = scores[middle], ranks[middle]
    i, j = low, high
    while i <= j:
        while better(scores, ranks, i, score, rank):
            i += 1
        while worse(scores, ranks, j, score, rank):
            j -= 1
        if i <= j:
            swap(scores, ranks, docs, i, j)
            i += 1
            j -= 1
    return i, j


@njit(cache=True, nogil=True)
def cut(scores, ranks, docs, size, k):
    """Bring the k best of `size` entries to the front; returns the place of the worst of them. Needs 1 <= k <= size.

    scores float64, ranks uint32, docs uint32   in and out, entries 0 … size - 1; ranks are distinct
    """
    low, high = 0, size - 1
    while low < high:
        i, j = partition(scores, ranks, docs, low, high)
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            break
    worst = 0
    for a in range(1, k):
        if worse(scores, ranks, a, scores[worst], ranks[worst]):
            worst = a
    return worst


@njit(cache=True, nogil=True)
def sort_best(scores, ranks, docs, size):
    """Sort entries 0 … size - 1, best first: quicksort by the larger side last, insertion below 16."""
    stack = np.empty((128, 2), np.int64)
    depth = 1
    stack[0, 0], stack[0, 1] = 0, size - 1
    while depth > 0:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        while high - low >= 16:
            i, j = partition(scores, ranks, docs, low, high)
            if j - low > high - i:
                stack[depth, 0], stack[depth, 1] = low, j
                low = i
            else:
                stack[depth, 0], stack[depth, 1] = i, high
                high = j
            depth += 1
    for a in range(1, size):
        score, rank, doc = scores[a], ranks[a], docs[a]
        b = a - 1
        while b >= 0 and worse(scores, ranks, b, score, rank):
            scores[b + 1], ranks[b + 1], docs[b + 1] = scores[b], ranks[b], docs[b]
            b -= 1
        scores[b + 1], ranks[b + 1], docs[b + 1] = score, rank, doc
