"""What every command does with arguments it does not expect: exit code 0 to 3, and an error in one line.

Commands run in this process, over small real files, with valid arguments of which some are replaced, dropped or added.
THRESHER_HOSTILE_CALLS sets how often each is run; the nightly profile runs each 50 times.
"""

import importlib
import os
import random
import shutil
import sys
from io import BytesIO, TextIOWrapper

import pytest
import typer.main
from hostile_place import PATHS, STRINGS, damage, listing
from limits import Hang, bounded

from thresher import cli

NIGHTLY = os.environ.get("THRESHER_PROFILE") == "nightly"
RUNS = int(os.environ.get("THRESHER_HOSTILE_CALLS") or (50 if NIGHTLY else 2))
SECONDS = 10

MODELS = {"quickstart", "encode", "ask", "quality fit", "context prune", "context train", "calibrate context"}
"""Commands that may import torch, which takes longer than all others together: only the nightly profile runs them."""
VALID = {
    "quickstart": "-o out --limit 3 --recipe bm25",
    "build": "@corpus.jsonl -o out --recipe @recipe.toml",
    "prune": "@corpus.jsonl --estimator length --keep .5",
    "encode": "@corpus.jsonl -o out --encoder bm25",
    "search": "@index grain",
    "ask": "@index grain --no-rerank --no-vectors",
    "rerank": "@a.run -o out.run --queries @queries.tsv --index @index --replay list.json",
    "eval": "--run @a.run --qrels @qrels.txt",
    "report": "@a.run @b.run --qrels @qrels.txt -o out",
    "compare": "@a.run @b.run --qrels @qrels.txt",
    "judge": "@a.run -o out --qrels @qrels.txt --queries @queries.tsv --index @index --dry-run",
    "curves": "@rows.csv --cost calls --name plan",
    "info": "@index",
    "verify": "@index",
    "quality score": "@corpus.jsonl -o out --estimator length",
    "quality fit": "@corpus.jsonl -o out --queries @queries.tsv --qrels @qrels.txt",
    "quality list": "",
    "quality import": "@scores -o out",
    "quality export": "@scores -o out",
    "context prune": "grain @page.txt --model lexical",
    "context train": "list.json -o out",
    "calibrate tiers": "@index --queries @queries.tsv",
    "calibrate context": "list.json",
}


def commands() -> dict[str, list]:
    """Every command with its parameters."""
    cli._register()
    found = {}

    def walk(command, name):
        for key, one in getattr(command, "commands", {}).items():
            walk(one, f"{name} {key}".strip())
        if not hasattr(command, "commands"):
            found[name] = command.params

    walk(typer.main.get_command(cli.app), "")
    return found


COMMANDS = commands()
TOKENS = [token for token in (*STRINGS, *PATHS, "0", "1", "-2", "1e400", "nan", str(10**20)) if "\x00" not in token]


def command_line(rng: random.Random, name: str) -> list[str]:
    """Valid arguments, some of them replaced or dropped, and options with values that they do not expect."""
    tokens = [token.replace("@", "place/") for token in VALID.get(name, "").split()]
    for _ in range(rng.choice((0, 1, 1, 2))):
        if tokens:
            at = rng.randrange(len(tokens))
            tokens[at : at + 1] = [rng.choice(TOKENS)] if rng.random() < 0.8 else []
    options = [one for one in COMMANDS[name] if one.param_type_name == "option"]
    for one in rng.sample(options, min(len(options), rng.choice((0, 1, 1, 2)))):
        tokens.append(rng.choice(one.opts))
        if not one.is_flag:
            tokens.append(rng.choice(TOKENS))
    if rng.random() < 0.2:
        tokens.append(rng.choice(TOKENS))
    return [*name.split(), *tokens]


def run(arguments: list[str], monkeypatch) -> tuple[object, str, str]:
    """Exit code, standard output and standard error."""
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    monkeypatch.setattr(sys, "argv", ["thresher", *arguments])
    with bounded(memory=False), monkeypatch.context() as patched:
        for name, stream in (("stdout", out), ("stderr", err), ("stdin", TextIOWrapper(BytesIO()))):
            patched.setattr(sys, name, stream)
        try:
            code = cli.main()
        except SystemExit as end:
            code = end.code
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()


def problem_of(arguments: list[str], monkeypatch) -> str:
    """What was wrong with how the command ended; empty where nothing was."""
    try:
        code, _, said = run(arguments, monkeypatch)
    except Hang:
        return f"took over {SECONDS} seconds"
    except Exception as err:
        return f"{type(err).__name__} came out of main: {err}"
    if code not in (0, 1, 2, 3):
        return f"ended with {code!r}"
    lines = said.splitlines()
    if "fault of thresher" in said or "Traceback" in said:
        return f"said: {lines[-1][:200]}"
    if code == 1 and (not lines or not lines[-1].startswith("error: ")):
        return f"ended with 1 and said {said[-200:]!r}"
    return ""


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_with_one_line_whatever_it_is_given(name, place, scratch, tmp_path, monkeypatch):
    if name in MODELS:
        if not NIGHTLY:
            pytest.skip("may import torch")
        for library in ("torch", "transformers", "sentence_transformers"):
            importlib.import_module(library)
    rng = random.Random(f"{name} {os.environ.get('THRESHER_HOSTILE_SEED', '')}")
    before = listing(tmp_path, scratch)
    problems: dict[str, str] = {}
    for _ in range(RUNS):
        damage(scratch)
        shutil.rmtree(scratch / "place", ignore_errors=True)
        shutil.copytree(place, scratch / "place")
        arguments = command_line(rng, name)
        problem = problem_of(arguments, monkeypatch)
        if problem:
            shown = " ".join(ascii(token)[:60] for token in arguments)
            problems.setdefault(problem[:80], f"{problem}\n    thresher {shown}")
    assert not problems, "\n".join(problems.values())
    home = tmp_path / "inside" / "home"
    shutil.rmtree(home, ignore_errors=True)
    assert {p for p in listing(tmp_path, scratch) - before if not p.startswith(str(home))} == set()
