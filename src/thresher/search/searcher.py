"""Queries in, ranked passages out: the face of the query processor.

A score is the float64 sum, in ascending order of term ids, of query weight × stored impact, times the index's scale
once at the end; query weights are float32, as encoders make them. Results are ordered by score, then by docno in
bytewise ascending order, and are the same in every plan and for any number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.index.layout import Layout, open_layout
from thresher.search.queries import Query, Terms, Vocabulary, refuse_weight, to_batch, to_row
from thresher.search.result import Explanation, SearchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.records import SparseBatch

PLANS = {"auto": 0, "term-at-a-time": 1, "block-max": 2}
"""As the processor numbers them: its 0 tries bounds first, see `Searcher._plan`."""
_PLAN_NAMES = {number: name for name, number in PLANS.items()}
_FILES = ("", "ids", "tiles")  # by what `thresher.search.kernels.postings.sound` finds
_DONE = -1  # what a kernel returns where nothing is wrong
_ALL = 2**40  # terms of a query
_STATISTICS = 12  # numbers that the processor tells of a query
_LARGE, _SCATTER, _PER_HIT = 1_000_000, 0.6, 100_000
"""Where bounds are tried: passages at least, scatter of the lists at most, passages for each hit wanted at least."""
_IDS, _SCORES = np.dtype(np.uint32), np.dtype(np.float64)


class Searcher:
    """An open index that answers queries. Safe to share between threads.

    Open one with `Searcher.open`; opening maps files into memory and reads next to nothing.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._vocabulary = Vocabulary(layout)
        self._passages = layout.counts.passages
        self._spare: list[NDArray[np.float64]] = []

    @classmethod
    def open(cls, path: str | Path) -> Searcher:
        """Open the index in directory `path`.

        Raises:
            ArtifactError: there is no index, or a newer thresher wrote it.
            DamagedArtifactError: a file is missing or has the wrong size.
        """
        return cls(open_layout(path))

    def __len__(self) -> int:
        """Passages in the index."""
        return self.layout.counts.passages

    @cached_property
    def encoder(self) -> Any:
        """What turns query texts into weighted terms, loaded on first use.

        Raises:
            ArtifactError: the index was built without one; ask with weighted terms instead.
        """
        directory = self.layout.path / "encoder"
        if not directory.is_dir():
            raise ArtifactError(
                f"{self.layout.path} holds no query encoder; ask with weighted terms, e.g. {{'median': 1.0}}, "
                "or rebuild it with an encoder"
            )
        from thresher.encode import load_query_encoder

        return load_query_encoder(directory)

    def terms(self, query: Query) -> Terms:
        """The query's terms as ids of this index and their weights; `search` takes the pair for the query."""
        return to_row(query, self._vocabulary, self._load_encoder)

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        approx: float | None = None,
        max_terms: int | None = None,
        plan: str = "auto",
        explain: bool = False,
    ) -> SearchResult:
        """The k best passages for `query`; fewer only where fewer share a term with it.

        Args:
            query: a query, a mapping from term strings to weights, or a pair of term ids and weights. Repeated terms
                add up; terms the index does not know, and weights of 0, are ignored.
            k: how many, at least 0.
            approx: None for exact results. A number in (0, 1) scales the bounds of blocks before they are compared with
                the threshold: blocks that are unlikely to matter are skipped, and the result may miss passages.
            max_terms: keep only the heaviest query terms; the result is approximate where some are dropped.
            plan: `auto`, or a plan to force: `term-at-a-time`, `block-max`.
            explain: say in the result's `explanation` how it was found.

        Raises:
            InputError: an argument is out of range, or a weight is negative or not finite.
            DamagedArtifactError: the index's files are damaged where the query reads them.
        """
        if type(k) is not int or k < 0 or approx is not None or max_terms is not None or plan != "auto":
            self._check(k, approx, max_terms, plan, 1)
            k = int(k)
        terms, weights = to_row(query, self._vocabulary, self._load_encoder)
        width = min(k, self._passages)
        docs, scores = np.empty(width, _IDS), np.empty(width, _SCORES)
        spare = self._spare
        try:
            statistics = spare.pop()  # one step of the interpreter, so threads may share the list
        except IndexError:
            statistics = np.empty(_STATISTICS, np.float64)
        alpha, most = 1.0 if approx is None else float(approx), _ALL if max_terms is None else max_terms
        kernel, arrays = self._single
        number = PLANS[plan] or self._plan(k)
        status = kernel(terms, weights, k, number, alpha, most, *arrays, docs, scores, statistics)
        if status != _DONE:
            self._refuse(status, np.array((0, len(terms)), np.int64), weights)
        row = statistics.tolist()
        spare.append(statistics)
        if row[9] < width:
            docs, scores = docs[: int(row[9])], scores[: int(row[9])]
        return SearchResult(
            self.layout, docs, scores, (alpha == 1 or row[0] == 1) and row[8] == 0, _explain(row) if explain else None
        )

    def search_batch(
        self,
        queries: Sequence[Query] | SparseBatch,
        k: int = 10,
        *,
        approx: float | None = None,
        max_terms: int | None = None,
        plan: str = "auto",
        explain: bool = False,
        threads: int = 1,
    ) -> list[SearchResult]:
        """The k best passages for each of `queries`, over `threads` threads. Arguments and results as `search`."""
        self._check(k, approx, max_terms, plan, threads)
        k = int(k)
        indptr, terms, weights = to_batch(queries, self._vocabulary, self._load_encoder)
        n, width = len(indptr) - 1, min(k, self._passages)
        docs, scores = np.empty((n, width), np.uint32), np.empty((n, width), np.float64)
        statistics = np.empty((n, _STATISTICS), np.float64)
        alpha, most = 1.0 if approx is None else float(approx), _ALL if max_terms is None else max_terms
        kernel, arrays = self._several
        number = PLANS[plan] or self._plan(k)
        asked = (indptr, terms, weights, k, number, alpha, most, *arrays, docs, scores, statistics)

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
        layout, safe = self.layout, alpha == 1
        return [
            SearchResult(
                layout,
                own if row[9] == width else own[: int(row[9])],
                sums if row[9] == width else sums[: int(row[9])],
                (safe or row[0] == 1) and row[8] == 0,
                _explain(row) if explain else None,
            )
            for own, sums, row in zip(docs, scores, statistics.tolist(), strict=True)
        ]

    def _plan(self, k: int) -> int:
        """The number of the plan for `auto`: bounds are tried in large collections whose order makes them tight.

        Measured on one to four million passages (eval/search/growth.py): where k is larger, or no order as good as
        bisection's has brought together what is alike, everything is scored before bounds have paid for themselves.
        """
        large = self._passages >= max(_LARGE, k * _PER_HIT)
        return PLANS["auto" if large and self.layout.scatter <= _SCATTER else "term-at-a-time"]

    def _load_encoder(self) -> Any:
        return self.encoder

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

        Compiled for the types that `search` gives it and called as it is: looking up the types of two dozen arguments
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

    @staticmethod
    def _check(k: int, approx: float | None, max_terms: int | None, plan: str, threads: int) -> None:
        if not isinstance(k, int | np.integer) or k < 0:
            raise InputError(f"k is {k!r}; it is a whole number, at least 0")
        if approx is not None and not 0 < approx <= 1:
            raise InputError(f"approx is {approx!r}; it is None for exact results, or a number above 0 and at most 1")
        if max_terms is not None and max_terms < 1:
            raise InputError(f"max_terms is {max_terms!r}; keep at least one query term")
        if plan not in PLANS:
            raise InputError(f"plan is {plan!r}; choose one of {', '.join(PLANS)}")
        if threads < 1:
            raise InputError(f"threads is {threads!r}; it is at least 1")


def _compiled(kernel: Any, arguments: tuple[Any, ...]) -> Callable[..., int]:
    """The kernel for arguments of these types."""
    from numba import typeof

    return cast("Callable[..., int]", kernel.compile(tuple(typeof(value) for value in arguments)))


def _explain(row: list[float]) -> Explanation:
    plan, *numbers = map(int, row[:8])
    return Explanation(_PLAN_NAMES[plan], *numbers, *row[10:])
