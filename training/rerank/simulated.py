"""A judge that knows the utility of every passage, with optional errors: for tests and for studies of plans.

*Perfect*: orders by utility, equal utilities in the order shown. *Noisy*: Plackett-Luce, which is independent Gumbel
noise of a given scale added to every utility in every answer. *Position bias*: a bonus that falls linearly from the
first passage shown to the last. *Malformed*: at a given rate, an answer drops, repeats or invents an id or names none,
and is then read by the same parser and repair rule as a model's.

Errors are independent of each other. A real model repeats its errors about a passage, so the gain a plan shows here
from comparing again is an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.llm.client import Call
from thresher.llm.model import Completion, TokenUsage
from thresher.rerank.parsing import Parser, get_parser, read_order
from thresher.rerank.plans.plan import Answer, Best, Order, Prefer, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thresher.llm.client import Client
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison


def perfect(utilities: Sequence[float]) -> Callable[[Comparison], Answer]:
    """A judge for `thresher.rerank.drive` that is always right; equal utilities tie, or keep the order shown."""

    def answer(comparison: Comparison) -> Answer:
        items = comparison.items
        if type(comparison) is Prefer:
            a, b = comparison.items
            margin = utilities[a] - utilities[b]
            tiers = ((a,), (b,)) if margin > 0 else ((b,), (a,)) if margin < 0 else ((a, b),)
            return Answer(tiers, 0.5 + 0.5 * ((margin > 0) - (margin < 0)), 2)
        if type(comparison) is Best:
            top = max(utilities[item] for item in items)
            best = tuple(item for item in items if utilities[item] == top)
            rest = tuple(item for item in items if utilities[item] != top)
            return Answer((best, rest) if rest else (best,))
        if type(comparison) is Rate:
            return Answer((items,), utilities[items[0]], 1)
        order = sorted(items, key=lambda item: -utilities[item])
        return Answer(tuple((item,) for item in order), None, len(order))

    return answer


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a simulated judge errs.

    Attributes:
        noise: scale of the Gumbel noise on every utility, 0 for none.
        position_bias: bonus of the first passage shown over the last, in units of utility.
        malformed: share of `Order` answers that are broken, 0 to 1.
        parsing: the parser that reads broken answers.
    """

    noise: float = 0.0
    position_bias: float = 0.0
    malformed: float = 0.0
    parsing: str = "brackets-v1"

    def __post_init__(self) -> None:
        if not (self.noise >= 0 and 0 <= self.malformed <= 1 and math.isfinite(self.position_bias)):
            raise InputError(f"noise must be at least 0, malformed 0 to 1 and position_bias finite; got {self}")

    def judging(self, utilities: Sequence[float], rng: Random) -> Callable[[Comparison], Answer | None]:
        """A function that answers comparisons of candidates with these utilities, drawing from `rng` in order."""
        parser = get_parser(self.parsing)

        def answer(comparison: Comparison) -> Answer | None:
            values = self._perceived(comparison, utilities, rng)
            match comparison:
                case Rate(items=(item,)):
                    return Answer(((item,),), score=values[item])
                case Prefer(items=(a, b)):
                    return _preference(a, b, values)
                case Best(items=items):
                    top = max(values.values())
                    best = tuple(item for item in items if values[item] == top)
                    rest = tuple(item for item in items if values[item] != top)
                    return Answer((best, rest) if rest else (best,))
                case Order(items=items):
                    order = sorted(items, key=lambda item: -values[item])  # stable: ties as shown
                    if self.malformed and rng.random() < self.malformed:
                        return _garbled(order, items, rng, parser)
                    return Answer(tuple((item,) for item in order))

        return answer

    def _perceived(self, comparison: Comparison, utilities: Sequence[float], rng: Random) -> dict[int, float]:
        values = {}
        last = max(len(comparison.items) - 1, 1)
        for place, item in enumerate(comparison.items):
            value = utilities[item] + self.position_bias * (1 - place / last)
            if self.noise:
                value -= self.noise * math.log(-math.log(rng.random() or 0.5))
            values[item] = value
        return values


def _preference(a: int, b: int, values: Mapping[int, float]) -> Answer:
    margin = values[a] - values[b]
    p = 1.0 / (1.0 + math.exp(-max(min(margin, 500.0), -500.0)))
    if margin == 0:
        return Answer(((a, b),), score=0.5)
    return Answer(((a,), (b,)) if margin > 0 else ((b,), (a,)), score=p)


def _garbled(order: Sequence[int], shown: tuple[int, ...], rng: Random, parser: Parser) -> Answer | None:
    """Write the order with an error, then parse it."""
    ids = [str(shown.index(item) + 1) for item in order]
    match rng.randrange(4):
        case 0:
            del ids[rng.randrange(len(ids))]
        case 1:
            ids.insert(rng.randrange(len(ids) + 1), rng.choice(ids))
        case 2:
            ids.insert(rng.randrange(len(ids) + 1), str(len(ids) + 1 + rng.randrange(9)))
        case _:
            ids = []
    text = " > ".join(f"[{i}]" for i in ids) if ids else "I cannot rank these passages."
    return read_order(text, shown, parser)


class SimulatedJudge:
    """The simulation as a judge for `Reranker`.

    Args:
        utilities: qid to docno to utility; absent documents count as 0.
        simulation: how it errs.
        seed: of its errors; an answer depends on the seed, the query and the comparison, not on arrival order.
        prompt_tokens: the cost of a comparison for each passage shown, for studies of token budgets.
    """

    comparisons_per_call = 1
    reads_text = False

    def __init__(
        self,
        utilities: Mapping[str, Mapping[str, float]],
        simulation: Simulation | None = None,
        *,
        seed: int = 0,
        prompt_tokens: int = 100,
    ) -> None:
        self._utilities = utilities
        self._simulation = simulation or Simulation()
        self._seed = seed
        self._prompt_tokens = prompt_tokens

    @property
    def name(self) -> str:
        """The simulation and its seed."""
        return f"simulated({self._simulation}, seed={self._seed})"

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Answer at once, through the client, so that budget and usage count every comparison."""
        return [await self._one(query, candidates, comparison, client) for comparison in comparisons]

    async def _one(
        self, query: Query, candidates: Sequence[Hit], comparison: Comparison, client: Client
    ) -> Answer | None:
        known = self._utilities.get(query.qid, {})
        utilities = [float(known.get(hit.docno, 0.0)) for hit in candidates]
        shown = [candidates[item].docno for item in comparison.items]
        payload = {"judge": self.name, "qid": query.qid, "ask": type(comparison).__name__, "shown": shown}
        seed = sha256(repr(sorted(payload.items())).encode()).hexdigest()
        tokens = self._prompt_tokens * len(comparison.items)

        async def send() -> Completion:
            return Completion(usage=TokenUsage(tokens, 1))

        await client.call(Call(payload, tokens, 1, send, Completion.from_json))
        return self._simulation.judging(utilities, Random(seed))(comparison)  # noqa: S311
