"""`thresher context` at the command line."""

import json

import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.context import app

run = CliRunner().invoke
TEXT = "Radium was found in 1898. Marie Curie found radium in Paris. It glows faintly blue."


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "page one.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def invoke(*args, **more):
    return run(app, [str(a) for a in args], catch_exceptions=False, **more)


def test_a_query_and_a_file_are_enough(page):
    result = invoke("who found radium in paris", page, "-m", "lexical", "-t", "0.15")
    assert result.exit_code == 0
    assert result.stdout == "Marie Curie found radium in Paris.\n"


def test_json_says_spans_scores_and_savings(page):
    document = json.loads(invoke("who found radium in paris", page, "-m", "lexical", "-t", "0.15", "--json").stdout)
    (passage,) = document["passages"]
    (span,) = passage["spans"]
    assert TEXT[slice(*span)] == passage["text"]
    assert [s["kept"] for s in passage["sentences"]] == [False, True, False]
    assert passage["docno"] == "page_one.txt"
    assert 0 < passage["saved_characters"] < 1


def test_standard_input_and_the_html_view(tmp_path):
    html = tmp_path / "out.html"
    result = invoke("radium", "-m", "lexical", "--html", html, input=TEXT)
    assert result.exit_code == 0
    assert "<mark" in html.read_text()


def test_batches_are_lines_in_and_lines_out(tmp_path):
    batch = tmp_path / "batch.jsonl"
    rows = [
        {"query": "radium paris", "passages": [TEXT, {"docno": "d", "text": TEXT, "title": "T"}]},
        {"query": "x", "passages": []},
    ]
    batch.write_text("\n".join(map(json.dumps, rows)))
    result = invoke("--jsonl", batch, "-m", "lexical")
    first, second = map(json.loads, result.stdout.splitlines())
    assert [p["docno"] for p in first["passages"]] == ["0", "d"]
    assert second == {"query": "x", "passages": []}


@pytest.mark.parametrize("line", ["{", "[]", '{"query": 1, "passages": []}', '{"query": "q", "passages": [{"x": 1}]}'])
def test_a_bad_line_is_named(tmp_path, line):
    from thresher.errors import InputError

    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n" + line)
    with pytest.raises(InputError, match=r"batch\.jsonl:2"):
        invoke("--jsonl", batch, "-m", "lexical")


def test_help_has_examples():
    for args in (["--help"], ["prune", "--help"], ["train", "--help"]):
        result = invoke(*args)
        assert result.exit_code == 0
        assert "Example" in result.stdout
    assert isinstance(app, typer.Typer)
