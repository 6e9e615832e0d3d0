"""What the peers' panel counts as right, and which queries it measures."""

from __future__ import annotations

import numpy as np
import pytest

from eval.search import calibrate, goals, matrices, passages, truth

SCORES = np.array([0.0, 5.0, 3.0, 3.0, 3.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("k", "ids", "expected"),
    [
        (3, [1, 2, 3], (1.0, True, False)),
        (3, [4, 1, 3], (1.0, True, False)),  # which of the tied ones does not matter
        (3, [1, 2, 5], (2 / 3, False, False)),
        (3, [1, 2, 2], (2 / 3, False, True)),  # twice the same is one hit
        (3, [1], (1 / 3, False, True)),
        (10, [1, 2, 3, 4, 5], (1.0, True, False)),  # fewer match than were asked for
        (10, [1, 2, 3, 4, 5, 0], (1.0, False, False)),  # and one that does not match is too many
        (3, [], (0.0, False, True)),
    ],
)
def test_lists_are_judged_by_the_true_scores_of_what_they_hold(k, ids, expected):
    assert truth.judge(SCORES, truth.best_scores(SCORES, k), np.array(ids, np.int64)) == pytest.approx(expected)


def test_a_query_without_matches_wants_an_empty_list():
    nothing = truth.best_scores(np.zeros(4), 3)
    assert truth.judge(np.zeros(4), nothing, np.empty(0, np.int64)) == (1.0, True, False)
    assert truth.judge(np.zeros(4), nothing, np.array([1])) == (1.0, False, False)


def test_true_scores_are_products_summed_over_terms():
    rng = np.random.default_rng(5)
    dense = np.where(rng.random((40, 12)) < 0.3, rng.integers(1, 256, (40, 12)), 0)
    rows, terms = np.nonzero(dense)
    built = matrices.from_pairs(rows, terms, dense[rows, terms].astype(np.float32), 40)
    built.weights = built.weights.astype(np.uint8)
    matrix = matrices.Matrix("small", 12, built, {})
    query = np.array([1, 4, 7], np.uint32), np.array([0.5, 3.0, 1.25], np.float32)
    assert np.allclose(truth.Truth(matrix).scores(query), dense[:, [1, 4, 7]] @ [0.5, 3.0, 1.25])


def test_whole_weights_keep_the_heaviest_at_the_top_and_nothing_at_zero():
    weights = matrices.whole_weights(np.array([0.001, 1.0, 2.0], np.float32), 32)
    assert weights.tolist() == [1.0, 16.0, 32.0]


def test_measured_queries_are_none_of_those_seen_before():
    groups = passages.split({str(i): f"query {i}" for i in range(6980)})
    measured, seen = set(groups[""]), set(groups[" seen"])
    assert len(measured) == passages.HELD_OUT
    assert len(seen) == passages.SEEN
    assert not measured & seen


def test_bounds_hold_the_largest_impact_of_a_block_for_each_term():
    indptr, docs = np.array([0, 3, 5]), np.array([0, 1, 3, 1, 2], np.uint32)
    impacts, place = np.array([7, 9, 2, 4, 6], np.uint8), np.array([3, 0, 1, 2])
    bounds = np.zeros(2)
    query = np.array([0, 1], np.uint32), np.array([2.0, 1.0], np.float32)
    calibrate.bounds_of(indptr, docs, impacts, place, *query, 2, bounds)
    assert bounds.tolist() == [18 + 6, 14 + 0]  # documents 1 and 2, then 3 and 0


def measured(engine, setting, p50, p99, recall=1.0, short=0, k=10, size=4.0, build=1.0):
    return {
        "collection": "a", "track": "t", "passages": 10**5, "k": k, "engine": engine, "setting": setting,
        "p50_ms": p50, "p99_ms": p99, "recall": recall, "short_results": short,
        "bytes_per_posting": size, "build_s": build,
    }  # fmt: skip


def test_default_is_set_against_the_quickest_exact_peer_at_each_percentile():
    rows = [
        measured("thresher", "default", 1.0, 3.0),
        measured("thresher", "approx 0.9", 0.5, 0.6, recall=0.98),
        measured("thresher", "approx 0.8", 0.8, 0.9, recall=0.99),
        measured("peer", "steady", 4.0, 4.0),
        measured("peer", "quick at best", 2.0, 9.0),
        measured("peer", "often wrong", 0.1, 0.1, recall=0.9),
        measured("peer", "short", 0.1, 0.1, short=1),
        measured("seismic", "rough", 0.2, 0.2, recall=0.9, size=16.0, build=10.0),
        measured("seismic", "fine", 1.6, 2.0, recall=0.995, size=16.0, build=10.0),
    ]
    exact, near = goals.compare(rows)
    assert (exact["peer_p50"], exact["ratio_p50"]) == ("peer, quick at best", 0.5)
    assert (exact["peer_p99"], exact["ratio_p99"]) == ("peer, steady", 0.75)
    assert near["setting"].startswith("approx 0.8")
    assert (near["peer_p50"], near["ratio_p50"]) == ("seismic, fine", 0.5)
    assert (near["bytes_ratio"], near["build_ratio"], near["seismic_recall"]) == (0.25, 0.1, 0.995)
