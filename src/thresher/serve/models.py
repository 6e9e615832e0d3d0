"""`Models`: what scores and encodes texts that a request brings along, loaded once, and shared by requests and indexes.

A model that a pipeline of a hosted index has loaded is not loaded again.
"""

from __future__ import annotations

import threading
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from thresher.encode import SparseEncoder
from thresher.encode.dense import MiniLMEncoder
from thresher.models.batcher import Batcher
from thresher.pipeline.deadline import stop_if_abandoned
from thresher.pipeline.interpolate import InterpolateStage
from thresher.pipeline.rerank import RerankStage
from thresher.pipeline.select import SelectStage
from thresher.pipeline.text_ranker import DEFAULT, MIXTURES, TextRanker
from thresher.serve.refusals import not_found
from thresher.serve.work import left_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thresher.context.scorers import SentenceScorer
    from thresher.pipeline.stage import Stage
    from thresher.serve.hosted import Hosted

SPARSE = "thresher-mini"
"""The encoder behind `/embed_sparse`."""
STEP = 32
"""Texts that are encoded at a time: a request with many lets others take turns, and is seen to have been left."""
Row = list[tuple[int, float]]
"""Term ids and weights of a text."""


class Models:
    """Models for posted texts. Safe to share between threads.

    Args:
        hosted: the indexes, whose pipelines may have loaded some.
    """

    def __init__(self, hosted: Mapping[str, Hosted]) -> None:
        self._hosted = hosted
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What a request may name as its model, rankers first."""
        return [*MIXTURES, SPARSE, MiniLMEncoder.name]

    def ranker(self, name: str | None = None) -> TextRanker:
        """The ranker of this name; the default where none is named.

        Raises:
            RefusedError: there is none.
        """
        if name and name not in MIXTURES:
            raise not_found(
                f"there is no model {name!r} here; give one of {', '.join(MIXTURES)}, or none for {DEFAULT}"
            )
        with self._lock:
            found = self._ranker
        return found.with_model(name or DEFAULT)

    def dense(self, name: str | None = None) -> MiniLMEncoder:
        """The encoder of texts to vectors.

        Raises:
            RefusedError: another is named.
        """
        if name and name != MiniLMEncoder.name:
            raise not_found(f"there is no model {name!r} for vectors here; give {MiniLMEncoder.name}, or none")
        with self._lock:
            found = self._ranker
        return found.encoder

    def sparse(self, texts: Sequence[str], *, queries: bool) -> list[Row]:
        """Terms of texts and their weights, by `thresher-mini`; ids are word pieces. In ascending order of ids.

        Raises:
            BudgetExhaustedError: the request's deadline is over.
            AbandonedError: its client has gone away.
        """
        with self._lock:
            batcher = self._sparse_queries if queries else self._sparse_passages
        rows: list[Row] = []
        while len(rows) < len(texts):
            stop_if_abandoned()
            left = left_ms()
            rows += batcher.submit(texts[len(rows) : len(rows) + STEP], seconds=None if left is None else left / 1000)
        return rows

    @cached_property
    def _ranker(self) -> TextRanker:
        scorer = encoder = None
        for stage in self._stages():
            if isinstance(stage, RerankStage | SelectStage):
                scorer = scorer or _shipped(stage.reader.scorer)
            elif isinstance(stage, InterpolateStage) and type(stage.encoder) is MiniLMEncoder:
                encoder = encoder or stage.encoder
        return TextRanker(scorer=scorer, encoder=encoder)

    def _stages(self) -> Iterator[Stage]:
        for hosted in self._hosted.values():
            yield from hosted.pipeline.stages

    @cached_property
    def _sparse(self) -> SparseEncoder:
        return SparseEncoder.from_name(SPARSE)

    @cached_property
    def _sparse_passages(self) -> Batcher[str, Row]:
        encoder = self._sparse
        return Batcher(lambda texts: _rows(encoder, texts, queries=False), 64)

    @cached_property
    def _sparse_queries(self) -> Batcher[str, Row]:
        encoder = self._sparse
        return Batcher(lambda texts: _rows(encoder, texts, queries=True), 64)


def _shipped(scorer: SentenceScorer) -> SentenceScorer | None:
    """The scorer where it is `thresher-context`."""
    return scorer if scorer.name.startswith("thresher-context") else None


def _rows(encoder: SparseEncoder, texts: list[str], *, queries: bool) -> list[Row]:
    found = encoder.encode_queries(texts) if queries else encoder.encode_passages(texts)
    ends = found.indptr.tolist()
    pairs = list(zip(found.terms.tolist(), found.weights.tolist(), strict=True))
    return [pairs[first:after] for first, after in pairwise(ends)]
