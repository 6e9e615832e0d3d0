"""Sentences worth reading: retrieved passages pruned to what helps with the query, as spans of the original text.

`ContextPruner` is the door. It loads no model until one is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.context.pruner import ContextPruner, PrunedPassage
    from thresher.context.scoring import PassageScores, SentenceScorer, SplitPassage
    from thresher.context.select import Selection

__all__ = ["ContextPruner", "PassageScores", "PrunedPassage", "Selection", "SentenceScorer", "SplitPassage"]

_HOMES = {
    "ContextPruner": "pruner",
    "PassageScores": "scoring",
    "PrunedPassage": "pruner",
    "Selection": "select",
    "SentenceScorer": "scoring",
    "SplitPassage": "scoring",
}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
