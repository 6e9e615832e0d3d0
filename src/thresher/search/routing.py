"""How unsure a first-tier answer looks: score margins, and what the second tier could have held against them.

The margins are of the answer's own scores. The prospects compare its k-th score with what the second tier's lists say
of themselves in a few numbers a term, stored beside them: a list's largest impact, its tenth, and its length (the
postings of lists shorter than ten are read). The sum over the query's terms of weight × largest impact is an upper
bound of any score there (the bound of MaxScore: Turtle and Flood, Information Processing and Management 1995), and the
largest single weight × impact a lower bound of the best; where even the upper bound is below the k-th score, nothing is
missed, and that is exact to within quantisation. In between, a linear function of margins and prospects says how much
is likely to be missed. Its weights and threshold are calibrated on queries alone, without judgments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MARGINS = ("best", "second", "middle", "last", "spread", "few")
PROSPECTS = ("most", "most_best", "surely", "surely_ten", "tenths", "reach", "share", "terms")
SIGNS = (*MARGINS, *PROSPECTS)
LISTS = ("largest", "tenth", "postings")
"""What is known of a term's list in a tier: two impacts, in units of scores, and its length."""

_RIDGE = 0.5
_CEILING = 4.0
_MOST_AT, _LAST_AT = SIGNS.index("most"), SIGNS.index("last")


