"""`plan="auto"`: choose plan and settings by what may be spent, from measurements.

`measured.json` has what each plan found on the candidates of TREC DL 2021 (the top 100 of BM25 and of SPLADE++ ED): its
mean nDCG@10 under judges fitted to recorded models and under simulated ones with noise, lasting errors and position
bias. `python -m eval rerank-study --table` makes it. A plan is left out if its bound for these candidates (calls,
tokens, cost, or the time of its sequential steps) does not fit the limits; of the rest, those within a hundredth of the
best are as good, and of these the one that shows the fewest passages is taken. Without a limit, at most the calls of
the default plan are spent.

A bound holds if no request is repeated. What a call takes in tokens and seconds is estimated: from the passages'
lengths, and at `SECONDS_A_CALL`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from thresher.checks import real, whole
from thresher.llm.budget import Budget
from thresher.rerank.plans import DEFAULT_PLAN, plan_from_name

if TYPE_CHECKING:
    from thresher.llm.budget import Price
    from thresher.rerank.plans.plan import Plan, Spent

AUTO = "auto"
AS_GOOD = 0.01  # of nDCG@10: plans that differ by less are as good
SECONDS_A_CALL = 2.0
PROMPT_TOKENS, LABEL_TOKENS, ANSWER_TOKENS = 120, 6, 5  # of a question, of a passage shown, of a passage ordered
CHARACTERS_A_TOKEN = 4
USUAL_PASSAGE = 75  # tokens


UNITS = ("calls", "questions", "tokens", "cost", "seconds")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a plan is chosen for.

    Attributes:
        n: number of candidates.
        k: how many first ranks matter.
        budget: what one query may take.
        price: of a token; without one a limit on cost is not looked at.
        concurrency: requests at a time.
        per_call: questions of a batch that one request takes.
        passage_tokens: mean length of a passage.
        seconds_a_call: how long a request takes.
    """

    n: int
    k: int = 10
    budget: Budget = field(default_factory=Budget)
    price: Price | None = None
    concurrency: int = 16
    per_call: int = 1
    passage_tokens: float = USUAL_PASSAGE
    seconds_a_call: float = SECONDS_A_CALL

    def __post_init__(self) -> None:
        whole("n", self.n)
        whole("k", self.k, 1)
        whole("concurrency", self.concurrency, 1)
        whole("per_call", self.per_call, 1)
        real("passage_tokens", self.passage_tokens, 0.0, 1e9)
        real("seconds_a_call", self.seconds_a_call, 0.0, 1e9)

    def takes(self, spent: Spent) -> dict[str, float]:
        """What that much would take, at most, in each of the budget's units."""
        calls = max(-(-spent.questions // self.per_call), spent.depth)
        prompt = spent.questions * PROMPT_TOKENS + spent.passages * (self.passage_tokens + LABEL_TOKENS)
        answer = spent.passages * ANSWER_TOKENS
        cost = 0.0 if self.price is None else self.price.of(round(prompt), round(answer))
        turns = max(spent.depth, -(-calls // self.concurrency))
        seconds = turns * self.seconds_a_call
        return {
            "calls": calls, "questions": spent.questions, "tokens": prompt + answer, "cost": cost, "seconds": seconds
        }  # fmt: skip

    def fits(self, spent: Spent) -> bool:
        """Whether that much is within all limits."""
        limits = {name: getattr(self.budget, name) for name in UNITS}
        taken = self.takes(spent)
        return all(limit is None or taken[name] <= limit for name, limit in limits.items())


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan that was chosen.

    Attributes:
        plan: the plan.
        reason: one sentence that says why; None if there was no choice.
    """

    plan: Plan
    reason: str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What one plan found.

    Attributes:
        plan: its name.
        value: mean nDCG@10 on DL 2021.
        choices: whether it asks for choices between hundreds, which decision models alone answer.
    """

    plan: str
    value: float
    choices: bool


@cache
def measured() -> tuple[Measured, ...]:
    """The measurements, best first."""
    document = json.loads((files("thresher.rerank") / "measured.json").read_text(encoding="utf-8"))
    found = [Measured(row["plan"], row["value"], row["choices"]) for row in document]
    return tuple(sorted(found, key=lambda one: -one.value))


def choose(given: Circumstances) -> Choice:
    """The best plan that fits.

    Args:
        given: candidates, limits and what is known of the judge.
    """
    free = all(getattr(given.budget, name) is None for name in UNITS)
    known = [one for one in measured() if given.per_call > 1 or not one.choices]
    plans = {one.plan: plan_from_name(one.plan) for one in known}
    bounds = {name: plan.bound(given.n, given.k) for name, plan in plans.items()}
    most = plan_from_name(DEFAULT_PLAN).bound(given.n, given.k).calls
    fitting = [
        one for one in known if given.fits(bounds[one.plan]) and (not free or bounds[one.plan].questions <= most)
    ]
    if not fitting:
        cheapest = min(known, key=lambda one: (bounds[one.plan].passages, -one.value))
        reason = f"no plan for {given.n} candidates is sure to fit the budget, and this takes the least"
        return Choice(plans[cheapest.plan], reason)
    as_good = [one for one in fitting if one.value >= fitting[0].value - AS_GOOD]
    chosen = min(as_good, key=lambda one: (bounds[one.plan].passages, -one.value))
    bound = bounds[chosen.plan]
    taken = given.takes(bound)
    within = "no limit is set" if free else "of those that fit the budget"
    others = "it is the best" if len(as_good) == 1 else f"it is the cheapest of {len(as_good)} that are as good"
    spends = f"{taken['calls']:.0f} calls in {bound.depth} steps, about {taken['tokens']:,.0f} tokens"
    reason = f"{within}, {others} (nDCG@10 {chosen.value:.3f} on DL 2021): for {given.n} candidates at most {spends}"
    return Choice(plans[chosen.plan], reason)


def share_of(whole_budget: Budget, per_query: Budget, queries: int, concurrency: int) -> Budget:
    """What each of several queries may take: its own limits, or its share of the limits of all, if that is less.

    Args:
        whole_budget: limits of all queries together.
        per_query: limits of each.
        queries: how many there are.
        concurrency: requests at a time: as many queries can wait for their next step together.
    """
    limits: dict[str, float] = {}
    for name in UNITS:
        parts = queries if name != "seconds" else -(-queries // concurrency)
        own, common = getattr(per_query, name), getattr(whole_budget, name)
        least = [limit for limit in (own, None if common is None else common / max(parts, 1)) if limit is not None]
        if least:
            limits[name] = min(least)
    counted = {name: int(min(limits[name], 2**62)) for name in ("calls", "questions", "tokens") if name in limits}
    return Budget(**counted, cost=limits.get("cost"), seconds=limits.get("seconds"))
