"""`thresher search` writes runs of any length, and orders ties of two tiers."""

import tracemalloc

from typer.testing import CliRunner

from thresher.build.stream import build_index
from thresher.cli import _register, app
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
