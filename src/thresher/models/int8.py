"""A BERT body in int8 on a CPU, several times as quick as in float32 and as good at ranking.

Weights are rounded once, with a scale for each output; the activations in front of every linear map as they come, with
a scale for each token (`thresher.models.kernels`). The products are exact integers (`torch._int_mm`, which uses VNNI or
AMX where the processor has them), and each token's scale is its own, so that **a text's states are the same, bit for
bit, whatever else is in the batch and however many threads there are**. Layer normalisation and activations are
computed in float32; attention in bfloat16 (`thresher.models.attention`) where the processor has instructions for it,
else in float32, text by text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch.nn import functional

from thresher.models.attention import Mixer, Product
from thresher.models.backend import processor
from thresher.models.kernels import Norm, Rows, Weights, activate, quantise, settle, spread
from thresher.models.packed import embedded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from thresher.models.backend import Joined
    from thresher.models.bert import Bert, BertLayer

_ROUND, _FEW = 32, 8  # products have a multiple of this many rows, because each size is compiled once


def padded(rows: int) -> int:
    """Rows of a product of `rows` tokens: a multiple of 32, or of 8 up to 32, where a query is."""
    step = _FEW if rows <= _ROUND else _ROUND
    return -(-rows // step) * step


class Int8Linear:
    """A linear map with int8 weights, of one or several modules side by side.

    Attributes:
        weights: what the compiled loops need of it.
        outputs: its width.
    """

    def __init__(self, *parts: nn.Linear) -> None:
        matrix = torch.cat([part.weight.detach().float() for part in parts])
        scale = matrix.abs().amax(1).clamp_min(1e-20) / 127
        self._columns = (matrix / scale[:, None]).round().to(torch.int8).t().contiguous()
        bias = torch.cat([part.bias.detach().float() for part in parts])
        self.weights = Weights(self._columns.numpy(), scale.numpy(), bias.numpy())
        self.outputs = len(bias)

    def __call__(self, rows: Rows, out: Tensor) -> Product:
        """The integer product of all rows, in `out` int32[rows, outputs], and what turns it into numbers."""
        torch._int_mm(torch.from_numpy(rows.numbers), self._columns, out=out)
        return Product(out.numpy(), rows, self.weights)


class _Layer:
    def __init__(self, layer: BertLayer) -> None:
        inner, output = layer.attention.self, layer.attention.output
        self.heads = layer.heads
        self.inner = Int8Linear(inner.query, inner.key, inner.value)
        self.mixed, self.settled = Int8Linear(output.dense), _norm(output.LayerNorm)
        self.wide, self.narrow = Int8Linear(layer.intermediate.dense), Int8Linear(layer.output.dense)
        self.last = _norm(layer.output.LayerNorm)


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(norm.weight.detach().float().numpy(), norm.bias.detach().float().numpy(), np.float32(norm.eps))


class _Space(NamedTuple):
    """What a pass writes to, for each layer anew."""

    narrow: Rows
    mixed: Rows
    wide: Rows
    inner: Tensor
    few: Tensor
    many: Tensor


class Int8Bert:
    """The layers of a BERT body in int8.

    Args:
        body: in float32; its embeddings are used as they are, in float32.
        bfloat16: attention is computed in bfloat16, else in float32; None for bfloat16 where the processor has
            instructions for it.
    """

    def __init__(self, body: Bert, bfloat16: bool | None = None) -> None:
        here = any(name in processor() for name in ("avx512bf16", "amx-bf16"))
        self._bfloat16 = here if bfloat16 is None else bfloat16
        self.config, self.width = body.config, body.config.hidden
        self._embeddings = body.embeddings
        self._layers = [_Layer(cast("BertLayer", layer)) for layer in body.encoder.layer]

    def embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """What enters the first layer, float32[tokens, hidden]."""
        return embedded(self._embeddings, rows)

    def run(
        self,
        states: Tensor,
        lengths: Sequence[int],
        *,
        first: int = 0,
        after: int | None = None,
        joined: Joined | None = None,
    ) -> Tensor:
        """As `thresher.models.backend.Body` says; overwrites `states`."""
        n = len(states)
        space = self._space(padded(n))
        rows = states.numpy()
        mix = self._mixer(lengths, joined)
        with torch.inference_mode():
            quantise(rows, space.narrow, 0)
            for number, layer in enumerate(self._layers[first:after]):
                mix(layer.inner(space.narrow, space.inner), number, space.mixed)
                settle(*layer.mixed(space.mixed, space.few), rows, layer.settled, space.narrow)
                activate(*layer.wide(space.narrow, space.many), n, space.wide)
                settle(*layer.narrow(space.wide, space.few), rows, layer.last, space.narrow)
        return states

    def _mixer(self, lengths: Sequence[int], joined: Joined | None) -> Mixer | _FloatMixer:
        kind = Mixer if self._bfloat16 else _FloatMixer
        return kind(lengths, self._layers[0].heads, self.config.hidden, joined)

    def _space(self, m: int) -> _Space:
        d, wide = self.config.hidden, self.config.intermediate

        def rows(width: int) -> Rows:
            return Rows(
                np.zeros((m, width), np.int8), np.zeros(m, np.float32), np.zeros(m, np.float32), np.zeros(m, np.int32)
            )

        def sums(width: int) -> Tensor:
            return torch.empty((m, width), dtype=torch.int32)

        return _Space(rows(d), rows(d), rows(wide), sums(3 * d), sums(d), sums(wide))


class _FloatMixer:
    """Attention in float32, text by text; called as `thresher.models.attention.Mixer` is."""

    def __init__(self, lengths: Sequence[int], heads: int, hidden: int, joined: Joined | None) -> None:
        self._lengths, self._heads, self._joined = lengths, heads, joined
        self._inner = torch.empty((max(lengths), 3 * hidden))

    def __call__(self, product: Product, layer: int, into: Rows) -> None:
        low, joined = 0, self._joined
        for text, length in enumerate(self._lengths):
            own = self._inner[:length]
            spread(*product, low, own.numpy())
            if joined is None:
                mixed = _attend(own, self._heads)
            else:
                mixed = _attend_joined(own, self._heads, joined.gates[layer], joined.queries[text])
            quantise(mixed.numpy(), into, low)
            low += length


def _attend(inner: Tensor, heads: int) -> Tensor:
    """Attention of one text, [length, 3 * hidden] queries, keys and values to [length, hidden]."""
    length, width = inner.shape
    q, k, v = inner.view(length, 3, heads, width // 3 // heads).permute(1, 2, 0, 3)[:, None]
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return mixed[0].transpose(0, 1).reshape(length, width // 3)


def _attend_joined(inner: Tensor, heads: int, gates: Tensor, query: int) -> Tensor:
    """The same of a query and a passage, `gates` float32[2, heads] added to logits from one to the other.

    Rows of the query and of the passage apart: in each, what is added is the same for all rows, and no matrix of it
    needs to be made.
    """
    length, width = inner.shape
    q, k, v = inner.view(length, 3, heads, width // 3 // heads).permute(1, 2, 0, 3)[:, None]
    shift = gates.new_zeros(2, 1, heads, 1, length)
    shift[0, 0, :, 0, query:] = gates[0, :, None]
    shift[1, 0, :, 0, :query] = gates[1, :, None]
    parts = ((q[:, :, :query], shift[0]), (q[:, :, query:], shift[1]))
    mixed = [functional.scaled_dot_product_attention(rows, k, v, attn_mask=mask) for rows, mask in parts]
    return torch.cat([part[0].transpose(0, 1).reshape(-1, width // 3) for part in mixed])
