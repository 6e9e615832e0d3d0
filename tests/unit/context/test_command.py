"""`thresher context` at the command line."""

import gzip
import json

import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.context import app
from thresher.errors import InputError

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
    batch = tmp_path / "batch.jsonl"
    batch.write_text("\n" + line)
    with pytest.raises(InputError, match=r"batch\.jsonl:2"):
        invoke("--jsonl", batch, "-m", "lexical")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_spans_are_slices_of_the_decoded_file(tmp_path, mark, end):
    page = tmp_path / "page.txt"
    page.write_bytes(mark + b"Line one is here." + end + b"Radium was found by Marie." + end)
    (passage,) = json.loads(invoke("who found radium", page, "-m", "lexical", "--json").stdout)["passages"]
    decoded = page.read_bytes().decode()
    assert "".join(decoded[start:stop] for start, stop in passage["spans"]) == passage["text"]
    assert passage["text"] == "Radium was found by Marie."
    for sentence in passage["sentences"]:
        assert "\ufeff" not in decoded[sentence["start"] : sentence["end"]]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_batch_may_begin_with_a_byte_order_mark_and_be_compressed(tmp_path, suffix):
    batch = tmp_path / f"batch{suffix}"
    content = b"\xef\xbb\xbf" + json.dumps({"query": "radium", "passages": [TEXT, "é"]}).encode()
    batch.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    (line,) = invoke("--jsonl", batch, "-m", "lexical").stdout.splitlines()
    assert len(json.loads(line)["passages"]) == 2


@pytest.mark.parametrize(
    "line",
    [
        b'{"query":"caf\xe9","passages":["x"]}',
        b'{"query":"q","passages":[{"text":"x","docno":"a b"}]}',
        b'{"query":"q","passages":[{"text":"x","docno":[1]}]}',
        b'{"query":"q","passages":[{"text":"x","title":3}]}',
        b'{"query":"q","passages":"x"}',
        b'{"query":null,"passages":[]}',
        b"[" * 100_000,
    ],
)
def test_a_record_that_is_wrong_is_named_with_its_line(tmp_path, line):
    batch = tmp_path / "batch.jsonl"
    batch.write_bytes(b"\n" + line)
    with pytest.raises(InputError, match=r"batch\.jsonl:2"):
        invoke("--jsonl", batch, "-m", "lexical")


def test_help_has_examples():
    for args in (["--help"], ["prune", "--help"], ["train", "--help"]):
        result = invoke(*args)
        assert result.exit_code == 0
        assert "Example" in result.stdout
    assert isinstance(app, typer.Typer)
