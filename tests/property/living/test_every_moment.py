"""A write that fails or is killed at any operation on a file leaves a commit whole, and can be repeated.

The nightly profile tries every operation of each write, the default two of them.
"""

import os
import shutil

import pytest
from living_jobs import apply, merge
from living_model import NAMES, VARIANTS, document, snapshot

from eval.living_kills import leftovers
from thresher.index.collection import verify
from thresher.index.commit import read_commit
from thresher.search import Index

NIGHTLY = (os.environ.get("THRESHER_PROFILE") or os.environ.get("HYPOTHESIS_PROFILE")) == "nightly"
NEW = [document("d20", 3), document("d21", 4)]
WRITES = {
    "add and delete": (apply, ([("add", NEW), ("delete", ["d1", "d4"]), ("replace", [document("d2", 9)])],)),
    "sync": (apply, ([("sync", [document("d0", 0), document("d5", 12), *NEW])],)),
    "merge": (merge, (True, False)),
    "refit": (merge, (True, True)),
}


TRIED = [(write, how) for write in WRITES for how in ("killed", "failing")] if NIGHTLY else [("sync", "killed")]


@pytest.mark.parametrize(("write", "how"), TRIED)
def test_a_write_that_ends_at_any_moment_leaves_a_commit_whole_and_can_be_repeated(tmp_path, forker, write, how):
    function, given = WRITES[write]
    kind, names = VARIANTS["bm25"], [*NAMES, "d20", "d21"]
    kind.build(tmp_path / "built")
    apply(tmp_path / "built", "bm25", [("add", [document("d30", 5)]), ("delete", ["d3"])])
    path = tmp_path / "folder" / "index"

    def begin():
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(tmp_path / "built", path)

    def seen():
        with Index.open(path) as index:
            return snapshot(index, kind, names)

    begin()
    before = seen(), read_commit(path).number
    *_, count = function(path, "bm25", *given)
    after = seen()
    assert count > 20
    for moment in range(1, count + 1, 1 if NIGHTLY else count // 2):
        begin()
        if how == "killed":
            outcome = forker.run(f"living_jobs:{function.__name__}", path, "bm25", *given, how, moment)
            assert outcome.status == -9, outcome
        else:
            try:
                function(path, "bm25", *given, how, moment)
            except OSError:
                pass
        verify(path)
        assert seen() == (before[0] if read_commit(path).number == before[1] else after), moment
        function(path, "bm25", *given) if seen() != after else None
        assert seen() == after, moment
        apply(path, "bm25", [("delete", ["d9"]), ("add", [document("d31", 1)])])
        assert leftovers(path) == [], moment
        verify(path)
