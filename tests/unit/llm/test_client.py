"""One call, sent safely: retries, counts, shared answers and reservations."""

import asyncio

import pytest

from thresher.errors import ModelError
from thresher.llm.budget import Budget, BudgetLedger, LimitReachedError
from thresher.llm.client import Call, Client, ConnectionPool, RetryPolicy
from thresher.llm.model import Completion, TokenUsage, TransientModelError

NO_WAIT = RetryPolicy(attempts=3, first=0.0, longest=0.0)


def pool(budget=None, retry=NO_WAIT, **more):
    return ConnectionPool(BudgetLedger(budget or Budget()), asyncio.Semaphore(4), retry, **more)


def call_of(replies, payload="p", prompt_tokens=10, answer_tokens=5):
    """A call whose attempts have these outcomes: exceptions are raised, completions are returned."""
    outcomes = iter(replies)

    async def send():
        await asyncio.sleep(0)
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Call({"payload": payload}, prompt_tokens, answer_tokens, send, Completion.from_json)


def run(replies, **more):
    async def go():
        client = Client(pool(**more))
        try:
            return await client.call(call_of(replies)), client.counts
        except ModelError as err:
            return err, client.counts

    return asyncio.run(go())


REFUSED, BROKEN = TransientModelError("refused", may_have_run=False), TransientModelError("broken")
SAID = Completion("yes", usage=TokenUsage(7, 2, 1))


def test_an_answer_counts_at_its_own_usage():
    reply, counts = run([SAID])
    assert reply is SAID
    cost = counts.cost
    assert (cost.calls, cost.prompt_tokens, cost.answer_tokens) == (1, 7, 2)
    assert (counts.retries, counts.failed_calls, counts.unconfirmed_calls, counts.reasoning_tokens) == (0, 0, 0, 1)


def test_a_call_without_usage_counts_at_its_bound():
    for usage in (TokenUsage(), TokenUsage(7, None), TokenUsage(None, 2)):
        _, counts = run([Completion("yes", usage=usage)])
        assert (counts.cost.prompt_tokens, counts.cost.answer_tokens, counts.unconfirmed_calls) == (10, 5, 1)


def test_every_attempt_is_counted_and_a_refused_one_costs_no_tokens():
    reply, counts = run([REFUSED, BROKEN, SAID])
    assert reply is SAID
    assert (counts.retries, counts.failed_calls, counts.unconfirmed_calls) == (2, 2, 1)
    assert (counts.cost.calls, counts.cost.prompt_tokens, counts.cost.answer_tokens) == (3, 0 + 10 + 7, 0 + 5 + 2)


def test_the_last_attempt_that_fails_is_an_error_that_says_how_many_there_were():
    err, counts = run([BROKEN, BROKEN, BROKEN, SAID])
    assert isinstance(err, ModelError)
    assert "after 3 attempts" in str(err)
    assert (counts.retries, counts.failed_calls, counts.cost.calls) == (2, 3, 3)


def test_a_failure_for_good_is_not_retried():
    err, counts = run([ModelError("no such model"), SAID])
    assert "no such model" in str(err)
    assert (counts.retries, counts.failed_calls, counts.cost.calls, counts.unconfirmed_calls) == (0, 1, 1, 1)


def test_retry_after_holds_back_other_calls():
    async def go():
        shared = pool(retry=RetryPolicy(attempts=2, first=0.0, longest=0.0))
        loop = asyncio.get_running_loop()
        times = []

        async def send():
            times.append(loop.time())
            return SAID

        slow = TransientModelError("slow down", 0.2, may_have_run=False)
        first = asyncio.create_task(Client(shared).call(call_of([slow, SAID])))
        while not shared.resume_at:
            await asyncio.sleep(0)
        await Client(shared).call(Call({"payload": "other"}, 1, 1, send, Completion.from_json))
        await first
        return times[0] - shared.resume_at

    assert asyncio.run(go()) >= 0


def test_equal_calls_in_flight_share_one_answer():
    async def go():
        shared = pool()
        clients = [Client(shared) for _ in range(3)]
        replies = await asyncio.gather(*(client.call(call_of([SAID])) for client in clients))
        return replies, [client.counts for client in clients], shared.in_flight

    replies, counts, in_flight = asyncio.run(go())
    assert all(reply is SAID for reply in replies)
    assert [one.cost.calls for one in counts] == [1, 0, 0]
    assert [one.cache_hits for one in counts] == [0, 1, 1]
    assert not in_flight


def test_who_waits_for_a_call_that_was_cancelled_makes_it_himself():
    async def go():
        shared = pool()
        stuck = asyncio.Event()

        async def hang():
            await stuck.wait()

        call = call_of([SAID])
        first = asyncio.create_task(Client(shared).call(Call(call.payload, 1, 1, hang, Completion.from_json)))
        await asyncio.sleep(0)
        second = asyncio.create_task(Client(shared).call(call))
        await asyncio.sleep(0)
        first.cancel()
        return await asyncio.wait_for(second, 5)

    assert asyncio.run(go()) is SAID


def test_a_prompt_larger_than_its_bound_raises_later_reservations():
    async def go():
        shared = pool(budget=Budget(tokens=30))
        await Client(shared).call(call_of([Completion("a", usage=TokenUsage(13, 2))]))
        assert shared.underestimate == 3
        with pytest.raises(LimitReachedError):  # 15 are spent; 10 + 3 + 5 do not fit
            await Client(shared).call(call_of([SAID], "other"))
        await Client(shared).call(call_of([Completion("a", usage=TokenUsage(1, 1))], "small", 7, 5))
        assert shared.underestimate == 3

    asyncio.run(go())
