"""Dense vectors: the embedded MiniLM with torch and tokenizers alone, and any model of sentence-transformers.

Both give what sentence-transformers calls embeddings. `DenseEncoder.from_name` picks the lighter one for MiniLM.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.encoder import DenseEncoder
from thresher.errors import ConfigError, InputError, require
from thresher.models import two_headed
from thresher.models.files import EMBEDDED_NAME, directory_fingerprint, embedded_path, resolve
from thresher.models.hf import (
    batches,
    import_torch,
    load_sentence_transformers,
    pick_device,
    pick_dtype,
    single_threaded,
)
from thresher.models.minilm import MAX_TOKENS, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Vectors = NDArray[np.floating[Any]]

_STORAGES = ("float16", "float32")
_WIDTH = 384
_PADDED = 32  # texts in one forward pass on an accelerator


class MiniLMEncoder(DenseEncoder):
    """Dense vectors of the embedded MiniLM: mean token states at unit length, of at most 256 word pieces.

    On a CPU every text is computed by itself, without padding, by one thread, and as many texts side by side as there
    are threads. So a vector depends on its text alone, not on the batch or the number of threads. On an accelerator
    texts of similar length are padded together.

    The body is that of `thresher.models.two_headed` with all its layers below the join, so that neither transformers
    nor sentence-transformers is imported: a process that answers queries starts in a third of the time.

    Args:
        device: `auto`, or a torch device.
        storage: `float32` or `float16`, the type of the vectors returned.
        threads: texts encoded side by side on a CPU; None for torch's number of threads.

    Raises:
        MissingExtraError: the package, torch, safetensors or tokenizers is not installed.
        ConfigError: unknown storage.
    """

    name = EMBEDDED_NAME
    dimensions = _WIDTH

    def __init__(self, *, device: str = "auto", storage: str = "float32", threads: int | None = None) -> None:
        _check_storage(storage)
        purpose = "the embedded MiniLM"
        self.torch = import_torch(purpose)
        safetensors = require("safetensors.torch", extra="models", purpose=purpose)
        directory = embedded_path()
        self.device = pick_device(device)
        model = two_headed.untrained(two_headed.JoinedBertConfig(join=6))
        two_headed.load_body(model, safetensors.load_file(str(directory / "model.safetensors")))
        self._model = model.eval().to(self.device)
        self.tokenizer = load_tokenizer(directory, max_tokens=MAX_TOKENS)
        self._storage = np.dtype(storage)
        self._threads = threads

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model, what it reads, and the storage."""
        return _minilm_fingerprint(str(self._storage))

    def accepts(self, fingerprint: str) -> bool:
        """Whether vectors made under `fingerprint` are MiniLM's, whatever their storage ("": unknown)."""
        return fingerprint in ("", *map(_minilm_fingerprint, _STORAGES))

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of `texts`, [n, 384]."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        out = np.zeros((len(rows), _WIDTH), dtype=self._storage)
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
        if self.device == "cpu":

            def one(number: int) -> None:
                out[number] = self._alone(rows[number])

            single_threaded.map(one, order, self._threads)
            return out
        for low in range(0, len(order), _PADDED):
            batch = order[low : low + _PADDED]
            out[batch] = self._padded([rows[i] for i in batch])
        return out

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, [n, 384]; the model treats queries like passages."""
        return self.encode_passages(texts)

    def _alone(self, row: Sequence[int]) -> Vectors:
        with self.torch.inference_mode():
            states = self._model.read_apart(self.torch.tensor([list(row)]), None)[0].mean(0)
            vector: Vectors = self.torch.nn.functional.normalize(states, dim=0).numpy()
        return vector

    def _padded(self, rows: Sequence[Sequence[int]]) -> Vectors:
        ids, lengths = two_headed.pad([list(row) for row in rows], self.device)
        with self.torch.inference_mode():
            states = self._model.read_apart(ids, lengths)
            real = (self.torch.arange(states.shape[1], device=self.device) < lengths[:, None]).unsqueeze(-1)
            mean = (states * real).sum(1) / lengths[:, None]
            vectors: Vectors = self.torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
        return vectors


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
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
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
        if dimensions is not None and not 1 <= dimensions <= full:
            raise InputError(f"dimensions is {dimensions}, but {self.name} has {full}; choose 1 to {full}")
        self.dimensions = dimensions or full

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

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of `texts`, [n, dimensions]."""
        return self._encode(texts, "document")

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, [n, dimensions]."""
        return self._encode(texts, "query")

    def _encode(self, texts: Sequence[str], task: str) -> Vectors:
        out = np.zeros((len(texts), self.dimensions), dtype=self._storage)
        call = self._model.encode_query if task == "query" else self._model.encode_document
        for batch in batches([len(text) for text in texts], self.batch_size, similar=self.device == "cpu"):
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
    batch_size: int = 0,
    threads: int | None = None,
) -> MiniLMEncoder:
    """What `DenseEncoder.from_name` calls for MiniLM's names; `batch_size` has no effect on it.

    Raises:
        ConfigError: an argument.
    """
    if argument:
        raise ConfigError(
            f"'minilm:{argument}': minilm takes no argument; another model is sentence-transformers:MODEL"
        )
    return MiniLMEncoder(device=device, storage=storage, threads=threads)


def _check_storage(storage: str) -> None:
    if storage not in _STORAGES:
        raise ConfigError(f"unknown storage {storage!r}; an encoder returns float16 or float32")


def _minilm_fingerprint(storage: str) -> str:
    return hashlib.sha256(f"minilm/1/{EMBEDDED_NAME}/{MAX_TOKENS}/{storage}".encode()).hexdigest()
