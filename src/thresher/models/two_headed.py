"""A small cross-encoder with two heads: how relevant the passage is, and which of its tokens are worth keeping.

One forward pass over a query and a passage gives a rank score and a keep logit for every token of the passage, as in
Provence (Chirkova and others, ICLR 2025, arXiv 2501.16214), so that reranking and pruning share its cost.

The body is a BERT bi-encoder (the embedded MiniLM) turned into a cross-encoder by *late joining*, as in PreTTR
(MacAvaney and others, SIGIR 2020, arXiv 2004.14255): the first `join` layers encode the query and the passage
separately, each with its own positions, exactly as the bi-encoder does; the layers above attend across both, through
low-rank adapters. Two departures keep what the bi-encoder learned. Attention from one text to the other is shifted by a
learned bias per layer, head and direction, which starts low, so that training starts from the bi-encoder. And the rank
score is a scaled cosine of the two mean states plus linear terms that start at zero, so that the ranking starts as
the bi-encoder's. Keep logits are computed from a token's state, its product with the query's mean state, its highest
cosine with a token of the query, and the passage's cosine.

The torch modules are in `thresher.models.bert`; nothing here imports torch before a model loads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import DamagedArtifactError, ModelError, require
from thresher.files import read_json
from thresher.models.hf import import_torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from thresher.models.bert import JoinedBert

_PURPOSE = "the two-headed cross-encoder"
KIND = "thresher-two-headed"
SHIPPED = Path(__file__).parent / "weights" / "thresher-context"
"""The model that ships."""
BODY = ("embeddings.", "encoder.")
"""Prefixes of the names of the body's weights."""


@dataclass(frozen=True, slots=True)
class JoinedBertConfig:
    """Shape of the model.

    Attributes:
        hidden: width of a state.
        layers: number of layers.
        heads: attention heads.
        intermediate: width of the feed-forward layer.
        vocabulary: number of word pieces.
        positions: longest sequence.
        join: the layers below this one encode query and passage separately.
        rank: rank of the adapters in the layers from `join` on.
        gate: initial value of the bias on attention between the texts.
        epsilon: of the layer normalisation.
    """

    hidden: int = 384
    layers: int = 6
    heads: int = 12
    intermediate: int = 1536
    vocabulary: int = 30522
    positions: int = 512
    join: int = 3
    rank: int = 32
    gate: float = -2.0
    epsilon: float = 1e-12


def untrained(config: JoinedBertConfig) -> JoinedBert:
    """A model of that shape with random weights and no adapters.

    Raises:
        MissingExtraError: torch is not installed.
    """
    import_torch(_PURPOSE)
    from thresher.models.bert import JoinedBert

    return JoinedBert(config)


def adapted_names(config: JoinedBertConfig) -> list[str]:
    """Dotted names of the linear maps that have adapters: all of the layers from the join on."""
    attention = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    parts = (*attention, "intermediate.dense", "output.dense")
    return [f"encoder.layer.{number}.{part}" for number in range(config.join, config.layers) for part in parts]


def is_saved(directory: Path) -> bool:
    """Whether `directory` holds such a model, by its configuration."""
    try:
        return bool(read_json(directory / "config.json").get("kind") == KIND)
    except DamagedArtifactError:
        return False


def read_config(directory: Path) -> tuple[JoinedBertConfig, dict[str, Any]]:
    """The shape of the saved model, and everything else its `config.json` says.

    Raises:
        ModelError: there is no such file, or it describes something else.
    """
    path = directory / "config.json"
    try:
        document = read_json(path)
        if document.get("kind") != KIND or document.get("format") != 1:
            raise ModelError(
                f"{path}: kind {document.get('kind')!r} format {document.get('format')!r}, expected {KIND!r} format 1"
            )
        return JoinedBertConfig(**document.pop("shape")), document
    except (DamagedArtifactError, ValueError, TypeError, KeyError) as err:
        raise ModelError(
            f"{path}: not the configuration of a two-headed cross-encoder ({type(err).__name__}: {err})"
        ) from err


def name_of(directory: Path, about: Mapping[str, Any]) -> str:
    """The name of a saved model, and twelve hexadecimal digits that stand for its weights and configuration.

    Args:
        directory: where it is.
        about: what its `config.json` says beside the shape.
    """
    files = (directory / "model.safetensors", directory / "config.json")
    digits = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return f"{about.get('name', directory.name)}@{digits}"


def load(directory: Path, body: Mapping[str, Tensor]) -> JoinedBert:
    """The model saved in `directory` on the given body, adapters merged, ready for inference.

    Args:
        directory: holds `config.json` and `model.safetensors`.
        body: weights of a Hugging Face BERT checkpoint.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    safetensors = require("safetensors.torch", extra="models", purpose=_PURPOSE)
    torch = import_torch(_PURPOSE)
    config, _ = read_config(directory)
    model = untrained(config)
    saved = safetensors.load_file(str(directory / "model.safetensors"))
    saved = {name: value.to(torch.float32) for name, value in saved.items()}
    load_body(model, body)
    load_heads(model, saved)
    merge_adapters(model, saved)
    return model.eval()


def load_body(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the weights of a Hugging Face BERT checkpoint into a model without adapters, and freeze them.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    _copy({name: one for name, one in model.named_parameters() if name.startswith(BODY)}, state)
    for name, parameter in model.named_parameters():
        if name.startswith(BODY):
            parameter.requires_grad_(False)


def load_heads(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the trained weights other than adapters: gates, segments and the two heads.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    _copy({name: one for name, one in model.named_parameters() if not name.startswith(BODY)}, state)


def _copy(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    torch = import_torch(_PURPOSE)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(checked_weight(state, name, parameter.shape))


def merge_adapters(model: JoinedBert, state: Mapping[str, Tensor]) -> None:
    """Add the product of each saved pair of low-rank factors to its linear map (LoRA; Hu and others, ICLR 2022).

    `NAME.lora_a` is float[rank, in] and `NAME.lora_b` float[out, rank]; weight += lora_b @ lora_a.

    Raises:
        ModelError: a factor is missing or has another shape.
    """
    torch = import_torch(_PURPOSE)
    rank = model.config.rank
    with torch.no_grad():
        for name in adapted_names(model.config):
            weight = model.get_parameter(f"{name}.weight")
            low = checked_weight(state, f"{name}.lora_a", (rank, weight.shape[1]))
            high = checked_weight(state, f"{name}.lora_b", (weight.shape[0], rank))
            weight.add_(high @ low)


def checked_weight(state: Mapping[str, Tensor], name: str, shape: Sequence[int]) -> Tensor:
    """The weight of that name.

    Raises:
        ModelError: it is missing or has another shape.
    """
    saved = state.get(name)
    if saved is None or tuple(saved.shape) != tuple(shape):
        found = "is missing" if saved is None else f"has shape {tuple(saved.shape)}"
        raise ModelError(f"weight {name} {found}; expected shape {tuple(shape)}")
    return saved


def pad(rows: Sequence[Sequence[int]], device: str | None = None) -> tuple[Tensor, Tensor]:
    """Token ids as one tensor int64[n, longest], padded at the end with zeros, and their lengths int64[n]."""
    torch = import_torch(_PURPOSE)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long, device=device)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, device=device)
    return ids, lengths
