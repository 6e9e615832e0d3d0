import math

import pytest

from thresher.errors import InputError
from thresher.evaluate import evaluate, untied
from thresher.evaluate.measures import Measure, parse_measure, parse_measures
from thresher.ranking import Ranking, Run
from thresher.records import Qrels

QRELS = {"1": {"a": 2, "b": 0, "c": 1, "d": 3, "n": -1}}
RANKED = {"1": {"x": 9.0, "c": 8.0, "b": 7.0, "a": 6.0, "y": 5.0}}  # unjudged, 1, 0, 2, unjudged; d is not found


def value(measure, run=RANKED, qrels=QRELS):
    return evaluate(run, qrels, measure).mean[str(parse_measure(measure))]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("nDCG", (1 / math.log2(3) + 2 / math.log2(5)) / (3 + 2 / math.log2(3) + 1 / 2)),
        ("nDCG@2", (1 / math.log2(3)) / (3 + 2 / math.log2(3))),
        ("nDCG(judged_only=True)@2", 1 / (3 + 2 / math.log2(3))),
        ("AP", (1 / 2 + 2 / 4) / 3),
        ("AP(rel=2)", (1 / 4) / 2),
        ("AP@2", (1 / 2) / 3),
        ("RR", 1 / 2),
        ("RR(rel=2)", 1 / 4),
        ("RR(rel=2)@3", 0.0),
        ("RR(rel=2,judged_only=True)@3", 1 / 3),
        ("R@2", 1 / 3),
        ("R(rel=2)@1000", 1 / 2),
        ("P@4", 2 / 4),
        ("P@10", 2 / 10),
        ("Success@1", 0.0),
        ("Success@2", 1.0),
        ("Success(rel=3)@100", 0.0),
        ("Judged@2", 1 / 2),
        ("Judged@10", 3 / 5),
        ("Judged", 3 / 5),
        ("Bpref", (1 + (1 - 1 / 1)) / 3),
        ("Bpref(rel=2)", (1 - 2 / 2) / 2),
    ],
)
def test_measures_are_what_their_definitions_say(measure, expected):
    assert value(measure) == pytest.approx(expected, abs=1e-15)


def test_a_perfect_ranking_scores_one():
    perfect = {"1": {"d": 3.0, "a": 2.0, "c": 1.0}}
    for measure in ("nDCG@10", "nDCG", "AP", "RR", "R@3", "P@3", "Success@1", "Judged@10", "Bpref"):
        assert value(measure, perfect) == 1.0


def test_ties_go_to_the_larger_docno_at_single_precision_in_every_measure():
    qrels = {"1": {"9": 1}}
    for tied in ({"10": 1.0, "9": 1.0}, {"10": 100 + 1e-6, "9": 100.0}, {"10": 16777217.0, "9": 16777216.0}):
        for measure in ("RR", "RR@10", "nDCG@1", "P@1", "Judged@1", "AP"):
            assert value(measure, {"1": tied}, qrels) == 1.0
    assert value("RR", {"1": {"10": 100 + 1e-5, "9": 100.0}}, qrels) == 0.5


def test_untied_measures_the_order_the_run_gives():
    run = Run({"1": Ranking.from_pairs([("10", 1.0), ("9", 1.0)])})
    qrels = Qrels({"1": {"10": 1}})
    assert evaluate(run, qrels, "RR").mean["RR"] == 0.5
    assert evaluate(untied(run), qrels, "RR").mean["RR"] == 1.0


def test_the_order_of_rows_counts_for_nothing():
    rows = Ranking.from_pairs((docno, score) for docno, score in RANKED["1"].items())
    assert evaluate(Run({"1": rows[::-1]}), Qrels(QRELS), "AP").mean == evaluate(RANKED, QRELS, "AP").mean


def test_missing_topics_and_topics_without_relevant_documents_count_zero_and_unjudged_topics_do_not_count():
    qrels = {"1": {"a": 1}, "missing": {"a": 1}, "nothing": {"a": 0}, "negative": {"a": -1}}
    run = {"1": {"a": 1.0}, "nothing": {"a": 1.0}, "negative": {"a": 1.0}, "unjudged": {"a": 1.0}}
    evaluation = evaluate(run, qrels, "nDCG@10 AP RR R@5 P@1 Success@5 Bpref")
    assert set(evaluation.mean.values()) == {0.25}
    assert list(evaluation.per_query["AP"]) == list(qrels)
    assert evaluation.values("MAP").tolist() == [1.0, 0.0, 0.0, 0.0]


def test_an_empty_run_scores_zero():
    assert evaluate(Run({}), QRELS, "AP Judged@10").mean == {"AP": 0.0, "Judged@10": 0.0}


def test_names_are_those_of_ir_measures():
    found = parse_measures("NDCG@10 MAP(rel=2), MRR@10 Recall( rel = 2 )@1000 R(rel=2)@1000 BPref AP(rel=1)")
    assert [str(m) for m in found] == ["nDCG@10", "AP(rel=2)", "RR@10", "R(rel=2)@1000", "Bpref", "AP"]
    assert parse_measures(["AP(judged_only=True, rel=3)@5", Measure("AP", 5, 3, True)]) == (Measure("AP", 5, 3, True),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ERR@10", r"unknown measure 'ERR'; known are: nDCG@10, AP\(rel=2\), .*Bpref"),
        ("nDCG(rel=2)@10", "nDCG has no parameter 'rel'; it has: judged_only; gain is linear"),
        ("nDCG(dcg='exp-log2')@10", "no parameter 'dcg'.*gain is linear"),
        ("R", "R needs a cutoff"),
        ("Bpref@10", "takes no cutoff"),
        ("P@0", "must be at least 1"),
        ("P@ten", "cutoff must be a whole number, got 'ten'"),
        ("AP(rel=high)", "rel must be a whole number, got 'high'"),
        ("AP(rel=0)", "must be at least 1"),
        ("AP(judged_only=1)", "must be True or False"),
        ("AP(2)", "AP has no parameter '2'"),
        ("AP(rel=2", "is not a measure"),
        ("", "no measure given"),
    ],
)
def test_a_wrong_name_says_what_exists(text, says):
    with pytest.raises(InputError, match=says):
        parse_measures(text)


def test_bad_runs_and_qrels_are_refused():
    with pytest.raises(InputError, match="qid 'one', the qrels have qid '1'"):
        evaluate({"one": {"a": 1.0}}, QRELS, "AP")
    with pytest.raises(InputError, match="no topics"):
        evaluate(RANKED, {}, "AP")
    with pytest.raises(InputError, match="'x' has the score nan"):
        evaluate({"1": {"x": float("nan")}}, QRELS, "AP")
    with pytest.raises(InputError, match="'x' is ranked twice"):
        evaluate(Run({"1": Ranking.from_pairs([("x", 2.0), ("x", 1.0)])}), QRELS, "AP")
    with pytest.raises(InputError, match="RR was not evaluated; evaluated were: AP"):
        evaluate(RANKED, QRELS, "AP").values("RR")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("map", "AP"),
        ("ndcg_cut_10", "nDCG@10"),
        ("ndcg_cut.10", "nDCG@10"),
        ("P_5", "P@5"),
        ("recall_1000", "R@1000"),
        ("recip_rank", "RR"),
        ("success_1", "Success@1"),
        ("bpref", "Bpref"),
        ("ndcg", "nDCG"),
    ],
)
def test_the_names_of_trec_eval_are_understood(theirs, ours):
    assert str(parse_measure(theirs)) == ours
