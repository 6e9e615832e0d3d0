"""The pipelines that a certificate is about, as runs of one index.

    lexical        BM25's terms alone, of an index that has them beside those of a learned encoder
    sparse         `Index.search`
    interpolated   a `Pipeline` before its reranking
    reranked       a `Pipeline` before its sentence selection
    context        the passages that the whole `Pipeline` hands over; those of which no sentence is kept are left out

One `ask` of a pipeline gives the last three. Models are opened once, queries are encoded once, and a passage is read
once with a query, however many masks are tried: certifying ten fractions costs ten searches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.checks import shown
from thresher.context.scorers import SentenceScorer
from thresher.encode.bm25_queries import Bm25QueryEncoder
from thresher.encode.hybrid_queries import HybridQueryEncoder
from thresher.errors import ArtifactError, InputError
from thresher.evaluate.trec import untied
from thresher.pipeline.open import AUTO
from thresher.pipeline.pipeline import Pipeline
from thresher.ranking import Ranking, Run
from thresher.search.effort import NAMES as EFFORT_NAMES
from thresher.search.effort import Effort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.build.recipe import AskStep
    from thresher.context.scorers import PassageScores, SplitPassage
    from thresher.pipeline.shared import QueryEncoder
    from thresher.pipeline.stage import StageReport, State
    from thresher.records import Query, SparseBatch
    from thresher.search.index import Index
    from thresher.search.queries import Tiers

PIPELINES = ("lexical", "sparse", "interpolated", "reranked", "context")
STAGES = {"interpolated": "interpolate", "reranked": "rerank", "context": "select"}
"""The stage that makes a pipeline what it is."""


def runs_of(
    index: Index,
    queries: Sequence[Query],
    pipelines: Sequence[str] = PIPELINES,
    k: int = 1000,
    *,
    allow: NDArray[np.bool_] | None = None,
    tiers: Tiers | None = None,
) -> dict[str, Run]:
    """The runs of some pipelines over an index.

    Args:
        index: what is searched.
        queries: what is asked, by qid.
        pipelines: which, of `PIPELINES`.
        k: results a query at most.
        allow: bool[n] by passage number: which passages may be found; None for all. Statistics stay those of all.
        tiers: as in `Index.search`; None for what each pipeline does by default.

    Raises:
        InputError: there is no such pipeline, or the index lacks what it needs.
    """
    return Asked(index, queries, k).runs(pipelines, allow=allow, tiers=tiers)


@dataclass(frozen=True, slots=True)
class Changed:
    """How an index is asked, where that is not as it is by default.

    Attributes:
        search: arguments of `Index.search`: `effort`.
        ask: settings of the pipeline, fields of a recipe's `[ask]` table.
    """

    search: Mapping[str, Any] = field(default_factory=dict)
    ask: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Changed:
        """The change that `NAME=VALUE` names, or several with commas between them.

        Raises:
            InputError: it is none.
        """
        from thresher.build.recipe import AskStep

        effort: list[str] = []
        ask: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name in EFFORT_NAMES and equals:
                effort.append(part)
            elif name in AskStep.model_fields and equals:
                ask[name] = value if AskStep.model_fields[name].annotation is str else _plain(value)
            else:
                known = ", ".join([*EFFORT_NAMES, *AskStep.model_fields])
                raise InputError(f"{shown(part)} is not a setting NAME=VALUE of one of: {known}")
        return cls({"effort": Effort.parse(",".join(effort))} if effort else {}, ask)

    def concerns(self, pipeline: str) -> bool:
        """Whether it can change this pipeline's run."""
        return bool(self.ask) if pipeline in STAGES else bool(self.search)


AS_BUILT = Changed()


