import json

import pytest

from thresher.errors import InputError
from thresher.evaluate import Evaluation
from thresher.evaluate.comparison import averaged, compare, differences, family

pytest.importorskip("scipy", reason="the eval extra is not installed")

QIDS = [f"q{i}" for i in range(20)]


def evaluation(values, measure="nDCG@10", qids=QIDS):
    values = [float(v) for v in values]
    return Evaluation({measure: sum(values) / len(values)}, {measure: dict(zip(qids, values, strict=True))})


BASELINE = evaluation(i / 40 for i in range(20))
SYSTEM = evaluation(i / 40 + (0.01 if i % 3 else -0.015) for i in range(20))


def test_a_comparison_reports_every_figure_a_reader_needs():
    found = compare(SYSTEM, BASELINE, "NDCG@10", margin=0.02)
    assert (found.measure, found.n, found.better, found.worse) == ("nDCG@10", 20, 13, 7)
    assert found.difference == pytest.approx(found.system - found.baseline)
    assert found.interval.low < found.difference < found.interval.high
    assert found.non_inferiority.proven and found.equivalence.proven
    row = found.as_row()
    assert row["non_inferiority_proven"] is True
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_without_a_margin_nothing_is_claimed():
    found = compare(SYSTEM, BASELINE, "nDCG@10")
    assert found.equivalence is None and found.non_inferiority is None
    assert "margin" not in found.as_row()


def test_a_system_equals_itself():
    found = compare(BASELINE, BASELINE, "nDCG@10", margin=0.001)
    assert (found.difference, found.sd, found.p, found.p_randomisation) == (0.0, 0.0, 1.0, 1.0)
    assert found.equivalence.proven and found.provable == 0.0


def test_a_system_may_be_not_worse_and_yet_significantly_lower():
    lower = evaluation(i / 40 - 0.01 - (0.001 if i % 2 else -0.001) for i in range(20))
    found = compare(lower, BASELINE, "nDCG@10", margin=0.02)
    assert found.non_inferiority.proven and found.p < 0.001 and found.difference < 0


def test_topics_are_paired_by_qid_not_by_position():
    reverse = evaluation([i / 40 for i in range(20)][::-1], qids=QIDS[::-1])
    assert differences(reverse, BASELINE, "nDCG@10").tolist() == [0.0] * 20


def test_a_family_is_adjusted_by_holm_and_claims_follow_the_adjusted_p():
    found = [compare(SYSTEM, BASELINE, "nDCG@10", margin=m) for m in (0.0065, 0.0068, 0.05)]
    together = family([*found, compare(SYSTEM, BASELINE, "nDCG@10")])
    p = [c.non_inferiority.p for c in found]
    assert [c.non_inferiority.p_adjusted for c in together[:3]] == pytest.approx(
        [2 * p[1], 2 * p[1], 3 * p[2]], rel=0.3
    )
    assert together[3].non_inferiority is None
    assert all(c.p_adjusted == pytest.approx(min(1.0, 4 * c.p)) for c in together)
    for alone, c in zip(found, together, strict=False):
        assert c.non_inferiority.proven == (c.non_inferiority.p_adjusted < 0.05)
        assert c.non_inferiority.p == alone.non_inferiority.p


def test_runs_of_one_system_are_averaged_inside_topics():
    mean = averaged([BASELINE, SYSTEM, SYSTEM])
    expected = (BASELINE.values("nDCG@10") + 2 * SYSTEM.values("nDCG@10")) / 3
    assert mean.values("nDCG@10") == pytest.approx(expected)
    assert mean.mean["nDCG@10"] == pytest.approx(expected.mean())
    with pytest.raises(InputError, match="no evaluation"):
        averaged([])


def test_other_topics_or_measures_are_refused():
    with pytest.raises(InputError, match="topic 'other' is in one evaluation only"):
        compare(SYSTEM, evaluation(range(20), qids=[*QIDS[:-1], "other"]), "nDCG@10")
    with pytest.raises(InputError, match="AP was not evaluated; evaluated were: nDCG@10"):
        compare(SYSTEM, BASELINE, "AP")
    with pytest.raises(InputError, match="nDCG@10 was not evaluated; evaluated were: AP"):
        compare(SYSTEM, evaluation(range(20), measure="AP"), "nDCG@10")
