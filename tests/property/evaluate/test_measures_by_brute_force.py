"""Measures against straightforward loops, on random judgments and rankings with many ties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.evaluate import evaluate, read_run, untied, write_run
from thresher.evaluate.measures import Measure
from thresher.ranking import Ranking, Run

DOCNOS = st.sampled_from([*"abcdefgh", "9", "10", "é", "z1"])
GRADES = st.dictionaries(DOCNOS, st.integers(-2, 4), min_size=1)
SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-9, 1.0 + 1e-6, 2.0, 16777216.0, 16777217.0]),
    st.floats(-1e30, 1e30, allow_nan=False),
)
RANKING = st.dictionaries(DOCNOS, SCORES)
CUTOFF = st.integers(1, 14)


def in_order(ranking):
    return sorted(ranking, key=lambda docno: (np.float32(ranking[docno]), docno), reverse=True)


def naive(name, order, grades, rel, k):
    """One measure by its definition, document by document."""
    relevant = {d for d, g in grades.items() if g >= rel}
    nonrelevant = {d for d, g in grades.items() if 0 <= g < rel}
    top = order if k is None else order[:k]
    if name == "Judged":
        return sum(d in grades for d in top) / len(top) if top else 0.0
    if name == "nDCG":
        ideal = sorted((max(g, 0) for g in grades.values()), reverse=True)[:k]
        best = sum(g / math.log2(r + 1) for r, g in enumerate(ideal, 1))
        return sum(max(grades.get(d, 0), 0) / math.log2(r + 1) for r, d in enumerate(top, 1)) / best if best else 0.0
    ranks = [r for r, d in enumerate(top, 1) if d in relevant]
    if name == "RR":
        return 1 / ranks[0] if ranks else 0.0
    if name == "P":
        return len(ranks) / k
    if name == "Success":
        return float(bool(ranks))
    if not relevant:
        return 0.0
    if name == "R":
        return len(ranks) / len(relevant)
    if name == "AP":
        return sum(sum(other <= r for other in ranks) / r for r in ranks) / len(relevant)
    total = 0.0
    for at, d in enumerate(order):
        if d in relevant:
            above = min(len(relevant), sum(other in nonrelevant for other in order[:at]))
            total += 1 - above / min(len(relevant), len(nonrelevant)) if above else 1
    return total / len(relevant)


MEASURES = [("nDCG", 0), ("AP", 0), ("RR", 0), ("R", 1), ("P", 1), ("Success", 1), ("Judged", 0), ("Bpref", None)]


@pytest.mark.parametrize(("name", "needs_cutoff"), MEASURES)
@given(data=st.data())
def test_every_measure_is_its_definition(name, needs_cutoff, data):
    ranking, grades = data.draw(RANKING), data.draw(GRADES)
    rel = data.draw(st.integers(1, 3)) if name not in ("nDCG", "Judged") else 1
    k = None if needs_cutoff is None else data.draw(CUTOFF if needs_cutoff else st.none() | CUTOFF)
    condensed = data.draw(st.booleans()) if name not in ("Judged", "Bpref") else False
    measure = Measure(name, k, rel, condensed)
    order = [d for d in in_order(ranking) if not condensed or grades.get(d, -1) >= 0]
    value = evaluate({"1": ranking}, {"1": grades}, measure).mean[str(measure)]
    assert value == pytest.approx(naive(name, order, grades, rel, k), abs=1e-12)
    assert 0.0 <= value <= 1.0 + 1e-12


@given(ranking=st.lists(st.tuples(DOCNOS, SCORES), unique_by=lambda row: row[0]), grades=GRADES)
def test_a_written_run_is_measured_in_the_order_it_was_written(tmp_path, ranking, grades):
    rows = Ranking.from_pairs(sorted(ranking, key=lambda row: -row[1]))
    run = Run({"1": rows} if rows else {})
    path = tmp_path / "r.gz"
    write_run(run, path)
    back = read_run(path)
    assert [row.docno for row in back.rankings.get("1", ())] == [row.docno for row in rows]
    scores = np.array([row.score for row in back.rankings.get("1", ())], dtype=np.float32)
    assert (scores[1:] < scores[:-1]).all()
    assert scores.tolist() == [row.score for row in untied(run).rankings.get("1", ())]
    ours = evaluate(back, {"1": grades}, "nDCG@3 AP RR@5")
    by_rank = {"1": {row.docno: -float(rank) for rank, row in enumerate(rows)}}
    assert ours == evaluate(by_rank, {"1": grades}, "nDCG@3 AP RR@5")
