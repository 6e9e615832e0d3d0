"""The right answer by definition, and how close a result list comes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eval.search.matrices import Matrix


@njit(cache=True)
def true_scores(
    indptr: NDArray[np.int64],
    docs: NDArray[np.uint32],
    impacts: NDArray[np.uint8],
    terms: NDArray[np.uint32],
    weights: NDArray[Any],
    n: int,
) -> NDArray[np.float64]:
    """Scores of all documents: float64 sums in ascending order of terms, exact for whole weights."""
    scores = np.zeros(n)
    for i in range(len(terms)):
        weight = np.float64(weights[i])
        for p in range(indptr[terms[i]], indptr[terms[i] + 1]):
            scores[docs[p]] += weight * np.float64(impacts[p])
    return scores


@njit(cache=True)
def columns_of(
    indptr: NDArray[np.int64],
    terms: NDArray[np.uint32],
    impacts: NDArray[np.uint8],
    starts: NDArray[np.int64],
    docs: NDArray[np.uint32],
    out: NDArray[np.uint8],
) -> None:
    """Documents and impacts by term."""
    cursors = starts.copy()
    for doc in range(len(indptr) - 1):
        for p in range(indptr[doc], indptr[doc + 1]):
            at = cursors[terms[p]]
            cursors[terms[p]] = at + 1
            docs[at], out[at] = doc, impacts[p]


class Truth:
    """Exact scores, from the columns of the collection."""

    def __init__(self, matrix: Matrix) -> None:
        rows = matrix.documents
        self.indptr = np.concatenate(([0], np.cumsum(np.bincount(rows.terms, minlength=matrix.terms))))
        self.docs, self.impacts = np.empty(len(rows.terms), np.uint32), np.empty(len(rows.terms), np.uint8)
        columns_of(rows.indptr, rows.terms, rows.weights, self.indptr, self.docs, self.impacts)
        self.n = len(rows)

    def scores(self, query: tuple[NDArray[np.uint32], NDArray[Any]]) -> NDArray[np.float64]:
        """float64[n] for one query: ascending term ids, weights."""
        return np.asarray(true_scores(self.indptr, self.docs, self.impacts, *query, self.n))


def best_scores(scores: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The k largest scores above 0, descending; fewer where fewer are above 0."""
    wanted = min(k, int((scores > 0).sum()))
    if wanted == 0:
        return np.empty(0)
    return np.sort(np.partition(scores, len(scores) - wanted)[len(scores) - wanted :])[::-1]


def judge(scores: NDArray[np.float64], best: NDArray[np.float64], ids: NDArray[np.int64]) -> tuple[float, bool, bool]:
    """`judge_scores` of a result list, from the scores of all passages."""
    return judge_scores(scores[np.unique(ids)], best, len(ids))


def judge_scores(got: NDArray[np.float64], best: NDArray[np.float64], hits: int) -> tuple[float, bool, bool]:
    """(recall, exact, short) of one result list of `hits` hits.

    The true scores of the distinct ids found (`got`) are compared with the best ones as multisets, so that ties count
    for everyone and an engine that scores in lower precision is judged by what it found, not by its own scores. An
    exact list holds exactly the k best scores; a short one holds fewer hits than exist.
    """
    got = np.sort(got)[::-1]
    if len(best) == 0:
        return 1.0, hits == 0, False
    common, a, b = 0, 0, 0
    while a < len(best) and b < len(got):  # size of the multiset intersection of two descending lists
        if best[a] == got[b]:
            common, a, b = common + 1, a + 1, b + 1
        elif best[a] > got[b]:
            a += 1
        else:
            b += 1
    return common / len(best), len(got) == len(best) == common, len(got) < len(best)
