"""A plan: a generator that spends comparisons on a list of candidates and knows no model, prompt or thread.

It yields a batch of asks that do not depend on each other, is sent one answer (or `None`, no information) for each,
and in the end returns a ranking. Batch boundaries are therefore the plan's sequential depth, and whoever drives it
decides how a batch is answered: in parallel, from a cache, from a recording, by a simulation.

A plan can be stopped at any yield: the driver throws `Stop` into it, and it returns the best ranking it has so far.
Inside a batch that only partly fitted the budget, the unasked places hold `None`.

Each plan states two numbers that tests hold it to: `max_calls(n, k)`, which it never exceeds, and `exact_top(n, k)`,
the number of first ranks that are right whenever every answer is right.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

from thresher.errors import InputError
from thresher.rerank.asks import Answer, Ask, flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
Course = Generator[list[Ask], "Sequence[Answer | None]", T]
"""A generator of batches that returns a T."""


class Stop(Exception):  # noqa: N818  (a signal, not a fault)
    """Thrown into a plan when nothing more may be asked."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a plan concludes.

    Attributes:
        tiers: all n positions, best first; positions in one tier could not be told apart and stand in the order in
            which they are to be shown.
        scores: the plan's own score of each position where it has one, aligned with `order`; never ascending.
        errors: the standard error of each score, where the plan can estimate one; aligned with `order`.
    """

    tiers: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...] | None = None
    errors: tuple[float, ...] | None = None

    @property
    def order(self) -> tuple[int, ...]:
        """All positions in a row, best first."""
        return flatten(self.tiers)

    @classmethod
    def of(cls, order: Iterable[int]) -> Ranking:
        """A ranking without ties and scores."""
        return cls(tuple((item,) for item in order))

    @classmethod
    def by_score(cls, scores: Mapping[int, float], rest: Iterable[int] = ()) -> Ranking:
        """Highest score first, ties by first-stage rank in one tier, then `rest` (positions without a score)."""
        order = sorted(scores, key=lambda item: (-scores[item], item))
        tiers: list[list[int]] = []
        for item in order:
            if tiers and scores[tiers[-1][0]] == scores[item]:
                tiers[-1].append(item)
            else:
                tiers.append([item])
        rest = tuple(rest)
        values = None if rest else tuple(scores[item] for item in order)
        return cls((*map(tuple, tiers), *((item,) for item in rest)), values)


class Plan(Protocol):
    """How comparisons are spent."""

    @property
    def name(self) -> str:
        """The plan and its settings, as `parse_plan` reads them."""

    def max_calls(self, n: int, k: int) -> int:
        """An upper bound on the asks for n candidates of which the first k ranks are wanted."""

    def exact_top(self, n: int, k: int) -> int:
        """How many first ranks are right under a judge that is always right; 0 where nothing is promised."""

    def run(self, n: int, k: int, rng: Random) -> Course[Ranking]:
        """Spend asks on n candidates (positions 0 to n - 1 in first-stage order) and rank them.

        Args:
            n: number of candidates.
            k: how many first ranks matter.
            rng: the only source of chance, seeded for the query.
        """


Batches = Course[None]
"""Part of a plan: asks, changes the plan's own state, returns nothing."""


def parallel(parts: Sequence[Course[T]]) -> Course[list[T]]:
    """Run independent parts in lockstep: their batches of each step become one batch.

    Returns:
        what each part returned, aligned with `parts`.
    """
    results: dict[int, T] = {}
    waiting: dict[int, list[Ask]] = {}

    def advance(index: int, answers: Sequence[Answer | None] | None) -> None:
        try:
            waiting[index] = next(parts[index]) if answers is None else parts[index].send(answers)
        except StopIteration as done:
            waiting.pop(index, None)
            results[index] = done.value

    for index in range(len(parts)):
        advance(index, None)
    while waiting:
        answers = yield [ask for batch in waiting.values() for ask in batch]
        taken = 0
        for index, batch in list(waiting.items()):
            advance(index, answers[taken : taken + len(batch)])
            taken += len(batch)
    return [results[index] for index in range(len(parts))]


def drive(
    plan: Plan,
    n: int,
    answer: Callable[[Ask], Answer | None],
    *,
    k: int = 10,
    seed: int = 0,
    max_calls: int | None = None,
) -> tuple[Ranking, int, int]:
    """Run a plan with a plain function as its judge: for studies and tests, without budget but for `max_calls`.

    Returns:
        the ranking, the number of asks answered, and the number of batches (the sequential depth).

    Raises:
        InputError: the plan asks on after `max_calls` has stopped it.
    """
    course = plan.run(n, k, Random(seed))  # noqa: S311
    calls = depth = 0
    try:
        batch = next(course)
        while True:
            depth += 1
            answers: list[Answer | None] = []
            for ask in batch:
                spent = max_calls is not None and calls >= max_calls
                answers.append(None if spent else answer(ask))
                calls += not spent
            batch = course.send(answers)
            if max_calls is not None and calls >= max_calls:
                course.throw(Stop())
                raise InputError(f"plan {plan.name!r} asked on after it was stopped")
    except StopIteration as done:
        ranking: Ranking = done.value
        return ranking, calls, depth
