"""Texts packed one behind the other, without padding: passes side by side, each with one thread."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from thresher.models.hf import report, single_threaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from thresher.models.backend import Body
    from thresher.models.bert import Bert, Embeddings

PACKED = 512
"""Tokens in one pass; a longer text is a pass of its own."""


class FloatBert:
    """The layers of a BERT in a floating type, each text by itself.

    Args:
        body: in float32; not changed.
        dtype: `float32` or `bfloat16`, of the layers; what enters and what comes out is float32.
    """

    def __init__(self, body: Bert, dtype: str) -> None:
        self.width = body.config.hidden
        self._embeddings = body.embeddings
        self._dtype: torch.dtype = getattr(torch, dtype)
        layers = body.encoder.layer
        self._layers = list(layers if dtype == "float32" else copy.deepcopy(layers).to(self._dtype))

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
        shifts: Callable[[int, int], Tensor] | None = None,
    ) -> Tensor:
        """As `thresher.models.backend.Body` says."""
        found = []
        with torch.inference_mode():
            for text, own in enumerate(torch.split(states, list(lengths))):
                x = own[None].to(self._dtype)
                for number, layer in enumerate(self._layers[first:after], first):
                    x = layer(x, None if shifts is None else shifts(number, text).to(self._dtype))
                found.append(x[0].float())
            return torch.cat(found)


def embedded(part: Embeddings, rows: Sequence[Sequence[int]]) -> Tensor:
    """The output of a BERT's embeddings for texts one behind the other, float32[tokens, hidden]."""
    with torch.inference_mode():
        ids = torch.tensor([piece for row in rows for piece in row])
        places = torch.cat([torch.arange(len(row)) for row in rows])
        words = part.word_embeddings(ids) + part.position_embeddings(places) + part.token_type_embeddings.weight[0]
        states: Tensor = part.LayerNorm(words)
        return states


def pooled(body: Body, rows: Sequence[Sequence[int]], threads: int | None = None) -> Tensor:
    """Mean states of texts at unit length, float32[n, hidden].

    Args:
        body: the layers.
        rows: word-piece ids of each text, special tokens included.
        threads: passes side by side; None for torch's number of threads.
    """
    out = torch.zeros(len(rows), body.width)

    def one(batch: list[int]) -> None:
        lengths = [len(rows[place]) for place in batch]
        states = body.run(body.embed([rows[place] for place in batch]), lengths)
        for place, own in zip(batch, torch.split(states, lengths), strict=True):
            out[place] = functional.normalize(own.mean(0), dim=0)
        report(len(batch))

    single_threaded.map(one, packs([len(row) for row in rows], single_threaded.width(threads)), threads)
    return out


def packs(lengths: Sequence[int], width: int = 1, tokens: int = PACKED) -> list[list[int]]:
    """Positions of texts that one pass takes: texts of like length, together at most `tokens` long, longest first.

    A text longer than `tokens` is alone. Where there are few, passes are smaller, so that `width` of them take part.

    Args:
        lengths: tokens of the texts.
        width: passes that run side by side.
        tokens: most tokens in a pass.
    """
    tokens = min(tokens, -(-sum(lengths) // width))
    found: list[list[int]] = []
    left = 0
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[place] > left or not found:
            found.append([])
            left = tokens
        found[-1].append(place)
        left -= lengths[place]
    return found
