"""Features that predict whether the second tier would change the top-k, and the linear model over them.

Score features describe the first tier's own scores. List features compare its k-th score with three statistics a term
of the second tier's posting lists, stored beside them: largest impact, tenth, and length (the postings of lists shorter
than ten are read). The sum over the query's terms of weight x largest impact bounds every score there (MaxScore: Turtle
and Flood, Information Processing and Management 1995), and the largest single weight x impact is a lower bound of the
best; where even the upper bound is below the k-th score, nothing is missed. In between, a linear function of the
features predicts how much is likely to be missed. Its weights and threshold are calibrated on queries alone, without
judgements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import is_a, shown
from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

SCORE_FEATURES = ("best", "second", "middle", "last", "spread", "few")
LIST_FEATURES = ("most", "most_best", "surely", "surely_ten", "tenths", "reach", "share", "terms")
FEATURES = (*SCORE_FEATURES, *LIST_FEATURES)
LIST_STATISTICS = ("largest", "tenth", "postings")
"""Of a term's posting list in a tier: two impacts, in units of scores, and its length."""

_RIDGE = 0.5
_CEILING = 4.0
_MOST_AT, _LAST_AT = FEATURES.index("most"), FEATURES.index("last")


def score_features(scores: Sequence[float] | NDArray[np.float64], k: int = 10) -> NDArray[np.float64]:
    """Features of a first-tier answer's scores, float64[len(SCORE_FEATURES)].

    ln(1 + best score); second, middle and last of the first k divided by the best; the relative spread of the first k;
    the share of the k places that stayed empty. An empty answer has all features 0 and `few` 1.
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


def routing_features(
    scores: Sequence[float] | NDArray[np.float64],
    weights: NDArray[np.floating],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    k: int = 10,
) -> NDArray[np.float64]:
    """Score and list features of a query, float64[len(FEATURES)].

    List features, all at most 4: the upper bound of a second-tier score over the answer's k-th score (`most`) and over
    its best (`most_best`); the best score that one term alone gives there, and the tenth, over the k-th (`surely`,
    `surely_ten`); the sum of the tenth impacts over the k-th (`tenths`); the second tier's upper bound over that of
    both (`reach`); the share of the query's postings that lie in the second tier, weighted by inverse document
    frequency (`share`); ln(1 + terms). Where the answer has no k-th score, whatever is above 0 counts as 4.

    Args:
        scores: of the first tier's answer, best first.
        weights: float[terms], the query's.
        first: float64[terms, len(LIST_STATISTICS)], of the first tier's lists.
        second: float64[terms, len(LIST_STATISTICS)], of the second tier's.
        k: length of the answer.
    """
    own = score_features(scores, k)
    top = np.asarray(scores, np.float64)[:k]
    last = float(top[k - 1]) if len(top) >= k else 0.0
    best = float(top[0]) if len(top) else 0.0
    weighted = np.asarray(weights, np.float64)[:, None] * second[:, :2]
    largest, tenth = weighted[:, 0], weighted[:, 1]
    bound = float(largest.sum())
    both = float((np.asarray(weights, np.float64) * np.maximum(first[:, 0], second[:, 0])).sum())
    postings = first[:, 2] + second[:, 2]
    rarity = 1 / np.log2(2 + postings)
    of_lists = [
        _over(bound, last),
        _over(bound, best),
        _over(float(largest.max(initial=0.0)), last),
        _over(float(tenth.max(initial=0.0)), last),
        _over(float(tenth.sum()), last),
        bound / both if both > 0 else 0.0,
        float((rarity * second[:, 2] / np.maximum(postings, 1)).sum() / rarity.sum()) if len(weights) else 0.0,
        float(np.log1p(len(weights))),
    ]
    return np.concatenate([own, of_lists])


def _over(value: float, against: float) -> float:
    if against <= 0:
        return _CEILING if value > 0 else 0.0
    return min(value / against, _CEILING)


def missed_share(first: Sequence[Hashable], joint: Sequence[Hashable], k: int = 10) -> float:
    """Share of the joint top-k, weighted by the discount of nDCG, that the first tier does not hold."""
    held = set(first)
    gains = [1 / np.log2(rank + 2) for rank in range(min(k, len(joint)))]
    lost = sum(gain for gain, item in zip(gains, joint, strict=False) if item not in held)
    return float(lost / sum(gains)) if gains else 0.0


@dataclass(frozen=True, slots=True)
class RoutingModel:
    """Predicts how much of the joint top-k an answer of the first tier misses.

    Attributes:
        mean, scale, weights: float64[len(FEATURES)]; weights of the standardised features.
        threshold: queries whose prediction is above it escalate to the second tier.
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
    def fit(cls, table: NDArray[np.float64], missed: NDArray[np.float64], rate: float, k: int = 10) -> RoutingModel:
        """Calibrate on the features (float64[queries, len(FEATURES)]) and missed shares of logged queries.

        Ridge regression of the missed share; the threshold is a quantile of the predictions for the same queries.

        Raises:
            ConfigError: the rate is not in [0, 1].
            InputError: there are no queries.
        """
        if not len(table):
            raise InputError("there are no queries to calibrate the tiers on; give at least one")
        deviation = table.std(axis=0)
        mean, scale = table.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)
        x = (table - mean) / scale
        gram = x.T @ x / len(x) + _RIDGE * np.eye(len(mean))
        weights = np.linalg.solve(gram, x.T @ (missed - missed.mean()) / len(x))
        return cls(mean, scale, weights, 0.0, rate, k).at_rate(table, rate)

    def at_rate(self, table: NDArray[np.float64], rate: float) -> RoutingModel:
        """The same model with the threshold at which `rate` of the queries with these features escalate.

        Only the first tier need be searched for them: where queries change, this keeps the rate.

        Args:
            table: float64[n, len(FEATURES)].
            rate: in [0, 1].

        Raises:
            ConfigError: the rate is not in [0, 1].
            InputError: there are no queries.
        """
        if not (is_a(rate, Real) and 0 <= rate <= 1):
            raise ConfigError(f"the escalation rate must be from 0 to 1; got {shown(rate)}")
        if not len(table):
            raise InputError("there are no queries to calibrate the tiers on; give at least one")
        predicted = np.sort(self.predict(table))[::-1]
        count = int(rate * len(predicted) + 1e-9)
        if count == 0:
            threshold = float(predicted[0])
        elif count == len(predicted):
            threshold = float(predicted[-1]) - 1.0
        else:
            threshold = float((predicted[count - 1] + predicted[count]) / 2)
        return replace(self, threshold=threshold, rate=rate)

    def predict(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predicted missed shares, up to a constant: float64[n] of float64[n, len(FEATURES)]."""
        predicted: NDArray[np.float64] = ((table - self.mean) / self.scale) @ self.weights
        return predicted

    def escalated(self, table: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which queries escalate, bool[n]: those above the threshold, except those whose top-k cannot change.

        It cannot change where the second tier's upper bound is below the k-th score.
        """
        settled = (table[:, _LAST_AT] > 0) & (table[:, _MOST_AT] < 1)
        answer: NDArray[np.bool_] = (self.predict(table) > self.threshold) & ~settled
        return answer

    def escalates(self, features: NDArray[np.float64]) -> bool:
        """Whether the query with these features, float64[len(FEATURES)], escalates."""
        return bool(self.escalated(features[None, :])[0])

    def as_json(self) -> dict[str, object]:
        """Plain JSON that `from_json` reads."""
        return {
            "signs": list(FEATURES),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "threshold": self.threshold,
            "rate": self.rate,
            "k": self.k,
        }

    @classmethod
    def from_json(cls, document: object) -> RoutingModel:
        """Read what `as_json` wrote.

        Raises:
            ValueError: it is something else, or has the features of another release.
        """
        if not isinstance(document, Mapping) or document.get("signs") != list(FEATURES):
            raise ValueError(f"its features are not those of this release, {', '.join(FEATURES)}")
        mean, scale, weights = (np.array(document[key], np.float64) for key in ("mean", "scale", "weights"))
        threshold, rate, k = float(document["threshold"]), float(document["rate"]), document["k"]
        if any(values.shape != (len(FEATURES),) or not np.isfinite(values).all() for values in (mean, scale, weights)):
            raise ValueError(f"its mean, scale and weights are not {len(FEATURES)} finite numbers each")
        if not (scale.all() and np.isfinite([threshold, rate]).all() and type(k) is int and 0 < k < 2**31):
            raise ValueError("its scale, threshold, rate or k is none that a calibration gives")
        return cls(mean, scale, weights, threshold, rate, k)
