"""Candidates interpolated with dense scores (Fast-Forward, `thresher.vectors.interpolate`).

Before that, the passages whose vectors are nearest to the query's join the candidates, with their sparse scores. All
candidates are ranked, so that what a ranker leaves below the passages it reads is in the order of the interpolation.
Looking all vectors up takes less time than telling which could be left out: about a millisecond for 1,000.

Candidates without a vector, such as pruned passages of an index whose second tier was not encoded, get the mean dense
score of those that have one.

An index may take up another commit at any time. A ranking is therefore scored by the vectors of the commit that it was
found in. Feedback and mean scores come from the candidates alone: what a filter leaves out has no part in them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

from thresher.errors import ConfigError
from thresher.pipeline.reading import engine_name
from thresher.pipeline.shared import encoded
from thresher.pipeline.stage import StageReport
from thresher.vectors.retrieve import scanned
from thresher.vectors.segments import SegmentVectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thresher.pipeline.shared import QueryEncoder
    from thresher.pipeline.stage import Counts, State
    from thresher.ranking import Ranking
    from thresher.search.any_index import AnyIndex
    from thresher.search.index import Index
    from thresher.search.queries import Tiers
    from thresher.vectors.store import VectorStore

MOST_COMPARED = 500_000
"""Vectors that are all compared with the query's, at most: that takes some 20 ms of one core."""


class InterpolateStage:
    """Ranks all candidates by `alpha * sparse + (1 - alpha) * dense`.

    Args:
        store: vectors of passages. Those of an index stand for the vectors of whichever commit a ranking is of.
        encoder: makes the queries' vectors.
        alpha: weight of the sparse score, 0 to 1.
        feedback: first passages of an interpolation that move the query's vector before a second one; 0 for none.
        feedback_weight: weight of their mean vector relative to the query's.
        index: the index whose passage numbers the store is keyed by, for candidates that came from elsewhere.
        neighbours: passages nearest to the query by vector that join the candidates which a search of `index` found by
            sparse scores; 0 for none. None join where the index has more than `MOST_COMPARED` vectors, or vectors that
            are not stored as int8.
        tiers: as in the search.
    """

    name = "interpolate"

    def __init__(
        self,
        store: VectorStore,
        encoder: QueryEncoder,
        *,
        alpha: float = 0.3,
        feedback: int = 2,
        feedback_weight: float = 2.0,
        index: Index | None = None,
        neighbours: int = 0,
        tiers: Tiers = "auto",
    ) -> None:
        self.store, self.encoder, self.index = store, encoder, index
        self.alpha, self.feedback, self.feedback_weight = alpha, feedback, feedback_weight
        self.neighbours, self.tiers = neighbours, tiers

    def over(self, index: AnyIndex) -> InterpolateStage:
        """The same interpolation over another view of the index; vectors are those of the commit of each ranking."""
        made = copy.copy(self)
        made.index = cast("Index", index)  # in shards only where vectors have docnos, and it is not asked
        return made

    def predict(self, state: State) -> float:
        """Milliseconds an interpolation takes."""
        return state.costs.predict(self.name) if len(state.ranking) or self.neighbours else 0.0

    def run(self, state: State) -> StageReport:
        """Interpolate the candidates."""
        started = state.deadline.worked()
        vector = encoded(self.encoder, state.query.text, state.deadline)
        if vector is None:
            return StageReport(self.name, "skipped", False, "the model was busy with other queries until the deadline")
        joined = self._join(state, vector)
        store, positions = self._located(state.ranking)
        found = store.interpolate(
            state.ranking,
            vector,
            alpha=self.alpha,
            k=max(1, len(state.ranking)),
            stopping="none",
            missing="mean",
            positions=positions,
            feedback=self.feedback,
            feedback_weight=self.feedback_weight,
        )
        state.note("dense", found.places, found.dense)
        state.promote(found.places, found.scores, "interpolate")
        state.costs.observe(self.name, state.deadline.worked() - started)
        reason = f"{found.missing} candidates have no vector and get the mean score" if found.missing else ""
        counts: Counts = {"candidates": found.candidates, "joined": joined, "lookups": found.lookups, "forwards": 1}
        exact, engine = found.exact and not found.missing, engine_name(self.encoder)
        return StageReport(self.name, exact=exact, reason=reason, counts=counts, engine=engine)

    def _join(self, state: State, vector: NDArray[np.floating]) -> int:
        """Add the nearest passages by vector to the candidates; how many were not among them."""
        if self.index is None or not self.neighbours or state.given is not None or not _quick_to_compare(self.store):
            return 0
        before = state.ranking
        tiers = state.tiers or self.tiers
        found = self.index.with_neighbours(
            before, state.query, vector, self.neighbours, tiers=tiers, where=state.where, allow=state.allow
        )
        if found is not before:
            state.start(found)
        return len(found) - len(before)

    def _located(self, ranking: Ranking) -> tuple[VectorStore, NDArray[np.int64]]:
        """The vectors, and the positions of the candidates in them, int64[n], -1 for those without vectors.

        Raises:
            ConfigError: the index was built again with another encoder.
        """
        index = self.index
        if self.store.docnos is not None or ranking.numbered or index is None:
            store = self.store.of_commit(ranking)
            positions = store.find_ranking(ranking)
        else:
            store, numbers = self.store, index.numbers(ranking.docnos)
            while isinstance(store, SegmentVectors) and (now := index.vectors) is not store and now is not None:
                store, numbers = now, index.numbers(ranking.docnos)  # of one commit, once the vectors stay the same
            positions = store.find_numbers(numbers)
        if store.encoder_fingerprint != self.store.encoder_fingerprint:
            raise ConfigError("the index was built again with vectors of another encoder; open the pipeline again")
        return store, positions


def _quick_to_compare(store: VectorStore) -> bool:
    """Whether comparing all vectors takes a small part of a query's time."""
    return len(store) <= MOST_COMPARED and scanned(store)
