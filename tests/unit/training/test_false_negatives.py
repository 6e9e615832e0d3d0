"""The adapter that estimates false negatives, and weights of candidates in HybRank's training."""

from dataclasses import replace

import numpy as np

from thresher.quality.auc import auc
from thresher.records import Qrels
from thresher.rerank.hybrank import feature_names
from thresher.rerank.hybrank_training import JudgedList, train_on
from training.rerank.false_negatives import Adapter, at_share, resampled


def pairs(seed, n=800, dimensions=12):
    """Pairs of unit vectors that are relevant where their first three dimensions agree, which the cosine dilutes."""
    generator = np.random.default_rng(seed)
    queries, passages = generator.normal(size=(2, n, dimensions)).astype(np.float32)
    relevant = (queries[:, :3] * passages[:, :3]).sum(1) > 1
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, passages)]
    return *unit, relevant


def test_the_adapter_learns_what_the_cosine_does_not_tell():
    adapter = Adapter.fit(*pairs(0))
    queries, passages, relevant = pairs(1)
    found = adapter.probabilities(queries, passages)
    assert ((found >= 0) & (found <= 1)).all()
    assert auc(found, relevant) > 0.9 > auc((queries * passages).sum(1), relevant) + 0.05


def test_probabilities_at_another_share_keep_their_order_and_have_its_mean():
    given = np.linspace(0.01, 0.99, 99).astype(np.float32)
    assert np.allclose(at_share(given, 0.5), given, atol=1e-5)
    rarer = at_share(given, 0.1)
    assert (np.diff(rarer) > 0).all()
    assert np.isclose(rarer[49], 0.1, atol=1e-5)


def test_likely_false_negatives_are_seldom_drawn():
    chances = np.array([0.99] * 50 + [0.01] * 50, np.float32)
    drawn = resampled(np.random.default_rng(0), chances, 40)
    assert len(set(drawn.tolist())) == 40
    assert (drawn >= 50).sum() > 35


def test_a_candidate_of_little_weight_teaches_little():
    width = len(feature_names(["terms"]))
    generator = np.random.default_rng(0)
    lists = []
    for n in range(80):
        rows = generator.normal(size=(12, width)).astype(np.float32)
        rows[:4, 5] += 4  # the first two are judged relevant, the next two are as good and are not
        grades = np.array([1, 1] + [0] * 10, np.float32)
        lists.append(JudgedList(f"q{n}", [f"d{i}" for i in range(12)], rows, grades))
    qrels = Qrels({one.qid: {"d0": 1, "d1": 1} for one in lists})
    light = np.array([1, 1, 0.02, 0.02] + [1] * 8, np.float32)
    plain = train_on(lists, qrels, ("terms",))
    lighter = train_on([replace(one, weights=light) for one in lists], qrels, ("terms",))

    def gap(model):
        """How far the overlooked ones are above the others."""
        scores = np.stack([model.scores(one.rows) for one in lists])
        return (scores[:, 2:4].mean() - scores[:, 4:].mean()) / scores.std()

    assert gap(lighter) > gap(plain)
