"""A sentence's score from one forward pass over its passage and from its position.

The keep logits of a sentence's tokens lack what the passage as a whole shows: whether another sentence is likelier, how
relevant the passage is, how far into it the sentence is. A small model, logistic or with one hidden
layer, puts these together. Its features, all from the same forward pass or from the text:

- the mean keep logit, the mean of the highest quarter, and the former less the passage's highest and mean;
- the mean keep logits of the sentences before and after (the passage's mean where there is none), the share of
  sentences with a higher one, and its logarithm's share of the passage (log-softmax);
- the passage's relevance, its rank score, its highest keep logit, and the rarity-weighted share of the query's word
  pieces that its best sentence holds;
- the cosine of the sentence's tokens with the query's mean state, and late interaction (the mean over the query's
  tokens of the best cosine in the sentence; ColBERT, arXiv 2004.12832), each also less the passage's highest;
- the share of the query's word pieces that the sentence holds, weighted by rarity, and BM25 over the passage's own
  sentences, each also less the passage's highest, and the latter less its mean;
- the place: first, last, 1 / (1 + index), index / length; the number of sentences; ln of the sentence's words;
- digits where the query asks for a number or a date, capitals where it asks for a name;
- of the passage as a whole: its keep logits, cosine and late interaction; late interaction weighted by rarity, of the
  rarest piece of the query, of the piece with the least and of the third with the least; the rarity-weighted share
  of the query's pieces that it holds, the rarest that it lacks, the rarest of all, and their number.

A head names the features it reads, and may read only some. Those other than the logits are of a study without any
training of the encoder, where a logistic form ranked answer sentences as well as boosted trees did.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from thresher.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.context.scorers import SplitPassage

FEATURES = (
    "logit", "logit_top", "logit_below_best", "logit_over_mean", "rank", "near", "near_below_best", "late",
    "late_below_best", "overlap", "overlap_below_best", "bm25", "bm25_below_best", "is_first", "place",
    "share_before", "sentences", "length", "number_asked", "name_asked", "number", "name",
    "logit_before", "logit_after", "logit_place", "logit_share", "rank_score", "logit_best", "overlap_best",
    "bm25_over_mean", "is_last", "whole_top", "whole_near", "whole_late", "late_rare", "late_rarest", "late_least",
    "late_low", "covered", "missing", "rarest", "question_pieces",
)  # fmt: skip

_NUMBER = re.compile(
    r"\b(?:when|how (?:many|much|long|old|far|big|tall|high|often)|what (?:year|date|day|time|age|percent))\b"
)
_NAME = re.compile(
    r"\b(?:who|whom|whose|where|which|name)\b|\bwhat (?:country|city|state|person|company|river|team|place)\b"
)
_DIGIT, _CAPITAL = re.compile(r"\d"), re.compile(r"(?<=[a-z,;:\"'(] )[A-Z]\w+")


_Json: TypeAlias = Any  # a value read from JSON
_ROWS = 2_000
"""Rows scored at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence about one sentence, combined over the windows that contain it.

    Attributes:
        logit: mean keep logit of its tokens.
        top: mean of the highest quarter of them.
        near: mean cosine of its tokens with the query's mean state.
        late: mean over the query's tokens of the best cosine with one of its tokens.
        overlap: share of the query's word pieces that it holds, weighted by rarity.
    """

    logit: float
    top: float
    near: float
    late: float
    overlap: float


@dataclass(frozen=True, slots=True)
class PassageEvidence:
    """Evidence about a passage as a whole: for each field, that of its best window.

    Attributes:
        top: mean of the highest quarter of the keep logits.
        near: mean cosine of its tokens with the query's mean state.
        late: mean over the query's tokens of the best cosine with one of its tokens.
        late_rare: the same, weighted by rarity.
        late_rarest: of the query's rarest token.
        late_least: of the token for which it is least.
        late_low: mean of the third of the tokens for which it is least.
        covered: share of the query's word pieces that it holds, weighted by rarity.
        missing: rarity of the rarest word piece of the query that it lacks, 0 where it lacks none.
        rarest: rarity of the query's rarest word piece.
        pieces: how many the query has.
    """

    top: float
    near: float
    late: float
    late_rare: float
    late_rarest: float
    late_least: float
    late_low: float
    covered: float
    missing: float
    rarest: float
    pieces: int

    @staticmethod
    def best(windows: Sequence[PassageEvidence]) -> PassageEvidence:
        """By field the largest value over the windows; for `missing` the smallest."""
        fields = PassageEvidence.__slots__
        most = {name: (min if name == "missing" else max)(getattr(one, name) for one in windows) for name in fields}
        return PassageEvidence(**most)


@dataclass(frozen=True, slots=True)
class Logistic:
    """A logistic model: `weights`, `means` and `scales` have one number for each feature."""

    weights: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities, float64[n], of features float64[n, f]; a row's does not depend on the other rows."""
        x = (features - np.array(self.means)) / np.array(self.scales)
        logits = (x * np.array(self.weights)).sum(-1) + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Averaged networks as one: `inner` [units][features], `inner_bias` [units], `outer` [units], `bias`.

    Features are standardised by `means` and `scales` and cut at four of them on either side.
    """

    inner: tuple[tuple[float, ...], ...]
    inner_bias: tuple[float, ...]
    outer: tuple[float, ...]
    direct: tuple[float, ...]
    bias: float
    means: tuple[float, ...]
    scales: tuple[float, ...]

    def __call__(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities, float64[n], of features float64[n, f]; a row's does not depend on the other rows."""
        x = np.clip((features - np.array(self.means)) / np.array(self.scales), -4.0, 4.0)
        # sums over an axis of fixed length; a matrix product adds in an order that hangs on the number of rows
        hidden = np.tanh((x[:, None, :] * np.array(self.inner)[None]).sum(-1) + np.array(self.inner_bias))
        logits = (hidden * np.array(self.outer)).sum(-1) + (x * np.array(self.direct)).sum(-1) + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


