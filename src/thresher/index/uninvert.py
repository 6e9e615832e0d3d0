"""From posting lists back to rows: what merges copy, and what statistics lose when passages are deleted.

A call passes over all posting lists, twice for rows: once to count the postings of each wanted passage, once to put
every posting into its passage's row. Lists come in ascending order of terms, so rows ascend too. Threads share the
terms; each has its own counts, so that one's postings follow the other's in every row.

Sources: a counting sort by passage, the inverse of `thresher.index.invert`.
"""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="assignment, arg-type, operator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher._lazy import njit
from thresher.checks import shown
from thresher.errors import DamagedArtifactError, InputError
from thresher.index.layout import FAULT_FILES, IDS_FAULT, VALID
from thresher.index.lists import count_postings_of, read_list, validate
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.layout import Layout

FAULTS = 8
"""A status is `FAULTS` x term + fault where a list is damaged, else -1."""
NONE = 2**32 - 1


class Stored(NamedTuple):
    """The posting lists of a layout as kernels read them; arrays as there."""

    starts: Array
    rows: NDArray[np.int32]
    dense: Array
    impacts: Array
    ids: NDArray[np.uint16]
    superblocks: NDArray[np.uint32]
    passages: int


class Rows(NamedTuple):
    """Rows of passages.

    Attributes:
        indptr: int64[rows + 1].
        terms: uint32[nnz], term ids, ascending in a row.
        impacts: uint8 or uint16[nnz], stored impacts.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.uint32]
    impacts: Array

    def batch(self, scale: float) -> SparseBatch:
        """The rows with weights float32, impact x scale: a builder with this scale stores the same impacts."""
        return SparseBatch(self.indptr, self.terms, (self.impacts * np.float64(scale)).astype(np.float32))


def count_postings(layout: Layout, terms: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[n]: how many passages hold each of `terms`, deleted ones among them.

    Raises:
        InputError: a term is out of range.
        DamagedArtifactError: a list is damaged.
    """
    if len(terms) and not 0 <= int(terms.min()) <= int(terms.max()) < len(layout.rows):
        raise InputError(f"terms must be below {len(layout.rows)}, got {shown(terms)}")
    counts = np.empty(len(terms), np.int64)
    refuse(layout, _count_lists(np.ascontiguousarray(terms, np.int64), stored_lists(layout), counts))
    return counts


def count_deleted(layout: Layout, deleted: NDArray[np.bool_], threads: int = 2) -> NDArray[np.uint32]:
    """uint32[terms]: how many of the passages that hold each term are deleted.

    Args:
        layout: the index.
        deleted: bool[passages] by number.
        threads: how many share the work.

    Raises:
        DamagedArtifactError: a list is damaged.
    """
    counts = np.zeros(layout.counts.terms, np.uint32)
    mask = np.ascontiguousarray(deleted[layout.numbers_of(np.arange(layout.counts.passages))]).view(np.uint8)
    if mask.any():
        _share(layout, threads, lambda _, first, after, index: _count_masked(first, after, index, mask, counts))
    return counts


def uninvert(layout: Layout, live: NDArray[np.bool_] | None, first: int, after: int, threads: int = 2) -> Rows:
    """The rows of the live ones of passages number first ... after - 1, in order of their numbers.

    Memory: six to eight bytes a posting of the result, and some twelve a passage of the layout.

    Args:
        layout: the index.
        live: bool[passages] by number, None for all.
        first: the range begins with this number; each range passes over all posting lists.
        after: the range ends before this number.
        threads: how many share the work.

    Raises:
        DamagedArtifactError: a list is damaged.
    """
    n = layout.counts
    numbers = layout.numbers_of(np.arange(n.passages))
    wanted = np.zeros(n.passages, bool)
    wanted[first:after] = True if live is None else live[first:after]
    places = np.cumsum(wanted, dtype=np.uint32) - np.uint32(1)
    places[~wanted] = NONE
    return rows_at(layout, places[numbers], int(np.count_nonzero(wanted)), threads)


