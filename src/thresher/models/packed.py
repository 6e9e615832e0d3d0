"""Texts packed one behind the other, without padding: passes side by side, each with one thread.

`pooled` makes vectors of texts; `JoinedReader` is the two-headed cross-encoder, which computes a query's states once
for all of its passages. `Batcher` lets callers in several threads share passes.
"""

from __future__ import annotations

import copy
import math
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

import torch
from torch.nn import functional

from thresher.models.backend import Joined, open_body
from thresher.models.bert import shift
from thresher.models.hf import report, single_threaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from thresher.models.backend import Backend, Body
    from thresher.models.bert import Bert, Embeddings, JoinedBert

T = TypeVar("T")
R = TypeVar("R")
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


class _Call(Generic[T, R]):
    """What one caller submitted."""

    def __init__(self, items: Sequence[T], due: float) -> None:
        self.items, self.due = list(items), due
        self.state: Literal["waiting", "running", "done"] = "waiting"
        self.results: list[R] = []
        self.error: Exception | None = None


class Batcher(Generic[T, R]):
    """Lets callers in several threads share calls of a function of many items, such as an encoder or a reader.

    Nothing waits for a batch to fill: a caller who finds the function idle calls it at once, with what others have
    submitted meanwhile, and whoever comes while it runs is in the next batch. Those with the nearest deadline go first.
    The results must not depend on what else is in the batch, as those of this package's models do not.

    Args:
        function: gives one result for each item, in order. Of a batch in which it raises, every caller's items are
            tried again alone, so that an error reaches only the caller whose items cause it.
        limit: most items in a call; a caller with more has a call of its own.

    Example:
        batcher = Batcher(encoder.encode_queries, 64)
        vectors = batcher.submit([query], seconds=0.2)   # in any thread; None: the time was over before its turn
    """

    def __init__(self, function: Callable[[list[T]], Iterable[R]], limit: int) -> None:
        self._function, self._limit = function, limit
        self._renew()
        _batchers.add(self)

    def _renew(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Call[T, R]] = []
        self._busy = False

    def __getstate__(self) -> dict[str, object]:
        return {"function": self._function, "limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["function"], state["limit"])  # type: ignore[misc]

    def submit(self, items: Sequence[T], *, seconds: float | None = None) -> list[R] | None:
        """The results of `items`, in order; None where their turn did not come within `seconds`.

        Raises:
            Exception: what the function raised for these items.
        """
        mine: _Call[T, R] = _Call(items, math.inf if seconds is None else time.monotonic() + seconds)
        with self._changed:
            self._waiting.append(mine)
            while mine.state == "running" or (mine.state == "waiting" and not self._is_next(mine)):
                left = math.inf if mine.state == "running" else mine.due - time.monotonic()
                if left <= 0:
                    self._waiting.remove(mine)
                    self._changed.notify_all()
                    return None
                self._changed.wait(None if left == math.inf else left)
            batch = self._next(mine) if mine.state != "done" else []
            self._busy = self._busy or bool(batch)
        if batch:
            try:
                self._run(batch)
            finally:
                with self._changed:
                    for call in batch:
                        call.state = "done"
                    self._busy = False
                    self._changed.notify_all()
        if mine.error is not None:
            raise mine.error
        return mine.results

    def _is_next(self, mine: _Call[T, R]) -> bool:
        return not self._busy and min(self._waiting, key=lambda call: call.due) is mine

    def _next(self, mine: _Call[T, R]) -> list[_Call[T, R]]:
        """The calls of the next batch, taken from those that wait: the caller's own, and others by deadline."""
        found, size = [mine], len(mine.items)
        for call in sorted(self._waiting, key=lambda call: call.due):
            if call is not mine and size + len(call.items) <= self._limit:
                found.append(call)
                size += len(call.items)
        for call in found:
            call.state = "running"
            self._waiting.remove(call)
        return found

    def _run(self, batch: list[_Call[T, R]]) -> None:
        try:
            results = list(self._function([item for call in batch for item in call.items]))
            for call in batch:
                call.results, results = results[: len(call.items)], results[len(call.items) :]
        except Exception as err:
            if len(batch) == 1:
                batch[0].error = err
                return
            for call in batch:
                self._run([call])


_batchers: weakref.WeakSet[Batcher[Any, Any]] = weakref.WeakSet()


def _after_fork() -> None:
    """The threads that hold a batcher do not survive a fork."""
    for batcher in list(_batchers):
        batcher._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
