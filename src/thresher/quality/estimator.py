"""The seam of the stage: what a passage-quality estimator is, and the two ways to put several together.

A score is query-independent and says how much a passage deserves to be indexed; higher is better. Only the order of
scores means something across estimators: QualT5 scores are log-probabilities (never positive), KL scores are negated
divergences, and a threshold for one says nothing about another.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@runtime_checkable
class QualityEstimator(Protocol):
    """Scores texts by how much they deserve to be indexed, whatever the query."""

    @property
    def name(self) -> str:
        """A short name, as the command line and the recipes spell it."""

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of everything that determines the scores: code version, weights, collection statistics."""

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Finite float32[n], higher is more worth indexing; a text's score does not depend on the others given."""


def digest(*parts: Any) -> str:
    """Sha256 (hex) of plain JSON values and arrays, in order."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True).encode())
        state.update(b"\0")
    return state.hexdigest()


def midranks(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """How many scores are lower, plus half of those that are equal (itself included), float64[n]."""
    if scores.size == 0:
        return np.zeros(0)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    result: NDArray[np.float64] = (np.cumsum(counts) - counts / 2)[inverse]
    return result


def quantiles(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """The share of passages that score lower plus half of the ties, float32[n] in (0, 1).

    Equal scores get equal quantiles, whatever their order, and the mean is one half.
    """
    scores = np.asarray(scores)
    return (midranks(scores) / max(scores.size, 1)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class RandomEstimator:
    """A pseudo-random score for each text, from the text and a seed: the yardstick every pruning is held against.

    Identical texts score alike; the order of texts does not matter.
    """

    seed: int = 0

    @property
    def name(self) -> str:
        """`random`, with the seed."""
        return f"random-{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Of the seed."""
        return digest("random", 1, self.seed)

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Uniform in [0, 1), float32[n]; the same text always gets the same score."""
        salt = self.seed.to_bytes(8, "little", signed=True)
        out = np.empty(len(texts), np.float32)
        for row, text in enumerate(texts):
            raw = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=3, salt=salt).digest()
            out[row] = int.from_bytes(raw, "little") / 2**24
        return out


@dataclass(frozen=True, slots=True)
class Combined:
    """A weighted sum of standardised scores of several estimators.

    Attributes:
        parts: the estimators.
        weights: one for each part.
        means: mean score of each part on the collection the combination was made for.
        scales: standard deviation of each part's scores there.
    """

    parts: tuple[QualityEstimator, ...]
    weights: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    @classmethod
    def of(
        cls, parts: Sequence[QualityEstimator], texts: Sequence[str], weights: Sequence[float] | None = None
    ) -> Combined:
        """Combine `parts`, standardised by their scores of `texts`.

        Raises:
            InputError: no parts, no texts, or a weight missing.
        """
        weights = [1.0] * len(parts) if weights is None else weights
        if not parts or not texts or len(weights) != len(parts):
            raise InputError(
                f"a combination needs estimators, texts and one weight each; got {len(parts)} estimators, "
                f"{len(texts)} texts and {len(weights)} weights"
            )
        columns = [part.score(texts).astype(np.float64) for part in parts]
        return cls(
            tuple(parts),
            tuple(float(w) for w in weights),
            tuple(float(c.mean()) for c in columns),
            tuple(float(c.std()) or 1.0 for c in columns),
        )

    @property
    def name(self) -> str:
        """The parts' names, joined by `+`."""
        return "+".join(part.name for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """Of the parts and how they are weighted."""
        return digest(
            "combined", 1, [p.fingerprint for p in self.parts], list(self.weights), list(self.means), list(self.scales)
        )

    def score(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sum over parts of weight * (score - mean) / scale, float32[n]."""
        total = np.zeros(len(texts), np.float64)
        for part, weight, mean, scale in zip(self.parts, self.weights, self.means, self.scales, strict=True):
            total += weight * (part.score(texts).astype(np.float64) - mean) / scale
        return total.astype(np.float32)
