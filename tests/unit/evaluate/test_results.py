import json
import re

import numpy as np
import pytest

from thresher.errors import DataNotFoundError, InputError, ThresherError
from thresher.evaluate import results
from thresher.evaluate.results import command_line, markdown_table, read_details, read_results, write_results

ROWS = [{"system": "a|b", "n": np.int64(3), "nDCG@10": np.float32(0.5)}, {"system": "c", "nDCG@10": 0.25, "ok": True}]


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """A checkout without uncommitted changes."""
    monkeypatch.setattr(results, "commit", lambda: "0" * 40)


def test_rows_and_their_circumstances_are_written_side_by_side(tmp_path):
    write_results(
        tmp_path / "deep" / "x.json", ROWS, command="python eval/x.py", seed=7, packages=["pytest", "no-such-package"]
    )
    made, rows = read_results(tmp_path / "deep" / "x.json")
    assert rows == [{"system": "a|b", "n": 3, "nDCG@10": 0.5}, {"system": "c", "nDCG@10": 0.25, "ok": True}]
    assert list(made) == ["command", "commit", "date", "machine", "versions", "seed"]
    assert (made["command"], made["seed"]) == ("python eval/x.py", 7)
    assert made["commit"] == "0" * 40
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["date"])
    assert set(made["machine"]) == {"cpu", "cores", "memory_gib", "os"}
    assert list(made["versions"]) == ["thresher", "python", "numpy", "numba", "pytest", "no-such-package"]
    assert made["versions"]["no-such-package"] == "not installed"
    page = (tmp_path / "deep" / "x.md").read_text()
    assert page.startswith("# x\n\n| system | n | nDCG@10 | ok |\n|---|--:|--:|---|\n| a\\|b | 3 | 0.5000 |  |\n")
    assert "`python eval/x.py`" in page
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == ["x.json", "x.md"]


def test_columns_choose_and_format():
    assert markdown_table(ROWS, {"nDCG@10": ".2f", "system": ""}).splitlines()[2] == "| 0.50 | a\\|b |"
    assert markdown_table(ROWS, ["system"]).splitlines()[1] == "|---|"
    with pytest.raises(InputError, match="no row has the column 'AP'; there are: system, n, nDCG@10, ok"):
        markdown_table(ROWS, ["AP"])
    with pytest.raises(InputError, match=r"format '\.2f' does not fit the value 'a\|b'"):
        markdown_table(ROWS, {"system": ".2f"})


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("x.json", [], "no rows"),
        ("x.csv", ROWS, "NAME.json"),
        ("x.json", [{"a": [1]}], "row 1: 'a' is a list; rows are flat"),
        ("x.json", [{"a": 1}, {"a": float("nan")}], "row 2: 'a' is nan"),
    ],
)
def test_what_is_no_flat_row_is_refused_and_leaves_nothing(tmp_path, name, rows, says):
    with pytest.raises(InputError, match=says):
        write_results(tmp_path / name, rows, command="c")
    assert list(tmp_path.iterdir()) == []


def test_lists_of_names_are_kept_as_lists_and_shown_in_one_cell(tmp_path):
    write_results(tmp_path / "x.json", [{"stages": ("bm25", "a|b"), "n": 1}], command="c")
    assert read_results(tmp_path / "x.json")[1] == [{"stages": ["bm25", "a|b"], "n": 1}]
    assert "| bm25, a\\|b | 1 |" in (tmp_path / "x.md").read_text()


def test_a_plot_is_written_as_svg(tmp_path):
    alt = pytest.importorskip("altair", reason="the eval extra is not installed")
    pytest.importorskip("vl_convert", reason="the eval extra is not installed")
    chart = alt.Chart(alt.Data(values=[{"cost": 1, "nDCG": 0.5}])).mark_point().encode(x="cost:Q", y="nDCG:Q")
    write_results(tmp_path / "x.json", ROWS, command="c", plot=chart)
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    assert "![x](x.svg)" in (tmp_path / "x.md").read_text()


def test_reading_what_is_no_result_file_says_so(tmp_path):
    with pytest.raises(DataNotFoundError):
        read_results(tmp_path / "x.json")
    (tmp_path / "x.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(InputError, match="not a result file"):
        read_results(tmp_path / "x.json")


def test_the_commit_is_that_of_the_checkout(monkeypatch):
    monkeypatch.undo()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown: not run in a checkout", results.commit())


def test_a_dirty_checkout_writes_only_where_allowed_and_marks_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "commit", lambda: "0" * 40 + "-dirty")
    with pytest.raises(ThresherError, match="uncommitted changes"):
        write_results(tmp_path / "x.json", ROWS)
    assert list(tmp_path.iterdir()) == []
    write_results(tmp_path / "x.json", ROWS, allow_dirty=True)
    assert read_results(tmp_path / "x.json")[0]["commit"].endswith("-dirty")


def test_many_rows_go_to_a_compressed_file_beside_the_summary(tmp_path):
    many = [{"qid": str(i), "nDCG@10": i / 10} for i in range(10)]
    write_results(tmp_path / "x.json", ROWS, details=iter(many))
    assert read_details(tmp_path / "x.json") == many
    assert "10 rows behind the table are in `x.rows.jsonl.gz`" in (tmp_path / "x.md").read_text()
    again = (tmp_path / "x.rows.jsonl.gz").read_bytes()
    write_results(tmp_path / "x.json", ROWS, details=many)
    assert (tmp_path / "x.rows.jsonl.gz").read_bytes() == again
    with pytest.raises(DataNotFoundError):
        read_details(tmp_path / "y.json")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/tmp/here/eval/__main__.py", "bm25", "--allow-dirty"], "python -m eval bm25"),
        (["/x/eval/__main__.py", "search-size", "--work", "/tmp/panel"], "python -m eval search-size --work panel"),
        (["/x/eval/__main__.py", "cost", "--out=/tmp/a b"], "python -m eval cost '--out=a b'"),
        (["/x/mine/study.py", "5"], "python mine/study.py 5"),
        (["/usr/bin/thresher", "eval", "x.toml"], "thresher eval x.toml"),
    ],
)
def test_the_command_is_told_without_the_folders_of_a_machine(argv, line):
    assert command_line(argv) == line
