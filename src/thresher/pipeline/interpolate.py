"""Candidates interpolated with dense scores (Fast-Forward, `thresher.vectors.interpolate`).

Of the candidates without a vector, which pruned passages are, the first are encoded now and their vectors
remembered; the others get the mean dense score of those that have one. A vector is remembered by what the passage
says, and so never stands for the new text of a passage that was replaced.

An index may take up another commit at any time. A ranking is therefore scored by the vectors of the commit that it was
found in. Feedback and mean scores come from the candidates alone: what a filter leaves out has no part in them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from thresher.errors import ConfigError
from thresher.pipeline.deadline import fitting
from thresher.pipeline.reading import units
from thresher.pipeline.stage import StageReport
from thresher.vectors.segments import SegmentVectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.pipeline.stage import Counts, State
    from thresher.ranking import Ranking
    from thresher.records import Passage
    from thresher.search.index import Index
    from thresher.vectors.store import VectorStore

_LATE_SHARE = 0.2
"""Share of the time left that encoding pruned passages may take."""


class QueryEncoder(Protocol):
    """The query side of a dense encoder."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, float[n, dimensions]."""
        ...


@runtime_checkable
class PassageEncoder(Protocol):
    """The passage side of a dense encoder."""

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of passages, float[n, dimensions]."""
        ...


class InterpolateStage:
    """Ranks candidates by `alpha * sparse + (1 - alpha) * dense`.

    Args:
        store: vectors of passages. Those of an index stand for the vectors of whichever commit a ranking is of.
        encoder: makes the queries' vectors, and, where it has `encode_passages`, those of pruned passages.
        alpha: weight of the sparse score, 0 to 1.
        depth: passages ranked, at least; the others follow in their order.
        feedback: first passages of an interpolation that move the query's vector before a second one; 0 for none.
        feedback_weight: weight of their mean vector relative to the query's.
        encode_missing: candidates without a vector that are encoded for a query, best first.
        index: the index whose passage numbers the store is keyed by, for candidates that came from elsewhere.
        remembered: vectors made for pruned passages that are kept in memory, those used last.
    """

    name = "interpolate"
    _encode_work = "encode"

    def __init__(
        self,
        store: VectorStore,
        encoder: QueryEncoder,
        *,
        alpha: float = 0.25,
        depth: int = 10,
        feedback: int = 2,
        feedback_weight: float = 1.0,
        encode_missing: int = 10,
        index: Index | None = None,
        remembered: int = 20_000,
    ) -> None:
        self.store, self.encoder, self.index = store, encoder, index
        self.alpha, self.depth = alpha, depth
        self.feedback, self.feedback_weight, self.encode_missing = feedback, feedback_weight, encode_missing
        self.remembered = remembered
        self._late: OrderedDict[bytes, NDArray[np.floating]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        """What is pickled: everything but the vectors that are remembered."""
        return {**self.__dict__, "_late": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def predict(self, state: State) -> float:
        """Milliseconds an interpolation takes, without encoding passages."""
        return state.costs.predict(self.name) if len(state.ranking) else 0.0

    def run(self, state: State) -> StageReport:
        """Interpolate the candidates."""
        started, ranking = state.deadline.worked(), state.ranking
        vector = self._vector(state)
        if vector is None:
            return StageReport(self.name, "skipped", False, "the model was busy with other queries until the deadline")
        store, positions = self._located(ranking)
        late, encoded, apart = self._late_vectors(state, positions)
        found = store.interpolate(
            ranking,
            vector,
            alpha=self.alpha,
            k=max(state.k, self.depth),
            missing="mean",
            vectors=late,
            positions=positions,
            feedback=self.feedback,
            feedback_weight=self.feedback_weight,
        )
        state.note("dense", found.places, found.dense)
        state.promote(found.places, found.scores, "interpolate")
        state.costs.observe(self.name, state.deadline.worked() - started - apart)
        reason = f"{found.missing} candidates have no vector and get the mean score" if found.missing else ""
        counts: Counts = {"candidates": found.candidates, "lookups": found.lookups, "forwards": 1 + encoded}
        return StageReport(self.name, exact=found.exact and not found.missing, reason=reason, counts=counts)

    def _vector(self, state: State) -> NDArray[np.floating] | None:
        """The query's vector; None where the encoder was not free before the deadline."""
        with state.deadline.turn() as held:
            return self.encoder.encode_queries([state.query.text])[0] if held else None

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

    def _late_vectors(
        self, state: State, positions: NDArray[np.int64]
    ) -> tuple[dict[str, NDArray[np.floating]], int, float]:
        """Vectors of the first candidates that the store lacks, how many were made now, and the milliseconds."""
        encoder = self.encoder
        absent = np.flatnonzero(positions < 0)[: self.encode_missing]
        if not len(absent) or not isinstance(encoder, PassageEncoder):
            return {}, 0, 0.0
        candidates = state.passages(state.ranking.take(absent))
        vectors = self._known(candidates)
        passages = [passage for passage in candidates if passage.docno not in vectors]
        tokens = [len(passage.text.split()) for passage in passages]
        if state.deadline.limited:  # only a part of the time: what has a vector must still be ranked
            count = 1
            if state.costs.known(self._encode_work):
                left = state.deadline.left() * _LATE_SHARE
                count = fitting(len(tokens), lambda n: self._encoding(state, tokens[:n]), left)
            passages = passages[:count]
        if not passages:
            return vectors, 0, 0.0
        started = state.deadline.worked()
        made = self._encode(state, encoder, passages)
        if not made:
            return vectors, 0, 0.0
        vectors |= made
        milliseconds = state.deadline.worked() - started
        state.costs.observe(self._encode_work, milliseconds, units(tokens[: len(passages)], calls=0))
        return vectors, len(passages), milliseconds

    def _encoding(self, state: State, tokens: Sequence[int]) -> float:
        return state.costs.predict(self._encode_work, units(tokens, calls=0))

    def _known(self, passages: Sequence[Passage]) -> dict[str, NDArray[np.floating]]:
        """The remembered vectors of passages, by docno."""
        keys = {passage.docno: _key(passage) for passage in passages}
        with self._lock:
            found = {docno: self._late[key] for docno, key in keys.items() if key in self._late}
            for docno in found:
                self._late.move_to_end(keys[docno])
        return found

    def _encode(
        self, state: State, encoder: PassageEncoder, passages: Sequence[Passage]
    ) -> dict[str, NDArray[np.floating]]:
        """Vectors of passages by docno; none where the encoder was not free before the deadline."""
        with state.deadline.turn() as held:
            if not held:
                return {}
            vectors = encoder.encode_passages([passage.contents for passage in passages])
        made = dict(zip((passage.docno for passage in passages), vectors, strict=True))
        with self._lock:
            self._late.update({_key(passage): made[passage.docno] for passage in passages})
            while len(self._late) > self.remembered:
                self._late.popitem(last=False)
        return made


def _key(passage: Passage) -> bytes:
    """What a vector is remembered by: the text that is encoded."""
    return blake2b(passage.contents.encode("utf-8", "surrogatepass"), digest_size=16).digest()
