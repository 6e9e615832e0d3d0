"""The query processor: exact top-k passages for weighted terms, skipping what cannot be among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.search.effort import Effort
    from thresher.search.index import Index
    from thresher.search.results import Explanation, SearchRanking
    from thresher.search.tiers import calibrate_tiers

_HOMES = {
    "Effort": "effort",
    "Explanation": "results",
    "Index": "index",
    "SearchRanking": "results",
    "calibrate_tiers": "tiers",
}

__all__ = ["Effort", "Explanation", "Index", "SearchRanking", "calibrate_tiers"]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
