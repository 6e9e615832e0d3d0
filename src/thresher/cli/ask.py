"""`thresher ask`: a query through every stage the index supports, and what each stage did."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.checks import printable
from thresher.cli.output import JsonOption, WhereOption, console, emit_json, grouped, note, say, table
from thresher.cli.shard_options import ShardOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.text import Text

    from thresher.build.recipe import AskStep
    from thresher.pipeline import Answer, AnswerPassage, Pipeline
    from thresher.search.any_index import AnyIndex

Deadline = Annotated[
    float | None,
    typer.Option(min=0, help="Maximum milliseconds of the answer; stages that do not fit are skipped."),
]
Tokens = Annotated[int | None, typer.Option(min=0, help="Maximum tokens of all passages together, titles included.")]
Threshold = Annotated[
    str, typer.Option("-t", "--threshold", help="Sentence threshold: conservative, balanced, strong, or 0 to 1.")
]
Confidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Return no passage if no sentence scores at least this.")
]
MinScore = Annotated[
    float | None, typer.Option(min=0, max=1, help="Return passages that are relevant with this probability.")
]
Precision = Annotated[
    float | None, typer.Option(min=0, max=1, help="Return as many passages as have this expected precision.")
]


_RANKER = "thresher-context"
"""What `--rerank` runs where the settings name no reranker."""


@grouped
def ask(
    directory: Annotated[Path, typer.Argument(metavar="INDEX", help="The index, or the file that lists its shards.")],
    query: Annotated[list[str], typer.Argument(help="The query; several words need no quotes.")],
    k: Annotated[int | None, typer.Option("-k", min=1, help="Number of passages.")] = None,
    max_context_tokens: Tokens = None,
    deadline_ms: Deadline = None,
    read: Annotated[int | None, typer.Option(min=1, help="Maximum passages that the reranker reads.")] = None,
    threshold: Threshold = "",
    min_confidence: Confidence = None,
    min_score: MinScore = None,
    precision: Precision = None,
    vectors: Annotated[bool, typer.Option("--vectors/--no-vectors", help="Interpolate with vectors.")] = True,
    rerank: Annotated[
        bool | None,
        typer.Option("--rerank/--no-rerank", help="Rerank the first passages, by default as the recipe says."),
    ] = None,
    context: Annotated[bool, typer.Option("--context/--no-context", help="Select sentences.")] = True,
    recipe: Annotated[str, typer.Option(help="Recipe whose [ask] table is used instead of the index's own.")] = "",
    where: WhereOption = None,
    on_error: Annotated[str, typer.Option(help="If a stage fails: degrade (skip it) or raise.")] = "",
    *,
    shards: ShardOptions,
    json: JsonOption = False,
) -> None:
    """Answer a query with passages, the sentences of them to read, and what each stage did.

    The stages search, interpolate, rerank and select run as far as the index and the installed extras allow; a
    stage that cannot run is named with the reason. In a terminal, dropped sentences are dim.

    \b
    Examples:
      thresher ask my-index "what is wifi" -k 3 --max-context-tokens 400
      thresher ask my-index "what is wifi" --read 20 --min-score 0.5 --json
    """
    from thresher.distributed.door import open_path
    from thresher.files import cache_folder
    from thresher.pipeline import Pipeline

    started = time.perf_counter()
    index = open_path(directory, shards.reaching)
    given = {"read": read, "threshold": _threshold(threshold), "on_error": on_error, "min_score": min_score}
    given |= {"min_confidence": min_confidence, "deadline_ms": deadline_ms, "precision": precision}
    settings = _settings(index, recipe, given, rerank=bool(min_score or precision) if rerank is None else rerank)
    pipeline = Pipeline.open(
        index,
        settings=settings,
        vectors="auto" if vectors else None,
        rerank=None if rerank is False else "auto",
        context="auto" if context else None,
        cache=cache_folder(),
    )
    warmed, opening = _warmed(pipeline), time.perf_counter() - started
    answer = pipeline.ask(" ".join(query), k, max_context_tokens=max_context_tokens, where=where)
    if json:
        emit_json({**answer.as_json(), "open_seconds": round(opening, 3)})
        return
    show_answer(answer)
    show_stages(answer)
    say(f"\nopened{warmed} in {opening:.1f} s, answered in {answer.milliseconds:.0f} ms{_incomplete(answer)}")
    show_missing(pipeline)


def _settings(index: AnyIndex, recipe: str, given: Mapping[str, object], *, rerank: bool = False) -> AskStep:
    """The `[ask]` table in use, with the command line's settings in place of its own; `rerank` needs a ranker."""
    from thresher.pipeline.open import settings_of

    settings = settings_of(recipe or None, index)
    changed = {key: value for key, value in given.items() if value not in (None, "")}
    if rerank and not settings.rerank:
        changed["rerank"] = _RANKER
    try:
        return type(settings).model_validate({**settings.model_dump(), **changed}) if changed else settings
    except ValueError as err:
        options = ", ".join(f"--{key.replace('_', '-')} {value}" for key, value in changed.items())
        raise typer.BadParameter(f"{options}: {err}") from None


