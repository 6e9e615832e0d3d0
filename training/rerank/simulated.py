"""A judge that knows the truth and, where told to, errs on purpose: for tests and for studies of plans.

*Perfect*: orders by utility, equal utilities by the order shown. *Noisy*: Plackett-Luce, that is independent Gumbel
noise of a given scale added to every utility in every answer. *Position bias*: a bonus that falls linearly from the
first passage shown to the last. *Malformed*: at a rate, an answer drops an id, repeats one, invents one or says
nothing at all, and is then read by the same parser and repair rule as a model's.

Errors are independent of each other. A real model errs the same way about the same passage, so the gain a plan
shows here from asking again is an upper bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

from thresher.errors import InputError
from thresher.rerank.asks import Answer, Ask, Best, Order, Prefer, Rate
from thresher.rerank.parsing import Parser, get_parser, read_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thresher.rerank.judge import Question
    from thresher.rerank.limiter import Gate


def perfect(utilities: Sequence[float]) -> Callable[[Ask], Answer]:
    """A judge for `thresher.rerank.plans.plan.drive` that is always right; equals tie, or keep the order shown."""

    def answer(ask: Ask) -> Answer:
        items = ask.items
        if type(ask) is Prefer:
            a, b = ask.items
            margin = utilities[a] - utilities[b]
            tiers = ((a,), (b,)) if margin > 0 else ((b,), (a,)) if margin < 0 else ((a, b),)
            return Answer(tiers, 0.5 + 0.5 * ((margin > 0) - (margin < 0)), 2)
        if type(ask) is Best:
            top = max(utilities[item] for item in items)
            best = tuple(item for item in items if utilities[item] == top)
            rest = tuple(item for item in items if utilities[item] != top)
            return Answer((best, rest) if rest else (best,))
        if type(ask) is Rate:
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
            raise InputError(f"{self}: noise is not negative, malformed is a share, position_bias is finite")

    def judging(self, utilities: Sequence[float], rng: Random) -> Callable[[Ask], Answer | None]:
        """A function that answers asks about candidates of these utilities, drawing from `rng` in ask order."""
        parser = get_parser(self.parsing)

        def answer(ask: Ask) -> Answer | None:
            values = self._perceived(ask, utilities, rng)
            match ask:
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

    def _perceived(self, ask: Ask, utilities: Sequence[float], rng: Random) -> dict[int, float]:
        values = {}
        last = max(len(ask.items) - 1, 1)
        for place, item in enumerate(ask.items):
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
    """Say the order wrongly, then read what was said."""
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
    """The simulation as a judge for the driver, knowing the utility of documents by query.

    Args:
        utilities: qid to docno to utility; absent documents count as 0.
        simulation: how it errs.
        seed: of its errors; an answer depends on the seed, the query and the ask, not on arrival order.
        prompt_tokens: what an ask costs for each passage shown, so that token budgets can be studied.
    """

    asks_per_call = 1

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
        """What it simulates."""
        return f"simulated({self._simulation}, seed={self._seed})"

    async def answer(self, query: Question, asks: Sequence[Ask], gate: Gate) -> list[Answer | None]:
        """Answer at once, through the gate, so that budget and record see every ask."""
        return [await self._one(query, ask, gate) for ask in asks]

    async def _one(self, query: Question, ask: Ask, gate: Gate) -> Answer | None:
        known = self._utilities.get(query.qid, {})
        utilities = [float(known.get(hit.docno, 0.0)) for hit in query.hits]
        shown = [query.hits[item].docno for item in ask.items]
        key = {"judge": self.name, "qid": query.qid, "ask": type(ask).__name__, "shown": shown}
        seed = sha256(repr(sorted(key.items())).encode()).hexdigest()
        judging = self._simulation.judging(utilities, Random(seed))  # noqa: S311
        said: list[Answer | None] = []

        async def send() -> dict[str, object]:
            said.append(judging(ask))
            return {"usage": {"prompt_tokens": self._prompt_tokens * len(ask.items), "answer_tokens": 1}}

        await gate.call(key, self._prompt_tokens * len(ask.items), 1, send)
        return said[0] if said else judging(ask)
