"""Scoring 20,000 passages by an estimator without a model, and deciding which to keep."""

from thresher.prune import Policy, decide
from thresher.quality import QualityEstimator


def test_score(benchmark, collection):
    texts = [passage.text for passage in collection.passages[:5000]]
    estimator = QualityEstimator.from_name("unigram", texts=texts)
    scores = benchmark(estimator.score, texts)
    assert len(scores) == len(texts)


def test_decide(benchmark, collection):
    docnos = [passage.docno for passage in collection.passages]
    texts = [passage.text for passage in collection.passages]
    scores = QualityEstimator.from_name("random:1").score(texts)
    decision = benchmark(decide, Policy(keep=0.8, fold=False), docnos, scores, texts=texts)
    assert decision.kept.sum() == round(0.8 * len(docnos))
