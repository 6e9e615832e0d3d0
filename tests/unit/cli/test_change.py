"""The commands that change an index: what they print, that a dry run changes nothing, and plain errors."""

import json

import pytest
import typer
from typer.testing import CliRunner

from thresher.build.stream import build_index
from thresher.cli.change import add, delete, merge, sync
from thresher.index.commit import read_commit
from thresher.records import Passage

APP = typer.Typer()
for command in (add, delete, sync, merge):
    APP.command(command.__name__)(command)


@pytest.fixture
def place(tmp_path):
    """A folder with an index, and a corpus that differs from it."""
    build_index(
        tmp_path / "index", [Passage(f"d{i}", f"grain number {i}", metadata={"n": i}) for i in range(6)], "bm25"
    )
    rows = [
        {"docno": f"d{i}", "text": f"grain number {i}" + (" changed" if i == 4 else ""), "n": i} for i in range(3, 9)
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "new.jsonl").write_text('{"docno": "e", "text": "chaff"}\n')
    (tmp_path / "gone.txt").write_text("d0\nnobody\n")
    return tmp_path


def run(place, *arguments, ends=0):
    done = CliRunner().invoke(APP, [str(one).replace("@", f"{place}/") for one in arguments])
    assert done.exit_code == ends, done.output
    return done


def test_each_command_says_what_it_changed(place):
    assert "1 added; commit 2" in run(place, "add", "@index", "@new.jsonl").output
    said = run(place, "delete", "@index", "--docnos", "@gone.txt", "--docno", "d1").output
    assert "2 deleted; " in said
    assert "commit 3" in said
    assert "not in the index: 1 (nobody)" in said
    said = run(place, "sync", "@index", "@corpus.jsonl").output
    assert "3 added, 1 replaced, 2 deleted, 2 unchanged" in said
    assert "nothing to change" in run(place, "delete", "@index", "--docno", "nobody").output
    assert "1 segment," in run(place, "merge", "@index", "--all").output
    assert read_commit(place / "index").live == 6


def test_json_holds_the_same(place):
    added = json.loads(run(place, "add", "@index", "@new.jsonl", "--json").output)
    assert (added["added"], added["dry_run"], added["report"]["commit"]) == (1, False, 2)
    gone = json.loads(run(place, "delete", "@index", "--where", "n >= 4", "--json").output)
    assert gone["deleted"] == ["d4", "d5"]
    synced = json.loads(run(place, "sync", "@index", "@corpus.jsonl", "--json").output)
    assert (synced["added"], synced["unchanged"], synced["deleted"]) == (5, 1, ["d0", "d1", "d2", "e"])
    merged = json.loads(run(place, "merge", "@index", "--refit", "--json").output)
    assert merged["segments"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "@index", "@new.jsonl"), "would change: 1 added"),
        (("delete", "@index", "--where", "n < 2"), "would change: 2 deleted"),
        (("sync", "@index", "@corpus.jsonl"), "would change: 3 added, 1 replaced, 3 deleted, 2 unchanged"),
        (("merge", "@index"), "nothing to merge"),
        (("merge", "@index", "--refit"), "would merge 1 segment with 6 passages"),
    ],
)
def test_a_dry_run_says_the_same_and_changes_nothing(place, arguments, says):
    files = {file: file.read_bytes() for file in (place / "index").rglob("*") if file.is_file()}
    assert says in run(place, *arguments, "--dry-run").output
    assert json.loads(run(place, *arguments, "--dry-run", "--json").output)["dry_run"] is True
    assert {file: file.read_bytes() for file in (place / "index").rglob("*") if file.is_file()} == files


def test_wrong_usage_is_refused(place):
    assert "give a CORPUS" in run(place, "add", "@index", ends=2).output
    assert "--docno" in run(place, "delete", "@index", ends=2).output
    assert "--docno" in run(place, "delete", "@index", "--docno", "d1", "--where", "n = 1", ends=2).output
    taken = run(place, "add", "@index", "@corpus.jsonl", ends=1).exception
    assert "docno 'd3' (and 2 more) is in the index already; replace it (replace=True, --replace)" in str(taken)
    run(place, "add", "@index", "@corpus.jsonl", "--replace")
