"""Sentence scorers: what they take and give, by name, and the one that needs no model.

A scorer is given a query and passages whose sentences are known, and returns for each passage a relevance and a
score between 0 and 1 for every sentence. Thresholds are calibrated for one scorer, and are known by its `name`.

The lexical scorer is BM25 (Robertson and Zaragoza 2009) over the sentences of the passage, each taken as a document,
with document frequencies from those sentences. A score is the share of the query's weight that the sentence carries,
from 0 to 1; a passage's relevance is the share carried by the passage as a whole, so both are comparable between
passages.

A model reads a passage that is longer than its input through windows (`thresher.models.windows`); `combine` makes one
score of a sentence's parts: the mean over the windows, weighted by how much of the sentence each has read. A sentence
without a token (an emoji that the model does not know is one token; a lone zero-width space is none) gets the score of
its nearest neighbour.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.errors import ConfigError, DataNotFoundError
from thresher.registry import Registry
from thresher.text.analyzer import analyzer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.records import Span
    from thresher.vectors.states import PassageStates


@dataclass(frozen=True, slots=True)
class SplitPassage:
    """A passage as a scorer sees it.

    Attributes:
        text: the passage.
        sentences: spans of `text`, ascending and disjoint.
        title: its title, empty where there is none; context for the scorer, never scored itself.
        states: what a model computed of it before, for the scorers that can use it.
    """

    text: str
    sentences: tuple[Span, ...]
    title: str = ""
    states: PassageStates | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PassageScores:
    """The scores of a passage.

    Attributes:
        relevance: higher is more relevant; comparable between passages of one query.
        sentences: one score for each sentence, 0 to 1.
        stored: the passage's states were looked up, and not computed.
    """

    relevance: float
    sentences: tuple[float, ...]
    stored: bool = False


def combine(
    ranges: Sequence[tuple[int, int]], read: Sequence[tuple[tuple[int, int], Sequence[float]]]
) -> tuple[float, ...]:
    """One score for each sentence from its parts.

    Args:
        ranges: tokens of each sentence.
        read: for each window its range of tokens, and a score for each sentence (ignored where the window has none of
            its tokens).

    Returns:
        Means weighted by tokens read; a sentence without tokens takes its nearest scored neighbour's score, the one
        before first; 1 for all where nothing at all was read.
    """
    sums, weights = [0.0] * len(ranges), [0] * len(ranges)
    starts = [first for first, _ in ranges]
    for (start, end), scores in read:
        for number in range(max(0, bisect_right(starts, start) - 1), bisect_left(starts, end)):
            first, after = ranges[number]
            tokens = min(after, end) - max(first, start)
            if tokens > 0:
                sums[number] += scores[number] * tokens
                weights[number] += tokens
    known = [number for number, weight in enumerate(weights) if weight]
    if not known:
        return (1.0,) * len(ranges)
    out = []
    for number, weight in enumerate(weights):
        at = bisect_left(known, number)
        nearest = number if weight else min(known[max(0, at - 1) : at + 1], key=lambda k: (abs(k - number), k))
        out.append(sums[nearest] / weights[nearest])
    return tuple(out)


class SentenceScorer(ABC):
    """Scores sentences and passages against a query.

    Attributes:
        name: scorer and version.
        presets: calibrated thresholds by name (`conservative`, `balanced`, `strong`); empty where it was never
            calibrated.
    """

    name: str
    presets: Mapping[str, float]

    @abstractmethod
    @checked_call
    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every (query, passage) pair, in order; one pair's scores do not depend on the others."""

    @checked_call
    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, as the scorer's cost grows with them; words by default."""
        return len(text.split())

    @staticmethod
    def from_name(name: str | Path, *, device: str = "auto") -> SentenceScorer:
        """Open the scorer called `name`.

        Args:
            name: `thresher-context` (the model that ships), `lexical` (BM25, no model), `two-headed:DIRECTORY` (made by
                `thresher context train`), `provence:MODEL` (a Provence, XProvence or OpenProvence checkpoint); a
                directory or hub identifier alone, whose files tell which of these it is; or a kind of another package.
            device: `auto` (an accelerator if there is one), or a torch device.

        Raises:
            DataNotFoundError: the model is not on this machine.
            MissingExtraError: an optional dependency is not installed.
            ModelError: its files hold none of these.
        """
        if str(name).partition(":")[0] in SCORERS and not Path(name).exists():
            return SCORERS.make(str(name), offered={"device": device})
        from thresher.models import two_headed
        from thresher.models.files import resolve

        path = Path(resolve(str(name)).path)
        kind = "two-headed" if two_headed.is_saved(path) else "provence"
        return SCORERS.make(f"{kind}:{path}", offered={"device": device})


