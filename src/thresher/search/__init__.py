"""The query processor: exact top-k passages for weighted terms, by pruning what cannot be among them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thresher.search.result import Explanation, SearchResult
    from thresher.search.searcher import Searcher

_HOMES = {
    "Explanation": "thresher.search.result",
    "SearchResult": "thresher.search.result",
    "Searcher": "thresher.search.searcher",
}

__all__ = ["Explanation", "SearchResult", "Searcher"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'thresher.search' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
