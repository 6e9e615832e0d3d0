"""SPLADE encoders that need neither transformers nor sentence-transformers: `thresher-mini`, and models like it.

A model is a directory with the `config.json`, `model.safetensors` and, unless it is that of the embedded MiniLM,
`tokenizer.json` of a Hugging Face BertForMaskedLM. `thresher.models.mlm` runs it. In `config.json`, the object
`thresher` may set `max_tokens` (of a window), `max_active_terms`, `max_query_terms` and `query`: `model` (the default:
the model reads queries too) or `table` (inference-free: the tensor `query` holds a weight for every word piece, as in
Geng et al., arXiv 2411.04403).

Passages longer than the model reads are read in windows of equal size, and a term's weight is its largest in any of
them, so no word goes unread.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import sound, strings, whole
from thresher.encode.encoder import SparseEncoder, load_named, write_document
from thresher.encode.lookup import LookupQueryEncoder
from thresher.errors import DamagedArtifactError, DataNotFoundError, require
from thresher.files import read_json
from thresher.models.backend import pick_backend
from thresher.models.files import embedded_path, resolve
from thresher.models.hf import import_torch, pick_device, pick_dtype
from thresher.models.minilm import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from thresher.models.mlm import MaskedLM
    from thresher.records import SparseBatch

CONFIG, TENSORS = "config.json", "model.safetensors"
TYPE = "splade"
_UNLIMITED = 1 << 30
_DEFAULTS = {"max_tokens": 256, "max_active_terms": 256, "max_query_terms": 64}
_MOST_WINDOWS = 8  # of a query: 2,000 word pieces


class SpladeEncoder(SparseEncoder):
    """A BERT masked-language model as an encoder of passages and queries.

    Args:
        model: a directory, or `thresher-mini`, which the empty name stands for too.
        device: `auto`, or a torch device.
        dtype: of the computation on a CPU: `auto`, `float32` or `bfloat16`; an accelerator computes in float32.
        batch_size: passages of 128 word pieces in a pass of an accelerator; a CPU packs passes by itself.
        max_active_terms: keep at most this many of a passage's heaviest terms; None keeps the model's own limit.
        max_query_terms: the same for queries.
        backend: the engine on a CPU: `auto`, or as `thresher.models.backend` lists them. The fingerprint does not hold
            it: weights of different engines can stand in one index.

    Raises:
        DataNotFoundError: there is no such model.
        MissingExtraError: torch, safetensors or tokenizers is not installed, or the embedded MiniLM, whose tokenizer
            the model uses.
        DamagedArtifactError: the weights cannot be read.
        ModelError: the model is not a BertForMaskedLM.
    """

    name: str = ""
    reads_windows = True

    def __init__(
        self,
        model: str | Path = "thresher-mini",
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        max_active_terms: int | None = None,
        max_query_terms: int | None = None,
        backend: str = "auto",
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("max_active_terms", max_active_terms),
            ("max_query_terms", max_query_terms),
        ):
            if value is not None:
                whole(name, value, 1)
        self.name = str(model) or "thresher-mini"
        self._found = resolve(model or self.name)
        self._directory = self._found.path
        self._settings = read_settings(self._directory)
        self._config = read_json(self._directory / CONFIG)
        self.max_active_terms = max_active_terms or self._settings["max_active_terms"]
        self.max_query_terms = max_query_terms or self._settings["max_query_terms"]
        self.max_tokens = self._settings["max_tokens"]
        self.device = device if device == "cpu" else pick_device(device)  # which loads torch
        pick_dtype(dtype, self.device)
        self.backend = pick_backend(backend, device=self.device, dtype=dtype)
        self.batch_size = batch_size
        own = (self._directory / "tokenizer.json").is_file()
        self._tokenizer = load_tokenizer(self._directory if own else embedded_path())
        self._tokenizer.no_truncation()

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the weights, their configuration and every setting that changes the output."""
        digest = hashlib.sha256((self._directory / TENSORS).read_bytes())
        digest.update((self._directory / CONFIG).read_bytes())
        digest.update(json.dumps([self.max_active_terms, self.max_query_terms]).encode())
        return digest.hexdigest()

    @cached_property
    def vocabulary(self) -> Sequence[str]:
        """Word pieces by id."""
        names: dict[str, int] = self._tokenizer.get_vocab()
        words = [f"[unused-{i}]" for i in range(whole("vocab_size", self._config.get("vocab_size"), 1))]
        for word, number in names.items():
            if number < len(words):
                words[number] = word
        return tuple(words)

    @checked_call
    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of word pieces of each text."""
        return [len(pieces) for pieces in self._pieces(texts)]

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of `texts`, row i for text i, ascending within a row. A row depends on its text alone."""
        return self._model.rows([self._windows(pieces) for pieces in self._pieces(texts)], self.max_active_terms)

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries: through the model, or from the table if the model has one."""
        if self.query_lookup is not None:
            return self.query_lookup.encode_queries(texts)
        windows = [self._windows(pieces)[:_MOST_WINDOWS] for pieces in self._pieces(texts)]
        return self._model.rows(windows, self.max_query_terms)

    @cached_property
    def query_lookup(self) -> LookupQueryEncoder | None:
        """The query side as a table of term weights; None if the model reads queries."""
        if self._settings["query"] == "model":
            return None
        weights = np.maximum(self._tensors["query"].float().numpy(), 0)
        weights[list(self._special)] = 0
        return LookupQueryEncoder(
            self._tokenizer.to_str(),
            weights,
            self.vocabulary,
            repeats=False,
            fingerprint=self.fingerprint,
            name=self.name,
        )

    def save(self, directory: Path) -> None:
        """Write what the query side needs: its table if it has one, else the model's name."""
        if self.query_lookup is not None:
            self.query_lookup.save(directory)
            return
        directory.mkdir(parents=True, exist_ok=True)
        document = {
            "type": TYPE,
            "model": self.name if self._found.source != "path" else str(self._directory.resolve()),
            "max_active_terms": self.max_active_terms,
            "max_query_terms": self.max_query_terms,
            "fingerprint": self.fingerprint,
        }
        write_document(directory, document)

    @classmethod
    def load(cls, directory: Path) -> SpladeEncoder:
        """The encoder that `save` described in `directory`; it reads queries on the CPU.

        Raises:
            DamagedArtifactError: the description is incomplete.
            ModelError: the model of that name on this machine is a different one.
        """
        return load_named(partial(cls, device="cpu"), directory, ("max_active_terms", "max_query_terms"))

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        import_torch(f"the sparse encoder {self.name}")
        file = self._directory / TENSORS
        safetensors = require("safetensors.torch", extra="models", purpose=f"the sparse encoder {self.name}")
        try:
            tensors: dict[str, Tensor] = safetensors.load_file(str(file))
        except Exception as err:
            if type(err).__name__ != "SafetensorError":
                raise
            raise DamagedArtifactError(str(file), f"is damaged ({err}); install it again") from err
        if self._settings["query"] == "table" and "query" not in tensors:
            raise DamagedArtifactError(str(file), "has no tensor `query`, though queries are looked up")
        return tensors

    @cached_property
    def _model(self) -> MaskedLM:
        from thresher.models.mlm import MaskedLM

        special = sorted(self._special)
        found = MaskedLM(self._config, self._tensors, device=self.device, backend=self.backend, special=special)
        found.batch_tokens = 128 * self.batch_size
        return found

    @cached_property
    def _special(self) -> frozenset[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [sound(text) for text in strings("texts", texts)]
        return [found.ids for found in self._tokenizer.encode_batch(clean, add_special_tokens=False)]

    def _windows(self, pieces: list[int]) -> list[list[int]]:
        """The windows of a text, of equal size, special tokens included; none of a text without word pieces."""
        if not pieces:
            return []
        first, last = (self._tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        if first is None or last is None:
            raise DamagedArtifactError(str(self._directory), "has a tokenizer without [CLS] and [SEP]")
        most = min(self._settings["max_tokens"], self._model.positions) - 2
        size = -(-len(pieces) // -(-len(pieces) // most))
        return [[first, *pieces[low : low + size], last] for low in range(0, len(pieces), size)]


def read_settings(directory: Path) -> dict[str, Any]:
    """What `config.json` sets for this encoder, with the defaults.

    Raises:
        DataNotFoundError: the directory holds no such model.
        DamagedArtifactError: a setting has the wrong type.
    """
    file = directory / CONFIG
    if not file.is_file() or not (directory / TENSORS).is_file():
        raise DataNotFoundError(f"{directory} holds no masked-language model; expected {CONFIG} and {TENSORS}")
    given = read_json(file).get("thresher") or {}
    settings = {"query": "model", **_DEFAULTS, **given}
    numbers = [settings[name] for name in _DEFAULTS]
    if settings["query"] not in ("model", "table") or not all(
        isinstance(number, int) and 3 <= number < _UNLIMITED for number in numbers
    ):
        raise DamagedArtifactError(str(file), f"has the settings {given!r}; install the model again")
    return settings


def is_splade(directory: Path) -> bool:
    """Whether `directory` holds a model that says it is for this encoder."""
    try:
        return "thresher" in read_json(directory / CONFIG)
    except DamagedArtifactError:
        return False