def _warmed(pipeline: Pipeline) -> str:
    """Warm up a pipeline that has a deadline; says so."""
    if not pipeline.deadline_ms:
        return ""
    pipeline.warm_up()
    return " and warmed up"


def _threshold(given: str) -> float | str:
    try:
        return float(given)
    except ValueError:
        return given


def _incomplete(answer: Answer) -> str:
    return f"; incomplete (deadline reached): {', '.join(answer.skipped)}" if answer.skipped else ""


def show_answer(answer: Answer, *, passages: int | None = None) -> None:
    """Print the passages: kept sentences bright, dropped ones dim, or left out where colours do not show."""
    from rich.text import Text

    out = console()
    for passage in answer.passages[:passages]:
        out.print(_head(passage))
        body = _bright_and_dim(passage) if sys.stdout.isatty() else Text(printable(_kept(passage)))
        out.print(body if body.plain.strip() else Text("(no sentence is relevant)", style="dim"))
        out.print()
    if answer.withheld:
        out.print("no passage answers the query with enough confidence (min_confidence)")
    elif not answer.passages and any("left_out" in stage.counts for stage in answer.stages):
        out.print("no passage reaches the threshold (min_score, precision)")
    elif not answer.passages:
        out.print("no passages found: no passage contains a term of the query")


def _head(passage: AnswerPassage) -> Text:
    from rich.text import Text

    from thresher.cli.search import duplicates

    name = "" if passage.title in ("", passage.docno) else f"  {passage.title}"
    sentences = passage.sentences
    facts = [f"{signal} {score:.2f}" for signal, score in passage.scores.items() if signal in ("search", "rerank")]
    if passage.probability is not None:
        facts.append(f"relevant with probability {passage.probability:.2f}")
    if passage.confidence is not None:
        facts.append(f"confidence {passage.confidence:.2f}")
    count = len(sentences.keep)
    facts.append(f"{sum(sentences.keep)} of {count} sentence{'' if count == 1 else 's'}")
    if passage.tier == 2:
        facts.append("second tier")
    if passage.aliases:
        facts.append(duplicates(passage.aliases))
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


def show_stages(answer: Answer) -> None:
    """Print what each stage did and how long it took."""
    from thresher.cli.info import shown

    usage = {stage.stage: stage for stage in answer.usage.stages}
    rows = []
    for report in answer.stages:
        used = usage.get(report.stage)
        counts = ", ".join(f"{shown(value)} {name}" for name, value in used.counts.items()) if used else ""
        reason = f"{report.outcome}: {report.reason}" if report.outcome != "done" else report.reason
        milliseconds = f"{used.seconds * 1000:.1f}" if used else "-"
        rows.append((report.stage, milliseconds, "; ".join(part for part in (reason, counts) if part)))
    table(["stage", "ms", ""], rows, numeric=["ms"])


def show_missing(pipeline: Pipeline) -> None:
    """Print the stages that are not available although they were not turned off, and what they need."""
    from thresher.pipeline.open import NOT_ASKED

    for stage, reason in pipeline.off.items():
        if reason != NOT_ASKED:
            note(f"without {stage}: {reason}")
