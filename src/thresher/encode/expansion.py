"""The inference-free sparse encoder over the embedded MiniLM: `thresher-mini`, and heads trained like it.

The passage side reads a text with MiniLM. From the mean h of its token states (unit length), a word piece t with the
input embedding e_t gets the weight

    log(1 + relu(e_t' W h + b_t) + [t occurs in the text] * s * softplus(e_t' G h + c_t) * tf / (tf + K))

where K = k1 * (1 - b + b * length / average), and s is 1 unless chosen after training. The first part expands: it
weighs pieces that queries about this text would use, whether or not they occur in it. The second weighs the terms that
occur, higher if the whole text is about them, with BM25's saturation. The heaviest `max_active_terms` are kept. e_t is
tied to MiniLM's word-piece embeddings (centred, unit length) and moved by a learned low-rank table. The query side is
one learned weight per word piece, looked up (`thresher.encode.lookup`). Inflected forms share a term, and a rare word
is a term as a whole, in one of a number of buckets (`thresher.encode.lookup`). All buckets have one query weight, and
expansion never yields them.

The form is SPLADE's (Formal et al., arXiv 2109.10086) with the masked-language-model head replaced by a linear map of
the pooled state, and with the inference-free query side of Geng et al. (arXiv 2411.04403). The tied head takes 0.6
MB, an untied one 23. Occurring terms have learned weights as in DeepImpact and uniCOIL, saturating as in BM25.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import whole
from thresher.encode.encoder import SparseEncoder, concatenate, rows_of
from thresher.encode.lookup import FIRST_TERM, Counted, LookupQueryEncoder, WordPieceTerms
from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError, require
from thresher.files import read_json
from thresher.models.files import resolve
from thresher.models.hf import import_torch
from thresher.models.minilm import WIDTH, MiniLM
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray
    from tokenizers import Encoding

    from thresher.models.bert import Bert


CONFIG, TENSORS, TYPE = "config.json", "model.safetensors", "thresher-expansion"
_ROWS = 256
"""Passages whose dense rows are in memory at a time: 31 MB."""


class ExpansionEncoder(SparseEncoder):
    """Passages through MiniLM and a trained head; queries through a table.

    Args:
        model: `thresher-mini`, or the directory of a trained head.
        device: `auto`, or a torch device.
        dtype: of MiniLM: `auto`, `float32`, `float16`, `bfloat16`.
        batch_tokens: most word pieces in a forward pass, padding included.
        max_active_terms: keep at most this many of a passage's heaviest terms; None keeps the model's own limit.
        backend: MiniLM's engine on a CPU: `auto`, or as `thresher.models.backend` lists them. The fingerprint does not
            hold it: weights of different engines can stand in one index.

    Raises:
        DataNotFoundError: there is no such model.
        MissingExtraError: MiniLM's package or torch is not installed.
        DamagedArtifactError: the weights cannot be read, or are for another base model.
    """

    name: str = ""

    def __init__(
        self,
        model: str | Path = "thresher-mini",
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int = 4096,
        max_active_terms: int | None = None,
        backend: str = "auto",
    ) -> None:
        whole("batch_tokens", batch_tokens, 1)
        if max_active_terms is not None:
            whole("max_active_terms", max_active_terms, 1)
        found = resolve(model)
        self.name = str(model)
        self._directory = found.path
        self.config = _read_config(found.path)
        self.max_active_terms = max_active_terms or int(self.config["max_active_terms"])
        self._own_scale = float(self.config.get("own_scale", 1.0))
        self.batch_tokens = batch_tokens
        self._torch = import_torch(f"the sparse encoder {self.name}")
        safetensors = require("safetensors.torch", extra="models", purpose=f"the sparse encoder {self.name}")
        self._base = MiniLM(device=device, dtype=dtype, max_tokens=int(self.config["max_tokens"]), backend=backend)
        self.backend = self._base.backend
        self.device, self.dtype, self.max_tokens = self._base.device, self._base.dtype, self._base.max_tokens
        try:
            tensors = safetensors.load_file(found.path / TENSORS)
            self._query = tensors["query"].float().numpy()
            self._prepare(tensors)
        except (OSError, KeyError, RuntimeError, ValueError) as err:
            raise DamagedArtifactError(
                str(found.path / TENSORS), f"cannot be read as a head ({type(err).__name__}: {err}); install it again"
            ) from err
        except Exception as err:
            if type(err).__name__ != "SafetensorError":
                raise
            raise DamagedArtifactError(str(found.path / TENSORS), f"is damaged ({err}); install it again") from err

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of the weights, their configuration and every setting that changes the output."""
        digest = hashlib.sha256((self._directory / TENSORS).read_bytes())
        settings = [self.config, self.max_active_terms, self.dtype]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def vocabulary(self) -> Sequence[str]:
        """MiniLM's 30,522 word pieces, and the buckets of rare words."""
        return self._terms.vocabulary

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The number of word pieces of each text."""
        return [len(pieces) for pieces in self._base.pieces(texts)]

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of `texts`, row i for text i. Terms are counted over the whole text."""
        encodings = self._base.encodings(texts)
        states = self._base.pooled([encoding.ids for encoding in encodings], self.batch_tokens)
        return self._weigh_all(states, encodings)

    def encode_pooled(self, vectors: NDArray[np.floating], texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of `texts` whose MiniLM vectors are given.

        Args:
            vectors: float[n, 384], mean token states at unit length (MiniLM's embeddings), row i for text i.
            texts: the n texts.

        Raises:
            InputError: the shape is not (n, 384).
        """
        if vectors.shape != (len(texts), WIDTH):
            raise InputError(f"{len(texts)} texts need vectors of shape ({len(texts)}, {WIDTH}), got {vectors.shape}")
        states = self._torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)).to(self.device)
        return self._weigh_all(self._torch.nn.functional.normalize(states, dim=1), self._base.encodings(texts))

    def _weigh_all(self, states: torch.Tensor, encodings: Sequence[Encoding]) -> SparseBatch:
        steps = range(0, len(encodings), _ROWS)
        return concatenate(
            [
                self.weigh(states[low : low + _ROWS], self._terms.count_all(encodings[low : low + _ROWS]))
                for low in steps
            ]
        )

    def weigh(self, states: torch.Tensor, counted: Counted) -> SparseBatch:
        """The head alone: weighted terms from pooled states float32[n, 384] and the counted terms of the texts."""
        torch = self._torch
        with torch.inference_mode():
            rows = torch.from_numpy(counted.rows()).to(self.device)
            terms = torch.from_numpy(counted.terms).to(self.device)
            dense = torch.addmm(self._expand_bias, states, self._expand.T)
            dense = torch.nn.functional.pad(dense, (0, self._terms.buckets))
            known = terms.clamp_max(len(self._own) - 1)
            gate = (states[rows] * self._own[known]).sum(1) + self._own_bias[known]
            saturated = torch.from_numpy(saturation(counted, self.config)).to(self.device)
            own = self._own_scale * torch.nn.functional.softplus(gate) * saturated
            dense[rows, terms] = dense[rows, terms].relu_() + own
            dense[:, :FIRST_TERM] = 0.0
            kept = rows_of(dense, self.max_active_terms)  # drops what is not positive; the logarithm keeps the order
            return SparseBatch(kept.indptr, kept.terms, np.log1p(kept.weights))

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Looked-up weights of the word pieces of queries."""
        return self.query_lookup.encode_queries(texts)

    @cached_property
    def query_lookup(self) -> LookupQueryEncoder:
        """The query side, which needs no model."""
        weights = np.maximum(self._query, 0.0).astype(np.float32)
        weights[:FIRST_TERM] = 0.0
        pieces, buckets = len(self._terms.pieces), self._terms.buckets
        weights = np.concatenate([weights[:pieces], np.full(buckets, weights[-1], dtype=np.float32)])
        return LookupQueryEncoder(
            self._base.tokenizer.to_str(),
            weights,
            self.vocabulary,
            repeats=True,
            fingerprint=self.fingerprint,
            name=self.name,
            terms=self._terms,
        )

    def save(self, directory: Path) -> None:
        """Write the query side."""
        self.query_lookup.save(directory)

    def _prepare(self, tensors: dict[str, torch.Tensor]) -> None:
        """Turn the stored head into one matrix per part, float32[30522, 384] on the device."""
        torch = self._torch
        names: dict[str, int] = self._base.tokenizer.get_vocab()
        shared = tensors["shared"].numpy() if "shared" in tensors else None
        self._terms = WordPieceTerms(sorted(names, key=names.__getitem__), shared, int(self.config.get("buckets", 0)))
        tied = tied_embeddings(self._base.body)
        moved = tensors["moved"].float() * tensors["moved_scale"].float()
        expand = tied @ tensors["expand"].float() + moved @ tensors["moved_basis"].float()
        bias = tensors["expand_bias"].float()
        bias[torch.from_numpy(self._terms.shared != np.arange(len(bias)))] = -torch.inf
        self._expand, self._expand_bias = expand.to(self.device), bias.to(self.device)
        own = torch.nn.functional.pad(tied @ tensors["own"].float(), (0, 0, 0, 1))  # the last row: buckets
        self._own, self._own_bias = own.to(self.device), tensors["own_bias"].float().to(self.device)


def tied_embeddings(body: Bert) -> torch.Tensor:
    """MiniLM's word-piece embeddings, centred and scaled to unit length: float32[30522, 384] on the CPU."""
    weights = body.embeddings.word_embeddings.weight.detach().float().cpu()
    centred = weights - weights.mean(0)
    unit: torch.Tensor = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def saturation(counted: Counted, config: dict[str, Any]) -> NDArray[np.float32]:
    """The saturated frequency tf / (tf + K) of each entry, K from the length of its text: float32[nnz]."""
    k1, b, average = float(config["k1"]), float(config["b"]), float(config["average"])
    norm = k1 * (1 - b + b * counted.lengths / average)
    return (counted.counts / (counted.counts + norm[counted.rows()])).astype(np.float32)


def _read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a trained head.

    Raises:
        DataNotFoundError: the directory holds none.
        DamagedArtifactError: it cannot be read, or is of another type.
    """
    file = directory / CONFIG
    if not file.is_file() or not (directory / TENSORS).is_file():
        raise DataNotFoundError(f"{directory} holds no trained head; expected {CONFIG} and {TENSORS}")
    try:
        config = read_json(file)
        if config["type"] != TYPE:
            raise ValueError(f"its type is {config['type']!r}, not {TYPE!r}")
        for name in ("k1", "b", "average", "max_tokens", "max_active_terms"):
            float(config[name])
    except (ValueError, KeyError, TypeError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); install the model again") from err
    return config


def is_expansion(directory: Path) -> bool:
    """Whether `directory` holds a trained head, by its configuration."""
    try:
        return bool(read_json(directory / CONFIG).get("type") == TYPE)
    except DamagedArtifactError:
        return False


def open_expansion(
    model: str = "",
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 32,
    max_active_terms: int | None = None,
    backend: str = "auto",
) -> ExpansionEncoder:
    """What `SparseEncoder.from_name` calls for `thresher-mini` and `expansion:DIRECTORY`.

    Args:
        model: a directory; empty for `thresher-mini`.
        device: `auto`, or a torch device.
        dtype: of MiniLM.
        batch_size: passages of 128 word pieces per forward pass.
        max_active_terms: as `ExpansionEncoder` takes it.
        backend: MiniLM's engine on a CPU.

    Raises:
        InputError: `batch_size` is below 1.
    """
    whole("batch_size", batch_size, 1)
    return ExpansionEncoder(
        model or "thresher-mini",
        device=device,
        dtype=dtype,
        batch_tokens=128 * batch_size,
        max_active_terms=max_active_terms,
        backend=backend,
    )
