"""Queries of any form as rows of distinct, ascending, known terms with positive weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thresher.errors import DamagedArtifactError, InputError
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from thresher.index.layout import Layout

__all__ = ["Query", "Vocabulary", "to_batch"]

Query: TypeAlias = "str | Mapping[str, float] | tuple[ArrayLike, ArrayLike]"
"""A question's text, its terms with weights, or term ids with weights."""


class Vocabulary:
    """Term ids by string: binary search over the mapped strings, so that opening builds no dictionary."""

    def __init__(self, layout: Layout) -> None:
        self._strings = layout.vocabulary
        self._order = layout.sorted_terms
        self._file = layout.path / "sorted_terms"
        self._known: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._strings)

    def find(self, term: str) -> int:
        """The id of `term`, -1 where the index does not know it.

        Raises:
            DamagedArtifactError: the sorted order names a term that is not there.
        """
        known = self._known.get(term)
        if known is None:
            known = self._known[term] = self._search(term.encode("utf-8", "surrogatepass"))
        return known

    def _search(self, wanted: bytes) -> int:
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            number = int(self._order[middle])
            if number >= len(self._strings):
                raise DamagedArtifactError(str(self._file), f"names term {number} of {len(self._strings)}")
            here = self._strings.raw(number)
            if here == wanted:
                return number
            if here < wanted:
                low = middle + 1
            else:
                high = middle
        return -1


def to_batch(
    queries: Sequence[Any] | SparseBatch, vocabulary: Vocabulary, encoder: Callable[[], Any], max_terms: int | None
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.float64], NDArray[np.bool_]]:
    """Rows of terms for the kernels.

    Args:
        queries: see `Query`, or rows of terms already.
        vocabulary: what strings and ids are looked up in.
        encoder: gives the encoder for texts; not called where there are none.
        max_terms: keep so many of the heaviest terms (ties: smaller term id), None for all.

    Returns:
        indptr int64[q + 1], terms uint32[nnz], weights float64[nnz] (float32 values), whole bool[q]: nothing was cut.

    Raises:
        InputError: a query of another type, or a weight that is negative or not finite.
    """
    if isinstance(queries, SparseBatch):
        p = queries.indptr
        rows = [(queries.terms[p[i] : p[i + 1]], queries.weights[p[i] : p[i + 1]]) for i in range(len(queries))]
    else:
        texts = [query for query in queries if isinstance(query, str)]
        encoded = iter(_rows_of(encoder().encode_queries(texts))) if texts else iter(())
        rows = [next(encoded) if isinstance(query, str) else _row_of(query, vocabulary) for query in queries]
    parts = [_tidy(terms, weights, len(vocabulary), max_terms) for terms, weights in rows]
    indptr = np.zeros(len(parts) + 1, np.int64)
    if not parts:
        return indptr, np.empty(0, np.uint32), np.empty(0, np.float64), np.empty(0, bool)
    np.cumsum([len(terms) for terms, _, _ in parts], out=indptr[1:])
    if len(parts) == 1:
        return indptr, parts[0][0], parts[0][1], np.array([parts[0][2]])
    terms = np.concatenate([part[0] for part in parts])
    weights = np.concatenate([part[1] for part in parts])
    return indptr, terms, weights, np.array([part[2] for part in parts])


def _rows_of(batch: SparseBatch) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    p = batch.indptr
    return [(batch.terms[p[i] : p[i + 1]], batch.weights[p[i] : p[i + 1]]) for i in range(len(batch))]


def _row_of(query: Any, vocabulary: Vocabulary) -> tuple[NDArray[Any], NDArray[Any]]:
    """Term ids (int64, -1 for unknown) and weights of a query that is not a text."""
    if isinstance(query, Mapping):
        terms = np.fromiter((vocabulary.find(term) for term in query), np.int64, len(query))
        return terms, _floats(list(query.values()))
    if isinstance(query, tuple) and len(query) == 2:
        terms = np.asarray(query[0])
        weights = _floats(query[1])
        if terms.shape == (0,):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if terms.ndim == 1 and terms.dtype.kind in "iu" and terms.shape == weights.shape:
            return terms, weights
        raise InputError(
            f"a query of term ids needs whole numbers and as many weights; got {terms.dtype}{terms.shape} and "
            f"{weights.dtype}{weights.shape}"
        )
    raise InputError(f"a query is a text, a mapping or a pair of arrays, not {type(query).__name__}")


def _floats(values: Any) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float64).astype(np.float32)
    except (TypeError, ValueError) as err:
        raise InputError(f"query weights must be numbers ({err})") from err


def _tidy(
    terms: NDArray[Any], weights: NDArray[Any], known: int, max_terms: int | None
) -> tuple[NDArray[np.uint32], NDArray[np.float64], bool]:
    """One row: unknown terms and zero weights dropped, repeated terms added up (rounded to float32), ascending."""
    if not bool(np.isfinite(weights).all()) or bool((weights < 0).any()):
        at = int(np.argmin(np.isfinite(weights) & (weights >= 0)))
        raise InputError(
            f"a query gives a term the weight {float(weights[at])!r}; weights are finite float32 numbers, at least 0"
        )
    keep = (weights > 0) & (terms < known)
    if terms.dtype.kind == "i":
        keep &= terms >= 0
    if not bool(keep.all()):
        terms, weights = terms[keep], weights[keep]
    if len(terms) > 1 and not bool((terms[1:] > terms[:-1]).all()):
        order = np.argsort(terms, kind="stable")
        terms, weights = terms[order], weights[order]
        firsts = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
        terms, weights = terms[firsts], np.add.reduceat(weights.astype(np.float64), firsts).astype(np.float32)
    whole = True
    if max_terms is not None and len(terms) > max_terms:
        kept = np.sort(np.argsort(-weights, kind="stable")[:max_terms])
        terms, weights, whole = terms[kept], weights[kept], False
    return np.ascontiguousarray(terms, np.uint32), weights.astype(np.float64), whole
