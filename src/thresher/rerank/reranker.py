"""`Reranker`: rerank the ranking of one query, or a run, with a judge, a plan and a budget.

    reranker = Reranker.from_name("cross-encoder:cross-encoder/ms-marco-MiniLM-L6-v2")
    ranking = reranker.rank("why is the sky blue", index.search("why is the sky blue", k=100))

`rank` and `rank_batch` can be called from anywhere, also inside a running event loop: they work on a loop in a
background thread. `arank` and `arank_batch` work on the caller's loop. Queries of a batch run side by side and share
the connections and the budget. `thresher.rerank.candidates` gives the rankings of a run their texts.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike
from statistics import fmean
from typing import TYPE_CHECKING, overload

import numpy as np
from tqdm import tqdm

from thresher.arguments import checked_call
from thresher.checks import is_a, real, shown, whole
from thresher.errors import ConfigError, ModelError
from thresher.llm.background import run_in_background
from thresher.llm.budget import Budget, BudgetLedger, Price
from thresher.llm.cache import Journal
from thresher.llm.client import Client, ConnectionPool, RetryPolicy
from thresher.ranking import Ranking, Run
from thresher.records import Hit, Query
from thresher.rerank.aggregate.confidence import CORRELATED, MOST_CORRELATED
from thresher.rerank.candidates import check_distinct, extended, hits_of, of_run, pairs_of
from thresher.rerank.choosing import (
    AUTO,
    CHARACTERS_A_TOKEN,
    USUAL_PASSAGE,
    Choice,
    Circumstances,
    choose,
    share_of,
)
from thresher.rerank.driver import Driver, OnFailure, Outcome, RerankUsage
from thresher.rerank.judges import construct, judge_from_name
from thresher.rerank.neighbours import check_neighbours
from thresher.rerank.plans import DEFAULT_PLAN, plan_from_name
from thresher.rerank.thresholds import Thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.llm.cache import ResponseCache
    from thresher.rerank.calibration import ScoreCalibration
    from thresher.rerank.judges import Judge
    from thresher.rerank.neighbours import Neighbours
    from thresher.rerank.plans.plan import Plan


LARGEST_SCORE = 1e30
LONGEST_PASSAGE = 400  # tokens; judges cut passages there by default
FOR_EVER = 1e9  # seconds; a limit beyond that is none


class Reranked(Ranking):
    """A reranked ranking.

    Scores strictly decrease in float32. Where the plan has none, they are n, n - 1, ..., 1.

    Attributes:
        qid: the query's identifier.
        complete: whether every comparison the plan wanted was answered. False if a limit was reached, calls failed, or
            answers could not be read; then this is the best ranking so far.
        stopped: the limit that was reached: `calls`, `questions`, `tokens`, `cost` or `seconds`; empty if none.
        tied: ranks (1-based) of passages that tied with the one above.
        errors: standard errors of the scores of the reranked passages, if the plan estimates them.
        confidence: for each of the reranked passages, in order, the probability that it is among the best k; None where
            it is unknown, and for judges that compare nothing. See docs/confidence.md for what it does not say.
        error: why nothing could be reranked, None otherwise. Under `on_failure="skip"` the ranking is then empty.
        usage: what it cost.
        probabilities: that each passage is relevant, by the reranker's calibration, aligned with the ranking; None for
            a passage that was not reranked, and without a calibration.
        scored: whether the scores are the plan's.
    """

    __slots__ = (
        "complete", "confidence", "error", "errors", "probabilities", "qid", "scored", "stopped", "tied", "usage",
    )  # fmt: skip

    @checked_call
    def __init__(
        self,
        ranking: Ranking,
        *,
        qid: str = "",
        complete: bool = True,
        stopped: str = "",
        tied: frozenset[int] = frozenset(),
        errors: tuple[float, ...] | None = None,
        confidence: tuple[float | None, ...] | None = None,
        error: str | None = None,
        usage: RerankUsage | None = None,
        probabilities: tuple[float | None, ...] | None = None,
        scored: bool = False,
    ) -> None:
        for slot in Ranking.__slots__:
            setattr(self, slot, getattr(ranking, slot))
        self.qid, self.complete, self.stopped, self.tied = qid, complete, stopped, tied
        self.errors, self.confidence, self.error = errors, confidence, error
        self.probabilities, self.scored = probabilities, scored
        self.usage = RerankUsage() if usage is None else usage


class UnfinishedRunError(ModelError):
    """Some queries of a batch were not reranked.

    Args:
        message: why.
        finished: what was reranked, in the order of the batch, so that nothing paid for is lost.
    """

    def __init__(self, message: str, finished: Sequence[Reranked]) -> None:
        super().__init__(message, tuple(finished))

    @property
    def finished(self) -> tuple[Reranked, ...]:
        """The rankings of the queries that were reranked."""
        return tuple(self.args[1])

    def __str__(self) -> str:
        return str(self.args[0])


class Reranker:
    """Reranks rankings with a plan and a judge.

    Args:
        judge: answers comparisons.
        plan: a plan, its name with settings, as `sliding:window=20,stride=10`, or `auto`: chosen for each query by what
            may be spent, see `thresher.rerank.choosing`. By default `pointwise` for judges that only rate passages,
            `funnel` for others.
        k: how many first ranks matter to plans that stop there.
        depth: how many passages are reranked, None for all; the others follow in their order.
        budget: limits of one call of `rank` or `rank_batch`, over all its queries.
        budget_per_query: limits of each query.
        concurrency: concurrent requests, over all queries.
        price: of a token; needed for a limit on cost.
        cache: keeps answers between runs; None for no cache.
        journal: path of a file from which a killed run resumes without repeating a request.
        retry: how transient failures are retried.
        on_failure: `raise`, `skip` or `keep`, see `thresher.rerank.driver`.
        seed: of plans that shuffle.
        correlated: share of the variance of the judge's errors that is the same in every answer, 0 to 0.99; the higher
            it is, the less sure `Reranked.confidence` is. The default is that of recorded 7B models,
            see docs/confidence.md.
        progress: show a progress bar over queries; None shows it on a terminal.
        neighbours: where a plan that adds candidates (`slidegar`) finds them, see `thresher.rerank.neighbours`; without
            them it adds none.
        calibration: what scores mean (`thresher calibrate scores`), or its file; by default that of `thresher-context`
            with the plan `pointwise`, and none for others.
        min_score: keep only passages that are relevant with this probability, in [0, 1].
        precision: keep as many passages as have this expected precision, in [0, 1], which may be none.

    Raises:
        ConfigError: the plan is unknown, an argument is of another kind, a limit on cost has no price, there are
            neighbours and the plan adds no candidates, or the calibration is for another judge or plan.
        InputError: a number is out of range.
    """

    @checked_call
    def __init__(
        self,
        judge: Judge,
        plan: Plan | str | None = None,
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
        correlated: float = CORRELATED,
        progress: bool | None = False,
        neighbours: Neighbours | None = None,
        calibration: ScoreCalibration | str | Path | None = None,
        min_score: float | None = None,
        precision: float | None = None,
    ) -> None:
        _check_kinds(judge, plan, budget, budget_per_query, price, retry, cache, journal)
        self.judge = judge
        rates_only = bool(getattr(judge, "rates_only", False))
        usual = str(getattr(judge, "default_plan", "pointwise" if rates_only else DEFAULT_PLAN))
        self.auto = plan == AUTO and not rates_only
        plan = usual if not plan or plan == AUTO else plan
        self.plan = plan_from_name(plan) if isinstance(plan, str) else plan
        self.thresholds = Thresholds.of(judge, self.plan, calibration, min_score, precision)
        self.k, self.depth, self.seed = k, depth, seed
        self.budget, self.budget_per_query = budget or Budget(), budget_per_query or Budget()
        self.concurrency, self.price, self.cache, self.journal = concurrency, price, cache, journal
        self.retry, self.on_failure, self.progress = retry or RetryPolicy(), on_failure, progress
        self.neighbours = neighbours
        check_neighbours(self.plan, neighbours)
        self.correlated = real("correlated", correlated, 0.0, MOST_CORRELATED)
        whole("k", k, 1)
        whole("concurrency", concurrency, 1)
        if depth is not None:
            whole("depth", depth, 1)
        if not is_a(on_failure, str) or on_failure not in ("raise", "skip", "keep"):
            raise ConfigError(f"on_failure must be 'raise', 'skip' or 'keep'; got {shown(on_failure)}")
        if price is None and (self.budget.cost, self.budget_per_query.cost) != (None, None):
            raise ConfigError("a limit on cost needs a price; give one, or limit calls or tokens")

    @classmethod
    @checked_call
    def from_name(
        cls, name: str, *, plan: Plan | str | None = None, device: str = "auto", **options: object
    ) -> Reranker:
        """A reranker from a judge's name: `cross-encoder:NAME`, `openai:NAME`, `transformers:NAME`, `cohere:NAME`, ...

        Args:
            name: see `thresher.rerank.judges`.
            plan: as for the class.
            device: of a model in this process.
            options: further arguments of the class (`budget`, `depth`, `cache`, ...) and of the judge (`base_url`,
                `key`, `order`, `rating`, ...).

        Raises:
            ConfigError: the judge, plan or an option is unknown.
            MissingExtraError: the judge needs a package that is not installed.
        """
        own = set(inspect.signature(cls).parameters) - {"judge", "plan"}
        settings = {key: options.pop(key) for key in own & set(options)}
        concurrency = settings.get("concurrency", 1)
        judge = judge_from_name(
            name, device=device, concurrency=concurrency if isinstance(concurrency, int) else 1, **options
        )
        return construct(cls, "Reranker", judge, plan, **settings)

    @checked_call
    def rank(self, query: str | Query, ranking: Ranking | Sequence[Hit]) -> Reranked:
        """Rerank the ranking of one query.

        Args:
            query: its text, or a `Query`, whose qid seeds plans that shuffle.
            ranking: a `Ranking` with texts, or hits with texts, best first.

        Raises:
            ModelError: no comparison was answered, or a call failed and `on_failure` is `raise`.
            InputError: a docno occurs twice, or the ranking has no texts.
        """
        return run_in_background(self.arank(query, ranking))

    @checked_call
    async def arank(self, query: str | Query, ranking: Ranking | Sequence[Hit]) -> Reranked:
        """As `rank`, on the caller's event loop."""
        try:
            (result,) = await self.arank_batch([(query, ranking)])
        except UnfinishedRunError as err:
            raise ModelError(str(err)) from None
        if result.error is not None and not result and len(ranking):
            raise ModelError(result.error)
        return result

    @overload
    def rank_batch(self, candidates: Mapping[str, Ranking], queries: Iterable[Query]) -> Run: ...
    @overload
    def rank_batch(
        self, candidates: Sequence[tuple[str | Query, Ranking | Sequence[Hit]]], queries: None = None
    ) -> list[Reranked]: ...
    @checked_call
    def rank_batch(
        self,
        candidates: Mapping[str, Ranking] | Sequence[tuple[str | Query, Ranking | Sequence[Hit]]],
        queries: Iterable[Query] | None = None,
    ) -> Run | list[Reranked]:
        """Rerank many queries side by side.

        Args:
            candidates: a run, or pairs of a query and its ranking.
            queries: the queries of the run that are reranked. Queries it does not rank are ignored, and rankings
                without a query are left out. Pairs need none.

        Returns:
            a run whose rankings are `Reranked`, in the order of the run; or a list aligned with the pairs.

        Raises:
            UnfinishedRunError: `on_failure` is `raise`, and a call failed or none of a query's answers could be read;
                it is a ModelError and holds what was finished.
            InputError: no query of the run is among the queries, a docno occurs twice, or a ranking has no texts.
        """
        if isinstance(candidates, Mapping):
            return run_in_background(self.arank_batch(candidates, queries or ()))
        return run_in_background(self.arank_batch(candidates))

    @overload
    async def arank_batch(self, candidates: Mapping[str, Ranking], queries: Iterable[Query]) -> Run: ...
    @overload
    async def arank_batch(
        self, candidates: Sequence[tuple[str | Query, Ranking | Sequence[Hit]]], queries: None = None
    ) -> list[Reranked]: ...
    @checked_call
    async def arank_batch(
        self,
        candidates: Mapping[str, Ranking] | Sequence[tuple[str | Query, Ranking | Sequence[Hit]]],
        queries: Iterable[Query] | None = None,
    ) -> Run | list[Reranked]:
        """As `rank_batch`, on the caller's event loop."""
        if isinstance(candidates, Mapping):
            results = await self._rank_all(of_run(candidates, queries or ()))
            return Run({result.qid: result for result in results}, "thresher-rerank")
        candidates = list(pairs_of(candidates))
        numbered = ((str(n) if isinstance(query, str) else query.qid, query) for n, (query, _) in enumerate(candidates))
        known = [Query(qid, query) if isinstance(query, str) else query for qid, query in numbered]
        rankings = [one if isinstance(one, Ranking) else Ranking.from_hits(one) for _, one in candidates]
        return await self._rank_all(list(zip(known, rankings, strict=True)))

    def close(self) -> None:
        """Close the judge's connections and threads."""
        close = getattr(self.judge, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Reranker: plan {self.plan.name}, judge {self.judge.name}>"

    async def _rank_all(self, pairs: Sequence[tuple[Query, Ranking]]) -> list[Reranked]:
        """Rerank all pairs through one pool of connections, budget and journal."""
        for query, ranking in pairs:
            check_distinct(query, ranking)
        journal = Journal(self.journal) if self.journal is not None else None
        try:
            pool = ConnectionPool(
                ledger=BudgetLedger(self.budget, spent=journal.spent if journal else None),
                slots=asyncio.Semaphore(self.concurrency),
                retry=self.retry,
                cache=self.cache,
                journal=journal,
                price=self.price,
            )
            return await self._side_by_side(pairs, pool)
        finally:
            if journal is not None:
                journal.close()

    async def _side_by_side(self, pairs: Sequence[tuple[Query, Ranking]], pool: ConnectionPool) -> list[Reranked]:
        loop = asyncio.get_running_loop()
        deadline = None if self.budget.seconds is None else loop.time() + min(self.budget.seconds, FOR_EVER)
        admitted = asyncio.Semaphore(max(4 * self.concurrency, 64))
        hidden = None if self.progress is None else not self.progress
        with tqdm(total=len(pairs), desc="rerank", unit="query", disable=hidden) as bar:

            async def one(query: Query, ranking: Ranking) -> Reranked:
                async with admitted:
                    result = await self._one(query, ranking, pool, deadline, len(pairs))
                bar.update()
                return result

            tasks = [asyncio.create_task(one(query, ranking)) for query, ranking in pairs]
            try:
                results = list(await asyncio.gather(*tasks))
            except ModelError as err:
                finished = [task.result() for task in tasks if task.done() and not _failed(task)]
                raise UnfinishedRunError(str(err), [one for one in finished if one.error is None]) from None
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return self._checked(results)

    def _checked(self, results: list[Reranked]) -> list[Reranked]:
        """The results.

        Raises:
            UnfinishedRunError: one is an error and `on_failure` is `raise`.
        """
        errors = [one.error for one in results if one.error is not None]
        if self.on_failure != "raise" or not errors:
            return results
        more = f"; {len(errors)} of {len(results)} queries were not reranked" if len(results) > 1 else ""
        raise UnfinishedRunError(f"{errors[0]}{more}", [one for one in results if one.error is None])

    async def _one(
        self, query: Query, ranking: Ranking, pool: ConnectionPool, deadline: float | None, queries: int
    ) -> Reranked:
        loop = asyncio.get_running_loop()
        started = loop.time()
        if self.budget_per_query.seconds is not None:
            own = started + min(self.budget_per_query.seconds, FOR_EVER)
            deadline = own if deadline is None else min(deadline, own)
        head = ranking if self.depth is None else ranking.cut(self.depth)
        candidates = hits_of(head, with_text=getattr(self.judge, "reads_text", True))
        client = Client(pool, self.budget_per_query)
        lengths = [min(len(hit.text) / CHARACTERS_A_TOKEN, LONGEST_PASSAGE) for hit in candidates if hit.text]
        choice = self.chosen(len(candidates), queries, fmean(lengths or [USUAL_PASSAGE]))
        driver = Driver(
            choice.plan,
            self.judge,
            self.k,
            self.seed,
            self.concurrency,
            self.on_failure,
            self.neighbours,
            self.correlated,
        )
        outcome = await driver.run(query, candidates, client, deadline)
        usage = outcome.counts.usage(
            choice.plan.name, self.judge.name, client.counts, loop.time() - started, priced=self.price is not None
        )
        return _result(query.qid, ranking, outcome, replace(usage, reason=choice.reason), self.thresholds)

    def chosen(self, n: int, queries: int = 1, passage_tokens: float = USUAL_PASSAGE) -> Choice:
        """The plan for each of `queries` queries with n candidates, and why where it is chosen (`plan="auto"`).

        Args:
            n: number of candidates.
            queries: that share the budget.
            passage_tokens: mean length of a passage.
        """
        if not self.auto:
            return Choice(self.plan, None)
        budget = share_of(self.budget, self.budget_per_query, queries, self.concurrency)
        per_call = max(self.judge.comparisons_per_call, 1)
        return choose(Circumstances(n, self.k, budget, self.price, self.concurrency, per_call, passage_tokens))


def _check_kinds(
    judge: object, plan: object, budget: object, per_query: object, price: object, retry: object, *files: object
) -> None:
    """Check that the objects of a reranker are what they should be.

    Raises:
        ConfigError: one is not.
    """
    cache, journal = files
    wanted = (
        ("judge", judge, callable(getattr(judge, "answer", None)), "a judge, such as a `ModelJudge`"),
        ("plan", plan, plan is None or is_a(plan, str) or callable(getattr(plan, "run", None)), "a plan or its name"),
        ("budget", budget, budget is None or is_a(budget, Budget), "a `Budget`"),
        ("budget_per_query", per_query, per_query is None or is_a(per_query, Budget), "a `Budget`"),
        ("price", price, price is None or is_a(price, Price), "a `Price`"),
        ("retry", retry, retry is None or is_a(retry, RetryPolicy), "a `RetryPolicy`"),
        ("cache", cache, cache is None or callable(getattr(cache, "put", None)), "a `ResponseCache`"),
        ("journal", journal, journal is None or is_a(journal, str, PathLike), "a path"),
    )
    for name, value, right, what in wanted:
        if not right:
            raise ConfigError(f"{name} must be {what}, got {shown(value)}")


def _failed(task: asyncio.Task[Reranked]) -> bool:
    return task.cancelled() or task.exception() is not None


def _result(qid: str, ranking: Ranking, outcome: Outcome, usage: RerankUsage, thresholds: Thresholds) -> Reranked:
    placement = outcome.placement
    error = None if outcome.error is None else str(outcome.error)
    complete = not (outcome.stopped or error or usage.failed or usage.unreadable or usage.skipped)
    if placement is None:
        return Reranked(ranking.cut(0), qid=qid, complete=False, stopped=outcome.stopped, error=error, usage=usage)
    judged = len(placement.order)
    ranking, places = extended(ranking, judged - len(outcome.added), outcome.added)
    head = [places[item] for item in placement.order]
    tail = sorted(set(range(len(ranking))).difference(head))
    scores = strictly_decreasing(placement.scores, judged, len(ranking))
    known = thresholds.probabilities(placement)
    kept = thresholds.kept(known, len(ranking))
    ordered = ranking.take(
        np.array([*head, *tail], np.int64), scores, exact=ranking.exact and complete, source="rerank"
    )
    return Reranked(
        ordered.cut(kept),
        qid=qid,
        complete=complete,
        stopped=outcome.stopped,
        tied=frozenset(rank for rank in placement.tied if rank <= kept),
        errors=None if placement.errors is None else placement.errors[:kept],
        confidence=None if placement.confidence is None else placement.confidence[:kept],
        error=error,
        usage=usage,
        probabilities=None if known is None else _aligned(known, len(ranking))[:kept],
        scored=_usable(placement.scores),
    )


def _aligned(known: NDArray[np.float64], total: int) -> tuple[float | None, ...]:
    """Probabilities of a ranking's passages, None for those that have none."""
    return (*(None if np.isnan(one) else one for one in known.tolist()), *[None] * (total - len(known)))


def _usable(own: tuple[float, ...] | None) -> bool:
    return own is not None and all(abs(score) < LARGEST_SCORE for score in own)


def strictly_decreasing(own: tuple[float, ...] | None, judged: int, total: int) -> NDArray[np.float64]:
    """float64[total]: the plan's scores, made to strictly decrease in float32; or total, ..., 1 if it has none.

    Scores so large that float32 has no room below them count as none.
    """
    if own is None or not _usable(own):
        return np.arange(total, 0, -1, dtype=np.float64)
    scores: list[float] = []
    last = np.float32(np.inf)
    for place in range(total):
        wanted = np.float32(own[place]) if place < judged else last
        last = min(wanted, np.nextafter(last, np.float32(-np.inf)))
        scores.append(float(last))
    return np.array(scores, np.float64)
