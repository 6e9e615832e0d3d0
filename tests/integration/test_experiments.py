"""BM25 on real collections agrees with Anserini's on the same passages."""

import pytest

from thresher.experiment import run_experiment

BARS = {
    "trec-dl-2019-bm25": {"nDCG@10": 0.005, "AP(rel=2)": 0.005, "R(rel=2)@1000": 0.008},
    "scifact-bm25": {"nDCG@10": 0.008},
    "nfcorpus-bm25": {"nDCG@10": 0.008},
}


@pytest.mark.data
@pytest.mark.parametrize("name", BARS)
def test_bm25_agrees_with_anserini(data_dir, name):
    report = run_experiment(name)
    for measure, bar in BARS[name].items():
        assert report.measured[measure] == pytest.approx(float(report.experiment.published[measure]), abs=bar), measure
