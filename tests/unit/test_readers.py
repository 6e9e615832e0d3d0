"""Every reader of a user's file takes a byte order mark, CRLF, gzip and a pipe, and names the line it cannot read."""

import gzip
import json
import os
import threading
from pathlib import Path

import pytest

from thresher.build.recipe import load_recipe
from thresher.cli.prune import _docnos as pins
from thresher.context.calibrate import read_own
from thresher.encode.preencoded import read_encoded_queries
from thresher.errors import InputError, ThresherError
from thresher.evaluate import read_qrels, read_queries, read_run
from thresher.evaluate.results import read_results
from thresher.files import read_json_lines
from thresher.index.exchange import open_encoded
from thresher.rerank.prompting import load_template
from thresher.rerank.replay import read_recording

JSON_LINES = {
    "labelled": (lambda path: list(read_own(path)), '{"query": "café", "passage": "x"}'),
    "recording": (
        read_recording,
        '{"qid": "café", "start": 0, "end": 1, "docids": ["d"], "response": "[1]"}',
    ),
    "rows": (lambda path: list(read_json_lines(path)), '{"a": "café"}'),
    "encoded": (
        lambda path: [[p.docno for p in passages] for passages, _ in open_encoded(path)],
        '{"id": "café", "contents": "x", "vector": {"a": 3}}',
    ),
}
LINES = {
    **JSON_LINES,
    "pins": (pins, "café"),
    "queries": (read_queries, "q1\tcafé"),
    "run": (lambda path: dict(read_run(path).items()), "q1 Q0 café 1 2.5 tag"),
    "qrels": (lambda path: read_qrels(path).judgments, "q1 0 café 1"),
    "bags": (read_encoded_queries, "q1\tcafé café"),
    "recipe": (load_recipe, 'description = "café"'),
}
WHOLE = {"template": (lambda path: str(load_template(path)), "--- user\ncafé {{ query }}\n")}


def content_of(name: str) -> str:
    return {**LINES, **WHOLE}[name][1] + "\n"


def read(name: str, path: Path) -> object:
    return repr({**LINES, **WHOLE}[name][0](path))


@pytest.mark.parametrize("name", [*LINES, *WHOLE])
@pytest.mark.parametrize("form", ["mark", "mark and CRLF", "CRLF", "gzip", "blank lines"])
def test_every_form_of_a_file_is_read_alike(tmp_path, name, form):
    plain, other = tmp_path / "plain" / "x.jsonl", tmp_path / "other" / "x.jsonl"
    plain.parent.mkdir()
    other.parent.mkdir()
    content = content_of(name).encode()
    plain.write_bytes(content)
    other.write_bytes({
        "mark": b"\xef\xbb\xbf" + content,
        "mark and CRLF": b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
        "CRLF": content.replace(b"\n", b"\r\n"),
        "gzip": gzip.compress(content),
        "blank lines": b"\n\n" + content if name in LINES else content,
    }[form])  # fmt: skip
    expected, found = read(name, plain), read(name, other)
    assert found.replace("other", "plain").replace("[(3, ", "[(1, ") == expected


@pytest.mark.parametrize("name", sorted(set(LINES) - {"encoded"}))
def test_a_pipe_is_read_once_from_front_to_back(tmp_path, name):
    """As `<(zcat file.gz)` gives one; the error for a bad line does not read it again."""
    (tmp_path / "x").write_text(content_of(name), encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")

    def through_the_pipe(content: bytes) -> object:
        writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
        writer.start()
        try:
            return read(name, tmp_path / "pipe")
        finally:
            writer.join()

    expected = read(name, tmp_path / "x").replace(f"{tmp_path}/x", f"{tmp_path}/pipe")
    assert through_the_pipe(content_of(name).encode()) == expected
    with pytest.raises(ThresherError, match="UTF-8"):
        through_the_pipe(content_of(name).encode("latin-1"))


def test_a_docno_that_comes_twice_in_a_pipe_is_an_error_and_no_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for reader, row in ((read_run, b"q Q0 d 1 2 t\n"), (read_qrels, b"q 0 d 1\n")):
        writer = threading.Thread(target=lambda row=row: (tmp_path / "pipe").write_bytes(row + row))
        writer.start()
        with pytest.raises(InputError, match=r"comes twice.*the second time here"):
            reader(tmp_path / "pipe")
        writer.join()


@pytest.mark.parametrize("name", [*LINES, *WHOLE])
def test_a_file_that_is_not_utf_8_is_an_error_with_its_line(tmp_path, name):
    path = tmp_path / "x.jsonl"
    good = content_of(name).replace("é", "e") if name in LINES else ""
    good = good.replace("q1", "q0").replace("description", "# description")
    path.write_bytes(good.encode() + content_of(name).encode("latin-1"))
    with pytest.raises(ThresherError, match=rf"{path}:2: .*UTF-8"):
        read(name, path)


@pytest.mark.parametrize("name", JSON_LINES)
@pytest.mark.parametrize(
    "line", ["[" * 5000, '{"a":' * 5000, "[1]", "3", "null", '"text"', "NaN", "{", "{} {}", "1" * 9000, "\0"]
)
def test_a_line_that_is_no_json_object_is_an_error_with_its_place(tmp_path, name, line):
    path = tmp_path / "x.jsonl"
    path.write_text(content_of(name) + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{path}:2: ") as caught:
        read(name, path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("content", ["[" * 5000, '{"made":' * 5000, "[]", '{"made": 3, "rows": 4}', "NaN", "", "\0"])
def test_a_result_file_of_anything_else_is_an_error(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"x\.json"):
        read_results(tmp_path / "x.json")


def test_a_result_file_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"made": {}, "rows": [{"a": 1}]}).encode())
    assert read_results(tmp_path / "x.json")[1] == [{"a": 1}]
