"""The one way out to a model: journal, cache, budget, connections, retries and the account, for every call.

A judge hands over what identifies the call (as plain JSON), the most it can cost, and a function that sends it once.
The gate looks into the journal and the cache, waits for a free connection, reserves the largest cost, sends, and
settles. Two equal calls in flight share one answer. A transient failure is retried with exponential backoff, or after
the time the server named; that time holds back every other call too, so that a storm of refusals does not feed
itself. Every attempt is a call of its own against the budget.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thresher.errors import ModelError
from thresher.llm.retry import RetryPolicy, TransientModelError
from thresher.rerank.budget import Budget, Cost, Purse
from thresher.rerank.record import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from thresher.llm.cache import ResponseCache
    from thresher.llm.prices import Price
    from thresher.rerank.journal import Journal


def call_key(payload: Mapping[str, Any]) -> str:
    """The identity of a call: sha256 over its canonical JSON."""
    text = json.dumps(payload, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class Channel:
    """What the calls of a whole run share. Belongs to one event loop.

    Attributes:
        purse: the run's budget.
        slots: free connections.
        retry: how transient failures are retried.
        cache: responses of earlier runs, None for none.
        journal: memory of this run, None for none.
        price: of a token, None where nothing is priced.
        in_flight: calls being made, by key.
        underestimate: tokens by which a prompt was larger than its bound, as the server counts: added to every later
            reservation.
        resume_at: loop time before which nothing is sent (a server asked for patience).
    """

    purse: Purse
    slots: asyncio.Semaphore
    retry: RetryPolicy
    cache: ResponseCache | None = None
    journal: Journal | None = None
    price: Price | None = None
    in_flight: dict[str, asyncio.Future[Mapping[str, Any]]] = field(default_factory=dict)
    underestimate: int = 0
    resume_at: float = 0.0


class Gate:
    """A query's way through the channel, with the query's own budget and account."""

    def __init__(self, channel: Channel, budget: Budget | None = None) -> None:
        self.tally = Tally()
        self._channel = channel
        self._purse = Purse(budget or Budget(), parent=channel.purse)

    async def call(
        self,
        payload: Mapping[str, Any],
        prompt_tokens: int,
        answer_tokens: int,
        send: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> Mapping[str, Any]:
        """Make one call, or take its answer from where it is known.

        Args:
            payload: everything the answer depends on (model, parameters, prompt, repeat number), as plain JSON.
            prompt_tokens: an upper bound.
            answer_tokens: an upper bound, reasoning included.
            send: sends once; returns plain JSON. Its `usage` may hold `prompt_tokens`, `answer_tokens` and
                `reasoning_tokens`; what is absent counts at the bound.

        Raises:
            BudgetExhaustedError: the call, or a retry of it, does not fit.
            ModelError: it failed for good.
        """
        key = call_key(payload)
        while True:
            if (known := self._known(key)) is not None:
                return known
            if (shared := self._channel.in_flight.get(key)) is None:
                break
            await asyncio.wait([shared])
            if not shared.cancelled():
                self.tally.cache_hits += 1
                return shared.result()
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._channel.in_flight[key] = future
        try:
            reply = await self._attempts(key, prompt_tokens, answer_tokens, send)
        except ModelError as err:
            future.set_exception(err)
            future.exception()  # perhaps nobody waits: mark it as seen
            raise
        except BaseException:
            future.cancel()  # our budget or our end, not theirs: whoever waits makes the call himself
            raise
        else:
            future.set_result(reply)
            return reply
        finally:
            del self._channel.in_flight[key]

    def _known(self, key: str) -> Mapping[str, Any] | None:
        journal, cache = self._channel.journal, self._channel.cache
        if journal is not None and key in journal.replies:
            self.tally.resumed += 1
            return journal.replies[key]
        if cache is not None and (reply := cache.get(key)) is not None:
            self.tally.cache_hits += 1
            return reply
        return None

    async def _attempts(
        self,
        key: str,
        prompt_tokens: int,
        answer_tokens: int,
        send: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> Mapping[str, Any]:
        channel = self._channel
        attempt = 0
        while True:
            async with channel.slots:
                await self._patience()
                bound = Cost.of_call(prompt_tokens + channel.underestimate, answer_tokens, channel.price)
                await self._purse.reserve(bound)
                try:
                    return await self._once(key, bound, send)
                except TransientModelError as err:
                    self.tally.failed_calls += 1
                    attempt += 1
                    if attempt >= channel.retry.attempts:
                        raise ModelError(f"{err} (gave up after {attempt} attempts)") from None
                    delay = channel.retry.delay(attempt, err.retry_after)
                    if err.retry_after is not None:
                        resume = asyncio.get_running_loop().time() + delay
                        channel.resume_at = max(channel.resume_at, resume)
                except ModelError:
                    self.tally.failed_calls += 1
                    raise
            await asyncio.sleep(delay)
            self.tally.retries += 1

    async def _once(self, key: str, bound: Cost, send: Callable[[], Awaitable[Mapping[str, Any]]]) -> Mapping[str, Any]:
        """One attempt, reserved already: send, settle, remember."""
        journal = self._channel.journal
        if journal is not None:
            journal.sent(key, bound)
        used = bound  # whatever happens now, the call may have run
        reply: Mapping[str, Any] | None = None
        try:
            reply = await send()
            used = self._used(bound, reply)
        except TransientModelError as err:
            used = bound if err.may_have_run else Cost(calls=1)
            raise
        finally:
            self._purse.settle(bound, used)
            self.tally.cost = self.tally.cost.plus(used)
            if used is bound:
                self.tally.unconfirmed_calls += 1
            if journal is not None and reply is None:
                journal.failed(key, used)
        if journal is not None:
            journal.answered(key, used, reply)
        if self._channel.cache is not None:
            self._channel.cache.put(key, reply)
        return reply

    def _used(self, bound: Cost, reply: Mapping[str, Any]) -> Cost:
        usage = reply.get("usage") or {}
        prompt, answer = usage.get("prompt_tokens"), usage.get("answer_tokens")
        self.tally.reasoning_tokens += usage.get("reasoning_tokens") or 0
        if prompt is None or answer is None:
            return bound
        channel = self._channel
        channel.underestimate = max(channel.underestimate, channel.underestimate + prompt - bound.prompt_tokens)
        return Cost.of_call(prompt, answer, channel.price)

    async def _patience(self) -> None:
        """Wait until the server wants to hear from us again."""
        loop = asyncio.get_running_loop()
        while (wait := self._channel.resume_at - loop.time()) > 0:
            await asyncio.sleep(wait)
