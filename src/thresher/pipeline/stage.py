"""`Stage`: what a pipeline is made of; `State`: one query on its way through the stages; `StageReport`: how one went.

A state holds the ranking so far and what is known about its passages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import places as as_places
from thresher.ranking import Ranking
from thresher.rerank.calibration import worth_reading

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from thresher.context.pruned import PrunedPassage
    from thresher.context.scorers import PassageScores
    from thresher.index.filters import Filter
    from thresher.pipeline.deadline import Costs, Deadline
    from thresher.records import Passage, Query, Span
    from thresher.search.any_index import Allow
    from thresher.search.queries import Tiers
    from thresher.texts import PassageSource
    from thresher.vectors.states import PassageStates


Outcome = Literal["done", "cut", "skipped", "failed"]
Counts = dict[str, int | float]


@dataclass(frozen=True, slots=True)
class StageReport:
    """How a stage went.

    Attributes:
        stage: its name.
        outcome: `done`; `cut`, where the deadline let it do less than it was set to do; `skipped`, where its predicted
            cost did not fit the deadline; `failed`.
        exact: it did what it would have done without a deadline, and nothing in it was approximate.
        reason: why it was cut, skipped or failed.
        counts: what it did, by name (`passages`, `lookups`, `tokens`).
        engine: what its model ran on (`thresher.models.backend`), empty where it has none or does not say.
        error: the exception it failed with.
    """

    stage: str
    outcome: Outcome = "done"
    exact: bool = True
    reason: str = ""
    counts: Counts = field(default_factory=dict)
    engine: str = ""
    error: Exception | None = field(default=None, compare=False)


class Stage(Protocol):
    """A step from a query to its answer; a pipeline runs its stages in order.

        class NewestFirst:
            name = "newest-first"

            def predict(self, state):
                return state.costs.predict(self.name)

            def run(self, state):
                head = state.ranking.cut(10)
                years = [int(passage.metadata["year"]) for passage in state.passages(head)]
                state.promote(np.argsort(years)[::-1], scores=sorted(years, reverse=True), signal="year")
                return StageReport(self.name)

    A stage may also have `work`, the name its cost is observed under where that is not its own, and `warms_up = False`,
    where `Pipeline.warm_up` is not to run it.

    Attributes:
        name: what reports, usage and costs call it; distinct within a pipeline.
    """

    @property
    def name(self) -> str:
        """What reports, usage and costs call it."""
        ...

    def predict(self, state: State) -> float:
        """Predicted milliseconds for the least the stage can do for this query; 0 if unknown.

        It is called only where there is a deadline.
        """
        ...

    def run(self, state: State) -> StageReport:
        """Improve `state.ranking`, or select from it; called in one thread a query, and in several threads at once.

        An exception leaves the ranking of the stage before, unless the pipeline raises errors.
        """
        ...


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
        where, allow: which passages a search may return, as `Index.search`.
        tiers, recall: which tiers are searched and what share of the exact candidates to expect, as `Index.search`;
            None for the stages' own settings.
        ranking: the candidates, best first; empty before the first stage. Its scores are those of the stage that ranked
            them, or fall by one a rank where stages with different scales ranked different parts.
        found: whether a stage has found candidates.
        signals: the rankings that stages gave scores in, by signal (`search`, `dense`, `relevance`, ...).
        texts: where texts are read, for rankings that do not know it themselves.
        read: scores of passages, by `id` of the scorer and docno.
        sentences: sentences of texts that were split already.
        states: what was computed of passages when the index was built, by docno; None where nothing was.
        selected: what is kept of the passages to hand over, by place in the ranking, once a stage has selected it.
        confidences: the highest score of a sentence of a passage, by docno; set by the stage that selects sentences.
        withheld: nothing is to be handed over.
        min_score: the least probability of being relevant that passages must have; None for no limit.
        precision: the least expected precision of the passages together; None for no limit.
        probabilities: that passages are relevant, by docno; set by a stage whose scores are calibrated.
    """

    query: Query
    k: int
    max_tokens: int | None
    deadline: Deadline
    costs: Costs
    given: Ranking | None = None
    where: Filter | None = None
    allow: Allow | None = None
    tiers: Tiers | None = None
    recall: float | None = None
    ranking: Ranking = field(default_factory=lambda: Ranking([]))
    found: bool = False
    signals: dict[str, Ranking] = field(default_factory=dict)
    texts: PassageSource | None = None
    read: dict[tuple[int, str], PassageScores] = field(default_factory=dict)
    sentences: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    selected: dict[int, PrunedPassage] | None = None
    confidences: dict[str, float] = field(default_factory=dict)
    withheld: bool = False
    min_score: float | None = None
    precision: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    states: dict[str, PassageStates | None] = field(default_factory=dict)
    _passages: dict[str, Passage] = field(default_factory=dict)

    @checked_call
    def start(self, ranking: Ranking, signal: str = "search") -> None:
        """Take the candidates, with their scores as `signal`."""
        self.ranking = self.signals[signal] = ranking
        self.found = True

    @checked_call
    def promote(self, places: ArrayLike, scores: ArrayLike, signal: str) -> None:
        """Move the passages at `places` of the ranking to its front, in that order; the others follow in theirs.

        A selection that an earlier stage made is dropped, since it is of another ranking.

        Args:
            places: int[m], 0-based and distinct.
            scores: float[m], kept as `signal`.
            signal: a name for them.
        """
        ranking, head = self.ranking, as_places(places)
        self.note(signal, head, scores)
        rest = np.ones(len(ranking), dtype=bool)
        rest[head] = False
        order = np.concatenate([head, np.flatnonzero(rest)])
        self.ranking = ranking.take(order, np.arange(len(order), 0, -1))
        self.selected = None  # what was selected belongs to the ranking before

    @checked_call
    def keep_worth_reading(self, count: int) -> int:
        """Leave out the passages that do not reach `min_score` and `precision`; the first `count` alone can.

        Returns:
            how many of the first `count` are left out; the others always are where there is a limit.
        """
        if (self.min_score, self.precision) == (None, None):
            return 0
        head = [self.probabilities.get(docno, np.nan) for docno in self.ranking.docnos[:count]]
        places = worth_reading(head, self.min_score, self.precision)
        self.ranking, self.selected = self.ranking.take(places), None
        return len(head) - len(places)

    @checked_call
    def note(self, signal: str, places: ArrayLike, scores: ArrayLike) -> None:
        """Keep `scores` (float[m]) of the passages at `places` of the ranking as `signal`, without moving them."""
        self.signals[signal] = self.ranking.take(places, scores, source=signal)

    @checked_call
    def signal(self, name: str, passages: Ranking) -> NDArray[np.float64]:
        """Scores of `passages` by that signal, float64[n]; nan for passages that it does not cover."""
        scores = np.full(len(passages), np.nan)
        known = self.signals.get(name)
        if known is not None and len(known):
            places = places_of(known, passages)
            scores[places >= 0] = known.scores[places[places >= 0]]
        return scores

    @checked_call
    def passages(self, ranking: Ranking) -> list[Passage]:
        """The passages of `ranking` with their texts, each read once a query."""
        docnos = ranking.docnos
        unread = [place for place, docno in enumerate(docnos) if docno not in self._passages]
        if unread:
            wanted = ranking.take(unread)
            if not wanted.has_passages and self.texts is not None:
                wanted = wanted.with_passages(self.texts)
            names = [docnos[place] for place in unread]
            self._passages |= zip(names, wanted.passages(), strict=True)
            self.states |= zip(names, wanted.stored_states(), strict=True)
        return [self._passages[docno] for docno in docnos]

    @checked_call
    def aliases(self, ranking: Ranking) -> list[tuple[str, ...]]:
        """Of each passage of `ranking`, the docnos of the duplicates that were folded into it."""
        if not ranking.has_passages and self.texts is not None:
            ranking = ranking.with_passages(self.texts)
        return ranking.aliases()


def places_of(ranking: Ranking, passages: Ranking) -> NDArray[np.int64]:
    """Where the passages of one ranking stand in another, int64[len(passages)]; -1 for those that it lacks."""
    if ranking.numbered and passages.numbered:
        order = np.argsort(ranking.numbers, kind="stable")
        at = np.minimum(np.searchsorted(ranking.numbers, passages.numbers, sorter=order), len(order) - 1)
        return np.where(ranking.numbers[order[at]] == passages.numbers, order[at], -1)
    place_of = {docno: place for place, docno in enumerate(ranking.docnos)}
    return np.array([place_of.get(docno, -1) for docno in passages.docnos], np.int64)
