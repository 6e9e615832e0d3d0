"""`TextRanker`: any texts scored for a query, without an index. The server's rerank routes and the adapters call it.

    ranker = TextRanker()
    ranker.score("what separates grain from chaff?", ["A thresher does.", "Chaff is light."])  # one score a text
    ranker.rank("what separates grain from chaff?", texts, top_n=3)  # [(place in texts, score), ...], best first

A text's score depends on the query and that text alone, so that texts may be sent in parts, and a threshold means the
same for all of them. Three signals are added with constant weights (`MIXTURES`) and taken through a logistic curve:
the cosine of the embedded MiniLM's vectors, the relevance that the shipped cross-encoder `thresher-context` gives, and
BM25 over word pieces. The last takes its IDF from the table of the shipped model (`piece_rarity`: rarity among the
passages that it was trained on) and not from the texts at hand, of which there are too few.

Scores lie between 0 and 1. The curve was fitted on judged passages of held-out topics of TREC Deep Learning 2021
(`python -m eval text-rankers`): there, about half of the passages that score .5 are relevant to the query (grade 2 or
3), and few score above .8. For other texts and queries scores are an order, not probabilities.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import shown, strings, whole
from thresher.context.scorers import SentenceScorer, SplitPassage
from thresher.encode.dense import MiniLMEncoder
from thresher.errors import BudgetExhaustedError, ConfigError, InputError, require
from thresher.models.two_headed import SHIPPED
from thresher.pipeline.deadline import Deadline, is_abandoned, stop_if_abandoned
from thresher.pipeline.shared import Reading, encoded, passage_vectors, read
from thresher.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from thresher.context.scorers import PassageScores
    from thresher.records import Span

T = TypeVar("T")


class Mixture(NamedTuple):
    """The log-odds of a text: a weighted sum of its signals.

    Attributes:
        lexical: weight of BM25, as a share (0 to 1) of what a text with all words of the query could get.
        cosine: weight of the cosine.
        relevance: weight of the cross-encoder's relevance.
        constant: added.
    """

    lexical: float
    cosine: float
    relevance: float
    constant: float


MIXTURES = {
    "thresher-rerank": Mixture(2.29, 2.18, 0.386, -5.74),
    "thresher-context": Mixture(0.0, 0.0, 0.708, -5.79),
    "thresher-light": Mixture(3.30, 4.87, 0.0, -4.99),
}
"""By name: all three signals, the cross-encoder alone, and the two quick ones."""
DEFAULT = "thresher-rerank"
MEANING = (
    "the share of relevant texts (grade 2 or 3) among judged ones with such a score, as fitted on 26 topics of TREC "
    "Deep Learning 2021; for texts and queries of another kind an order, not a probability"
)
"""What a score of any of them says."""

_K1, _B, _AVERAGE = 0.9, 0.4, 85
"""Parameters of BM25, and word pieces of an average passage of MS MARCO."""
_STEP = 32
"""Texts that a model is given at a time: a request with many lets others take turns."""
_FEW = 4
"""The same where a request with a deadline shares the batch."""
_LOWEST = -30.0
"""Log-odds of a text without a word, and of any text at least."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """What is known of a text.

    Attributes:
        score: 0 to 1; higher is more relevant.
        raw: the same as log-odds, without bounds.
        tokens: word pieces that were read.
        spans: its sentences, as half-open spans of code points, each with its score of 0 to 1; empty unless asked for.
    """

    score: float
    raw: float
    tokens: int
    spans: tuple[tuple[Span, float], ...] = ()


class TextRanker:
    """Scores texts for a query. Safe to share between threads, whose calls share batches.

    Models are loaded when they are first needed.

    Args:
        model: `thresher-rerank` (the best order), `thresher-context` (the cross-encoder alone), or `thresher-light`
            (without it: about a third of the time).
        scorer: `thresher-context`, where it is loaded already.
        encoder: the embedded MiniLM, where it is loaded already.
        device: `auto` (an accelerator if there is one), or a torch device.

    Raises:
        ConfigError: there is no such model.
    """

    @checked_call
    def __init__(
        self,
        model: str = DEFAULT,
        *,
        scorer: SentenceScorer | None = None,
        encoder: MiniLMEncoder | None = None,
        device: str = "auto",
    ) -> None:
        self.model, self.mixture = model, _mixture(model)
        self._models = _Models(scorer, encoder, device)

    @checked_call
    def with_model(self, model: str) -> TextRanker:
        """A ranker of another name, which shares what is loaded.

        Raises:
            ConfigError: there is no such model.
        """
        made = copy.copy(self)
        made.model, made.mixture = model, _mixture(model)
        return made

    @property
    def encoder(self) -> MiniLMEncoder:
        """The embedded MiniLM, loaded on first use.

        Raises:
            MissingExtraError: the extra `embedded` is not installed.
        """
        return self._models.encoder

    @checked_call
    def score(
        self, query: str, texts: Sequence[str], *, max_tokens: int | None = None, seconds: float | None = None
    ) -> list[float]:
        """The score of each text, in the order of the texts. Arguments and errors as `read`."""
        return [one.score for one in self.read(query, texts, max_tokens=max_tokens, seconds=seconds)]

    @checked_call
    def rank(self, query: str, texts: Sequence[str], top_n: int | None = None) -> list[tuple[int, float]]:
        """Places in `texts` and scores, best first; equal scores in the order of the texts.

        Args:
            query: the query.
            texts: any texts.
            top_n: how many, at least 0; all by default.

        Raises:
            InputError: `top_n` is negative, and as `score`.
        """
        if top_n is not None:
            whole("top_n", top_n)
        scores = self.score(query, texts)
        order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
        return [(place, scores[place]) for place in order[:top_n]]

    @checked_call
    def read(
        self,
        query: str,
        texts: Sequence[str],
        *,
        spans: bool = False,
        max_tokens: int | None = None,
        seconds: float | None = None,
    ) -> list[TextScore]:
        """All that is known of each text, in the order of the texts.

        Args:
            query: the query; the first 62 word pieces are read.
            texts: any texts; long ones are read through windows.
            spans: find and score sentences; the cross-encoder does that, whatever the model.
            max_tokens: word pieces that are read of a text, from its start; all by default.
            seconds: the deadline, from now.

        Raises:
            BudgetExhaustedError: the models were not done before the deadline.
            InputError: the query is empty, a text is not valid Unicode, or `max_tokens` is below 1.
            MissingExtraError: the extra `embedded` is not installed.
        """
        if max_tokens is not None and max_tokens < 1:
            raise InputError(f"max_tokens must be at least 1, got {max_tokens}")
        if not query.strip():
            raise InputError("the query is empty")
        readable = strings("texts", texts)
        if not readable:
            return []
        deadline = Deadline(None if seconds is None else 1000 * seconds, time.perf_counter())
        asked, *encodings = self._models.encoder.minilm.encodings([query, *readable])
        if max_tokens is not None:
            readable = [_cut(text, one, max_tokens) for text, one in zip(readable, encodings, strict=True)]
        pieces = [one.ids[:max_tokens] for one in encodings]
        total = np.full(len(readable), self.mixture.constant)
        if self.mixture.lexical:
            total += self.mixture.lexical * bm25_shares(asked.ids, pieces, self._models.rarity)
        if self.mixture.cosine:
            total += self.mixture.cosine * self._cosines(query, readable, deadline)
        found: list[PassageScores] = []
        sentences = [_sentences(text) for text in readable] if spans or self.mixture.relevance else []
        if sentences:
            found = self._read(query, readable, sentences, [len(ids) for ids in pieces], deadline)
            total += self.mixture.relevance * np.array([one.relevance for one in found])
        total = np.maximum(np.where([bool(ids) for ids in pieces], total, _LOWEST), _LOWEST)
        scored = [
            tuple(zip(*both, strict=True)) for both in zip(sentences, (one.sentences for one in found), strict=True)
        ]
        return [
            TextScore(1 / (1 + math.exp(-raw)), raw, len(ids), spans=scored[place] if spans and ids else ())
            for place, (raw, ids) in enumerate(zip(total.tolist(), pieces, strict=True))
        ]

    def _cosines(self, query: str, texts: Sequence[str], deadline: Deadline) -> NDArray[np.float64]:
        vector = _in_time(encoded(self._models.encoder, query, deadline), deadline)
        rows = [
            _in_time(passage_vectors(self._models.encoder, texts[first : first + _STEP], deadline), deadline)
            for first in range(0, len(texts), _STEP)
        ]
        products = np.concatenate(rows).astype(np.float64) * vector  # not @: a row is summed by itself
        return np.asarray(products.sum(axis=1))

    def _read(
        self,
        query: str,
        texts: Sequence[str],
        sentences: Sequence[tuple[Span, ...]],
        tokens: Sequence[int],
        deadline: Deadline,
    ) -> list[PassageScores]:
        """Relevance and the scores of sentences, from the cross-encoder."""
        pairs = [(query, SplitPassage(*one)) for one in zip(texts, sentences, strict=True)]
        scorer, gone = self._models.scorer, is_abandoned()
        found: list[PassageScores] = []
        while len(found) < len(pairs):
            part = slice(len(found), len(found) + _STEP)
            size = len(pairs[part])
            reading = Reading(scorer, pairs[part], tokens[part], partial(_all_unless, gone, size), _ignore, deadline)
            found += _in_time(read(reading, deadline) or None, deadline)
        return found


class _Models:
    """What rankers share, each loaded when it is first used."""

    def __init__(self, scorer: SentenceScorer | None, encoder: MiniLMEncoder | None, device: str) -> None:
        self._scorer, self._encoder, self._device = scorer, encoder, device
        self._rarity: NDArray[np.float64] | None = None
        self._lock = threading.Lock()

    @property
    def scorer(self) -> SentenceScorer:
        with self._lock:
            if self._scorer is None:
                self._scorer = SentenceScorer.from_name("thresher-context", device=self._device)
            return self._scorer

    @property
    def encoder(self) -> MiniLMEncoder:
        with self._lock:
            if self._encoder is None:
                self._encoder = MiniLMEncoder(device=self._device)
            return self._encoder

    @property
    def rarity(self) -> NDArray[np.float64]:
        """float64[vocabulary]: the IDF of word pieces."""
        with self._lock:
            if self._rarity is None:
                safetensors = require("safetensors", extra="models", purpose="reranking texts")
                with safetensors.safe_open(str(SHIPPED / "model.safetensors"), framework="np") as file:
                    self._rarity = file.get_tensor("piece_rarity").astype(np.float64)
            return self._rarity


def bm25_shares(
    query: Sequence[int], texts: Sequence[Sequence[int]], rarity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """BM25 of texts as a share of what it is at most for the query, float64[n], 0 to 1.

    Args:
        query: its word pieces.
        texts: word pieces of each text.
        rarity: float64[vocabulary], IDF of word pieces.
    """
    weights = {piece: count * float(rarity[piece]) for piece, count in Counter(query).items()}
    most = math.fsum(weights.values())
    shares = np.zeros(len(texts))
    for place, pieces in enumerate(texts if most else ()):
        norm = _K1 * (1 - _B + _B * len(pieces) / _AVERAGE)
        counts = Counter(piece for piece in pieces if piece in weights)
        shares[place] = math.fsum(weights[piece] * tf / (tf + norm) for piece, tf in counts.items()) / most
    return shares


def _mixture(model: str) -> Mixture:
    if model not in MIXTURES:
        raise ConfigError(f"there is no ranker {shown(model)}; known are: {', '.join(MIXTURES)}")
    return MIXTURES[model]


def _in_time(found: T | None, deadline: Deadline) -> T:
    """What a model gave.

    Raises:
        AbandonedError: it was not asked, because the caller does not wait any more.
        BudgetExhaustedError: it was not free before the deadline.
    """
    stop_if_abandoned()
    if found is None:
        raise BudgetExhaustedError(f"the deadline of {deadline.milliseconds} ms was reached before all texts were read")
    return found


def _sentences(text: str) -> tuple[Span, ...]:
    """The sentences of a text, unless the caller does not wait any more."""
    stop_if_abandoned()
    return tuple(split_sentences(text))


def _cut(text: str, encoding: Encoding, most: int) -> str:
    """The text up to the end of its `most`-th word piece."""
    return text if len(encoding.ids) <= most else text[: encoding.offsets[most - 1][1]]


def _all_unless(gone: Callable[[], bool], size: int, sharing: int, limit: float) -> int:
    """How many texts to read: all, or a few beside one with a deadline; none if the caller does not wait any more."""
    return 0 if gone() else size if math.isinf(limit) else min(size, _FEW)


def _ignore(milliseconds: float, tokens: Sequence[int]) -> None:
    """Costs teach nothing here: all texts are read."""
