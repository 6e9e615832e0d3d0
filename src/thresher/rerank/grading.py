"""Filling holes: a judge grades unjudged passages, and judged ones too, to compare its grades with people's.

A language model with `rating="umbrela"` writes grades. The scores of everything else (a cross-encoder,
`thresher-context`, a rerank server) become grades by thresholds that are fitted on a sample of judged passages. Half of
the sample's topics fit thresholds by which the agreement is measured on the other half, and the other way round; the
grades are then given by thresholds of the whole sample. So no agreement is measured on what it was fitted on.

Every request goes through the client, which keeps budget, cache, journal and retries. When the budget is spent, what
was graded is returned, and `Grades.stopped` says which limit was reached.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tqdm import tqdm

from thresher.arguments import checked_call
from thresher.errors import InputError
from thresher.evaluate.filled import Agreement, Filled, agreement, fit_thresholds, graded_by
from thresher.llm.background import run_in_background
from thresher.llm.budget import Budget, BudgetLedger, LimitReachedError
from thresher.llm.cache import Journal
from thresher.llm.client import CallCounts, Client, ConnectionPool, RetryPolicy
from thresher.records import Hit, Qrels
from thresher.rerank.plans.plan import Rate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from thresher.llm.budget import Price
    from thresher.llm.cache import ResponseCache
    from thresher.records import Passage, Query
    from thresher.rerank.judges import Judge

Pair = tuple[str, str]
"""A qid and a docno."""


@dataclass(frozen=True, slots=True)
class Grades:
    """What a judge made of unjudged passages.

    Attributes:
        filled: the grades.
        asked: unjudged passages that were to be graded.
        agreement: of the judge's grades with people's on the sample; None where the sample is empty.
        thresholds: lowest score of each grade; empty where the judge gives grades.
        stopped: the limit that was reached, empty if none.
        counts: calls, tokens and cost.
    """

    filled: Filled
    asked: int
    agreement: Agreement | None
    thresholds: Mapping[int, float]
    stopped: str
    counts: CallCounts


@dataclass(frozen=True, slots=True)
class Grader:
    """Grades passages with a judge.

    Attributes:
        judge: answers `Rate`.
        budget: limits of one call of `fill`; None for none.
        concurrency: concurrent requests.
        price: of a token.
        cache: keeps answers between runs.
        journal: path of a file from which a killed run resumes.
        progress: show a bar over passages; None shows it on a terminal.
    """

    judge: Judge
    budget: Budget | None = None
    concurrency: int = 16
    price: Price | None = None
    cache: ResponseCache | None = None
    journal: str | Path | None = None
    progress: bool | None = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @checked_call
    def fill(
        self,
        holes: Iterable[Pair],
        queries: Iterable[Query],
        passages: Mapping[str, Passage],
        qrels: Qrels,
        *,
        sample: int = 200,
        seed: int = 0,
    ) -> Grades:
        """Grade unjudged passages, and a sample of judged ones.

        Args:
            holes: qid and docno of each.
            queries: the queries; holes of others are an error.
            passages: docno to passage. Judged passages that it lacks are not sampled.
            qrels: people's judgments.
            sample: judged passages that are graded too, drawn at random.
            seed: of the draw.

        Raises:
            InputError: a hole has no query or passage, or is judged; or the judge needs thresholds and the sample has
                one grade alone.
            ModelError: a call failed for good. What was answered is in cache and journal.
        """
        texts = {query.qid: query for query in queries}
        wanted = list(dict.fromkeys(holes))
        for qid, docno in wanted:
            if qid not in texts or docno not in passages:
                missing = "query" if qid not in texts else f"passage {docno!r}"
                raise InputError(f"there is no {missing} for the unjudged document {docno!r} of topic {qid!r}")
            if docno in qrels.judgments.get(qid, ()):
                raise InputError(
                    f"document {docno!r} of topic {qid!r} is judged; people's judgments are not graded again"
                )
        judged = drawn(qrels, texts, passages, sample, seed)
        given = bool(getattr(self.judge, "grades", False))
        if not given and len(set(judged.values())) < 2:
            raise InputError(
                f"{self.judge.name} gives scores, and the {len(judged)} judged passages that can be shown to it have "
                "fewer than two grades to fit thresholds on; give more judgments, or a language model"
            )
        scores, stopped, counts = run_in_background(self._rate([*judged, *wanted], texts, passages))
        sampled = {pair: scores[pair] for pair in judged if pair in scores}
        if given:
            thresholds: dict[int, float] = {}
            own = {pair: round(score) for pair, score in sampled.items()}
            made = {pair: round(scores[pair]) for pair in wanted if pair in scores}
        else:
            thresholds, own = _by_thresholds(sampled, judged, seed)
            lowest = min(judged.values())
            made = {pair: graded_by(thresholds, scores[pair], lowest) for pair in wanted if pair in scores}
        return Grades(
            Filled("_".join(self.judge.name.split()), _as_qrels(made)),
            len(wanted),
            agreement(own, judged) if own else None,
            thresholds,
            stopped,
            counts,
        )

    async def _rate(
        self, pairs: Sequence[Pair], queries: Mapping[str, Query], passages: Mapping[str, Passage]
    ) -> tuple[dict[Pair, float], str, CallCounts]:
        """Ratings of the pairs that were answered, the limit that was reached, and the counts."""
        journal = Journal(self.journal) if self.journal is not None else None
        scores: dict[Pair, float] = {}
        try:
            ledger = BudgetLedger(self.budget or Budget(), spent=journal.spent if journal else None)
            pool = ConnectionPool(
                ledger, asyncio.Semaphore(self.concurrency), self.retry, self.cache, journal, self.price
            )
            client = Client(pool)
            groups = _groups(pairs, max(self.judge.comparisons_per_call, 1))
            hidden = None if self.progress is None else not self.progress
            with tqdm(total=len(pairs), desc="judge", unit="passage", disable=hidden) as bar:

                async def one(group: Sequence[Pair]) -> None:
                    hits = [_hit(passages[docno]) for _, docno in group]
                    rates = [Rate((at,)) for at in range(len(hits))]
                    answers = await self.judge.answer(queries[group[0][0]], hits, rates, client)
                    for pair, answer in zip(group, answers, strict=True):
                        if answer is not None and answer.score is not None:
                            scores[pair] = answer.score
                    bar.update(len(group))

                stopped = await _all(groups, one, 2 * self.concurrency)
        finally:
            if journal is not None:
                journal.close()
        return scores, stopped, client.counts


async def _all(groups: Sequence[Sequence[Pair]], one: Callable[[Sequence[Pair]], Awaitable[None]], workers: int) -> str:
    """Run `one` over all groups, in their order; the limit that was reached, after which none is begun."""
    waiting = iter(groups)
    stopped = ""

    async def work() -> None:
        nonlocal stopped
        for group in waiting:
            if stopped:
                return
            try:
                await one(group)
            except LimitReachedError as err:
                stopped = err.limit

    tasks = [asyncio.create_task(work()) for _ in range(min(workers, len(groups)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return stopped


def drawn(
    qrels: Qrels, queries: Mapping[str, Query], passages: Mapping[str, Passage], size: int, seed: int
) -> dict[Pair, int]:
    """A random sample of judged passages whose query and text are there, with people's grades."""
    pairs = [
        ((qid, docno), grade)
        for qid, topic in qrels.judgments.items()
        if qid in queries
        for docno, grade in topic.items()
        if grade >= 0 and docno in passages
    ]
    chosen = Random(seed).sample(range(len(pairs)), min(size, len(pairs)))  # noqa: S311
    return dict(pairs[at] for at in sorted(chosen))


