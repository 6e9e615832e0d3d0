"""`Reranker`: a plan, a judge and a budget, put to work on the hits of one query or of many.

    reranker = Reranker(judge, plan="jointrank", budget=Budget(calls=20))
    result = reranker.rank("why is the sky blue", hits)
    result.hits, result.complete, result.record.calls

`rank` and `rank_batch` may be called from anywhere, a running event loop included: they work on a loop of their own in
a background thread. `arank` and `arank_batch` work on the caller's loop. Queries of a batch share the
connections and the budget, and run side by side.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from thresher.errors import ConfigError, InputError, ModelError
from thresher.llm.background import run_in_background
from thresher.llm.retry import RetryPolicy
from thresher.records import Hit, Query
from thresher.rerank.budget import Budget, Purse
from thresher.rerank.driver import OnFailure, Outcome, run_query
from thresher.rerank.journal import Journal
from thresher.rerank.judge import Question
from thresher.rerank.limiter import Channel, Gate
from thresher.rerank.plans.named import parse_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.llm.cache import ResponseCache
    from thresher.llm.prices import Price
    from thresher.rerank.judge import Judge
    from thresher.rerank.plans.plan import Plan
    from thresher.rerank.record import Record


@dataclass(frozen=True, slots=True)
class Reranked:
    """The reranked hits of one query, with the account of how they came about.

    Attributes:
        qid: the query's identifier.
        hits: best first; scores strictly decrease in float32, ranks count from 1. Empty if `error` is set under
            `on_failure="skip"`.
        complete: every comparison the plan wanted was answered. False after a budget ended, calls failed, or answers
            could not be read: then this is the best ranking so far.
        stopped: the limit that was reached: `calls`, `tokens`, `money` or `seconds`; empty if none.
        tied: ranks (1-based) whose hit could not be told apart from the one above it.
        errors: standard errors of the scores, where the plan estimates them, for the reranked depth.
        error: why nothing could be judged, None where something was.
        record: what it cost.
    """

    qid: str
    hits: tuple[Hit, ...]
    complete: bool
    stopped: str
    tied: frozenset[int]
    errors: tuple[float, ...] | None
    error: str | None
    record: Record


class Reranker:
    """Rerank hits with a plan and a judge.

    Args:
        judge: who answers.
        plan: a plan, or its name with settings, as `sliding:window=20,stride=10`.
        k: how many first ranks matter to plans that stop there.
        depth: how many hits are reranked, None for all; the others follow in their order.
        budget: limits of one call of `rank` or `rank_batch`, over all its queries.
        budget_per_query: limits of each query.
        concurrency: connections, over all queries.
        price: of a token; needed for a budget in money.
        cache: remembers answers between runs; None turns it off.
        journal: path of a file that lets a killed run be resumed without asking anything twice.
        retry: how transient failures are retried.
        on_failure: `raise`, `skip` or `keep`, see `thresher.rerank.driver`.
        seed: of plans that shuffle.
        progress: show a bar over queries; None shows it on a terminal.
    """

    def __init__(
        self,
        judge: Judge,
        plan: Plan | str = "sliding",
        *,
        k: int = 10,
        depth: int | None = 100,
        budget: Budget | None = None,
        budget_per_query: Budget | None = None,
        concurrency: int = 16,
        price: Price | None = None,
        cache: ResponseCache | None = None,
        journal: str | Path | None = None,
        retry: RetryPolicy | None = None,
        on_failure: OnFailure = "raise",
        seed: int = 0,
        progress: bool | None = False,
    ) -> None:
        self.judge = judge
        self.plan = parse_plan(plan) if isinstance(plan, str) else plan
        self.k, self.depth, self.seed = k, depth, seed
        self.budget, self.budget_per_query = budget or Budget(), budget_per_query or Budget()
        self.concurrency, self.price, self.cache, self.journal = concurrency, price, cache, journal
        self.retry, self.on_failure, self.progress = retry or RetryPolicy(), on_failure, progress
        if k < 1 or concurrency < 1 or (depth is not None and depth < 1):
            raise ConfigError(f"k={k}, concurrency={concurrency}, depth={depth}: each must be at least 1")
        if on_failure not in ("raise", "skip", "keep"):
            raise ConfigError(f"on_failure={on_failure!r} is none of 'raise', 'skip', 'keep'")
        if price is None and (self.budget.money, self.budget_per_query.money) != (None, None):
            raise ConfigError("a budget in money needs a price; give one, or limit calls or tokens")

    def rank(self, query: str | Query, hits: Sequence[Hit]) -> Reranked:
        """Rerank the hits of one query.

        Raises:
            ModelError: nothing could be judged, or a call failed and `on_failure` is `raise`.
            InputError: two hits have the same docno.
        """
        return run_in_background(self.arank(query, hits))

    async def arank(self, query: str | Query, hits: Sequence[Hit]) -> Reranked:
        """As `rank`, on the caller's event loop."""
        (result,) = await self.arank_batch([(query, hits)])
        if result.error is not None and not result.hits and hits:
            raise ModelError(result.error)
        return result

    def rank_batch(self, queries: Sequence[tuple[str | Query, Sequence[Hit]]]) -> list[Reranked]:
        """Rerank the hits of many queries side by side; results come in the order of the queries."""
        return run_in_background(self.arank_batch(queries))

    async def arank_batch(self, queries: Sequence[tuple[str | Query, Sequence[Hit]]]) -> list[Reranked]:
        """As `rank_batch`, on the caller's event loop."""
        asked = [_query(query, hits, number) for number, (query, hits) in enumerate(queries)]
        journal = Journal(self.journal) if self.journal is not None else None
        try:
            channel = Channel(
                purse=Purse(self.budget, spent=journal.spent if journal else None),
                slots=asyncio.Semaphore(self.concurrency),
                retry=self.retry,
                cache=self.cache,
                journal=journal,
                price=self.price,
            )
            return await self._side_by_side(asked, channel)
        finally:
            if journal is not None:
                journal.close()

    async def _side_by_side(self, asked: Sequence[Question], channel: Channel) -> list[Reranked]:
        loop = asyncio.get_running_loop()
        deadline = None if self.budget.seconds is None else loop.time() + self.budget.seconds
        admitted = asyncio.Semaphore(max(4 * self.concurrency, 64))
        hidden = None if self.progress is None else not self.progress
        with tqdm(total=len(asked), desc="rerank", unit="query", disable=hidden) as bar:

            async def one(query: Question) -> Reranked:
                async with admitted:
                    result = await self._one(query, channel, deadline)
                bar.update()
                return result

            tasks = [asyncio.create_task(one(query)) for query in asked]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, query: Question, channel: Channel, deadline: float | None) -> Reranked:
        loop = asyncio.get_running_loop()
        started = loop.time()
        if self.budget_per_query.seconds is not None:
            own = started + self.budget_per_query.seconds
            deadline = own if deadline is None else min(deadline, own)
        gate = Gate(channel, self.budget_per_query)
        cut = len(query.hits) if self.depth is None else self.depth
        head = dataclasses.replace(query, hits=query.hits[:cut])
        outcome = await run_query(
            self.plan,
            self.judge,
            head,
            gate,
            k=self.k,
            seed=self.seed,
            workers=self.concurrency,
            deadline=deadline,
            on_failure=self.on_failure,
        )
        record = gate.tally.record(self.plan.name, self.judge.name, loop.time() - started, self.price is not None)
        return _result(query, outcome, record)


