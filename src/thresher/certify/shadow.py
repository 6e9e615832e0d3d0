"""`Shadow`: a pipeline whose live queries are also asked, in part, on an unpruned baseline.

A certificate holds for the queries that it was made with. What users ask changes, and passages come and go: `Shadow`
asks a set share of the queries on both indexes, and keeps a sequential test of the loss
(`thresher.evaluate.sequential`), which may be looked at after every query. The loss compares two rankings and knows no
judgments: it says how much changed, not how much worse it became, so it is an upper limit rather than an estimate.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np

from thresher.arguments import checked_call
from thresher.certify.certificate import Subject
from thresher.certify.running import Running
from thresher.certify.sampling import ROOM, Sampler
from thresher.certify.shadow_report import ShadowSettings
from thresher.checks import path_of, real
from thresher.errors import ConfigError, InputError, ThresherError
from thresher.evaluate.overlap import expected_loss, rank_biased_overlap
from thresher.pipeline.deadline import AbandonedError
from thresher.ranking import Ranking
from thresher.search.index import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Unpack

    from thresher.certify.sampling import Sides
    from thresher.certify.shadow_report import Policy, ShadowReport
    from thresher.index.filters import Filter
    from thresher.pipeline.answer import Answer
    from thresher.pipeline.pipeline import OnStage, Pipeline
    from thresher.records import Hit, Query
    from thresher.search.any_index import Allow
    from thresher.search.queries import Tiers

    Loss = Callable[[str, Answer, Answer], float]

_log = logging.getLogger(__name__)
DEPTH: Final = 100
"""Ranks that are compared: 10^-5 of the overlap's weight is below them."""


def overlap(system: Ranking, baseline: Ranking) -> float:
    """1 - extrapolated rank-biased overlap of the first `DEPTH`, between 0 and 1."""
    return 1.0 - rank_biased_overlap(system.cut(DEPTH), baseline.cut(DEPTH)).extrapolated


def expected(system: Ranking, baseline: Ranking) -> float:
    """The expected loss at 10, between 0 and 1, with the baseline's scores as graded truth."""
    return expected_loss(system.cut(DEPTH), baseline.cut(DEPTH))


MEASURES: Final[Mapping[str, Callable[[Ranking, Ranking], float]]] = {"overlap": overlap, "expected": expected}


def measure_of(name: str) -> Callable[[Ranking, Ranking], float]:
    """The measure of that name.

    Raises:
        InputError: there is none.
    """
    if name not in MEASURES:
        raise InputError(f"measure is {name!r}; use {' or '.join(MEASURES)}, or a function")
    return MEASURES[name]


def subject_of(index: object) -> Subject:
    """The commit that an index answers from; of what is no `Index`, one that never changes."""
    return Subject.of(index.path, index.committed) if isinstance(index, Index) else Subject("", 0, "", 0)


def folded(baseline: Ranking, system: object) -> Ranking:
    """The baseline's ranking with passages under the docnos of those that the system has folded them into."""
    if not isinstance(system, Index) or system.scope is not None:
        return baseline
    head = baseline.cut(DEPTH)
    best: dict[str, float] = {}
    for docno, score in zip(head.docnos, head.scores.tolist(), strict=True):
        best.setdefault(_representative(system, docno), score)
    return Ranking(list(best), np.array(list(best.values())), exact=head.exact)


def _representative(index: Index, docno: str) -> str:
    try:
        return index.representative(docno)
    except InputError:  # pruned
        return docno


