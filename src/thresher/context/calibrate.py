"""Thresholds for a stated goal: the highest that still keeps the answer as often as wanted, on held-out queries.

For a query with a known answer, the answer is kept as long as every sentence it touches is kept, so each query
has one number: the highest threshold at which (at least one of) its answers is whole. The share of queries whose
number is at least T is the share of answers kept at T; it falls as T rises, and so the threshold for a goal is an
order statistic. The Wilson interval of the share bounds its error on other queries.

`calibrate_confidence` does the same for the confidence below which nothing is handed over: the number of a query is the
score of its passage's best sentence, and queries without an answer show how many are withheld.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.context.labelled import LabelledQuery
    from thresher.context.scorers import PassageScores
    from thresher.records import Span

GOALS = {"conservative": 0.99, "balanced": 0.95, "strong": 0.90}
"""Preset to the share of answers that it keeps on the queries it is calibrated on."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what it did on the queries it was chosen on.

    Attributes:
        threshold: keep sentences that score at least this.
        goal: the share of answers to keep.
        answer_kept: the share that is kept at the threshold.
        low: lower end of the 95 % Wilson interval of that share.
        high: its upper end.
        queries: how many it rests on.
        pruned: share of the characters of these passages that is dropped.
    """

    threshold: float
    goal: float
    answer_kept: float
    low: float
    high: float
    queries: int
    pruned: float


def lost_above(sentences: Sequence[Span], scores: Sequence[float], answers: Sequence[Span]) -> float:
    """The highest threshold at which one of `answers` is whole; 0 where a part lies in no sentence at all."""
    best = 0.0
    for answer in answers:
        touched = [x for s, x in zip(sentences, scores, strict=True) if s.start < answer.end and answer.start < s.end]
        best = max(best, min(touched, default=0.0))
    return best


def calibrate(rows: Sequence[LabelledQuery], scores: Sequence[PassageScores], goal: float) -> Calibration:
    """The highest threshold that keeps at least `goal` of the answers.

    Args:
        rows: queries with their answers; those without an answer are ignored.
        scores: one for each row.
        goal: share of answers to keep, above 0 and at most 1.

    Raises:
        InputError: the goal is out of range, or no row has an answer.
    """
    if not 0 < goal <= 1:
        raise InputError(f"goal={goal}: give the share of answers to keep, above 0 and at most 1")
    pairs = [(row, one) for row, one in zip(rows, scores, strict=True) if row.answers]
    if not pairs:
        raise InputError("no query has an answer in its passage; give queries with answers to calibrate a threshold on")
    numbers = sorted((lost_above(row.sentences, one.sentences, row.answers) for row, one in pairs), reverse=True)
    wanted = math.ceil(goal * len(numbers) - 1e-9)
    threshold = math.floor(numbers[wanted - 1] * 1e4) / 1e4
    kept = sum(number >= threshold for number in numbers)
    low, high = wilson(kept, len(numbers))
    before = after = 0
    for row, one in pairs:
        lengths = [s.end - s.start for s in row.sentences]
        before += sum(lengths)
        after += sum(n for n, x in zip(lengths, one.sentences, strict=True) if x >= threshold)
    return Calibration(threshold, goal, kept / len(numbers), low, high, len(numbers), 1 - after / max(before, 1))


@dataclass(frozen=True, slots=True)
class Confidence:
    """A value for `min_confidence` and what it did on the queries it was chosen on.

    Attributes:
        min_confidence: hand nothing over where no sentence scores at least this.
        answered: share of the queries with an answer for which something is handed over.
        withheld: share of the queries without one for which nothing is; None where all have one.
        queries: how many it rests on.
        unanswerable: how many of them have no answer.
    """

    min_confidence: float
    answered: float
    withheld: float | None
    queries: int
    unanswerable: int


def calibrate_confidence(rows: Sequence[LabelledQuery], scores: Sequence[PassageScores], goal: float) -> Confidence:
    """The highest `min_confidence` at which at least `goal` of the queries with an answer get something.

    A query counts with its one passage here; in a pipeline it counts with the best of k passages, so a little less is
    withheld.

    Args:
        rows: queries, with and without answers.
        scores: one for each row.
        goal: share of queries with an answer, above 0 and at most 1.

    Raises:
        InputError: the goal is out of range, or no row has an answer.
    """
    if not 0 < goal <= 1:
        raise InputError(f"goal={goal}: give the share of queries to answer, above 0 and at most 1")
    best = [(bool(row.answers), max(one.sentences, default=0.0)) for row, one in zip(rows, scores, strict=True)]
    with_answer = sorted((score for answered, score in best if answered), reverse=True)
    without = [score for answered, score in best if not answered]
    if not with_answer:
        raise InputError("no query has an answer in its passage; give queries with answers to calibrate on")
    wanted = math.ceil(goal * len(with_answer) - 1e-9)
    least = math.floor(with_answer[wanted - 1] * 1e4) / 1e4
    return Confidence(
        least,
        sum(score >= least for score in with_answer) / len(with_answer),
        sum(score < least for score in without) / len(without) if without else None,
        len(best),
        len(without),
    )


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not trials:
        return 0.0, 1.0
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / trials / 4) / (1 + spread)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))
