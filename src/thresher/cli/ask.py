"""`thresher ask`: a query through the whole cascade, and what each stage did for it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, console, emit_json, note, printable, say, table

if TYPE_CHECKING:
    from rich.text import Text

    from thresher.pipeline import Answer, AnswerPassage, Pipeline


def ask(
    directory: Annotated[Path, typer.Argument(help="The index.")],
    query: Annotated[list[str], typer.Argument(help="The query; several words need no quotes.")],
    k: Annotated[int | None, typer.Option("-k", min=1, help="How many passages.")] = None,
    max_context_tokens: Annotated[
        int | None, typer.Option(min=0, help="Tokens that all passages together may cost, titles included.")
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(min=0, help="Milliseconds the answer may take; what does not fit is left out.")
    ] = None,
    read: Annotated[int | None, typer.Option(min=1, help="Passages that the ranker reads at most.")] = None,
    threshold: Annotated[
        str, typer.Option("-t", "--threshold", help="Sentences: conservative, balanced, strong, or 0 to 1.")
    ] = "",
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="Interpolate with the vectors of the index.")
    ] = True,
    rank: Annotated[bool, typer.Option("--rank/--no-rank", help="Rank the head with a model.")] = True,
    context: Annotated[bool, typer.Option("--context/--no-context", help="Choose sentences.")] = True,
    recipe: Annotated[str, typer.Option(help="A recipe whose [ask] table holds, in place of the index's own.")] = "",
    on_error: Annotated[
        str, typer.Option(help="degrade: a stage that fails is left out and said so; raise: its error is shown.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Answer a query: passages, the sentences of them worth reading, and what each stage did and took.

    Searching, interpolation with vectors, ranking and sentence selection run as far as the index and what is installed
    allow; a stage that cannot run is named with the reason. In a terminal, dropped sentences are dim.

    \b
    Examples:
      thresher ask my-index how do I ignore NaN when taking a median
      thresher ask my-index "what is wifi" -k 3 --max-context-tokens 400
      thresher ask my-index "what is wifi" --deadline-ms 150 --json
      thresher ask my-index "what is wifi" --no-rank --no-context
    """
    from thresher.pipeline import Pipeline

    started = time.perf_counter()
    settings = _settings(directory, recipe, {"read": read, "threshold": _threshold(threshold), "on_error": on_error})
    pipeline = Pipeline(
        directory,
        settings=settings,
        vectors="auto" if vectors else None,
        rerank="auto" if rank else None,
        context="auto" if context else None,
    )
    opening = time.perf_counter() - started
    answer = pipeline.ask(" ".join(query), k, max_context_tokens=max_context_tokens, deadline_ms=deadline_ms)
    if json:
        emit_json({**answer.as_json(), "open_seconds": round(opening, 3)})
        return
    show_answer(answer)
    show_ledger(answer)
    say(f"\nopened in {opening:.1f} s, answered in {answer.milliseconds:.0f} ms{_exactness(answer)}")
    missing(pipeline)


def _settings(directory: Path, recipe: str, given: dict[str, Any]) -> Any:
    """The `[ask]` table that holds, with what the command line says put over it."""
    from thresher.pipeline.pipeline import settings_of

    settings = settings_of(recipe or None, directory)
    changed = {key: value for key, value in given.items() if value not in (None, "")}
    try:
        return type(settings).model_validate({**settings.model_dump(), **changed}) if changed else settings
    except ValueError as err:
        told = ", ".join(f"--{key.replace('_', '-')} {value}" for key, value in changed.items())
        raise typer.BadParameter(f"{told}: {err}") from None


def _threshold(given: str) -> float | str:
    try:
        return float(given)
    except ValueError:
        return given


def _exactness(answer: Answer) -> str:
    left_out = ", ".join(answer.skipped)
    return f"; for want of time without all of: {left_out}" if left_out else ""


def show_answer(answer: Answer, *, passages: int | None = None) -> None:
    """Print the passages: kept sentences bright, dropped ones dim, or not at all where colours do not show."""
    from rich.text import Text

    out = console()
    for passage in answer.passages[:passages]:
        out.print(_head(passage))
        body = _bright_and_dim(passage) if sys.stdout.isatty() else Text(printable(_kept(passage)))
        out.print(body if body.plain.strip() else Text("(no sentence of it helps)", style="dim"))
        out.print()
    if not answer.passages:
        out.print("no passage shares a term with the question")


def _head(passage: AnswerPassage) -> Text:
    from rich.text import Text

    name = "" if passage.title in ("", passage.docno) else f"  {passage.title}"
    sentences = passage.sentences
    facts = [f"{stage} {score:.2f}" for stage, score in passage.scores.items() if stage in ("search", "rank")]
    if passage.confidence is not None:
        facts.append(f"confidence {passage.confidence:.2f}")
    facts.append(f"{sum(sentences.keep)} of {len(sentences.keep)} sentences")
    if passage.tier == 2:
        facts.append("second tier")
    head = Text.assemble(f"{passage.rank:>2}  ", (printable(passage.docno), "bold"), printable(name))
    return head.append(f"  {', '.join(facts)}", style="cyan")


def _bright_and_dim(passage: AnswerPassage) -> Text:
    from rich.text import Text

    one, out, here = passage.sentences, Text(), 0
    for span, keep in zip(one.sentences, one.keep, strict=True):
        out.append(printable(one.original[here : span.start]), style="dim")
        out.append(printable(one.original[span.start : span.end]), style="" if keep else "dim")
        here = span.end
    return out.append(printable(one.original[here:]), style="dim")


def _kept(passage: AnswerPassage) -> str:
    return " […] ".join(passage.original[span.start : span.end] for span in passage.spans)


def show_ledger(answer: Answer) -> None:
    """Print what each stage did and took."""
    from thresher.cli.info import shown

    accounts = {account.stage: account for account in answer.usage.stages}
    rows = []
    for report in answer.stages:
        account = accounts.get(report.stage)
        counts = ", ".join(f"{shown(value)} {name}" for name, value in account.counts.items()) if account else ""
        said = f"{report.outcome}: {report.reason}" if report.outcome not in ("done", "off") else ""
        milliseconds = f"{account.seconds * 1000:.1f}" if account else "-"
        if report.outcome != "off":
            rows.append((report.stage, milliseconds, "; ".join(part for part in (said, counts) if part)))
    table(["stage", "ms", ""], rows, numeric=["ms"])


def missing(pipeline: Pipeline) -> None:
    """Say which stages are not there though nobody turned them off, and what they need."""
    from thresher.pipeline.parts import NOT_ASKED

    for stage, reason in pipeline.off.items():
        if reason != NOT_ASKED:
            note(f"without {stage}: {reason}")
