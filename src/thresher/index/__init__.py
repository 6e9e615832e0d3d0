"""The on-disk index: its layout, the builder, document reordering.

An index is a commit that names segments (`thresher.index.commit`). A segment is an artifact: postings, directories of
blocks and maxima as flat arrays that are opened by memory mapping, and the passages themselves beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.index.builder import IndexBuilder
    from thresher.index.layout import FORMAT, KIND, Layout, open_layout

_HOMES = {
    "FORMAT": "layout",
    "KIND": "layout",
    "IndexBuilder": "builder",
    "Layout": "layout",
    "open_layout": "layout",
}

__all__ = ["FORMAT", "KIND", "IndexBuilder", "Layout", "open_layout"]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
