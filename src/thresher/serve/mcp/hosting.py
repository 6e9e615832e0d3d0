"""`LateHost`: an index whose pipeline is opened when it is first needed.

A client starts the server and waits seconds at most for its tools. Opening a pipeline may load a framework for models,
opening an index loads next to nothing; so tools are told of from the index alone.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, cast

from thresher.search.index import Index
from thresher.serve.models import Models
from thresher.serve.served import Hosted

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.serve.metrics import Metrics

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

    Args:
        name: what results call it.
        path: its directory.
        device: for models.
        cache: where the costs of stages are kept between processes.

    Attributes:
        schema: its metadata fields with their types, as of now.
        commit: its commit, as of now.
        passages: how many it has, as of now.

    Raises:
        ArtifactError: there is no index.
    """

    def __init__(self, name: str, path: Path, device: str = "auto", cache: Path | None = None) -> None:
        self.name, self.path = name, path
        self._device, self._cache = device, cache
        self._opened: tuple[Hosted, Models] | None = None
        self._lock = threading.Lock()
        with Index.open(path) as index:
            self.schema, self.commit, self.passages = index.schema, index.commit, len(index)

    def _open(self) -> tuple[Hosted, Models]:
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
