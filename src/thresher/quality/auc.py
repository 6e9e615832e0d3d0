"""How well scores separate wanted passages from others: area under the ROC curve, overall and within queries.

AUC is the probability that a wanted passage scores higher than another, ties counting one half. Overall, a passage is
wanted if any query wants it, so well-covered topics help. Within a query only its own judged passages are compared,
and all queries have the same weight.

Confidence intervals are over queries, not over passages, by the delete-a-group jackknife (Shao and Wu, 1989): queries
are left out a group at a time, and the spread of the figures that remain gives the standard error; for one AUC on the
scale of its log odds. A bootstrap over queries would be wrong here: a resample holds 63 % of the distinct queries, so
that fewer passages are wanted in it than in the whole, and its percentiles can exclude the figure itself.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from thresher.quality.estimator import midranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Judgments = Mapping[str, Mapping[int, int]]
    Interval = tuple[float, float, float]
    Within = tuple[float, int]

_LEAST_GROUPS = 6  # with fewer the quantile below is not good enough, nor is the interval worth printing


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
    groups: int = 50,
    seed: int = 0,
) -> Interval:
    """Overall AUC of scores float[n], with the ends of its 95 % interval over queries.

    Args:
        scores: float[n], one per passage.
        judgments: query to passage position to grade.
        relevant: lowest grade that counts as wanted.
        rest: count passages without a judgment as not wanted, instead of ignoring them.
        groups: groups of queries that are left out in turn, at most one per query; the interval is NaN below 6.
        seed: assigns queries to groups.
    """
    whole, parts = _without_each_group(
        lambda rows, wanted: auc(scores[rows], wanted), judgments, relevant, len(scores) * rest, groups, seed
    )
    if 0.0 < whole < 1.0 and all(0.0 < part < 1.0 for part in parts):
        low, high = _jackknife(_log_odds(whole), [_log_odds(part) for part in parts])
        return whole, 1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high))
    return whole, *_jackknife(whole, parts)


def auc_difference(
    scores: NDArray[np.floating],
    other: NDArray[np.floating],
    judgments: Judgments,
    relevant: int,
    *,
    rest: bool = False,
    groups: int = 50,
    seed: int = 0,
) -> Interval:
    """AUC of `scores` minus that of `other`, both float[n] on the same passages, with its 95 % interval."""

    def gap(rows: NDArray[np.int64], wanted: NDArray[np.bool_]) -> float:
        return auc(scores[rows], wanted) - auc(other[rows], wanted)

    whole, parts = _without_each_group(gap, judgments, relevant, len(scores) * rest, groups, seed)
    return whole, *_jackknife(whole, parts)


def _without_each_group(
    figure: Callable[[NDArray[np.int64], NDArray[np.bool_]], float],
    judgments: Judgments,
    relevant: int,
    passages: int,
    groups: int,
    seed: int,
) -> tuple[float, list[float]]:
    """The figure over all queries, and over all but each group of them."""
    qids = sorted(judgments)
    whole = figure(*_pooled(judgments, qids, relevant, passages))
    order = np.random.default_rng(seed).permutation(len(qids))
    parts = []
    for group in np.array_split(order, max(1, min(groups, len(qids)))) if groups else ():
        left = [qids[i] for i in np.setdiff1d(order, group)]
        parts.append(figure(*_pooled(judgments, left, relevant, passages)))
    return whole, parts


def _jackknife(whole: float, parts: Sequence[float]) -> tuple[float, float]:
    """Ends of the 95 % interval of `whole` from the figures without each group; NaN where they are not known."""
    n = len(parts)
    if n < _LEAST_GROUPS or not np.isfinite(parts).all():
        return float("nan"), float("nan")
    half = _quantile_of_t(n - 1) * math.sqrt((n - 1) * float(np.var(parts)))
    return whole - half, whole + half


def _quantile_of_t(freedom: int) -> float:
    """The .975 quantile of Student's t, to .02 from 5 degrees of freedom on (Abramowitz and Stegun, 26.7.5)."""
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _log_odds(share: float) -> float:
    return math.log(share / (1 - share))


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
