"""An inference-free sparse encoder over the embedded MiniLM: `thresher-mini`, and what `thresher.encode.fit` trains.

The passage side reads a text with MiniLM. From the mean h of its token states (unit length), a word piece t with the
input embedding e_t gets the weight

    log(1 + relu(e_t' W h + b_t) + [t occurs in the text] * s * softplus(e_t' G h + c_t) * tf / (tf + K))

where K = k1 * (1 - b + b * length / average), and s is 1 unless chosen after training. The first part expands: pieces
that questions about this text would use, whether it holds them or not. The second weighs the text's own pieces, more
where the whole is about them; its saturation is BM25's. The heaviest `max_active_terms` stay. e_t is tied to MiniLM's
word-piece embeddings (centred, unit length) and moved by a learned low-rank table. The question side is a learned
weight a word piece, looked up (`thresher.encode.lookup`).

The form is SPLADE's (Formal et al., arXiv 2109.10086) with the masked-language-model head replaced by one reading of
the pooled state, and with the inference-free question side of Geng et al. (arXiv 2411.04403); the tied head needs 0.6
MB where an untied one needs 23. Own pieces have learned weights as in DeepImpact and uniCOIL, saturating as in BM25.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.lookup import LookupQueryEncoder
from thresher.encode.rows import concatenate, rows_of
from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError, require
from thresher.models.embedded import load_minilm
from thresher.models.resolve import resolve
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


__all__ = ["ExpansionEncoder", "saturation", "tied_embeddings"]

CONFIG, TENSORS, TYPE = "config.json", "model.safetensors", "thresher-expansion"
FIRST_TERM = 999
"""Word pieces below are [PAD], [unused..], [CLS] and other special ones, which are never terms."""

_ROWS = 256
"""Passages whose dense rows are held at a time: 31 MB."""


class ExpansionEncoder:
    """Passages through MiniLM and a trained head; questions through a table.

    Args:
        model: `thresher-mini`, or a directory that `thresher.encode.fit` wrote.
        device: `auto`, or what torch calls it.
        dtype: of MiniLM: `auto`, `float32`, `float16`, `bfloat16`.
        batch_tokens: word pieces in a forward pass, padding included.
        max_active_terms: keep at most that many of a passage's heaviest terms; None keeps the model's own limit.

    Raises:
        DataNotFoundError: there is no such model.
        MissingExtraError: MiniLM's package or torch is not installed.
        DamagedArtifactError: the weights cannot be read, or are for another base model.
    """

    def __init__(
        self,
        model: str | Path = "thresher-mini",
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int = 4096,
        max_active_terms: int | None = None,
    ) -> None:
        if batch_tokens < 1 or (max_active_terms is not None and max_active_terms < 1):
            raise InputError(
                f"batch_tokens is {batch_tokens}, max_active_terms {max_active_terms}; both must be above 0"
            )
        found = resolve(model)
        self.name = str(model)
        self._directory = found.path
        self.config = _read_config(found.path)
        self.max_active_terms = max_active_terms or int(self.config["max_active_terms"])
        self._own_scale = float(self.config.get("own_scale", 1.0))
        self.batch_tokens = batch_tokens
        self._torch: Any = require("torch", extra="models", purpose=f"the sparse encoder {self.name}")
        safetensors: Any = require("safetensors.torch", extra="models", purpose=f"the sparse encoder {self.name}")
        self._base = load_minilm(device=device, dtype=dtype, max_tokens=int(self.config["max_tokens"]))
        self.device, self.dtype = self._base.device, self._base.dtype
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
        """Sha256 over the weights, their configuration and every setting that changes the output."""
        digest = hashlib.sha256((self._directory / TENSORS).read_bytes())
        settings = [self.config, self.max_active_terms, self.dtype]
        digest.update(json.dumps(settings, sort_keys=True).encode())
        return digest.hexdigest()

    @cached_property
    def vocabulary(self) -> Sequence[str]:
        """MiniLM's 30,522 word pieces."""
        pieces: dict[str, int] = self._base.tokenizer.get_vocab()
        return tuple(sorted(pieces, key=pieces.__getitem__))

    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted word pieces of `texts`, row i for text i. Own pieces are counted over the whole text."""
        pieces = self._base.pieces(texts)
        return self._weigh_all(self._base.pooled(pieces, self.batch_tokens), pieces)

    def encode_pooled(self, vectors: NDArray[Any], texts: Sequence[str]) -> SparseBatch:
        """Weighted word pieces of `texts` whose MiniLM vectors are known already.

        Args:
            vectors: float[n, 384], mean token states at unit length: sentence-transformers' embeddings.
            texts: the n texts they are of.

        Raises:
            InputError: there is not one vector of 384 dimensions for each text.
        """
        width = self._base.module.config.hidden_size
        if vectors.shape != (len(texts), width):
            raise InputError(
                f"{len(texts)} texts need vectors of the shape ({len(texts)}, {width}), not {vectors.shape}"
            )
        states = self._torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32)).to(self.device)
        return self._weigh_all(self._torch.nn.functional.normalize(states, dim=1), self._base.pieces(texts))

    def _weigh_all(self, states: Any, pieces: Sequence[Sequence[int]]) -> SparseBatch:
        steps = range(0, len(pieces), _ROWS)
        return concatenate([self.weigh(states[low : low + _ROWS], pieces[low : low + _ROWS]) for low in steps])

    def weigh(self, states: Any, pieces: Sequence[Sequence[int]]) -> SparseBatch:
        """The head alone: weighted terms from pooled states float32[n, 384] and all word pieces of the texts."""
        torch = self._torch
        rows, terms, saturated = saturation(pieces, self.config)
        with torch.inference_mode():
            where = torch.from_numpy(rows).to(self.device), torch.from_numpy(terms).to(self.device)
            dense = torch.addmm(self._expand_bias, states, self._expand.T)
            gate = (states[where[0]] * self._own[where[1]]).sum(1) + self._own_bias[where[1]]
            own = self._own_scale * torch.nn.functional.softplus(gate) * torch.from_numpy(saturated).to(self.device)
            dense[where] = dense[where].relu_() + own
            dense[:, :FIRST_TERM] = 0.0
            kept = rows_of(dense, self.max_active_terms)  # drops what is not positive; the logarithm keeps the order
            return SparseBatch(kept.indptr, kept.terms, np.log1p(kept.weights))

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Looked-up weights of the word pieces of questions."""
        return self.query_lookup.encode_queries(texts)

    @cached_property
    def query_lookup(self) -> LookupQueryEncoder:
        """The question side, which needs no model."""
        weights = np.maximum(self._query, 0.0).astype(np.float32)
        weights[:FIRST_TERM] = 0.0
        return LookupQueryEncoder(
            self._base.tokenizer.to_str(),
            weights,
            self.vocabulary,
            repeats=True,
            fingerprint=self.fingerprint,
            name=self.name,
        )

    def save(self, directory: Path) -> None:
        """Write the question side."""
        self.query_lookup.save(directory)

    def _prepare(self, tensors: dict[str, Any]) -> None:
        """Turn the stored head into one matrix a part, float32[30522, 384] on the device."""
        tied = tied_embeddings(self._base.module)
        moved = tensors["moved"].float() * tensors["moved_scale"].float()
        expand = tied @ tensors["expand"].float() + moved @ tensors["moved_basis"].float()
        self._expand = expand.to(self.device)
        self._expand_bias = tensors["expand_bias"].float().to(self.device)
        self._own = (tied @ tensors["own"].float()).to(self.device)
        self._own_bias = tensors["own_bias"].float().to(self.device)


