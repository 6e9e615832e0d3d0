"""Which passages are worth indexing: estimators, and stores of their scores.

    from thresher.quality import QualityEstimator, score_corpus, write_scores
    estimator = QualityEstimator.from_name("kl", texts=texts)
    scores = estimator.score(texts)

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.quality.duplicates import fold_duplicates
    from thresher.quality.estimator import QualityEstimator, quantiles
    from thresher.quality.junk import JunkRules
    from thresher.quality.store import ScoreStore, score_corpus, write_scores

__all__ = [
    "JunkRules",
    "QualityEstimator",
    "ScoreStore",
    "fold_duplicates",
    "quantiles",
    "score_corpus",
    "write_scores",
]

_HOMES = {
    "JunkRules": "junk",
    "QualityEstimator": "estimator",
    "ScoreStore": "store",
    "fold_duplicates": "duplicates",
    "quantiles": "estimator",
    "score_corpus": "store",
    "write_scores": "store",
}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
