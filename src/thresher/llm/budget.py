"""A hard budget: every call reserves its largest possible cost before it is sent.

A call reserves one call, its prompt tokens and its longest answer, priced; when it ends, the unused part is released. A
call that may have run (it timed out, its connection broke, its usage is unknown) keeps its whole reservation. So
spending never exceeds a limit, whatever fails.

If a reservation fits only once calls in flight have ended, it waits for them. If what is already spent leaves no room
for it, `BudgetLedger.reserve` raises and the plan is stopped. A ledger can have a parent (a query's budget within the
run's); a call must fit both.

Prices come from a table that the user writes, since they change faster than releases: a TOML file with one table per
model and prices per million tokens in any one currency. Reasoning tokens are billed as output. `cached` is the price of
prompt tokens that the server says it took from its cache; without it they cost as much as others.

    ["gpt-4.1-mini"]
    input = 0.40
    output = 1.60
    cached = 0.10
"""

from __future__ import annotations

import asyncio
import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from thresher.arguments import checked_call
from thresher.errors import BudgetExhaustedError, ConfigError

LARGEST_PRICE = 1e12


@checked_call
@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None sets no limit.

    Attributes:
        calls: requests sent, failed ones and retries included.
        tokens: prompt and answer tokens together, reasoning included.
        cost: in the currency of the price table.
        seconds: wall clock, from the moment ranking starts.
        questions: comparisons asked for in the requests sent; one request may hold hundreds.

    Raises:
        ConfigError: a limit is negative or not a number.
    """

    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None
    questions: int | None = None

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if value is not None and not _is_amount(value):
                raise ConfigError(f"budget {name} must be at least 0, or None for no limit; got {str(value)[:40]!r}")


@checked_call
@dataclass(frozen=True, slots=True)
class Price:
    """Prices per million tokens.

    Raises:
        ConfigError: a price is not a finite number of at least 0, or tokens from the cache cost more than others.
    """

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for value in (self.input, self.output, 0 if self.cached is None else self.cached):
            if not _is_amount(value) or not value < LARGEST_PRICE:
                raise ConfigError(
                    f"a price per million tokens is a number of at least 0 and below {LARGEST_PRICE:g}; got "
                    f"{str(value)[:40]!r}"
                )
        if self.cached is not None and self.cached > self.input:
            raise ConfigError(f"cached tokens cost at most {self.input:g}, as other prompt tokens; got {self.cached:g}")

    @checked_call
    def of(self, prompt_tokens: int, answer_tokens: int, cached_tokens: int = 0) -> float:
        """The cost of one call; `cached_tokens` are those of its prompt that the server had in its cache."""
        saved = 0.0 if self.cached is None else cached_tokens * (self.input - self.cached)
        return (prompt_tokens * self.input + answer_tokens * self.output - saved) / 1e6


def _is_amount(value: object) -> bool:
    """Whether a value is a number of at least 0; infinity is one, NaN is not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def load_prices(path: str | Path) -> dict[str, Price]:
    """Read a price table: model name to price.

    Raises:
        ConfigError: the file cannot be read, or a model lacks a price of at least 0.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as err:
        raise ConfigError(f"{path}: cannot read the price table: {err}") from None
    prices = {}
    for model, entry in document.items():
        values = [entry.get(key) if isinstance(entry, dict) else None for key in ("input", "output")]
        values += [entry["cached"]] if isinstance(entry, dict) and "cached" in entry else []
        if not all(_is_amount(value) and value < LARGEST_PRICE for value in values):  # type: ignore[operator]
            raise ConfigError(
                f"{path}: model {model!r} needs `input` and `output`, each a price per million tokens of at least 0 "
                f"(and may have `cached`); found {str(entry)[:200]}"
            )
        prices[model] = Price(*map(float, values))  # type: ignore[arg-type]
    return prices


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call may cost at most, or did cost.

    Attributes:
        calls: requests.
        prompt_tokens: tokens in.
        answer_tokens: tokens out, reasoning included.
        money: in the currency of the price table.
        questions: comparisons in the requests.
    """

    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    money: float = 0.0
    questions: int = 0

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
            self.questions + other.questions,
        )

    def minus(self, other: Cost) -> Cost:
        """The difference; money is clipped at 0 against rounding."""
        return Cost(
            self.calls - other.calls,
            self.prompt_tokens - other.prompt_tokens,
            self.answer_tokens - other.answer_tokens,
            max(self.money - other.money, 0.0),
            self.questions - other.questions,
        )

    @classmethod
    def of_call(
        cls, prompt_tokens: int, answer_tokens: int, price: Price | None, questions: int = 1, cached_tokens: int = 0
    ) -> Cost:
        """The cost of one call of that many tokens and questions."""
        money = 0.0 if price is None else price.of(prompt_tokens, answer_tokens, cached_tokens)
        return cls(1, prompt_tokens, answer_tokens, money, questions)


