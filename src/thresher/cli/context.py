"""`thresher context`: prune passages to the sentences that help with a query; `context train` for your own data."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from thresher.cli.output import JsonOption, console, echo, emit_json, note, progress_wanted, table, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from thresher.context import PrunedPassage
    from thresher.records import Passage

_BATCH = 16
"""Queries of a batch that the model reads at once."""
_HELP = {"help_option_names": ["-h", "--help"]}


class _PruneByDefault(TyperGroup):
    """`thresher context "query" FILE` means `thresher context prune "query" FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["prune", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PruneByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=_HELP,
    help="Prune passages to the sentences that help with a query (the default); train a pruner.",
    epilog='Example: thresher context "when was it founded" page.txt notes.md --threshold strong',
)

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="thresher-context, lexical, or a model: one made by `context train`, Provence, XProvence or OpenProvence.",
    ),
]

JsonLines = Annotated[
    Path | None,
    typer.Option("--jsonl", help='Many queries: lines {"query": ..., "passages": [text or record, ...]}; - for stdin.'),
]
HtmlPage = Annotated[Path | None, typer.Option("--html", help="Also write an HTML page that shows what was kept.")]


@app.command("prune", context_settings=_HELP)
def prune(
    query: Annotated[str, typer.Argument(help='The query. With --jsonl: left out, or "-".')] = "-",
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Text files, one passage each, or .jsonl files of passages. Default: standard input."),
    ] = None,
    jsonl: JsonLines = None,
    model: Model = "thresher-context",
    threshold: Annotated[
        str, typer.Option("--threshold", "-t", help="conservative, balanced, strong, or a number from 0 to 1.")
    ] = "balanced",
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Maximum tokens of all passages of a query together.")
    ] = None,
    min_keep: Annotated[
        int, typer.Option("--min-keep", help="Minimum number of sentences to keep of each passage.")
    ] = 0,
    keep_title: Annotated[bool, typer.Option("--title/--no-title", help="Keep the titles of passages.")] = True,
    ellipsis: Annotated[str, typer.Option("--ellipsis", help="Text that replaces what was dropped.")] = "",
    html: HtmlPage = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Prune passages to the sentences that help with a query.

    In a terminal, kept sentences are bright and dropped ones dim. With --jsonl, one JSON line a query.

    \b
    Examples:
      thresher context "who wrote it" page.txt
      thresher context "who wrote it" retrieved.jsonl --threshold strong --html kept.html
      thresher context --jsonl batch.jsonl > pruned.jsonl
    """
    from thresher.context import ContextPruner
    from thresher.context.scorers import SentenceScorer

    if jsonl is None and query == "-":
        raise typer.BadParameter("give a query, or --jsonl FILE for many")
    pruner = ContextPruner(SentenceScorer.from_name(model, device=device))
    how: dict[str, Any] = {
        "threshold": _threshold(threshold), "max_tokens": max_tokens, "min_keep": min_keep, "keep_title": keep_title,
        "ellipsis": ellipsis,
    }  # fmt: skip
    if jsonl is not None:
        _prune_lines(partial(pruner.prune_batch, **how), jsonl)
        return
    passages, marks = _passages(files or [])
    pruned = pruner.prune(query, passages, **how)
    if html is not None:
        from thresher.context.html import html_page
        from thresher.durable import write_atomic

        write_atomic(html, html_page(query, pruned))
        note(f"wrote {html}")
    if json:
        emit_json({"query": query, "passages": [_record(p, mark) for p, mark in zip(pruned, marks, strict=True)]})
    else:
        _show(pruned)


def _show(pruned: Sequence[PrunedPassage]) -> None:
    """Kept sentences bright and dropped ones dim in a terminal, else what is kept."""
    from thresher.context.html import terminal_text
    from thresher.context.pruned import join_passages

    if sys.stdout.isatty():
        for passage in pruned:
            console().print(terminal_text(passage))
    else:
        echo(join_passages(pruned))


def _threshold(given: str) -> float | str:
    try:
        return float(given)
    except ValueError:
        return given


def _passages(files: list[Path]) -> tuple[list[str | Passage], list[int]]:
    """The passages of files, and what to add to spans so that they are of the file: a byte order mark counts."""
    from thresher.corpus import open_corpus
    from thresher.errors import InputError
    from thresher.files import STDIN, opened
    from thresher.records import Passage

    out: list[str | Passage] = []
    marks: list[int] = []
    for path in files or [Path(STDIN)]:
        if any(path.name.lower().endswith(end) for end in (".jsonl", ".jsonl.gz", ".jsonl.zst", ".gz")):
            out += open_corpus(path)
        else:
            if str(path) == STDIN:
                content = sys.stdin.buffer.read()
            else:
                with opened(path) as stream:
                    content = stream.read()
            try:
                text = content.decode()
            except UnicodeDecodeError as err:
                line = content.count(b"\n", 0, err.start) + 1
                raise InputError(f"not UTF-8 text ({err.reason}); convert it first", str(path), line) from None
            marks += [0] * (len(out) - len(marks)) + [int(text.startswith("\ufeff"))]
            text = text.removeprefix("\ufeff")
            out.append(Passage("_".join(path.name.split()) or "-", text) if files else text)
    return out, marks + [0] * (len(out) - len(marks))


def _record(passage: PrunedPassage, mark: int = 0) -> dict[str, object]:
    return {
        "docno": passage.docno,
        "title": passage.title,
        "text": passage.text,
        "spans": [[span.start + mark, span.end + mark] for span in passage.spans],
        "sentences": [
            {"start": s.start + mark, "end": s.end + mark, "score": round(x, 6), "kept": k}
            for s, x, k in zip(passage.sentences, passage.scores, passage.keep, strict=True)
        ],
        "relevance": round(passage.relevance, 6),
        "threshold": passage.threshold,
        "tokens": passage.tokens,
        "saved_characters": round(passage.saved_characters, 6),
        "saved_tokens": round(passage.saved_tokens, 6),
    }


def _prune_lines(prune: Callable[..., list[list[PrunedPassage]]], path: Path) -> None:
    """Prune the queries of a file, `_BATCH` at a time, and print a line for each."""
    from tqdm import tqdm

    from thresher.errors import InputError
    from thresher.files import read_json_lines

    with closing(cast("Generator[tuple[int, dict[str, Any]], None, None]", read_json_lines(path))) as lines:
        reading = tqdm(lines, disable=not progress_wanted(), unit="query")
        while rows := list(islice(reading, _BATCH)):
            asked = []
            for number, row in rows:
                query, given = row.get("query", row.get("question")), row.get("passages")
                if not isinstance(query, str) or not isinstance(given, list):
                    problem = 'expected {"query": string, "passages": [string or record, ...]}'
                    raise InputError(problem, str(path), number)
                asked.append((query, [_given(one, place, path, number) for place, one in enumerate(given)]))
            for (query, _), pruned in zip(asked, prune(asked), strict=True):
                out = {"query": query, "passages": [_record(p) for p in pruned]}
                sys.stdout.write(to_json(out) + "\n")


def _given(one: object, place: int, path: Path, number: int) -> str | Passage:
    """A passage of a batch: a string, or a record."""
    from thresher.errors import InputError
    from thresher.records import Passage

    if isinstance(one, str):
        return one
    if not isinstance(one, dict) or not isinstance(one.get("text"), str):
        raise InputError(f"passage {place} is neither a string nor a record with `text`", str(path), number)
    docno, title = one.get("docno", one.get("id", place)), one.get("title")
    if not isinstance(docno, str | int) or not (title is None or isinstance(title, str)):
        raise InputError(f"passage {place}: `docno` and `title` must be strings", str(path), number)
    try:
        return Passage(str(docno), one["text"], title or "")
    except InputError as err:
        raise InputError(f"passage {place}: {err}", str(path), number) from None


Labelled = Annotated[
    Path,
    typer.Argument(
        help='JSON lines {"query", "passage", "answers": [[start, end], ...]}, in code points of the passage (no '
        "answers: nothing in it helps), or a file in the format of SQuAD 2.0 (.json)."
    ),
]


@app.command("train", context_settings=_HELP)
def train(
    labelled: Labelled,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the new model.")],
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps.")] = 500,
    start: Annotated[
        str, typer.Option("--start", help="Model to start from: thresher-context, a directory, or none.")
    ] = "thresher-context",
    rate: Annotated[float, typer.Option("--rate", help="Learning rate of the adapters.")] = 3e-4,
    seed: Annotated[int, typer.Option("--seed", help="Random seed for the order of the examples.")] = 7,
    json: JsonOption = False,
) -> None:
    """Train a pruner on your own labelled queries, and calibrate its presets on a part held out.

    An interrupted run continues when the same command is run again. Needs a checkout of thresher; the wheel holds no
    training code. Silver labels can come from any language model: see `training.context.judge.label`.

    Example: thresher context train mine.jsonl -o my-pruner
    """
    from thresher.context.calibrate import read_labelled
    from thresher.errors import MissingExtraError

    try:  # how the shipped weights are made is in the repository and not in the wheel
        recipe = import_module("training.context.recipe")
    except ModuleNotFoundError as err:
        if not (err.name or "").startswith("training"):
            raise
        raise MissingExtraError(
            "training needs a checkout of thresher: git clone https://github.com/thresher-search/thresher, then "
            "pip install -e '.[train,embedded]' in it"
        ) from err
    result = recipe.train_on(read_labelled(labelled), output, steps=steps, start=start, rate=rate, seed=seed,
                      progress=progress_wanted())  # fmt: skip
    if json:
        emit_json(
            {"path": str(output), "presets": {n: {k: getattr(c, k) for k in c.__slots__} for n, c in result.items()}}
        )
        return
    rows = [(n, f"{c.threshold:.4f}", f"{c.answer_kept:.1%}", f"{c.pruned:.0%}", c.queries) for n, c in result.items()]
    table(("preset", "threshold", "answers kept", "pruned", "queries"), rows)
