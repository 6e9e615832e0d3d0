"""What a recipe's `[recall]` table asks for: recall measured in a new index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher.evaluate.trec import read_queries

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.build.recipe import RecallStep


def measure_recall(index: str | Path, step: RecallStep | None) -> None:
    """Measure recall in the index just built, if that is asked for, and write the curve into it as its own commit.

    Raises:
        InputError: the log is malformed, with file and line; or too few queries find anything.
    """
    if step is None:
        return
    from thresher import Index  # the package's own door: building comes before searching

    queries = read_queries(step.queries) if step.queries else None
    with Index.open(index) as opened:
        opened.calibrate_recall(queries, ks=step.k, sample=step.sample, source=step.queries)
