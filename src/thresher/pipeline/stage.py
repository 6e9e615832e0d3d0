"""`Stage`: the seam between a pipeline and what it is made of; `StageReport`: how a stage went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from thresher.pipeline.state import State

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
        error: the exception it failed with.
    """

    stage: str
    outcome: Outcome = "done"
    exact: bool = True
    reason: str = ""
    counts: Counts = field(default_factory=dict)
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
        """Milliseconds that the least the stage can do for this query takes; 0 where it is not known.

        It is called only where there is a deadline.
        """
        ...

    def run(self, state: State) -> StageReport:
        """Improve `state.ranking`, or select from it; called in one thread a query, and in several threads at once.

        An exception leaves the ranking of the stage before, unless the pipeline raises errors.
        """
        ...
