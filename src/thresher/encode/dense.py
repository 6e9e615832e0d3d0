"""Dense vectors: the embedded MiniLM with torch and tokenizers alone, and any model of sentence-transformers.

Both give what sentence-transformers calls embeddings. `DenseEncoder.from_name` picks the lighter one for MiniLM.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import sound, strings, whole
from thresher.encode.encoder import DenseEncoder
from thresher.errors import ConfigError, InputError
from thresher.models.backend import BACKENDS
from thresher.models.batcher import Batcher
from thresher.models.files import EMBEDDED_NAME, directory_fingerprint, resolve
from thresher.models.hf import (
    batches,
    count_pieces,
    load_sentence_transformers,
    pick_device,
    pick_dtype,
    piece_limit,
    watched,
)
from thresher.models.minilm import CLS, MAX_TOKENS, SEP, WIDTH, MiniLM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Vectors = NDArray[np.floating]

_STORAGES = ("float16", "float32")
_TINY = 1e-12


class MiniLMEncoder(DenseEncoder):
    """Dense vectors of the embedded MiniLM; see `thresher.models.minilm.MiniLM.vectors`.

    A vector depends on its text alone, not on the batch or the number of threads. Vectors of all engines can be
    compared (`thresher.models.backend` says how near they are), so that an index made on one machine can be searched
    and extended on another. The model reads 254 word pieces at once. A longer text is cut into as few windows of equal
    length as will do, and its vector is the mean of theirs at unit length, so that no word goes unread. The first
    window counts twice, since a text says at its start what it is about.

    Args:
        device: `auto`, or a torch device.
        storage: `float32` or `float16`, the type of the vectors returned.
        threads: passes side by side on a CPU; None for torch's number of threads.
        backend: the engine on a CPU: `auto`, or as `thresher.models.backend` lists them.

    Raises:
        MissingExtraError: the package, torch, safetensors or tokenizers is not installed.
        ConfigError: unknown storage, or the engine is unknown or does not run on the device.
    """

    name = EMBEDDED_NAME
    dimensions = WIDTH
    max_tokens, reads_windows = MAX_TOKENS, True
    window = MAX_TOKENS - 2
    """Word pieces of a text that the model reads at once."""

    def __init__(
        self, *, device: str = "auto", storage: str = "float32", threads: int | None = None, backend: str = "auto"
    ) -> None:
        _check_storage(storage)
        if threads is not None:
            whole("threads", threads, 1)
        self.device = pick_device(device)
        dtype = "auto" if self.device == "cpu" else "float32"
        self.minilm = MiniLM(device=self.device, dtype=dtype, backend=backend)
        self.backend = self.minilm.backend
        self._storage = np.dtype(storage)
        self._threads = threads

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model, how it reads a text, the engine and the storage."""
        return _minilm_fingerprint(self.backend.name, str(self._storage))

    def accepts(self, fingerprint: str) -> bool:
        """Whether vectors made under `fingerprint` are MiniLM's, whatever the engine and storage ("": unknown)."""
        return not fingerprint or fingerprint in (_minilm_fingerprint(*one) for one in product(BACKENDS, _STORAGES))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of word pieces of each text."""
        return [len(pieces) for pieces in self.minilm.pieces(texts)]

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of `texts`, [n, 384]."""
        cut = [_windows(pieces, self.window) for pieces in self.minilm.pieces(texts)]
        found = self.minilm.vectors([row for rows in cut for row in rows], self._threads)
        counts = [len(rows) for rows in cut]
        if found.shape[0] > len(cut):
            starts = np.cumsum([0, *counts[:-1]])
            sums = np.add.reduceat(found, starts) + found[starts]
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            found = np.where(np.array(counts)[:, None] > 1, sums / np.maximum(lengths, _TINY), found[starts])
        return found.astype(self._storage, copy=False)

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, [n, 384]; the model treats queries like passages.

        Queries that come in several threads while others are computed share a pass.
        """
        found = self._queries.submit(strings("texts", texts))
        return np.array(found, self._storage).reshape(len(texts), WIDTH)

    @cached_property
    def _queries(self) -> Batcher[str, NDArray[np.floating]]:
        return Batcher(self.encode_passages, 64)


class TransformerEncoder(DenseEncoder):
    """A `SentenceTransformer` of sentence-transformers, by hub identifier or local path.

    Args:
        model: what `thresher.models.files.resolve` finds.
        device: `auto`, or a torch device.
        dtype: of the computation: `auto`, `float32`, `float16`, `bfloat16`.
        batch_size: most texts in a forward pass. On a CPU a pass has texts of similar length only.
        normalize: scale every vector to length 1, after truncation.
        dimensions: keep the first dimensions only (Matryoshka models); None keeps all.
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

    name: str = ""
    dimensions: int = 0

    def __init__(
        self,
        model: str | Path = EMBEDDED_NAME,
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
        whole("batch_size", batch_size, 1)
        _check_storage(storage)
        self._found = resolve(model, revision=revision, download=download)
        self.name = str(model)
        self.batch_size = batch_size
        self.normalize = normalize
        self._storage = np.dtype(storage)
        self._prompts = {"query": query_prompt, "document": passage_prompt}
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self._model = load_sentence_transformers(
            "SentenceTransformer", self._found.path, device=self.device, dtype=self.dtype, purpose="a dense encoder"
        )
        full = int(self._model.get_embedding_dimension())
        if dimensions is not None and whole("dimensions", dimensions, 1) > full:
            raise InputError(f"dimensions is {dimensions}, but {self.name} has {full}; choose 1 to {full}")
        self.dimensions = dimensions or full
        self.max_tokens = piece_limit(self._model)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of word pieces of each text."""
        return count_pieces(self._model, texts)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model's files and every setting that changes the output."""
        return self._fingerprint(self.dtype, str(self._storage))

    def accepts(self, fingerprint: str) -> bool:
        """Whether vectors made under `fingerprint` are this model's, whatever the dtype and storage ("": unknown).

        So vectors computed in float16 on an accelerator can be searched on a CPU.
        """
        variants = product(("float32", "float16", "bfloat16"), _STORAGES)
        return not fingerprint or fingerprint in (self._fingerprint(*variant) for variant in variants)

    @cached_property
    def _files(self) -> str:
        return directory_fingerprint(self._found.path)

    def _fingerprint(self, dtype: str, storage: str) -> str:
        settings = ["dense", dtype, self.normalize, self.dimensions, storage, sorted(self._prompts.items())]
        digest = hashlib.sha256(json.dumps(settings).encode())
        digest.update(self._files.encode())
        return digest.hexdigest()

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of `texts`, [n, dimensions]."""
        return self._encode(texts, "document")

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, [n, dimensions]."""
        return self._encode(texts, "query")

    def _encode(self, texts: Sequence[str], task: str) -> Vectors:
        texts = [sound(text) for text in strings("texts", texts)]
        out = np.zeros((len(texts), self.dimensions), dtype=self._storage)
        call = self._model.encode_query if task == "query" else self._model.encode_document
        for batch in watched(batches([len(text) for text in texts], self.batch_size, similar=self.device == "cpu")):
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


def open_minilm(
    argument: str = "",
    *,
    device: str = "auto",
    storage: str = "float32",
    threads: int | None = None,
    backend: str = "auto",
) -> MiniLMEncoder:
    """What `DenseEncoder.from_name` calls for MiniLM's names.

    Raises:
        ConfigError: an argument.
    """
    if argument:
        raise ConfigError(f"minilm:{argument}: minilm takes no argument; other models are sentence-transformers:MODEL")
    return MiniLMEncoder(device=device, storage=storage, threads=threads, backend=backend)


def _windows(pieces: Sequence[int], size: int) -> list[list[int]]:
    """Word pieces in windows of equal length, at most `size`, each with the special tokens around it."""
    count = max(1, -(-len(pieces) // size))
    bounds = [len(pieces) * n // count for n in range(count + 1)]
    return [[CLS, *pieces[low:high], SEP] for low, high in pairwise(bounds)]


def _check_storage(storage: str) -> None:
    if storage not in _STORAGES:
        raise ConfigError(f"unknown storage {storage!r}; an encoder returns float16 or float32")


def _minilm_fingerprint(backend: str, storage: str) -> str:
    engine = "" if backend == "torch" else f"/{backend}"
    return hashlib.sha256(
        f"minilm/2/{EMBEDDED_NAME}/{MAX_TOKENS}/windows, the first twice/{storage}{engine}".encode()
    ).hexdigest()


def engine_of(fingerprint: str) -> str:
    """The engine that made MiniLM's vectors with this fingerprint (`thresher.models.backend`), empty for others."""
    found = (
        name for name, storage in product(BACKENDS, _STORAGES) if _minilm_fingerprint(name, storage) == fingerprint
    )
    return next(found, "")
