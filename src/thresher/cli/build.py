"""`thresher build`: an index from a recipe or a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thresher.cli.output import JsonOption, emit_json, is_quiet, progress_wanted, table

if TYPE_CHECKING:
    from thresher.build.recipe import Recipe
    from thresher.build.stream import BuildReport


def build(
    source: Annotated[
        str,
        typer.Argument(
            help="A recipe (TOML file, or a shipped name), or a corpus: .jsonl[.gz|.zst], .tsv, .csv, .parquet, "
            "TREC text, a BEIR folder, ir_datasets:ID, or `installed` for the documentation installed with Python."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe for the corpus given as SOURCE.")] = "",
    corpus: Annotated[str, typer.Option("--corpus", help="Corpus for the recipe given as SOURCE.")] = "",
    id_field: Annotated[str, typer.Option(help="Field that holds the docno.")] = "",
    text_field: Annotated[str, typer.Option(help="Field that holds the text.")] = "",
    title_field: Annotated[str, typer.Option(help="Field that holds the title.")] = "",
    format: Annotated[str, typer.Option(help="jsonl, tsv, csv, trec, parquet or beir, where no suffix says it.")] = "",
    split_tokens: Annotated[int, typer.Option(min=0, help="Split documents into passages of so many tokens.")] = 0,
    split_overlap: Annotated[int, typer.Option(min=0, help="Tokens that neighbouring passages may share.")] = 0,
    on_error: Annotated[
        Literal["raise", "skip"] | None,
        typer.Option(help="raise (the default): stop at a bad record; skip: leave it out and count it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index that stands there.")] = False,
    json: JsonOption = False,
) -> None:
    """Build an index: read the corpus, weight its terms, write postings and texts.

    The directory appears when it is whole; a killed build leaves what stood there before.

    \b
    Examples:
      thresher build corpus.jsonl -o my-index
      thresher build corpus.jsonl.gz -o my-index --id-field docid --text-field body
      thresher build books.jsonl -o my-index --split-tokens 200 --split-overlap 40 --on-error skip
      thresher build bm25 --corpus corpus.tsv -o my-index
      thresher build indexes/bm25.toml --corpus corpus.jsonl -o indexes/built/mine
    """
    from thresher.build.stream import build_index

    chosen, origin = _resolve(source, recipe, corpus)
    fields = {
        "format": format,
        "id_field": id_field,
        "text_field": text_field,
        "title_field": title_field,
        "split_tokens": split_tokens,
        "split_overlap": split_overlap,
        "on_error": on_error,
    }
    given: dict[str, Any] = {key: value for key, value in fields.items() if value}
    if given:
        chosen = type(chosen).model_validate({**chosen.model_dump(), "corpus": {**chosen.corpus.model_dump(), **given}})
    report = build_index(output, origin, chosen, overwrite=overwrite, progress=progress_wanted() and not json)
    if json:
        emit_json(report.as_json())
    else:
        show_build(report)


def show_build(report: BuildReport) -> None:
    """Print what a build made and what it took, unless `-q` was given."""
    from thresher.cli.info import shown

    if is_quiet():
        return
    table(
        ["stage", "seconds", ""],
        [
            (stage.stage, f"{stage.seconds:.2f}", ", ".join(f"{shown(v)} {k}" for k, v in stage.counts.items()))
            for stage in report.usage.stages
        ],
        numeric=["seconds"],
    )
    for reason, count in report.skipped.items():
        typer.echo(f"skipped {count:,} {'record' if count == 1 else 'records'}: {reason}")
    total = sum(file.stat().st_size for file in report.path.rglob("*") if file.is_file())
    counts = report.counts
    typer.echo(
        f"{report.path}: {counts['passages']:,} passages, {counts['postings']:,} postings, "
        f"{counts['terms']:,} terms, {total:,} bytes"
    )


def _resolve(source: str, recipe: str, corpus: str) -> tuple[Recipe, str]:
    """Which of recipe and corpus SOURCE is, and the other one."""
    from thresher.build.recipe import Recipe, load_recipe, shipped
    from thresher.errors import ConfigError

    is_recipe = source.endswith(".toml") or (source in shipped("indexes") and not Path(source).exists())
    if is_recipe:
        if recipe:
            raise ConfigError(f"{source} is a recipe already; --recipe {recipe} is one too many")
        chosen = load_recipe(source)
        origin = corpus or chosen.corpus.source
        if not origin:
            raise ConfigError(f"the recipe {source} names no corpus; add --corpus FILE, or corpus.source to it")
        return chosen, origin
    if corpus:
        raise ConfigError(f"{source} is taken as a corpus; --corpus {corpus} is one too many")
    return (load_recipe(recipe) if recipe else Recipe()), source
