"""Models that queries in several threads share: while one batch runs, the queries that come make the next.

On a CPU a model uses all cores, so one batch runs at a time, whatever its model. Nothing waits for a batch to fill. The
passages that a query has read are cut to what fits its deadline at the moment its batch begins, when it is known how
much of the model's time it shares with others. What a model computes for one text does not depend on the rest of the
batch, so a query gets the answer that it gets alone.
"""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.errors import BudgetExhaustedError
from thresher.models.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from thresher.context.scorers import PassageScores, SentenceScorer, SplitPassage
    from thresher.pipeline.deadline import Deadline

_QUERIES = 64
"""Queries that are encoded at once, at most."""
_TEXTS = 64
"""Texts whose vectors are computed at once, at most."""
_READINGS = 4
"""Queries whose passages are read at once, at most: more would wait longer and not be read faster."""


class QueryEncoder(Protocol):
    """The query side of a dense encoder."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of queries, float[n, dimensions]."""
        ...


class PassageEncoder(Protocol):
    """The passage side of a dense encoder."""

    def encode_passages(self, texts: Sequence[str]) -> NDArray[np.floating]:
        """Vectors of passages, float[n, dimensions]."""
        ...


@dataclass(slots=True)
class _Encoding:
    """A query to be encoded."""

    encoder: QueryEncoder
    text: str


@dataclass(slots=True)
class _PassageEncoding:
    """A passage to be encoded."""

    encoder: PassageEncoder
    text: str


@dataclass(slots=True)
class Reading:
    """Passages to be read with a query.

    Attributes:
        scorer: the model.
        pairs: the query with each passage.
        tokens: of each passage.
        fitting: how many of them fit, given how many queries share the model and the milliseconds that the batch may
            take for those of them that are due first; called when the batch begins.
        observe: told once a batch how many milliseconds it took, and the tokens of each passage of it.
        deadline: of the query.
    """

    scorer: SentenceScorer
    pairs: Sequence[tuple[str, SplitPassage]]
    tokens: Sequence[int]
    fitting: Callable[[int, float], int]
    observe: Callable[[float, Sequence[int]], None]
    deadline: Deadline


class _ModelTurns:
    """The lock of the batch that runs."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)  # the thread that holds the lock does not survive a fork

    def renew(self) -> None:
        self.lock = threading.Lock()


_turns = _ModelTurns()


_watchers: list[Callable[[str, int], None]] = []


@contextmanager
def watching_batches(done: Callable[[str, int], None]) -> Iterator[None]:
    """Inside the block, `done` is told of each batch: `encode` or `read`, and how many queries shared it."""
    _watchers.append(done)
    try:
        yield
    finally:
        _watchers.remove(done)


def _report(work: str, queries: int) -> None:
    for watcher in tuple(_watchers):
        watcher(work, queries)


def encoded(
    encoder: QueryEncoder, text: str, deadline: Deadline, *, patient: bool = False
) -> NDArray[np.floating] | None:
    """The vector of a query, float[dimensions]; None where the encoder was not free before the deadline.

    Args:
        encoder: the model.
        text: the query.
        deadline: what was waited for other queries is added to its `waited`.
        patient: wait longer where it must be.
    """
    came = time.perf_counter()
    try:
        ((vector, began),) = _encoders.submit([_Encoding(encoder, text)], seconds=_seconds(deadline, patient=patient))
    except BudgetExhaustedError:
        deadline.waited += (time.perf_counter() - came) * 1000
        return None
    deadline.waited += (began - came) * 1000
    return vector


def passage_vectors(encoder: PassageEncoder, texts: Sequence[str], deadline: Deadline) -> NDArray[np.floating] | None:
    """Vectors of passages, float[n, dimensions]; None where the encoder was not free before the deadline."""
    try:
        rows = _passages.submit(
            [_PassageEncoding(encoder, text) for text in texts], seconds=_seconds(deadline, patient=False)
        )
    except BudgetExhaustedError:
        return None
    return np.array(rows)


def read(reading: Reading, deadline: Deadline) -> list[PassageScores]:
    """The scores of the passages from the front that fit the deadline; none where the model was not free before it."""
    came = time.perf_counter()
    try:
        ((scores, began),) = _readers.submit([reading], seconds=_seconds(deadline, patient=False))
    except BudgetExhaustedError:
        deadline.waited += (time.perf_counter() - came) * 1000
        return []
    deadline.waited += (began - came) * 1000
    return scores


def _seconds(deadline: Deadline, *, patient: bool) -> float | None:
    return max(0.0, deadline.left() / 1000) if deadline.limited and not patient else None


def _encode(batch: list[_Encoding]) -> list[tuple[NDArray[np.floating], float]]:
    found: dict[int, tuple[NDArray[np.floating], float]] = {}
    for places in _by_model([one.encoder for one in batch]):
        with _turns.lock:
            began = time.perf_counter()
            vectors = batch[places[0]].encoder.encode_queries([batch[place].text for place in places])
        _report("encode", len(places))
        found |= {place: (vector, began) for place, vector in zip(places, vectors, strict=True)}
    return [found[place] for place in range(len(batch))]


def _encode_passages(batch: list[_PassageEncoding]) -> list[NDArray[np.floating]]:
    found: dict[int, NDArray[np.floating]] = {}
    for places in _by_model([one.encoder for one in batch]):
        with _turns.lock:
            vectors = batch[places[0]].encoder.encode_passages([batch[place].text for place in places])
        found |= dict(zip(places, vectors, strict=True))
    return [found[place] for place in range(len(batch))]


def _read(batch: list[Reading]) -> list[tuple[list[PassageScores], float]]:
    found: dict[int, tuple[list[PassageScores], float]] = {}
    for places in _by_model([one.scorer for one in batch]):
        readings = [batch[place] for place in places]
        with _turns.lock:
            began, now = time.perf_counter(), readings[0].deadline.now
            started, counts = now(), _shares(readings)
            parts = list(zip(readings, counts, strict=True))
            pairs = [pair for one, count in parts for pair in one.pairs[:count]]
            scores = readings[0].scorer.score(pairs) if pairs else []
            if pairs:
                tokens = [length for one, count in parts for length in one.tokens[:count]]
                readings[0].observe((now() - started) * 1000, tokens)
        _report("read", len(places))
        for place, count in zip(places, counts, strict=True):
            found[place], scores = (scores[:count], began), scores[count:]
    return [found[place] for place in range(len(batch))]


def _shares(readings: Sequence[Reading]) -> list[int]:
    """How many passages of each are read in this batch, which ends in time for the first deadline of them.

    The others read on in the next batch.
    """
    counts, limit = [0] * len(readings), math.inf
    left = [one.deadline.left() for one in readings]
    for place in sorted(range(len(readings)), key=left.__getitem__):
        counts[place] = readings[place].fitting(len(readings), limit)
        if counts[place]:
            limit = min(limit, left[place])
    return counts


def _by_model(models: Sequence[object]) -> list[list[int]]:
    """The places of each model."""
    places: dict[int, list[int]] = {}
    for place, model in enumerate(models):
        places.setdefault(id(model), []).append(place)
    return list(places.values())


_encoders: Batcher[_Encoding, tuple[NDArray[np.floating], float]] = Batcher(_encode, _QUERIES)
_passages: Batcher[_PassageEncoding, NDArray[np.floating]] = Batcher(_encode_passages, _TEXTS)
_readers: Batcher[Reading, tuple[list[PassageScores], float]] = Batcher(_read, _READINGS)
