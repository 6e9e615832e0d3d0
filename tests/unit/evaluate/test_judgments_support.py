"""Which comparisons the judgments can support."""

import itertools

import pytest

from thresher.errors import InputError
from thresher.evaluate.holes import Changed, support, what_changed
from thresher.evaluate.measures import evaluate
from thresher.ranking import Ranking, Run
from thresher.records import Qrels

QRELS = Qrels({"1": {"a": 2, "b": 1, "c": 0}, "2": {"d": 1, "e": 0, "f": 1}, "3": {"g": 1, "h": 1, "i": 1}})
FULL = {"1": "abc", "2": "def", "3": "ghi"}


def run_of(rankings):
    return Run(
        {
            qid: Ranking.from_pairs([(docno, float(len(docnos) - at)) for at, docno in enumerate(docnos)])
            for qid, docnos in rankings.items()
        }
    )


def test_what_changed_is_counted_both_ways_with_its_holes():
    system = run_of({"1": "axy", "2": "dec", "3": "ghi"})  # c is judged for topic 1 alone
    found = what_changed(system, run_of(FULL), QRELS, k=3)
    assert found == Changed(cutoff=3, topics=2, new=3, new_holes=3, gone=3, gone_holes=0)
    assert (found.total, found.holes, found.share, found.new_share) == (6, 3, 0.5, 1.0)
    back = what_changed(run_of(FULL), system, QRELS, k=3)
    assert (back.new, back.new_holes, back.gone, back.gone_holes) == (3, 0, 3, 3)
    same = what_changed(system, system, QRELS, k=3)
    assert (same.share, same.new_share, same.topics) == (None, None, 0)
    missing = what_changed(run_of({"1": "abc"}), run_of(FULL), QRELS, k=2)
    assert (missing.new, missing.gone) == (0, 4)
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        what_changed(system, system, QRELS, k=0)


@pytest.mark.parametrize("measure", ["nDCG@3", "P@3", "R@3", "RR@3", "AP@3"])
def test_no_way_of_judging_the_holes_lies_outside_the_bounds(measure):
    system, baseline = run_of({"1": "xay", "2": "dze", "3": "ghx"}), run_of({"1": "axb", "2": "wde", "3": "ghi"})
    found = support(system, baseline, QRELS, measure)
    holes = [("1", "x"), ("1", "y"), ("2", "z"), ("2", "w"), ("3", "x")]
    reached = []
    for grades in itertools.product((0, 2), repeat=len(holes)):
        judged = {qid: dict(topic) for qid, topic in QRELS.judgments.items()}
        for (qid, docno), grade in zip(holes, grades, strict=True):
            judged[qid][docno] = grade
        mine, theirs = (evaluate(one, judged, measure).mean[measure] for one in (system, baseline))
        reached.append(mine - theirs)
    assert (found.low, found.high) == (pytest.approx(min(reached)), pytest.approx(max(reached)))
    assert found.low <= found.difference <= found.high


def test_a_difference_that_unjudged_documents_could_make_is_called_theirs():
    system = run_of({"1": "xyz", "2": "def", "3": "ghi"})
    found = support(system, run_of(FULL), QRELS, "nDCG@3")
    assert found.difference < 0 < found.high and not found.decided
    said = " ".join(found.sentences())
    assert "50% of the documents that differ in the top 3 are unjudged (3 of 6)" in said
    assert "could be theirs alone" in said
    assert (found.judged, found.baseline_judged) == (pytest.approx(2 / 3), 1.0)
    assert found.condensed == pytest.approx(-1 / 3)  # topic 1 has nothing judged left
    assert found.bpref < 0


def test_a_difference_that_stays_whatever_the_holes_are_is_supported():
    system = run_of({"1": "abx", "2": "def", "3": "ghi"})
    baseline = run_of({"1": "xyc", "2": "eab", "3": "xyz"})
    found = support(system, baseline, QRELS, "P@1")
    assert found.low == pytest.approx(1 / 3)  # x may be relevant to topics 1 and 3, and e is not to topic 2
    certain = support(system, run_of({"1": "cab", "2": "edf", "3": "hxy"}), QRELS, "nDCG@2")
    assert certain.low > 0 and certain.decided
    assert "the sign stays" in certain.sentences()[0]


def test_without_holes_the_judgments_decide_and_equal_tops_need_none():
    found = support(run_of({"1": "cba", "2": "def", "3": "ghi"}), run_of(FULL), QRELS, "nDCG@2")
    assert (found.low, found.high) == (pytest.approx(found.difference), pytest.approx(found.difference))
    assert found.sentences()[0].startswith("All 2 documents that differ in the top 2 are judged")
    assert support(run_of(FULL), run_of(FULL), QRELS, "AP").sentences() == [
        "The same documents are in the top 10 of both runs."
    ]


def test_sparse_judgments_are_warned_of():
    sparse = Qrels({"1": {"a": 1}, "2": {"d": 1}, "3": {"g": 1}})
    found = support(run_of({"1": "xa", "2": "d", "3": "g"}), run_of(FULL), sparse, "RR@10")
    assert "2406.16048" in found.sentences()[-1]
    row = found.as_row()
    assert (row["relevant"], row["changed_unjudged"], row["decided"]) == (1.0, pytest.approx(7 / 7), False)
    assert all(isinstance(value, str | int | float | None) for value in row.values())