def _query(query: str | Query, hits: Sequence[Hit], number: int) -> Question:
    qid, text = (query.qid, query.text) if isinstance(query, Query) else (str(number), query)
    seen: set[str] = set()
    for hit in hits:
        if hit.docno in seen:
            raise InputError(f"docno {hit.docno!r} is twice among the hits of question {qid!r}; remove one")
        seen.add(hit.docno)
    return Question(qid, text, tuple(hits))


def _result(query: Question, outcome: Outcome, record: Record) -> Reranked:
    ranking = outcome.ranking
    complete = not (outcome.stopped or outcome.error or record.failed or record.unreadable or record.unasked)
    error = None if outcome.error is None else str(outcome.error)
    if ranking is None:
        return Reranked(query.qid, (), False, outcome.stopped, frozenset(), None, error, record)
    order = ranking.order
    hits = [*(query.hits[item] for item in order), *query.hits[len(order) :]]
    scores = _scores(ranking.scores, len(order), len(hits))
    tied: set[int] = set()
    rank = 0
    for tier in ranking.tiers:
        tied.update(range(rank + 2, rank + len(tier) + 1))
        rank += len(tier)
    return Reranked(
        query.qid,
        tuple(
            dataclasses.replace(hit, score=score, rank=place)
            for place, (hit, score) in enumerate(zip(hits, scores, strict=True), 1)
        ),
        complete,
        outcome.stopped,
        frozenset(tied),
        ranking.errors,
        error,
        record,
    )


def _scores(own: tuple[float, ...] | None, judged: int, total: int) -> list[float]:
    """The plan's scores, made to decrease strictly in float32; without scores, the number of hits from here down."""
    if own is None:
        return [float(total - place) for place in range(total)]
    scores: list[float] = []
    last = np.float32(np.inf)
    for place in range(total):
        wanted = np.float32(own[place]) if place < judged else last
        last = min(wanted, np.nextafter(last, np.float32(-np.inf)))
        scores.append(float(last))
    return scores
