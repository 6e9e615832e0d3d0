"""Filled judgments are marked, kept apart, and compared with people's."""

import random

import pytest

from thresher.errors import InputError
from thresher.evaluate import read_qrels, write_qrels
from thresher.evaluate.filled import (
    Filled,
    agreement,
    fit_thresholds,
    graded_by,
    read_filled,
    with_filled,
    write_filled,
)
from thresher.records import Qrels

PEOPLE = Qrels({"1": {"a": 2, "b": 0}})
FILLED = Filled("openai:m", Qrels({"1": {"a": 0, "c": 3}, "2": {"d": 1}}))


def test_filled_judgments_are_qrels_that_name_their_judge(tmp_path):
    write_filled(FILLED, tmp_path / "f.gz")
    assert read_filled(tmp_path / "f.gz") == FILLED
    assert read_qrels(tmp_path / "f.gz") == FILLED.qrels  # any tool reads them
    with pytest.raises(InputError, match="the judge 'a b' is empty or has white space"):
        write_filled(Filled("a b", FILLED.qrels), tmp_path / "g")


def test_judgments_by_people_are_not_taken_for_filled_ones(tmp_path):
    write_qrels(PEOPLE, tmp_path / "qrels")
    with pytest.raises(InputError, match=r"qrels:1: .*not a filled judgment.*belong to --qrels"):
        read_filled(tmp_path / "qrels")
    (tmp_path / "two").write_text("1 filled:x a 1\n1 filled:y b 1\n")
    with pytest.raises(InputError, match=r"two:2: the judge is 'filled:y' here and 'filled:x' before"):
        read_filled(tmp_path / "two")


def test_people_win_and_topics_they_did_not_judge_stay_out():
    assert with_filled(PEOPLE, FILLED) == Qrels({"1": {"a": 2, "b": 0, "c": 3}})
    assert PEOPLE.judgments == {"1": {"a": 2, "b": 0}}


def test_kappa_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = random.Random(7)
    people = {("q", str(i)): rng.randrange(4) for i in range(200)}
    judge = {key: grade if rng.random() < 0.6 else rng.randrange(4) for key, grade in people.items()}
    found = agreement(judge, people)
    ours, theirs = list(judge.values()), list(people.values())
    assert found.kappa == pytest.approx(metrics.cohen_kappa_score(ours, theirs))
    for one in found.grades[1:]:
        wanted = metrics.cohen_kappa_score([a >= one.grade for a in ours], [b >= one.grade for b in theirs])
        assert one.kappa == pytest.approx(wanted)
    assert sum(one.both for one in found.grades) / 200 == found.same
    assert sum(one.people for one in found.grades) == sum(one.judge for one in found.grades) == found.n == 200


def test_agreement_of_one_grade_is_unknown_and_of_nothing_an_error():
    alone = agreement({("q", "a"): 1}, {("q", "a"): 1})
    assert alone.kappa is None and alone.weak
    assert not agreement({("q", "a"): 1, ("q", "b"): 0}, {("q", "a"): 1, ("q", "b"): 0}).weak
    with pytest.raises(InputError, match="no document was graded by both"):
        agreement({("q", "a"): 1}, {("q", "b"): 1})


def test_thresholds_separate_grades_and_ascend():
    scores, grades = [0.1, 0.2, 0.3, 1.0, 1.1, 2.0, 2.1], [0, 0, 0, 1, 1, 3, 3]
    thresholds = fit_thresholds(scores, grades)
    assert thresholds == {1: pytest.approx(0.65), 3: pytest.approx(1.55)}
    assert [graded_by(thresholds, score) for score in scores] == grades
    rng = random.Random(1)
    noisy = fit_thresholds([rng.random() for _ in range(60)], [rng.randrange(4) for _ in range(60)])
    assert list(noisy.values()) == sorted(noisy.values())
    with pytest.raises(InputError, match="one grade alone"):
        fit_thresholds([1.0, 2.0], [1, 1])
