"""What a plan is: a generator that spends comparisons on n candidates and knows no model, prompt or thread.

A plan yields a batch of comparisons that do not depend on each other, is sent one answer for each, and in the end
returns a `Placement` of all candidates. The number of batches is therefore its sequential depth, and the caller decides
how a batch is answered: in parallel, from a cache, from a recording, or by a simulation.

Candidates are known by position, 0-based, in first-stage order; texts and prompts belong to the judge. An answer of
None means *no information*: the call failed, its answer could not be read, or the budget ran out. It is never replaced
by the order in which the passages were shown.

A plan can be stopped at any yield: the caller throws `Stop` into it, and it returns the best placement it has. In a
batch that fitted the budget only in part, the comparisons that were not made have the answer None.

Each plan states two things, which tests check: `bound(n, k)`, the most it spends, and `exact_top(n, k)`, the number of
first ranks that are correct whenever every answer is correct.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

from thresher.arguments import checked_call
from thresher.checks import is_a, shown, whole
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


T = TypeVar("T")
Tiers = tuple[tuple[int, ...], ...]
"""Positions, best first; those in one tier are tied."""


@dataclass(frozen=True, slots=True)
class Order:
    """Order these candidates, best first. They are shown in the order given."""

    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Best:
    """Choose the best of these candidates. The first one shown is the incumbent."""

    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prefer:
    """Choose the better of these two candidates. They are shown in the order given."""

    items: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """Rate the relevance of this one candidate."""

    items: tuple[int]


MOST = 10_000
"""The largest setting of a plan: more repetitions than that are a mistake."""


def setting(name: str, value: object, least: int) -> None:
    """Check a setting of a plan.

    Raises:
        InputError: it is not a whole number from `least` to 10,000.
    """
    if whole(name, value, least) > MOST:
        raise InputError(f"{name} must be at most {MOST}; got {shown(value)}")


Comparison = Order | Best | Prefer | Rate


@dataclass(frozen=True, slots=True)
class Expand:
    """Not a comparison: find up to `count` neighbours of these candidates.

    The answer names them by position, the nearest first. Passages that are not candidates yet become candidates, with
    the next positions n, n + 1, ... None, as for a comparison, means no information: nothing knows neighbours. It costs
    no call.

    Attributes:
        items: positions, best first; neighbours of the first ones count more.
        count: how many are wanted, at least 1.
        known: positions that are not wanted, those of `items` aside.
    """

    items: tuple[int, ...]
    count: int
    known: frozenset[int] = frozenset()


@checked_call
@dataclass(frozen=True, slots=True)
class Answer:
    """A judge's answer to one comparison.

    Attributes:
        tiers: the positions compared, best first, ties together. For `Best` only the first tier has to be right: a
            judge that knows no more puts the rest into one second tier.
        score: the rating (`Rate`) or the probability that the first of the two is better (`Prefer`); None if unknown.
        named: how many positions, counted from the top, the judge placed itself; the rest were appended by the
            repair rule and are no evidence about each other. By default all of them.
        repairs: the kinds of repair that reading the answer took, empty for a well-formed one.
    """

    tiers: Tiers
    score: float | None = None
    named: int = -1
    repairs: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not all(is_a(tier, tuple) for tier in (self.tiers if is_a(self.tiers, tuple) else [0])):
            raise InputError(f"the tiers of an answer must be a tuple of tuples, got {shown(self.tiers)}")
        if self.named < 0:
            object.__setattr__(self, "named", sum(map(len, self.tiers)))

    @property
    def order(self) -> tuple[int, ...]:
        """All positions in a row, best first."""
        return flatten(self.tiers)

    @checked_call
    def check(self, comparison: Comparison) -> None:
        """Check that the answer is about exactly the positions compared.

        Raises:
            InputError: a position is missing, repeated or unknown, or the score is not a number: the judge is broken.
        """
        if self.score is not None and not math.isfinite(self.score):
            raise InputError(f"a judge rated {type(comparison).__name__}{comparison.items} with {self.score}")
        if sorted(self.order) != sorted(comparison.items):
            raise InputError(
                f"a judge answered {type(comparison).__name__}{comparison.items} with the positions {self.order}; "
                "an answer must hold exactly the positions compared, each once"
            )


def flatten(tiers: Tiers) -> tuple[int, ...]:
    """The items of all tiers in a row, best first."""
    return tuple(item for tier in tiers for item in tier)


Step = Comparison | Expand
Steps = Generator[Sequence[Step], Sequence[Answer | None], T]
"""A generator that yields batches of comparisons, is sent their answers, and returns a T."""


class Stop(Exception):  # noqa: N818  (a signal, not a fault)
    """Thrown into a plan when no more comparisons can be made."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The result of a plan: all n positions, best first, with ties.

    Attributes:
        tiers: all n positions, best first; positions in one tier are tied, and are shown in the order given.
        scores: the plan's own score of each position where it has one, aligned with `order`; never ascending.
        errors: the standard error of each score where the plan estimates it; aligned with `order`.
        confidence: the probability that each is among the first k, aligned with `order`; None for a candidate of which
            it is unknown, and where no answer compared candidates. The driver adds it, unless the plan has its own.
    """

    tiers: Tiers
    scores: tuple[float, ...] | None = None
    errors: tuple[float, ...] | None = None
    confidence: tuple[float | None, ...] | None = None

    @property
    def order(self) -> tuple[int, ...]:
        """All positions in a row, best first."""
        return flatten(self.tiers)

    @property
    def tied(self) -> frozenset[int]:
        """Ranks (1-based) that are tied with the rank above them."""
        tied: set[int] = set()
        rank = 0
        for tier in self.tiers:
            tied.update(range(rank + 2, rank + len(tier) + 1))
            rank += len(tier)
        return frozenset(tied)

    @classmethod
    @checked_call
    def of(cls, order: Iterable[int]) -> Placement:
        """A placement without ties and scores."""
        return cls(tuple((item,) for item in order))

    @classmethod
    @checked_call
    def by_score(cls, scores: Mapping[int, float], rest: Iterable[int] = ()) -> Placement:
        """Highest score first, equal scores tied in first-stage order, then `rest` (positions without a score)."""
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


@dataclass(frozen=True, slots=True)
class Spent:
    """What a plan spends, or at most spends, on one query.

    Attributes:
        questions: comparisons asked for.
        passages: passages shown in them, each counted as often as it is shown. Prefill tokens follow from this.
        depth: sequential batches: the longest chain of questions that wait for each other.
        calls: requests. As many as questions, unless the judge takes several questions of a batch in one request.
    """

    questions: int = 0
    passages: int = 0
    depth: int = 0
    calls: int = 0

    @classmethod
    def alike(cls, questions: int, size: int, depth: int) -> Spent:
        """Questions with `size` passages each, one a request."""
        return cls(questions, questions * size, depth if questions else 0, questions)

    def __add__(self, then: Spent) -> Spent:
        """This, and then that."""
        return Spent(
            self.questions + then.questions,
            self.passages + then.passages,
            self.depth + then.depth,
            self.calls + then.calls,
        )


class Plan(Protocol):
    """A way to spend comparisons."""

    @property
    def name(self) -> str:
        """The plan and its settings, as `plan_from_name` reads them."""

    def bound(self, n: int, k: int) -> Spent:
        """The most that n candidates take of which the first k ranks are wanted, one question a request."""

    def exact_top(self, n: int, k: int) -> int:
        """How many first ranks are right under a judge that is always right; 0 where nothing is promised."""

    def run(self, n: int, k: int, rng: Random) -> Steps[Placement]:
        """Compare n candidates (positions 0 to n - 1 in first-stage order) and place them.

        Args:
            n: number of candidates.
            k: how many first ranks matter.
            rng: the only source of randomness, seeded for the query.
        """


def parallel(parts: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run independent parts in lockstep: their batches of each step become one batch.

    Returns:
        what each part returned, aligned with `parts`.
    """
    results: dict[int, T] = {}
    waiting: dict[int, Sequence[Step]] = {}

    def advance(index: int, answers: Sequence[Answer | None] | None) -> None:
        try:
            waiting[index] = next(parts[index]) if answers is None else parts[index].send(answers)
        except StopIteration as done:
            waiting.pop(index, None)
            results[index] = done.value

    for index in range(len(parts)):
        advance(index, None)
    while waiting:
        answers = yield [comparison for batch in waiting.values() for comparison in batch]
        taken = 0
        for index, batch in list(waiting.items()):
            advance(index, answers[taken : taken + len(batch)])
            taken += len(batch)
    return [results[index] for index in range(len(parts))]


