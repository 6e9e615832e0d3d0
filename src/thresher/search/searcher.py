"""Searches one tier: calls the compiled query processor and says what it found wrong.

A score is the float64 sum, in ascending order of term ids, of query weight x stored impact, times the index's scale
once at the end; query weights are float32. Results are ordered by score, then by docno in bytewise ascending order, and
are the same in every plan and for any number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import numpy as np

from thresher.errors import ArtifactError, DamagedArtifactError
from thresher.search.queries import Vocabulary, refuse_weight
from thresher.search.results import Explanation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from thresher.encode import QueryEncoder
    from thresher.index.layout import Layout

Found: TypeAlias = "tuple[NDArray[np.uint32], NDArray[np.float64], list[float]]"
"""Internal ids, scores, and the processor's statistics of a query."""

PLANS = {"auto": 0, "term-at-a-time": 1, "block-max": 2}
"""Numbers of the plans in the processor; its 0 tries bounds first, see `TierSearcher._plan`."""
_PLAN_NAMES = {number: name for name, number in PLANS.items()}
_FILES = ("", "ids", "tiles")  # by what `thresher.search.kernels.postings.sound` finds
_DONE = -1  # what a kernel returns where nothing is wrong
ALL_TERMS = 2**40
"""A `max_terms` that drops none."""
_STATISTICS = 12  # numbers that the processor reports of a query
_LARGE, _SCATTER, _PER_HIT = 1_000_000, 0.6, 100_000
"""Where bounds are tried: passages at least, scatter of the lists at most, passages for each hit wanted at least."""
_IDS, _SCORES = np.dtype(np.uint32), np.dtype(np.float64)


