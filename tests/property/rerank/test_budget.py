"""No limit is ever passed, whatever fails, however much runs at once."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.budget import Budget, BudgetLedger, Cost, LimitReachedError, Price
from thresher.llm.client import Call, RetryPolicy
from thresher.llm.model import Completion, TokenUsage, TransientModelError
from thresher.records import Hit
from thresher.rerank.plans.plan import Answer
from thresher.rerank.reranker import Reranker

PRICE = Price(input=2.0, output=8.0)
NO_WAIT = RetryPolicy(attempts=3, first=0.0, longest=0.0)


class Unreliable:
    """A judge whose calls cost what they please within their bound, and fail in every way; it keeps the true bill."""

    comparisons_per_call = 1
    name = "unreliable"

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.bill = Cost()
        self.highest = 0

    async def answer(self, query, candidates, comparisons, client):
        return [await self.one(query, comparison, client) for comparison in comparisons]

    async def one(self, query, comparison, client):
        prompt, answer = self.rng.randrange(1, 500), self.rng.randrange(1, 100)

        async def send():
            used = Cost.of_call(self.rng.randint(0, prompt), self.rng.randint(0, answer), PRICE)
            roll = self.rng.random()
            if roll < 0.1:  # refused: a call, but no tokens
                self.bill = self.bill.plus(Cost(calls=1))
                raise TransientModelError("refused", 0.0, may_have_run=False)
            self.bill = self.bill.plus(used)
            await asyncio.sleep(0)
            if roll < 0.2:
                raise TransientModelError("broken connection")
            if roll < 0.25:
                raise ModelError("no such model")
            if roll < 0.3:
                return Completion()  # no usage
            return Completion(usage=TokenUsage(used.prompt_tokens, used.answer_tokens))

        payload = {"ask": repr(comparison), "qid": query.qid, "repeat": self.rng.random()}
        await client.call(Call(payload, prompt, answer, send, Completion.from_json))
        items = self.rng.sample(comparison.items, len(comparison.items))
        return Answer(tuple((item,) for item in items), score=self.rng.random())


@given(
    seed=st.integers(0, 2**20),
    calls=st.none() | st.integers(0, 60),
    tokens=st.none() | st.integers(0, 20_000),
    money=st.none() | st.floats(0, 0.05),
    each=st.none() | st.integers(0, 15),
    plan=st.sampled_from(["pointwise", "jointrank:block=5", "sliding:window=5,stride=2", "setwise-heap"]),
    concurrency=st.integers(1, 12),
)
def test_no_limit_is_passed_under_failures_and_concurrency(seed, calls, tokens, money, each, plan, concurrency):
    judge = Unreliable(seed)
    reranker = Reranker(
        judge, plan, k=3, budget=Budget(calls, tokens, money), budget_per_query=Budget(each), price=PRICE,
        concurrency=concurrency, retry=NO_WAIT, on_failure="keep",
    )  # fmt: skip
    hits = [Hit(f"d{i}", float(-i), i + 1) for i in range(20)]
    results = asyncio.run(reranker.arank_batch([(f"q{i}", hits) for i in range(4)]))
    usages = [result.usage for result in results]
    assert sum(usage.calls for usage in usages) == judge.bill.calls
    assert calls is None or judge.bill.calls <= calls
    assert tokens is None or judge.bill.tokens <= sum(r.prompt_tokens + r.answer_tokens for r in usages) <= tokens
    assert money is None or judge.bill.money <= sum(r.cost for r in usages) + 1e-12 <= money + 2e-12
    assert each is None or all(usage.calls <= each for usage in usages)
    for result in results:
        assert sorted(result.docnos) == sorted(hit.docno for hit in hits)
        assert result.complete == (result.usage.failed == result.usage.skipped == result.usage.unreadable == 0)
        if result.stopped:
            assert not result.complete


@given(seed=st.integers(0, 2**20), limit=st.integers(0, 3000))
def test_a_ledger_never_reserves_beyond_its_limit_and_never_starves(seed, limit):
    """Reservations wait for refunds, are refused only when they can no longer fit, and all end."""
    rng = random.Random(seed)

    async def run():
        ledger = BudgetLedger(Budget(tokens=limit))
        refused = taken = 0

        async def one():
            nonlocal refused, taken
            cost = Cost(1, rng.randrange(300), rng.randrange(100))
            try:
                await ledger.reserve(cost)
            except LimitReachedError:
                refused += 1
                assert ledger.spent.tokens + cost.tokens > limit
                return
            assert ledger.spent.tokens + ledger.reserved.tokens <= limit
            await asyncio.sleep(0)
            used = Cost(1, rng.randint(0, cost.prompt_tokens), rng.randint(0, cost.answer_tokens))
            ledger.settle(cost, used)
            taken += 1

        await asyncio.wait_for(asyncio.gather(*(one() for _ in range(40))), 10)
        assert refused + taken == 40
        assert ledger.spent.tokens <= limit
        assert ledger.reserved == Cost()

    asyncio.run(run())


@pytest.mark.parametrize(("value", "error"), [(-1, ConfigError), (float("nan"), InputError)])
def test_a_limit_below_zero_is_refused(value, error):
    with pytest.raises(error):
        Budget(seconds=value)
