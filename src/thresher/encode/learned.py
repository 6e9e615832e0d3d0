"""Learned sparse encoders that sentence-transformers loads: SPLADE, SPLADE-doc, inference-free routers, CSR.

A BERT with SPLADE's pooling (maximum) runs on a CPU through `thresher.models.mlm`, which reduces the logits of a text
at once: in float32 (`dtype="float32"`) its weights are within 1e-5 of sentence-transformers'; in int8 (`auto` on most
processors) they are within what int8 states give, for SPLADE-tiny a cosine of .999 and more. Any other model runs as
sentence-transformers runs it. Around it, texts are sorted by length and cut into batches, special tokens get weight 0
(some models give them a weight, which means nothing to an index), `max_active_terms` keeps the heaviest terms of a
text, and each batch is compressed at once, so that dense rows exist for one batch at a time.

A router whose query side is a table of term weights (`SparseStaticEmbedding`) is *inference-free*: an index keeps that
table and the tokenizer, and a query needs no model (`thresher.encode.lookup`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import sound, strings, whole
from thresher.encode.encoder import SparseEncoder, concatenate, load_named, rows_of, write_document
from thresher.encode.lookup import LookupQueryEncoder
from thresher.models.backend import pick_backend
from thresher.models.files import directory_fingerprint, resolve
from thresher.models.hf import (
    batches,
    count_pieces,
    import_torch,
    load_sentence_transformers,
    pick_device,
    pick_dtype,
    piece_limit,
    watched,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from sentence_transformers import SparseEncoder as Model
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
    from transformers import PreTrainedTokenizerBase

    from thresher.models.mlm import MaskedLM
    from thresher.records import SparseBatch

_TYPE = "sentence-transformers"


class LearnedSparseEncoder(SparseEncoder):
    """A `SparseEncoder` of sentence-transformers, by hub identifier or local path.

    Args:
        model: what `thresher.models.files.resolve` finds.
        device: `auto`, or a torch device.
        dtype: `auto`, `float32`, `float16`, `bfloat16`.
        backend: the engine of a SPLADE model of BERT's form on a CPU: `auto`, or as `thresher.models.backend` lists
            them.
        batch_size: texts per forward pass.
        max_active_terms: keep at most this many of a passage's heaviest terms; None keeps the model's own limit.
        max_query_terms: the same for queries.
        revision: of a hub model.
        download: fetch a hub model that is not in the cache.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        DataNotFoundError: the model is not on this machine.
        ModelError: the directory does not hold a sparse encoder.
    """

    name: str = ""

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        backend: str = "auto",
        batch_size: int = 32,
        max_active_terms: int | None = None,
        max_query_terms: int | None = None,
        revision: str | None = None,
        download: bool = False,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("max_active_terms", max_active_terms),
            ("max_query_terms", max_query_terms),
        ):
            if value is not None:
                whole(name, value, 1)
        self._found = resolve(model, revision=revision, download=download)
        self.name = str(model)
        self.batch_size = batch_size
        self.max_active_terms = max_active_terms
        self.max_query_terms = max_query_terms
        self._torch = import_torch("a sparse encoder")
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.backend = pick_backend(backend, device=self.device, dtype=dtype)
        self._model = load_sentence_transformers(
            "SparseEncoder", self._found.path, device=self.device, dtype=self.dtype, purpose="a sparse encoder"
        ).eval()
        self.max_tokens = piece_limit(self._model)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of word pieces of each text."""
        return count_pieces(self._model, texts)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the model's files and every setting that changes the output."""
        settings = [_TYPE, self.dtype, self.max_active_terms, self.max_query_terms]
        digest = hashlib.sha256(json.dumps(settings).encode())
        digest.update(directory_fingerprint(self._found.path).encode())
        return digest.hexdigest()

    @cached_property
    def vocabulary(self) -> Sequence[str]:
        """Term strings by id; for latent dimensions, which have no name, their numbers."""
        dimensions = self._width
        known: dict[str, int] = self._tokenizer.get_vocab() if self._tokenizer is not None else {}
        if not known or max(known.values()) >= dimensions or not self._over_word_pieces:
            return tuple(str(i) for i in range(dimensions))
        words = [f"[unused-{i}]" for i in range(dimensions)]
        for word, i in known.items():
            words[i] = word
        return tuple(words)

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of `texts`, row i for text i. Within a row, term ids ascend."""
        return self._encode(texts, "document", self.max_active_terms)

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries: from the table of an inference-free router, else through the model."""
        lookup = self.query_lookup
        if lookup is not None:
            return lookup.encode_queries(texts)
        return self._encode(texts, "query", self.max_query_terms)

    @cached_property
    def query_lookup(self) -> LookupQueryEncoder | None:
        """The query side as a table of term weights, None if queries need the model."""
        static = self._static_query_module()
        if static is None or self._prompt("query"):
            return None
        weights = static.weight.detach().float().cpu().numpy().copy()
        weights[self._special_ids(static.tokenizer)] = 0.0
        return LookupQueryEncoder(
            static.tokenizer.backend_tokenizer.to_str(),
            np.maximum(weights, 0.0).astype(np.float32),
            self.vocabulary,
            repeats=False,
            fingerprint=self.fingerprint,
            name=self.name,
        )

    def save(self, directory: Path) -> None:
        """Write what the query side needs: its table if it has one, else the model's name."""
        lookup = self.query_lookup
        if lookup is not None:
            lookup.save(directory)
            return
        directory.mkdir(parents=True, exist_ok=True)
        document = {
            "type": _TYPE,
            "model": self.name if self._found.source != "path" else str(self._found.path.resolve()),
            "dtype": self.dtype,
            "max_active_terms": self.max_active_terms,
            "max_query_terms": self.max_query_terms,
            "fingerprint": self.fingerprint,
        }
        write_document(directory, document)

    @classmethod
    def load(cls, directory: Path) -> LearnedSparseEncoder:
        """The encoder that `save` described in `directory`.

        Raises:
            DamagedArtifactError: the description is incomplete.
            ModelError: the model of that name on this machine is a different one.
        """
        return load_named(cls, directory, ("dtype", "max_active_terms", "max_query_terms"))

    @cached_property
    def _width(self) -> int:
        """Length of a dense row, from a forward pass: kinds of models report it in different ways."""
        return int(self._forward(["a"], "document").shape[1])

    def _forward(self, texts: list[str], task: str) -> torch.Tensor:
        """Dense rows of one batch, float[n, width], on the device; special tokens have no weight."""
        limit = self._model.max_active_dims
        features = self._model.preprocess(texts, prompt=self._prompt(task), task=task)
        features = {k: v.to(self.device) if hasattr(v, "to") else v for k, v in features.items()}
        with self._torch.inference_mode():
            settings = {} if limit is None else {"max_active_dims": limit}
            dense: torch.Tensor = self._model(features, task=task, **settings)["sentence_embedding"]
            return dense if self._special is None else dense.index_fill(1, self._special, 0.0)

    def _encode(self, texts: Sequence[str], task: str, limit: int | None) -> SparseBatch:
        texts = [sound(text) for text in strings("texts", texts)]
        limit = limit or self._model.max_active_dims
        fused = self._fused.get(task)
        if fused is not None:
            rows = [[self._windowless(text, task)] for text in texts]
            return fused.rows(rows, limit)
        cut = batches([len(text) for text in texts], self.batch_size, similar=self.device == "cpu")
        parts = [rows_of(self._forward([texts[i] for i in batch], task), limit) for batch in watched(cut)]
        return concatenate(parts, np.array([i for batch in cut for i in batch], dtype=np.intp))

    def _windowless(self, text: str, task: str) -> list[int]:
        """Word pieces of a text as the model reads it, prompt and special tokens included."""
        features = self._model.preprocess([text], prompt=self._prompt(task), task=task)
        ids: list[int] = features["input_ids"][0].tolist()
        return ids

    @cached_property
    def _fused(self) -> dict[str, MaskedLM]:
        """The sides that are a BERT with SPLADE's pooling, on a CPU, by task."""
        from thresher.models.mlm import MaskedLM, is_masked_bert

        found: dict[str, MaskedLM] = {}
        if self.device != "cpu" or self.dtype == "float16":
            return found
        known: dict[int, MaskedLM] = {}
        for task in ("document", "query"):
            modules = _modules(self._model, task)
            if len(modules) != 2 or type(modules[1]).__name__ != "SpladePooling":
                continue
            inner: Any = getattr(modules[0], "auto_model", None)
            pooling = modules[1]
            if type(inner).__name__ != "BertForMaskedLM" or pooling.pooling_strategy != "max":
                continue
            config = {**inner.config.to_dict(), "architectures": ["BertForMaskedLM"]}
            if is_masked_bert(config):
                if id(inner) not in known:
                    special = [] if self._special is None else self._special.tolist()
                    known[id(inner)] = MaskedLM(
                        config, inner.state_dict(), device="cpu", backend=self.backend, special=special,
                        activation=pooling.activation_function,
                    )  # fmt: skip
                found[task] = known[id(inner)]
        return found

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The document side's tokenizer."""
        first = self._model[0]
        routes = getattr(first, "sub_modules", None)
        whole: PreTrainedTokenizerBase | None = self._model.tokenizer if routes is None else None
        return whole if routes is None else next(iter(routes["document"].children())).tokenizer

    @cached_property
    def _over_word_pieces(self) -> bool:
        """Whether a dimension is a word piece (SPLADE and similar models), not a latent feature (CSR)."""
        return not any(type(module).__name__ == "SparseAutoEncoder" for module in self._model.modules())

    @cached_property
    def _special(self) -> torch.Tensor | None:
        """Ids of special tokens on the device, None if dimensions are latent."""
        ids = self._special_ids(self._tokenizer)
        found: torch.Tensor | None = self._torch.as_tensor(ids, device=self.device) if ids else None
        return found

    def _special_ids(self, tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
        return sorted(set(tokenizer.all_special_ids)) if tokenizer is not None and self._over_word_pieces else []

    def _prompt(self, task: str) -> str | None:
        """The prompt sentence-transformers would prepend for `task`."""
        prompts = self._model.prompts
        names = ("query",) if task == "query" else ("document", "passage", "corpus")
        chosen = next((prompts[name] for name in names if name in prompts), None)
        return chosen or prompts.get(self._model.default_prompt_name) or None

    def _static_query_module(self) -> SparseStaticEmbedding | None:
        """The `SparseStaticEmbedding` that is the whole query side of a router, None if there is none."""
        routes = getattr(self._model[0], "sub_modules", None)
        if routes is None or "query" not in routes:
            return None
        modules = list(routes["query"].children())
        static = len(modules) == 1 and len(list(self._model.children())) == 1
        return modules[0] if static and type(modules[0]).__name__ == "SparseStaticEmbedding" else None


def _modules(model: Model, task: str) -> list[Any]:
    """The modules that texts of a task go through; none where there are more behind a router."""
    routes = getattr(model[0], "sub_modules", None)
    if routes is None:
        return list(model.children())
    return list(routes[task].children()) if task in routes and len(list(model.children())) == 1 else []
