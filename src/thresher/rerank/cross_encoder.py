"""Cross-encoders as pointwise judges, through sentence-transformers.

Encoders with a classification head (MiniLM, BGE) and causal rerankers whose score is a logit difference (Qwen3, mxbai)
load the same way; the model's own configuration says which it is. A rating is the raw output, without the sigmoid
some models end in, which would tie ratings at 1. Ratings asked for together, by any query, are one batch.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any

from thresher.errors import InputError, ModelError, require
from thresher.llm.batching import Batcher
from thresher.llm.tokens import TokenizerTokens
from thresher.rerank.asks import Answer, Ask, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thresher.rerank.judge import Question
    from thresher.rerank.limiter import Gate


class CrossEncoderJudge:
    """Rates passages with a cross-encoder. Answers `Rate` alone.

    Args:
        model: a directory, a hub identifier, or a `sentence_transformers.CrossEncoder` that is loaded already.
        device: `auto`, `cpu`, `cuda`, ...
        batch_size: pairs in one batch.
        max_length: tokens of query and passage together; the model's own limit unless given.
        revision: of a hub model.
        download: fetch a hub model that is not in the cache.
    """

    def __init__(
        self,
        model: str | Path | Any,
        *,
        device: str = "auto",
        batch_size: int = 32,
        max_length: int | None = None,
        revision: str | None = None,
        download: bool = False,
    ) -> None:
        from thresher.models.files import directory_fingerprint, resolve
        from thresher.models.hf import pick_device

        library: Any = require("sentence_transformers", extra="models", purpose="running a cross-encoder")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size} must be at least 1")
        self.asks_per_call = batch_size
        if isinstance(model, library.CrossEncoder):
            self._model, self._name = model, str(model.model_card_data.base_model or "cross-encoder")
            self._fingerprint = uuid.uuid4().hex  # nobody knows what was done to it since it was loaded
        else:
            found = resolve(model, revision=revision, download=download)
            self._name = found.name
            self._fingerprint = directory_fingerprint(found.path)
            try:
                self._model = library.CrossEncoder(
                    str(found.path), device=pick_device(device), trust_remote_code=False, local_files_only=True
                )
            except (OSError, ValueError, ImportError) as err:
                raise ModelError(f"{found.path} cannot be loaded as a cross-encoder: {err}") from err
        if max_length is not None:
            self._model.max_seq_length = max_length
        torch: Any = require("torch", extra="models", purpose="running a cross-encoder")
        self._raw = torch.nn.Identity()
        self._max_length = max_length
        self._batch_size = batch_size
        self._tokens = TokenizerTokens(self._model.tokenizer.backend_tokenizer)
        self._batcher: Batcher[list[tuple[str, str]], list[float]] = Batcher(self._predict, 8)

    @property
    def name(self) -> str:
        """The model."""
        return f"cross-encoder({self._name})"

    async def answer(self, query: Question, asks: Sequence[Ask], gate: Gate) -> list[Answer | None]:
        """Rate the passages in one call.

        Raises:
            ModelError: the model fails, or outputs what is no number.
            InputError: an ask that is not `Rate`.
        """
        texts = [passage_text(query, ask, self.name) for ask in asks]

        async def send() -> Mapping[str, Any]:
            scores = await self._batcher.submit([(query.text, text) for text in texts])
            return {"scores": scores, "usage": {"prompt_tokens": bound, "answer_tokens": 0}}

        own = self._tokens.count(query.text) + 3
        longest = self._max_length or getattr(self._model, "max_seq_length", None)
        lengths = [self._tokens.count(text) + own for text in texts]
        if longest:
            gate.tally.truncated += sum(length > longest for length in lengths)
            lengths = [min(length, longest) for length in lengths]
        bound = sum(lengths)
        payload = {
            "cross-encoder": self._name,
            "files": self._fingerprint,
            "max_length": self._max_length,
            "query": query.text,
            "texts": texts,
        }
        reply = await gate.call(payload, bound, 0, send)
        return [Answer((ask.items,), score=score) for ask, score in zip(asks, reply["scores"], strict=True)]

    def close(self) -> None:
        """Let the working thread end."""
        self._batcher.close()

    def _predict(self, groups: Sequence[list[tuple[str, str]]]) -> list[list[float]]:
        """Scores of the pairs of several calls at once."""
        pairs = [pair for group in groups for pair in group]
        try:
            scores = self._model.predict(
                pairs, batch_size=self._batch_size, show_progress_bar=False, activation_fn=self._raw
            )
        except (RuntimeError, ValueError) as err:
            raise ModelError(f"{self._name} failed on {len(pairs)} passages: {err}") from err
        flat = _plain(scores, self._name)
        results, start = [], 0
        for group in groups:
            results.append(flat[start : start + len(group)])
            start += len(group)
        return results


def passage_text(query: Question, ask: Ask, judge: str) -> str:
    """What a pointwise judge reads of the passage an ask is about.

    Raises:
        InputError: the ask is not `Rate`.
    """
    if not isinstance(ask, Rate):
        raise InputError(
            f"{judge} rates passages one at a time and cannot answer {type(ask).__name__}; use the plan `pointwise`"
        )
    hit = query.hits[ask.items[0]]
    return f"{hit.title} {hit.text}" if hit.title else hit.text


def _plain(scores: Any, name: str) -> list[float]:
    """Scores as plain numbers.

    Raises:
        ModelError: one of them is none, or there are several a passage.
    """
    if getattr(scores, "ndim", 1) != 1:
        raise ModelError(f"{name} gives {scores.shape[-1]} outputs a passage; a reranker has one")
    values = [float(score) for score in scores]
    if not all(map(math.isfinite, values)):
        raise ModelError(f"{name} gave a score that is no number; it may be running in too small a float type")
    return values
