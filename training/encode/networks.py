"""BERT and MPNet in plain torch, for training and its teachers: no transformers, no thresher.

`Mlm.states` is the body of a masked-language model with its head's transform; `Mlm.rows` is the whole SPLADE vector
(Formal et al., SIGIR 2021): log(1 + relu(max over positions of the logits)). The product with the vocabulary is taken
in chunks without gradients, to find which position gives each term its weight; only the weights that are positive are
then computed again with gradients, which gives the gradients of the whole product.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - what torch's own documentation calls it

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

CLS, SEP, WIDTH = 101, 102, 30522
SPECIAL = (0, 100, 101, 102, 103)
CHUNK = 12_000
"""Positions whose logits exist at once."""


def read_weights(folders: Sequence[Path], name: str) -> dict[str, Tensor]:
    """The tensors of `name*.npz` in `folders`, as float32; empty where there are none."""
    found: dict[str, Tensor] = {}
    for file in sorted(file for folder in folders for file in Path(folder).glob(f"{name}*.npz")):
        with np.load(file, allow_pickle=False) as held:
            arrays = {key: held[key] for key in held.files}
        for key, array in arrays.items():
            if not key.endswith(".scale"):
                scale = arrays.get(f"{key}.scale", np.float32(1))
                found[key] = torch.from_numpy(array.astype(np.float32) * scale)
    return found


def pad(rows: Sequence[Tensor], first: int, last: int, fill: int) -> tuple[Tensor, Tensor]:
    """Rows of word pieces between `first` and `last`: int64[n, L], and which places are filled, bool[n, L]."""
    lengths = torch.tensor([len(row) + 2 for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), fill)
    for i, row in enumerate(rows):
        ids[i, 0], ids[i, 1 : len(row) + 1], ids[i, len(row) + 1] = first, row, last
    return ids, torch.arange(ids.shape[1])[None] < lengths[:, None]


class Padded:
    """Rows of word pieces as one tensor on the device: int32[n, L] and their lengths."""

    def __init__(self, rows: Sequence[Tensor], device: str) -> None:
        self.lengths = torch.tensor([len(row) + 2 for row in rows])
        held = np.zeros((len(rows), int(self.lengths.max())), np.int32)
        for i, row in enumerate(rows):
            held[i, 0], held[i, 1 : len(row) + 1], held[i, len(row) + 1] = CLS, row.numpy(), SEP
        self.ids, self.lengths = torch.from_numpy(held).to(device), self.lengths.to(device)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Word pieces of some rows, int64[n, L] with L their longest, and which places are filled."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        filled = torch.arange(longest, device=lengths.device)[None] < lengths[:, None]
        return self.ids[rows, :longest].long(), filled


def layer(
    x: Tensor, mask: Tensor, get: Mapping[str, Tensor], names: Mapping[str, str], heads: int, eps: float
) -> Tensor:
    """One post-norm transformer layer; `mask` is added to the attention logits."""
    n, length, width = x.shape

    def linear(value: Tensor, name: str) -> Tensor:
        return F.linear(value, get[f"{names[name]}.weight"], get[f"{names[name]}.bias"])

    def norm(value: Tensor, name: str) -> Tensor:
        return F.layer_norm(value, (width,), get[f"{names[name]}.weight"], get[f"{names[name]}.bias"], eps)

    q, k, v = (linear(x, part).view(n, length, heads, -1).transpose(1, 2) for part in "qkv")
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
    x = norm(x + linear(mixed.transpose(1, 2).reshape(n, length, width), "o"), "norm_1")
    return norm(x + linear(F.gelu(linear(x, "up")), "down"), "norm_2")


def _names(prefix: str, mpnet: bool) -> dict[str, str]:
    attention = (
        {part: f"{prefix}.attention.attn.{part}" for part in "qkvo"} | {"norm_1": f"{prefix}.attention.LayerNorm"}
        if mpnet
        else {part[0]: f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")}
        | {"o": f"{prefix}.attention.output.dense", "norm_1": f"{prefix}.attention.output.LayerNorm"}
    )
    return attention | {
        "up": f"{prefix}.intermediate.dense",
        "down": f"{prefix}.output.dense",
        "norm_2": f"{prefix}.output.LayerNorm",
    }


class Body:
    """A BERT or MPNet encoder over a dictionary of tensors."""

    def __init__(self, tensors: Mapping[str, Tensor], heads: int) -> None:
        self.get = {
            key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): value
            for key, value in tensors.items()
        }
        self.prefix = "bert." if "bert.embeddings.word_embeddings.weight" in self.get else ""
        self.mpnet = "encoder.relative_attention_bias.weight" in self.get
        self.heads, self.eps = heads, 1e-5 if self.mpnet else 1e-12
        self.layers = len({key.split("layer.")[1].split(".")[0] for key in self.get if "encoder.layer." in key})

    def to(self, device: str) -> None:
        """Move every tensor."""
        self.get = {key: value.to(device) for key, value in self.get.items()}

    def states(self, ids: Tensor, filled: Tensor) -> Tensor:
        """Last hidden states, [n, L, width]."""
        get, at = self.get, f"{self.prefix}embeddings"
        positions = torch.arange(ids.shape[1], device=ids.device) + (2 if self.mpnet else 0)
        x = get[f"{at}.word_embeddings.weight"][ids] + get[f"{at}.position_embeddings.weight"][positions]
        if not self.mpnet:
            x = x + get[f"{at}.token_type_embeddings.weight"][0]
        x = F.layer_norm(x, x.shape[-1:], get[f"{at}.LayerNorm.weight"], get[f"{at}.LayerNorm.bias"], self.eps)
        mask = torch.where(filled[:, None, None], 0.0, -1e4)
        if self.mpnet:
            mask = mask + self._relative(ids.shape[1], ids.device)
        for i in range(self.layers):
            x = layer(x, mask, get, _names(f"{self.prefix}encoder.layer.{i}", self.mpnet), self.heads, self.eps)
        return x

    def _relative(self, length: int, device: Any) -> Tensor:
        """MPNet's bias by distance, [1, heads, L, L]: 32 buckets, logarithmic from distance 8 to 128."""
        place = torch.arange(length, device=device)
        distance = place[None] - place[:, None]
        far = distance.abs()
        logarithmic = 8 + (torch.log(far.clamp_min(1).float() / 8) / math.log(16) * 8).long()
        bucket = torch.where(far < 8, far, logarithmic.clamp_max(15)) + (distance > 0) * 16
        return self.get["encoder.relative_attention_bias.weight"][bucket].permute(2, 0, 1)[None]

    @torch.no_grad()
    def vectors(self, rows: Sequence[Tensor], device: str, tokens: int = 65_536) -> Tensor:
        """Mean of states of each row, unit length, float32[n, width] on the device."""
        first, last, fill, shift = (0, 2, 1, 4) if self.mpnet else (CLS, SEP, 0, 0)
        width = self.get[f"{self.prefix}embeddings.word_embeddings.weight"].shape[1]
        out = torch.zeros(len(rows), width, device=device)
        for chunk in chunks([len(row) for row in rows], tokens):
            ids, filled = pad([rows[i] + shift for i in chunk], first, last, fill)
            ids, filled = ids.to(device), filled.to(device)
            with torch.autocast("cuda", torch.float16, enabled=device != "cpu"):
                states = self.states(ids, filled).float() * filled[..., None]
            pooled = F.normalize(states.sum(1) / filled.sum(1, keepdim=True), dim=1)
            out[torch.tensor(chunk, device=device)] = pooled
        return out


