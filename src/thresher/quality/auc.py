"""How well scores tell wanted passages from others: the area under the ROC curve, overall and within questions.

AUC is the probability that a wanted passage scores higher than another, ties counting one half. Overall, a passage is
wanted if any question wants it, so topics that are well covered help; within a question only its own judged passages
are compared, and questions count alike. Intervals resample questions with replacement (bootstrap percentiles):
questions, not passages, are the sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.quality.estimator import midranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["auc", "auc_by_questions", "auc_difference", "auc_within"]


def auc(scores: NDArray[np.floating], wanted: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; nan where all or none are wanted."""
    positives = int(wanted.sum())
    negatives = len(wanted) - positives
    if not positives or not negatives:
        return float("nan")
    below = midranks(np.asarray(scores))[wanted].sum()
    return float((below - positives * positives / 2) / (positives * negatives))


def auc_within(
    scores: NDArray[np.floating], judgments: Mapping[str, Mapping[int, int]], relevant: int
) -> tuple[float, int]:
    """Mean AUC over the questions that have both wanted and other judged passages, and how many those are."""
    values = []
    for judged in judgments.values():
        rows = np.fromiter(judged, np.int64)
        grades = np.fromiter(judged.values(), np.int64)
        value = auc(np.asarray(scores)[rows], grades >= relevant)
        if not np.isnan(value):
            values.append(value)
    return (float(np.mean(values)) if values else float("nan")), len(values)


def _pooled(
    judgments: Mapping[str, Mapping[int, int]], qids: Sequence[str], relevant: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Judged passages of `qids` and whether any of these questions wants each."""
    best: dict[int, int] = {}
    for qid in qids:
        for row, grade in judgments[qid].items():
            best[row] = max(best.get(row, 0), grade)
    rows = np.fromiter(best, np.int64)
    return rows, np.fromiter(best.values(), np.int64) >= relevant


def _drawn(
    judgments: Mapping[str, Mapping[int, int]], drawn: Sequence[str], relevant: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """As `_pooled`, each passage as often as its questions were drawn."""
    rows, wanted = _pooled(judgments, drawn, relevant)
    times = np.concatenate([np.fromiter(judgments[qid], np.int64) for qid in drawn])
    order = np.argsort(rows)
    at = order[np.searchsorted(rows, times, sorter=order)]
    return times, wanted[at]


def auc_by_questions(
    scores: NDArray[np.floating],
    judgments: Mapping[str, Mapping[int, int]],
    relevant: int,
    *,
    samples: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Overall AUC of the judged passages and the ends of its 95 % interval over questions."""
    qids = sorted(judgments)
    rows, wanted = _pooled(judgments, qids, relevant)
    values = []
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        some, want = _drawn(judgments, [qids[i] for i in rng.integers(0, len(qids), len(qids))], relevant)
        values.append(auc(np.asarray(scores)[some], want))
    low, high = np.nanpercentile(values, [2.5, 97.5]) if values else (float("nan"),) * 2
    return auc(np.asarray(scores)[rows], wanted), float(low), float(high)


def auc_difference(
    scores: NDArray[np.floating],
    other: NDArray[np.floating],
    judgments: Mapping[str, Mapping[int, int]],
    relevant: int,
    *,
    samples: int = 500,
    seed: int = 0,
) -> tuple[float, float, float]:
    """AUC of `scores` minus that of `other` on the same judged passages, and its 95 % interval over questions."""
    qids = sorted(judgments)
    rng = np.random.default_rng(seed)

    def gap(rows: NDArray[np.int64], wanted: NDArray[np.bool_]) -> float:
        return auc(np.asarray(scores)[rows], wanted) - auc(np.asarray(other)[rows], wanted)

    values = [
        gap(*_drawn(judgments, [qids[i] for i in rng.integers(0, len(qids), len(qids))], relevant))
        for _ in range(samples)
    ]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return gap(*_pooled(judgments, qids, relevant)), float(low), float(high)
