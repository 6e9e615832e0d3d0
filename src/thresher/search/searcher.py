"""Searches one tier: calls the compiled query processor and says what it found wrong.

A score is the float64 sum, in ascending order of term ids, of query weight x stored impact, times the index's scale
once at the end; query weights are float32. Results are ordered by score, then by docno in bytewise ascending order, and
are the same in every plan and for any number of threads.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import numpy as np

from thresher.errors import DamagedArtifactError
from thresher.index.counts import SUPERBLOCK
from thresher.index.layout import FAULT_FILES
from thresher.search.effort import EXACT_LIMITS
from thresher.search.kernels.types import (
    AUTO,
    BAD_WEIGHT,
    BLOCKS,
    BOUND,
    DONE,
    EXACT,
    FAULTS,
    FIRST_TERMS,
    FOREVER,
    HITS,
    PLAN,
    PLAN_NAMES,
    PLANS,
    POSTINGS,
    RESCORED,
    SCORED,
    STATISTICS,
    SUPERBLOCKS,
    TERM_AT_A_TIME,
    TERMS,
    THRESHOLD,
    VISITED,
    WHOLE_SUPERBLOCKS,
    Allowed,
    Postings,
)
from thresher.search.queries import refuse_weight
from thresher.search.results import Explanation
from thresher.search.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from thresher.index.layout import Layout
    from thresher.search.kernels.types import Limits

_log = logging.getLogger(__name__)

Found: TypeAlias = "tuple[NDArray[np.uint32], NDArray[np.float64], list[float]]"
"""Internal ids, scores, and the processor's statistics of a query."""

_TRIED = ((0.4, 500_000, 10_000), (0.6, 1_000_000, 100_000))
"""Where bounds are tried: scatter of the lists at most, passages at least, passages for each hit wanted at least."""
_CAPPED = 4
_FEW = 40
"""A mask that allows at most one document in 40 is also kept as the list of these."""
_IDS, _SCORES = np.dtype(np.uint32), np.dtype(np.float64)