class SentenceHead:
    """A fitted model and the features it reads."""

    def __init__(self, features: Sequence[str], model: Logistic | Perceptron) -> None:
        self.columns = [FEATURES.index(name) for name in features]
        self.model = model

    def __call__(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores, float64[n], of the rows of `sentence_features`; a row's does not depend on the other rows."""
        out = np.zeros(len(table))
        for first in range(0, len(table), _ROWS):
            # row by row in memory: sums along other strides would add in an order that hangs on the number of rows
            rows = np.ascontiguousarray(table[first : first + _ROWS, self.columns])
            out[first : first + _ROWS] = self.model(rows)
        return out


def sentence_features(
    query: str,
    passage: SplitPassage,
    evidence: Sequence[Evidence],
    relevance: float,
    bm25: Sequence[float],
    rank: float,
    whole: PassageEvidence,
) -> NDArray[np.float64]:
    """Features of every sentence, float64[sentences, len(FEATURES)].

    Args:
        query: the query.
        passage: the passage.
        evidence: of each sentence.
        relevance: the passage's relevance.
        bm25: of each sentence, as `LexicalScorer` scores it.
        rank: the passage's rank score.
        whole: of the passage.
    """
    if not passage.sentences:
        return np.zeros((0, len(FEATURES)))
    n = len(passage.sentences)
    texts = [passage.text[s.start : s.end] for s in passage.sentences]
    raw = np.array([[e.logit, e.top, e.near, e.late] for e in evidence])
    overlap, lexical = np.array([e.overlap for e in evidence]), np.array(bm25, dtype=np.float64)
    place = np.arange(n)
    asked = query.lower()
    number, name = float(bool(_NUMBER.search(asked))), float(bool(_NAME.search(asked)))
    digits = np.array([float(bool(_DIGIT.search(text))) for text in texts])
    capitals = np.array([float(bool(_CAPITAL.search(text))) for text in texts])
    logit = raw[:, 0]
    around = np.concatenate([[logit.mean()], logit, [logit.mean()]])
    above = n - np.searchsorted(np.sort(logit), logit, side="right")
    share = logit - logit.max() - math.log(float(np.exp(logit - logit.max()).sum()))
    columns = [
        raw[:, 0], raw[:, 1], raw[:, 0] - raw[:, 0].max(), raw[:, 0] - raw[:, 0].mean(), np.full(n, relevance),
        raw[:, 2], raw[:, 2] - raw[:, 2].max(), raw[:, 3], raw[:, 3] - raw[:, 3].max(),
        overlap, overlap - overlap.max(), lexical, lexical - lexical.max(),
        place == 0, 1 / (1 + place), place / n, np.full(n, math.log(n)),
        np.log([1 + len(text.split()) for text in texts]), number * digits, name * capitals, digits, capitals,
        around[:-2], around[2:], above / n, share, np.full(n, rank), np.full(n, logit.max()), np.full(n, overlap.max()),
        lexical - lexical.mean(), place == n - 1,
        *(np.full(n, value) for value in (
            whole.top, whole.near, whole.late, whole.late_rare, whole.late_rarest, whole.late_least, whole.late_low,
            whole.covered, whole.missing, whole.rarest, whole.pieces,
        )),
    ]  # fmt: skip
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def read_head(document: Mapping[str, _Json], source: str) -> SentenceHead:
    """The head in a configuration: a perceptron where it has a hidden layer, else a logistic model.

    Raises:
        ModelError: it was made for features that are not known here, or is damaged.
    """
    try:
        names = [str(name) for name in document["features"]]
        unknown = [name for name in names if name not in FEATURES]
        if unknown or not names:
            raise ValueError(f"it was made for other features{f', as {unknown[0]!r}' if unknown else ''}")
        model: Logistic | Perceptron
        (bias,) = _numbers([document["bias"]])
        vectors = {name: _numbers(document[name]) for name in ("means", "scales")}
        if not all(vectors["scales"]):
            raise ValueError("a scale is 0")
        if "inner" in document:
            inner = tuple(_numbers(row) for row in document["inner"])
            by_unit = {name: _numbers(document[name]) for name in ("inner_bias", "outer")}
            vectors["direct"] = _numbers(document["direct"])
            if any(len(v) != len(inner) for v in by_unit.values()) or any(len(row) != len(names) for row in inner):
                raise ValueError("its hidden layer is misshapen")
            model = Perceptron(inner, bias=bias, **by_unit, **vectors)
        else:
            vectors["weights"] = _numbers(document["weights"])
            model = Logistic(bias=bias, **vectors)
        if any(len(v) != len(names) for v in vectors.values()):
            raise ValueError(f"expected {len(names)} numbers a vector")
        return SentenceHead(names, model)
    except (KeyError, TypeError, ValueError, OverflowError) as err:
        raise ModelError(
            f"{source}: its sentence head does not fit this release ({err}); train the model again"
        ) from err


def _numbers(values: _Json) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers
