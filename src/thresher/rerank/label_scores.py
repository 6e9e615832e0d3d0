"""Scores from the log-probabilities of a few labels as a model's first answer token.

InstUPR (arXiv 2403.16435) rates a passage by the mean of the grades 1 to 5 under the model: with their probabilities as
they are (`plain_grade`), or normalised over the five (`soft_grade`), or takes the likeliest grade (`hard_grade`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def log_odds(logs: Mapping[str, float], yes: str, no: str) -> float | None:
    """Log P(yes)/P(no); None unless both are known."""
    if yes not in logs or no not in logs or -math.inf in (logs[yes], logs[no]):
        return None
    return logs[yes] - logs[no]


def soft_grade(logs: Mapping[str, float]) -> float | None:
    """The mean grade under the softmax of the grades listed; None if none is."""
    listed = {grade: log for grade, log in logs.items() if log > -math.inf}
    if not listed:
        return None
    top = max(listed.values())
    weights = {grade: math.exp(log - top) for grade, log in listed.items()}
    return math.fsum(int(grade) * weight for grade, weight in weights.items()) / math.fsum(weights.values())


def plain_grade(logs: Mapping[str, float]) -> float | None:
    """The sum of the grades listed times their probabilities among all tokens; None if none is listed."""
    listed = {grade: log for grade, log in logs.items() if log > -math.inf}
    return math.fsum(int(grade) * math.exp(log) for grade, log in listed.items()) if listed else None


def hard_grade(logs: Mapping[str, float]) -> float | None:
    """The likeliest grade, the higher of two equally likely ones; None if none is listed."""
    listed = [(log, int(grade)) for grade, log in logs.items() if log > -math.inf]
    return float(max(listed)[1]) if listed else None


def probability(logs: Mapping[str, float], label: str) -> float | None:
    """The probability of a label among all tokens; None if it is not known."""
    return math.exp(min(logs[label], 0.0)) if label in logs else None


def logistic(x: float) -> float:
    """1/(1 + exp(-x))."""
    return 0.5 * (1.0 + math.tanh(0.5 * x))
