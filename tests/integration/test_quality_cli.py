"""`thresher quality` and `thresher prune` as a person uses them, in this process."""

import json

import pytest
import typer
from typer.testing import CliRunner

from thresher.cli.prune import prune
from thresher.cli.quality import quality
from thresher.errors import ArtifactError, ConfigError

TEXTS = [
    f"Sentence number {i} about wheat, wind and the threshing floor, as long as {'very ' * (i % 7)}it is."
    for i in range(60)
]


@pytest.fixture(scope="module")
def app():
    app = typer.Typer()
    app.add_typer(quality, name="quality")
    app.command("prune")(prune)
    return app


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality-cli")
    records = [{"docid": f"d{i}", "text": t, "source": f"s{i // 20}"} for i, t in enumerate(TEXTS)]
    records += [
        {"docid": "copy", "text": TEXTS[0].upper(), "source": "s9"},
        {"docid": "junk", "text": "--- §§", "source": "s9"},
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "longer.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in [*records, {"docid": "new", "text": "New."}])
    )
    (folder / "qrels.txt").write_text("".join(f"q{i // 3} 0 d{i} {int(i % 7 > 3)}\n" for i in range(60)))
    (folder / "log.tsv").write_text("1\tsentence number 7\n2\tnumber 21 wind\n")
    return folder


def run(app, *arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_scores_are_made_extended_exported_and_imported(app, place):
    out = json.loads(
        run(app, "quality", "score", place / "corpus.jsonl", "-o", place / "s", "--estimator", "kl", "--json")
    )
    assert out["passages"] == 62
    with pytest.raises(ArtifactError, match="exists already"):
        run(app, "quality", "score", place / "corpus.jsonl", "-o", place / "s", "--estimator", "kl")
    assert "63 scores by kl" in run(app, "quality", "score", place / "longer.jsonl", "-o", place / "s", "--extend")
    run(app, "quality", "export", place / "s", "-o", place / "cache")
    out = run(app, "quality", "import", place / "cache", "-o", place / "again", "--corpus", place / "longer.jsonl")
    assert "63 scores" in out
    out = run(app, "prune", place / "longer.jsonl", "--scores", place / "again", "--keep", "0.5", "--json")
    assert json.loads(out)["estimator"] == "qualt5-cache"


def test_prune_reports_what_goes_before_anything_is_encoded(app, place):
    out = run(app, "prune", place / "corpus.jsonl", "--estimator", "length", "--keep", "0.75", "--report")
    assert "62 passages scored by length" in out
    assert "junk" in out
    assert "duplicate of" in out
    shown = json.loads(
        run(app, "prune", place / "corpus.jsonl", "--estimator", "kl", "--keep", "0.75", "--json", "--no-fold")
    )
    assert shown["counts"]["tier_1"] == round(0.75 * 62)
    assert sum(shown["histogram"]["kept"]) == shown["counts"]["tier_1"]


def test_floors_pins_and_budgets_from_the_command_line(app, place):
    (place / "pins.txt").write_text("d3\n")
    out = run(
        app, "prune", place / "corpus.jsonl", "--estimator", "length", "--keep", "0.05", "--floor", "2",
        "--floor-field", "source", "--pins", place / "pins.txt", "--no-fold", "-o", place / "decision", "--json",
    )  # fmt: skip
    counts = json.loads(out)["counts"]
    assert counts["pinned"] == 1
    assert counts["tier_1"] == 7  # two of each of three sources, one of the source that has one sound passage
    out = run(
        app, "prune", place / "corpus.jsonl", "--estimator", "length", "--budget", "2 kB", "--rate", "4", "--json"
    )
    assert 0 < json.loads(out)["counts"]["words_kept"] <= 500
    with pytest.raises(ConfigError, match="the budget '2 kB' is too small: all passages in the second tier"):
        run(app, "prune", place / "corpus.jsonl", "--estimator", "length", "--budget", "2 kB")


def test_fit_reports_its_worth_and_gives_an_estimator(app, place):
    out = run(
        app, "quality", "fit", place / "corpus.jsonl", "--qrels", place / "qrels.txt", "-o", place / "mine", "--json"
    )
    report = json.loads(out)
    assert {"auc", "auc_kl", "minus_kl_lo", "auc_within", "split_by_query"} <= set(report)
    run(app, "quality", "score", place / "corpus.jsonl", "-o", place / "by-mine", "--estimator", place / "mine")
    run(
        app,
        "quality",
        "fit",
        place / "corpus.jsonl",
        "--queries",
        place / "log.tsv",
        "-o",
        place / "logged",
        "--folds",
        "2",
    )
    with pytest.raises(ConfigError, match="--qrels or --queries"):
        run(app, "quality", "fit", place / "corpus.jsonl", "-o", place / "none")


def test_the_estimators_are_listed(app):
    assert json.loads(run(app, "quality", "list", "--json"))[0] == "embedded"
