"""BM25 on three collections, with Anserini's figures on the same passages.

Writes eval/results/bm25.json: one row a collection and measure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eval.bench import Bench, Row, options
from eval.collections import PUBLISHED
from thresher.errors import ThresherError
from thresher.experiment import run_experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent


def measured(collection: str) -> list[Row]:
    """One row a measure of the collection's experiment file."""
    report = run_experiment(HERE / f"{collection}-bm25.toml", progress=True)
    if report.build is None:
        raise ThresherError(f"the experiment {collection}-bm25 built no index")
    shared = {
        "passages": report.build.counts["passages"],
        "postings": report.build.counts["postings"],
    }
    return [row | shared for row in report.rows()]


def main(arguments: Sequence[str]) -> None:
    """Measure and write."""
    bench = Bench.of(options("bm25", __doc__).parse_args(arguments))
    bench.write(
        "bm25",
        [row for name in PUBLISHED for row in measured(name)],
        title="BM25 and Anserini",
        note="`published`: Anserini 1.7.1, BM25 k1 .9, b .4, on the same passages. Ours: exact lengths, 16 bits.",
    )