def rows_at(layout: Layout, places: NDArray[np.uint32], size: int, threads: int = 2) -> Rows:
    """The rows of some documents, in the order that `places` gives them.

    Args:
        layout: the index.
        places: uint32[passages] by internal id: the row of each document, below `size`; `NONE` where it has none.
        size: how many rows there are.
        threads: how many share the work.

    Raises:
        DamagedArtifactError: a list is damaged.
    """
    counts = np.zeros((threads, size), np.uint32)
    _share(layout, threads, lambda t, low, high, index: _count_rows(low, high, index, places, counts[t]))
    indptr = np.zeros(size + 1, np.int64)
    np.cumsum(counts.sum(axis=0, dtype=np.int64), out=indptr[1:])
    cursors = indptr[:-1] + np.cumsum(counts, axis=0, dtype=np.int64) - counts
    rows = Rows(indptr, np.empty(indptr[-1], np.uint32), np.empty(indptr[-1], layout.impacts.dtype))
    _share(layout, threads, lambda t, low, high, index: _fill_rows(low, high, index, places, cursors[t], rows))
    return rows


def stored_lists(layout: Layout) -> Stored:
    """The posting lists of a layout, for kernels."""
    x = layout
    return Stored(x.starts, x.rows, x.dense, x.impacts, x.ids, x.superblocks, x.counts.passages)


def _share(layout: Layout, threads: int, work: Callable[[int, int, int, Stored], int]) -> None:
    """Call `work` (thread, first term, last + 1, lists) for shares of the terms of about equal numbers of postings."""
    index, n = stored_lists(layout), layout.counts
    lengths = np.diff(index.starts.astype(np.int64))
    lengths[(index.rows >= 0) & (index.rows < n.dense)] = n.passages
    ends = np.searchsorted(np.cumsum(lengths), np.linspace(0, lengths.sum(), threads + 1)[1:-1]).tolist()
    borders = [0, *ends, n.terms]
    with ThreadPoolExecutor(threads) as pool:
        statuses = list(pool.map(lambda t: work(t, borders[t], borders[t + 1], index), range(threads)))
    for status in statuses:
        refuse(layout, status)


def refuse(layout: Layout, status: int) -> None:
    """Raise the error of a status, if it is one."""
    if status >= 0:
        term, fault = divmod(status, FAULTS)
        problem = f"the posting list of term {term} is damaged; run `thresher verify`, and rebuild the index"
        raise DamagedArtifactError(str(layout.path / FAULT_FILES[fault]), problem)


@njit(cache=True, nogil=True)
def _count_lists(terms, index, counts):
    """The postings of the lists of `terms`, int64[n], into `counts`, int64[n]; returns a status."""
    for i in range(terms.shape[0]):
        counts[i] = count_postings_of(terms[i], index)
        if counts[i] < 0:
            return terms[i] * FAULTS + IDS_FAULT
    return np.int64(-1)


@njit(cache=True, nogil=True)
def _count_masked(first, after, index, mask, counts):
    """How many postings of terms first ... after - 1 are of documents in `mask`; returns a status.

    mask     uint8[passages]   1 where a document counts
    counts   uint32[terms]     out
    """
    docs, impacts = np.empty(index.passages, np.uint32), np.empty(index.passages, index.impacts.dtype)
    for term in range(first, after):
        fault = validate(term, index)
        if fault != VALID:
            return np.int64(term) * FAULTS + fault
        count = 0
        for p in range(read_list(term, index, docs, impacts)):
            count += mask[docs[p]]
        counts[term] = count
    return np.int64(-1)


@njit(cache=True, nogil=True)
def _count_rows(first, after, index, places, counts):
    """Add the postings of terms first ... after - 1 to the lengths of the rows; returns a status.

    places   uint32[passages]   row of each document, `NONE` where it has none
    counts   uint32[rows]       in and out
    """
    docs, impacts = np.empty(index.passages, np.uint32), np.empty(index.passages, index.impacts.dtype)
    for term in range(first, after):
        fault = validate(term, index)
        if fault != VALID:
            return np.int64(term) * FAULTS + fault
        for p in range(read_list(term, index, docs, impacts)):
            place = places[docs[p]]
            if place != NONE:
                counts[place] += np.uint32(1)
    return np.int64(-1)


@njit(cache=True, nogil=True)
def _fill_rows(first, after, index, places, cursors, rows):
    """Put the postings of terms first ... after - 1, whose lists are valid, into their rows; returns a status.

    places    uint32[passages]   as in `_count_rows`
    cursors   int64[rows]        in and out: where each row goes on
    rows      `Rows`             out
    """
    docs, impacts = np.empty(index.passages, np.uint32), np.empty(index.passages, index.impacts.dtype)
    for term in range(first, after):
        for p in range(read_list(term, index, docs, impacts)):
            place = places[docs[p]]
            if place != NONE:
                at = cursors[place]
                cursors[place] = at + 1
                rows.terms[at], rows.impacts[at] = term, impacts[p]
    return np.int64(-1)
