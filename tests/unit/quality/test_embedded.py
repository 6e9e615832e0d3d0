"""The estimator that ships: small, of this collection, and kept with the scores it made."""

import json

import numpy as np
import pytest

from thresher.errors import ConfigError
from thresher.models.files import shipped_weights
from thresher.quality.estimator import QualityEstimator
from thresher.quality.lexical import FEATURES, CollectionStatistics, feature_columns

TEXTS = [
    "Threshing separates the grain from the chaff; it is done on a flat floor.",
    "HOME | LOGIN | 12.99 | 7.50 | SALE!!! | ???",
    "The wind blows the chaff away, and the grain, which is heavier, falls down.",
    "grain",
    "",
]


def test_it_scores_prose_above_page_furniture_and_comes_back_from_disk(tmp_path):
    estimator = QualityEstimator.from_name("embedded", texts=TEXTS)
    scores = estimator.score(TEXTS)
    assert np.isfinite(scores).all()
    assert min(scores[0], scores[2]) > scores[1]
    np.testing.assert_allclose([estimator.score([t])[0] for t in TEXTS], scores, rtol=1e-5, atol=1e-6)
    estimator.save(tmp_path)
    again = QualityEstimator.load(tmp_path)
    np.testing.assert_array_equal(again.score(TEXTS), scores)
    with pytest.raises(ConfigError, match="give texts="):
        QualityEstimator.from_name("embedded")


def test_the_columns_it_was_fitted_on_are_those_there_are():
    document = json.loads((shipped_weights() / "quality-embedded" / "head.json").read_text())
    assert tuple(document["columns"]) == FEATURES
    assert not {"trec-dl-2019", "trec-dl-2020", "scifact", "nfcorpus"} & set(document["fitted_on"])


def test_features_of_a_passage_are_what_they_are_called():
    row = feature_columns(["A cat is 2 cats? Yes | no."], CollectionStatistics.of(["a cat is", "2 cats"]))[0]
    by = dict(zip(FEATURES, row, strict=True))
    assert by["length"] == pytest.approx(np.log(7))
    assert by["itn"] == 1
    assert by["questions"] == pytest.approx(np.log(2))
    assert by["bars"] == pytest.approx(np.log(2))
    assert by["ends"] == by["defining"] == 1
    assert by["furniture"] == 0
    assert by["numbers"] == pytest.approx(1 / 7)
    assert by["sentences"] == pytest.approx(np.log(2))
    assert by["rare_words"] == 1
