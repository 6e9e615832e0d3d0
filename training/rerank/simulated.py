"""A judge that knows the utility of every passage, with optional errors: for tests and for studies of plans.

*Perfect*: orders by utility, equal utilities in the order shown. Errors, which add up:

- *Noise*: Plackett-Luce, which is independent Gumbel noise of a given scale added to every utility in every answer.
- *Correlated noise*: a share of the variance of that noise is fixed for each query and passage. It does not go away by
  asking again, which is what a real model's misjudgment of a passage is like.
- *Position bias*: a bonus that falls linearly from the first passage shown to the last; or one bonus for each place,
  interpolated for other numbers of passages.
- *Option-order bias*: of a choice over many options, the first few get a bonus, and the last few half of it.
- *Repetition*: a share of the noise is the same whenever exactly the same passages are shown in the same order, as with
  a model at temperature 0.
- *Malformed*: at a given rate, an answer is broken as models break it, and is then read by the same parser and repair
  rule as a model's. A broken choice, preference or rating names nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from random import Random
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import InputError
from thresher.llm.client import Call
from thresher.llm.model import Completion, TokenUsage
from thresher.rerank.parsing import Parser, get_parser, read_choice, read_order
from thresher.rerank.plans.plan import Answer, Best, Order, Prefer, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thresher.llm.client import Client
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

MALFORMED = ("missing", "duplicate", "duplicate+missing", "unknown", "cut", "none")
"""How an order can be malformed. *cut*: it ends early; *none*: it names no passage."""
GUMBEL_SD = math.pi / math.sqrt(6.0)  # of scale 1
DRAWN = 512  # numbers drawn at once


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


def lasting_error(seed: int, qid: str, docno: str) -> float:
    """A standard normal number that is the same whenever this passage is judged for this query."""
    digest = blake2b(f"{seed}\0{qid}\0{docno}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return NormalDist().inv_cdf((int.from_bytes(digest, "big") + 0.5) / 2.0**64)


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a simulated judge errs.

    Attributes:
        noise: scale of the Gumbel noise on every utility, 0 for none.
        correlated: share of the variance of the noise that is fixed for each query and passage, 0 to 1.
        position_bias: bonus of the first passage shown over the last, in units of utility.
        option_bias: bonus of the first of several options; it falls by a factor e over a tenth of the options. The
            last ones get half of it.
        places: a bonus for each place, in units of utility; interpolated where another number of passages is shown.
        repeated: share of the independent noise that is the same when the same prompt is asked again, 0 to 1.
        malformed: share of answers that are broken, 0 to 1.
        kinds: how often an order is broken in each way of MALFORMED; all alike if empty.
        whole_choice: whether a `Best` is answered with an order of all options, as from a distribution over them.
        parsing: the parser that reads broken answers.
    """

    noise: float = 0.0
    correlated: float = 0.0
    position_bias: float = 0.0
    option_bias: float = 0.0
    places: tuple[float, ...] = ()
    repeated: float = 0.0
    malformed: float = 0.0
    kinds: tuple[tuple[str, float], ...] = ()
    whole_choice: bool = False
    parsing: str = "brackets-v1"

    def __post_init__(self) -> None:
        shares = (self.malformed, self.correlated, self.repeated)
        biases = (self.position_bias, self.option_bias, *self.places)
        if not (self.noise >= 0 and all(0 <= share <= 1 for share in shares) and all(map(math.isfinite, biases))):
            raise InputError(
                f"noise must be at least 0, malformed, correlated and repeated 0 to 1 and biases finite; got {self}"
            )
        if unknown := {kind for kind, _ in self.kinds} - set(MALFORMED):
            raise InputError(f"kinds of malformed answers are {', '.join(MALFORMED)}; got {', '.join(unknown)}")

    def lasting(self, utilities: Sequence[float], qid: str, docnos: Sequence[str], seed: int) -> list[float]:
        """The utilities with the errors that are fixed for this query and these passages, aligned with both."""
        if not self.correlated:
            return list(utilities)
        sd = self.noise * GUMBEL_SD * math.sqrt(self.correlated)
        return [value + sd * lasting_error(seed, qid, docno) for value, docno in zip(utilities, docnos, strict=True)]

    def judging(self, utilities: Sequence[float], rng: Random) -> Callable[[Comparison], Answer | None]:
        """A function that answers comparisons of candidates with these utilities, drawing from `rng` in order.

        Args:
            utilities: of the candidates, with lasting errors (`lasting`) where there are any.
            rng: of everything else.
        """
        parser = get_parser(self.parsing)
        draws = _Draws(rng.getrandbits(64), self.noise * math.sqrt(1.0 - self.correlated))
        answered: dict[Comparison, list[float]] = {}

        def perceived(comparison: Comparison) -> list[float]:
            items = comparison.items
            bonus = _bonuses(self, len(items))
            if not draws.scale:
                return [utilities[item] + more for item, more in zip(items, bonus, strict=True)]
            noise = draws.noise(len(items))
            if self.repeated:
                before = answered.setdefault(comparison, noise)
                noise = [a if rng.random() < self.repeated else b for a, b in zip(before, noise, strict=True)]
            return [utilities[item] + more + error for item, more, error in zip(items, bonus, noise, strict=True)]

        def answer(comparison: Comparison) -> Answer | None:
            values = perceived(comparison)
            broken = bool(self.malformed) and rng.random() < self.malformed
            match comparison:
                case Order(items=items):
                    ranks = sorted(range(len(items)), key=values.__getitem__, reverse=True)  # stable: ties as shown
                    if broken:
                        return _garbled(self, ranks, items, rng, parser)
                    return Answer(tuple((items[place],) for place in ranks), None, len(items))
                case _ if broken:
                    _ = read_choice("I cannot say.", ["A", "B"])
                    return None
                case Rate(items=(item,)):
                    return Answer(((item,),), values[0], 1)
                case Prefer(items=(a, b)):
                    return _preference(a, b, values[0] - values[1])
                case Best(items=items):
                    return _choice(items, values, whole=self.whole_choice)

        return answer


