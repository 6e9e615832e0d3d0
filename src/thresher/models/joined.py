"""The two-headed cross-encoder on a CPU: passages packed without padding, the query's states computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch

from thresher.models.backend import Joined, open_body
from thresher.models.hf import single_threaded
from thresher.models.packed import packs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.backend import Backend
    from thresher.models.bert import JoinedBert

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

    def judge(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Outputs]:
        """What `JoinedBert.judge_in_full` gives for each pair of a query's and a passage's ids, as float64 arrays.

        Passes run side by side, as many as torch has threads, each with one thread.
        """
        queries = list(dict.fromkeys(tuple(query) for query, _ in pairs))
        asked: dict[Sequence[int], Tensor] = {}
        found: dict[int, Outputs] = {}

        def ask(query: tuple[int, ...]) -> None:
            (asked[query],) = self.apart([query])

        def one(batch: list[int]) -> None:
            passages = self.apart([pairs[place][1] for place in batch])
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
