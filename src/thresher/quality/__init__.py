"""Which passages are worth indexing: estimators behind one seam, the score store, and fitting on your own judgments.

    from thresher.quality import make_estimator, write_scores
    estimator = make_estimator("kl", texts=texts)
    scores = estimator.score(texts)

Names load when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.quality.duplicates import fold_duplicates
    from thresher.quality.embedded import EmbeddedEstimator
    from thresher.quality.estimator import Combined, QualityEstimator, RandomEstimator, quantiles
    from thresher.quality.junk import JunkRules
    from thresher.quality.lexical import LexicalEstimator
    from thresher.quality.registry import make_estimator
    from thresher.quality.store import ScoreStore, score_corpus, write_scores

__all__ = [
    "Combined",
    "EmbeddedEstimator",
    "JunkRules",
    "LexicalEstimator",
    "QualityEstimator",
    "RandomEstimator",
    "ScoreStore",
    "fold_duplicates",
    "make_estimator",
    "quantiles",
    "score_corpus",
    "write_scores",
]

_HOMES = {
    "fold_duplicates": "duplicates",
    "Combined": "estimator",
    "EmbeddedEstimator": "embedded",
    "JunkRules": "junk",
    "LexicalEstimator": "lexical",
    "QualityEstimator": "estimator",
    "RandomEstimator": "estimator",
    "ScoreStore": "store",
    "make_estimator": "registry",
    "quantiles": "estimator",
    "score_corpus": "store",
    "write_scores": "store",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
