"""Folds that leak nothing, AUC against counting pairs, heads, and fitting on judgments and logs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.errors import ArtifactError, ConfigError, InputError
from thresher.quality.auc import auc, auc_by_queries, auc_difference, auc_within
from thresher.quality.estimator import QualityEstimator
from thresher.quality.fit import (
    fit_on_judgments,
    fit_on_log,
    grouped_folds,
    logistic_head,
    passage_folds,
    perceptron_head,
    write_fitted,
)
from thresher.quality.fitted import LinearHead, PerceptronHead
from thresher.records import Passage, Qrels, Query

pytest.importorskip("sklearn", reason="needs the train extra")


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    scores = np.array([s for s, _ in rows], np.float64)
    wanted = np.array([w for _, w in rows])
    pairs = [(a > b) + (a == b) / 2 for a in scores[wanted] for b in scores[~wanted]]
    if pairs:
        assert auc(scores, wanted) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(auc(scores, wanted))


def test_unjudged_passages_count_as_not_wanted_only_where_asked():
    scores = np.array([3.0, 2.0, 1.0, 0.0])
    judgments = {"q": {0: 1, 2: 0}}
    assert auc_within(scores, judgments, 1) == (1.0, 1)
    assert auc_within(np.array([1.0, 2.0, 0.0, 3.0]), judgments, 1, rest=True) == (pytest.approx(1 / 3), 1)
    assert auc_by_queries(np.array([1.0, 2.0, 0.0, 3.0]), judgments, 1, rest=True)[0] == pytest.approx(1 / 3)


def test_the_difference_of_a_column_to_itself_is_zero_with_no_width():
    scores = np.arange(6.0)
    judgments = {f"q{i}": {i: 1, i + 3: 0} for i in range(3)}
    judgments |= {f"r{i}": {i: 1, i + 3: 0} for i in range(3)}
    assert auc_difference(scores, scores, judgments, 1) == (0.0, 0.0, 0.0)


def test_no_query_passage_or_copy_straddles_two_folds():
    rng = np.random.default_rng(1)
    judgments = {f"q{i}": {int(3 * i + j): 1 for j in range(3)} for i in range(40)}
    canonical = np.arange(130)
    canonical[121] = 0  # a copy of a judged passage
    canonical[122] = 0
    queries, passages, together = grouped_folds(judgments, canonical, 4, seed=int(rng.integers(100)))
    assert together
    for qid, judged in judgments.items():
        assert {int(passages[row]) for row in judged} == {queries[qid]}
    assert passages[121] == passages[122] == passages[0]
    assert set(queries.values()) == {0, 1, 2, 3}


@given(st.dictionaries(st.integers(0, 30), st.sets(st.integers(0, 59), min_size=1, max_size=4), min_size=1), st.data())
def test_folds_part_nothing_that_is_connected(judged, data):
    copies = data.draw(st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=5))
    canonical = np.arange(60)
    for copy, original in copies:
        canonical[copy] = canonical[original]
    judgments = {f"q{n}": dict.fromkeys(rows, 1) for n, rows in judged.items()}
    queries, passages, together = grouped_folds(judgments, canonical, 3, seed=0)
    assert set(queries) == set(judgments)
    assert len(passages) == 60 and set(passages) <= {0, 1, 2}
    np.testing.assert_array_equal(passages, passages[canonical])
    if together:
        assert all(passages[row] == queries[qid] for qid, rows in judgments.items() for row in rows)


def test_queries_that_share_everything_are_split_by_passage_and_said_so():
    judgments = {f"q{i}": dict.fromkeys(range(20), 1) for i in range(10)}
    queries, passages, together = grouped_folds(judgments, np.arange(20), 4, seed=0)
    assert not together
    assert len(set(queries.values())) == 4
    assert sorted(np.bincount(passages)) == [5, 5, 5, 5]
    with pytest.raises(InputError, match="cannot be cut into 5 folds"):
        passage_folds(np.zeros(9, np.int64), 5, 0)


def test_heads_learn_a_separable_rule_and_come_back_from_json():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(400, 3))
    linear = columns[:, 0] > 0
    ring = (columns[:, 0] ** 2 + columns[:, 1] ** 2) > 1.4
    fitted = logistic_head(columns, linear)
    assert auc(fitted.predict(columns), linear) > 0.98
    again = LinearHead.from_json(fitted.as_json())
    np.testing.assert_array_equal(again.predict(columns), fitted.predict(columns))
    curved = perceptron_head(columns, ring, epochs=150)
    assert auc(curved.predict(columns), ring) > 0.95 > auc(logistic_head(columns, ring).predict(columns), ring)
    assert PerceptronHead.from_json(curved.as_json()).fingerprint == curved.fingerprint
    with pytest.raises(InputError, match="all labels are the same"):
        logistic_head(columns, np.ones(400, bool))


def corpus(n=120):
    rng = np.random.default_rng(3)
    words = [f"word{i}" for i in range(200)]
    passages = []
    for i in range(n):
        good = i % 2 == 0
        body = " ".join(rng.choice(words, 40 if good else 8))
        passages.append(Passage(f"d{i}", f"{body} topic{i // 4}{'.' if good else ' |'}"))
    return passages


def test_fitting_on_judgments_finds_what_tells_them_apart_and_reports_out_of_fold(tmp_path):
    passages = corpus()
    judgments = {f"q{i}": {f"d{4 * i + j}": int(j % 2 == 0) for j in range(4)} for i in range(30)}
    fitted = fit_on_judgments(passages, Qrels(judgments), folds=4, similarity=None)
    assert fitted.report["split_by_query"] is True
    assert fitted.report["auc"] > 0.95
    assert fitted.report["auc_within"] > 0.95
    fitted = fitted.measured_on("same", passages, Qrels(judgments), 1)
    assert fitted.report["unseen_auc"] > 0.95
    write_fitted(tmp_path / "e", fitted)
    again = QualityEstimator.load(tmp_path / "e")
    texts = [p.contents for p in passages]
    np.testing.assert_array_equal(again.score(texts), fitted.estimator.score(texts))
    scores = again.score(texts)
    assert scores[::2].min() > scores[1::2].max()
    with pytest.raises(ArtifactError, match="exists already"):
        write_fitted(tmp_path / "e", fitted)


def test_labels_that_say_nothing_give_an_auc_near_one_half():
    passages = corpus(200)
    rng = np.random.default_rng(5)
    judgments = {f"q{i}": {f"d{4 * i + j}": int(rng.integers(2)) for j in range(4)} for i in range(50)}
    report = fit_on_judgments(passages, Qrels(judgments), folds=5, similarity=None).report
    assert 0.35 < report["auc"] < 0.65


def test_collections_that_only_list_what_is_relevant_take_the_rest_as_unwanted():
    passages = corpus()
    judgments = {f"q{i}": {f"d{4 * i}": 1} for i in range(30)}
    report = fit_on_judgments(passages, Qrels(judgments), folds=4, similarity=None).report
    assert report["fitted_on"] == len(passages)
    assert report["wanted"] == 30


def test_fitting_on_a_log_learns_what_is_retrieved():
    passages = corpus()
    queries = [Query(f"q{i}", f"topic{i}") for i in range(10)]
    fitted = fit_on_log(passages, queries, folds=4, similarity=None)
    assert fitted.report["wanted"] == 40  # four passages a topic
    assert fitted.estimator.score(["a new passage about topic3"]).shape == (1,)


def test_what_cannot_be_fitted_is_said():
    passages = corpus(8)
    with pytest.raises(InputError, match="no judged docno is in the corpus"):
        fit_on_judgments(passages, Qrels({"q": {"x": 1}}))
    with pytest.raises(ConfigError, match="unknown head 'svm'"):
        fit_on_judgments(
            corpus(),
            Qrels({f"q{i}": {f"d{4 * i}": 1, f"d{4 * i + 1}": 0} for i in range(30)}),
            head="svm",
            similarity=None,
        )
    with pytest.raises(InputError, match="shares a word"):
        fit_on_log(passages, [Query("q", "zzz")])
