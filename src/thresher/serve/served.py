"""`Hosted`: an index and its pipeline, kept open and up to date; `Served`: what one request sees of it.

A request sees one commit from beginning to end, and only the passages that its caller may see. The hosted index takes
up a new commit in the background; requests that began before it keep theirs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from thresher.context.pruner import ContextPruner
from thresher.errors import ThresherError
from thresher.pipeline.deadline import stop_if_abandoned
from thresher.pipeline.interpolate import InterpolateStage
from thresher.pipeline.pipeline import Pipeline
from thresher.pipeline.select import SelectStage
from thresher.publish import MANIFEST
from thresher.search.index import Index
from thresher.serve.certified import STATES, CertificateFile, stamp
from thresher.serve.work import left_ms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from thresher.context.pruned import Scores
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.pipeline.answer import Answer
    from thresher.pipeline.pipeline import OnStage
    from thresher.ranking import Ranking
    from thresher.records import Hit, Passage
    from thresher.search.any_index import By
    from thresher.search.queries import AnyQuery, Tiers
    from thresher.search.results import SearchRanking
    from thresher.serve.keys import Caller
    from thresher.serve.metrics import Metrics
    from thresher.serve.models import Models
    from thresher.serve.shadowing import Shadowing

_log = logging.getLogger(__name__)
_FALLBACK = "lexical"
"""What scores sentences where the index's pipeline has nothing that does."""
_STEP = 32
"""Passages whose sentences are scored at a time."""
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 300.0
"""Seconds until a commit that could not be taken up is tried again, at first and at most."""
_VIEWS = 64
"""Restricted views of a commit that are kept for later requests."""