def tied_embeddings(module: Any) -> Any:
    """MiniLM's input embeddings of word pieces, centred and of unit length: float32[30522, 384] on the CPU."""
    weights = module.embeddings.word_embeddings.weight.detach().float().cpu()
    centred = weights - weights.mean(0)
    return centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)


def saturation(
    pieces: Sequence[Sequence[int]], config: dict[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Each text's distinct word pieces, and their saturated frequency tf / (tf + K): rows, terms, values."""
    k1, b, average = float(config["k1"]), float(config["b"]), float(config["average"])
    rows, terms, values = [], [], []
    for row, ids in enumerate(pieces):
        found, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
        rows.append(np.full(len(found), row, dtype=np.int64))
        terms.append(found)
        values.append((counts / (counts + k1 * (1 - b + b * len(ids) / average))).astype(np.float32))
    return np.concatenate(rows), np.concatenate(terms), np.concatenate(values)


def _read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a trained head.

    Raises:
        DataNotFoundError: the directory holds none.
        DamagedArtifactError: it cannot be read, or is another type's.
    """
    file = directory / CONFIG
    if not file.is_file() or not (directory / TENSORS).is_file():
        raise DataNotFoundError(f"{directory} holds no trained head: {CONFIG} and {TENSORS} are expected there")
    try:
        config: dict[str, Any] = json.loads(file.read_bytes())
        if config["type"] != TYPE:
            raise ValueError(f"its type is {config['type']!r}, not {TYPE!r}")
        for name in ("k1", "b", "average", "max_tokens", "max_active_terms"):
            float(config[name])
    except (ValueError, KeyError, TypeError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); install the model again") from err
    return config
