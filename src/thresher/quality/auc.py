"""How well scores separate wanted passages from others: area under the ROC curve, overall and within queries.

AUC is the probability that a wanted passage scores higher than another, ties counting one half. Overall, a passage is
wanted if any query wants it, so well-covered topics help. Within a query only its own judged passages are compared,
and all queries have the same weight. Confidence intervals are bootstrap percentiles over queries, not over passages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thresher.quality.estimator import midranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Judgments = Mapping[str, Mapping[int, int]]
    Interval = tuple[float, float, float]
    Within = tuple[float, int]


def auc(scores: NDArray[np.floating], wanted: NDArray[np.bool_]) -> float:
    """Area under the ROC curve of scores float[n] and labels bool[n], ties half; NaN if all or none are wanted."""
    positives = int(wanted.sum())
    negatives = len(wanted) - positives
    if not positives or not negatives:
        return float("nan")
    below = midranks(np.asarray(scores))[wanted].sum()
    return float((below - positives * positives / 2) / (positives * negatives))


def auc_within(scores: NDArray[np.floating], judgments: Judgments, relevant: int, *, rest: bool = False) -> Within:
    """Mean AUC over the queries with both wanted and other passages, and the number of those queries.

    Args:
        scores: float[n], one per passage.
        judgments: query to passage position to grade.
        relevant: lowest grade that counts as wanted.
        rest: count passages without a judgment for the query as not wanted, instead of ignoring them.
    """
    values = []
    ranks = midranks(np.asarray(scores)) if rest else None
    for judged in judgments.values():
        rows = np.fromiter(judged, np.int64)
        wanted = np.fromiter(judged.values(), np.int64) >= relevant
        if ranks is None:
            value = auc(np.asarray(scores)[rows], wanted)
        else:
            positives, negatives = int(wanted.sum()), len(ranks) - int(wanted.sum())
            over = ranks[rows[wanted]].sum() - positives * positives / 2
            value = float(over / (positives * negatives)) if positives and negatives else float("nan")
        if not np.isnan(value):
            values.append(value)
    return (float(np.mean(values)) if values else float("nan")), len(values)


def auc_by_queries(
    scores: NDArray[np.floating],
    judgments: Judgments,
    relevant: int,
    *,
    rest: bool = False,
    samples: int = 300,
    seed: int = 0,
) -> Interval:
    """Overall AUC of scores float[n], with the ends of its 95 % interval over queries (nan without samples).

    Other arguments as `auc_within`; `samples` bootstrap samples, drawn with `seed`.
    """
    return _interval(
        lambda rows, wanted: auc(scores[rows], wanted), judgments, relevant, len(scores) * rest, samples, seed
    )


def auc_difference(
    scores: NDArray[np.floating],
    other: NDArray[np.floating],
    judgments: Judgments,
    relevant: int,
    *,
    rest: bool = False,
    samples: int = 300,
    seed: int = 0,
) -> Interval:
    """AUC of `scores` minus that of `other`, both float[n] on the same passages, with its 95 % interval."""

    def gap(rows: NDArray[np.int64], wanted: NDArray[np.bool_]) -> float:
        return auc(scores[rows], wanted) - auc(other[rows], wanted)

    return _interval(gap, judgments, relevant, len(scores) * rest, samples, seed)


def _interval(
    figure: Callable[[NDArray[np.int64], NDArray[np.bool_]], float],
    judgments: Judgments,
    relevant: int,
    passages: int,
    samples: int,
    seed: int,
) -> Interval:
    qids = sorted(judgments)
    rng = np.random.default_rng(seed)
    values = [
        figure(*_drawn(judgments, [qids[i] for i in rng.integers(0, len(qids), len(qids))], relevant, passages))
        for _ in range(samples)
    ]
    ends = np.nanpercentile(values, [2.5, 97.5]) if values else (float("nan"), float("nan"))
    return figure(*_pooled(judgments, qids, relevant, passages)), float(ends[0]), float(ends[1])


def _pooled(
    judgments: Judgments, qids: Sequence[str], relevant: int, passages: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The passages of `qids` (all of `passages`, where that is not 0) and whether any of these queries wants each."""
    if passages:
        wanted = np.zeros(passages, bool)
        for qid in set(qids):
            wanted[[row for row, grade in judgments[qid].items() if grade >= relevant]] = True
        return np.arange(passages), wanted
    best: dict[int, int] = {}
    for qid in qids:
        for row, grade in judgments[qid].items():
            best[row] = max(best.get(row, relevant - 1), grade)
    return np.fromiter(best, np.int64), np.fromiter(best.values(), np.int64) >= relevant


def _drawn(
    judgments: Judgments, drawn: Sequence[str], relevant: int, passages: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """As `_pooled`; where only judged passages count, each as often as its queries were drawn."""
    rows, wanted = _pooled(judgments, drawn, relevant, passages)
    if passages:
        return rows, wanted
    times = np.concatenate([np.fromiter(judgments[qid], np.int64) for qid in drawn])
    order = np.argsort(rows)
    at = order[np.searchsorted(rows, times, sorter=order)]
    return times, wanted[at]
