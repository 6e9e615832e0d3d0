"""Query-log coverage: nearness as its formulas say, and no query voting for itself."""

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.records import SparseBatch

pytest.importorskip("sklearn", reason="needs the train extra")

from training.quality.coverage import COLUMNS, DenseView, LogCoverage, SparseView


def batch(rows):
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    items = [item for row in rows for item in sorted(row.items())]
    return SparseBatch(indptr, np.array([t for t, _ in items], np.uint32), np.array([w for _, w in items], np.float32))


PASSAGES = batch([{0: 2.0}, {0: 1.0, 1: 1.0}, {2: 3.0}, {}])
QUESTIONS = batch([{0: 1.0}, {2: 1.0, 9: 5.0}])


def test_sparse_scores_are_dot_products_and_unknown_terms_do_not_matter():
    view = SparseView(PASSAGES, QUESTIONS)
    assert view.scores(0).tolist() == [2.0, 1.0, 0.0, 0.0]
    assert view.scores(1).tolist() == [0.0, 0.0, 3.0, 0.0]


def test_a_query_made_of_a_passage_does_not_vote_for_it():
    assert SparseView(PASSAGES, QUESTIONS, own=np.array([0, 2])).scores(0).tolist() == [0.0, 1.0, 0.0, 0.0]
    vectors = np.eye(3, dtype=np.float32)
    assert DenseView(vectors, vectors, own=np.arange(3)).scores(1)[1] == -1.0


def test_passages_no_query_reaches_come_last():
    coverage = LogCoverage([SparseView(PASSAGES, QUESTIONS)]).coverage()
    assert set(np.argsort(-coverage)[:3]) == {0, 1, 2}
    assert coverage[3] == 0


def test_leaving_a_query_out_is_having_never_logged_it():
    rng = np.random.default_rng(0)
    passages, queries = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    whole = LogCoverage([DenseView(passages, queries)], folds=3)
    for query in range(9):
        rest = LogCoverage([DenseView(passages, np.delete(queries, query, axis=0))], folds=2)
        np.testing.assert_allclose(whole.without(query), rest.coverage(), rtol=1e-6)


def test_columns_do_not_depend_on_how_the_log_is_cut():
    rng = np.random.default_rng(0)
    view = DenseView(rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32))
    one, many = LogCoverage([view], folds=1).columns(), LogCoverage([view], folds=4, seed=3).columns()
    assert one.shape == (40, len(COLUMNS))
    np.testing.assert_allclose(one, many, atol=1e-9)


def test_learning_finds_the_passages_that_such_queries_want():
    rng = np.random.default_rng(1)
    wanted = np.zeros(200, bool)
    wanted[:60] = True
    passages = rng.normal(size=(200, 8)) + np.where(wanted[:, None], 2.0, -1.0)
    queries = rng.normal(size=(40, 8)) + 2.0
    unit = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in (passages, queries)]
    scores = LogCoverage([DenseView(*unit)]).learn()
    assert wanted[np.argsort(-scores)[:50]].mean() > 0.95


def test_a_fold_that_is_left_out_does_not_count():
    rng = np.random.default_rng(2)
    passages = rng.normal(size=(50, 6)).astype(np.float32)
    queries = rng.normal(size=(12, 6)).astype(np.float32)
    log = LogCoverage([DenseView(passages, queries)])
    assert sorted(np.concatenate(log.parts).tolist()) == list(range(12))
    changed = queries.copy()
    changed[log.parts[1]] *= -1
    other = LogCoverage([DenseView(passages, changed)])
    np.testing.assert_array_equal(log.learn(leave=1), other.learn(leave=1))
    assert (log.learn(leave=0) != other.learn(leave=0)).any()


def test_logs_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="by 0 questions"):
        LogCoverage([SparseView(PASSAGES, batch([]))])
    with pytest.raises(InputError, match="same questions and passages"):
        LogCoverage(
            [SparseView(PASSAGES, QUESTIONS), DenseView(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32))]
        )
    with pytest.raises(InputError, match="cannot be compared"):
        DenseView(np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32))
