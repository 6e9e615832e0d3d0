"""`Reranker` with a calibration: probabilities, thresholds, refusals, and what a run says of itself."""

import json

import numpy as np
import pytest

from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.llm.budget import Budget
from thresher.records import Hit
from thresher.rerank.calibration import HeldOut, ScoreCalibration
from thresher.rerank.reranker import Reranker
from thresher.rerank.run_settings import RunSettings
from training.rerank.simulated import SimulatedJudge

TRUTH = {"q": {f"d{i}": float(i) for i in range(20)}}
HITS = [Hit(f"d{i}", 20.0 - i, i + 1, text="t") for i in range(20)]


def calibration(plan="pointwise", signal="score", judge=None):
    points = ((0.5, -5.0),) if signal == "score" else ((1.0, 1.0),)
    judge = SimulatedJudge(TRUTH).name if judge is None else judge
    return ScoreCalibration(
        judge=judge, plan=plan, signal=signal, method="platt", points=points, relevant=1, unjudged="left out", topics=2,
        pairs=9, positives=3, held_out=HeldOut(0.0, 0.0, 0.0, 0.1, 2),
    )  # fmt: skip


def reranked(plan="pointwise", **options):
    from thresher.records import Query

    return Reranker(SimulatedJudge(TRUTH), plan, **options).rank(Query("q", "q"), HITS)


def test_probabilities_are_of_the_plans_scores_and_change_no_order():
    plain, told = reranked(), reranked(calibration=calibration())
    assert plain.probabilities is None
    assert told.docnos == plain.docnos
    assert told.scores.tolist() == plain.scores.tolist()
    grades = np.array([TRUTH["q"][docno] for docno in told.docnos])
    assert told.probabilities == pytest.approx(1 / (1 + np.exp(-(0.5 * grades - 5))))


def test_probabilities_of_ranks_need_no_scores():
    plan = Reranker(SimulatedJudge(TRUTH), "sliding").plan.name
    told = reranked("sliding", calibration=calibration(plan, "rank"))
    assert not told.scored
    assert told.probabilities == pytest.approx([1 / (1 + rank / np.e) for rank in range(1, 21)])


def test_passages_below_the_least_probability_are_left_out():
    told = reranked(calibration=calibration(), min_score=0.5)
    assert told.docnos == [f"d{i}" for i in range(19, 9, -1)]
    assert min(told.probabilities) == pytest.approx(0.5)
    assert len(reranked(calibration=calibration(), min_score=0.999)) == 0


def test_as_many_are_kept_as_have_the_expected_precision():
    full = reranked(calibration=calibration())
    told = reranked(calibration=calibration(), precision=0.8)
    m = len(told)
    assert np.mean(full.probabilities[:m]) >= 0.8 > np.mean(full.probabilities[: m + 1])
    assert told.docnos == full.docnos[:m]
    both = reranked(calibration=calibration(), precision=0.8, min_score=0.95)
    assert len(both) < m


def test_passages_that_were_not_reranked_have_no_probability():
    told = reranked(calibration=calibration(), depth=5)
    assert told.probabilities[5:] == (None,) * 15
    assert len(reranked(calibration=calibration(), depth=5, min_score=0.0)) == 5


def test_a_ranking_that_was_stopped_without_scores_has_no_probability():
    told = reranked(calibration=calibration(), budget=Budget(calls=3))
    assert not told.complete
    assert told.probabilities == (None,) * 20


def test_ties_and_errors_are_of_what_is_kept():
    plan = Reranker(SimulatedJudge(TRUTH), "jointrank").plan.name
    told = reranked("jointrank", calibration=calibration(plan, "rank"), min_score=0.3)
    assert len(told.errors) == len(told.probabilities) == len(told) < 20


def test_a_calibration_for_another_judge_or_plan_is_refused(tmp_path):
    for wrong in (calibration(judge="other"), calibration("sliding")):
        with pytest.raises(ConfigError, match="was fitted for the"):
            reranked(calibration=wrong)
        with pytest.raises(ConfigError, match="was fitted for the"):
            reranked(calibration=wrong.save(tmp_path / "scores.json"))
    with pytest.raises(InputError, match="must be a ScoreCalibration or a path"):
        reranked(calibration=7)


def test_a_threshold_needs_a_calibration():
    for limit in ({"min_score": 0.5}, {"precision": 0.8}):
        with pytest.raises(ConfigError, match="calibrate scores"):
            reranked(**limit)
    with pytest.raises(InputError, match="min_score"):
        reranked(calibration=calibration(), min_score=2.0)


def test_a_run_says_what_it_was_made_with(tmp_path):
    run = tmp_path / "out.run"
    assert RunSettings.read(run) is None
    made = RunSettings("judge", "plan", 100, "score")
    assert made.save(run) == tmp_path / "out.run.json"
    assert RunSettings.read(run) == made
    (tmp_path / "out.run.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(DamagedArtifactError, match="beside a run"):
        RunSettings.read(run)
