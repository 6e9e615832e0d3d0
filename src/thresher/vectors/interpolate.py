"""Interpolation of a sparse ranking with dense scores, looking up no more vectors than the top k needs.

A document's score is `alpha * sparse + (1 - alpha) * dense`. Look-ups stop early (Leonhardt et al., WWW 2022, arXiv
2110.06051, section 4.2): documents are visited by the best score they can still have, and when the next one's cannot
reach the k-th score found so far, neither can those behind it. What a dense score can be at most is taken from

- `sketch`: each document's own bound, from a few bytes kept beside its vectors (`thresher.vectors.sketch`);
- `length`: the paper's one bound for all documents: the query's length times the longest vector's (1 for unit
  vectors). Documents are then visited in sparse order;
- `seen`: the paper's approximate version: the largest dense score seen so far. The top k may differ from the full one.

The first two return what `none`, which looks every document up, returns: the same documents with the same scores, bit
for bit, ties included. A bound equal to the k-th score does not stop, so that a tie can still be won by docno.

Documents without vectors, such as those of a second tier, are an error, or count with the mean dense score of the
others (`missing="mean"`), which takes looking them all up. Vectors made for some of them at query time can be given
beside the index (`vectors=`). `feedback` moves the query's vector towards the best
documents of a first interpolation (`thresher.vectors.feedback`) and interpolates again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, InputError
from thresher.ranking import Ranking, normalise_scores
from thresher.vectors.feedback import rocchio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.vectors.store import ForwardIndex

_STEP = 8
"""Documents looked up between two tests of the bound."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """The top of an interpolated ranking, and what it took.

    Attributes:
        ranking: best first; ties by bytewise smaller docno.
        dense: the dense scores of the ranking's documents.
        candidates: documents in the sparse ranking.
        lookups: documents whose vectors were looked up, counted again where feedback looks them up again.
        missing: candidates without vectors, neither in the index nor given.
        exact: whether looking every document up would have given the same ranking, provably.
    """

    ranking: Ranking
    dense: tuple[float, ...]
    candidates: int
    lookups: int
    missing: int
    exact: bool


def interpolate(
    index: ForwardIndex,
    ranking: Ranking,
    query: NDArray[Any],
    *,
    alpha: float,
    k: int = 10,
    normalise: str = "min-max",
    stopping: str = "exact",
    missing: str = "raise",
    vectors: Mapping[str, NDArray[Any]] | None = None,
    feedback: int = 0,
    feedback_weight: float = 1.0,
) -> Interpolation:
    """Score `alpha * sparse + (1 - alpha) * dense`, and return the top k.

    Args:
        index: holds the vectors of the ranking's documents.
        ranking: documents with sparse scores, in any order.
        query: the query's vector, float[dimensions].
        alpha: weight of the sparse score, 0 to 1.
        k: documents to return.
        normalise: of the sparse scores within this ranking, `min-max`, `z-score` or `none`. Dense scores are taken
            as they are.
        stopping: `exact` (by sketch where the index has one, else by length), `sketch`, `length`, `seen` or `none`.
        missing: documents without vectors are an error (`raise`), or have the mean dense score of those with (`mean`).
        vectors: of documents that the index does not hold, float[dimensions] each, as the index's encoder makes them.
        feedback: documents at the head of a first interpolation that move the query's vector; 0 for none. Those
            without vectors do not.
        feedback_weight: of their mean vector beside the query's own.

    Raises:
        ConfigError: an unknown way of stopping or of missing documents, or `sketch` for an index without.
        InputError: alpha, k or the feedback out of range, or a document without vectors.
    """
    stopping = _checked(index, alpha, k, stopping, missing, feedback)
    if not len(ranking):
        return Interpolation(ranking, (), 0, 0, 0, True)
    docnos = ranking.docnos
    places = index.find(docnos)
    beside = _beside(index, docnos, places, vectors or {})
    if missing == "raise":
        index.positions([docno for i, docno in enumerate(docnos) if i not in beside])
    sparse = alpha * normalise_scores(ranking.scores, normalise)
    vector, lookups = index.checked_query(query), 0
    if feedback and feedback_weight:
        first = _Walk(index, vector, docnos, places, beside, sparse, 1 - alpha, feedback)
        near = [docnos[i] for i in first.best(stopping) if places[i] >= 0 or i in beside]
        given = {docnos[i]: one for i, one in beside.items()}
        vector, lookups = rocchio(index, vector, near, weight=feedback_weight, vectors=given), first.lookups
    walk = _Walk(index, vector, docnos, places, beside, sparse, 1 - alpha, k)
    best = walk.best(stopping)
    return Interpolation(
        ranking.take(best, [float(walk.totals[i]) for i in best], source="interpolate"),
        tuple(float(walk.dense[i]) for i in best),
        len(ranking),
        lookups + walk.lookups,
        int((places < 0).sum()) - len(beside),
        stopping != "seen",
    )


def _checked(index: ForwardIndex, alpha: float, k: int, stopping: str, missing: str, feedback: int) -> str:
    """The way of stopping, with `exact` made plain."""
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; the weight of the sparse score lies between 0 and 1")
    if k < 1:
        raise InputError(f"k is {k}; ask for at least one document")
    if feedback < 0:
        raise InputError(f"feedback is {feedback}; give the number of documents it reads, or 0 for none")
    if missing not in ("raise", "mean"):
        raise ConfigError(f"unknown missing {missing!r}; use raise or mean")
    if stopping == "exact":
        return "length" if index.sketch is None else "sketch"
    if stopping not in ("sketch", "length", "seen", "none"):
        raise ConfigError(f"unknown stopping {stopping!r}; use exact, sketch, length, seen or none")
    if stopping == "sketch" and index.sketch is None:
        raise ConfigError("this forward index has no sketch; build it with sketch=48, or stop by length")
    return stopping


def _beside(
    index: ForwardIndex, docnos: Sequence[str], places: NDArray[np.int64], vectors: Mapping[str, NDArray[Any]]
) -> dict[int, NDArray[np.float32]]:
    """The vectors given for documents that the index lacks, by place in the ranking."""
    return {
        i: index.checked_query(vectors[docnos[i]]) for i in np.flatnonzero(places < 0).tolist() if docnos[i] in vectors
    }


def _dense_bounds(
    index: ForwardIndex, query: NDArray[np.float32], positions: NDArray[np.int64], stopping: str
) -> NDArray[np.float64]:
    """What each document's dense score can be at most."""
    length = float(np.linalg.norm(query.astype(np.float64))) * index.largest_length
    if stopping == "length" or index.sketch is None:
        return np.full(len(positions), length * (1 + 1e-9))
    rows, starts = index.rows_of(positions)
    bounds = index.sketch.bounds(query, rows)
    return np.maximum.reduceat(bounds, starts[:-1])


