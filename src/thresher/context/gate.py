"""Whether to retrieve at all: the seam for an adaptive-retrieval gate, its trainer and its threshold.

A gate reads the query and the first tokens of an answer drafted without retrieval, and says how likely the reader
needs passages ("a few tokens are all you need", arXiv 2412.11536). What a reader knows by itself only its own answers
can tell, so no weights come with thresher: `fit_gate` trains a small logistic model on your reader's drafts, each
marked with whether retrieval helped, and `choose_threshold` sets the share of needed retrievals that must happen.

The features are cheap and name what carries the signal: length and shape of the query, hedges and refusals in the
draft, its length, the terms it shares with the query, and (where the reader gives them) the log-probabilities of
its tokens.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.context.sentence_head import Logistic
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_HEDGES = re.compile(
    r"\b(?:i (?:do not|don't) know|not sure|unsure|cannot|can't|no information|unknown|as of my|might|perhaps|maybe)\b",
    re.I,
)
_ASKS = re.compile(r"\b(?:when|who|where|how many|how much|which|latest|current|today|\d{4})\b", re.I)
FEATURES = (
    "question_words", "asks_fact", "question_capitals", "draft_words", "draft_hedges", "draft_digits", "overlap",
    "mean_logprob", "least_logprob", "has_logprobs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Draft:
    """A query and the beginning of an answer without retrieval.

    Attributes:
        query: the query.
        text: the first tokens of the reader's own answer, empty where it was not asked.
        logprobs: of these tokens, natural logarithm; empty where the reader gives none.
    """

    query: str
    text: str = ""
    logprobs: tuple[float, ...] = ()


class RetrievalGate(Protocol):
    """Says how likely retrieval is needed."""

    def __call__(self, drafts: Sequence[Draft]) -> list[float]:
        """The probability, 0 to 1, for each draft."""
        ...


@dataclass(frozen=True, slots=True)
class LogisticGate:
    """A logistic model on the module's features.

    Attributes:
        model: on FEATURES.
        threshold: retrieve at this probability or more.
    """

    model: Logistic
    threshold: float = 0.5

    def __call__(self, drafts: Sequence[Draft]) -> list[float]:
        """The probability that retrieval is needed, for each draft."""
        return [float(p) for p in self.model(feature_matrix(drafts))] if drafts else []

    def retrieve(self, draft: Draft) -> bool:
        """Whether to retrieve for this draft."""
        return self([draft])[0] >= self.threshold

    def save(self, path: Path) -> None:
        """Write the gate as JSON."""
        document = {"kind": "thresher-gate", "features": FEATURES, "threshold": self.threshold, **asdict(self.model)}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> LogisticGate:
        """Read a gate that `save` wrote.

        Raises:
            InputError: the file holds something else.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["kind"] != "thresher-gate" or tuple(document["features"]) != FEATURES:
                raise KeyError("kind or features")
            vectors = {name: tuple(float(x) for x in document[name]) for name in ("weights", "means", "scales")}
            if any(len(v) != len(FEATURES) for v in vectors.values()):
                raise ValueError(f"expected {len(FEATURES)} numbers a vector")
            return cls(Logistic(bias=float(document["bias"]), **vectors), float(document["threshold"]))
        except (KeyError, TypeError, ValueError) as err:
            raise InputError(f"not a retrieval gate of this release ({err}); train it again", str(path)) from err


def feature_matrix(drafts: Sequence[Draft]) -> NDArray[np.float64]:
    """Features, float64[n, len(FEATURES)]."""
    rows = []
    for draft in drafts:
        asked, said = re.findall(r"\w+", draft.query.lower()), re.findall(r"\w+", draft.text.lower())
        rows.append([
            math.log1p(len(asked)),
            float(bool(_ASKS.search(draft.query))),
            float(len(re.findall(r"\b[A-Z]\w+", draft.query[1:]))),
            math.log1p(len(said)),
            float(len(_HEDGES.findall(draft.text))),
            float(len(re.findall(r"\d", draft.text))),
            len(set(asked) & set(said)) / max(1, len(set(asked))),
            math.fsum(draft.logprobs) / max(1, len(draft.logprobs)),
            min(draft.logprobs, default=0.0),
            float(bool(draft.logprobs)),
        ])  # fmt: skip
    return np.array(rows, dtype=np.float64)
