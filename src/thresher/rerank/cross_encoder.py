"""Cross-encoders as pointwise judges, through sentence-transformers.

Encoders with a classification head (MiniLM, BGE) and causal rerankers whose score is a logit difference (Qwen3, mxbai)
load the same way, as the model's configuration says. A rating is the raw output, without the sigmoid of some models,
which would tie ratings at 1. Ratings requested together, by any query, are one batch.

`thresher-context`, the model that ships for choosing sentences, also has a rank head: `ContextJudge` rates with it.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Protocol

from thresher.arguments import checked_call
from thresher.errors import InputError, ModelError, require
from thresher.llm.client import Call
from thresher.llm.model import TokenUsage
from thresher.llm.tokens import TokenizerTokens
from thresher.models.batcher import Batcher
from thresher.registry import Registry
from thresher.rerank.judges import Scores
from thresher.rerank.plans.plan import Answer, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sentence_transformers import CrossEncoder

    from thresher.llm.client import Client
    from thresher.records import Hit, Query
    from thresher.rerank.plans.plan import Comparison

_CALLS = 8
"""Calls of full size that the model answers at once at most."""


class CrossEncoderJudge:
    """Rates passages with a cross-encoder. Answers `Rate` alone.

    Args:
        model: a directory, a hub identifier, or a loaded `sentence_transformers.CrossEncoder`.
        device: `auto`, `cpu`, `cuda`, ...
        batch_size: pairs in one batch.
        max_length: most tokens of query and passage together; by default as many as the tokenizer allows and the model
            has positions for.
        revision: of a hub model.
        download: fetch a hub model that is not in the cache.

    Attributes:
        fingerprint: checksum of the model's files; empty for a loaded model.
    """

    rates_only = True

    @checked_call
    def __init__(
        self,
        model: str | Path | CrossEncoder,
        *,
        device: str = "auto",
        batch_size: int = 32,
        max_length: int | None = None,
        revision: str | None = None,
        download: bool = False,
    ) -> None:
        from thresher.models.files import directory_fingerprint, resolve
        from thresher.models.hf import load_sentence_transformers, pick_device

        library = require("sentence_transformers", extra="models", purpose="running a cross-encoder")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.comparisons_per_call = batch_size
        if isinstance(model, library.CrossEncoder):
            self._model, self._name = model, str(model.model_card_data.base_model or "cross-encoder")
            self._fingerprint = uuid.uuid4().hex  # its weights may have changed since it was loaded
            self.fingerprint = ""
        else:
            found = resolve(model, revision=revision, download=download)
            self._name = found.name
            self.fingerprint = self._fingerprint = directory_fingerprint(found.path)
            self._model = load_sentence_transformers(
                "CrossEncoder", found.path, device=pick_device(device), purpose="running a cross-encoder"
            )
        if max_length is not None and max_length < 1:
            raise InputError(f"max_length must be at least 1, got {max_length}")
        limits = [n for n in (max_length, getattr(self._model, "max_seq_length", None), _positions(self._model)) if n]
        if limits and (max_length is not None or min(limits) != limits[0]):
            self._model.max_seq_length = min(limits)
        torch = require("torch", extra="models", purpose="running a cross-encoder")
        self._raw = torch.nn.Identity()
        self._max_length = max_length
        self._batch_size = batch_size
        self._tokens = TokenizerTokens(self._model.tokenizer.backend_tokenizer)
        self._batcher: Batcher[tuple[str, str], float] = Batcher(self._predict, _CALLS * batch_size)

    @property
    def name(self) -> str:
        """The model."""
        return f"cross-encoder({self._name})"

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Rate the passages in one call.

        Raises:
            ModelError: the model fails, or a score is not a finite number.
            InputError: a comparison is not a `Rate`.
        """
        texts = [passage_text(candidates, comparison, self.name) for comparison in comparisons]

        async def send() -> Scores:
            scores = await self._batcher.asubmit([(query.text, text) for text in texts])
            return Scores(tuple(scores), TokenUsage(bound, 0))

        own = self._tokens.count(query.text) + 3
        longest = self._max_length or getattr(self._model, "max_seq_length", None)
        lengths = [self._tokens.count(text) + own for text in texts]
        if longest:
            client.counts.truncated += sum(length > longest for length in lengths)
            lengths = [min(length, longest) for length in lengths]
        bound = sum(lengths)
        payload = {
            "cross-encoder": self._name,
            "files": self._fingerprint,
            "max_length": self._max_length,
            "query": query.text,
            "texts": texts,
        }
        reply = await client.call(Call(payload, bound, 0, send, Scores.from_json, questions=len(texts)))
        return [Answer((one.items,), score=score) for one, score in zip(comparisons, reply.scores, strict=True)]

    def close(self) -> None:
        """End the worker thread."""
        self._batcher.close()

    def _predict(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Scores of the pairs of several calls at once."""
        try:
            scores = self._model.predict(
                pairs, batch_size=self._batch_size, show_progress_bar=False, activation_fn=self._raw
            )
        except (MemoryError, OSError):
            raise
        except Exception as err:  # torch, the tokenizer and the model's own code raise all kinds
            message = f"{self._name} failed on {len(pairs)} passages: {type(err).__name__}: {err}"
            raise ModelError(message) from err
        return _plain(scores, self._name)


class ContextJudge:
    """Rates passages with the rank head of `thresher-context` or another model of its kind. Answers `Rate` alone.

    Args:
        scorer: a model with a rank head (`thresher.context.model.TwoHeadedScorer`).
    """

    rates_only = True
    comparisons_per_call = 32

    def __init__(self, scorer: RankHead) -> None:
        self._scorer = scorer
        self._batcher: Batcher[tuple[str, Hit], float] = Batcher(self._predict, _CALLS * self.comparisons_per_call)

    @property
    def name(self) -> str:
        """The model."""
        return self._scorer.name

    async def answer(
        self, query: Query, candidates: Sequence[Hit], comparisons: Sequence[Comparison], client: Client
    ) -> list[Answer | None]:
        """Rate the passages in one call.

        Raises:
            ModelError: a score is not a finite number.
            InputError: a comparison is not a `Rate`.
        """
        texts = [passage_text(candidates, comparison, self.name) for comparison in comparisons]
        hits = [candidates[comparison.items[0]] for comparison in comparisons]
        own = self._scorer.count_tokens(query.text) + 3
        tokens = sum(self._scorer.count_tokens(text) + own for text in texts)

        async def send() -> Scores:
            scores = await self._batcher.asubmit([(query.text, hit) for hit in hits])
            return Scores(tuple(scores), TokenUsage(tokens, 0))

        payload = {"rank-head": self.name, "query": query.text, "texts": texts}
        reply = await client.call(Call(payload, tokens, 0, send, Scores.from_json, questions=len(texts)))
        return [Answer((one.items,), score=score) for one, score in zip(comparisons, reply.scores, strict=True)]

    def relevance(self, pairs: Sequence[tuple[str, Hit]]) -> list[float]:
        """The rating of every query and passage, without a client.

        Raises:
            ModelError: a score is not a finite number.
        """
        return _plain(self._scorer.relevance(pairs), self.name)

    def close(self) -> None:
        """End the worker thread."""
        self._batcher.close()

    def _predict(self, pairs: Sequence[tuple[str, Hit]]) -> list[float]:
        """Scores of the pairs of several calls at once."""
        return self.relevance(pairs)


class RankHead(Protocol):
    """A model that says how relevant a passage is."""

    name: str

    def relevance(self, pairs: Sequence[tuple[str, Hit]]) -> list[float]:
        """The score of every query and passage."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""


def context_judge(argument: str = "", *, device: str = "auto") -> ContextJudge:
    """The model that ships with thresher, `thresher-context`, or one of its kind in a directory.

    Raises:
        DataNotFoundError: its files are not on this machine.
        MissingExtraError: torch is not installed.
    """
    scorers: Registry[RankHead] = Registry(
        "sentence scorer",
        "thresher.sentence_scorers",
        {"thresher-context": "thresher.context.scorers:_shipped", "two-headed": "thresher.context.scorers:_two_headed"},
    )
    return ContextJudge(
        scorers.make(f"two-headed:{argument}" if argument else "thresher-context", offered={"device": device})
    )


def passage_text(candidates: Sequence[Hit], comparison: Comparison, judge: str) -> str:
    """Title and text of the passage to rate, for judges that rate one passage at a time.

    Raises:
        InputError: the comparison is not a `Rate`.
    """
    if not isinstance(comparison, Rate):
        raise InputError(
            f"{judge} only rates single passages and cannot answer {type(comparison).__name__}; use the plan "
            "`pointwise`"
        )
    hit = candidates[comparison.items[0]]
    return f"{hit.title} {hit.text}" if hit.title else hit.text


def _positions(model: CrossEncoder) -> int | None:
    """The longest input that the model has positions for, None if it does not say.

    Models of RoBERTa's family begin to count after the padding, so that of 514 positions 512 can be used, though their
    tokenizers may allow 514.
    """
    config = getattr(model, "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    inner = getattr(model, "model", None)
    for name, module in inner.named_modules() if inner is not None else ():
        if name.endswith("position_embeddings"):
            padding = getattr(module, "padding_idx", None)
            return positions if padding is None else positions - padding - 1
    return positions


def _plain(scores: Iterable[float], name: str) -> list[float]:
    """Scores as plain numbers.

    Raises:
        ModelError: a score is not finite, or there are several per passage.
    """
    shape: tuple[int, ...] = getattr(scores, "shape", (0,))
    if len(shape) != 1:
        raise ModelError(f"{name} has {shape[-1]} outputs per passage; a reranker has one")
    try:
        values = [float(score) for score in scores]
    except (TypeError, ValueError, OverflowError) as err:
        raise ModelError(f"{name} returned a score that is not a number ({err})") from None
    if not all(map(math.isfinite, values)):
        raise ModelError(f"{name} returned a score that is not a number; its float type may be too small")
    return values
