"""`Pipeline.open`: the stages that an index, the settings and what is installed allow.

A part that is `auto` is taken as the settings name it, and left out with a reason where it is not available; a part
that the caller names must be.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from thresher.build.recipe import AskStep, Recipe, load_recipe
from thresher.context.pruner import ContextPruner
from thresher.context.scorers import SentenceScorer
from thresher.errors import ConfigError, DataNotFoundError, InputError, MissingExtraError
from thresher.index.commit import CALIBRATION
from thresher.models.two_headed import is_saved
from thresher.pipeline.interpolate import InterpolateStage
from thresher.pipeline.rerank import RerankerStage, RerankStage
from thresher.pipeline.search import SearchStage
from thresher.pipeline.select import SelectStage
from thresher.rerank.calibration import ScoreCalibration, shipped_for
from thresher.rerank.cross_encoder import context_judge
from thresher.rerank.judges import judge_from_name
from thresher.rerank.reranker import Reranker
from thresher.search.any_index import AnyIndex
from thresher.search.index import Index
from thresher.text.sentences import split_sentences
from thresher.vectors.store import VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from thresher.pipeline.search import Searches
    from thresher.pipeline.shared import QueryEncoder
    from thresher.pipeline.stage import Stage
    from thresher.rerank.judges import Judge
    from thresher.search.any_index import By

_log = logging.getLogger(__name__)
RATINGS = "pointwise"
"""The plan that rates passages one by one, as a stage that reads them does."""
AUTO = "auto"
_NO_VECTORS = "shards are searched by weighted terms only; their vectors are not compared"
NOT_ASKED = "turned off"
"""Why a stage is off that somebody turned off."""
Vectors = str | Path | VectorStore | None
Scorer = str | Path | ContextPruner | SentenceScorer | None
T = TypeVar("T")


class Parts:
    """Opens the stages of a pipeline, each model once.

    Args:
        index: what is searched.
        settings: how the stages work.
        device: for models.
        count_tokens: tokens of a text; None for an approximation, or a `ContextPruner`'s own.

    Attributes:
        off: the stages that are left out, and why.
    """

    def __init__(
        self, index: AnyIndex | Searches, settings: AskStep, device: str, count_tokens: Callable[[str], int] | None
    ) -> None:
        self.index, self.settings, self.device, self.count_tokens = index, settings, device, count_tokens
        self.off: dict[str, str] = {}
        self._scorers: dict[str, SentenceScorer] = {}

    def stages(
        self, vectors: Vectors, rerank: Scorer | Reranker, context: Scorer, query_encoder: QueryEncoder | None
    ) -> list[Stage]:
        """The stages in order; arguments as `Pipeline.open`."""
        settings = self.settings
        found: list[Stage | None] = [
            SearchStage(
                self.index,
                depth=settings.depth,
                tiers=settings.tiers,
                first=self._first(),
                recall=settings.recall or None,
                query_encoder=query_encoder,
            ),
            self._part("interpolate", vectors, AUTO, lambda wanted: self._interpolate(wanted, query_encoder)),
            self._part("rerank", rerank, settings.rerank, self._rerank),
            self._part("select", context, settings.context, self._select),
        ]
        return [stage for stage in found if stage is not None]

    def _first(self) -> By:
        """How candidates are found: as the settings say, but by weighted terms where the index compares no vectors."""
        whole = isinstance(self.index, Index) or not isinstance(self.index, AnyIndex)
        return self.settings.first if whole else "sparse"

    def _part(self, stage: str, wanted: T, default: str, opened: Callable[[T], Stage | None]) -> Stage | None:
        """The opened stage; None, with the reason noted, where it is turned off or not available by default."""
        automatic = isinstance(wanted, str) and wanted == AUTO
        wanted = cast("T", default) if automatic else wanted
        if wanted is None or (isinstance(wanted, str) and not wanted):
            self.off[stage] = NOT_ASKED
            return None
        try:
            return opened(wanted)
        except (MissingExtraError, DataNotFoundError) as err:
            if not automatic:
                raise
            self.off[stage] = str(err)
            return None

    def _interpolate(self, wanted: Vectors, encoder: QueryEncoder | None) -> Stage | None:
        index = self.index if isinstance(self.index, Index) else None
        own = False
        if isinstance(wanted, VectorStore):
            store = wanted
        elif wanted is not None and not (isinstance(wanted, str) and wanted == AUTO):
            store = VectorStore.open(wanted)
        elif index is not None and index.vectors is not None:
            store, own = index.vectors, True
        else:
            why = "the index has no vectors; build it with a [vectors] table in its recipe"
            self.off["interpolate"] = _NO_VECTORS if isinstance(self.index, AnyIndex) and index is None else why
            return None
        settings = self.settings
        return InterpolateStage(
            store,
            encoder or store.open_encoder(self.device),
            alpha=settings.alpha,
            feedback=settings.feedback,
            feedback_weight=settings.feedback_weight,
            index=index,
            neighbours=settings.neighbours if own and settings.first == "sparse" else 0,
            tiers=settings.tiers,
        )

    def _rerank(self, wanted: Scorer | Reranker) -> Stage:
        if isinstance(wanted, Reranker):
            return RerankerStage(wanted)
        if isinstance(wanted, str) and wanted.partition(":")[0] == "cross-encoder" and not Path(wanted).exists():
            reranker = Reranker.from_name(wanted, device=self.device)
            known = self._calibration(reranker.judge.name)
            if known is not None:
                known.check(reranker.judge.name, RATINGS, str(getattr(reranker.judge, "fingerprint", "")))
                reranker.thresholds = reranker.thresholds._replace(calibration=known)
            return RerankerStage(reranker)
        settings, scorer = self.settings, self._scorer(wanted)
        splitter = wanted.splitter if isinstance(wanted, ContextPruner) else split_sentences
        return RerankStage(
            scorer,
            splitter=splitter,
            read=settings.read,
            read_tokens=settings.read_tokens,
            weights=settings.weights,
            calibration=self._calibration(scorer.name),
        )

    def _calibration(self, judge: str) -> ScoreCalibration | None:
        """What the ratings of a model mean: as the index says, else as is known of a model that ships."""
        file = self.index.path / CALIBRATION if isinstance(self.index, Index) else None
        found = ScoreCalibration.read(file) if file is not None and file.is_file() else None
        if found is not None and (found.judge, found.plan, found.signal) != (judge, RATINGS, "score"):
            _log.warning("%s is of %s with %s, and not used for %s", file, found.judge, found.plan, judge)
            found = None
        return shipped_for(judge, RATINGS) if found is None else found

    def _select(self, wanted: Scorer) -> Stage:
        settings, given = self.settings, wanted if isinstance(wanted, ContextPruner) else None
        if self.count_tokens is None and given is not None:
            self.count_tokens = given.count_tokens
        more = {} if self.count_tokens is None else {"count_tokens": self.count_tokens}
        return SelectStage(
            self._scorer(wanted),
            splitter=split_sentences if given is None else given.splitter,
            threshold=settings.threshold,
            repeats=settings.repeats,
            min_keep=settings.min_keep,
            min_confidence=settings.min_confidence,
            **more,
        )

    def _scorer(self, wanted: object) -> SentenceScorer:
        if isinstance(wanted, ContextPruner):
            return wanted.scorer
        if isinstance(wanted, str | Path):
            name = str(wanted)
            if name not in self._scorers:
                self._scorers[name] = SentenceScorer.from_name(name, device=self.device)
            return self._scorers[name]
        if isinstance(wanted, SentenceScorer):
            return wanted
        raise ConfigError(f"{wanted!r} is neither the name of a model nor a ContextPruner or sentence scorer")


def rating_judge(name: str, device: str) -> Judge:
    """What rates single passages as the rerank stage of this name does; `thresher-context` where it is empty.

    Raises:
        ConfigError: its scores of passages cannot be calibrated.
    """
    kind = name.partition(":")[0]
    if kind == "cross-encoder":
        return judge_from_name(name, device=device)
    if not name or name == "thresher-context":
        return context_judge(device=device)
    if kind == "two-headed" or is_saved(Path(name)):
        return context_judge(name.removeprefix("two-headed:"), device=device)
    raise ConfigError(
        f"the reranker {name!r} cannot be calibrated here; thresher-context, two-headed models and cross-encoder:NAME "
        "can, others by a run of `thresher rerank`"
    )


def open_index(index: str | Path | AnyIndex | Searches) -> AnyIndex | Searches:
    """The index at a path, or the one given.

    Raises:
        ArtifactError: there is none.
        InputError: what was given does not search.
    """
    if isinstance(index, str | Path):
        return Index.open(index)
    if not hasattr(index, "search"):
        raise InputError(
            f"{index!r} is not an index: give the directory of one, an Index, or an object with search(query, k)"
        )
    return index


def settings_of(given: AskStep | Recipe | str | Path | None, index: AnyIndex | Searches) -> AskStep:
    """The settings given, or those that the index was built with.

    Raises:
        ConfigError: a recipe of that name is wrong, or is not there.
    """
    if isinstance(given, AskStep):
        return given
    if given is not None:
        return (given if isinstance(given, Recipe) else load_recipe(given)).ask
    return index.recipe.ask if isinstance(index, AnyIndex) else AskStep()
