import json
import sys

import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.eval import eval_
from thresher.errors import ConfigError, InputError
from thresher.experiment import load_experiment

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(eval_)


@pytest.fixture
def files(tmp_path):
    """Qrels of four topics, a good run, and a worse one that lacks a topic."""
    (tmp_path / "qrels").write_text("".join(f"q{i} 0 a 2\nq{i} 0 b 1\nq{i} 0 c 0\n" for i in range(4)))
    (tmp_path / "good.run").write_text("".join(f"q{i} Q0 a 1 2 s\nq{i} Q0 b 2 1 s\n" for i in range(4)))
    (tmp_path / "poor.run").write_text("".join(f"q{i} Q0 {'xa'[i % 2]} 1 2 s\nq{i} Q0 c 2 1 s\n" for i in range(3)))
    return tmp_path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_json_holds_means_intervals_and_queries(files):
    pytest.importorskip("scipy", reason="the eval extra is not installed")
    arguments = ("--run", files / "poor.run", "--qrels", files / "qrels", "--measures", "RR(rel=2) P@1")
    found = json.loads(invoke(*arguments, "--per-query", "--json").output)
    assert found["queries"] == 4
    (run,) = found["runs"]
    assert (run["run"], run["measured"]) == ("poor", {"RR(rel=2)": 0.25, "P@1": 0.25})
    assert run["per_query"]["P@1"] == {"q0": 0.0, "q1": 1.0, "q2": 0.0, "q3": 0.0}
    plain = json.loads(invoke(*arguments, "--json").output)
    assert set(plain) == {"qrels", "queries", "runs"}
    assert set(plain["runs"][0]) == {"run", "measured", "interval_95"}


@pytest.mark.parametrize("option", ["--compare", "--margin", "--alpha", "--seed"])
def test_options_that_moved_name_the_new_command(files, option):
    told = invoke("--run", files / "poor.run", "--qrels", files / "qrels", option, "0.1", code=2).output
    assert "thresher compare RUN... --qrels QRELS" in " ".join(told.replace("│", " ").split())


def test_several_runs_are_rows_of_one_table(files):
    pytest.importorskip("scipy", reason="the eval extra is not installed")
    arguments = ("--run", files / "good.run", "--run", files / "poor.run", "--qrels", files / "qrels")
    lines = invoke(*arguments, "--measures", "P@1 RR").output.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["run", "P@1", "RR"],
        ["good", "1.0000", "1.0000"],
        ["poor", "0.2500", "0.2500"],
    ]


def test_runs_of_one_name_are_told_apart_by_their_paths_and_no_run_is_given_twice(files):
    (files / "other").mkdir()
    (files / "other" / "good.run").write_text((files / "poor.run").read_text())
    both = ("--run", files / "good.run", "--run", files / "other" / "good.run")
    found = json.loads(invoke(*both, "--qrels", files / "qrels", "--json").output)
    assert [run["run"] for run in found["runs"]] == [str(files / "good.run"), str(files / "other" / "good.run")]
    again = invoke("--run", files / "good.run", "--run", files / "good.run", "--qrels", files / "qrels", code=2)
    assert "is given twice" in again.output.replace("\n", " ")


def test_unjudged_documents_are_listed(files):
    arguments = ("--run", files / "poor.run", "--qrels", files / "qrels", "--measures", "P@1", "--holes", 2)
    found = json.loads(invoke(*arguments, "--json").output)["runs"][0]["holes"]
    assert found == {
        "k": 2,
        "rate": pytest.approx(2 / 6),
        "found": [{"qid": "q0", "docno": "x", "rank": 1}, {"qid": "q2", "docno": "x", "rank": 1}],
    }
    shown = invoke(*arguments).output
    assert "2 of 6 documents in the top 2 are unjudged (33.3%)" in shown


def test_means_are_shown_without_scipy_and_a_note_says_what_is_missing(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    result = invoke("--run", files / "good.run", "--qrels", files / "qrels", "--measures", "P@1", "--json")
    run = json.loads(result.stdout)["runs"][0]
    assert (run["measured"], run["interval_95"]) == ({"P@1": 1.0}, {})
    assert "thresher[eval]" in result.stderr


def test_the_table_shows_means_and_queries(files):
    pytest.importorskip("scipy", reason="the eval extra is not installed")
    arguments = ("--run", files / "good.run", "--qrels", files / "qrels", "--measures", "nDCG@10")
    assert "nDCG@10  1.0000" in invoke(*arguments).output
    assert "q3" in invoke(*arguments, "--per-query").output


def test_one_query_is_measured_without_an_interval(files):
    (files / "one").write_text("q1 0 a 1\n")
    found = json.loads(
        invoke("--run", files / "good.run", "--qrels", files / "one", "--measures", "RR", "--json").output
    )
    assert (found["runs"][0]["measured"], found["runs"][0]["interval_95"]) == ({"RR": 1.0}, {})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give an experiment"),
        (("--run", "r"), "--qrels"),
        (("x.toml", "--run", "r"), "not both"),
        (("--run", "r", "--qrels", "q", "--dry-run"), "need an experiment"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments, says):
    assert says in invoke(*arguments, code=2).output


def test_bad_data_is_a_thresher_error(files):
    result = invoke("--run", files / "qrels", "--qrels", files / "qrels", code=1)
    assert isinstance(result.exception, InputError)
    assert f"{files / 'qrels'}:1: " in str(result.exception)


def test_an_experiment_is_checked_without_its_data(tmp_path, monkeypatch):
    monkeypatch.delenv("THRESHER_DATA", raising=False)
    (tmp_path / "x.toml").write_text(
        'collection = "scifact"\nmeasures = ["nDCG@10"]\npublished = { "nDCG@10" = 0.6789, source = "elsewhere" }\n'
    )
    shown = invoke(tmp_path / "x.toml", "--dry-run").output
    assert "scifact" in shown and "0.6789" in shown and "published: elsewhere" in shown
    assert json.loads(invoke(tmp_path / "x.toml", "--dry-run", "--json").output)["plan"]["collection"] == "scifact"
    (tmp_path / "x.toml").write_text('collection = "scifact"\nmeasures = ["ERR@10"]\n')
    assert "unknown measure 'ERR'" in str(invoke(tmp_path / "x.toml", "--dry-run", code=1).exception)


def test_a_wrong_type_in_an_experiment_names_the_key(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text('collection = "scifact"\nmeasures = ["nDCG@10"]\nk = "1000"\n')
    with pytest.raises(ConfigError, match=r"experiment\.toml: key 'k' is '1000'"):
        load_experiment(path)


def test_a_binary_measure_of_graded_judgments_names_the_level_that_may_be_meant(files):
    arguments = ("--run", files / "good.run", "--qrels", files / "qrels", "--measures")
    assert "AP(rel=2)" in invoke(*arguments, "map nDCG@10").output
    assert "rel=2" not in invoke(*arguments, "nDCG@10").output
    assert "count every grade" not in invoke(*arguments, "AP(rel=2)").output