def chunks(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Row numbers, longest first, in chunks of at most `tokens` padded positions."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    out: list[list[int]] = []
    while order:
        size = max(1, tokens // (lengths[order[0]] + 2))
        out.append(order[:size])
        order = order[size:]
    return out


class Mlm(Body):
    """A BERT masked-language model whose decoder is tied to its word embeddings."""

    def transformed(self, ids: Tensor, filled: Tensor) -> Tensor:
        """States after the head's transform, [n, L, width]: what the vocabulary is multiplied with."""
        at = "cls.predictions.transform"
        x = F.gelu(F.linear(self.states(ids, filled), self.get[f"{at}.dense.weight"], self.get[f"{at}.dense.bias"]))
        return F.layer_norm(
            x, x.shape[-1:], self.get[f"{at}.LayerNorm.weight"], self.get[f"{at}.LayerNorm.bias"], self.eps
        )

    @property
    def decoder(self) -> Tensor:
        """The word embeddings, [V, width]."""
        return self.get[f"{self.prefix}embeddings.word_embeddings.weight"]

    @property
    def bias(self) -> Tensor:
        """The decoder's bias, [V]."""
        return self.get["cls.predictions.bias"]

    def rows(self, states: Tensor, filled: Tensor) -> Tensor:
        """SPLADE vectors of transformed states, [n, V]."""
        n, length = filled.shape
        size = max(1, CHUNK // length)
        out = torch.zeros(n, WIDTH, device=states.device)
        found = [self._positive(states[i : i + size], filled[i : i + size], i) for i in range(0, n, size)]
        row, term, place = (torch.cat([part[j] for part in found]) for j in range(3))
        logits = (states[row, place] * self.decoder[term]).sum(-1) + self.bias[term]
        return out.index_put((row, term), torch.log1p(torch.relu(logits)))

    @torch.no_grad()
    def _whole(self, states: Tensor, filled: Tensor) -> Tensor:
        """What `rows` gives, without gradients and at half the cost, from logits in half precision on a GPU."""
        kind = torch.bfloat16 if states.is_cuda else torch.float32
        size = max(1, CHUNK // filled.shape[1])
        out = []
        for i in range(0, len(states), size):
            logits = (states[i : i + size].to(kind) @ self.decoder.to(kind).T).masked_fill_(
                ~filled[i : i + size, :, None], -1e4
            )
            best = logits.amax(1).float() + self.bias
            best[:, SPECIAL] = 0
            out.append(torch.log1p(torch.relu(best)))
        return torch.cat(out)

    @torch.no_grad()
    def _positive(self, states: Tensor, filled: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        kind = torch.bfloat16 if states.is_cuda else torch.float32
        logits = states.to(kind) @ self.decoder.to(kind).T
        logits.masked_fill_(~filled[..., None], -1e4)
        best, place = logits.max(1)
        best = best.float() + self.bias
        best[:, SPECIAL] = -1
        row, term = (best > 0).nonzero(as_tuple=True)
        return row + start, term, place[row, term]

    @torch.no_grad()
    def encode(self, rows: Sequence[Tensor], device: str, limit: int | None) -> Tensor:
        """SPLADE vectors of rows of word pieces, at most `limit` terms each, float16[n, V] on the device."""
        out = torch.zeros(len(rows), WIDTH, device=device, dtype=torch.float16)
        for chunk in chunks([len(row) for row in rows], 4 * CHUNK):
            ids, filled = pad([rows[i] for i in chunk], CLS, SEP, 0)
            ids, filled = ids.to(device), filled.to(device)
            dense = self._whole(self.transformed(ids, filled), filled)
            if limit is not None:
                values, terms = dense.topk(limit, dim=1)
                dense = torch.zeros_like(dense).scatter_(1, terms, values)
            out[torch.tensor(chunk, device=device)] = dense.half()
        return out
