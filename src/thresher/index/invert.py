"""From rows of weighted terms to posting lists, block directories and stored impacts: the kernels of the builder.

Inversion is one counting pass (done while passages arrive) and one placing pass: every posting goes straight to its
final place, list after list, so the only memory is one cursor per term. All arrays may be larger than memory; they are
memory-mapped files. Under a limit on resident memory there are several placing passes, over as many terms each as their
lists leave room for, and rows are read window by window (`thresher.index.memory`). The files are the same.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import CHUNK, KTH
from thresher.index.memory import LEAST_ROOM, ranges
from thresher.mapping import release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.memory import MemoryLimit

NEARBY = 2 * 65_536
"""Bytes that become resident with a row that is read out of order, of terms and of weights: Linux maps what is cached
of the 64 KiB around a page."""


class Spool(NamedTuple):
    """The rows that were added.

    Attributes:
        indptr: int64[n + 1], rows of passages in the order they came.
        terms: uint32[nnz], term ids, ascending in a row, each below the number of terms (checked on arrival).
        weights: float32[nnz], positive, finite.
        order: uint32[n], internal id -> number in the order they came.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.uint32]
    weights: NDArray[np.float32]
    order: NDArray[np.uint32]


class Lists(NamedTuple):
    """The posting lists being written; arrays as in `thresher.index.layout`.

    Attributes:
        starts, rows: int64[terms + 1], int32[terms].
        last: uint16[terms], the last chunk that a list without a directory row reaches.
        kth, dense, impacts, ids, maxima: zeros at first.
        superblocks: uint32[common, superblocks + 1], zeros; then postings by superblock; then first postings.
        scale: one unit of impact; impact = rint(weight / scale), at least 1, at most `top`.
        top: int64, the largest possible impact.
        block: documents in a block.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    last: NDArray[np.uint16]
    kth: Array
    dense: Array
    impacts: Array
    ids: NDArray[np.uint16]
    superblocks: NDArray[np.uint32]
    maxima: NDArray[np.uint8]
    scale: float
    top: int
    block: int


class Cursors(NamedTuple):
    """Where the next posting of each of some terms goes; int64[m], int64[m], uint16[m].

    Attributes:
        at: the next entry.
        skips: the entry that says where the current chunk of a list ends.
        chunks: the current chunk.
    """

    at: NDArray[np.int64]
    skips: NDArray[np.int64]
    chunks: NDArray[np.uint16]


def invert(spool: Spool, lists: Lists, lengths: NDArray[np.int64], limit: MemoryLimit | None = None) -> None:
    """Place the postings, and bound lists and blocks; two threads share the terms.

    Args:
        spool: the rows.
        lists: zeros; out.
        lengths: int64[terms], postings of each term.
        limit: on resident memory; None for none.

    Raises:
        ConfigError: it leaves too little room.
    """
    if limit is not None:
        limit.require(2 * LEAST_ROOM, "inversion")
    room = None if limit is None else limit.left()
    passes = [(0, len(lengths))] if room is None else list(ranges(_bytes_of_terms(lists, lengths), room // 2))
    with ThreadPoolExecutor(2) as pool:
        for first, after in passes:
            before = int(np.searchsorted(np.cumsum(lengths[first:after]), lengths[first:after].sum() // 2))
            parts = [(first, first + before), (first + before, after)]
            cursors = [_cursors(*part, lists) for part in parts]
            for docs in windows(spool, None if room is None else room // 4):
                rest = (docs, spool, lists)
                list(pool.map(lambda part, own, rest=rest: place(*part, rest[0], own, *rest[1:]), parts, cursors))

            def complete(part: tuple[int, int]) -> None:
                kth_largest(*part, np.array(KTH, np.int64), lists)
                fill_directory(*part, lists)

            list(pool.map(complete, parts))
            if room is not None:
                _release_terms(first, after, lists)


def windows(spool: Spool, room: int | None) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of documents, whose rows take at most `room` bytes; each is given back when it was read."""
    n = len(spool.order)
    if room is None:
        yield 0, n
        return
    in_order = not bool(np.any(spool.order[1:] < spool.order[:-1]))
    each = 8 * len(spool.terms) // max(n, 1) + 8 if in_order else NEARBY
    step = max(room // max(each, 1), 1)
    for first in range(0, n, step):
        after = min(first + step, n)
        yield first, after
        rows = slice(int(spool.indptr[first]), int(spool.indptr[after])) if in_order else slice(None)
        release(spool.terms[rows])
        release(spool.weights[rows])
        release(spool.indptr)


def _bytes_of_terms(lists: Lists, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[terms]: bytes that each term has in the files of the lists."""
    width, rows = lists.impacts.itemsize, lists.rows
    sizes = np.diff(lists.starts) * (width + 2)
    sizes[(rows >= 0) & (rows < lists.superblocks.shape[0])] += lists.superblocks.shape[1] * 4 + lists.maxima.shape[1]
    sizes[(rows >= 0) & (rows < lists.dense.shape[0])] += lists.dense.shape[1] * width
    return sizes + (lengths > 0)


def _release_terms(first: int, after: int, lists: Lists) -> None:
    """Give back the pages that terms first ... after - 1 have in the files of the lists."""
    entries = slice(int(lists.starts[first]), int(lists.starts[after]))
    release(lists.impacts[entries])
    release(lists.ids[entries])
    for whole in (lists.dense, lists.superblocks, lists.maxima):
        release(whole)


def _cursors(first: int, after: int, lists: Lists) -> Cursors:
    """Before the first posting of terms first ... after - 1."""
    starts = lists.starts[first:after]
    return Cursors(starts + (lists.last[first:after] > 0), starts.copy(), np.zeros(after - first, np.uint16))


@njit(cache=True, nogil=True)
def count_terms(terms, weights, lengths, largest):
    """Add a batch of postings to the lengths of the lists, and raise their largest weights.

    terms    uint32[nnz]       ids, each below len(lengths)
    weights  float32[nnz]
    lengths  int64[terms]      in and out
    largest  float32[terms]    in and out
    """
    for p in range(terms.shape[0]):
        lengths[terms[p]] += 1
        largest[terms[p]] = max(largest[terms[p]], weights[p])


@njit(cache=True, nogil=True)
def last_chunks(docs, spool, last):
    """The last chunk that each list reaches in these documents, where it reaches a later one than before.

    docs     (int64, int64)   first, and the one after the last
    spool    `Spool`
    last     uint16[terms]    in and out
    """
    indptr, terms, order = spool.indptr, spool.terms, spool.order
    for doc in range(max(docs[0], CHUNK), docs[1]):
        source = order[doc]
        chunk = np.uint16(doc // CHUNK)
        for p in range(indptr[source], indptr[source + 1]):
            last[terms[p]] = chunk


@njit(cache=True, nogil=True)
def first_at_least(term, terms, first, after):
    """The first of places first ... after - 1, whose terms ascend, with at least this term; `after` if none."""
    while first < after:
        middle = (first + after) // 2
        if terms[middle] < term:
            first = middle + 1
        else:
            after = middle
    return first


@njit(cache=True, nogil=True)
def place(first, after, docs, cursors, spool, lists):
    """Put the postings of terms first ... after - 1 in some documents into their lists; count them in superblocks.

    docs      (int64, int64)   first, and the one after the last; windows follow one another
    cursors   `Cursors` of the terms   in and out
    """
    indptr, terms, weights, order = spool.indptr, spool.terms, spool.weights, spool.order
    rows, last, dense, superblocks = lists.rows, lists.last, lists.dense, lists.superblocks
    impacts, ids, scale, top = lists.impacts, lists.ids, lists.scale, np.float64(lists.top)
    next_at, skips, chunks = cursors.at, cursors.skips, cursors.chunks
    common = superblocks.shape[0]
    for doc in range(docs[0], docs[1]):
        source = order[doc]
        low, chunk, superblock = np.uint16(doc % CHUNK), doc // CHUNK, doc // SUPERBLOCK + 1
        begin, end = indptr[source], indptr[source + 1]
        if first > 0:
            begin = first_at_least(first, terms, begin, end)
        for p in range(begin, end):
            term = np.int64(terms[p])
            if term >= after:
                break
            i = term - first
            row = np.int64(rows[term])
            impact = np.int64(min(max(np.rint(np.float64(weights[p]) / scale), 1.0), top))
            if 0 <= row < common:
                superblocks[row, superblock] += np.uint32(1)
                if row < dense.shape[0]:
                    dense[row, doc] = impact
                    continue
            if last[term] > 0:
                while chunks[i] < chunk:
                    ids[skips[i]] = next_at[i] - skips[i] - 1
                    chunks[i] += np.uint16(1)
                    skips[i] = next_at[i]
                    next_at[i] += chunks[i] < last[term]
            at = next_at[i]
            next_at[i] = at + 1
            impacts[at] = impact
            ids[at] = low


@njit(cache=True, nogil=True)
def fill_directory(first, after, lists):
    """Finish the directory rows of the common ones of terms first ... after - 1: superblocks and maxima.

    16-bit impacts become maxima of ceil(255 * impact / largest).
    """
    starts, rows, dense, impacts, ids = lists.starts, lists.rows, lists.dense, lists.impacts, lists.ids
    superblocks, maxima, block = lists.superblocks, lists.maxima, lists.block
    step, wide = SUPERBLOCK // block, lists.top > 255
    for term in range(first, after):
        row = rows[term]
        if not 0 <= row < superblocks.shape[0]:
            continue
        largest = np.int64(lists.kth[row, 0])
        for s in range(superblocks.shape[1] - 1):
            superblocks[row, s + 1] += superblocks[row, s]
        if row < dense.shape[0]:
            for doc in range(dense.shape[1]):
                best = np.int64(dense[row, doc])
                if wide:
                    best = (best * 255 + largest - 1) // largest
                maxima[row, doc // block] = max(np.int64(maxima[row, doc // block]), best)
            continue
        for s in range(superblocks.shape[1] - 1):
            for p in range(starts[term] + superblocks[row, s], starts[term] + superblocks[row, s + 1]):
                best = np.int64(impacts[p])
                if wide:
                    best = (best * 255 + largest - 1) // largest
                here = s * step + (np.int64(ids[p]) % SUPERBLOCK) // block
                maxima[row, here] = max(np.int64(maxima[row, here]), best)


@njit(cache=True, nogil=True)
def kth_largest(first, after, ks, lists):
    """Overwrite `kth[row, i]` with the ks[i]-th largest impact of each list of terms first ... after - 1.

    0 where the list is shorter; ks int64[m], ascending.
    """
    starts, rows, dense, impacts, kth = lists.starts, lists.rows, lists.dense, lists.impacts, lists.kth
    counts = np.zeros(lists.top + 1, np.int64)
    for term in range(first, after):
        row = rows[term]
        if row < 0:
            continue
        highest = np.int64(0)
        own = dense[row] if row < dense.shape[0] else impacts[starts[term] : starts[term + 1]]
        for p in range(own.shape[0]):
            impact = np.int64(own[p])
            counts[impact] += 1
            highest = max(highest, impact)
        seen = np.int64(0)
        i = 0
        for impact in range(highest, 0, -1):
            seen += counts[impact]
            while i < ks.shape[0] and seen >= ks[i]:
                kth[row, i] = impact
                i += 1
            if i == ks.shape[0]:
                break
        counts[: highest + 1] = 0