class _Draws:
    """Gumbel noise, drawn many at a time."""

    def __init__(self, seed: int, scale: float) -> None:
        self.scale = scale
        self._source = np.random.default_rng(seed) if scale else None
        self._drawn: list[float] = []

    def noise(self, count: int) -> list[float]:
        """The next `count` numbers."""
        if len(self._drawn) < count and self._source is not None:
            self._drawn = self._source.gumbel(0.0, self.scale, max(DRAWN, count)).tolist()
        taken, self._drawn = self._drawn[:count], self._drawn[count:]
        return taken


@lru_cache(maxsize=4096)
def _bonuses(simulation: Simulation, count: int) -> tuple[float, ...]:
    """What each of `count` places adds to the utility of the passage shown there."""
    where = np.linspace(0.0, 1.0, count) if count > 1 else np.full(count, 0.5)
    bonus = simulation.position_bias * (1.0 - where)
    if simulation.option_bias and count > 1:
        bonus += simulation.option_bias * (np.exp(-where / 0.1) + 0.5 * np.exp((where - 1.0) / 0.1))
    if simulation.places:
        bonus += np.interp(where, np.linspace(0.0, 1.0, len(simulation.places)), simulation.places)
    return tuple(bonus.tolist())


def _choice(items: tuple[int, ...], values: Sequence[float], *, whole: bool) -> Answer:
    if whole:
        ranks = sorted(range(len(items)), key=values.__getitem__, reverse=True)
        return Answer(tuple((items[place],) for place in ranks), None, len(items))
    top = max(values)
    best = tuple(item for item, value in zip(items, values, strict=True) if value == top)
    rest = tuple(item for item, value in zip(items, values, strict=True) if value != top)
    return Answer((best, rest) if rest else (best,))


def _preference(a: int, b: int, margin: float) -> Answer:
    if margin == 0:
        return Answer(((a, b),), 0.5, 2)
    p = 1.0 / (1.0 + math.exp(-max(min(margin, 500.0), -500.0)))
    return Answer(((a,), (b,)) if margin > 0 else ((b,), (a,)), p, 2)


def _garbled(
    simulation: Simulation, ranks: Sequence[int], shown: tuple[int, ...], rng: Random, parser: Parser
) -> Answer | None:
    """Write the order with an error, then parse it."""
    ids = [str(place + 1) for place in ranks]
    kinds = [kind for kind, _ in simulation.kinds] or MALFORMED
    (kind,) = rng.choices(kinds, [weight for _, weight in simulation.kinds] or None)
    match kind:
        case "missing":
            del ids[rng.randrange(len(ids))]
        case "duplicate":
            ids.insert(rng.randrange(len(ids) + 1), rng.choice(ids))
        case "duplicate+missing":
            ids[rng.randrange(len(ids))] = rng.choice(ids)
        case "unknown":
            ids.insert(rng.randrange(len(ids) + 1), str(len(ids) + 1 + rng.randrange(9)))
        case "cut":
            ids = ids[: rng.randrange(1, len(ids)) if len(ids) > 1 else 0]
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
        docnos = [hit.docno for hit in candidates]
        utilities = self._simulation.lasting(
            [float(known.get(docno, 0.0)) for docno in docnos], query.qid, docnos, self._seed
        )
        shown = [docnos[item] for item in comparison.items]
        payload = {"judge": self.name, "qid": query.qid, "ask": type(comparison).__name__, "shown": shown}
        seed = sha256(repr(sorted(payload.items())).encode()).hexdigest()
        tokens = self._prompt_tokens * len(comparison.items)

        async def send() -> Completion:
            return Completion(usage=TokenUsage(tokens, 1))

        await client.call(Call(payload, tokens, 1, send, Completion.from_json))
        return self._simulation.judging(utilities, Random(seed))(comparison)  # noqa: S311
