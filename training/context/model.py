"""The two-headed cross-encoder in training: low-rank adapters (peft) on a frozen body, and the weights saved of it.

Adapters are LoRA (Hu and others, ICLR 2022, arXiv 2106.09685): y = W x + b + B A x, where A has `rank` rows and B as
many columns. A starts at random and B at zero, so an adapted model starts as the model it adapts. The wheel only loads
such a model, with its adapters merged (`thresher.models.two_headed`).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, inject_adapter_in_model
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

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_FACTORS = {"lora_a": "lora_A", "lora_b": "lora_B"}
"""Names of the two factors in a weights file, and in peft."""


def build(config: JoinedBertConfig) -> Any:
    """A model of that shape with untrained weights and an adapter at every linear map from the join on."""
    model = untrained(config)
    names = adapted_names(config)
    if names:
        inject_adapter_in_model(LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=names), model)
    for name in names:
        factor = _factor(model, name, "lora_a")
        torch.nn.init.normal_(factor, std=factor.shape[1] ** -0.5)
    for name, parameter in model.named_parameters():  # peft freezes all but its own
        if not name.startswith(BODY):
            parameter.requires_grad_(True)
    return model


def load_body(model: Any, state: Mapping[str, Any]) -> None:
    """Put the weights of a Hugging Face BERT checkpoint under the adapters, and freeze them.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(BODY) and "lora_" not in name:
                parameter.copy_(checked_weight(state, name.replace(".base_layer.", "."), parameter.shape))
                parameter.requires_grad_(False)


def trained_state(model: Any) -> dict[str, Any]:
    """Every trained weight: `NAME.lora_a` float[rank, in], `NAME.lora_b` float[out, rank], gates, segments, heads."""
    own = {name: value.detach() for name, value in model.named_parameters() if not name.startswith(BODY)}
    return own | {
        f"{name}.{key}": _factor(model, name, key).detach() for name in adapted_names(model.config) for key in _FACTORS
    }


def load_trained(model: Any, state: Mapping[str, Any]) -> None:
    """Put saved trained weights into a model with adapters.

    Raises:
        ModelError: a weight is missing or has another shape.
    """
    with torch.no_grad():
        for name in adapted_names(model.config):
            for key in _FACTORS:
                factor = _factor(model, name, key)
                factor.copy_(checked_weight(state, f"{name}.{key}", factor.shape))
    load_heads(model, state)


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


def _factor(model: Any, name: str, key: str) -> Any:
    """One factor of the adapter at a linear map."""
    return getattr(model.get_submodule(name), _FACTORS[key])["default"].weight
