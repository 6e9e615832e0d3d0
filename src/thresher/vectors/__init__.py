"""Dense vectors of passages: interpolating a ranking with early stopping, and dense retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.vectors.retrieve import DenseIndex
    from thresher.vectors.store import VectorStore

__all__ = ["DenseIndex", "VectorStore"]

_HOMES = {"DenseIndex": "retrieve", "VectorStore": "store"}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
