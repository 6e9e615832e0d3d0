"""Indexes in the formats of other engines, and encoded passages from them.

`export_index` writes an index to a folder (`thresher export`); `open_encoded` opens what others encoded, and
`thresher.build.build_index(..., encoded=...)` makes an index of it (`thresher import`). Formats are in
`thresher.index.exchange.formats`, what they are written from in `thresher.index.exchange.documents`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.index.exchange.folder import export_index
    from thresher.index.exchange.opening import open_encoded

_HOMES = {"export_index": "folder", "open_encoded": "opening"}

__all__ = ["export_index", "open_encoded"]


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