class Hosted:
    """An open index with its pipeline.

    Args:
        name: what requests call it.
        path: its directory.
        metrics: what is counted.
        device: for models.
        cache: where the costs of stages are kept between processes.

    Attributes:
        now: the commit that requests get which come now.
        problem: why the last commit is not taken up; empty where it is.
        certificate: what was claimed of the index.
        shadow: what it is compared with; None for nothing.
    """

    def __init__(
        self, name: str, path: Path, metrics: Metrics, *, device: str = "auto", cache: Path | None = None
    ) -> None:
        self.name, self.path = name, path.absolute()  # errors name it, and are told without it
        self.device = device
        self._metrics, self._cache = metrics, cache
        self._refreshing = threading.Lock()
        self.problem, self._failed = "", _Failed()
        index = Index.open(self.path)
        self.now = Current(index, self._opened(index), _built(index))
        self._metrics.commit.labels(self.name).set(index.commit)
        self.certificate = CertificateFile(self.path, name)
        self.shadow: Shadowing | None = None
        self.note_certificate()

    @property
    def index(self) -> Index:
        """The last commit that was taken up, all of it."""
        return self.now.index

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline; `Pipeline.over` gives it the view of a request."""
        return self.now.pipeline

    def _opened(self, index: Index) -> Pipeline:
        """A pipeline over an index, which gets the encoder that the pipeline has loaded."""
        pipeline = Pipeline.open(index, device=self.device, cache=self._cache)
        for stage in pipeline.stages:
            if isinstance(stage, InterpolateStage) and index.vectors is not None:
                index.dense_encoder = stage.encoder
        return pipeline

    def note_certificate(self) -> None:
        """Count the state of the certificate, which may change without a commit."""
        now = self.certificate.now().state
        for state in STATES:
            self._metrics.certificate.labels(self.name, state).set(state == now)

    def warm_up(self) -> None:
        """Load the models, compile the kernels and measure what stages cost."""
        self.now.warm_up()

    def refresh(self) -> bool:
        """Take up the last commit; whether it is another than before. Keeps the one it has where that fails.

        Only requests that come afterwards see it. An index that was built again with other models gets another
        pipeline, which is warmed up first. What failed is tried again after some time only, which grows with each
        failure, or once the index is another: loading models takes seconds.

        Raises:
            ThresherError: the last commit cannot be opened, or the models that it needs.
        """
        with self._refreshing:
            now, index, found = self.now, self.now.index.pinned(), stamp(self.path / MANIFEST)
            if self._failed.waits(found):
                return False
            try:
                if not index.refresh():
                    self.problem, self._failed = "", _Failed()
                    return False
                built = _built(index)
                if built == now.built:
                    self.now = Current(index, now.pipeline, built)
                else:
                    fresh = Index.open(self.path)
                    later = Current(fresh, self._opened(fresh), _built(fresh))
                    later.warm_up()
                    self.now = later
            except Exception as err:
                self._note(err, found)
                raise
            self.problem, self._failed = "", _Failed()
            self._metrics.commit.labels(self.name).set(self.index.commit)
            _log.info("index %s: commit %d", self.name, self.index.commit)
            return True

    def _note(self, error: Exception, found: object) -> None:
        """Count a commit that could not be taken up, and say so, each reason once."""
        self._metrics.unread.labels(self.name).inc()
        self._failed = self._failed.again(found)
        known = isinstance(error, ThresherError)
        problem = str(error).replace(str(self.path), self.name) if known else "it failed; the log has the cause"
        if problem != self.problem:
            _log.warning(
                "index %s keeps its commit, the new one cannot be opened: %s", self.name, error,
                exc_info=None if known else error,
            )  # fmt: skip
        self.problem = problem


@dataclass(frozen=True)
class _Failed:
    """What could not be taken up, and when it is tried again.

    Attributes:
        found: the index as it was on the disk.
        times: how often it failed.
        until: by `time.monotonic`.
    """

    found: object = None
    times: int = 0
    until: float = 0.0

    def waits(self, found: object) -> bool:
        """Whether it is too early to try again."""
        return self.times > 0 and found == self.found and time.monotonic() < self.until

    def again(self, found: object) -> _Failed:
        """After another failure."""
        times = self.times + 1 if found == self.found else 1
        return _Failed(found, times, time.monotonic() + min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(times - 1, 20)))


class Current:
    """A commit that is served, with its pipeline.

    Args:
        index: all of it; it does not change any more.
        pipeline: the pipeline, over this index or one before.
        built: what the pipeline depends on.
    """

    def __init__(self, index: Index, pipeline: Pipeline, built: tuple[object, ...]) -> None:
        self.index, self.pipeline, self.built = index, pipeline, built
        self._lock = threading.Lock()
        self._views: OrderedDict[str, Index] = OrderedDict()

    def warm_up(self) -> None:
        """Load the models, compile the kernels and measure what stages cost."""
        self.pipeline.warm_up()
        passage = self.index.any_passage()
        if passage is not None:
            words = " ".join(passage.contents.split()[:8])
            by: tuple[By, ...] = ("sparse",) if self.index.vectors is None else ("sparse", "both")
            for way in by:
                self.index.search(words, by=way)
                self.index.search(words, 1, by=way, allow=[passage.docno])
            for field in [*self.index.schema][:1]:
                self.index.facets(field, words)

    def view(self, caller: Caller) -> Index:
        """The index as far as the caller may see it."""
        if caller.where is None:
            return self.index
        key = caller.where.key
        with self._lock:
            found = self._views.get(key)
        if found is None:
            found = self.index.restricted(caller.where)
            if "dense_encoder" in self.index.__dict__:
                found.dense_encoder = self.index.dense_encoder
            with self._lock:
                self._views[key] = found
                while len(self._views) > _VIEWS:
                    self._views.popitem(last=False)
        return found


class Uncounted:
    """Takes the place of `Metrics` where they are not read."""

    def __getattr__(self, name: str) -> Uncounted:
        return self

    def __call__(self, *_: object) -> Uncounted:
        """Count nothing."""
        return self


UNCOUNTED = cast("Metrics", Uncounted())


class LateHost:
    """An index, and its pipeline once it is needed. Safe to share between threads.

    Who starts a server waits seconds at most until it speaks. Opening a pipeline may load a framework for models,
    opening an index loads next to nothing.

    Args:
        name: what results call it.
        path: its directory.
        device: for models.
        cache: where the costs of stages are kept between processes.

    Attributes:
        schema: its metadata fields with their types, as they were last seen.
        commit: its commit, likewise.
        passages: how many it has, likewise.

    Raises:
        ArtifactError: there is no index.
    """

    def __init__(self, name: str, path: Path, device: str = "auto", cache: Path | None = None) -> None:
        self.name, self.path = name, path.absolute()
        self._device, self._cache = device, cache
        self._opened: tuple[Hosted, Models] | None = None
        self._lock = threading.Lock()
        self._read()

    def _read(self) -> None:
        with Index.open(self.path) as index:
            self.schema, self.commit, self.passages = index.schema, index.commit, len(index)

    def look(self) -> None:
        """Read what the last commit has, without opening its pipeline; keep what is known where that fails."""
        try:
            self._read()
        except (ThresherError, OSError) as err:
            _log.warning("index %s cannot be read now: %s", self.name, err)

    def _open(self) -> tuple[Hosted, Models]:
        from thresher.serve.models import Models

        with self._lock:
            if self._opened is None:
                hosted = Hosted(self.name, self.path, UNCOUNTED, device=self._device, cache=self._cache)
                self._opened = hosted, Models({self.name: hosted})
            return self._opened

    @property
    def hosted(self) -> Hosted:
        """The index with its pipeline."""
        return self._open()[0]

    @property
    def models(self) -> Models:
        """What scores texts that a call brings along."""
        return self._open()[1]

    def warm_up(self) -> None:
        """Load the models and compile the kernels, so that the first call is not the slow one."""
        try:
            self.hosted.warm_up()
        except Exception:
            _log.exception("index %s could not answer a query", self.name)


class Served:
    """An index as one request sees it: one commit, and only what its caller may see.

    Args:
        hosted: the index.
        caller: who asks.
        at: a commit of it, which is then neither compared with the index's baseline nor replaced by it.

    Attributes:
        name: of the index.
        caller: who asks.
        hosted: the index, or its baseline where that has taken its place.
        falls_back: it has.
    """

    def __init__(self, hosted: Hosted, caller: Caller, *, at: Current | None = None) -> None:
        self.name, self.caller, self.hosted = hosted.name, caller, hosted
        self._shadow = hosted.shadow if at is None else None
        self.falls_back = self._shadow is not None and self._shadow.falls_back
        if self._shadow is not None and self.falls_back:
            self.hosted = self._shadow.host
        self._now = at or self.hosted.now

    @property
    def whole(self) -> Index:
        """The commit, with what the caller may not see."""
        return self._now.index

    @cached_property
    def index(self) -> Index:
        """The view of the index. The first use may take a while, so use it in `Work.run`."""
        return self._now.view(self.caller)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline over that view."""
        return self._now.pipeline.over(self.index)

    @property
    def pruner(self) -> tuple[ContextPruner, float | str]:
        """What scores sentences, and the threshold from which they are kept, as the index's settings say."""
        stage = next((one for one in self.pipeline.stages if isinstance(one, SelectStage)), None)
        return (ContextPruner(_FALLBACK), "balanced") if stage is None else (stage.pruner, stage.threshold)

    def ask(
        self,
        query: str,
        k: int | None = None,
        *,
        max_context_tokens: int | None = None,
        min_score: float | None = None,
        precision: float | None = None,
        candidates: Ranking | Sequence[Hit] | None = None,
        where: Filter | None = None,
        tiers: Tiers | None = None,
        recall: float | None = None,
        without: Sequence[str] = (),
        on_stage: OnStage | None = None,
    ) -> Answer:
        """As `Pipeline.ask` of `Pipeline.without`, in the time that the request has left."""
        answer = self.pipeline.without(*without).ask(
            query,
            k,
            max_context_tokens=max_context_tokens,
            deadline_ms=left_ms(),
            min_score=min_score,
            precision=precision,
            candidates=candidates,
            where=where,
            tiers=tiers,
            recall=recall,
            on_stage=on_stage,
        )
        if self._shadow is not None and candidates is None:

            def again(other: Served) -> Ranking:
                there = {stage.name for stage in other.pipeline.stages}
                pipeline = other.pipeline.without(*(name for name in without if name in there))
                return pipeline.ask(query, k, where=where, deadline_ms=0).ranking

            self._shadow.watch(self, answer.ranking, again, complete=not answer.skipped and not answer.errors)
        return answer

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        by: By = "sparse",
        recall: float | None = None,
        where: Filter | None = None,
        explain: bool = False,
    ) -> SearchRanking:
        """As `Index.search`, by the deadline of the request."""
        left = left_ms()
        found = self.index.search(
            query, k, tiers=tiers, by=by, recall=recall, deadline_ms=left, where=where, explain=explain
        )
        if self._shadow is not None:

            def again(other: Served) -> SearchRanking:
                return other.index.search(query, k, by=by, where=where)

            self._shadow.watch(self, found, again, complete=found.complete)
        return found

    def facets(self, field: str, query: AnyQuery | None = None, where: Filter | None = None) -> dict[Value, int]:
        """As `Index.facets`."""
        return self.index.facets(field, query, where=where)


def scores_of(pruner: ContextPruner, query: str, passages: Sequence[Passage | Hit]) -> Scores:
    """The scores of all sentences, some passages at a time: in between it is seen whether the caller still waits.

    Raises:
        AbandonedError: it does not.
    """
    scores = pruner.score(query, passages[:_STEP])
    for first in range(_STEP, len(passages), _STEP):
        stop_if_abandoned()
        more = pruner.score(query, passages[first : first + _STEP])
        scores = replace(scores, passages=scores.passages + more.passages)
    return scores


def _built(index: Index) -> tuple[object, ...]:
    """What a pipeline depends on besides the passages."""
    vectors = index.vectors
    first = index.layouts[0]
    return (
        None if first.encoder is None else first.encoder.name,
        None if vectors is None else vectors.encoder_fingerprint,
        index.tiered,
        index.recipe.ask,
    )
