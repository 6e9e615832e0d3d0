"""`Pipeline`: the stages composed, under one deadline and with one account.

Stages run in the order of `answer.STAGES` and get the time there is in that order: before each, what it is predicted to
cost is compared with what is left, and a stage that does not fit is left out while those after it are still tried. So
when time runs short sentence selection goes first, then ranking, then interpolation; searching always runs. Costs are
learnt from what stages took (`thresher.pipeline.costs`) and measured when a pipeline is opened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.artifact import read_manifest
from thresher.build.recipe import AskStep, Recipe, load_recipe
from thresher.errors import InputError, ThresherError
from thresher.pipeline import stages
from thresher.pipeline.answer import STAGES, Answer, AnswerPassage, StageReport
from thresher.pipeline.costs import Costs, Deadline, costs_path
from thresher.pipeline.parts import AUTO, Reader, check_index, open_parts
from thresher.records import Hit, Usage
from thresher.search import Index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.context import ContextPruner, PrunedPassage
    from thresher.context.scoring import SentenceScorer
    from thresher.pipeline.parts import QuestionEncoder
    from thresher.pipeline.stages import Counts, Course
    from thresher.rerank.reranker import Reranker
    from thresher.vectors.store import VectorStore

_log = logging.getLogger(__name__)


class Pipeline:
    """Answers queries from an index. Safe to share between threads, which get the answers one thread gets.

    Opening loads every part, asks one query to warm up, and measures what stages cost here.

    Args:
        index: the directory of an index, an `Index`, or any object with its `search`.
        vectors: the directory of a vector store, a `VectorStore`, `auto` for the one inside the index, or
            None for none.
        rerank: the ranker: a `Reranker`, a `ContextPruner` or sentence scorer (it is read once for both), a name as in
            `[ask] rank`, `auto` for the one the settings name where it is installed, or None for none.
        context: what chooses sentences: a `ContextPruner`, a sentence scorer, a name, `auto`, or None.
        settings: how stages work: an `AskStep`, a `Recipe` or the path or name of one (its `[ask]` table); by default
            what the index was built with.
        query_encoder: makes a query's vector, where the vectors are not of the embedded MiniLM.
        count_tokens: the reader's tokenizer: how many tokens a text costs. An approximation by default.
        device: of models in this process.
        warm: ask a query at once; without it the first query loads and compiles what is left.
        clock: seconds that only grow.

    Raises:
        ArtifactError: there is no such index.
        ConfigError: a setting is not understood.
        MissingExtraError: a part that was named, not `auto`, needs what is not installed.
    """

    def __init__(
        self,
        index: str | Path | Any,
        *,
        vectors: str | Path | VectorStore | None = AUTO,
        rerank: str | Path | Reranker | ContextPruner | SentenceScorer | None = AUTO,
        context: str | Path | ContextPruner | SentenceScorer | None = AUTO,
        settings: AskStep | Recipe | str | Path | None = None,
        query_encoder: QuestionEncoder | None = None,
        count_tokens: Callable[[str], int] | None = None,
        device: str = "cpu",
        warm: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.settings = settings_of(settings, index)
        self._clock = clock
        self.parts = open_parts(
            index,
            vectors,
            rerank,
            context,
            self.settings,
            query_encoder=query_encoder,
            count_tokens=count_tokens,
            device=device,
        )
        check_index(self.parts.first)
        self.costs = Costs()
        if warm:
            self._warm()

    @classmethod
    def open(cls, index: str | Path, **parts: Any) -> Pipeline:
        """`Pipeline(index, ...)`, spelled as other parts of thresher are opened."""
        return cls(index, **parts)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages this pipeline has."""
        return tuple(stage for stage in STAGES if stage not in self.parts.off)

    @property
    def off(self) -> dict[str, str]:
        """The stages it does not have, and why."""
        return dict(self.parts.off)

    def ask(
        self,
        query: str,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        hits: Sequence[Hit] | None = None,
    ) -> Answer:
        """Answer a query. What is not given is as the settings say.

        Args:
            query: any text.
            k: passages to hand over.
            max_context_tokens: that they may cost together, titles included; never exceeded.
            deadline_ms: milliseconds the answer may take. A stage starts only if its predicted cost fits, the ranker
                reads as many passages as fit, and the answer says what was left out. 0 for no limit.
            hits: candidates with texts, best first, in place of a search.

        Raises:
            InputError: an argument is out of its range.
            ThresherError: searching failed; or any stage did, where the settings say `on_error="raise"`.
        """
        started = self._clock()
        course = self._course(query, k, max_context_tokens, deadline_ms, started)
        usage, reports = Usage(), []
        pruned: list[PrunedPassage] | None = None
        for stage in STAGES:
            report, account, chosen = self._run(stage, course, hits)
            reports.append(report)
            pruned = chosen if chosen is not None else pruned
            if account is not None:
                usage = usage.with_stage(stage, account[0], **account[1])
        passages = self._passages(course, pruned, reports)
        confidences = [one.confidence for one in passages if one.confidence is not None]
        return Answer(
            query,
            passages,
            tuple(course.docnos[place] for place in course.order),
            max(confidences, default=None),
            tuple(reports),
            usage,
            (self._clock() - started) * 1000,
            course.deadline.milliseconds,
        )

    def ask_batch(
        self,
        queries: Sequence[str],
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        threads: int = 1,
    ) -> list[Answer]:
        """Answer many queries, in their order, `threads` at a time; arguments as `ask`, for each query.

        A model on a CPU uses all cores for one query, so threads help where a server ranks or an index is large.
        """
        if threads < 1:
            raise InputError(f"threads is {threads!r}; it is at least 1")

        def one(query: str) -> Answer:
            return self.ask(query, k, max_context_tokens=max_context_tokens, deadline_ms=deadline_ms)

        if threads == 1:
            return [one(query) for query in queries]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, queries))

    async def aask(
        self,
        query: str,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        hits: Sequence[Hit] | None = None,
    ) -> Answer:
        """As `ask`, without blocking the event loop: the work is done in a thread."""
        return await asyncio.to_thread(
            self.ask, query, k, max_context_tokens=max_context_tokens, deadline_ms=deadline_ms, hits=hits
        )

    async def aask_batch(
        self,
        queries: Sequence[str],
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        deadline_ms: float | None = None,
        threads: int = 1,
    ) -> list[Answer]:
        """As `ask_batch`, without blocking the event loop."""
        return await asyncio.to_thread(
            self.ask_batch,
            queries,
            k,
            max_context_tokens=max_context_tokens,
            deadline_ms=deadline_ms,
            threads=threads,
        )

    def _course(
        self, query: str, k: int | None, tokens: int | None, deadline_ms: float | None, started: float
    ) -> Course:
        if not isinstance(query, str):
            raise InputError(f"a query is a text, not {type(query).__name__}")
        k = self.settings.k if k is None else k
        tokens = self.settings.max_context_tokens or None if tokens is None else tokens
        milliseconds = self.settings.deadline_ms if deadline_ms is None else deadline_ms
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one passage")
        if tokens is not None and tokens < 0:
            raise InputError(f"max_context_tokens is {tokens}; give 0 or more, or None for no limit")
        if not milliseconds >= 0:
            raise InputError(f"deadline_ms is {milliseconds}; give a time above 0, or 0 for no limit")
        deadline = Deadline(milliseconds or None, started, self._clock)
        return stages.Course(query, self.settings, k, tokens, deadline, self.costs)

    def _run(
        self, stage: str, course: Course, hits: Sequence[Hit] | None
    ) -> tuple[StageReport, tuple[float, Counts] | None, list[PrunedPassage] | None]:
        """One stage: its report, its seconds and counts where it ran, and what it chose of the passages."""
        if stage in self.parts.off:
            return StageReport(stage, "off", True, self.parts.off[stage]), None, None
        course.reserved = sum(self.costs.predict(later) for later in _AFTER[stage] if later not in self.parts.off)
        if stage != "search":
            needed, left = self._needed(stage, course), course.left()
            if needed > left:
                self.costs.relax(stage)
                reason = f"predicted to take {needed:.0f} ms, {max(0.0, left):.0f} ms are left"
                return StageReport(stage, "skipped", False, reason), None, None
        started, course.apart = self._clock(), 0.0
        before = list(course.order)
        chosen: list[PrunedPassage] | None = None
        try:
            if stage == "search":
                report, counts = stages.search(course, self.parts.first, hits)
            elif stage == "interpolate":
                report, counts = stages.interpolate(course, _present(self.parts.vectors), self.parts.first)
            elif stage == "rank":
                ranker = _present(self.parts.ranker)
                by = stages.rank_by_reader if isinstance(ranker, Reader) else stages.rank_by_reranker
                report, counts = by(course, ranker)
            else:
                reader = _present(self.parts.context)
                report, counts, chosen = stages.context(
                    course, reader, self.parts.pruner, shared=reader is self.parts.ranker
                )
        except Exception as err:
            if stage == "search" or self.settings.on_error == "raise":
                raise
            _log.warning("the stage %s failed, and its ranking is that of the stage before: %s", stage, err)
            course.order = before
            said = str(err) if isinstance(err, ThresherError) else f"{type(err).__name__}: {err}"
            return StageReport(stage, "failed", False, said, err), (self._clock() - started, {}), None
        seconds = self._clock() - started
        if stage in ("search", "interpolate"):
            self.costs.observe(stage, seconds * 1000 - course.apart)
        elif stage == "context" and not counts["forwards"]:
            self.costs.observe(stage, seconds * 1000)
        return report, (seconds, counts), chosen

    def _needed(self, stage: str, course: Course) -> float:
        """Milliseconds that the least a stage does is predicted to take; 0 for what was never seen."""
        if not course.order:
            return 0.0
        if stage == "rank" and isinstance(self.parts.ranker, Reader):
            tokens = [self.parts.ranker.tokens(course.hit(place)) for place in course.order[:2]]
            return self.costs.predict("rank", stages.units(tokens))
        return self.costs.predict(stage)

    def _passages(
        self, course: Course, pruned: list[PrunedPassage] | None, reports: list[StageReport]
    ) -> tuple[AnswerPassage, ...]:
        """The first k with what is kept of them."""
        if pruned is None:
            pruned = stages.whole(course, self.parts.pruner)
        selected = reports[-1].outcome in ("done", "cut")
        out = []
        for rank, (place, one) in enumerate(zip(course.order[: course.k], pruned, strict=True), 1):
            said = course.read.get(place)
            scores = {name: known[place] for name, known in course.scores.items() if place in known}
            sure = max(said.sentences, default=0.0) if said is not None and selected else None
            hit = course.hit(place)
            out.append(AnswerPassage(one.docno, rank, scores, sure, course.tier(place), one, hit.metadata))
        return tuple(out)

    def _warm(self) -> None:
        """Load and compile what a query needs, and learn what its stages cost."""
        probe = _probe(self.parts.first)
        kept = self.costs.load(costs_path(), self._costs_name)
        external = self.parts.ranker is not None and not isinstance(self.parts.ranker, Reader)
        ranker = self.parts.ranker
        if external:  # a server's calls cost money
            self.parts.ranker, self.parts.off["rank"] = None, "warming up"
        settings, self.settings = self.settings, self.settings.model_copy(update={"read": 4, "on_error": "degrade"})
        try:
            for turn in range(1 if kept else 3):
                if turn == 1:
                    self.costs = Costs()  # the first query also paid for loading and compiling
                self.ask(probe, 4, deadline_ms=0)
        finally:
            self.settings = settings
            if external:
                self.parts.ranker = ranker
                del self.parts.off["rank"]
        if kept:
            self.costs = Costs()
            self.costs.load(costs_path(), self._costs_name)
        else:
            self.costs.save(costs_path(), self._costs_name)

    @property
    def _costs_name(self) -> str:
        """What costs are kept by: the models, and the threads they have."""
        reader = self.parts.ranker if isinstance(self.parts.ranker, Reader) else self.parts.context
        torch = getattr(getattr(reader, "scorer", None), "torch", None)
        threads = int(torch.get_num_threads()) if torch is not None else 1
        name = reader.scorer.name if isinstance(reader, Reader) else "none"
        return f"{name}, {threads} threads, vectors {'yes' if self.parts.vectors else 'no'}"


