"""`thresher judge` fills what people did not judge, by a language model on a local server or by the shipped ranker."""

import json
import re

import pytest
from typer.testing import CliRunner

from thresher.cli import app
from thresher.cli.judge import judge
from thresher.errors import InputError, ModelError
from thresher.evaluate.filled import read_filled


@pytest.fixture
def command():
    if "judge" not in [registered.name for registered in app.registered_commands]:
        app.command("judge")(judge)
    return lambda *arguments: CliRunner().invoke(app, ["judge", *map(str, arguments)])


@pytest.fixture
def files(tmp_path):
    """Four queries, eight passages a query whose text states their grade; people judged the first six of each."""
    lines, qrels, run, queries = [], [], [], []
    for q in range(4):
        queries.append(f"q{q}\twhere does wheat number {q} grow\n")
        for d in range(8):
            grade = (q + d) % 4
            lines.append(
                json.dumps({"_id": f"q{q}d{d}", "text": f"grade {grade}: wheat {q} in field {d} " + "grows " * grade})
            )
            run.append(f"q{q} Q0 q{q}d{d} {d + 1} {8 - d} s\n")
            if d < 6:
                qrels.append(f"q{q} 0 q{q}d{d} {grade}\n")
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "queries.tsv").write_text("".join(queries))
    (tmp_path / "qrels").write_text("".join(qrels))
    (tmp_path / "s.run").write_text("".join(run))
    return tmp_path


def base(folder):
    return [
        folder / "s.run", "--qrels", folder / "qrels", "--queries", folder / "queries.tsv", "--corpus",
        folder / "corpus.jsonl", "-o", folder / "filled", "--cache-file", folder / "cache.sqlite",
    ]  # fmt: skip


def asking(server, folder):
    return [*base(folder), "--model", "openai:tiny", "--base-url", server.url]


def stated(chat, body):
    """The grade that the passage of a prompt states, as a model might write it."""
    prompt = body["messages"][-1]["content"]
    assert "a grade" not in prompt and "0, 1, 2 or 3" in prompt
    return chat(f"##final score: {re.search(r'grade ([0-3]):', prompt)[1]}")


def test_a_language_model_fills_the_holes_and_agrees_with_people(server, chat, command, files):
    server.react = lambda number, path, body: stated(chat, body)
    found = command(*asking(server, files), "--sample", 12, "--json")
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert (document["unjudged"], document["judged"], document["stopped"]) == (8, 8, "")
    assert (document["agreement"]["n"], document["agreement"]["kappa"]) == (12, 1.0)
    assert document["usage"]["calls"] == 20 == len(server.requests)
    filled = read_filled(files / "filled")
    assert filled.judge.startswith("tiny") and "umbrela" in filled.judge
    assert filled.qrels.judgments["q1"] == {"q1d6": 3, "q1d7": 0}
    again = json.loads(command(*asking(server, files), "--sample", 12, "--json").stdout)
    assert (again["usage"]["calls"], again["usage"]["cache_hits"]) == (0, 20)


def test_a_spent_budget_keeps_what_was_judged_and_the_journal_goes_on(server, chat, command, files):
    server.react = lambda number, path, body: stated(chat, body)
    arguments = [*asking(server, files), "--sample", 0, "--resume", files / "journal", "--no-cache", "--json"]
    first = command(*arguments, "--max-calls", 3)
    document = json.loads(first.stdout)
    assert (document["judged"], document["stopped"], document["agreement"]) == (3, "calls", None)
    assert len(read_filled(files / "filled")) == 3
    rest = json.loads(command(*arguments).stdout)
    assert (rest["judged"], rest["usage"]["resumed"], len(server.requests)) == (8, 3, 8)


def test_what_cannot_be_read_stays_a_hole_and_a_failing_server_is_an_error(server, chat, reaction, command, files):
    server.react = lambda number, path, body: chat("It depends on the reader.")
    found = command(*asking(server, files), "--sample", 0, "--json")
    document = json.loads(found.stdout)
    assert (document["judged"], len(read_filled(files / "filled"))) == (0, 0)
    (files / "filled").unlink()
    server.react = lambda number, path, body: reaction(status=400)
    failed = command(*asking(server, files), "--no-cache")
    assert isinstance(failed.exception, ModelError) and not (files / "filled").exists()


def test_nothing_is_sent_to_say_what_would_be_judged(server, command, files):
    found = command(*asking(server, files), "--dry-run", "--json")
    assert json.loads(found.stdout) == {"unjudged": 8, "k": 10, "sample": 24}
    assert "8 unjudged documents in the top 10" in command(*asking(server, files), "--dry-run").output
    assert not server.requests
    (files / "s.run").write_text("q0 Q0 q0d0 1 1 s\n")
    assert "nothing to fill" in command(*asking(server, files)).output
    assert len(read_filled(files / "filled")) == 0  # a script goes on
    (files / "s.run").write_text("q0 Q0 absent 1 1 s\n")
    assert isinstance(command(*asking(server, files)).exception, InputError)


def test_the_shipped_ranker_grades_by_thresholds_that_people_set(command, files):
    pytest.importorskip("torch", reason="the models extra is not installed")
    found = command(*base(files), "--model", "thresher-context", "--json")
    assert found.exit_code == 0, (found.output, found.exception)
    document = json.loads(found.stdout)
    least = [document["thresholds"][grade] for grade in ("1", "2", "3")]
    assert document["judged"] == 8 and least == sorted(least)
    assert document["agreement"]["n"] == 24 and -1.0 <= document["agreement"]["kappa"] <= 1.0
