"""Scores of training pairs: mislabelled pairs are the hard ones, and pruning is compared with random pruning."""

import numpy as np
import pytest

from thresher.errors import ConfigError, InputError
from thresher.quality.auc import auc
from thresher.quality.lexical import CollectionStatistics

pytest.importorskip("sklearn", reason="needs the train extra")

from training.quality.pairs import PAIR_SCORES, compare_pruning, score_pairs, text_perplexity


def data(n=600, flipped=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    y = x @ np.array([2.0, -1.0, 0.0, 0.0]) > 0
    wrong = rng.random(n) < flipped
    return x, y ^ wrong, wrong


@pytest.mark.parametrize("name", ["el2n", "grand", "forgetting"])
def test_wrong_labels_score_as_hard(name):
    x, y, wrong = data()
    assert auc(score_pairs(x, y)[name], wrong) > 0.7


def test_scores_are_finite_repeatable_and_named():
    x, y, _ = data()
    first, second = score_pairs(x, y, seeds=[1]), score_pairs(x, y, seeds=[1])
    assert tuple(first) == PAIR_SCORES
    for name, values in first.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, second[name])


def test_of_noisy_pairs_the_hard_end_is_the_wrong_part_to_keep():
    x, y, _ = data(flipped=0.3)
    clean, truth, _ = data(flipped=0.0, seed=1)
    rows = compare_pruning((x, y), (clean, truth), score_pairs(x, y), 0.3, draws=10)
    by = {(row["score"], row["kept"]): row["auc"] for row in rows}
    assert min(by["el2n", "easy"], by["none", "random"]) > by["el2n", "hard"] + 0.2
    assert {row["kept"] for row in rows} == {"all", "random", "easy", "hard", "middle"}


def test_odd_texts_have_the_higher_perplexity():
    texts = ["the wind the wind", "the zymurgy xylem"]
    common, odd = text_perplexity(texts, CollectionStatistics.of(["the wind " * 50, *texts]))
    assert odd > common > 1


def test_what_cannot_be_scored_is_said():
    with pytest.raises(InputError, match="nothing to tell apart"):
        score_pairs(np.zeros((3, 1)), np.ones(3, bool))
    with pytest.raises(ConfigError, match="keep is 0"):
        compare_pruning((np.zeros((2, 1)), np.array([True, False])), (np.zeros((2, 1)), np.array([True, False])), {}, 0)
