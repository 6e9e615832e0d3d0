"""Query-log coverage: how near each passage comes to being retrieved by any logged query.

For every logged query all passages are scored, by a sparse encoder (BM25 or any other), by dense vectors, or both:
the views. In a view, the nearness of a passage to a query is 1 where it is among the first ten, and below that

    sparse  score / score of the tenth
    dense   exp((cosine - cosine of the tenth) / 0.05)

From the nearness and the ranks each view makes five columns of a passage, over the queries: the sums of the discounts
1 / (2 + rank) and 1 / (60 + rank) (reciprocal ranks: Cormack, Clarke and Büttcher, SIGIR 2009), the sum of nearness to
the fourth power, the largest nearness, and how often it was among the first ten.

`coverage` is the largest nearness, ties broken by the discounts. `learn` goes further and weighs the columns, together
with whatever else is known of the passages, by leaving out: the columns are made of the queries outside a fold, the
target is what the fold's queries retrieve. So no query votes for itself, and the weights say how well some
queries foretell what others want; where they foretell nothing, or the opposite (a small log of queries with
disjoint subjects: what one wants no other does), the weights say that too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.errors import InputError
from training.quality.heads import normal_scores, ridge_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.records import SparseBatch

COLUMNS = ("discount_2", "discount_60", "nearness_4", "nearest", "first_ten")
_NEAREST = COLUMNS.index("nearest")
_TOP = 10
_TEMPERATURE = 0.05


class View(Protocol):
    """One way to score all passages for a query."""

    @property
    def queries(self) -> int:
        """Queries in the log."""

    @property
    def passages(self) -> int:
        """Passages of the collection."""

    def scores(self, query: int) -> NDArray[np.float64]:
        """float64[passages]; higher is nearer."""

    def nearness(self, scores: NDArray[np.float64], tenth: float) -> NDArray[np.float64]:
        """float64[passages] in [0, 1], 1 where the score reaches that of the tenth passage."""


class SparseView:
    """Dot products of weighted terms.

    Args:
        passages: one row a passage.
        queries: one row a logged query.
        own: int[queries], the passage a query was made of, which it then does not vote for; None for real ones.
    """

    def __init__(self, passages: SparseBatch, queries: SparseBatch, own: NDArray[np.integer] | None = None) -> None:
        self.passages = len(passages)
        self.queries = len(queries)
        self._own = own
        self._queries = queries
        order = np.argsort(passages.terms, kind="stable")
        self._terms = passages.terms[order]
        self._owners = np.repeat(np.arange(self.passages), np.diff(passages.indptr))[order]
        self._weights = passages.weights[order].astype(np.float64)

    def scores(self, query: int) -> NDArray[np.float64]:
        """float64[passages], 0 where no term is shared."""
        total = np.zeros(self.passages)
        part = slice(self._queries.indptr[query], self._queries.indptr[query + 1])
        for term, weight in zip(self._queries.terms[part], self._queries.weights[part], strict=True):
            first, last = np.searchsorted(self._terms, [term, int(term) + 1])
            total[self._owners[first:last]] += float(weight) * self._weights[first:last]
        if self._own is not None:
            total[self._own[query]] = 0.0
        return total

    def nearness(self, scores: NDArray[np.float64], tenth: float) -> NDArray[np.float64]:
        """float64[passages]: score / score of the tenth, at most 1.

        Where fewer than ten passages share a term with the query, 1 for those that do.
        """
        if tenth <= 0:
            return (scores > 0).astype(np.float64)
        near: NDArray[np.float64] = np.minimum(scores / tenth, 1.0)
        return near


class DenseView:
    """Dot products of unit vectors.

    Args:
        passages: float32[passages, dimensions].
        queries: float32[queries, dimensions].
        own: as in `SparseView`.
    """

    def __init__(
        self,
        passages: NDArray[np.float32],
        queries: NDArray[np.float32],
        own: NDArray[np.integer] | None = None,
    ) -> None:
        if passages.ndim != 2 or queries.ndim != 2 or passages.shape[1] != queries.shape[1]:
            raise InputError(f"vectors of shapes {passages.shape} and {queries.shape} cannot be compared")
        self.passages, self.queries = len(passages), len(queries)
        self._passages = passages.astype(np.float32, copy=False)
        self._queries = queries.astype(np.float32, copy=False)
        self._own = own

    def scores(self, query: int) -> NDArray[np.float64]:
        """float64[passages], cosines."""
        cosines = np.asarray(self._passages @ self._queries[query], np.float64)
        if self._own is not None:
            cosines[self._own[query]] = -1.0
        return cosines

    def nearness(self, scores: NDArray[np.float64], tenth: float) -> NDArray[np.float64]:
        """float64[passages]: exp((cosine - cosine of the tenth) / 0.05), at most 1."""
        return np.asarray(np.exp(np.minimum(scores - tenth, 0.0) / _TEMPERATURE), np.float64)


@dataclass(frozen=True, slots=True)
class _Tally:
    """What some queries make of the passages.

    Attributes:
        columns: float64[views, passages, columns], in the order of `COLUMNS`.
        demand: float64[views, passages]: sum of 1 / log2(rank + 2) over first-ten places, rank from 0.
    """

    columns: NDArray[np.float64]
    demand: NDArray[np.float64]

    def joined(self, other: _Tally) -> _Tally:
        columns = self.columns + other.columns
        columns[..., _NEAREST] = np.maximum(self.columns[..., _NEAREST], other.columns[..., _NEAREST])
        return _Tally(columns, self.demand + other.demand)


class LogCoverage:
    """The coverage of a collection by a log, tallied by folds of queries.

    Queries are scored once each; memory is folds x views x passages, whatever the length of the log.

    Args:
        views: how passages are scored; all of the same queries and passages.
        folds: parts the log is cut into at random for `learn`.
        seed: of the cut.

    Raises:
        InputError: no view, an empty log, or views that disagree.
    """

    def __init__(self, views: Sequence[View], *, folds: int = 5, seed: int = 0) -> None:
        shapes = {(view.queries, view.passages) for view in views}
        if len(shapes) != 1:
            raise InputError(f"coverage needs views of the same questions and passages, got {sorted(shapes)}")
        self.queries, self.passages = shapes.pop()
        if not self.queries or not self.passages:
            raise InputError(f"coverage of {self.passages} passages by {self.queries} questions says nothing")
        self._views = tuple(views)
        order = np.random.default_rng(seed).permutation(self.queries)
        self._parts = [np.sort(part) for part in np.array_split(order, max(min(folds, self.queries), 1))]
        self._tallies = [self._tally(part) for part in self._parts]

    @property
    def parts(self) -> tuple[NDArray[np.int64], ...]:
        """The queries of each fold, int64[queries of the fold], by number, ascending."""
        return tuple(self._parts)

    def coverage(self) -> NDArray[np.float32]:
        """The largest nearness to any logged query over the views, float32[passages], finer where that ties."""
        return _best(_total(self._tallies))

    def without(self, query: int) -> NDArray[np.float32]:
        """`coverage` as it would be had `query` not been logged, float32[passages]."""
        number = next(i for i, part in enumerate(self._parts) if query in part)
        rest = self._parts[number][self._parts[number] != query]
        others = [t for i, t in enumerate(self._tallies) if i != number]
        return _best(_total([*others, self._tally(rest)]))

    def columns(self) -> NDArray[np.float64]:
        """The columns by all queries, as normal scores, float64[passages, views * len(COLUMNS)].

        Of queries made of passages (`own` in the views), they say how easily the rest of the collection meets each
        passage: `other` columns for `learn`.
        """
        return _columns(_total(self._tallies))

    def learn(
        self,
        other: NDArray[np.float64] | None = None,
        *,
        target: int | None = None,
        ridge: float = 0.05,
        leave: int | None = None,
    ) -> NDArray[np.float32]:
        """Scores that foretell retrieval by queries like the logged ones, float32[passages].

        Ridge regression, over the folds, of the square root of what a fold's queries retrieve on the columns made by
        the other folds and on `other`, all as normal scores; applied to the columns made by the whole log.

        Args:
            other: float64[passages, columns], anything known of a passage without the log.
            target: the view whose first ten count as retrieved; all of them together by default.
            ridge: strength of the penalty, relative to unit variance.
            leave: a fold to do without, as if its queries had not been logged: they can then say how much is missed.
        """
        own = np.zeros((self.passages, 0)) if other is None else _normal(other)
        tallies = [t for i, t in enumerate(self._tallies) if i != leave]
        if len(tallies) < 2:
            return _best(_total(tallies or self._tallies))
        blocks, targets = [], []
        for number, tally in enumerate(tallies):
            rest = _total([t for i, t in enumerate(tallies) if i != number])
            blocks.append(np.concatenate([_columns(rest), own], axis=1))
            wanted = tally.demand.sum(axis=0) if target is None else tally.demand[target]
            targets.append(np.sqrt(wanted))
        head = ridge_head(blocks, targets, ridge=ridge)
        everything = np.concatenate([_columns(_total(tallies)), own], axis=1)
        return head.predict(everything).astype(np.float32)

    def _tally(self, queries: NDArray[np.int64]) -> _Tally:
        columns = np.zeros((len(self._views), self.passages, len(COLUMNS)))
        demand = np.zeros((len(self._views), self.passages))
        for number, view in enumerate(self._views):
            for query in queries.tolist():
                _add(view, query, columns[number], demand[number])
        return _Tally(columns, demand)


def _add(view: View, query: int, columns: NDArray[np.float64], demand: NDArray[np.float64]) -> None:
    """Count one query in, in place. Passages that share nothing with it (score 0 in a sparse view) get nothing."""
    scores = view.scores(query)
    order = np.argsort(-scores, kind="stable")
    reached = order if isinstance(view, DenseView) else order[: int((scores > 0).sum())]
    if not len(reached):
        return
    ranks = np.arange(len(reached))
    tenth = float(scores[reached[_TOP - 1]]) if len(reached) >= _TOP else 0.0
    near = view.nearness(scores, tenth)
    columns[reached, 0] += 1 / (2 + ranks)
    columns[reached, 1] += 1 / (60 + ranks)
    columns[:, 2] += near**4
    np.maximum(columns[:, 3], near, out=columns[:, 3])
    first = reached[:_TOP]
    columns[first, 4] += 1
    demand[first] += 1 / np.log2(np.arange(len(first)) + 2)


def _total(tallies: Sequence[_Tally]) -> _Tally:
    total = tallies[0]
    for tally in tallies[1:]:
        total = total.joined(tally)
    return total


def _best(tally: _Tally) -> NDArray[np.float32]:
    nearest = tally.columns[..., _NEAREST].max(axis=0)
    discounts = tally.columns[..., 0].sum(axis=0)
    best: NDArray[np.float32] = (nearest + 1e-3 * discounts / (1 + discounts)).astype(np.float32)
    return best


def _columns(tally: _Tally) -> NDArray[np.float64]:
    """float64[passages, views * columns], as normal scores; the largest nearness refined by the discounts."""
    flat = [_normal(view) for view in _refined(tally.columns)]
    return np.concatenate(flat, axis=1)


def _refined(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    finer = columns.copy()
    finer[..., _NEAREST] += 1e-3 * columns[..., 0] / (1 + columns[..., 0])
    return finer


def _normal(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([normal_scores(column) for column in columns.T], axis=1)
