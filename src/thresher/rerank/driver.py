"""The driver: runs any plan with any judge, for one query or many at once.

It answers the asks of a batch concurrently, and the batches of different queries side by side over the same
connections, first come first served, so that every query moves on evenly. It holds the deadline: when the seconds
run out, calls in flight are cancelled, the answers that came are given to the plan, and the plan is stopped. The same
happens to a plan whose next call does not fit the budget.

What a call cannot bring is told to the plan as no information. What happens then is the caller's choice: `raise` (the
first failed call ends the run), `skip` (a query without a single answer gets an error instead of a ranking), or
`keep` (it gets the first-stage order, marked incomplete). An order nobody judged is never returned as a ranking
without that mark.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

from thresher.errors import InputError, ModelError
from thresher.rerank.budget import LimitReachedError
from thresher.rerank.plans.plan import Ranking, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.rerank.asks import Answer, Ask
    from thresher.rerank.judge import Judge, Question
    from thresher.rerank.limiter import Gate
    from thresher.rerank.plans.plan import Plan

OnFailure = Literal["raise", "skip", "keep"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What driving a plan for one query led to.

    Attributes:
        ranking: of the candidates' positions; None where nothing was judged and the failure is to be reported.
        stopped: the limit that ended the plan early (`calls`, `tokens`, `money`, `seconds`), empty if none did.
        error: why there is no ranking.
    """

    ranking: Ranking | None
    stopped: str = ""
    error: ModelError | None = None


async def run_query(
    plan: Plan,
    judge: Judge,
    query: Question,
    gate: Gate,
    *,
    k: int,
    seed: int = 0,
    workers: int = 16,
    deadline: float | None = None,
    on_failure: OnFailure = "raise",
) -> Outcome:
    """Drive `plan` over the candidates of `query`.

    Args:
        plan: how comparisons are spent.
        judge: who answers.
        query: with its candidates in first-stage order.
        gate: the way out, with budget and account.
        k: how many first ranks matter.
        seed: of the plan's chance, together with the qid.
        workers: asks of this query answered at once, at most.
        deadline: loop time at which to stop, None for never.
        on_failure: see the module.

    Raises:
        ModelError: a call failed for good and `on_failure` is `raise`, or every answer was unreadable.
    """
    course = plan.run(len(query.hits), k, Random(query_seed(seed, query.qid)))  # noqa: S311
    informed = 0
    stopped = ""
    last_error: ModelError | None = None
    try:
        batch = next(course)
        while True:
            round_ = _Round(judge, query, gate, batch, on_failure)
            await round_.run(workers, deadline)
            stopped, last_error = round_.stopped, round_.error or last_error
            informed += sum(answer is not None for answer in round_.answers)
            batch = course.send(round_.answers)
            if stopped:
                course.throw(Stop())
                raise InputError(f"plan {plan.name!r} asked on after it was stopped")
    except StopIteration as done:
        ranking: Ranking = done.value
    if sorted(ranking.order) != list(range(len(query.hits))):
        raise InputError(f"plan {plan.name!r} did not return a permutation of its {len(query.hits)} candidates")
    if gate.tally.asks and not informed and not stopped:
        return _uninformed(query, ranking, last_error, on_failure)
    return Outcome(ranking, stopped)


def query_seed(seed: int, qid: str) -> int:
    """The seed of one query's chance: the same in every process and in any order of queries."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{qid}".encode()).digest()[:8], "big")


def _uninformed(query: Question, ranking: Ranking, cause: ModelError | None, on_failure: OnFailure) -> Outcome:
    """Not one answer carried information: an error, or the first-stage order where that was asked for."""
    if on_failure == "keep":
        return Outcome(ranking, error=cause)
    why = str(cause) if cause is not None else "none of the answers could be read"
    error = ModelError(f"question {query.qid!r} was not reranked: {why}")
    if on_failure == "raise":
        raise error
    return Outcome(None, error=error)


class _Round:
    """One batch being answered."""

    def __init__(self, judge: Judge, query: Question, gate: Gate, batch: Sequence[Ask], on_failure: OnFailure) -> None:
        self.answers: list[Answer | None] = [None] * len(batch)
        self.stopped = ""
        self.error: ModelError | None = None
        self._judge, self._query, self._gate = judge, query, gate
        self._batch = batch
        self._on_failure = on_failure
        self._cut = 0  # asks of groups that a deadline cut off
        size = max(judge.asks_per_call, 1)
        self._groups = deque(range(start, min(start + size, len(batch))) for start in range(0, len(batch), size))
        gate.tally.depth += 1
        gate.tally.asks += len(batch)

    async def run(self, workers: int, deadline: float | None) -> None:
        """Fill in the answers that come before the deadline and fit the budget."""
        loop = asyncio.get_running_loop()
        timeout = None if deadline is None else max(deadline - loop.time(), 0.0)
        tasks = [asyncio.create_task(self._work()) for _ in range(min(workers, len(self._groups)))]
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
            self._gate.tally.unasked += sum(map(len, self._groups)) + self._cut

    async def _work(self) -> None:
        """Answer one group after the other."""
        tally = self._gate.tally
        while self._groups:
            group = self._groups.popleft()
            asks = [self._batch[index] for index in group]
            try:
                answers = await self._judge.answer(self._query, asks, self._gate)
            except LimitReachedError as err:
                self.stopped = err.limit
                tally.unasked += len(group)
            except ModelError as err:
                if self._on_failure == "raise":
                    raise
                self.error = err
                tally.failed += len(group)
            except asyncio.CancelledError:
                self._cut += len(group)
                raise
            else:
                for index, ask, answer in zip(group, asks, answers, strict=True):
                    self._take(index, ask, answer)

    def _take(self, index: int, ask: Ask, answer: Answer | None) -> None:
        self.answers[index] = answer
        if answer is None:
            self._gate.tally.unreadable += 1
            return
        answer.check(ask)
        if answer.repairs:
            self._gate.tally.repaired["+".join(answer.repairs)] += 1