def margins(scores: Sequence[float] | NDArray[np.float64], k: int = 10) -> NDArray[np.float64]:
    """What the scores of a first-tier answer say of its certainty, float64[len(MARGINS)].

    ln(1 + best score); second, middle and last of the first k divided by the best; the relative spread of the first k;
    the share of the k places that stayed empty. An empty answer has all margins 0 and `few` 1.
    """
    top = np.asarray(scores, np.float64)[:k]
    if not len(top) or top[0] <= 0:
        return np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    padded = np.concatenate([top, np.zeros(k - len(top))])
    best = padded[0]
    return np.array(
        [
            np.log1p(best),
            padded[min(1, k - 1)] / best,
            padded[(k - 1) // 2] / best,
            padded[k - 1] / best,
            padded.std() / best,
            1 - len(top) / k,
        ]
    )


def signs(
    scores: Sequence[float] | NDArray[np.float64],
    weights: NDArray[Any],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    k: int = 10,
) -> NDArray[np.float64]:
    """The margins of an answer and the prospects of the second tier, float64[len(SIGNS)].

    Prospects, all at most 4: the upper bound of a second-tier score over the answer's k-th score (`most`) and over its
    best (`most_best`); the best score that one term alone gives there, and the tenth, over the k-th (`surely`,
    `surely_ten`); the sum of the tenth impacts over the k-th (`tenths`); the second tier's upper bound over that of
    both (`reach`); the share of the query's postings that lie in the second tier, by inverse document frequency
    (`share`); ln(1 + terms). Where the answer has no k-th score, whatever is above 0 counts as 4.

    Args:
        scores: of the first tier's answer, best first.
        weights: float[terms], the query's.
        first: float64[terms, len(LISTS)], the first tier's lists.
        second: float64[terms, len(LISTS)], the second tier's.
        k: length of the answer.
    """
    own = margins(scores, k)
    top = np.asarray(scores, np.float64)[:k]
    last = float(top[k - 1]) if len(top) >= k else 0.0
    best = float(top[0]) if len(top) else 0.0
    weighted = np.asarray(weights, np.float64)[:, None] * second[:, :2]
    largest, tenth = weighted[:, 0], weighted[:, 1]
    bound = float(largest.sum())
    both = float((np.asarray(weights, np.float64) * np.maximum(first[:, 0], second[:, 0])).sum())
    postings = first[:, 2] + second[:, 2]
    rarity = 1 / np.log2(2 + postings)
    prospects = [
        _over(bound, last),
        _over(bound, best),
        _over(float(largest.max(initial=0.0)), last),
        _over(float(tenth.max(initial=0.0)), last),
        _over(float(tenth.sum()), last),
        bound / both if both > 0 else 0.0,
        float((rarity * second[:, 2] / np.maximum(postings, 1)).sum() / rarity.sum()) if len(weights) else 0.0,
        float(np.log1p(len(weights))),
    ]
    return np.concatenate([own, prospects])


def _over(value: float, against: float) -> float:
    if against <= 0:
        return _CEILING if value > 0 else 0.0
    return min(value / against, _CEILING)


def missed_share(first: Sequence[Any], joint: Sequence[Any], k: int = 10) -> float:
    """Share of the joint first k, by the discount of nDCG, that the first tier does not hold."""
    held = set(first)
    gains = [1 / np.log2(rank + 2) for rank in range(min(k, len(joint)))]
    lost = sum(gain for gain, item in zip(gains, joint, strict=False) if item not in held)
    return float(lost / sum(gains)) if gains else 0.0


@dataclass(frozen=True, slots=True)
class MarginTest:
    """Whether an answer of the first tier looks unsure.

    Attributes:
        mean, scale, weights: float64[len(SIGNS)]; weights of the standardised signs, higher is less sure.
        threshold: answers above it go on to the second tier.
        rate: share of the queries it was calibrated on that do.
        k: length of the answers it was calibrated on.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    threshold: float
    rate: float
    k: int

    @classmethod
    def fit(cls, table: NDArray[np.float64], missed: NDArray[np.float64], rate: float, k: int = 10) -> MarginTest:
        """Calibrate on the signs (float64[queries, len(SIGNS)]) and missed shares of logged queries.

        Ridge regression of the missed share; the threshold is a quantile of what it predicts for the same queries.

        Raises:
            ConfigError: the rate is not in [0, 1].
            InputError: there are no queries.
        """
        if not len(table):
            raise InputError("a margin test is calibrated on queries: give at least one")
        deviation = table.std(axis=0)
        mean, scale = table.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)
        x = (table - mean) / scale
        gram = x.T @ x / len(x) + _RIDGE * np.eye(len(mean))
        weights = np.linalg.solve(gram, x.T @ (missed - missed.mean()) / len(x))
        return cls(mean, scale, weights, 0.0, rate, k).at_rate(table, rate)

    def at_rate(self, table: NDArray[np.float64], rate: float) -> MarginTest:
        """The same test with the threshold at which `rate` of the answers with these signs, float64[n, signs], go on.

        Only the first tier need be asked for them: where queries change, this keeps the rate.

        Raises:
            ConfigError: the rate is not in [0, 1].
            InputError: there are no queries.
        """
        if not 0 <= rate <= 1:
            raise ConfigError(f"a fall-through rate of {rate} is not a share between 0 and 1")
        if not len(table):
            raise InputError("a margin test is calibrated on queries: give at least one")
        doubt = np.sort(self.doubt(table))[::-1]
        through = int(rate * len(doubt) + 1e-9)
        if through == 0:
            threshold = float(doubt[0])
        elif through == len(doubt):
            threshold = float(doubt[-1]) - 1.0
        else:
            threshold = float((doubt[through - 1] + doubt[through]) / 2)
        return replace(self, threshold=threshold, rate=rate)

    def doubt(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """How unsure answers look, float64[n] of float64[n, len(SIGNS)]."""
        doubts: NDArray[np.float64] = ((table - self.mean) / self.scale) @ self.weights
        return doubts

    def through(self, table: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which answers go on to the second tier, bool[n]: those above the threshold, and never one that cannot change.

        An answer cannot change where the second tier's upper bound is below its k-th score.
        """
        settled = (table[:, _LAST_AT] > 0) & (table[:, _MOST_AT] < 1)
        answer: NDArray[np.bool_] = (self.doubt(table) > self.threshold) & ~settled
        return answer

    def unsure(self, found: NDArray[np.float64]) -> bool:
        """Whether the answer with these signs, float64[len(SIGNS)], goes on to the second tier."""
        return bool(self.through(found[None, :])[0])

    def as_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads."""
        return {
            "signs": list(SIGNS),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "threshold": self.threshold,
            "rate": self.rate,
            "k": self.k,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> MarginTest:
        """Read what `as_json` wrote.

        Raises:
            ValueError: the signs are not those of this release.
        """
        if tuple(document["signs"]) != SIGNS:
            raise ValueError(f"signs {document['signs']}, expected {list(SIGNS)}")
        mean, scale, weights = (np.array(document[key], np.float64) for key in ("mean", "scale", "weights"))
        return cls(mean, scale, weights, float(document["threshold"]), float(document["rate"]), int(document["k"]))