def _by_thresholds(
    scores: Mapping[Pair, float], grades: Mapping[Pair, int], seed: int
) -> tuple[dict[int, float], dict[Pair, int]]:
    """Thresholds of the whole sample, and the grades of each half of the topics by thresholds of the other half."""
    topics = sorted({qid for qid, _ in scores})
    Random(seed).shuffle(topics)  # noqa: S311
    first = set(topics[: len(topics) // 2])
    own: dict[Pair, int] = {}
    lowest = min(grades.values())
    for half in (first, set(topics) - first):
        fit = [pair for pair in scores if pair[0] not in half]
        if len({grades[pair] for pair in fit}) < 2:
            continue
        thresholds = fit_thresholds([scores[pair] for pair in fit], [grades[pair] for pair in fit])
        own |= {pair: graded_by(thresholds, scores[pair], lowest) for pair in scores if pair[0] in half}
    return fit_thresholds(list(scores.values()), [grades[pair] for pair in scores]), own


def _groups(pairs: Sequence[Pair], size: int) -> list[list[Pair]]:
    """At most `size` pairs of one query each, in order."""
    found: list[list[Pair]] = []
    for pair in pairs:
        if found and found[-1][0][0] == pair[0] and len(found[-1]) < size:
            found[-1].append(pair)
        else:
            found.append([pair])
    return found


def _hit(passage: Passage) -> Hit:
    return Hit(passage.docno, 0.0, 1, passage.text, passage.title)


def _as_qrels(grades: Mapping[Pair, int]) -> Qrels:
    found: dict[str, dict[str, int]] = {}
    for (qid, docno), grade in grades.items():
        found.setdefault(qid, {})[docno] = grade
    return Qrels(found)
