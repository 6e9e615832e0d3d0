"""Context pruning: retrieved passages reduced to the sentences that help with a query, as spans of the original text.

Start with `ContextPruner`. No model is loaded until one is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.context.pruned import PrunedPassage, Scores
    from thresher.context.pruner import ContextPruner
    from thresher.context.scorers import PassageScores, SentenceScorer, SplitPassage

__all__ = ["ContextPruner", "PassageScores", "PrunedPassage", "Scores", "SentenceScorer", "SplitPassage"]

_HOMES = {
    "ContextPruner": "pruner",
    "PassageScores": "scorers",
    "PrunedPassage": "pruned",
    "Scores": "pruned",
    "SentenceScorer": "scorers",
    "SplitPassage": "scorers",
}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