class _Walk:
    """Documents visited in some order until the top k is settled; all arrays are by place in the ranking.

    positions  int64[n]     in the index, -1 for a document without vectors there
    beside     place to the vector given for such a document
    sparse     float64[n]   sparse scores times their weight
    """

    def __init__(
        self,
        index: ForwardIndex,
        query: NDArray[np.float32],
        docnos: Sequence[str],
        positions: NDArray[np.int64],
        beside: Mapping[int, NDArray[np.float32]],
        sparse: NDArray[np.float64],
        dense_weight: float,
        k: int,
    ) -> None:
        self.index, self.query, self.docnos, self.positions, self.sparse = index, query, docnos, positions, sparse
        self.beside = beside
        self.dense_weight, self.k = dense_weight, k
        self.dense = np.zeros(len(positions))
        self.totals = np.full(len(positions), -np.inf)
        self.looked_up = np.zeros(len(positions), dtype=bool)
        self.largest_seen = -np.inf

    @property
    def lookups(self) -> int:
        """Documents whose vectors were looked up."""
        return int((self.looked_up & (self.positions >= 0)).sum())

    def best(self, stopping: str) -> list[int]:
        """Places of the top k, best first."""
        absent = self.positions < 0
        if absent.any():
            self.look_up_all(absent)
        elif stopping == "none":
            self.look_up(np.arange(len(self.positions)))
        elif stopping == "seen":
            self.by_largest_seen()
        else:
            self.by_bound(_dense_bounds(self.index, self.query, self.positions, stopping))
        seen: list[int] = np.flatnonzero(self.looked_up).tolist()
        return sorted(seen, key=lambda i: (-self.totals[i], self.docnos[i].encode()))[: self.k]

    def look_up(self, places: NDArray[np.int64]) -> None:
        dense = self.index.scores(self.query, self.positions[places])
        self.dense[places] = dense
        self.totals[places] = self.sparse[places] + self.dense_weight * dense
        self.looked_up[places] = True
        self.largest_seen = max(self.largest_seen, float(dense.max()))

    def look_up_all(self, absent: NDArray[np.bool_]) -> None:
        """Everything looked up; what has no vector takes the mean dense score, 0 where nothing has one."""
        if not absent.all():
            self.look_up(np.flatnonzero(~absent))
        for place, vector in self.beside.items():
            self.dense[place] = float(vector.astype(np.float64) @ self.query.astype(np.float64))
        known = ~absent
        known[list(self.beside)] = True
        if known.any():
            self.dense[~known] = self.dense[known].mean()
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
