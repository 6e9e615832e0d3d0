"""`thresher build` as it is typed: its options reach the corpus, and what is wrong is one line."""

import json
import sys

import pytest
import typer
from typer.testing import CliRunner

from thresher import cli
from thresher.cli.build import build
from thresher.corpus import open_corpus
from thresher.errors import ConfigError, InputError


def invoke(*arguments):
    app = typer.Typer()
    app.command()(build)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_format_and_split_reach_the_corpus(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.write_text('{"id": "a", "text": "One two three four. Five six seven eight. Nine ten."}\n')
    done = invoke(
        corpus, "--recipe", "bm25", "-o", tmp_path / "index", "--format", "jsonl", "--split-tokens", 6, "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"]["passages"] == 3


def test_a_strange_value_of_on_error_is_a_wrong_command_line(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "grain"}\n')
    done = invoke(corpus, "-o", tmp_path / "index", "--on-error", "maybe")
    assert done.exit_code == 2
    assert "maybe" in done.output


def test_what_the_system_refuses_is_one_line(tmp_path, monkeypatch, capsys):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "grain"}\n')
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["thresher", "build", str(corpus), "-o", str(tmp_path / "file" / "index")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("option", [{"text_field": "body"}, {"format": "jsonl"}, {"split_tokens": 9}])
def test_options_that_installed_documentation_cannot_heed_are_refused(option):
    with pytest.raises(ConfigError, match="installed"):
        open_corpus("installed", **option)


def test_a_corpus_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="no name"):
        open_corpus("")


def test_a_build_logs_its_stages_and_what_it_skipped(tmp_path, caplog):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "grain"}\nnot JSON\n')
    with caplog.at_level("INFO", logger="thresher"):
        assert invoke(corpus, "--recipe", "bm25", "-o", tmp_path / "index", "--on-error", "skip").exit_code == 0
    said = [record.getMessage() for record in caplog.records]
    assert any("encode took" in line for line in said)
    assert any("1 records" in line and "malformed" in line for line in said)


def test_a_quote_that_swallows_the_rest_of_a_csv_file_is_never_skipped(tmp_path):
    corpus = tmp_path / "corpus.csv"
    corpus.write_text('id,text\na,one\nb,"two\nc,three\nd,four\n')
    with pytest.raises(InputError, match=r"corpus\.csv:3: .*line 5"):
        list(open_corpus(corpus, on_error="skip"))