_AFTER = {stage: tuple(s for s in STAGES[place + 1 :] if s == "context") for place, stage in enumerate(STAGES)}
"""The stages whose cost is kept free while an earlier one runs: only the small one that prepares what is handed on."""


def settings_of(given: AskStep | Recipe | str | Path | None, index: Any) -> AskStep:
    """The settings that `Pipeline(index, settings=given)` takes.

    Raises:
        ArtifactError: there is no such index.
        ConfigError: a recipe of that name is wrong, or is not there.
    """
    if isinstance(given, AskStep):
        return given
    if isinstance(given, Recipe):
        return given.ask
    if given is not None:
        return load_recipe(given).ask
    if isinstance(index, str | Path):
        recipe = read_manifest(index, kind="index").fields.get("recipe") or {}
        return AskStep.model_validate(recipe.get("ask") or {})
    return AskStep()


def _present(part: Any) -> Any:
    if part is None:
        raise InputError("the pipeline lacks a part that it was opened with; open it again")
    return part


def _probe(first: Any) -> str:
    """A query that finds something: the first words of the first passage the index holds."""
    if not isinstance(first, Index) or not len(first):
        return "what is it"
    (passage,) = first.passages_at(np.zeros(1, np.int64))
    return " ".join(passage.contents.split()[:8]) or "what is it"
