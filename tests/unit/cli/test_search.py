"""`thresher search` writes runs of any length, and orders ties of two tiers."""

import tracemalloc

import numpy as np
from typer.testing import CliRunner

from thresher.build.stream import build_index
from thresher.cli import _register, app
from thresher.evaluate.trec import read_run
from thresher.records import Passage

_register()


def search(*arguments):
    return CliRunner().invoke(app, ["search", *map(str, arguments)], catch_exceptions=False)


def test_the_memory_of_a_run_does_not_grow_with_its_queries(tmp_path):
    build_index(tmp_path / "x", [Passage(f"d{i}", f"word{i} other{i % 7}") for i in range(3000)])
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


def test_tiers_that_do_not_compare_break_ties_by_docno():
    from thresher.search.tiers import Part, _by_score

    class Layout:
        def __init__(self, names):
            self.docnos = self
            self.names = names

        def raw(self, number):
            return self.names[number].encode()

        def numbers_of(self, docs):
            return docs.astype(np.int64)

    kept = Part(Layout(["c", "a"]), np.array([0, 1], np.uint32), np.array([3.0, 2.0]), True, ())
    pruned = Part(Layout(["b", "0"]), np.array([0, 1], np.uint32), np.array([9.0, 8.0]), True, ())
    places, scores = _by_score(kept, pruned, 4, np.array([3.0, 2.0]))
    assert places.tolist() == [2, 0, 3, 1]
    assert scores.tolist() == [3.0, 3.0, 2.0, 2.0]
