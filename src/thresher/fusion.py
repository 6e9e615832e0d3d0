"""How rankings of one query are fused: by reciprocal ranks, or by a weighted sum of normalised scores.

Reciprocal rank fusion is that of Cormack, Clarke and Büttcher (SIGIR 2009). `thresher.ranking.fuse` applies both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from thresher.checks import floats, one_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


RRF_K = 60.0
"""The constant of reciprocal rank fusion in the paper."""

Fusion = Literal["rrf", "min-max", "z-score", "none"]


class Scores(Protocol):
    """A ranking, as far as fusion looks at it."""

    @property
    def docnos(self) -> Sequence[str]:
        """Best first."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """float64[n]."""


def normalise_scores(scores: NDArray[np.float64], how: str) -> NDArray[np.float64]:
    """Scores of one ranking, float64[n], normalised.

    `min-max` maps the smallest to 0 and the largest to 1 (all to 0 where they are equal), `z-score` subtracts the mean
    and divides by the standard deviation (0 where that is 0), `none` leaves them alone.

    Raises:
        ConfigError: `how` is none of these.
    """
    one_of("normalisation", how, ("min-max", "z-score", "none"))
    scores = floats("scores", scores)
    if how == "none" or not len(scores):
        return scores
    if how == "min-max":
        low, spread = scores.min(), scores.max() - scores.min()
    else:
        low, spread = scores.mean(), scores.std()
    return (scores - low) / spread if spread > 0 else np.zeros_like(scores)


def sum_of_reciprocals(rankings: Sequence[Scores], weights: Sequence[float], k: float) -> dict[str, float]:
    """Docno to the sum of weight / (k + rank) over the rankings that have it."""
    total: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, docno in enumerate(ranking.docnos, start=1):
            total[docno] = total.get(docno, 0.0) + weight / (k + rank)
    return total


def sum_of_scores(rankings: Sequence[Scores], weights: Sequence[float], how: str) -> dict[str, float]:
    """Docno to the weighted sum of its normalised scores; the smallest of a ranking where that lacks it."""
    normalised = [dict(zip(one.docnos, normalise_scores(one.scores, how).tolist(), strict=True)) for one in rankings]
    floors = [min(scores.values(), default=0.0) for scores in normalised]
    docnos = dict.fromkeys(docno for scores in normalised for docno in scores)
    return {
        docno: sum(
            weight * scores.get(docno, floor) for weight, scores, floor in zip(weights, normalised, floors, strict=True)
        )
        for docno in docnos
    }