SCORERS: Registry[SentenceScorer] = Registry(
    "sentence scorer",
    "thresher.sentence_scorers",
    {
        "thresher-context": "thresher.context.scorers:_shipped",
        "lexical": "thresher.context.scorers:_lexical",
        "two-headed": "thresher.context.scorers:_two_headed",
        "provence": "thresher.context.scorers:_provence",
    },
    {"two-headed": "DIRECTORY", "provence": "MODEL"},
)


def _lexical(language: str) -> SentenceScorer:
    return LexicalScorer(language or "english")


def _shipped(argument: str, *, device: str = "auto") -> SentenceScorer:
    from thresher.context.model import TwoHeadedScorer
    from thresher.models.two_headed import SHIPPED

    if argument:
        raise ConfigError(
            f"thresher-context takes no argument, got {argument!r}; two-headed:DIRECTORY opens another model"
        )
    if not (SHIPPED / "model.safetensors").is_file():
        raise DataNotFoundError(f"the weights that ship with thresher are not at {SHIPPED}; reinstall thresher")
    return TwoHeadedScorer(SHIPPED, device=device)


def _two_headed(path: str, *, device: str = "auto") -> SentenceScorer:
    from thresher.context.model import TwoHeadedScorer

    return TwoHeadedScorer(path, device=device)


def _provence(model: str, *, device: str = "auto") -> SentenceScorer:
    from thresher.context.provence import ProvenceScorer
    from thresher.models.files import resolve

    return ProvenceScorer(Path(resolve(model).path), device=device)


class LexicalScorer(SentenceScorer):
    """BM25 over the sentences of each passage.

    Args:
        language: the analyzer's, as in `thresher.text.analyzer`.
        k1: how slowly a repeated word saturates.
        b: how strongly long sentences are discounted.
    """

    def __init__(self, language: str = "english", *, k1: float = 0.9, b: float = 0.4) -> None:
        self._analyzer = analyzer(language)
        self._k1, self._b = k1, b
        self.name = f"lexical-{language}"
        self.presets: Mapping[str, float] = {"conservative": 0.0, "balanced": 0.0001, "strong": 0.2}

    @checked_call
    def score(self, pairs: Sequence[tuple[str, SplitPassage]]) -> list[PassageScores]:
        """Scores of every pair, in order."""
        return [self._one(query, passage) for query, passage in pairs]

    def _terms(self, text: str) -> Counter[str]:
        return Counter(self._analyzer(text))

    def _one(self, query: str, passage: SplitPassage) -> PassageScores:
        asked = self._terms(query)
        sentences = [self._terms(passage.text[s.start : s.end]) for s in passage.sentences]
        n = len(sentences)
        mean = max(1.0, sum(c.total() for c in sentences) / max(n, 1))
        weight = {}
        for term, times in asked.items():
            df = sum(term in c for c in sentences)
            weight[term] = times * math.log(1 + (n - df + 0.5) / (df + 0.5)) if n else 0.0
        whole = math.fsum(weight.values())
        if whole <= 0:
            return PassageScores(0.0, (0.0,) * n)
        scores = tuple(self._share(c, weight, mean) / whole for c in sentences)
        present = math.fsum(w for term, w in weight.items() if any(term in c for c in sentences))
        return PassageScores(present / whole, scores)

    def _share(self, terms: Counter[str], weight: Mapping[str, float], mean: float) -> float:
        """BM25 of a sentence, with the saturated frequency scaled to at most 1."""
        norm = self._k1 * (1 - self._b + self._b * terms.total() / mean)
        return math.fsum(w * terms[t] / (terms[t] + norm) for t, w in weight.items() if t in terms)