def _plain(value: str) -> Any:
    """A number, where it is one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


@dataclass(slots=True)
class Models:
    """The models of pipelines, with what they were asked: opened once, also for several indexes.

    Attributes:
        scorers: by the name that settings give them.
        encoders: of queries, by fingerprint.
    """

    scorers: dict[str, SentenceScorer] = field(default_factory=dict)
    encoders: dict[str, _EncodedOnce] = field(default_factory=dict)


class Asked:
    """Some queries, asked of one index in several ways.

    Args:
        index: what is searched.
        queries: what is asked, by qid.
        k: results a query at most.
        told: called after each query of a pipeline and each batch of searches, with the number of queries.
        models: those that are open already.
        device: for models.
    """

    def __init__(
        self,
        index: Index,
        queries: Sequence[Query],
        k: int,
        *,
        told: Callable[[int], object] = lambda _: None,
        models: Models | None = None,
        device: str = "auto",
    ) -> None:
        self.index, self.queries, self.k, self.told, self.device = index, tuple(queries), k, told, device
        self.models = Models() if models is None else models
        self._pipelines: dict[str, Pipeline] = {}

    def lacking(self, pipeline: str) -> str:
        """Why the index cannot be asked by a pipeline; empty where it can.

        Raises:
            InputError: there is no such pipeline.
        """
        if pipeline not in PIPELINES:
            raise InputError(f"unknown pipeline {shown(pipeline)}; known are: {', '.join(PIPELINES)}")
        try:
            encoder = self.index.encoder
        except ArtifactError as err:
            return str(err)
        if pipeline == "lexical" and not isinstance(encoder, HybridQueryEncoder | Bm25QueryEncoder):
            return "the index has no BM25 terms"
        if pipeline not in STAGES:
            return ""
        stage, opened = STAGES[pipeline], self.pipeline(AS_BUILT)
        there = any(one.name == stage for one in opened.stages)
        return "" if there else opened.off.get(stage, f"there is no stage {stage}")

    def available(self) -> list[str]:
        """The pipelines that the index can be asked by and that differ: of BM25 alone `lexical` is `sparse`."""
        same = {"lexical"} if isinstance(self.index.encoder, Bm25QueryEncoder) else set[str]()
        return [name for name in PIPELINES if name not in same and not self.lacking(name)]

    def runs(
        self,
        pipelines: Sequence[str],
        *,
        allow: NDArray[np.bool_] | None = None,
        tiers: Tiers | None = None,
        changed: Changed = AS_BUILT,
    ) -> dict[str, Run]:
        """The runs of some pipelines, each with its own order as scores; arguments as `runs_of`.

        Raises:
            InputError: there is no such pipeline, or the index lacks what it needs.
        """
        for name in pipelines:
            if reason := self.lacking(name):
                raise InputError(f"the pipeline {name} cannot be asked of {self.index.path}: {reason}")
        found = {name: self._searched(name, allow, tiers, changed) for name in pipelines if name not in STAGES}
        if wanted := [name for name in pipelines if name in STAGES]:
            found |= self._answered(wanted, allow, tiers, changed)
        return {name: untied(found[name]) for name in pipelines}

    def _searched(self, name: str, allow: NDArray[np.bool_] | None, tiers: Tiers | None, changed: Changed) -> Run:
        rows = self._lexical if name == "lexical" else self._sparse
        found = self.index.search_batch(rows, self.k, tiers=tiers or "auto", allow=allow, **changed.search)
        self.told(len(self.queries))
        return Run({query.qid: ranking for query, ranking in zip(self.queries, found.rankings.values(), strict=True)})

    @cached_property
    def _texts(self) -> list[str]:
        return [query.text for query in self.queries]

    @cached_property
    def _sparse(self) -> SparseBatch | Sequence[Query]:
        """The queries' terms; of an index with two tiers, whose encoders may differ, the queries."""
        return self.queries if self.index.tiered else self.index.encoder.encode_queries(self._texts)

    @cached_property
    def _lexical(self) -> SparseBatch:
        encoder = self.index.encoder
        lexical = encoder.lexical if isinstance(encoder, HybridQueryEncoder) else encoder
        return lexical.encode_queries(self._texts)

    def pipeline(self, changed: Changed, tiers: Tiers | None = None) -> Pipeline:
        """The index's pipeline without a deadline, with models that remember what they were asked."""
        settings = self._settings(changed, tiers)
        key = settings.model_dump_json()
        if key not in self._pipelines:
            self._pipelines[key] = self._opened(settings)
        return self._pipelines[key]

    def _opened(self, settings: AskStep) -> Pipeline:
        scorers, vectors = self.models.scorers, self.index.vectors
        encoder = "" if vectors is None else vectors.encoder_fingerprint
        opened = Pipeline.open(
            self.index,
            settings=settings,
            rerank=scorers.get(settings.rerank, AUTO),
            context=scorers.get(settings.context, AUTO),
            query_encoder=self.models.encoders.get(encoder),
            device=self.device,
        )
        opened.on_error, opened.deadline_ms = "raise", None
        for stage in opened.stages:
            self._remember(stage, settings.rerank if stage.name == "rerank" else settings.context, encoder)
        return opened

    def _settings(self, changed: Changed, tiers: Tiers | None) -> AskStep:
        from thresher.build.recipe import AskStep, checked

        update = {**changed.ask, **({} if tiers is None else {"tiers": tiers})}
        own = self.index.recipe.ask
        return checked(AskStep, {**own.model_dump(), **update}, "settings") if update else own

    def _remember(self, stage: Any, scorer: str, encoder: str) -> None:
        """Let the models of a stage keep what they are asked."""
        scorers, encoders = self.models.scorers, self.models.encoders
        if hasattr(stage, "reader"):
            if scorer not in scorers:
                scorers[scorer] = _Remembering(stage.reader.scorer)
            stage.reader.scorer = scorers[scorer]
        if stage.name == "interpolate":
            if encoder not in encoders:
                encoders[encoder] = _EncodedOnce(stage.encoder, self._texts)
            stage.encoder = encoders[encoder]
        elif stage.name == "search" and stage.first != "sparse" and stage.query_encoder is None:
            encoders[encoder] = _EncodedOnce(self.index.dense_encoder, self._texts)
            stage.query_encoder = encoders[encoder]

    def _answered(
        self, wanted: Sequence[str], allow: NDArray[np.bool_] | None, tiers: Tiers | None, changed: Changed
    ) -> dict[str, Run]:
        """The runs of the pipelines that one `ask` a query gives."""
        whole = self.pipeline(changed, tiers)
        last = max(PIPELINES.index(name) for name in wanted)
        later = [STAGES[name] for name in PIPELINES[last + 1 :]]
        asked = whole.without(*(stage.name for stage in whole.stages if stage.name in later))
        rankings: dict[str, dict[str, Ranking]] = {name: {} for name in wanted}
        of_stage = {STAGES[name]: name for name in wanted if name != "context"}
        for query in self.queries:

            def keep(report: StageReport, state: State, _: float, qid: str = query.qid) -> None:
                if report.stage in of_stage:
                    rankings[of_stage[report.stage]][qid] = state.ranking.cut(self.k)

            answer = asked.ask(query, allow=allow, on_stage=keep)
            if "context" in rankings:
                handed = [one.docno for one in answer.passages if one.spans][: self.k]
                rankings["context"][query.qid] = Ranking(handed, np.arange(len(handed), 0, -1.0))
            self.told(1)
        return {name: Run(found) for name, found in rankings.items()}


