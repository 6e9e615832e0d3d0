"""Filled judgments are shown beside the figures of people's judgments, never in their place."""

import json

import pytest
from typer.testing import CliRunner

from thresher.cli import app
from thresher.cli.certify import certify
from thresher.cli.compare import compare
from thresher.cli.eval import eval_
from thresher.evaluate.filled import Filled, write_filled
from thresher.records import Qrels

pytest.importorskip("scipy", reason="the eval extra is not installed")
TOPICS = 12


@pytest.fixture(scope="module")
def command():
    for name, function in (("eval", eval_), ("compare", compare), ("certify", certify)):
        if name not in [registered.name for registered in app.registered_commands]:
            app.command(name)(function)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A baseline whose first document is relevant, and a run whose first one was not judged."""
    monkeypatch.chdir(tmp_path)
    topics = [f"q{t}" for t in range(TOPICS)]
    (tmp_path / "qrels").write_text("".join(f"{q} 0 a 1\n{q} 0 b 0\n" for q in topics))
    (tmp_path / "full.run").write_text("".join(f"{q} Q0 a 1 2 s\n{q} Q0 b 2 1 s\n" for q in topics))
    (tmp_path / "new.run").write_text("".join(f"{q} Q0 x 1 2 s\n{q} Q0 a 2 1 s\n" for q in topics))
    write_filled(Filled("m", Qrels({q: {"x": 1, "a": 0} for q in topics})), tmp_path / "filled")
    return tmp_path


def test_eval_shows_every_figure_twice(command, files):
    arguments = ("eval", "--run", "new.run", "--qrels", "qrels", "--measures", "P@1 R@2", "--filled", "filled")
    found = json.loads(command(*arguments, "--json").stdout)
    assert found["runs"][0]["measured"] == {"P@1": 0.0, "R@2": 1.0}
    assert found["filled"] == {
        "judge": "m",
        "documents": TOPICS,  # people judged a
        "runs": [{"run": "new", "measured": {"P@1": 1.0, "R@2": 1.0}}],
    }
    shown = command(*arguments).stdout
    assert "judged: by people alone; filled: with 12 judgments by m" in shown


def test_compare_is_made_by_people_and_again_and_says_what_they_can_support(command, files):
    arguments = ("compare", "full.run", "new.run", "--qrels", "qrels", "--measures", "P@1", "--filled", "filled")
    found = json.loads(command(*arguments, "--json").stdout)
    assert found["compared"][0]["difference"] == -1.0
    assert (found["filled"]["compared"][0]["difference"], found["filled"]["documents"]) == (0.0, TOPICS)
    assert (found["judgments"][0]["run"], found["judgments"][0]["changed_unjudged"]) == ("new", 0.5)
    shown = command(*arguments).stdout
    assert "new against full: 50% of the documents that differ in the top 1 are unjudged" in shown.replace("\n", " ")
    assert "Again, with 12 judgments by m:" in shown
    wrong = command(*arguments, "--format", "csv")
    assert wrong.exit_code == 2 and "--filled shows two comparisons" in wrong.output.replace("\n", " ")


def test_a_certificate_is_of_the_judgments_of_people(command, files):
    arguments = ("certify", "--run", "new.run", "--baseline-run", "full.run", "--qrels", "qrels", "--measures", "P@1")
    found = command(*arguments, "--filled", "filled", "--json", "-o", "certificate.json")
    document = json.loads(found.stdout)
    assert (found.exit_code, document["certified"], document["filled"]["certificate"]["certified"]) == (3, False, True)
    assert "filled" not in json.loads((files / "certificate.json").read_text())
    shown = command(*arguments, "--filled", "filled")
    assert shown.exit_code == 3
    assert "Not part of the certificate, with 12 judgments by m:" in shown.stdout
    alone = command("certify", "--run", "new.run", "--baseline-run", "full.run", "--filled", "filled")
    assert alone.exit_code == 2 and "--filled needs --qrels" in alone.output
