"""Intervals of the AUC, against collections whose AUC is known by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from thresher.quality.auc import auc_by_queries, auc_difference

TRIALS = 60


def collection(seed: int, *, judged: int, passages: int, positives_only: bool):
    """Scores that tell wanted passages somewhat, and judgments of 40 queries that differ in how much they want."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=passages)
    judgments = {}
    for q in range(40):
        rows = (rng.integers(passages) + rng.choice(100, judged, replace=False)) % passages
        chance = 1 / (1 + np.exp(1.0 - rng.normal() - 0.5 * scores[rows]))
        grades = rng.random(judged) < chance
        judgments[f"q{q}"] = {int(r): int(g) for r, g in zip(rows, grades, strict=True) if g or not positives_only}
    return scores, judgments


@pytest.mark.parametrize(("passages", "positives_only"), [(4000, False), (300, False), (2000, True), (300, True)])
def test_an_interval_holds_its_own_figure_and_the_true_one(passages, positives_only):
    found = []
    for seed in range(TRIALS):
        scores, judgments = collection(seed, judged=15, passages=passages, positives_only=positives_only)
        found.append(auc_by_queries(scores, judgments, 1, rest=positives_only))
    whole, low, high = np.transpose(found)
    assert (low < whole).all()
    assert (whole < high).all()
    truth = whole.mean()
    # Of 60 intervals of a true level of 95 %, fewer than 52 hold the truth once in some 300 times.
    assert ((low <= truth) & (truth <= high)).sum() >= 52


def test_an_interval_of_a_difference_holds_zero_where_two_scores_are_equally_good():
    held = 0
    for seed in range(TRIALS):
        scores, judgments = collection(seed, judged=15, passages=1000, positives_only=False)
        rng = np.random.default_rng(1000 + seed)
        one, two = (scores + rng.normal(size=len(scores)) for _ in range(2))
        gap, low, high = auc_difference(one, two, judgments, 1)
        assert low < gap < high
        held += low <= 0.0 <= high
    assert held >= 52


def test_too_few_queries_give_no_interval():
    judgments = {f"q{i}": {2 * i: 1, 2 * i + 1: 0} for i in range(5)}
    whole, low, high = auc_by_queries(np.arange(10.0)[::-1], judgments, 1)
    assert whole == pytest.approx(0.6)
    assert np.isnan([low, high]).all()