@checked_call
def drive(
    plan: Plan,
    n: int,
    answer: Callable[[Comparison], Answer | None],
    *,
    k: int = 10,
    seed: int = 0,
    max_calls: int | None = None,
    per_call: int = 1,
    neighbours: Callable[[Expand, int], Sequence[int]] | None = None,
) -> tuple[Placement, Spent]:
    """Run a plan with a plain function as its judge, for studies and tests.

    Args:
        plan: the plan.
        n: number of candidates.
        answer: answers one comparison.
        k: how many first ranks matter.
        seed: of the plan's randomness.
        max_calls: stop after this many questions, None for no limit.
        per_call: questions of a batch that one request takes.
        neighbours: is told what to expand and how many candidates there are, and returns positions, those of new
            candidates in ascending order; `answer` has to know them. None if nothing knows neighbours.

    Returns:
        the placement, and what was spent: only questions that were answered count.

    Raises:
        InputError: the plan yields another batch after `max_calls` stopped it, or a number is out of range.
    """
    n, k, per_call = whole("n", n), whole("k", k, 1), whole("per_call", per_call, 1)
    steps = plan.run(n, k, Random(seed))  # noqa: S311
    spent = Spent()

    def respond(step: Step) -> Answer | None:
        nonlocal n, spent
        if isinstance(step, Expand):
            if neighbours is None:
                return None
            found = neighbours(step, n)
            n = max(n, *(item + 1 for item in found), 0)
            return positions(found)
        if max_calls is not None and spent.questions >= max_calls:
            return None
        spent += Spent(1, len(step.items))
        return answer(step)

    try:
        batch = next(steps)
        while True:
            before = spent.questions
            answers = [respond(step) for step in batch]
            if not all(isinstance(step, Expand) for step in batch):
                spent += Spent(depth=1, calls=-(-(spent.questions - before) // per_call))
            batch = steps.send(answers)
            if max_calls is not None and spent.questions >= max_calls:
                stop(plan, steps)
    except StopIteration as done:
        placement: Placement = done.value
        return placement, spent


def positions(found: Iterable[int]) -> Answer:
    """The answer to an `Expand`: positions, the nearest first."""
    return Answer(tuple((item,) for item in found))


def stop(plan: Plan, steps: Steps[Placement]) -> None:
    """Throw `Stop` into a running plan, which then returns (raises StopIteration) with its best placement.

    Raises:
        InputError: the plan yields another batch instead.
    """
    steps.throw(Stop())
    raise InputError(f"plan {plan.name!r} asked for more comparisons after it was stopped")