class TierSearcher:
    """Answers queries over one open layout. Safe to share between threads."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.vocabulary = Vocabulary(layout)
        self.size = layout.counts.passages
        self._spare: list[NDArray[np.float64]] = []
        nothing = np.empty(0, np.uint8)
        self._all = Allowed(nothing, np.empty(0, np.uint32), nothing, self.size)

    def __len__(self) -> int:
        return self.size

    def allow(self, mask: NDArray[np.bool_]) -> Allowed:
        """What `top` takes of a mask: bool[passages] by number, True where a passage may be returned.

        It takes up to some milliseconds for a million passages; keep the result where the mask comes again.
        """
        count = int(np.count_nonzero(mask))
        if count == self.size:
            return self._all
        sources = self.layout.sources
        by_id = mask.astype(np.uint8) if sources is None else np.take(mask.view(np.uint8), sources, mode="clip")
        few = count * _FEW <= self.size  # numpy lists the places of a bool array in an eighth of the time
        docs = np.flatnonzero(by_id.view(np.bool_)).astype(np.uint32) if few else self._all.docs
        superblocks = np.maximum.reduceat(by_id, np.arange(0, self.size, SUPERBLOCK))
        return Allowed(by_id, docs, superblocks, count)

    def top(
        self,
        terms: NDArray[np.int64],
        weights: NDArray[np.float32],
        k: int,
        limits: Limits,
        plan: str,
        allowed: Allowed | None = None,
        least: float = 0.0,
        deadline: int = FOREVER,
    ) -> Found:
        """The k best passages: internal ids uint32[n], scores float64[n], and the processor's statistics.

        With `allowed`, of `allow`, only these passages are returned; with `least`, a score, only those that reach it.
        At the `deadline`, of `thresher.search.effort.deadline_after`, what has been found by then is returned.

        Raises:
            InputError: a weight is negative or not finite.
            DamagedArtifactError: a posting list of the query is damaged.
        """
        if allowed is None:
            allowed = self._all
        width = k if k < allowed.size else allowed.size
        docs, scores = np.empty(width, _IDS), np.empty(width, _SCORES)
        spare = self._spare
        try:
            statistics = spare.pop()  # one step of the interpreter, so threads may share the list
        except IndexError:
            statistics = np.empty(STATISTICS, np.float64)
        request = (width, self._chosen(plan, width, limits), limits, least, deadline)
        status = self._single(terms, weights, request, self._postings, allowed, (docs, scores, statistics))
        if status != DONE:
            self._refuse(status, np.array((0, len(terms)), np.int64), weights)
        row = statistics.tolist()
        spare.append(statistics)
        if row[HITS] < width:
            docs, scores = docs[: int(row[HITS])], scores[: int(row[HITS])]
        return docs, scores, row

    def top_batch(
        self,
        rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
        k: int,
        limits: Limits,
        plan: str,
        threads: int,
        allowed: Allowed | None = None,
        least: NDArray[np.float64] | None = None,
        deadline: int = FOREVER,
    ) -> list[Found]:
        """As `top` for each row of (indptr, terms, weights), over `threads` threads; `least` float64[rows]."""
        indptr, terms, weights = rows
        allowed = self._all if allowed is None else allowed
        n, width = len(indptr) - 1, min(k, allowed.size)
        least = np.zeros(n) if least is None else least
        docs, scores = np.empty((n, width), np.uint32), np.empty((n, width), np.float64)
        statistics = np.empty((n, STATISTICS), np.float64)
        kernel, request = self._several, (width, self._chosen(plan, width, limits), limits, least, deadline)
        postings, out = self._postings, (docs, scores, statistics)

        def answer(counter: NDArray[np.int64]) -> int:  # the interpreter's lock is not held meanwhile
            return kernel(counter, indptr, terms, weights, request, postings, allowed, out)

        counter, threads = np.zeros(1, np.int64), min(threads, n)
        if threads <= 1:
            status = answer(counter)
        else:
            with ThreadPoolExecutor(threads - 1) as pool:
                others = [pool.submit(answer, counter) for _ in range(threads - 1)]
                done = {answer(counter), *(other.result() for other in others)}
            status = DONE if done == {DONE} else answer(np.zeros(1, np.int64))  # the first one at fault
        if status != DONE:
            self._refuse(status, indptr, weights)
        return [
            (own, sums, row) if row[HITS] == width else (own[: int(row[HITS])], sums[: int(row[HITS])], row)
            for own, sums, row in zip(docs, scores, statistics.tolist(), strict=True)
        ]

    def matches(self, terms: NDArray[np.int64], allowed: Allowed | None = None) -> NDArray[np.uint8]:
        """uint8[passages] by number: 1 where an allowed passage holds one of `terms`; unknown ones are ignored.

        Raises:
            DamagedArtifactError: a posting list of the query is damaged.
        """
        from thresher.search.kernels.matches import mark

        known = terms[(terms >= 0) & (terms < self.layout.counts.terms)].astype(np.int64)
        flags = np.zeros(self.size, np.uint8)
        status = mark(known, self._postings, flags)
        if status != DONE:
            self._refuse(status, np.zeros(1, np.int64), np.empty(0, np.float32))
        if allowed is not None and allowed.size < self.size:
            flags &= allowed.mask
        if self.layout.sources is None:
            return flags
        by_number = np.empty_like(flags)
        by_number[self.layout.numbers_of(np.arange(self.size))] = flags
        return by_number

    def _chosen(self, plan: str, k: int, limits: Limits) -> int:
        """The plan's number; bounds are tried wherever a cap leaves out three quarters of the superblocks and more."""
        if plan == "auto" and limits.superblocks * _CAPPED <= self.layout.counts.superblocks:
            return AUTO
        return PLANS[plan] or self._plan(k)

    def _plan(self, k: int) -> int:
        """The plan for `auto`: bounds are tried in large collections whose order makes them tight.

        Measured on half a million to four million passages (eval: search-growth, search-scale). Where k is larger, or
        the order brings fewer similar passages together, everything is scored before bounds have paid for themselves.
        """
        scatter = self.layout.scatter
        tried = any(scatter <= most and self.size >= max(large, k * each) for most, large, each in _TRIED)
        return AUTO if tried else TERM_AT_A_TIME

    def _refuse(self, status: int, indptr: NDArray[np.int64], weights: NDArray[np.float32]) -> NoReturn:
        """Raise the error of a status."""
        if status < DONE:
            query = BAD_WEIGHT - status
            refuse_weight(query, weights[indptr[query] : indptr[query + 1]])
        term, fault = divmod(status, FAULTS)
        problem = f"the posting list of term {term} is damaged; run `thresher verify`, and rebuild the index"
        raise DamagedArtifactError(str(self.layout.path / FAULT_FILES[fault]), problem)

    @cached_property
    def _single(self) -> Callable[..., int]:
        """The compiled processor for one query; numba loads with it.

        Compiled for the types that `top` gives it and called as it is: looking up the types of the arguments for each
        query would take as long as scoring some thousand postings.
        """
        from thresher.search.kernels.processor import search_row

        out = (np.empty(0, np.uint32), np.empty(0, np.float64), np.empty(0, np.float64))
        query = (np.empty(0, np.int64), np.empty(0, np.float32), (0, 0, EXACT_LIMITS, 0.0, FOREVER))
        arguments = (*query, self._postings, self._all, out)
        return _compiled(search_row, arguments)

    @cached_property
    def _several(self) -> Callable[..., int]:
        """The same for many queries."""
        from thresher.search.kernels.processor import search_many

        numbers, floats = np.empty(1, np.int64), np.empty((0, 0), np.float64)
        request = (0, 0, EXACT_LIMITS, np.empty(0, np.float64), FOREVER)
        queries = (numbers, numbers, np.empty(0, np.int64), np.empty(0, np.float32), request)
        out = (np.empty((0, 0), np.uint32), floats, floats)
        return _compiled(search_many, (*queries, self._postings, self._all, out))

    @cached_property
    def _postings(self) -> Postings:
        """The index as kernels take it."""
        x, n = self.layout, self.layout.counts
        lists = (x.starts, x.rows, x.kth, x.dense, x.impacts, x.ids, x.superblocks, x.maxima, x.ranks)
        return Postings(*lists, np.zeros(n.terms, np.uint8), n.scale, n.passages, n.block, n.bits)


