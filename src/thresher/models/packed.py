"""Texts packed one behind the other, without padding: passes side by side, each with one thread."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from thresher.models.bert import shift
from thresher.models.hf import report, single_threaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from thresher.models.backend import Body, Joined
    from thresher.models.bert import Bert, Embeddings

PACKED = 1152
"""Tokens in one pass, about: products are quicker with more of them. A longer text is a pass of its own."""


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
        joined: Joined | None = None,
    ) -> Tensor:
        """As `thresher.models.backend.Body` says."""
        found = []
        with torch.inference_mode():
            for text, own in enumerate(torch.split(states, list(lengths))):
                x = own[None].to(self._dtype)
                for number, layer in enumerate(self._layers[first:after]):
                    mask = None if joined is None else shift(joined.gates[number], joined.queries[text], len(own))
                    x = layer(x, mask if mask is None else mask.to(self._dtype))
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
    """Positions of texts that one pass takes: texts of like length, longest first.

    Passes are about equally long and a multiple of `width`, so that none is computed alone at the end.

    Args:
        lengths: tokens of the texts.
        width: passes that run side by side.
        tokens: most tokens in a pass; a longer text is alone.
    """
    rounds = max(1, math.ceil(sum(lengths) / (tokens * width)))
    target = min(tokens, sum(lengths) / (rounds * width))
    found: list[list[int]] = []
    done = 0  # tokens in passes before the last
    size = 0
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        # the middle of the text decides, so that what one pass has too much the next has less
        if not found or size + lengths[place] > tokens or done + size + lengths[place] / 2 > target * len(found):
            found.append([])
            done, size = done + size, 0
        found[-1].append(place)
        size += lengths[place]
    return found
