"""Texts packed one behind the other, without padding: passes side by side, each with one thread.

`pooled` makes vectors of texts; `JoinedReader` is the two-headed cross-encoder, which computes a query's states once
for all of its passages.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn import functional

from thresher.models.backend import Joined, open_body
from thresher.models.bert import shift
from thresher.models.hf import report, single_threaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.backend import Backend, Body
    from thresher.models.bert import Bert, Embeddings, JoinedBert

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


Outputs: TypeAlias = "list[NDArray[np.float64]]"
"""What `JoinedBert.judge_in_full` gives for a pair."""


class JoinedReader:
    """`thresher.models.bert.JoinedBert` on an engine; every pair is computed from itself alone.

    Args:
        model: in float32 on a CPU.
        backend: the engine of the layers; the heads are computed in float32.
    """

    def __init__(self, model: JoinedBert, backend: Backend) -> None:
        self._model, self._join = model, model.config.join
        self._body = open_body(model, backend)

    def apart(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """States of texts below the join, float32[length, hidden] each, from their word-piece ids."""
        lengths = [len(row) for row in rows]
        return list(torch.split(self._body.run(self._body.embed(rows), lengths, after=self._join), lengths))

    def judge(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        stored: Sequence[NDArray[np.float32] | None] | None = None,
    ) -> list[Outputs]:
        """What `JoinedBert.judge_in_full` gives for each pair of a query's and a passage's ids, as float64 arrays.

        Passes run side by side, as many as torch has threads, each with one thread.

        Args:
            pairs: word-piece ids.
            stored: of each pair the passage's states below the join, float32[length, hidden], None where they are to be
                computed.
        """
        given = stored or [None] * len(pairs)
        queries = list(dict.fromkeys(tuple(query) for query, _ in pairs))
        asked: dict[Sequence[int], Tensor] = {}
        found: dict[int, Outputs] = {}

        def ask(query: tuple[int, ...]) -> None:
            (asked[query],) = self.apart([query])

        def one(batch: list[int]) -> None:
            unread = [place for place in batch if given[place] is None]
            computed = iter(self.apart([pairs[place][1] for place in unread]) if unread else ())
            passages = [
                next(computed) if (known := given[place]) is None else torch.from_numpy(known) for place in batch
            ]
            mine = [asked[tuple(pairs[place][0])] for place in batch]
            found.update(zip(batch, self.together(mine, passages), strict=True))

        single_threaded.map(ask, queries)
        width = single_threaded.width()
        single_threaded.map(one, packs([len(query) + len(passage) for query, passage in pairs], width))
        return [found[place] for place in range(len(pairs))]

    def together(self, queries: Sequence[Tensor], passages: Sequence[Tensor]) -> list[Outputs]:
        """The same from the states of both below the join."""
        model = self._model
        with torch.inference_mode():
            segments = model.segments
            pairs = [torch.cat([q + segments[0], p + segments[1]]) for q, p in zip(queries, passages, strict=True)]
            lengths = [len(states) for states in pairs]
            both = Joined(model.gates, [len(query) for query in queries])
            states = torch.split(self._body.run(torch.cat(pairs), lengths, first=self._join, joined=both), lengths)
            out = []
            for query, last in zip(queries, states, strict=True):
                judged = model.judge_in_full(last[None, : len(query)], last[None, len(query) :], None, None)
                out.append([tensor.double().numpy()[0] for tensor in judged])
            return out
