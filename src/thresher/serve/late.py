"""`LateHost`: an index that is opened at once, and its pipeline when it is first needed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, cast

from thresher.distributed.door import open_path
from thresher.errors import ThresherError
from thresher.serve.hosted import Hosted

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.distributed.door import Reaching
    from thresher.serve.metrics import Metrics
    from thresher.serve.models import Models

_log = logging.getLogger(__name__)


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
        path: its directory, or the file that lists its shards.
        device: for models.
        cache: where the costs of stages are kept between processes.
        reaching: how shards are reached.

    Attributes:
        schema: its metadata fields with their types, as they were last seen.
        commit: its commit, likewise.
        passages: how many it has, likewise.

    Raises:
        ArtifactError: there is no index.
        ShardError: a shard does not answer.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        device: str = "auto",
        cache: Path | None = None,
        reaching: Reaching | None = None,
    ) -> None:
        self.name, self.path = name, path.absolute()
        self._device, self._cache, self._reaching = device, cache, reaching
        self._opened: tuple[Hosted, Models] | None = None
        self._lock = threading.Lock()
        self._read()

    def _read(self) -> None:
        with open_path(self.path, self._reaching) as index:
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
                hosted = Hosted(
                    self.name, self.path, UNCOUNTED, device=self._device, cache=self._cache, reaching=self._reaching
                )
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