class _Remembering(SentenceScorer):
    """A scorer that reads a passage with a query once."""

    def __init__(self, scorer: SentenceScorer) -> None:
        self.scorer, self.name, self.presets = scorer, scorer.name, scorer.presets
        self._known: dict[tuple[str, SplitPassage, bool], PassageScores] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "scorer":  # before __init__, as in unpickling
            raise AttributeError(name)
        return getattr(self.scorer, name)

    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order."""
        keys = [(query, passage, passage.states is not None) for query, passage in pairs]
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._known}
        if new:
            self._known |= zip(new, self.scorer.score(list(new.values())), strict=True)
        return [self._known[key] for key in keys]

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`."""
        return self.scorer.count_tokens(text)


class _EncodedOnce:
    """The query side of a dense encoder, with the vectors of some queries."""

    def __init__(self, encoder: QueryEncoder, texts: Sequence[str]) -> None:
        self.encoder = encoder
        distinct = list(dict.fromkeys(texts))
        vectors = np.asarray(encoder.encode_queries(distinct)) if distinct else ()
        self._known = dict(zip(distinct, vectors, strict=True))

    def __getattr__(self, name: str) -> Any:
        if name == "encoder":
            raise AttributeError(name)
        return getattr(self.encoder, name)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, float[n, dimensions]."""
        if not all(text in self._known for text in texts):
            return self.encoder.encode_queries(texts)
        return np.stack([self._known[text] for text in texts])
