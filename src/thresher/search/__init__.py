"""The query processor: exact top-k passages for weighted terms, by pruning what cannot be among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.search.result import Explanation, SearchResult
    from thresher.search.searcher import Searcher

_HOMES = {
    "Explanation": "result",
    "SearchResult": "result",
    "Searcher": "searcher",
}

__all__ = ["Explanation", "SearchResult", "Searcher"]


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