class TierSearcher:
    """Answers queries over one open layout. Safe to share between threads."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.vocabulary = Vocabulary(layout)
        self.size = layout.counts.passages
        self._spare: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        return self.size

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the encoder the tier was made with, empty where it holds none."""
        if not (self.layout.path / "encoder").is_dir():
            return ""
        fields = self.layout.manifest.fields.get("encoder") or {}
        return str(fields.get("fingerprint", "") or self.encoder.fingerprint)

    @cached_property
    def encoder(self) -> QueryEncoder:
        """What turns query texts into weighted terms, loaded on first use.

        Raises:
            ArtifactError: the index was built without one; search with weighted terms instead.
        """
        directory = self.layout.path / "encoder"
        if not directory.is_dir():
            raise ArtifactError(
                f"{self.layout.path} holds no query encoder; search with weighted terms, e.g. {{'median': 1.0}}, "
                "or rebuild it with an encoder"
            )
        from thresher.encode.encoder import load_query_encoder

        return load_query_encoder(directory)

    def load_encoder(self) -> QueryEncoder:
        """`encoder`, as a function."""
        return self.encoder

    def top(
        self,
        terms: NDArray[np.int64],
        weights: NDArray[np.float32],
        k: int,
        alpha: float,
        max_terms: int,
        plan: str,
    ) -> Found:
        """The k best passages: internal ids uint32[n], scores float64[n], and the processor's statistics.

        Raises:
            InputError: a weight is negative or not finite.
            DamagedArtifactError: a posting list of the query is damaged.
        """
        width = min(k, self.size)
        docs, scores = np.empty(width, _IDS), np.empty(width, _SCORES)
        spare = self._spare
        try:
            statistics = spare.pop()  # one step of the interpreter, so threads may share the list
        except IndexError:
            statistics = np.empty(_STATISTICS, np.float64)
        kernel, arrays = self._single
        number = PLANS[plan] or self._plan(k)
        status = kernel(terms, weights, k, number, alpha, max_terms, *arrays, docs, scores, statistics)
        if status != _DONE:
            self._refuse(status, np.array((0, len(terms)), np.int64), weights)
        row = statistics.tolist()
        spare.append(statistics)
        if row[9] < width:
            docs, scores = docs[: int(row[9])], scores[: int(row[9])]
        return docs, scores, row

    def top_batch(
        self,
        rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
        k: int,
        alpha: float,
        max_terms: int,
        plan: str,
        threads: int,
    ) -> list[Found]:
        """As `top` for each row of (indptr, terms, weights), over `threads` threads."""
        indptr, terms, weights = rows
        n, width = len(indptr) - 1, min(k, self.size)
        docs, scores = np.empty((n, width), np.uint32), np.empty((n, width), np.float64)
        statistics = np.empty((n, _STATISTICS), np.float64)
        kernel, arrays = self._several
        number = PLANS[plan] or self._plan(k)
        asked = (indptr, terms, weights, k, number, alpha, max_terms, *arrays, docs, scores, statistics)

        def answer(counter: NDArray[np.int64]) -> int:
            return kernel(counter, *asked)  # the interpreter's lock is not held meanwhile

        counter, threads = np.zeros(1, np.int64), min(threads, n)
        if threads <= 1:
            status = answer(counter)
        else:
            with ThreadPoolExecutor(threads - 1) as pool:
                others = [pool.submit(answer, counter) for _ in range(threads - 1)]
                done = {answer(counter), *(other.result() for other in others)}
            status = _DONE if done == {_DONE} else answer(np.zeros(1, np.int64))  # the first one at fault
        if status != _DONE:
            self._refuse(status, indptr, weights)
        return [
            (own, sums, row) if row[9] == width else (own[: int(row[9])], sums[: int(row[9])], row)
            for own, sums, row in zip(docs, scores, statistics.tolist(), strict=True)
        ]

    def _plan(self, k: int) -> int:
        """The number of the plan for `auto`: bounds are tried in large collections whose order makes them tight.

        Measured on one to four million passages (eval: search-growth): where k is larger, or no order as good as
        bisection's has brought together what is alike, everything is scored before bounds have paid for themselves.
        """
        large = self.size >= max(_LARGE, k * _PER_HIT)
        return PLANS["auto" if large and self.layout.scatter <= _SCATTER else "term-at-a-time"]

    def _refuse(self, status: int, indptr: NDArray[np.int64], weights: NDArray[np.float32]) -> NoReturn:
        """Say what a kernel found wrong."""
        if status < _DONE:
            query = -2 - status
            refuse_weight(query, weights[indptr[query] : indptr[query + 1]])
        problem = f"the posting list of term {status // 8} is damaged; run `thresher verify`, and rebuild the index"
        raise DamagedArtifactError(str(self.layout.path / _FILES[status % 8]), problem)

    @cached_property
    def _single(self) -> tuple[Callable[..., int], tuple[Any, ...]]:
        """The compiled processor for one query, and the index as it takes it; numba loads with it.

        Compiled for the types that `top` gives it and called as it is: looking up the types of two dozen arguments
        for each query would take as long as scoring some thousand postings.
        """
        from thresher.search.kernels.processor import search_row

        query = (np.empty(0, np.int64), np.empty(0, np.float32), 0, 0, 1.0, 0)
        out = (np.empty(0, np.uint32), np.empty(0, np.float64), np.empty(0, np.float64))
        return _compiled(search_row, (*query, *self._arrays, *out)), self._arrays

    @cached_property
    def _several(self) -> tuple[Callable[..., int], tuple[Any, ...]]:
        """The same for many queries."""
        from thresher.search.kernels.processor import search_many

        queries = (
            np.empty(1, np.int64),
            np.empty(1, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.float32),
            0,
            0,
            1.0,
            0,
        )
        out = (np.empty((0, 0), np.uint32), np.empty((0, 0), np.float64), np.empty((0, 0), np.float64))
        return _compiled(search_many, (*queries, *self._arrays, *out)), self._arrays

    @cached_property
    def _arrays(self) -> tuple[Any, ...]:
        """The index as kernels take it."""
        x, n = self.layout, self.layout.counts
        lists = (x.starts, x.rows, x.kth, x.dense, x.impacts, x.ids, x.tiles, x.maxima, x.ranks)
        return (n.scale, n.passages, n.block, n.bits, *lists, np.zeros(n.terms, np.uint8))


def _compiled(kernel: Any, arguments: tuple[Any, ...]) -> Callable[..., int]:
    """The kernel for arguments of these types."""
    from numba import typeof

    return cast("Callable[..., int]", kernel.compile(tuple(typeof(value) for value in arguments)))


def explain(row: list[float]) -> Explanation:
    """The processor's statistics of a query, by name."""
    plan, *numbers = map(int, row[:8])
    return Explanation(_PLAN_NAMES[plan], *numbers, *row[10:])
