"""Send each call once, safely: journal, cache, budget, connections and retries for every request to a model.

A judge describes a call (`Call`): what identifies it, the most it can cost, and a function that sends it once. The
client looks it up in the journal and the cache, waits for a free connection, reserves the largest cost, sends, and
settles. Two equal calls in flight share one answer.

A transient failure is retried with exponential backoff, or after the time the server named (Retry-After); that time
holds back all other calls too, so that rate-limit errors do not cascade. Every attempt counts against the budget.

The retry loop is ours because every attempt has to reserve its cost, be written to the journal, return its connection
while it waits, and delay the other calls. Libraries such as tenacity and stamina repeat a function as a whole and give
no place for that between the attempts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from thresher.arguments import checked_call
from thresher.errors import ConfigError, ModelError
from thresher.llm.budget import Budget, BudgetLedger, Cost
from thresher.llm.model import AdaptedError, RefusedRequestError, TokenUsage, TransientModelError, retried_by_caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from thresher.llm.budget import Price
    from thresher.llm.cache import Journal, ResponseCache
    from thresher.llm.model import Json


class Reply(Protocol):
    """The answer to a call."""

    @property
    def usage(self) -> TokenUsage:
        """Tokens spent; where the model did not say, the call counts at its bound."""

    def as_json(self) -> Json:
        """Plain JSON, for cache and journal."""


R = TypeVar("R", bound=Reply)

LONGEST_WAIT = 1e7


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call.

    Attributes:
        payload: everything the answer depends on (model, parameters, prompt, repeat number), as plain JSON.
        prompt_tokens: an upper bound.
        answer_tokens: an upper bound, reasoning included.
        send: sends the call once.
        decode: the reply from what `as_json` returned.
        usable: whether a reply is worth keeping; another is neither cached nor resumed from, so that the next run asks
            again. None keeps every reply.
        questions: comparisons it asks for.
    """

    payload: Mapping[str, object]
    prompt_tokens: int
    answer_tokens: int
    send: Callable[[], Awaitable[R]]
    decode: Callable[[Json], R]
    usable: Callable[[R], bool] | None = None
    questions: int = 1

    @property
    def key(self) -> str:
        """The identity of the call: sha256 over its canonical JSON."""
        text = json.dumps(self.payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@checked_call
@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often transient failures are retried, and how long to wait between attempts.

    Attempt a waits a random time between half of `first * 2**(a - 1)` seconds and all of it.

    Attributes:
        attempts: attempts in all, the first included.
        first: seconds of the first backoff.
        longest: the longest backoff in seconds.
        patience: the longest Retry-After in seconds; a longer one is cut to this.

    Raises:
        ConfigError: a value is out of range.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 20.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise ConfigError(f"attempts must be a whole number of at least 1, got {self.attempts!r}")
        for name in ("first", "longest", "patience"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < LONGEST_WAIT:
                raise ConfigError(f"{name} must be seconds from 0 to below {LONGEST_WAIT:g}, got {value!r}")

    @checked_call
    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the attempt of that number, counted from 1."""
        if retry_after is not None:
            return min(max(retry_after, 0.0), self.patience)
        ceiling = min(self.first * 2.0 ** min(attempt - 1, 60), self.longest)
        return ceiling * (0.5 + 0.5 * random.random())  # noqa: S311


@dataclass(slots=True)
class CallCounts:
    """What a client did so far.

    Attributes:
        cost: calls, tokens and money spent.
        failed_calls: requests that failed.
        retries: requests sent again after a failure.
        cache_hits: answers taken from the response cache, or from an equal call in flight.
        resumed: answers taken from the journal of an interrupted run.
        reasoning_tokens: reasoning tokens, where the model reports them.
        cached_tokens: prompt tokens that the model had in its cache, where it reports them.
        unconfirmed_calls: calls counted at their reservation.
        reasks: requests repeated by a judge because the answer could not be read.
        refused: questions that a model declined to answer.
        truncated: passages a judge cut to its token limit, counted each time one is shown.
        windows: windows of the passages shown, where a judge reads only the best of each.
        windows_read: those that it read.
        unreadable_because: what was wrong with the last answer that a judge could not read, as far as it is known.
    """

    cost: Cost = field(default_factory=Cost)
    failed_calls: int = 0
    retries: int = 0
    cache_hits: int = 0
    resumed: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    unconfirmed_calls: int = 0
    reasks: int = 0
    refused: int = 0
    truncated: int = 0
    windows: int = 0
    windows_read: int = 0
    unreadable_because: str = ""


@dataclass(slots=True)
class ConnectionPool:
    """What the calls of a whole run share. Belongs to one event loop.

    Attributes:
        ledger: the run's budget.
        slots: free connections.
        retry: how transient failures are retried.
        cache: replies of earlier runs, None for no cache.
        journal: record of this run, None for no journal.
        price: of a token, None if nothing is priced.
        in_flight: calls being made, by key.
        underestimate: tokens by which a prompt exceeded its bound, as the server counts; added to every later
            reservation.
        resume_at: loop time before which nothing is sent (the latest Retry-After).
    """

    ledger: BudgetLedger
    slots: asyncio.Semaphore
    retry: RetryPolicy
    cache: ResponseCache | None = None
    journal: Journal | None = None
    price: Price | None = None
    in_flight: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)
    underestimate: int = 0
    resume_at: float = 0.0


class Client:
    """Sends the calls of one query through the pool, with the query's own budget and counts.

    Args:
        pool: shared by all queries of the run.
        budget: limits of this query.
    """

    def __init__(self, pool: ConnectionPool, budget: Budget | None = None) -> None:
        self.counts = CallCounts()
        self._pool = pool
        self._ledger = BudgetLedger(budget or Budget(), parent=pool.ledger)

    @property
    def questions_left(self) -> int | None:
        """How many questions the budget has room for besides those in flight; None without a limit."""
        return self._ledger.questions_left()

    async def call(self, call: Call[R]) -> R:
        """Make one call, or return its known answer.

        Raises:
            BudgetExhaustedError: the call, or a retry of it, does not fit.
            ModelError: it failed for good.
        """
        key = call.key
        while True:
            if (known := self._known(key, call)) is not None:
                return known
            if (shared := self._pool.in_flight.get(key)) is None:
                break
            await asyncio.wait([shared])
            if not shared.cancelled():
                self.counts.cache_hits += 1
                return cast("R", shared.result())
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pool.in_flight[key] = future
        try:
            reply = await self._attempts(key, call)
        except ModelError as err:
            future.set_exception(err)
            future.exception()  # mark it as retrieved, in case no other call waits for it
            raise
        except BaseException:
            future.cancel()  # this query's budget or deadline, so whoever waits makes the call itself
            raise
        else:
            future.set_result(reply)
            return reply
        finally:
            del self._pool.in_flight[key]

    def _known(self, key: str, call: Call[R]) -> R | None:
        """The usable reply in journal or cache."""
        journal, cache = self._pool.journal, self._pool.cache
        if journal is not None and (reply := _usable(call, journal.replies.get(key))) is not None:
            self.counts.resumed += 1
            return reply
        if cache is not None and (reply := _usable(call, cache.get(key))) is not None:
            self.counts.cache_hits += 1
            return reply
        return None

    async def _attempts(self, key: str, call: Call[R]) -> R:
        """Send until an attempt succeeds or the retry policy ends."""
        pool = self._pool
        attempt = 0
        while True:
            async with pool.slots:
                await self._wait_for_server()
                tokens = call.prompt_tokens + pool.underestimate
                bound = Cost.of_call(tokens, call.answer_tokens, pool.price, call.questions)
                await self._ledger.reserve(bound)
                try:
                    return await self._once(key, bound, call)
                except AdaptedError:
                    self.counts.failed_calls += 1
                    delay = 0.0  # what the server accepts is learnt step by step, and every step only once
                except TransientModelError as err:
                    self.counts.failed_calls += 1
                    attempt += 1
                    if attempt >= pool.retry.attempts:
                        raise ModelError(f"{err} (gave up after {attempt} attempts)") from None
                    delay = pool.retry.delay(attempt, err.retry_after)
                    if err.retry_after is not None:
                        resume = asyncio.get_running_loop().time() + delay
                        pool.resume_at = max(pool.resume_at, resume)
                except ModelError:
                    self.counts.failed_calls += 1
                    raise
            await asyncio.sleep(delay)
            self.counts.retries += 1

    async def _once(self, key: str, bound: Cost, call: Call[R]) -> R:
        """One attempt whose cost is reserved: send, settle, store."""
        journal = self._pool.journal
        if journal is not None:
            journal.sent(key, bound)
        used = bound  # kept if the call fails in a way that leaves open whether it ran
        reply: R | None = None
        token = retried_by_caller.set(True)
        try:
            reply = await call.send()
            used = self._used(bound, reply.usage)
        except TransientModelError as err:
            used = bound if err.may_have_run else Cost(calls=1)
            raise
        except RefusedRequestError:
            used = Cost(calls=1)
            raise
        finally:
            retried_by_caller.reset(token)
            self._ledger.settle(bound, used)
            self.counts.cost = self.counts.cost.plus(used)
            if used is bound:
                self.counts.unconfirmed_calls += 1
            if journal is not None and reply is None:
                journal.failed(key, used)
        keep = call.usable is None or call.usable(reply)
        if journal is not None and keep:
            journal.answered(key, used, reply.as_json())
        elif journal is not None:
            journal.failed(key, used)
        if self._pool.cache is not None and keep:
            self._pool.cache.put(key, reply.as_json())
        return reply

    def _used(self, bound: Cost, usage: TokenUsage) -> Cost:
        """The cost of a call by its own count, or its bound where it has none."""
        counts = (usage.prompt_tokens, usage.answer_tokens, usage.reasoning_tokens or 0)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            return bound
        self.counts.reasoning_tokens += usage.reasoning_tokens or 0
        if usage.prompt_tokens is None or usage.answer_tokens is None:
            return bound
        pool = self._pool
        pool.underestimate = max(pool.underestimate, pool.underestimate + usage.prompt_tokens - bound.prompt_tokens)
        cached = usage.cached_tokens or 0
        self.counts.cached_tokens += cached
        return Cost.of_call(usage.prompt_tokens, usage.answer_tokens, pool.price, bound.questions, cached)

    async def _wait_for_server(self) -> None:
        """Sleep until Retry-After has elapsed."""
        loop = asyncio.get_running_loop()
        while (wait := self._pool.resume_at - loop.time()) > 0:
            await asyncio.sleep(wait)


def _usable(call: Call[R], known: Json | None) -> R | None:
    """The reply that was kept, None if there is none, it is of no use, or another version or program wrote it."""
    if known is None:
        return None
    try:
        reply = call.decode(known)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, ModelError):
        return None
    return reply if call.usable is None or call.usable(reply) else None
