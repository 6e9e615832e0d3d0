"""Building: a corpus to postings, vectors and tiers, in one artifact, as a recipe says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.build.recipe import Recipe, load_recipe
    from thresher.build.report import BuildReport
    from thresher.build.stream import build_index

__all__ = ["BuildReport", "Recipe", "build_index", "load_recipe"]

_HOMES = {"BuildReport": "report", "Recipe": "recipe", "build_index": "stream", "load_recipe": "recipe"}


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)
