"""Queries of any form as rows of distinct, ascending, known terms with positive weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, TypeAlias

import numpy as np

from thresher.checks import real, shown, sound, strings, whole
from thresher.errors import InputError
from thresher.records import Query, SparseBatch
from thresher.search.effort import checked_effort, deadline_after
from thresher.search.kernels.types import PLANS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from thresher.encode import QueryEncoder
    from thresher.index.arrays import Array
    from thresher.search.kernels.types import Limits

_INT, _FLOAT = np.dtype(np.int64), np.dtype(np.float32)
_WHOLE = frozenset((np.dtype(np.uint32), np.dtype(np.int32), _INT))
_ADJACENT = (4,)

AnyQuery: TypeAlias = "str | Query | Mapping[str, float] | tuple[ArrayLike, ArrayLike]"
"""A query as text, as a `Query`, as terms with weights, or as term ids with weights."""

Tiers: TypeAlias = Literal["auto", "both", "first"]
TIERS = frozenset(("auto", "both", "first"))

Terms: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float32]]"
"""Term ids, -1 for unknown ones, and weights."""

Rows: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]"
"""Queries one after another: where each begins and ends, int64[q + 1], and their term ids and weights."""


class TermFinder(Protocol):
    """Finds term ids by string."""

    def find(self, term: str) -> int:
        """The id of `term`, -1 where it is not known."""


def check_arguments(
    k: object,
    effort: object,
    plan: object,
    threads: object = 1,
    recall: object = None,
    deadline_ms: object = None,
    *,
    explain: object = False,
) -> tuple[int, Limits, int, int]:
    """Check the arguments of a search; returns (k, the effort's limits, the deadline, threads).

    Raises:
        InputError: one is out of range, or both an effort and a recall are given.
    """
    limits, deadline = checked_effort(effort).limits, deadline_after(deadline_ms)
    if recall is not None:
        if effort is not None:
            raise InputError("give effort, or the recall that an effort is chosen for, not both")
        if not 0 < real("recall, the share of the exact answer to expect,", recall, 0, 1) < 1:
            raise InputError(f"recall must be above 0 and below 1, or None for exact results; got {shown(recall)}")
    if not isinstance(plan, str) or plan not in PLANS:
        raise InputError(f"plan must be one of {', '.join(PLANS)}; got {shown(plan)}")
    if not isinstance(explain, bool):
        raise InputError(f"explain must be True or False; got {shown(explain)}")
    return whole("k", k), limits, deadline, whole("threads", threads, 1)


def check_tiers(tiers: object) -> None:
    """Check the argument `tiers`.

    Raises:
        InputError: it is none of the three.
    """
    if not isinstance(tiers, str) or tiers not in TIERS:
        raise InputError(f"tiers must be 'auto', 'both' or 'first'; got {shown(tiers)}")


def listed(queries: Iterable[AnyQuery] | SparseBatch) -> list[AnyQuery] | SparseBatch:
    """Queries as a list.

    Raises:
        InputError: it is one query.
    """
    if isinstance(queries, SparseBatch):
        return queries
    if isinstance(queries, str | bytes | Mapping | Query) or not isinstance(queries, Iterable):
        raise InputError(f"search_batch takes a list of queries; got {shown(queries)}; one query is for search")
    return list(queries)


def qids_of(queries: Sequence[object] | SparseBatch) -> list[str]:
    """The qid of each `Query`, and the position of other queries.

    Raises:
        InputError: two are the same.
    """
    if isinstance(queries, SparseBatch):
        return list(map(str, range(len(queries))))
    qids = [query.qid if isinstance(query, Query) else str(i) for i, query in enumerate(queries)]
    if len(set(qids)) < len(qids):
        twice = next(qid for qid, count in Counter(qids).items() if count > 1)
        raise InputError(f"two queries have the qid {twice!r}; a run holds one ranking a qid")
    return qids


def to_row(query: object, vocabulary: TermFinder, encoder: Callable[[], QueryEncoder]) -> Terms:
    """One query as `to_batch` gives it: term ids int64[n] (-1 for unknown), weights float32[n].

    Raises:
        InputError: as `to_batch`.
    """
    if type(query) is tuple:
        return _row_of(query, vocabulary)
    if isinstance(query, Query):
        query = query.text
    if not isinstance(query, str):
        return _row_of(query, vocabulary)
    return _rows_of(encoder().encode_queries([sound(query)]))[0]


def to_batch(
    queries: Sequence[object] | SparseBatch, vocabulary: TermFinder, encoder: Callable[[], QueryEncoder]
) -> Rows:
    """Rows of term ids and weights for the kernels, which sort them and drop what the index does not know.

    Args:
        queries: see `AnyQuery`, or rows of terms already.
        vocabulary: what strings are looked up in.
        encoder: gives the encoder for texts; not called where there are none.

    Returns:
        indptr int64[q + 1], terms int64[nnz] (-1 for unknown), weights float32[nnz].

    Raises:
        InputError: a query of another type, or weights that are not numbers. Their range is the kernel's to check.
    """
    if isinstance(queries, SparseBatch):
        indptr, terms, weights = np.ascontiguousarray(queries.indptr), queries.terms, queries.weights
    else:
        queries = [query.text if isinstance(query, Query) else query for query in queries]
        texts = [sound(query) for query in queries if isinstance(query, str)]
        encoded = iter(_rows_of(encoder().encode_queries(texts))) if texts else iter(())

        def row(query: object) -> tuple[Array, Array]:
            if isinstance(query, str):
                return next(encoded)
            if type(query) is tuple and len(query) == 2 and _plain(*query):
                return query  # converted with all the others
            return _row_of(query, vocabulary)

        rows = [row(query) for query in queries]
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row[0]) for row in rows], out=indptr[1:])
        terms = np.concatenate([row[0] for row in rows]) if rows else np.empty(0, np.int64)
        weights = np.concatenate([row[1] for row in rows]) if rows else np.empty(0, np.float32)
    return indptr, np.ascontiguousarray(terms, np.int64), np.ascontiguousarray(weights, np.float32)


def refuse_weight(query: int, row: NDArray[np.float32]) -> NoReturn:
    """Say which weight of a query no search can take."""
    fine = np.isfinite(row) & (row >= 0)
    if fine.all():
        raise InputError(f"query {query} repeats a term whose weights add up to more than a float32 number holds")
    wrong = float(row[int(np.argmin(fine))])
    raise InputError(f"query {query} gives a term the weight {wrong!r}; weights are finite float32 numbers, at least 0")


def _rows_of(batch: SparseBatch) -> list[Terms]:
    p = batch.indptr
    weights = np.ascontiguousarray(batch.weights)
    return [(batch.terms[p[i] : p[i + 1]].astype(np.int64), weights[p[i] : p[i + 1]]) for i in range(len(batch))]


def _row_of(query: object, vocabulary: TermFinder) -> Terms:
    """Term ids (int64, -1 for unknown) and weights of a query that is not a text."""
    if type(query) is tuple and len(query) == 2:
        ids, weights = query
        if _plain(ids, weights):
            return ids.astype(_INT), weights if weights.strides == _ADJACENT else weights.copy()
    if isinstance(query, Mapping):
        names, weights = named_row(query)
        return np.fromiter(map(vocabulary.find, names), np.int64, len(names)), weights
    if isinstance(query, tuple) and len(query) == 2:
        ids, weights = _array(query[0]), _floats(query[1])
        if ids.shape == (0,) and weights.shape == (0,):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if ids.ndim == 1 and ids.dtype.kind in "iu" and ids.shape == weights.shape:
            return ids.astype(np.int64), weights
        raise InputError(
            f"a query of term ids needs whole numbers and as many weights; got {ids.dtype}{ids.shape} and "
            f"{weights.dtype}{weights.shape}"
        )
    raise InputError(
        f"a query is a str, a Query, a mapping from terms to weights, or a pair (term ids, weights); "
        f"got {type(query).__name__}"
    )


def named_row(query: Mapping[str, float]) -> tuple[list[str], NDArray[np.float32]]:
    """The terms of a query by their strings, and their weights, float32[n].

    Raises:
        InputError: a term is not a string, or a weight is not a number.
    """
    names, weights = strings("the terms of a query", query), _floats(list(query.values()))
    if weights.shape != (len(names),):
        raise InputError(f"each term of a query needs one number for its weight; got {next(iter(query.items()))!r}")
    return names, weights


def _plain(ids: object, weights: object) -> bool:
    """Whether these are arrays as encoders make them, which need no conversion: most are, and each step here counts."""
    return (
        type(ids) is type(weights) is np.ndarray
        and weights.dtype is _FLOAT
        and ids.dtype in _WHOLE
        and ids.ndim == 1
        and ids.shape == weights.shape
    )


def _floats(values: object) -> NDArray[np.float32]:
    if isinstance(values, np.ndarray) and values.dtype == np.float32:
        return values if values.flags.c_contiguous else values.copy()
    made = _array(values)
    try:
        if made.dtype.kind not in "biufO":
            raise TypeError(f"not {made.dtype}")
        with np.errstate(over="ignore"):
            return made.astype(np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError) as err:
        raise InputError(f"query weights must be finite float32 numbers ({err}); got {shown(values)}") from err


def _array(values: object) -> Array:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, OverflowError) as err:
        raise InputError(f"a query of term ids and weights needs two lists of numbers; got {shown(values)}") from err
