"""Fusing rankings: reciprocal ranks, and weighted sums of scores that were normalised in a stated way.

- `reciprocal_rank_fusion`: the sum over rankings of 1 / (k + rank), ranks from 1 (Cormack, Clarke, Büttcher, SIGIR
  2009; k = 60 there). Scores are not looked at, only the order.
- `fuse`: the weighted sum of normalised scores. Normalisation is per question and ranking: `min-max` maps the smallest
  score to 0 and the largest to 1 (all to 0 where they are equal), `z-score` subtracts the mean and divides by the
  standard deviation (0 where that is 0), `none` leaves scores alone. A document that a ranking lacks gets that
  ranking's smallest normalised score: 0 under `min-max`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, InputError
from thresher.records import Run, ScoredDoc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["fuse", "normalise_scores", "reciprocal_rank_fusion"]


def normalise_scores(scores: NDArray[np.float64], how: str) -> NDArray[np.float64]:
    """Scores of one ranking, float64[n], mapped as the module says.

    Raises:
        ConfigError: `how` is none of `min-max`, `z-score`, `none`.
    """
    if how == "none" or not len(scores):
        return scores
    if how == "min-max":
        low, spread = scores.min(), scores.max() - scores.min()
    elif how == "z-score":
        low, spread = scores.mean(), scores.std()
    else:
        raise ConfigError(f"unknown normalisation {how!r}; use min-max, z-score or none")
    return (scores - low) / spread if spread > 0 else np.zeros_like(scores)


def reciprocal_rank_fusion(runs: Sequence[Run], *, k: float = 60.0, depth: int = 1000, tag: str = "rrf") -> Run:
    """Fuse runs by the sum of 1 / (k + rank), keeping `depth` documents a question (Cormack et al., SIGIR 2009).

    Raises:
        InputError: k is not above 0.
    """
    if k <= 0:
        raise InputError(f"k is {k}; the constant of reciprocal rank fusion must be above 0")
    rankings = {}
    for qid in _qids(runs):
        total: dict[str, float] = {}
        for run in runs:
            for rank, row in enumerate(run.rankings.get(qid, ()), start=1):
                total[row.docno] = total.get(row.docno, 0.0) + 1.0 / (k + rank)
        rankings[qid] = _ordered(total, depth)
    return Run(rankings, tag)


def fuse(
    runs: Sequence[Run],
    weights: Sequence[float],
    *,
    normalise: str = "min-max",
    depth: int = 1000,
    tag: str = "fused",
) -> Run:
    """Fuse runs by the weighted sum of their normalised scores.

    Raises:
        InputError: there is not one finite weight for each run.
        ConfigError: the normalisation is unknown.
    """
    if len(weights) != len(runs) or not np.isfinite(weights).all():
        raise InputError(f"{len(runs)} runs need as many finite weights, found {list(weights)}")
    rankings = {}
    for qid in _qids(runs):
        normalised = [_normalised(run.rankings.get(qid, ()), normalise) for run in runs]
        docnos = {docno for scores in normalised for docno in scores}
        floors = [min(scores.values(), default=0.0) for scores in normalised]
        total = {
            docno: sum(
                weight * scores.get(docno, floor)
                for weight, scores, floor in zip(weights, normalised, floors, strict=True)
            )
            for docno in docnos
        }
        rankings[qid] = _ordered(total, depth)
    return Run(rankings, tag)


def _normalised(rows: Sequence[ScoredDoc], how: str) -> dict[str, float]:
    scores = normalise_scores(np.array([row.score for row in rows], dtype=np.float64), how)
    return {row.docno: float(score) for row, score in zip(rows, scores, strict=True)}


def _qids(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(qid for run in runs for qid in run.rankings))


def _ordered(total: Mapping[str, float], depth: int) -> tuple[ScoredDoc, ...]:
    rows = sorted(total.items(), key=lambda item: (-item[1], item[0].encode()))
    return tuple(ScoredDoc(docno, score) for docno, score in rows[:depth])