class LimitReachedError(BudgetExhaustedError):
    """A call does not fit the budget.

    Args:
        limit: `calls`, `tokens`, `cost`, `seconds` or `questions`.
    """

    def __init__(self, limit: str) -> None:
        super().__init__(limit)

    @property
    def limit(self) -> str:
        """The limit that was reached."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"the budget's limit on {self.limit} is reached; raise it, or use the ranking so far"


class BudgetLedger:
    """Limits, with what is spent and what is reserved. Belongs to one event loop.

    Args:
        budget: the limits.
        parent: a ledger every call must fit as well.
        spent: what an earlier, interrupted run spent.
    """

    def __init__(self, budget: Budget, parent: BudgetLedger | None = None, spent: Cost | None = None) -> None:
        self.budget = budget
        self.spent = spent or Cost()
        self.reserved = Cost()
        self._parent = parent
        self._waiting: list[asyncio.Future[None]] = [] if parent is None else parent._waiting

    async def reserve(self, cost: Cost) -> None:
        """Reserve `cost`, waiting for calls in flight if their release may make room.

        Raises:
            LimitReachedError: it no longer fits.
        """
        while (limit := self._exceeded(cost, reserved=True)) is not None:
            if self._exceeded(cost, reserved=False) is not None:
                raise LimitReachedError(limit)
            released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(released)
            await released
        for ledger in self._chain():
            ledger.reserved = ledger.reserved.plus(cost)

    def settle(self, reserved: Cost, used: Cost) -> None:
        """Replace a reservation by what the call cost, and let waiting reservations try again."""
        for ledger in self._chain():
            ledger.reserved = ledger.reserved.minus(reserved)
            ledger.spent = ledger.spent.plus(used)
        waiting = self._waiting[:]
        self._waiting.clear()
        for released in waiting:
            if not released.done():
                released.set_result(None)

    def questions_left(self) -> int | None:
        """How many questions fit besides all that is spent and reserved; None without a limit."""
        left = [
            int(ledger.budget.questions) - ledger.spent.questions - ledger.reserved.questions
            for ledger in self._chain()
            if ledger.budget.questions is not None and ledger.budget.questions < math.inf
        ]
        return max(min(left), 0) if left else None

    def _chain(self) -> list[BudgetLedger]:
        return [self] if self._parent is None else [self, *self._parent._chain()]

    def _exceeded(self, cost: Cost, *, reserved: bool) -> str | None:
        """The limit that `cost` would exceed, with or without all reservations counted; None if it fits."""
        for ledger in self._chain():
            total = ledger.spent.plus(cost).plus(ledger.reserved) if reserved else ledger.spent.plus(cost)
            limits = ledger.budget
            for name, value, limit in (
                ("calls", total.calls, limits.calls),
                ("tokens", total.tokens, limits.tokens),
                ("cost", total.money, limits.cost),
                ("questions", total.questions, limits.questions),
            ):
                if limit is not None and value > limit:
                    return name
        return None
