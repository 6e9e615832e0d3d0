"""The two-headed cross-encoder in training: adapters on a frozen body, and the weights that are saved of it.

The wheel only loads such a model (`thresher.models.two_headed`), with its adapters merged.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from thresher.models.two_headed import (
    BODY,
    KIND,
    JoinedBertConfig,
    adapted_names,
    checked_weight,
    load_heads,
    untrained,
)
from training import lora

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def build(config: JoinedBertConfig) -> Any:
    """A model of that shape with untrained weights and an adapter at every linear map from the join on."""
    model = untrained(config)
    lora.adapt(model, adapted_names(config), rank=config.rank)
    return model


def load_body(model: Any, state: Mapping[str, Any]) -> None:
    """Put the weights of a Hugging Face BERT checkpoint under the adapters, and freeze them.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(BODY) or name.endswith((".lora_a", ".lora_b")):
                continue
            parameter.copy_(checked_weight(state, name.replace(".base.", "."), parameter.shape))
            parameter.requires_grad_(False)


def trained_state(model: Any) -> dict[str, Any]:
    """Every trained weight: adapter factors, gates, segments, heads."""
    own = {name: value.detach() for name, value in model.named_parameters() if not name.startswith(BODY)}
    return {**own, **lora.adapter_state(model)}


def save(
    model: Any, directory: Path, extra: Mapping[str, Any] | None = None, tensors: Mapping[str, Any] | None = None
) -> None:
    """Write `config.json` and `model.safetensors` (float16) with the trained weights alone.

    Args:
        model: with adapters, not merged.
        directory: made where it is not there.
        extra: what else `config.json` shall say.
        tensors: what else the weights file shall hold.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = {**trained_state(model), **(tensors or {})}
    state = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    save_file(state, str(directory / "model.safetensors"))
    document = {"kind": KIND, "format": 1, "shape": asdict(model.config), **(extra or {})}
    (directory / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def load_trained(model: Any, state: Mapping[str, Any]) -> None:
    """Put saved trained weights into a model with adapters.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    lora.load_adapter_state(model, state)
    load_heads(model, state)
