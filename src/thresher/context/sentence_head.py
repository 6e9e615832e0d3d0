"""A sentence's score from what one forward pass says of it, and from where it stands.

The keep logits of a sentence's tokens do not say what only the passage as a whole shows: whether another sentence is
likelier, how relevant the passage is, how far into it the sentence stands. A logistic model puts these together. Its
features, all from the same forward pass or from the text:

- the mean keep logit, the mean of the highest quarter, and the former less the passage's highest and mean;
- the passage's relevance;
- the cosine of the sentence's tokens with the question's mean state, and late interaction (the mean over the question's
  tokens of the best cosine in the sentence; ColBERT, arXiv 2004.12832), each also less the passage's highest;
- the share of the question's word pieces that the sentence holds, weighted by rarity, and BM25 over the passage's own
  sentences, each also less the passage's highest;
- the place: first, 1 / (1 + index), index / length; the number of sentences; ln of the sentence's words;
- digits where the question asks for a number or a date, capitals where it asks for a name.

The features other than the logits are those of a study without any training of the encoder, where the same logistic
form ranked answer sentences as well as boosted trees did.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.context.logistic import Logistic
from thresher.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.context.scoring import SplitPassage

__all__ = ["FEATURES", "Evidence", "read_head", "sentence_features"]

FEATURES = (
    "logit", "logit_top", "logit_below_best", "logit_over_mean", "rank", "near", "near_below_best", "late",
    "late_below_best", "overlap", "overlap_below_best", "bm25", "bm25_below_best", "is_first", "place",
    "share_before", "sentences", "length", "number_asked", "name_asked", "number", "name",
)  # fmt: skip

_NUMBER = re.compile(
    r"\b(?:when|how (?:many|much|long|old|far|big|tall|high|often)|what (?:year|date|day|time|age|percent))\b"
)
_NAME = re.compile(
    r"\b(?:who|whom|whose|where|which|name)\b|\bwhat (?:country|city|state|person|company|river|team|place)\b"
)
_DIGIT, _CAPITAL = re.compile(r"\d"), re.compile(r"(?<=[a-z,;:\"'(] )[A-Z]\w+")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the model says of one sentence, combined over the windows that read it.

    Attributes:
        logit: mean keep logit of its tokens.
        top: mean of the highest quarter of them.
        near: mean cosine of its tokens with the question's mean state.
        late: mean over the question's tokens of the best cosine with one of its tokens.
        overlap: share of the question's word pieces that it holds, weighted by rarity.
    """

    logit: float
    top: float
    near: float
    late: float
    overlap: float


def sentence_features(
    question: str, passage: SplitPassage, evidence: Sequence[Evidence], rank: float, bm25: Sequence[float]
) -> NDArray[np.float64]:
    """Features of every sentence, float64[sentences, len(FEATURES)].

    Args:
        question: the question.
        passage: the passage.
        evidence: of each sentence.
        rank: the passage's relevance.
        bm25: of each sentence, as `LexicalScorer` scores it.
    """
    if not passage.sentences:
        return np.zeros((0, len(FEATURES)))
    n = len(passage.sentences)
    texts = [passage.text[s.start : s.end] for s in passage.sentences]
    said = np.array([[e.logit, e.top, e.near, e.late] for e in evidence])
    overlap, lexical = np.array([e.overlap for e in evidence]), np.array(bm25, dtype=np.float64)
    place = np.arange(n)
    asked = question.lower()
    number, name = float(bool(_NUMBER.search(asked))), float(bool(_NAME.search(asked)))
    digits = np.array([float(bool(_DIGIT.search(text))) for text in texts])
    capitals = np.array([float(bool(_CAPITAL.search(text))) for text in texts])
    columns = [
        said[:, 0], said[:, 1], said[:, 0] - said[:, 0].max(), said[:, 0] - said[:, 0].mean(), np.full(n, rank),
        said[:, 2], said[:, 2] - said[:, 2].max(), said[:, 3], said[:, 3] - said[:, 3].max(),
        overlap, overlap - overlap.max(), lexical, lexical - lexical.max(),
        place == 0, 1 / (1 + place), place / n, np.full(n, math.log(n)),
        np.log([1 + len(text.split()) for text in texts]), number * digits, name * capitals, digits, capitals,
    ]  # fmt: skip
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def read_head(document: Mapping[str, Any], source: str) -> Logistic:
    """The logistic model in a configuration, made for these features.

    Raises:
        ModelError: it was made for others, or is damaged.
    """
    try:
        if tuple(document["features"]) != FEATURES:
            raise ValueError("it was made for other features")
        weights, means, scales = (tuple(float(x) for x in document[name]) for name in ("weights", "means", "scales"))
        if not len(weights) == len(means) == len(scales) == len(FEATURES):
            raise ValueError(f"expected {len(FEATURES)} numbers a vector")
        return Logistic(weights, float(document["bias"]), means, scales)
    except (KeyError, TypeError, ValueError) as err:
        raise ModelError(
            f"{source}: its sentence head does not fit this release ({err}); train the model again"
        ) from err
