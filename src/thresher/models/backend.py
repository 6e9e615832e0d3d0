"""Which engine computes a model on this machine, and what every engine can do: run the layers of a BERT over texts.

| Name | What | Cosine of MiniLM's vectors with float32's |
| --- | --- | --- |
| `torch` | float32, each text by itself; float32 or float16 on an accelerator | 1 |
| `torch-bf16` | bfloat16, each text by itself | .9999 |
| `torch-int8` | int8 products, attention in bfloat16, float32 between them (`thresher.models.int8`) | .999 |

`auto` is `torch-int8` on a processor with int8 dot products (VNNI, AMX), else `torch`. On a CPU, with any of them,
the states of a text are the same, bit for bit, whatever else is encoded with it and however many threads there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from thresher.checks import shown
from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from thresher.models.bert import Bert

BACKENDS = ("torch", "torch-bf16", "torch-int8")
_INT8 = ("avx512vnni", "avxvnni", "amx-int8")
"""What LLVM calls the processor's instructions that make int8 products quick."""


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine that was picked.

    Attributes:
        name: one of `BACKENDS`.
        why: the reason, in words.
    """

    name: str
    why: str


class Joined(NamedTuple):
    """Pairs of a query and a passage, joined: attention from one to the other is shifted.

    Attributes:
        gates: float32[layers, 2, heads], added to attention logits from query to passage and from passage to query, in
            layers from the first that runs.
        queries: tokens of each text that are the query's, in front.
    """

    gates: Tensor
    queries: Sequence[int]


class Body(Protocol):
    """The layers of a BERT on a CPU, over texts that are packed one behind the other without padding.

    Attributes:
        width: numbers in a state.
    """

    width: int

    def embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """What enters the first layer, float32[tokens, hidden], from the word-piece ids of texts."""

    def run(
        self,
        states: Tensor,
        lengths: Sequence[int],
        *,
        first: int = 0,
        after: int | None = None,
        joined: Joined | None = None,
    ) -> Tensor:
        """States after layers `first` to `after` (exclusive), float32[tokens, hidden]; may overwrite `states`.

        Args:
            states: float32[tokens, hidden], of texts one behind the other.
            lengths: of the texts.
            first: number of the first layer.
            after: number behind the last layer; None for all.
            joined: where texts are pairs; None where they are single texts.
        """


def pick_backend(backend: str = "auto", *, device: str = "cpu", dtype: str = "auto") -> Backend:
    """The engine for `backend`.

    Args:
        backend: `auto`, or one of `BACKENDS`.
        device: where the model runs; only `torch` runs elsewhere than on a CPU.
        dtype: the caller's; where it is not `auto`, `auto` is torch, which computes in it.

    Raises:
        ConfigError: there is no such engine, or it does not run on the device.
    """
    if backend == "auto":
        if device != "cpu":
            return Backend("torch", f"runs on {device}")
        if dtype != "auto":
            return Backend("torch-bf16" if dtype == "bfloat16" else "torch", f"computes in {dtype}")
        found = next((name for name in _INT8 if name in processor()), "")
        if found:
            return Backend("torch-int8", f"the processor has {found}")
        return Backend("torch", "the processor has no int8 dot products")
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {shown(backend)}; use auto, {', '.join(BACKENDS)}")
    if device != "cpu" and backend != "torch":
        raise ConfigError(f"the backend {backend} runs on a CPU, but the device is {device}; use torch or auto")
    return Backend(backend, "as asked")


@lru_cache(maxsize=1)
def processor() -> frozenset[str]:
    """The processor's instruction sets, by LLVM's names."""
    from llvmlite import binding  # comes with numba

    return frozenset(name for name, here in binding.get_host_cpu_features().items() if here)


def open_body(bert: Bert, backend: Backend) -> Body:
    """The layers of `bert`, which is in float32 on a CPU, on an engine."""
    if backend.name == "torch-int8":
        from thresher.models.int8 import Int8Bert

        return Int8Bert(bert)
    from thresher.models.packed import FloatBert

    return FloatBert(bert, "bfloat16" if backend.name == "torch-bf16" else "float32")
