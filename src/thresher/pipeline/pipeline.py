"""`Pipeline`: stages run in order, under one deadline, and account for what they used.

Stages get the time there is in their order: before each, its predicted cost is compared with what is left
(`thresher.pipeline.deadline`), and a stage that does not fit is skipped while those after it are still tried. With the
usual stages sentence selection is skipped first, then reranking, then interpolation; the search always runs.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from thresher.arguments import checked_call
from thresher.checks import real
from thresher.context.pruned import counted, join_passages
from thresher.context.spans import approximate_tokens
from thresher.errors import ConfigError, InputError, ThresherError
from thresher.pipeline.answer import Answer
from thresher.pipeline.deadline import AbandonedError, Costs, Deadline, costs_name, stop_if_abandoned
from thresher.pipeline.open import AUTO, Parts, open_index, settings_of
from thresher.pipeline.passages import handed_over
from thresher.pipeline.stage import StageReport, State
from thresher.ranking import Ranking
from thresher.records import Query, StageUsage, Usage
from thresher.search.any_index import AnyIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from thresher.build.recipe import AskStep, Recipe
    from thresher.index.filters import Filter
    from thresher.pipeline.open import Scorer, Vectors
    from thresher.pipeline.search import Searches
    from thresher.pipeline.shared import QueryEncoder
    from thresher.pipeline.stage import Stage
    from thresher.records import Hit
    from thresher.rerank.reranker import Reranker
    from thresher.search.any_index import Allow
    from thresher.search.queries import Tiers
    from thresher.texts import PassageSource

    OnStage = Callable[[StageReport, State, float], object]

_log = logging.getLogger(__name__)
_COSTS = "costs.json"
_KEPT_FREE = ("select",)
"""Stages whose predicted cost earlier ones leave free: a selection that need not read takes a millisecond."""


_MOST = 1_000_000
"""Passages that one answer may hold."""
_FOREVER = 1e9
"""A deadline of this many milliseconds, 12 days, is none."""


class Pipeline:
    """Answers queries. Safe to share between threads, which get the answers one thread gets.

    `Pipeline.open` makes one of an index. With stages of one's own:

        index = Index.open("my-index")
        scorer = SentenceScorer.from_name("thresher-context")
        pipeline = Pipeline([SearchStage(index), NewestFirst(), SelectStage(scorer)], k=3, texts=index)

    leaves out interpolation and reranking and puts in a stage of the caller's (see `thresher.pipeline.Stage`).

    Args:
        stages: run in order.
        k: passages to hand over.
        max_context_tokens: tokens they may cost together, titles included; None for no limit.
        deadline_ms: milliseconds an answer may take; None for no limit.
        min_score: least probability of being relevant that passages must have; None for no limit.
        precision: least expected precision of the passages together; None for no limit.
        on_error: `degrade`: a stage that fails leaves the ranking of the stage before; `raise`: its error is raised.
        count_tokens: how many tokens a text costs, for passages whose sentences no stage selects.
        texts: where texts are read, for rankings that do not know it: an `Index`.
        costs: what stages cost on this machine; by default nothing is known before stages have run.
        cache: a folder in which `warm_up` keeps costs between processes; None keeps none.
        off: names of stages that are left out, and why.
        clock: seconds that only grow.

    Raises:
        ConfigError: two stages have the same name, or `on_error` is unknown.
    """

    @checked_call
    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        k: int = 5,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        on_error: str = "degrade",
        count_tokens: Callable[[str], int] = approximate_tokens,
        texts: PassageSource | None = None,
        costs: Costs | None = None,
        cache: Path | None = None,
        off: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"two stages have the same name among {', '.join(names)}; give each its own")
        if on_error not in ("degrade", "raise"):
            raise ConfigError(f"on_error is {on_error!r}; use degrade or raise")
        self.stages = tuple(stages)
        self.k, self.max_context_tokens, self.deadline_ms = k, max_context_tokens, deadline_ms
        self.min_score, self.precision = min_score, precision
        self.on_error, self.count_tokens, self.texts = on_error, count_tokens, texts
        self.costs = Costs() if costs is None else costs
        self.cache = cache
        self.off = dict(off or {})
        self._clock = clock
        self._opened: dict[str, Any] | None = None

    @classmethod
    @checked_call
    def open(
        cls,
        index: str | Path | AnyIndex | Searches,
        *,
        vectors: Vectors = AUTO,
        rerank: Scorer | Reranker = AUTO,
        context: Scorer = AUTO,
        settings: AskStep | Recipe | str | Path | None = None,
        query_encoder: QueryEncoder | None = None,
        count_tokens: Callable[[str], int] | None = None,
        device: str = "auto",
        costs: Costs | None = None,
        cache: Path | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Pipeline:
        """Open an index with the stages that it, the settings and what is installed allow; asks no query.

        Args:
            index: the directory of an index, an `Index` or `ShardedIndex`, or any object with `search(query, k)`.
            vectors: a vector store or its directory; `auto` for the one in the index, None for none.
            rerank: a `Reranker`, a sentence scorer or a `ContextPruner` (a passage is then read once for both), a name
                as in `[ask] rerank`, `auto` for what the settings name where it is installed, or None for none.
            context: what scores sentences: a `ContextPruner`, a sentence scorer, a name, `auto`, or None.
            settings: how stages work: an `AskStep`, a `Recipe` or the path or name of one (its `[ask]` table); by
                default what the index was built with.
            query_encoder: makes queries' vectors, in place of the encoder that the vectors' manifest names.
            count_tokens: how many tokens a text costs, by the tokenizer of the model that reads the context. An
                approximation by default.
            device: for models: `auto` (an accelerator if there is one), or a torch device.
            costs: as in the constructor.
            cache: as in the constructor.
            clock: as in the constructor.

        Raises:
            ArtifactError: there is no such index.
            ConfigError: a setting is not understood.
            MissingExtraError: a part that was named, not `auto`, needs what is not installed.
            DataNotFoundError: a model that was named is not on this machine.
        """
        opened = open_index(index)
        wanted = settings_of(settings, opened)
        parts = Parts(opened, wanted, device, count_tokens)
        stages = parts.stages(vectors, rerank, context, query_encoder)
        made = cls(
            stages,
            k=wanted.k,
            max_context_tokens=wanted.max_context_tokens or None,
            deadline_ms=wanted.deadline_ms or None,
            on_error=wanted.on_error,
            count_tokens=parts.count_tokens or approximate_tokens,
            texts=opened if isinstance(opened, AnyIndex) else None,
            costs=costs,
            cache=cache,
            off=parts.off,
            clock=clock,
        )
        made.min_score, made.precision = wanted.min_score or None, wanted.precision or None
        given = {"vectors": vectors, "rerank": rerank, "context": context, "query_encoder": query_encoder}
        made._opened = {"index": opened, "settings": wanted, "count_tokens": count_tokens, "device": device, **given}
        return made

    @checked_call
    def over(self, index: AnyIndex) -> Pipeline:
        """The same stages, models and costs over another view of the index (`Index.restricted`, `Index.pinned`).

        Raises:
            ConfigError: a stage that searches cannot be moved to another view; names it.
        """
        made = copy.copy(self)
        made.stages = tuple(stage.over(index) if hasattr(stage, "over") else stage for stage in self.stages)
        still = [stage.name for stage in made.stages if getattr(stage, "index", index) is not index]
        if still:
            raise ConfigError(f"the stage {still[0]} searches an index and has no `over(index)` to search another view")
        made.texts, made._opened = index, None
        return made

    @checked_call
    def without(self, *stages: str) -> Pipeline:
        """The same models and costs with stages left out, by their names: what would change without the reranker?

        Raises:
            InputError: there is no such stage, or it is the first, which finds the passages.
        """
        later = [stage.name for stage in self.stages[1:]]
        for name in stages:
            if name not in later:
                raise InputError(f"there is no stage {name!r} to leave out; it can be {' or '.join(later) or 'none'}")
        made = copy.copy(self)
        made.stages = tuple(stage for stage in self.stages if stage.name not in stages)
        made.off = {**self.off, **dict.fromkeys(stages, "left out")}
        if not any(getattr(stage, "calibration", None) is not None for stage in made.stages):
            made.min_score = made.precision = None
        made._opened = None
        return made

    def __copy__(self) -> Pipeline:
        """One that shares the stages: nothing is opened again, as unpickling would."""
        return _remade(type(self), self.__dict__)

    def __reduce__(self) -> tuple[object, ...]:
        """A pipeline that was opened is pickled by what it was opened with, others by their stages."""
        if self._opened is None:
            return _remade, (type(self), self.__dict__)
        return _reopened, (
            type(self),
            {**self._opened, "costs": self.costs, "cache": self.cache, "clock": self._clock},
        )

    def __repr__(self) -> str:
        return f"<Pipeline: {' > '.join(stage.name for stage in self.stages)}>"

    @checked_call
    def ask(
        self,
        query: str | Query,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        candidates: Ranking | Sequence[Hit] | None = None,
        where: Filter | None = None,
        allow: Allow | None = None,
        tiers: Tiers | None = None,
        recall: float | None = None,
        on_stage: OnStage | None = None,
    ) -> Answer:
        """Answer a query. Arguments left out are taken from the pipeline's settings.

        Args:
            query: any text, or a `Query`, whose qid the answer keeps.
            k: passages to hand over.
            max_context_tokens: tokens they may cost together, titles included; never exceeded. At least 1.
            deadline_ms: milliseconds the answer may take. A stage starts only if its predicted cost fits, the reranker
                reads as many passages as fit, and `Answer.skipped` names what was left out. 0 for no limit.
            min_score: hand over only passages that the reranker gives this probability of being relevant, in [0, 1];
                0 for no limit. A passage that it did not read is left out; where the deadline skips the reranker
                itself, nothing is, and `Answer.skipped` says so.
            precision: hand over as many passages as have this expected precision, by the same probabilities; 0 for no
                limit.
            candidates: a ranking, or hits with texts, in place of a search.
            where: search only passages whose metadata match this filter, as `Index.search`.
            allow: search only these passages, as `Index.search`.
            tiers: which tiers of the index are searched, as `Index.search`.
            recall: the share of the exact candidates to expect, as `Index.search`.
            on_stage: called after each stage with its report, the state and the stage's seconds, in this thread and
                within the deadline: `state.ranking` is the ranking so far. What it raises is raised.

        Raises:
            InputError: an argument is out of range.
            ConfigError: there is a limit on probabilities, and no stage has any.
            ThresherError: the search failed; or any stage did, and errors are raised (`on_error`).
        """
        started = self._clock()
        state = self._state(query, k, max_context_tokens, deadline_ms, started)
        state.where, state.allow, state.tiers, state.recall = where, allow, tiers, recall
        self._limit(state, min_score, precision)
        if candidates is not None:
            if (where, allow, tiers, recall) != (None,) * 4:
                raise InputError("where, allow, tiers and recall are of a search; candidates are given in place of one")
            state.given = candidates if isinstance(candidates, Ranking) else Ranking.from_hits(candidates)
        usage, reports = Usage(), list[StageReport]()
        for number, stage in enumerate(self.stages):
            report, seconds = self._run(stage, self.stages[number + 1 :], state)
            reports.append(report)
            if report.outcome != "skipped":
                one = StageUsage(stage.name, seconds, report.counts, report.engine)
                usage = Usage((*usage.stages, one))
            if on_stage is not None:
                on_stage(report, state, seconds)
        return self._answer(state, reports, usage)

    def _answer(self, state: State, reports: Sequence[StageReport], usage: Usage) -> Answer:
        """What the stages have made of a query."""
        passages = () if state.withheld else handed_over(state, self.count_tokens)
        return Answer(
            state.query.text,
            state.query.qid,
            passages,
            state.ranking,
            max(state.confidences.values(), default=None),
            tuple(reports),
            usage,
            state.deadline.spent(),
            state.deadline.milliseconds,
            state.withheld,
            counted(self.count_tokens, join_passages(one.sentences for one in passages)),
        )

    @checked_call(threads=1)
    def ask_batch(
        self,
        queries: Sequence[str | Query],
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        threads: int = 1,
        where: Filter | None = None,
        allow: Allow | None = None,
        tiers: Tiers | None = None,
        recall: float | None = None,
    ) -> list[Answer]:
        """Answer many queries, in their order, `threads` at a time; arguments as `ask`, for each query.

        A model on a CPU uses all cores for one query, so threads help where a server reranks or an index is large.
        """

        def one(query: str | Query) -> Answer:
            return self.ask(
                query,
                k,
                max_context_tokens=max_context_tokens,
                deadline_ms=deadline_ms,
                min_score=min_score,
                precision=precision,
                where=where,
                allow=allow,
                tiers=tiers,
                recall=recall,
            )

        if threads == 1:
            return [one(query) for query in queries]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, queries))

    @checked_call
    async def aask(
        self,
        query: str | Query,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        candidates: Ranking | Sequence[Hit] | None = None,
        where: Filter | None = None,
        allow: Allow | None = None,
        tiers: Tiers | None = None,
        recall: float | None = None,
        on_stage: OnStage | None = None,
    ) -> Answer:
        """As `ask`, without blocking the event loop: the work is done in a thread, which also calls `on_stage`."""
        return await asyncio.to_thread(
            self.ask,
            query,
            k,
            max_context_tokens=max_context_tokens,
            deadline_ms=deadline_ms,
            min_score=min_score,
            precision=precision,
            candidates=candidates,
            where=where,
            allow=allow,
            tiers=tiers,
            recall=recall,
            on_stage=on_stage,
        )

    @checked_call
    async def aask_batch(
        self,
        queries: Sequence[str | Query],
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        threads: int = 1,
        where: Filter | None = None,
        allow: Allow | None = None,
        tiers: Tiers | None = None,
        recall: float | None = None,
    ) -> list[Answer]:
        """As `ask_batch`, without blocking the event loop."""
        return await asyncio.to_thread(
            self.ask_batch,
            queries,
            k,
            max_context_tokens=max_context_tokens,
            deadline_ms=deadline_ms,
            min_score=min_score,
            precision=precision,
            threads=threads,
            where=where,
            allow=allow,
            tiers=tiers,
            recall=recall,
        )

    @checked_call
    def warm_up(self, query: str | Query | None = None) -> None:
        """Answer a query without a deadline, so that models load, kernels compile, and the stages' costs are known.

        Stages whose calls may cost money (a `Reranker`) do not run. Where `cache` holds costs of these stages on this
        machine they are taken from there, and one answer is enough; else three are made, and the costs are saved there.

        Args:
            query: one that finds passages; by default words of the index's first passage.
        """
        query = _probe(self.texts) if query is None else query
        stages = [stage for stage in self.stages if getattr(stage, "warms_up", True)]
        file = None if self.cache is None else self.cache / _COSTS
        known = file is not None and Costs().load(file, costs_name(self.stages))
        warming = Pipeline(stages, k=self.k, texts=self.texts, count_tokens=self.count_tokens, clock=self._clock)
        warming.ask(query)
        if known and file is not None:
            self.costs.load(file, costs_name(self.stages))
            return
        warming.costs = self.costs  # the first answer also loaded and compiled, so its costs are dropped
        warming.ask(query)
        warming.ask(query)
        if file is not None and not self.costs.save(file, costs_name(self.stages)):
            _log.info("the costs of stages could not be saved to %s", file)

    def _state(
        self, query: str | Query, k: int | None, tokens: int | None, deadline_ms: float | None, started: float
    ) -> State:
        k = self.k if k is None else k
        tokens = self.max_context_tokens if tokens is None else tokens
        milliseconds = self.deadline_ms if deadline_ms is None else deadline_ms
        if not 1 <= k <= _MOST:
            raise InputError(f"k is {k!r}; ask for 1 to {_MOST} passages")
        if tokens is not None and tokens < 1:
            raise InputError(f"max_context_tokens is {tokens!r}; give a whole number of at least 1, or leave it out")
        if milliseconds is not None and milliseconds < 0:
            raise InputError(f"deadline_ms is {milliseconds!r}; give a time above 0, or 0 for no limit")
        asked = query if isinstance(query, Query) else Query("", query)
        limit = float(milliseconds) if milliseconds and milliseconds < _FOREVER else None
        deadline = Deadline(limit, started, self._clock)
        return State(asked, k, tokens, deadline, self.costs, texts=self.texts)

    def _limit(self, state: State, min_score: float | None, precision: float | None) -> None:
        """Note what passages must reach.

        Raises:
            InputError: a limit is not in [0, 1].
            ConfigError: no stage knows probabilities.
        """
        given = (
            ("min_score", self.min_score if min_score is None else min_score),
            ("precision", self.precision if precision is None else precision),
        )
        for name, value in given:
            if value is None or not real(name, value, 0, 1):
                continue
            if not any(getattr(stage, "calibration", None) is not None for stage in self.stages):
                raise ConfigError(
                    f"{name} is {value:g}, and no stage of the pipeline knows how probable it is that a passage is "
                    "relevant: use a reranker (--rerank; [ask] rerank), and calibrate it where it is not "
                    "thresher-context (`thresher calibrate scores`)"
                )
            setattr(state, name, value)

    def _run(self, stage: Stage, later: Sequence[Stage], state: State) -> tuple[StageReport, float]:
        """One stage's report and seconds."""
        deadline = state.deadline
        stop_if_abandoned()
        if deadline.limited and state.found:
            deadline.reserved = sum(other.predict(state) for other in later if other.name in _KEPT_FREE)
            reason = deadline.refuses(stage.predict(state))
            if reason:
                self.costs.relax(getattr(stage, "work", stage.name))
                return StageReport(stage.name, "skipped", False, reason), 0.0
        started, found, before = self._clock(), state.found, copy.copy(state)
        signals, confidences = dict(state.signals), dict(state.confidences)
        try:
            report = stage.run(state)
        except AbandonedError:
            raise
        except Exception as err:
            if not found or self.on_error == "raise":
                raise
            _log.warning("stage %s failed; the ranking is that of the stage before: %s", stage.name, err)
            state.ranking, state.selected, state.withheld = before.ranking, before.selected, before.withheld
            state.signals, state.confidences = signals, confidences
            message = str(err) if isinstance(err, ThresherError) else f"{type(err).__name__}: {err}"
            report = StageReport(stage.name, "failed", False, message, error=err)
        return report, self._clock() - started


def _reopened(kind: type[Pipeline], opened: dict[str, Any]) -> Pipeline:
    """What a pickled pipeline becomes that was opened."""
    return kind.open(**opened)


def _remade(kind: type[Pipeline], state: dict[str, Any]) -> Pipeline:
    """What a pickled pipeline of stages becomes."""
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


def _probe(texts: PassageSource | None) -> str:
    """Some words of a passage, as a query that finds something; empty where there is no passage."""
    passage = texts.any_passage() if isinstance(texts, AnyIndex) else None
    return "" if passage is None else " ".join(passage.contents.split()[:8])
