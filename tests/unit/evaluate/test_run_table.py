"""Runs side by side: letters, differences, claims, and the table as text."""

import csv
import io
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from thresher.errors import InputError
from thresher.evaluate.comparison import compare, family
from thresher.evaluate.measures import Evaluation
from thresher.evaluate.run_table import compare_runs, ties
from thresher.evaluate.run_table_text import render

pytest.importorskip("scipy", reason="the eval extra is not installed")


def evaluation(values, *others):
    per_query = {
        name: {f"q{i}": float(v) for i, v in enumerate(column)}
        for name, column in zip(("nDCG@10", "AP"), (values, *others), strict=False)
    }
    return Evaluation({name: float(np.mean(list(column.values()))) for name, column in per_query.items()}, per_query)


@pytest.fixture(scope="module")
def runs():
    """Three runs of 30 topics: `high` is better than the others, which hardly differ."""
    rng = np.random.default_rng(3)
    low = rng.uniform(0.2, 0.5, 30)
    near = low + rng.normal(0, 0.01, 30)
    return {"low": evaluation(low), "near_&_#1": evaluation(near), "high": evaluation(low + rng.uniform(0.1, 0.3, 30))}


def test_letters_name_the_runs_that_a_run_is_better_than(runs):
    table = compare_runs(runs)
    assert dict(table.letters) == {"low": "a", "near_&_#1": "b", "high": "c"}
    assert [table.better_than[name]["nDCG@10"] for name in runs] == ["", "", "ab"]


def test_differences_are_those_of_compare_and_one_family(runs):
    table = compare_runs(runs, "high", margin=0.02)
    assert list(table.comparisons) == ["low", "near_&_#1"]
    expected = family([compare(runs[name], runs["high"], "nDCG@10", margin=0.02) for name in table.comparisons])
    assert [measured["nDCG@10"] for measured in table.comparisons.values()] == expected
    assert not table.proven
    assert compare_runs({"a": runs["low"], "b": runs["high"]}, margin=0.02).proven


def test_topics_are_named_only_where_a_claim_is_not_shown(runs):
    table = compare_runs(runs, margin=0.001)
    assert table.topics_needed("near_&_#1", "nDCG@10") > 30
    assert table.topics_needed("high", "nDCG@10") is None
    assert compare_runs(runs).topics_needed("near_&_#1", "nDCG@10") is None
    worse = compare_runs(runs, "high", margin=0.02)
    assert worse.topics_needed("low", "nDCG@10") is None and "no, worse" in render(worse, "markdown")


def test_identical_runs_tie_on_every_topic(runs):
    table = compare_runs({"one": runs["low"], "two": runs["low"]}, margin=0.01)
    found = table.comparisons["two"]["nDCG@10"]
    assert (found.difference, found.p, ties(found), found.effect) == (0.0, 1.0, 30, None)
    assert table.better_than["two"]["nDCG@10"] == ""
    assert "0.0000" in render(table, "markdown")


def test_twenty_runs_on_two_measures_are_one_table(runs):
    many = {f"run {i}": evaluation(np.arange(5) / 9 + i / 40, np.arange(5)[::-1] / 9) for i in range(60)}
    few = dict(list(many.items())[:20])
    rows = compare_runs(few).as_rows()
    assert len(rows) == 40
    assert len({tuple(row) for row in rows}) == 1
    assert len(set(compare_runs(many, rounds=1).letters.values())) == 60


@pytest.mark.parametrize(
    ("names", "baseline", "says"),
    [(["low"], None, "at least two runs"), (["low", "high"], "none", "there is no run 'none'; there are: low, high")],
)
def test_what_cannot_be_compared_is_an_error(runs, names, baseline, says):
    with pytest.raises(InputError, match=says):
        compare_runs({name: runs[name] for name in names}, baseline)


def test_one_topic_is_an_error_that_says_so():
    with pytest.raises(InputError, match=r"have one topic, 'q0', and differences are tested over at least two"):
        compare_runs({"a": evaluation([0.1]), "b": evaluation([0.2])})


def test_csv_has_a_row_for_each_run_and_measure(runs):
    rows = list(csv.DictReader(io.StringIO(render(compare_runs(runs, margin=0.02), "csv"))))
    assert [(row["run"], row["better_than"]) for row in rows] == [("low", ""), ("near_&_#1", ""), ("high", "ab")]
    assert rows[0]["p"] == "" and float(rows[2]["p_adjusted"]) < 0.001
    topics = list(csv.DictReader(io.StringIO(render(compare_runs(runs), "csv", per_query=True))))
    assert len(topics) == 90 and set(topics[0]) == {"run", "measure", "qid", "value", "difference"}


def test_latex_escapes_names_and_every_row_has_all_columns(runs):
    text = render(compare_runs(runs, margin=0.02), "latex", per_query=True)
    assert r"near\_\&\_\#1" in text and r"\textsuperscript{ab}" in text and r"\textbf{" in text
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 4 == text.count(r"\begin{table}") == text.count(r"\end{table}")
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert lines and {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}
        assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    plain = text.replace(r"\{", "").replace(r"\}", "").replace(r"\%", "")
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[#_~^]", plain)
    assert [line for line in plain.splitlines() if "%" in line] == [r"% needs \usepackage{booktabs}"]


def test_markdown_escapes_names_and_every_row_has_all_columns(runs):
    hostile = {"a|b <script>": runs["low"], "high": runs["high"]}
    text = render(compare_runs(hostile), "markdown")
    assert "<script>" not in text and r"a\|b \<script\>" in text and "<sup>a</sup>" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]} == {4}


def test_the_tables_are_those_of_the_golden_files():
    place = Path(__file__).parents[2] / "golden/compare"
    for file, content in runpy.run_path(str(place / "regenerate.py"))["made"]().items():
        assert content == (place / file).read_text(encoding="utf-8"), file
