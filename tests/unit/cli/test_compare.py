import json

import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.compare import compare
from thresher.errors import InputError

pytest.importorskip("scipy", reason="the eval extra is not installed")

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
app.command()(compare)


@pytest.fixture
def files(tmp_path):
    """Qrels of 12 topics, a good run, and a worse one that lacks a topic."""
    (tmp_path / "qrels").write_text("".join(f"q{i} 0 a 1\nq{i} 0 c 0\n" for i in range(12)))
    (tmp_path / "good.run").write_text("".join(f"q{i} Q0 a 1 2 s\n" for i in range(12)))
    (tmp_path / "poor.run").write_text("".join(f"q{i} Q0 {'xa'[i % 2]} 1 2 s\nq{i} Q0 c 2 1 s\n" for i in range(11)))
    (tmp_path / "again.run").write_text((tmp_path / "good.run").read_text())
    return tmp_path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_a_table_shows_letters_differences_wins_and_losses(files):
    told = invoke(files / "poor.run", files / "good.run", "--qrels", files / "qrels", "--measures", "P@1")
    lines = [line.split() for line in told.stdout.splitlines()]
    assert ["b", "good", "1.0000", "a"] in lines
    assert next(line for line in lines if line[:2] == ["good", "P@1"])[-3:] == ["7", "5", "0"]
    assert "poor has no results for 1 of 12 topics, such as 'q11'; they count 0" in told.stderr


def test_json_holds_the_table_and_the_exit_code_says_whether_the_margin_is_shown(files):
    arguments = ("--qrels", files / "qrels", "--measures", "P@1 RR", "--margin", 0.1, "--json")
    told = invoke(files / "poor.run", "--baseline", files / "good.run", *arguments, code=3)
    found = json.loads(told.stdout)
    assert (found["baseline"], found["queries"], found["proven"]) == ("good", 12, False)
    assert [(row["run"], row["with"], row["measure"], row["worse"]) for row in found["compared"]] == [
        ("poor", "good", "P@1", 7),
        ("poor", "good", "RR", 7),
    ]
    assert found["compared"][0]["topics_needed"] is None  # it is worse
    same = invoke(files / "again.run", files / "good.run", *arguments, code=0)
    assert json.loads(same.stdout)["proven"] is True
    assert "good has the same values as again on every topic" in same.stderr
    assert "per_query" not in same.stdout


def test_a_baseline_that_is_one_of_the_runs_is_not_read_twice(files):
    arguments = ("--qrels", files / "qrels", "--baseline", files / "good.run", "--json", "--per-query")
    found = json.loads(invoke(files / "poor.run", files / "good.run", *arguments).stdout)
    assert [run["run"] for run in found["runs"]] == ["poor", "good"]
    assert [row["run"] for row in found["compared"]] == ["poor", "poor"]
    assert found["runs"][0]["per_query"]["AP"]["q11"] == 0.0


@pytest.mark.parametrize(("form", "holds"), [("latex", r"\toprule"), ("markdown", "| run |"), ("csv", "run,letter,")])
def test_a_file_is_written_in_the_form_that_is_asked_for(files, form, holds):
    arguments = (files / "poor.run", files / "good.run", "--qrels", files / "qrels", "--format", form)
    told = invoke(*arguments, "-o", files / "out")
    assert "The comparison is in" in told.stdout
    assert holds in (files / "out").read_text()
    assert invoke(*arguments).stdout.strip() == (files / "out").read_text().strip()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("good.run",), "there is one run"),
        (("good.run", "good.run"), "is given twice"),
        (("good.run", "poor.run", "-o", "x"), "--output needs --format"),
        (("good.run", "poor.run", "--format", "csv", "-o", "poor.run"), "read by this command"),
    ],
)
def test_a_wrong_command_line_exits_with_2(files, monkeypatch, arguments, says):
    monkeypatch.chdir(files)
    told = " ".join(invoke(*arguments, "--qrels", "qrels", code=2).output.replace("│", " ").split())
    assert says in told


def test_a_run_of_other_topics_is_named(files):
    (files / "other.run").write_text("z1 Q0 a 1 2 s\n")
    result = invoke(files / "good.run", files / "other.run", "--qrels", files / "qrels", code=1)
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith(f"{files / 'other.run'}: none of the run's 1 topics is judged")


def test_one_topic_is_said_in_words(files):
    (files / "one").write_text("q1 0 a 1\n")
    result = invoke(files / "good.run", files / "poor.run", "--qrels", files / "one", code=1)
    assert "the judgments have one topic, 'q1'" in str(result.exception)
