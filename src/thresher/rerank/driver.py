"""The driver runs any plan with any judge, for one query or many at once.

It makes the comparisons of a batch concurrently, and the batches of different queries side by side over the same
connections, first come first served, so that all queries progress evenly. It enforces the deadline: when the seconds
run out, calls in flight are cancelled, the plan gets the answers received so far, and is stopped. The same happens to a
plan whose next call does not fit the budget.

A comparison whose call failed is reported to the plan as no information. The caller chooses what failure does:
`raise` (the first failed call ends the run; a query whose answers could not be read does not, but the run ends with an
error after the others), `skip` (a query without a single answer gets an error instead of a ranking), or `keep` (it gets
the first-stage order, marked incomplete). The first-stage order is never returned without that mark.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal

from thresher.errors import InputError, ModelError
from thresher.llm.budget import LimitReachedError
from thresher.records import Hit, Passage
from thresher.rerank.aggregate.confidence import CORRELATED, evidence, with_confidence
from thresher.rerank.neighbours import frontier
from thresher.rerank.plans.plan import Expand, Placement, positions, stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thresher.llm.client import CallCounts, Client
    from thresher.records import Query
    from thresher.rerank.judges import Judge
    from thresher.rerank.neighbours import Neighbours
    from thresher.rerank.plans.plan import Answer, Comparison, Plan

OnFailure = Literal["raise", "skip", "keep"]


@dataclass(frozen=True, slots=True)
class RerankUsage:
    """What reranking one query did and cost, or the total of several.

    Attributes:
        plan: the plan and its settings.
        judge: the model and its settings.
        queries: number of queries.
        comparisons: comparisons the plan asked for.
        questions: comparisons in the requests sent, retries included; one request may hold hundreds.
        calls: requests sent, failed ones and retries included.
        failed_calls: requests that failed.
        retries: requests sent again after a failure.
        cache_hits: answers taken from the response cache.
        resumed: answers taken from the journal of an interrupted run.
        prompt_tokens: tokens in. Calls whose usage the model did not report count at their reservation.
        answer_tokens: tokens out, reasoning included.
        reasoning_tokens: reasoning tokens, where the model reports them.
        cached_tokens: tokens in that the model had in its cache, where it reports them.
        unconfirmed_calls: calls counted at their reservation.
        cost: by the price table; None without one.
        depth: sequential batches; of several queries the largest.
        seconds: wall clock.
        repaired: answers that were repaired, by kinds (`duplicate`, `duplicate+missing`, ...).
        unreadable: answers that named no id, or were no possible answer, and counted as no information.
        refused: those of them that a decision model declined to give.
        reasks: requests repeated because the answer could not be read.
        failed: comparisons without an answer because calls failed for good.
        skipped: comparisons the budget did not allow.
        truncated: passages cut to the token limit, counted each time one is shown.
        windows: windows of the passages shown, where only the best of each are read (`WindowedJudge`).
        windows_read: those that were read.
        added: candidates that the plan added, neighbours of those that ranked high.
        reason: why the plan was chosen, where it was (`plan="auto"`).
    """

    plan: str = ""
    judge: str = ""
    queries: int = 1
    comparisons: int = 0
    questions: int = 0
    calls: int = 0
    failed_calls: int = 0
    retries: int = 0
    cache_hits: int = 0
    resumed: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    unconfirmed_calls: int = 0
    cost: float | None = None
    depth: int = 0
    seconds: float = 0.0
    repaired: Mapping[str, int] = field(default_factory=dict)
    unreadable: int = 0
    refused: int = 0
    reasks: int = 0
    failed: int = 0
    skipped: int = 0
    truncated: int = 0
    windows: int = 0
    windows_read: int = 0
    added: int = 0
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "repaired": dict(self.repaired)}

    @classmethod
    def total(cls, usages: Iterable[RerankUsage], seconds: float) -> RerankUsage:
        """The total over queries that ran side by side, `seconds` in all."""
        usages = list(usages)
        if not usages:
            return cls(queries=0, seconds=seconds)
        added = {name: sum(getattr(usage, name) for usage in usages) for name in _ADDED}
        repaired: Counter[str] = Counter()
        for usage in usages:
            repaired.update(usage.repaired)
        costs = [usage.cost for usage in usages if usage.cost is not None]
        return cls(
            plan=usages[0].plan,
            reason=usages[0].reason,
            judge=usages[0].judge,
            cost=sum(costs) if costs else None,
            depth=max(usage.depth for usage in usages),
            seconds=seconds,
            repaired=dict(sorted(repaired.items())),
            **added,
        )


_ADDED = (
    "queries", "comparisons", "questions", "calls", "failed_calls", "retries", "cache_hits", "resumed", "prompt_tokens",
    "answer_tokens", "reasoning_tokens", "cached_tokens", "unconfirmed_calls", "unreadable", "refused", "reasks",
    "failed", "skipped", "truncated", "windows", "windows_read", "added",
)  # fmt: skip


@dataclass(slots=True)
class Counts:
    """The driver's counts for one query; see `RerankUsage`."""

    depth: int = 0
    comparisons: int = 0
    informed: int = 0
    unreadable: int = 0
    failed: int = 0
    skipped: int = 0
    added: int = 0
    repaired: Counter[str] = field(default_factory=Counter)

    def usage(self, plan: str, judge: str, calls: CallCounts, seconds: float, *, priced: bool) -> RerankUsage:
        """These counts together with the client's."""
        return RerankUsage(
            plan=plan,
            judge=judge,
            comparisons=self.comparisons,
            questions=calls.cost.questions,
            calls=calls.cost.calls,
            failed_calls=calls.failed_calls,
            retries=calls.retries,
            cache_hits=calls.cache_hits,
            resumed=calls.resumed,
            prompt_tokens=calls.cost.prompt_tokens,
            answer_tokens=calls.cost.answer_tokens,
            reasoning_tokens=calls.reasoning_tokens,
            cached_tokens=calls.cached_tokens,
            unconfirmed_calls=calls.unconfirmed_calls,
            cost=calls.cost.money if priced else None,
            depth=self.depth,
            seconds=seconds,
            repaired=dict(sorted(self.repaired.items())),
            unreadable=self.unreadable,
            refused=calls.refused,
            reasks=calls.reasks,
            failed=self.failed,
            skipped=self.skipped,
            truncated=calls.truncated,
            windows=calls.windows,
            windows_read=calls.windows_read,
            added=self.added,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of driving a plan for one query.

    Attributes:
        placement: of the candidates' positions; None if no comparison was answered and the failure is to be reported.
        counts: what was done.
        stopped: the limit that stopped the plan early (`calls`, `questions`, `tokens`, `cost`, `seconds`), or empty.
        error: why there is no placement.
        added: candidates that the plan added; the placement has them after those given.
    """

    placement: Placement | None
    counts: Counts
    stopped: str = ""
    error: ModelError | None = None
    added: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class Driver:
    """Drives one plan with one judge.

    Attributes:
        plan: how comparisons are spent.
        judge: answers them.
        k: how many first ranks matter.
        seed: of the plan's randomness, together with the qid.
        workers: groups of comparisons of one query that are answered concurrently, at most.
        on_failure: see the module.
        neighbours: where a plan that adds candidates finds them; None for nowhere.
        correlated: share of the variance of the judge's errors that is the same in every answer, for the confidence.
    """

    plan: Plan
    judge: Judge
    k: int
    seed: int = 0
    workers: int = 16
    on_failure: OnFailure = "raise"
    neighbours: Neighbours | None = None
    correlated: float = CORRELATED

    async def run(
        self, query: Query, candidates: Sequence[Hit], client: Client, deadline: float | None = None
    ) -> Outcome:
        """Rank the candidates of one query.

        Args:
            query: the query; its qid seeds the plan's randomness.
            candidates: in first-stage order.
            client: sends requests, with the query's budget.
            deadline: loop time at which to stop, None for never.

        Raises:
            ModelError: a call failed for good and `on_failure` is `raise`.
        """
        counts, given, candidates = Counts(), len(candidates), list(candidates)
        steps = self.plan.run(given, self.k, Random(query_seed(self.seed, query.qid)))  # noqa: S311
        stopped = ""
        last_error: ModelError | None = None
        said: list[Answer | None] = []
        try:
            batch = next(steps)
            while True:
                answers = {
                    at: await self._expand(one, candidates) for at, one in enumerate(batch) if type(one) is Expand
                }
                comparisons = {at: one for at, one in enumerate(batch) if not isinstance(one, Expand)}
                if comparisons:
                    step = _Batch(self, query, candidates, client, list(comparisons.values()), counts)
                    await step.run(deadline)
                    stopped, last_error = step.stopped, step.error or last_error
                    answers.update(zip(comparisons, step.answers, strict=True))
                    said += map(evidence, comparisons.values(), step.answers)
                batch = steps.send([answers[at] for at in range(len(batch))])
                if stopped:
                    stop(self.plan, steps)
        except StopIteration as done:
            placement: Placement = done.value
        if sorted(placement.order) != list(range(len(candidates))):
            raise InputError(
                f"plan {self.plan.name!r} did not return a permutation of its {len(candidates)} candidates"
            )
        counts.added = len(candidates) - given
        if counts.comparisons and not counts.informed and not stopped:
            return self._uninformed(query, placement, counts, last_error, client.counts.unreadable_because)
        placement = with_confidence(placement, said, self.k, self.correlated)
        return Outcome(placement, counts, stopped, added=tuple(candidates[given:]))

    async def _expand(self, wanted: Expand, candidates: list[Hit]) -> Answer | None:
        """Find the neighbours of some candidates and append the new ones; None if nothing knows neighbours."""
        if self.neighbours is None:
            return None
        docnos = [candidates[item].docno for item in wanted.items]
        known = {candidates[item].docno for item in wanted.known.union(wanted.items)}
        found = frontier(await asyncio.to_thread(self.neighbours.near, docnos), known, wanted.count)
        place_of = {hit.docno: place for place, hit in enumerate(candidates)}
        new = [docno for docno in found if docno not in place_of]
        score = min((hit.score for hit in candidates), default=0.0)
        for one in await asyncio.to_thread(self._texts, new):
            place_of[one.docno] = len(candidates)
            candidates.append(Hit(one.docno, score, len(candidates) + 1, one.text, one.title, one.metadata))
        return positions(place_of[docno] for docno in found)

    def _texts(self, docnos: Sequence[str]) -> Sequence[Passage]:
        """The passages of the source of neighbours, with texts if the judge reads them."""
        if self.neighbours is None or not getattr(self.judge, "reads_text", True):
            return [Passage(docno, "") for docno in docnos]
        return self.neighbours.passages(docnos)

    def _uninformed(
        self, query: Query, placement: Placement, counts: Counts, cause: ModelError | None, unreadable: str
    ) -> Outcome:
        """No answer carried information: an error, or the first-stage order if `keep` was chosen."""
        if self.on_failure == "keep":
            return Outcome(placement, counts, error=cause)
        last = f" (the last was {unreadable})" if unreadable else ""
        why = str(cause) if cause is not None else f"none of the answers could be read{last}"
        return Outcome(None, counts, error=ModelError(f"query {query.qid!r} was not reranked: {why}"))


def query_seed(seed: int, qid: str) -> int:
    """The seed of one query's randomness: the same in every process and in any order of queries."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{qid}".encode("utf-8", "surrogatepass")).digest()[:8], "big")


class _Batch:
    """One batch of comparisons being answered."""

    def __init__(
        self,
        driver: Driver,
        query: Query,
        candidates: Sequence[Hit],
        client: Client,
        comparisons: Sequence[Comparison],
        counts: Counts,
    ) -> None:
        self.answers: list[Answer | None] = [None] * len(comparisons)
        self.stopped = ""
        self.error: ModelError | None = None
        self._driver, self._query, self._candidates, self._client = driver, query, candidates, client
        self._comparisons, self._counts = comparisons, counts
        self._cancelled = 0  # comparisons of groups that the deadline cancelled
        size = max(driver.judge.comparisons_per_call, 1)
        n = len(comparisons)
        self._groups = deque(range(start, min(start + size, n)) for start in range(0, n, size))
        counts.depth += 1
        counts.comparisons += n

    async def run(self, deadline: float | None) -> None:
        """Fill in the answers that arrive before the deadline and fit the budget."""
        loop = asyncio.get_running_loop()
        timeout = None if deadline is None else max(deadline - loop.time(), 0.0)
        tasks = [asyncio.create_task(self._work()) for _ in range(min(self._driver.workers, len(self._groups)))]
        try:
            _, pending = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
            late = bool(pending) and not any(task.done() and task.exception() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result
        if late:
            self.stopped = "seconds"
            self._counts.skipped += sum(map(len, self._groups)) + self._cancelled

    async def _work(self) -> None:
        """Answer one group after the other."""
        while self._groups:
            group = self._groups.popleft()
            comparisons = [self._comparisons[index] for index in group]
            try:
                answers = await self._driver.judge.answer(self._query, self._candidates, comparisons, self._client)
            except LimitReachedError as err:
                left = self._client.questions_left
                if err.limit == "questions" and left and left < len(group):
                    self._groups.extendleft((group[left:], group[:left]))  # a smaller request fits
                    continue
                self.stopped = err.limit
                self._counts.skipped += len(group)
            except ModelError as err:
                if self._driver.on_failure == "raise":
                    raise
                self.error = err
                self._counts.failed += len(group)
            except asyncio.CancelledError:
                self._cancelled += len(group)
                raise
            else:
                for index, comparison, answer in zip(group, comparisons, answers, strict=True):
                    self._take(index, comparison, answer)

    def _take(self, index: int, comparison: Comparison, answer: Answer | None) -> None:
        self.answers[index] = answer
        if answer is None:
            self._counts.unreadable += 1
            return
        answer.check(comparison)
        self._counts.informed += 1
        if answer.repairs:
            self._counts.repaired["+".join(answer.repairs)] += 1
