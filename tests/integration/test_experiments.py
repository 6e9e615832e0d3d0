"""BM25 on real collections agrees with Anserini's on the same passages, and with itself from commit to commit."""

import pytest

from eval.expected import NDCG10
from thresher.experiment import run_experiment

BARS = {
    "trec-dl-2019-bm25": {"nDCG@10": 0.0005, "AP(rel=2)": 0.0005, "R(rel=2)@1000": 0.0005},
    "scifact-bm25": {"nDCG@10": 0.0005},
    "nfcorpus-bm25": {"nDCG@10": 0.0005},
}


@pytest.fixture(scope="module", params=BARS)
def measured(data_dir, request):
    """Name and report of an experiment."""
    return request.param, run_experiment(request.param)


@pytest.mark.data
def test_bm25_agrees_with_anserini(measured):
    name, report = measured
    for measure, bar in BARS[name].items():
        assert report.measured[measure] == pytest.approx(float(report.experiment.published[measure]), abs=bar), measure


@pytest.mark.data
def test_bm25_gives_the_expected_figure(measured):
    name, report = measured
    assert round(report.measured["nDCG@10"], 4) == NDCG10[name]
