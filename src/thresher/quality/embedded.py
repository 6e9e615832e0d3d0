"""The default estimator that ships: fitted weights over lexical columns, a few kilobytes, no model and no network."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from thresher.models.resolve import shipped_weights
from thresher.quality.fitted import FittedEstimator, Head, read_head

if TYPE_CHECKING:
    from collections.abc import Iterable


class EmbeddedEstimator:
    """Makes the shipped estimator for a collection."""

    @staticmethod
    def fit(texts: Iterable[str]) -> FittedEstimator:
        """The shipped weights, standardised on the collection `texts`."""
        head, columns = _shipped()
        return FittedEstimator.on(texts, head, columns, "embedded")


@lru_cache(maxsize=1)
def _shipped() -> tuple[Head, tuple[str, ...]]:
    document = json.loads((shipped_weights() / "quality-embedded" / "head.json").read_text(encoding="utf-8"))
    return read_head(document["head"]), tuple(document["columns"])
