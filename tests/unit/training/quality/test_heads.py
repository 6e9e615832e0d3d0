"""Ridge regression over blocks, against the textbook."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the train extra")

from training.quality.heads import normal_scores, ridge_head, ridge_weights


def test_ridge_with_one_block_is_the_textbook_solution():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).clip(-3, 3)
    y = x @ np.array([1.0, -2.0, 0.0, 0.5]) + rng.normal(size=200) * 0.01
    head = ridge_head([x], [y], ridge=1e-9)
    np.testing.assert_allclose(head.weights / head.scale, [1.0, -2.0, 0.0, 0.5], atol=0.01)


def test_blocks_count_by_their_weight_and_not_by_their_length():
    rng = np.random.default_rng(1)
    short, long = rng.normal(size=(30, 3)), rng.normal(size=(900, 3))
    targets = [short[:, 0], -long[:, 0]]
    alike = ridge_weights([short, long], targets, ridge=0.01)
    repeated = ridge_weights([np.tile(short, (7, 1)), long], [np.tile(targets[0], 7), targets[1]], ridge=0.01)
    np.testing.assert_allclose(alike, repeated, atol=1e-9)
    assert ridge_weights([short, long], targets, ridge=0.01, weights=[9.0, 1.0])[0] > 0.5


def test_a_block_has_a_base_rate_of_its_own():
    rng = np.random.default_rng(2)
    block = rng.normal(size=(50, 2))
    once = ridge_weights([block, block], [block[:, 0], block[:, 0]], ridge=0.1)
    moved = ridge_weights([block, block + 5], [block[:, 0], block[:, 0] - 3], ridge=0.1)
    np.testing.assert_allclose(once, moved, atol=1e-9)


def test_normal_scores_keep_order_and_ties():
    scores = normal_scores(np.array([3.0, 1.0, 3.0, 1000.0]))
    assert scores[1] < scores[0] == scores[2] < scores[3]
