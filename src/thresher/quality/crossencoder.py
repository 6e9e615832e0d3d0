"""A cross-encoder asked with an empty query: what it holds of the passage alone, as a quality estimator."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ModelError, require
from thresher.models.resolve import pick_device, resolve
from thresher.quality.estimator import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class EmptyQueryCrossEncoder:
    """The estimator, loaded when it first scores.

    Args:
        model: a directory or hub name that sentence-transformers' CrossEncoder reads, with one output.
        device: `auto`, `cpu`, `cuda`.
        batch_size: passages a forward pass.
        download: let the model come from the hub.
    """

    def __init__(self, model: str, *, device: str = "auto", batch_size: int = 32, download: bool = False) -> None:
        self.model = model
        self.batch_size = batch_size
        self._device = device
        self._found = resolve(model, download=download)

    @property
    def name(self) -> str:
        """`cross-encoder:` and the model."""
        return f"cross-encoder:{self.model}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the model's files."""
        from thresher.encode.learned import directory_fingerprint

        return digest("empty-query-cross-encoder", 1, directory_fingerprint(self._found.path))

    @cached_property
    def _loaded(self) -> Any:
        library = require("sentence_transformers", extra="models", purpose="a cross-encoder")
        loaded = library.CrossEncoder(str(self._found.path), device=pick_device(self._device), local_files_only=True)
        if loaded.config.num_labels != 1:
            raise ModelError(f"{self.model} has {loaded.config.num_labels} outputs; one relevance score is needed")
        return loaded

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n], the model's relevance score for the pair of an empty query and the passage."""
        if not texts:
            return np.zeros(0, np.float32)
        pairs = [("", text) for text in texts]
        scores = self._loaded.predict(pairs, batch_size=self.batch_size, show_progress_bar=False)
        return np.asarray(scores, np.float32).reshape(len(texts))
