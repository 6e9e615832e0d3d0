"""A hard budget: every call is reserved at its largest possible cost before it is sent.

A `Purse` holds limits, what is spent and what is reserved. A call reserves one call, its prompt tokens and its longest
answer, priced; when it ends, what it did not use comes back. A call that might have run (it timed out, its connection
broke, its usage is unknown) keeps its whole reservation. So spending never passes a limit, whatever fails.

Where a reservation does not fit only because of calls in flight, it waits for them. Where it does not fit for
what is already spent, the purse says so and the plan that asked is stopped.

A purse can have a parent (a query's budget inside the run's): a call must fit both.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from thresher.errors import BudgetExhaustedError, ConfigError

if TYPE_CHECKING:
    from thresher.llm.prices import Price


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None is no limit.

    Attributes:
        calls: requests sent, failed ones and retries included.
        tokens: prompt and answer tokens (reasoning included) together.
        money: in the currency of the price table.
        seconds: wall clock, from the moment ranking starts.
    """

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if value is not None and (math.isnan(value) or value < 0):
                raise ConfigError(f"budget {name}={value!r} is not a limit; give a number of at least 0, or None")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call may cost at most, or did cost.

    Attributes:
        calls: requests.
        prompt_tokens: tokens in.
        answer_tokens: tokens out, reasoning included.
        money: in the currency of the price table.
    """

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    money: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.prompt_tokens + self.answer_tokens

    def plus(self, other: Cost) -> Cost:
        """The sum."""
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.answer_tokens + other.answer_tokens,
            self.money + other.money,
        )

    def minus(self, other: Cost) -> Cost:
        """The difference; money is kept from sinking below 0 by rounding."""
        return Cost(
            self.calls - other.calls,
            self.prompt_tokens - other.prompt_tokens,
            self.answer_tokens - other.answer_tokens,
            max(self.money - other.money, 0.0),
        )

    @classmethod
    def of_call(cls, prompt_tokens: int, answer_tokens: int, price: Price | None) -> Cost:
        """One call of so many tokens."""
        money = 0.0 if price is None else price.of(prompt_tokens, answer_tokens)
        return cls(1, prompt_tokens, answer_tokens, money)


class LimitReachedError(BudgetExhaustedError):
    """A call does not fit the budget.

    Args:
        limit: `calls`, `tokens`, `money` or `seconds`.
    """

    def __init__(self, limit: str) -> None:
        super().__init__(limit)

    @property
    def limit(self) -> str:
        """Which limit was reached."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"the budget of {self.limit} is spent; allow more, or take the ranking so far"


class Purse:
    """Limits with what is spent and reserved against them. Belongs to one event loop.

    Args:
        budget: the limits.
        parent: a purse every call must fit as well.
        spent: what an earlier, interrupted run spent already.
    """

    def __init__(self, budget: Budget, parent: Purse | None = None, spent: Cost | None = None) -> None:
        self.budget = budget
        self.spent = spent or Cost()
        self._reserved = Cost()
        self._parent = parent
        self._waiting: list[asyncio.Future[None]] = [] if parent is None else parent._waiting

    async def reserve(self, cost: Cost) -> None:
        """Set aside `cost`, waiting for calls in flight where their refunds may make room.

        Raises:
            LimitReachedError: it cannot fit any more.
        """
        while (short := self._short(cost)) is not None:
            if not self._could_fit(cost):
                raise LimitReachedError(short)
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(ready)
            await ready
        for purse in self._chain():
            purse._reserved = purse._reserved.plus(cost)

    def settle(self, reserved: Cost, used: Cost) -> None:
        """A reserved call ended having cost `used`; whoever waits for room looks again."""
        for purse in self._chain():
            purse._reserved = purse._reserved.minus(reserved)
            purse.spent = purse.spent.plus(used)
        waiting = self._waiting[:]
        self._waiting.clear()
        for ready in waiting:
            if not ready.done():
                ready.set_result(None)

    def _chain(self) -> list[Purse]:
        return [self] if self._parent is None else [self, *self._parent._chain()]

    def _short(self, cost: Cost) -> str | None:
        """The name of the limit that `cost` would pass with all reservations counted, None if it fits."""
        return next((s for p in self._chain() if (s := p._passed(p.spent.plus(p._reserved).plus(cost)))), None)

    def _could_fit(self, cost: Cost) -> bool:
        """Would it fit if everything in flight came back?"""
        return all(p._passed(p.spent.plus(cost)) is None for p in self._chain())

    def _passed(self, total: Cost) -> str | None:
        limits = self.budget
        for name, value, limit in (
            ("calls", total.calls, limits.calls),
            ("tokens", total.tokens, limits.tokens),
            ("money", total.money, limits.money),
        ):
            if limit is not None and value > limit:
                return name
        return None
