"""`Hosted`: an index and its pipeline, kept open and up to date.

It takes up a new commit in the background; requests that began before it keep theirs (`thresher.serve.served`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.distributed.door import Opened, open_path
from thresher.distributed.shard_file import is_url
from thresher.distributed.sharded import ShardedIndex
from thresher.errors import ThresherError
from thresher.pipeline.interpolate import InterpolateStage
from thresher.pipeline.pipeline import Pipeline
from thresher.publish import MANIFEST
from thresher.search.index import Index
from thresher.serve.certified import STATES, CertificateFile, stamp
from thresher.serve.refusals import not_in_shards

if TYPE_CHECKING:
    from thresher.distributed.door import Reaching
    from thresher.search.any_index import By
    from thresher.serve.keys import Caller
    from thresher.serve.metrics import Metrics
    from thresher.serve.shadowing import Shadowing

_log = logging.getLogger(__name__)
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 300.0
"""Seconds until a commit that could not be taken up is tried again, at first and at most."""
_SHARD_WAIT = 10.0
"""The same at most where a shard did not answer."""
_VIEWS = 64
"""Restricted views of a commit that are kept for later requests."""


class Hosted:
    """An open index with its pipeline.

    Args:
        name: what requests call it.
        path: its directory, or the file that lists its shards.
        metrics: what is counted.
        device: for models.
        cache: where the costs of stages are kept between processes.
        reaching: how shards are reached.

    Attributes:
        now: the commit that requests get which come now.
        problem: why the last commit is not taken up; empty where it is.
        certificate: what was claimed of the index.
        shadow: what it is compared with; None for nothing.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        metrics: Metrics,
        *,
        device: str = "auto",
        cache: Path | None = None,
        reaching: Reaching | None = None,
    ) -> None:
        self.name, self.path = name, path.absolute()  # errors name it, and are told without it
        self.device = device
        self._metrics, self._cache = metrics, cache
        self._refreshing = threading.Lock()
        self.problem, self._failed = "", _Failed()
        index = open_path(self.path, reaching)
        self._public = _public_names(self.path, name, index)
        if isinstance(index, ShardedIndex):
            self._count_shards(index)
        self.now = Current(index, self._opened(index), _built(index))
        self._metrics.commit.labels(self.name).set(index.commit)
        self.certificate = CertificateFile(self.path, name)
        self.shadow: Shadowing | None = None
        self.note_certificate()

    def _count_shards(self, index: ShardedIndex) -> None:
        """Count how long shards take, and how often they are missing."""
        taken, missed = self._metrics.shard_seconds, self._metrics.shard_missing
        index.watch = lambda shard, seconds: taken.labels(self.name, self.told(shard)).observe(seconds)
        index.missed = lambda shard: missed.labels(self.name, self.told(shard)).inc()

    def told(self, text: str) -> str:
        """A text with the names of index and shards in place of their paths, which clients are not told."""
        for path, name in self._public:
            text = text.replace(path, name)
        return text

    @property
    def index(self) -> Opened:
        """The last commit that was taken up, all of it."""
        return self.now.index

    def one_piece(self, instead: str) -> Index:
        """The index, for what needs one in one directory.

        Args:
            instead: what to do about one in shards.

        Raises:
            RefusedError: it is in shards.
        """
        index = self.index
        if not isinstance(index, Index):
            raise not_in_shards(self.name, instead)
        return index

    def partial(self) -> None:
        """Count an answer that lacks a shard."""
        self._metrics.partial.labels(self.name).inc()

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline; `Pipeline.over` gives it the view of a request."""
        return self.now.pipeline

    def _opened(self, index: Opened) -> Pipeline:
        """A pipeline over an index, which gets the encoder that the pipeline has loaded."""
        pipeline = Pipeline.open(index, device=self.device, cache=self._cache)
        for stage in pipeline.stages:
            if isinstance(stage, InterpolateStage) and isinstance(index, Index) and index.vectors is not None:
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
                    fresh = Index.open(self.path) if isinstance(index, Index) else index
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
        longest = _LONGEST_WAIT if isinstance(self.index, Index) else _SHARD_WAIT
        self._failed = self._failed.again(found, longest)
        known = isinstance(error, ThresherError)
        problem = self.told(str(error)) if known else "it failed; the log has the cause"
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

    def again(self, found: object, longest: float = _LONGEST_WAIT) -> _Failed:
        """After another failure."""
        times = self.times + 1 if found == self.found else 1
        return _Failed(found, times, time.monotonic() + min(longest, _FIRST_WAIT * 2 ** min(times - 1, 20)))


class Current:
    """A commit that is served, with its pipeline.

    Args:
        index: all of it; it does not change any more.
        pipeline: the pipeline, over this index or one before.
        built: what the pipeline depends on.
    """

    def __init__(self, index: Opened, pipeline: Pipeline, built: tuple[object, ...]) -> None:
        self.index, self.pipeline, self.built = index, pipeline, built
        self._lock = threading.Lock()
        self._views: OrderedDict[str, Opened] = OrderedDict()

    def warm_up(self) -> None:
        """Load the models, compile the kernels and measure what stages cost."""
        self.pipeline.warm_up()
        passage = self.index.any_passage()
        if passage is not None:
            words = " ".join(passage.contents.split()[:8])
            dense = isinstance(self.index, Index) and self.index.vectors is not None
            by: tuple[By, ...] = ("sparse", "both") if dense else ("sparse",)
            for way in by:
                self.index.search(words, by=way)
                self.index.search(words, 1, by=way, allow=[passage.docno])
            for field in [*self.index.schema][:1]:
                self.index.facets(field, words)

    def view(self, caller: Caller) -> Opened:
        """The index as far as the caller may see it."""
        if caller.where is None:
            return self.index
        key = caller.where.key
        with self._lock:
            found = self._views.get(key)
        if found is None:
            found = self.index.restricted(caller.where)
            if isinstance(found, Index) and isinstance(self.index, Index) and "dense_encoder" in self.index.__dict__:
                found.dense_encoder = self.index.dense_encoder
            with self._lock:
                self._views[key] = found
                while len(self._views) > _VIEWS:
                    self._views.popitem(last=False)
        return found


def _public_names(path: Path, name: str, index: Opened) -> list[tuple[str, str]]:
    """Paths of this machine, and what clients are told in their place, the longest first."""
    names = {str(path): name}
    if isinstance(index, ShardedIndex):
        for replica in (replica for one in index.shards for replica in one.replicas if not is_url(replica.name)):
            folder = Path(replica.name)
            inside = folder.is_relative_to(path.parent)
            names[replica.name] = str(folder.relative_to(path.parent)) if inside else folder.name
    return sorted(names.items(), key=lambda one: -len(one[0]))


def _built(index: Opened) -> tuple[object, ...]:
    """What a pipeline depends on besides the passages."""
    if not isinstance(index, Index):
        return index.built
    vectors = index.vectors
    first = index.layouts[0]
    return (
        None if first.encoder is None else first.encoder.name,
        None if vectors is None else vectors.encoder_fingerprint,
        index.tiered,
        index.recipe.ask,
    )