class Settings(TypedDict, total=False):
    """Arguments of `Pipeline.ask` that `ask_batch` and `aask` hand on."""

    max_context_tokens: int | None
    deadline_ms: float | None
    where: Filter | None
    allow: Allow | None
    tiers: Tiers | None


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked of both sides."""

    query: str | Query
    k: int | None
    max_context_tokens: int | None
    where: Filter | None
    allow: Allow | None

    def of(
        self,
        pipeline: Pipeline,
        deadline_ms: float | None = 0.0,
        tiers: Tiers | None = None,
        on_stage: OnStage | None = None,
    ) -> Answer:
        return pipeline.ask(
            self.query,
            self.k,
            max_context_tokens=self.max_context_tokens,
            deadline_ms=deadline_ms,
            where=self.where,
            allow=self.allow,
            tiers=tiers,
            on_stage=on_stage,
        )


class Shadow:
    """A pipeline that is watched, and replaced by the baseline if so wanted where it loses too much.

        shadow = Shadow(Pipeline.open("pruned"), Pipeline.open("full"), margin=0.05, state="shadow.json")
        answer = shadow.ask("what is wifi")
        print(shadow.report())

    It has the calls of `Pipeline` that answer queries. The comparison is made afterwards in a thread, and never slows
    or fails an answer. Safe to share between threads.

    The choice of queries depends on their number alone, see `thresher.certify.sampling`. Not compared are answers that
    a deadline cut short (counted as dropped), and those over `candidates` or over passages allowed by number. The other
    side is asked without a deadline, with its own tiers.

    Where the margin is exceeded and the policy is `fall-back`, the baseline answers from then on, and the sampled
    queries are asked on the pruned side. That does not end by itself, also not after a commit with which the test
    starts anew: a test that took the system back would give it up again. `reset` ends it, `thresher shadow --reset`,
    or a certificate of the system (`thresher certify`) made since, which is noticed within seconds.

    Args:
        pipeline: over the pruned index.
        baseline: over the unpruned one, with the same settings.
        margin: the mean loss that would matter, between 0 and 1. Choose it before looking.
        share: share of the queries that are asked on both, above 0 and at most 1.
        alpha: accepted chance that `certified` is ever wrong, and that `lost` is ever wrong: alpha for each.
        measure: `overlap` (1 - rank-biased overlap), `expected` (expected loss at 10), or a function of the query, the
            system's answer and the baseline's, that gives a loss between 0 and 1.
        policy: `report`, or `fall-back`.
        state: a file that keeps the test between processes; None to keep it in memory.
        seed: of the choice of queries.
        room: comparisons that may wait; more are dropped and counted.

    Attributes:
        pipeline: the pruned side.
        baseline: the other.

    Raises:
        InputError: a setting is out of range.
        BusyArtifactError: another test keeps its state in the file.
        DamagedArtifactError: the file is not the state of a test.
        ArtifactVersionError: a later release wrote it.
    """

    @checked_call(room=1)
    def __init__(
        self,
        pipeline: Pipeline,
        baseline: Pipeline,
        *,
        margin: float,
        share: float = 0.02,
        alpha: float = 0.05,
        measure: str | Loss = "overlap",
        policy: Policy = "report",
        state: str | Path | None = None,
        seed: int = 0,
        room: int = ROOM,
    ) -> None:
        self._measure: Loss
        if isinstance(measure, str):
            name, self._measure = measure, partial(self._of_rankings, measure_of(measure))
        else:
            name, self._measure = getattr(measure, "__qualname__", type(measure).__qualname__), measure
        self.pipeline, self.baseline = pipeline, baseline
        settings = ShadowSettings(margin, share, alpha, name, policy, seed)
        self._running = Running(settings, *self._sides(), None if state is None else path_of(state))
        self._sampler = Sampler(self._running, room=room)

    def _of_rankings(self, loss: Callable[[Ranking, Ranking], float], _: str, mine: Answer, other: Answer) -> float:
        return loss(mine.ranking, folded(other.ranking, self.pipeline.texts))

    def _sides(self) -> Sides:
        """The commits that the pipelines answer from now."""
        return subject_of(self.pipeline.texts), subject_of(self.baseline.texts)

    def _commits(self) -> tuple[str, str]:
        """Their checksums, which cost next to nothing."""
        system, baseline = (
            one.texts.committed.sha256 if isinstance(one.texts, Index) else "" for one in (self.pipeline, self.baseline)
        )
        return system, baseline

    def over(self, index: Index, baseline: Index | None = None) -> Shadow:
        """The same test over another view of the index, such as `Index.restricted`.

        Args:
            index: the view that queries are asked of.
            baseline: the same view of the baseline; by default its index, restricted as `index` is.

        Raises:
            ConfigError: a pipeline cannot be moved to another view, or the baseline's has no index to restrict.
            InputError: the baseline lacks a field of the restriction.
        """
        made = copy.copy(self)
        made.pipeline = self.pipeline.over(index)
        if baseline is None and index.scope is not None:
            if not isinstance(self.baseline.texts, Index):
                raise ConfigError(f"{self.baseline!r} has no index to restrict; give `over` the baseline's view too")
            baseline = self.baseline.texts.restricted(index.scope)
        if baseline is not None:
            made.baseline = self.baseline.over(baseline)
        if isinstance(self._measure, partial):
            made._measure = partial(made._of_rankings, *self._measure.args)
        return made

    def without(self, *stages: str) -> Shadow:
        """The same test with stages left out on both sides, as `Pipeline.without`."""
        made = copy.copy(self)
        made.pipeline = self.pipeline.without(*stages)
        there = {stage.name for stage in self.baseline.stages[1:]}
        made.baseline = self.baseline.without(*(name for name in stages if name in there))
        return made

    @property
    def falls_back(self) -> bool:
        """Whether the baseline answers."""
        return self._running.falls_back

    def ask(
        self,
        query: str | Query,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        candidates: Ranking | Sequence[Hit] | None = None,
        where: Filter | None = None,
        allow: Allow | None = None,
        tiers: Tiers | None = None,
        on_stage: OnStage | None = None,
    ) -> Answer:
        """As `Pipeline.ask`, of the pruned side, or of the baseline where it has taken its place."""
        if candidates is not None or isinstance(allow, np.ndarray):  # of this side's passages: nothing to compare
            return self.pipeline.ask(
                query,
                k,
                max_context_tokens=max_context_tokens,
                deadline_ms=deadline_ms,
                candidates=candidates,
                where=where,
                allow=allow,
                tiers=tiers,
                on_stage=on_stage,
            )
        call = _Call(query, k, max_context_tokens, where, allow)
        before, commits = self.falls_back, self._commits()
        if before:
            try:
                answer = call.of(self.baseline, deadline_ms, on_stage=on_stage)
            except AbandonedError:
                raise
            except Exception as err:  # an argument that is wrong is refused by the other too
                _log.warning("the baseline failed (%s); the pruned index answers", type(err).__name__)
                self._running.fail()
                return call.of(self.pipeline, deadline_ms, tiers, on_stage)
            other = partial(call.of, self.pipeline, tiers=tiers)
        else:
            answer = call.of(self.pipeline, deadline_ms, tiers, on_stage)
            other = partial(call.of, self.baseline)
        self._watch(answer, commits, before, other)
        return answer

    def _watch(
        self, answer: Answer, commits: tuple[str, str], from_baseline: bool, other: Callable[[], Answer]
    ) -> None:
        """Let a chosen query be compared; nothing that goes wrong here is the caller's concern."""
        try:
            if not self._sampler.draw():
                return
            sides = self._sides()
            if answer.skipped or commits != (sides[0].sha256, sides[1].sha256) or not self._running.at(*sides):
                self._running.drop()
                return

            def compared() -> tuple[float, Sides]:
                found = other()
                pair = (found, answer) if from_baseline else (answer, found)
                if any(one.errors for one in pair):
                    raise ThresherError("a stage failed")
                loss = real("the loss of a query", self._measure(answer.query, *pair), 0.0, 1.0)
                if self._commits() != commits:
                    raise ThresherError("a commit came while the query was asked")
                return loss, sides

            self._sampler.offer(compared)
        except Exception:
            _log.exception("a query could not be watched")

    def ask_batch(
        self, queries: Sequence[str | Query], k: int | None = None, *, threads: int = 1, **settings: Unpack[Settings]
    ) -> list[Answer]:
        """As `Pipeline.ask_batch`; further arguments as `ask`."""

        def one(query: str | Query) -> Answer:
            return self.ask(query, k, **settings)

        if threads == 1:
            return [one(query) for query in queries]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, queries))

    async def aask(self, query: str | Query, k: int | None = None, **settings: Unpack[Settings]) -> Answer:
        """As `ask`, without blocking the event loop."""
        return await asyncio.to_thread(self.ask, query, k, **settings)

    async def aask_batch(
        self, queries: Sequence[str | Query], k: int | None = None, *, threads: int = 1, **settings: Unpack[Settings]
    ) -> list[Answer]:
        """As `ask_batch`, without blocking the event loop."""
        return await asyncio.to_thread(self.ask_batch, queries, k, threads=threads, **settings)

    def warm_up(self, query: str | Query | None = None) -> None:
        """As `Pipeline.warm_up`, of both sides."""
        self.pipeline.warm_up(query)
        self.baseline.warm_up(query)

    def report(self) -> ShadowReport:
        """What is known now."""
        self._running.at(*self._sides())
        self._running.look()
        return self._running.report()

    def reset(self) -> None:
        """Start the test anew, and let the pruned side answer again."""
        self._running.reset()

    def flush(self, seconds: float = 60.0) -> bool:
        """Wait until the queries chosen so far are compared, and write the state; whether that was so in time."""
        done = self._sampler.flush(seconds)
        self._running.keep(hurry=True)
        return done

    def close(self) -> None:
        """Drop what waits and write the state; queries are answered afterwards too, and no longer compared."""
        self._sampler.close()

    def __enter__(self) -> Shadow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Shadow of {self.pipeline!r} by {self.baseline!r}>"
