"""Interpolation of a sparse ranking with dense scores, looking up no more vectors than the top k needs.

A passage's score is `alpha * sparse + (1 - alpha) * dense`. Look-ups stop early (Leonhardt et al., WWW 2022, arXiv
2110.06051, section 4.2): passages are visited by the best score they can still have, and when the next one's cannot
reach the k-th score found so far, neither can those after it. The upper bound on a dense score is taken from

- `sketch`: each passage's own bound, from a few bytes kept with its vector (`thresher.vectors.codecs`);
- `length`: the paper's one bound for all passages: the query's length times the longest vector's (1 for unit
  vectors). Passages are then visited in sparse order;
- `seen`: the paper's approximate version: the largest dense score seen so far. The top k may differ from the full one.

The first two return what `none`, which looks every passage up, returns: the same passages with the same scores, bit
for bit, ties included. A bound equal to the k-th score does not stop, so that a tie can still be won by docno.

Passages without vectors, such as those of a second tier, are an error, or get the mean dense score of the others
(`missing="mean"`), which takes looking them all up.

Pseudo-relevance feedback (`feedback=`) moves the query's vector towards the best passages of a first interpolation and
interpolates the same ranking again. It is Rocchio's rule on dense vectors (Li et al., "Pseudo relevance feedback with
deep language models and dense retrievers", ACM TOIS 2023, arXiv 2108.11044, section 3.2; the paper retrieves again).
Both interpolations stop early, so feedback costs a few more look-ups and no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import one_of, real, whole
from thresher.errors import ConfigError, InputError
from thresher.fusion import normalise_scores
from thresher.ranking import Ranking
from thresher.vectors.kernels import best_dots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thresher.vectors.store import VectorStore


_STEP = 8
"""Passages looked up between two tests of the bound."""
_STOPPING = ("exact", "sketch", "length", "seen", "none")


class Interpolated(Ranking):
    """The top of an interpolated ranking, best first; ties by bytewise smaller docno.

    Attributes:
        dense: float64[n], the dense scores of its passages.
        places: int64[n], where its passages stood in the sparse ranking.
        candidates: passages in the sparse ranking.
        lookups: passages whose vectors were looked up, counted again where feedback looks them up again.
        missing: candidates without vectors.
        exact: the sparse ranking was exact, and looking every passage up would have given the same.
    """

    __slots__ = ("candidates", "dense", "lookups", "missing", "places")
    dense: NDArray[np.float64]
    places: NDArray[np.int64]
    candidates: int
    lookups: int
    missing: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an interpolation, as `VectorStore.interpolate` describes them, checked.

    Raises:
        ConfigError: an unknown `stopping` or `missing`.
        InputError: alpha, k or the feedback is out of range.
    """

    alpha: float
    k: int
    normalise: str
    stopping: str
    missing: str
    feedback: int
    feedback_weight: float

    def __post_init__(self) -> None:
        real("alpha, the weight of the sparse score,", self.alpha, 0, 1)
        whole("k", self.k, 1)
        whole("feedback, a number of passages,", self.feedback)
        real("feedback_weight", self.feedback_weight, 0)
        one_of("missing", self.missing, ("raise", "mean"))
        one_of("stopping", self.stopping, _STOPPING)
        one_of("normalisation", self.normalise, ("min-max", "z-score", "none"))


