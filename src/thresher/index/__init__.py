"""The on-disk index: its layout, the builder, document reordering.

An index is an artifact of kind `index`: postings, block directories and maxima as flat arrays that are opened by memory
mapping, the passages themselves beside them, and the query encoder's files under `encoder/`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thresher.index.builder import IndexBuilder
    from thresher.index.layout import FORMAT, KIND, Layout, open_layout

_HOMES = {
    "FORMAT": "thresher.index.layout",
    "KIND": "thresher.index.layout",
    "IndexBuilder": "thresher.index.builder",
    "Layout": "thresher.index.layout",
    "open_layout": "thresher.index.layout",
}

__all__ = ["FORMAT", "KIND", "IndexBuilder", "Layout", "open_layout"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'thresher.index' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
