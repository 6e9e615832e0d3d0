"""What README and docs quote is what the result files hold, and those were made by committed code."""

import json
from pathlib import Path

import pytest

from eval.bench import RESULTS
from eval.experiments import EXPERIMENTS
from eval.tables import TABLES, stale
from thresher.evaluate.results import DIRTY

ROOT = Path(__file__).parents[3]

if not (ROOT / "docs").is_dir():
    pytest.skip("the documentation is in the checkout only", allow_module_level=True)


def test_every_table_and_figure_in_a_page_is_what_its_result_file_gives():
    assert [page.name for page in stale()] == [], "run python -m eval tables"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_made(name):
    assert TABLES[name]().count("\n") > 2


def test_no_result_was_made_by_uncommitted_code():
    dirty = {file.stem for file in RESULTS.glob("*.json") if made(file)["commit"].endswith(DIRTY)}
    assert not dirty


def test_every_result_file_belongs_to_an_experiment_and_has_its_table():
    listed = {name for entry in EXPERIMENTS.values() for name in entry.results}
    files = {file.stem for file in RESULTS.glob("*.json")}
    assert files <= listed
    assert {file.stem for file in RESULTS.glob("*.md")} == files
    assert {file.name.removesuffix(".rows.jsonl.gz") for file in RESULTS.glob("*.rows.jsonl.gz")} <= files


def made(file):
    return json.loads(file.read_text(encoding="utf-8"))["made"]