def interpolate(
    store: VectorStore,
    ranking: Ranking,
    query: NDArray[np.floating],
    settings: Settings,
    positions: NDArray[np.int64] | None,
) -> Interpolated:
    """The top k of `ranking`; arguments and errors as `VectorStore.interpolate`."""
    stopping = _bound_to_stop_by(store, settings.stopping)
    if not len(ranking) or positions is None:
        return _result(ranking, np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    if settings.missing == "raise":
        _refuse_missing(ranking, positions)
    sparse = settings.alpha * normalise_scores(ranking.scores, settings.normalise)
    block = _Block(store, positions) if stopping == "none" or (positions < 0).any() else None
    vector, lookups = store.checked_query(query), 0
    if settings.feedback and settings.feedback_weight:
        first = _Scan(store, vector, ranking, positions, sparse, 1 - settings.alpha, settings.feedback, block)
        top = first.best(stopping).tolist()
        near = positions[[place for place in top if positions[place] >= 0]]
        vector = rocchio(store, vector, near, weight=settings.feedback_weight)
        lookups = first.lookups if block is None else 0
    scan = _Scan(store, vector, ranking, positions, sparse, 1 - settings.alpha, settings.k, block)
    best = scan.best(stopping)
    found = _result(ranking, best, scan.totals[best], scan.dense[best], exact=stopping != "seen")
    found.lookups = lookups + scan.lookups
    found.missing = int((positions < 0).sum())
    return found


def rocchio(
    store: VectorStore,
    query: NDArray[np.floating],
    positions: NDArray[np.int64],
    *,
    weight: float = 1.0,
) -> NDArray[np.float32]:
    """The query's vector after feedback: itself plus `weight` times the mean feedback vector, at its old length.

    Args:
        store: holds the vectors of the feedback passages.
        query: the query's vector, float[dimensions].
        positions: int64[n], of the feedback passages in the store, usually the first two or three; a document with
            several vectors counts by the one nearest to the query. Without any the query stays as it is.
        weight: of the mean feedback vector relative to the query's.

    Returns:
        float32[dimensions].

    Raises:
        InputError: a negative weight, or a query of another shape.
    """
    real("the weight of the feedback", weight, 0)
    vector = store.checked_query(query)
    if not len(positions) or weight == 0:
        return vector
    rows, starts = store.rows_of(positions)
    decoded = store.stored.decode(rows).astype(np.float64)
    dots = decoded @ vector.astype(np.float64)
    nearest = [low + int(np.argmax(dots[low:high])) for low, high in pairwise(starts.tolist())]
    moved = vector.astype(np.float64) + weight * decoded[nearest].mean(axis=0)
    length, before = np.linalg.norm(moved), np.linalg.norm(vector.astype(np.float64))
    if length == 0:
        return vector
    scaled: NDArray[np.float32] = (moved * (before / length)).astype(np.float32)
    return scaled


def _bound_to_stop_by(store: VectorStore, stopping: str) -> str:
    if stopping == "exact":
        return "length" if store.sketch is None else "sketch"
    if stopping == "sketch" and store.sketch is None:
        raise ConfigError("these vectors have no sketch; build them with sketch=48, or stop by length")
    return stopping


def _refuse_missing(ranking: Ranking, positions: NDArray[np.int64]) -> None:
    absent = np.flatnonzero(positions < 0)
    if len(absent):
        (docno,) = ranking.take(absent[:1]).docnos
        raise InputError(
            f"docno {docno!r} has no vector; encode the corpus that the ranking is of, or use missing='mean'"
        )


def _result(
    ranking: Ranking,
    places: NDArray[np.int64],
    totals: NDArray[np.float64],
    dense: NDArray[np.float64],
    *,
    exact: bool = True,
) -> Interpolated:
    found = ranking.take(places, totals, exact=ranking.exact and exact, source="interpolate").as_type(Interpolated)
    found.dense, found.places, found.candidates = dense, places, len(ranking)
    found.lookups = found.missing = 0
    return found


def _dense_bounds(
    store: VectorStore, query: NDArray[np.float32], positions: NDArray[np.int64], stopping: str
) -> NDArray[np.float64]:
    """Upper bounds on the dense scores, float64[n]."""
    length = float(np.linalg.norm(query.astype(np.float64))) * store.largest_length
    if stopping == "length" or store.sketch is None:
        return np.full(len(positions), length * (1 + 1e-9))
    rows, starts = store.rows_of(positions)
    bounds = store.sketch.bounds(query, rows)
    return np.maximum.reduceat(bounds, starts[:-1])


class _Block:
    """The vectors of all passages of a ranking that have some, decoded once for as many queries as come.

    Args:
        store: the vectors.
        positions: int64[n], of the ranking's passages in it, -1 for those without vectors.
    """

    def __init__(self, store: VectorStore, positions: NDArray[np.int64]) -> None:
        self.known = np.flatnonzero(positions >= 0)
        rows, self._starts = store.rows_of(positions[self.known])
        self._vectors = store.stored.decode(rows)

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Dense scores of the passages at the places `known`, as `VectorStore.scores`."""
        best: NDArray[np.float64] = best_dots(self._vectors, query, self._starts)
        return best


class _Scan:
    """Passages visited in some order until the top k is settled; all arrays are by place in the ranking.

    positions  int64[n]     in the store, -1 for a passage without vectors there
    sparse     float64[n]   sparse scores times their weight
    block      the vectors of all of them, where all are looked up anyway; else None
    """

    def __init__(
        self,
        store: VectorStore,
        query: NDArray[np.float32],
        ranking: Ranking,
        positions: NDArray[np.int64],
        sparse: NDArray[np.float64],
        dense_weight: float,
        k: int,
        block: _Block | None = None,
    ) -> None:
        self.block = block
        self.store, self.query, self.ranking, self.positions, self.sparse = store, query, ranking, positions, sparse
        self.dense_weight, self.k = dense_weight, k
        self.dense = np.zeros(len(positions))
        self.totals = np.full(len(positions), -np.inf)
        self.looked_up = np.zeros(len(positions), dtype=bool)
        self.largest_seen = -np.inf

    @property
    def lookups(self) -> int:
        """Passages whose vectors were looked up."""
        return int((self.looked_up & (self.positions >= 0)).sum())

    def best(self, stopping: str) -> NDArray[np.int64]:
        """Places of the top k, best first."""
        if self.block is not None:
            self.look_up_all(self.block)
        elif stopping == "seen":
            self.by_largest_seen()
        else:
            self.by_bound(_dense_bounds(self.store, self.query, self.positions, stopping))
        return self.top()

    def top(self) -> NDArray[np.int64]:
        """Places of the k best of the passages looked up; docnos are read only where scores tie."""
        seen = np.flatnonzero(self.looked_up)
        order = seen[np.argsort(-self.totals[seen], kind="stable")]
        if len(order) > self.k:
            order = order[self.totals[order] >= self.totals[order[self.k - 1]]]
        same = self.totals[order][1:] == self.totals[order][:-1]
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        if len(tied):  # each run of equal totals keeps its places
            among, places = order[tied], self.totals[order[tied]]
            keys = [docno.encode() for docno in self.ranking.take(among).docnos]
            order[tied] = among[sorted(range(len(tied)), key=lambda i: (-places[i], keys[i]))]
        return order[: self.k]

    def look_up(self, places: NDArray[np.int64]) -> None:
        self.looked(places, self.store.scores(self.query, self.positions[places]))

    def looked(self, places: NDArray[np.int64], dense: NDArray[np.float64]) -> None:
        """Take the dense scores of passages."""
        self.dense[places] = dense
        self.totals[places] = self.sparse[places] + self.dense_weight * dense
        self.looked_up[places] = True
        self.largest_seen = max(self.largest_seen, float(dense.max()))

    def look_up_all(self, block: _Block) -> None:
        """Everything looked up; passages without a vector get the mean dense score, 0 where none has one."""
        absent = self.positions < 0
        if len(block.known):
            self.looked(block.known, block.scores(self.query))
            self.dense[absent] = self.dense[block.known].mean()
        self.totals[absent] = self.sparse[absent] + self.dense_weight * self.dense[absent]
        self.looked_up[absent] = True

    def threshold(self) -> float:
        """The k-th score found so far, -inf while there are fewer."""
        if int(self.looked_up.sum()) < self.k:
            return -np.inf
        return float(np.partition(self.totals, -self.k)[-self.k])

    def by_bound(self, dense_bounds: NDArray[np.float64]) -> None:
        best = self.sparse + self.dense_weight * dense_bounds
        order = np.argsort(-best, kind="stable")
        place = min(self.k, len(order))
        self.look_up(order[:place])
        while place < len(order):
            threshold = self.threshold()
            step = order[place : place + _STEP]
            step = step[best[step] >= threshold]
            if not len(step):
                return
            self.look_up(step)
            place += _STEP

    def by_largest_seen(self) -> None:
        order = np.argsort(-self.sparse, kind="stable")
        place = min(self.k, len(order))
        self.look_up(order[:place])
        while place < len(order):
            if self.sparse[order[place]] + self.dense_weight * self.largest_seen < self.threshold():
                return
            self.look_up(order[place : place + _STEP])
            place += _STEP