def _compiled(kernel: Callable[..., int], arguments: tuple[object, ...]) -> Callable[..., int]:
    """The kernel for arguments of these types; itself where numba does not compile."""
    from numba import config, typeof

    if config.DISABLE_JIT:
        return kernel
    if _cold(kernel):
        _log.warning("compiling the query processor for this machine: about half a minute, once after an installation")
    compiled: Callable[..., int] = kernel.compile(tuple(typeof(value) for value in arguments))  # type: ignore[attr-defined]
    return compiled


def _cold(kernel: object) -> bool:
    """Whether Numba's cache holds nothing of a kernel; False where it cannot be asked."""
    try:
        return not kernel._cache._cache_file._load_index()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return type(getattr(kernel, "_cache", None)).__name__ == "NullCache"


def is_exact(row: list[float]) -> bool:
    """Whether these statistics are of an exact answer: nothing that might have mattered was left out."""
    return row[EXACT] == 1


def explain(row: list[float]) -> Explanation:
    """The processor's statistics of a query, by name."""
    return Explanation(
        plan=PLAN_NAMES[int(row[PLAN])],
        terms=int(row[TERMS]),
        postings=int(row[POSTINGS]),
        scored=int(row[SCORED]),
        blocks=int(row[BLOCKS]),
        visited=int(row[VISITED]),
        superblocks=int(row[SUPERBLOCKS]),
        whole_superblocks=int(row[WHOLE_SUPERBLOCKS]),
        threshold=row[THRESHOLD],
        bound=row[BOUND],
        first_terms=int(row[FIRST_TERMS]),
        rescored=int(row[RESCORED]),
    )
