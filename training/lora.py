"""Low-rank adapters: a frozen linear map and a trained correction of small rank.

LoRA (Hu and others, ICLR 2022, arXiv 2106.09685): y = W x + b + (alpha / r) B A x, where A has r rows and B r columns.
A starts at random and B at zero, so that an adapted model starts as the model it adapts. `merge` adds the product to
the weights, after which the correction costs nothing.

The torch classes are made on first use, because torch is an optional dependency.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from thresher.errors import ModelError, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_A, _B = "lora_a", "lora_b"


@cache
def _low_rank_class() -> Any:
    torch: Any = require("torch", extra="models", purpose="low-rank adapters")

    base_class: Any = torch.nn.Module

    class LowRank(base_class):  # type: ignore[misc]  # torch is untyped here
        """`base(x)` plus the scaled product of the two factors."""

        def __init__(self, base: Any, rank: int, alpha: float) -> None:
            super().__init__()
            self.base = base
            self.scale = alpha / rank
            self.lora_a = torch.nn.Parameter(torch.empty(rank, base.in_features))
            self.lora_b = torch.nn.Parameter(torch.zeros(base.out_features, rank))
            torch.nn.init.normal_(self.lora_a, std=base.in_features**-0.5)

        def forward(self, x: Any) -> Any:
            functional = torch.nn.functional
            low = functional.linear(functional.linear(x, self.lora_a), self.lora_b)
            return self.base(x) + self.scale * low

    return LowRank


def adapt(module: Any, names: Iterable[str], *, rank: int, alpha: float | None = None) -> None:
    """Replace the linear maps of `module` whose dotted names are in `names` by adapted ones, frozen underneath.

    Args:
        module: a torch module, changed in place.
        names: dotted names of `torch.nn.Linear` submodules.
        rank: columns of B and rows of A.
        alpha: the correction is scaled by alpha / rank; the rank itself where None.

    Raises:
        ModelError: a name is not there, or is not a linear map.
    """
    torch: Any = require("torch", extra="models", purpose="low-rank adapters")
    for name in names:
        parent_name, _, leaf = name.rpartition(".")
        try:
            parent = module.get_submodule(parent_name)
            base = getattr(parent, leaf)
        except AttributeError as err:
            raise ModelError(
                f"no submodule {name!r} to adapt; the model is not of the kind the adapter was made for"
            ) from err
        if not isinstance(base, torch.nn.Linear):
            raise ModelError(f"submodule {name!r} is {type(base).__name__}, and only linear maps can be adapted")
        for parameter in base.parameters():
            parameter.requires_grad_(False)
        setattr(parent, leaf, _low_rank_class()(base, rank, float(alpha if alpha is not None else rank)))


def _adapted(module: Any) -> dict[str, Any]:
    kind = _low_rank_class()
    return {name: sub for name, sub in module.named_modules() if isinstance(sub, kind)}


def adapter_state(module: Any) -> dict[str, Any]:
    """The factors of every adapted map: `NAME.lora_a` float[rank, in], `NAME.lora_b` float[out, rank]."""
    state = {}
    for name, sub in _adapted(module).items():
        state[f"{name}.{_A}"] = sub.lora_a.detach()
        state[f"{name}.{_B}"] = sub.lora_b.detach()
    return state


def load_adapter_state(module: Any, state: Mapping[str, Any]) -> None:
    """Put saved factors into the adapted maps of `module`.

    Raises:
        ModelError: a factor is missing or has another shape.
    """
    torch: Any = require("torch", extra="models", purpose="low-rank adapters")
    with torch.no_grad():
        for name, sub in _adapted(module).items():
            for key in (_A, _B):
                saved, here = state.get(f"{name}.{key}"), getattr(sub, key)
                if saved is None or tuple(saved.shape) != tuple(here.shape):
                    found = "is missing" if saved is None else f"has shape {tuple(saved.shape)}"
                    raise ModelError(f"adapter weight {name}.{key} {found}; expected shape {tuple(here.shape)}")
                here.copy_(saved)


def merge(module: Any) -> None:
    """Add every correction to its weights and put the plain linear maps back: the same outputs at the base's cost."""
    torch: Any = require("torch", extra="models", purpose="low-rank adapters")
    for name, sub in _adapted(module).items():
        parent_name, _, leaf = name.rpartition(".")
        with torch.no_grad():
            sub.base.weight += sub.scale * (sub.lora_b @ sub.lora_a)
        setattr(module.get_submodule(parent_name), leaf, sub.base)
