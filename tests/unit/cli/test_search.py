"""`thresher search` writes runs of any length, and orders ties of two tiers."""

import json
import tracemalloc

import pytest
from typer.testing import CliRunner

from thresher.build.stream import build_index
from thresher.cli import _register, app
from thresher.errors import InputError
from thresher.evaluate.trec import read_run
from thresher.records import Passage

_register()


def search(*arguments):
    return CliRunner().invoke(app, ["search", *map(str, arguments)], catch_exceptions=False)


def test_the_memory_of_a_run_does_not_grow_with_its_queries(tmp_path):
    build_index(tmp_path / "x", [Passage(f"d{i}", f"word{i} other{i % 7}") for i in range(3000)], "bm25")
    (tmp_path / "q.tsv").write_text("".join(f"q{i}\tword{i}\n" for i in range(3000)))
    (tmp_path / "one.tsv").write_text("q\tword1\n")
    search(tmp_path / "x", "--queries", tmp_path / "one.tsv", "--run", tmp_path / "one.run")  # compiles
    tracemalloc.start()
    try:
        found = search(tmp_path / "x", "--queries", tmp_path / "q.tsv", "--run", tmp_path / "r.run", "-k", 3000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.exit_code == 0, found.output
    assert peak < 60e6  # all hits at once take 108 MB
    run = read_run(tmp_path / "r.run")
    assert {qid: ranking.docnos for qid, ranking in run.items()} == {f"q{i}": [f"d{i}"] for i in range(3000)}


def test_an_effort_and_a_deadline_are_said_in_the_answer(tmp_path):
    build_index(tmp_path / "x", [Passage(f"d{i}", f"word{i} other{i % 7} all") for i in range(40)], "bm25")
    query = ["other1", "other3", "all", "-k", "2"]
    found = json.loads(search(tmp_path / "x", *query, "--json", "--explain", "--effort", "terms=1,candidates=3").output)
    assert found["complete"]
    assert found["explanations"][0]["first_terms"] == 1
    assert found["explanations"][0]["rescored"] == 3
    assert len(found["hits"]) == 2
    late = json.loads(search(tmp_path / "x", *query, "--json", "--deadline-ms", "0").output)
    assert (late["hits"], late["exact"], late["complete"]) == ([], False, False)
    assert "cut short by the deadline" in search(tmp_path / "x", *query, "--deadline-ms", "0").output
    with pytest.raises(InputError, match="'depth=3' in the effort"):
        search(tmp_path / "x", *query, "--effort", "depth=3")
