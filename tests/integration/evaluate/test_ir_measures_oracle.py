"""Measures against ir_measures and NIST: on random runs, and on official TREC 2019 runs where the data is present."""

import json

import numpy as np
import pytest

from thresher.evaluate import evaluate, read_qrels, read_run, untied
from thresher.evaluate.measures import parse_measures

ir_measures = pytest.importorskip("ir_measures", reason="ir_measures, the oracle, is not installed")

NIST = {
    "map": "AP(rel=2)",
    "bpref": "Bpref(rel=2)",
    "recip_rank": "RR(rel=2)",
    "P_10": "P(rel=2)@10",
    "P_100": "P(rel=2)@100",
    "P_1000": "P(rel=2)@1000",
    "recall_10": "R(rel=2)@10",
    "recall_100": "R(rel=2)@100",
    "recall_1000": "R(rel=2)@1000",
    "ndcg": "nDCG",
    "ndcg_cut_10": "nDCG@10",
    "ndcg_cut_100": "nDCG@100",
    "ndcg_cut_1000": "nDCG@1000",
}
OFFICIAL = [
    "TUA1-1",
    "TUW19-p3-f",
    "UNH_bm25",
    "bm25base_p",
    "bm25base_rm3_p",
    "bm25tuned_p",
    "idst_bert_p1",
    "ms_duet_passage",
    "p_exp_rm3_bert",
    "runid3",
    "srchvrs_ps_run2",
    "test1",
]
EVERY = (
    "nDCG nDCG@10 nDCG(judged_only=True)@10 AP AP(rel=2) AP(rel=2,judged_only=True) AP@100 RR RR(rel=2) "
    "R@100 R(rel=2)@1000 P@10 P(rel=2)@10 P(judged_only=True)@5 Success@1 Success(rel=2)@5 Bpref Bpref(rel=2)"
)
PYTHON_PROVIDED = "RR@10 RR(rel=2)@10 Judged@10"  # which ir_measures orders the other way among ties


def as_dicts(run):
    return {qid: {row.docno: row.score for row in rows} for qid, rows in run.rankings.items()}


def assert_agree(run, judgments, measures):
    ours = evaluate(run, judgments, measures)
    theirs = list(
        ir_measures.iter_calc([ir_measures.parse_measure(str(m)) for m in parse_measures(measures)], judgments, run)
    )
    assert {str(metric.measure) for metric in theirs} == set(ours.mean)
    for metric in theirs:
        assert ours.per_query[str(metric.measure)][metric.query_id] == pytest.approx(metric.value, abs=1e-6), metric


def test_random_runs_with_ties_and_missing_topics_agree_topic_by_topic():
    generator = np.random.default_rng(7)
    docnos = [f"d{i}" for i in range(60)]
    judgments = {
        f"q{q}": {
            d: int(g) for d, g in zip(docnos, generator.integers(-1, 4, 60), strict=True) if generator.random() < 0.5
        }
        for q in range(40)
    }
    run = {
        f"q{q}": {
            d: float(s) for d, s in zip(docnos, generator.integers(0, 20, 60), strict=True) if generator.random() < 0.6
        }
        for q in range(2, 43)
    }
    assert_agree(run, judgments, EVERY)
    assert_agree(as_dicts(untied(as_run(run))), judgments, PYTHON_PROVIDED)
    means = ir_measures.calc_aggregate([ir_measures.parse_measure("nDCG@10")], judgments, run)
    assert evaluate(run, judgments, "nDCG@10").mean["nDCG@10"] == pytest.approx(next(iter(means.values())), abs=1e-9)


def as_run(run):
    from thresher.ranking import Ranking, Run

    return Run(
        {
            qid: Ranking.from_pairs((d, s) for d, s in sorted(rows.items(), key=lambda r: -r[1]))
            for qid, rows in run.items()
        }
    )


@pytest.mark.data
@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_run_has_nists_values_and_agrees_with_ir_measures(data_dir, name):
    qrels = read_qrels(data_dir / "trec-dl" / "qrels.dl19.txt")
    run = read_run(data_dir / "official-2019" / f"{name}.run.gz")
    published = json.loads((data_dir / "oracle" / "trec_official_dl19_dl20.json").read_text())
    for summary, level in (("summary (passages-eval)", "(rel=2)"), ("summary (trec_eval)", "")):
        values = published["trec_official_2019"][name][summary]
        names = {key: measure.replace("(rel=2)", level) for key, measure in NIST.items()}
        assert names.keys() <= values.keys()
        ours = evaluate(run, qrels, names.values())
        for key, measure in names.items():
            assert ours.mean[measure] == pytest.approx(values[key], abs=5.01e-5), (summary, key)
    assert_agree(as_dicts(run), qrels.judgments, EVERY)
    assert_agree(as_dicts(untied(run)), qrels.judgments, PYTHON_PROVIDED)


@pytest.mark.data
def test_a_bm25_run_of_another_engine_has_the_values_recorded_for_it(data_dir):
    qrels = read_qrels(data_dir / "trec-dl" / "qrels.dl19.txt")
    recorded = json.loads((data_dir / "oracle" / "anserini_bm25_on_these_collections.json").read_text())["trecdl.dl19"]
    ours = evaluate(read_run(data_dir / "runs" / "anserini-bm25-on-mini.dl19.run.gz"), qrels, recorded)
    assert ours.mean == pytest.approx(recorded, abs=5.01e-5)
