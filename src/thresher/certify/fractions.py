"""Which passages are left when a share of an index is pruned: a mask by passage number.

Searching an index with the mask is searching what is left with the statistics of the whole index: the document
frequencies and average length of BM25 stay what they were. An index that is built without those passages has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ArtifactError, InputError
from thresher.index.commit import read_commit
from thresher.manifest import load_manifest
from thresher.prune.frozen import frozen_estimator
from thresher.prune.policy import preference
from thresher.quality.estimator import QualityEstimator
from thresher.quality.store import KIND, ScoreStore, score_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from thresher.search.index import Index

Scores = str | Path | ScoreStore | QualityEstimator | None
"""Where scores come from: a store or its directory, an estimator or its name; None for the index's own estimator."""
DEFAULT = "embedded"
"""The estimator of an index that was not pruned."""


def kept(index: Index, scores: Scores | NDArray[np.float32], fraction: float) -> NDArray[np.bool_]:
    """bool[n] by passage number: the passages that stay when the lowest-scored share is pruned.

    Args:
        index: its passages. Deleted ones do not count.
        scores: float32[n] by passage number, or where they come from.
        fraction: share of the live passages that goes, at least 0 and below 1; of equal scores a
            hash of the docno decides, as in a build.

    Raises:
        InputError: the fraction is out of range, or a passage has no score.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"a fraction is at least 0 and below 1, got {fraction}")
    known = scores if isinstance(scores, np.ndarray) else scores_of(index, scores)[0]
    live = np.flatnonzero(index.live)
    order = live[preference(np.asarray(known, np.float64)[live], index.docnos_at(live))]
    mask = np.zeros(len(known), bool)
    mask[order[: len(live) - round(fraction * len(live))]] = True
    return mask


def scores_of(index: Index, scores: Scores = None, *, device: str = "auto") -> tuple[NDArray[np.float32], str]:
    """The quality of an index's passages.

    Args:
        index: its passages.
        scores: where they come from.
        device: for models.

    Returns:
        float32[n] by passage number, NaN for deleted ones; and the name of what scored them.

    Raises:
        InputError: a store has no score for a passage.
        ConfigError: there is no such estimator.
    """
    live = np.flatnonzero(index.live)
    if isinstance(scores, str | Path) and _is_store(scores):
        scores = ScoreStore.open(scores)
    out = np.full(len(index.live), np.nan, np.float32)
    if isinstance(scores, ScoreStore):
        out[live] = scores.scores_of(index.docnos_at(live))
        return out, scores.estimator
    texts = _Texts(index, live)
    if scores is None:
        pruning = read_commit(index.path).frozen.get("pruning")
        scores = frozen_estimator(index.path, pruning, device) if isinstance(pruning, dict) else DEFAULT
    if not isinstance(scores, QualityEstimator):
        scores = QualityEstimator.from_name(scores, texts=texts, device=device)
    out[live] = score_texts(texts, scores)
    return out, scores.name


def _is_store(path: str | Path) -> bool:
    try:
        return Path(path).is_dir() and load_manifest(Path(path)).kind == KIND
    except ArtifactError:
        return False


@dataclass(frozen=True, slots=True)
class _Texts:
    """Title and text of passages, read from the index at every iteration.

    Attributes:
        index: the index.
        numbers: int64[n], of the passages.
    """

    index: Index
    numbers: NDArray[np.int64]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.numbers), _CHUNK):
            for passage in self.index.passages_at(self.numbers[start : start + _CHUNK]):
                yield passage.contents


_CHUNK = 1024
