"""`certify`: an index, and fractions of its baseline, put to the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.certify.pipelines import PIPELINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from thresher.certify.certificate import Certificate
    from thresher.certify.claims import Kind
    from thresher.quality.store import ScoreStore
    from thresher.records import Qrels, Query
    from thresher.search.index import Index


def certify(
    system: str | Path | Index,
    baseline: str | Path | Index,
    queries: str | Path | Sequence[Query],
    qrels: str | Path | Qrels | None = None,
    *,
    margin: float,
    measures: str | Iterable[str] = "nDCG@10",
    pipelines: Sequence[str] = PIPELINES,
    fractions: Sequence[float] = (),
    scores: str | Path | ScoreStore = "embedded",
    claim: Kind = "non-inferiority",
    alpha: float = 0.05,
    k: int = 1000,
    work: str | Path | None = None,
    progress: Callable[[str], object] | None = None,
) -> Certificate:
    """Test whether an index, and fractions of its baseline, are not worse than the baseline by the margin."""
    raise NotImplementedError
