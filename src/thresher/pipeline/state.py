"""`State`: one query on its way through the stages: the ranking so far, and what is known about its passages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thresher.ranking import Ranking

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from thresher.context.scoring import PassageScores
    from thresher.context.select import PrunedPassage
    from thresher.pipeline.deadline import Costs, Deadline
    from thresher.ranking import PassageSource
    from thresher.records import Passage, Query, Span


@dataclass(slots=True)
class State:
    """What stages read and change.

    Attributes:
        query: the query; its qid is empty where it came as a string.
        k: passages to hand over.
        max_tokens: tokens they may cost together, None for no limit.
        deadline: the time left.
        costs: what stages cost here.
        given: the caller's candidates, in place of a search.
        ranking: the candidates, best first; empty before the first stage. Its scores are those of the stage that ranked
            them, or fall by one a rank where stages with different scales ranked different parts.
        found: whether a stage has found candidates.
        signals: the rankings that stages gave scores in, by signal (`search`, `dense`, `relevance`, ...).
        texts: where texts are read, for rankings that do not know it themselves.
        read: what a model said of passages, by the scorer's identity and docno.
        sentences: sentences of texts that were split already.
        selected: what is kept of the first k passages, once a stage has selected it.
        confidences: the highest score of a sentence of a passage, by docno, as the selecting stage knows it.
        withheld: nothing is to be handed over.
    """

    query: Query
    k: int
    max_tokens: int | None
    deadline: Deadline
    costs: Costs
    given: Ranking | None = None
    ranking: Ranking = field(default_factory=lambda: Ranking([]))
    found: bool = False
    signals: dict[str, Ranking] = field(default_factory=dict)
    texts: PassageSource | None = None
    read: dict[tuple[int, str], PassageScores] = field(default_factory=dict)
    sentences: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    selected: list[PrunedPassage] | None = None
    confidences: dict[str, float] = field(default_factory=dict)
    withheld: bool = False
    _passages: dict[str, Passage] = field(default_factory=dict)

    def start(self, ranking: Ranking, signal: str = "search") -> None:
        """Take the candidates, with their scores as `signal`."""
        self.ranking = self.signals[signal] = ranking
        self.found = True

    def promote(self, places: ArrayLike, scores: ArrayLike, signal: str) -> None:
        """Move the passages at `places` of the ranking to its front, in that order; the others follow in theirs.

        Args:
            places: int[m], 0-based and distinct.
            scores: float[m], kept as `signal`.
            signal: a name for them.
        """
        ranking, head = self.ranking, np.asarray(places, np.int64)
        self.note(signal, head, scores)
        rest = np.ones(len(ranking), dtype=bool)
        rest[head] = False
        order = np.concatenate([head, np.flatnonzero(rest)])
        self.ranking = ranking.take(order, np.arange(len(order), 0, -1))

    def note(self, signal: str, places: ArrayLike, scores: ArrayLike) -> None:
        """Keep `scores` (float[m]) of the passages at `places` of the ranking as `signal`, without moving them."""
        self.signals[signal] = self.ranking.take(places, scores, source=signal)

    def signal(self, name: str, passages: Ranking) -> NDArray[np.float64]:
        """Scores of `passages` by that signal, float64[n]; nan for passages that it does not cover."""
        scores = np.full(len(passages), np.nan)
        known = self.signals.get(name)
        if known is not None and len(known):
            places = places_of(known, passages)
            scores[places >= 0] = known.scores[places[places >= 0]]
        return scores

    def passages(self, ranking: Ranking) -> list[Passage]:
        """The passages of `ranking` with their texts, each read once a query."""
        docnos = ranking.docnos
        unread = [place for place, docno in enumerate(docnos) if docno not in self._passages]
        if unread:
            wanted = ranking.take(unread)
            if not wanted.has_passages and self.texts is not None:
                wanted = wanted.with_passages(self.texts)
            self._passages |= zip((docnos[place] for place in unread), wanted.passages(), strict=True)
        return [self._passages[docno] for docno in docnos]


def places_of(ranking: Ranking, passages: Ranking) -> NDArray[np.int64]:
    """Where the passages of one ranking stand in another, int64[len(passages)]; -1 for those that it lacks."""
    if ranking.numbered and passages.numbered:
        order = np.argsort(ranking.numbers, kind="stable")
        at = np.minimum(np.searchsorted(ranking.numbers, passages.numbers, sorter=order), len(order) - 1)
        return np.where(ranking.numbers[order[at]] == passages.numbers, order[at], -1)
    place_of = {docno: place for place, docno in enumerate(ranking.docnos)}
    return np.array([place_of.get(docno, -1) for docno in passages.docnos], np.int64)
