"""`thresher build`: an index from a recipe or a corpus."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thresher.cli.certify import MARGIN, certify_built, finish
from thresher.cli.output import (
    JsonOption,
    MemoryOption,
    echo,
    emit_json,
    grouped,
    is_quiet,
    progress_wanted,
    skipped_line,
    table,
)

if TYPE_CHECKING:
    from thresher.build.recipe import Recipe
    from thresher.build.report import BuildReport


_SOURCE = (
    "A recipe (TOML file, or a shipped name), or a corpus: a folder of documents (Markdown, HTML, "
    "reStructuredText, text, source; PDF and DOCX with the extra `files`), .jsonl[.gz|.zst], .tsv, .csv, "
    ".parquet, TREC text, a BEIR folder, - for standard input, ir_datasets:ID, or `installed` for the "
    "documentation installed with Python. A folder that itself has files of records (.jsonl, .tsv; .json and .csv "
    "if there is no document) is read as records, any other as documents at any depth, but for what is hidden, "
    "named by a .gitignore, in node_modules, __pycache__, _build, _static, _sources, or marked as an environment "
    "or cache; --format files or jsonl decides otherwise."
)
_RECIPE = (
    "Recipe for the corpus given as SOURCE. By default `default`, the best shipped one, where the extra `embedded` is "
    "installed; `bm25` indexes words alone, and needs no model."
)
_SPLIT = (
    "Split documents into passages of at most N tokens; 0: never. By default records are split where an encoder would "
    "not read long ones to their end, and folders of documents always, along their headings."
)


CORPUS_FIELDS = ("format", "id_field", "text_field", "title_field", "split_tokens", "split_overlap", "on_error")


@dataclass(frozen=True, slots=True)
class Reading:
    """How the corpus is read."""

    id_field: Annotated[str, typer.Option(help="Field that holds the docno.")] = ""
    text_field: Annotated[str, typer.Option(help="Field that holds the text.")] = ""
    title_field: Annotated[str, typer.Option(help="Field that holds the title.")] = ""
    format: Annotated[
        str, typer.Option(help="jsonl, tsv, csv, trec, parquet, beir or files, if the name does not say.")
    ] = ""
    split_tokens: Annotated[int | None, typer.Option(min=0, help=_SPLIT)] = None
    split_overlap: Annotated[int, typer.Option(min=0, help="Tokens that neighbouring passages may share.")] = 0
    on_error: Annotated[
        Literal["raise", "skip"] | None,
        typer.Option(help="raise (the default): stop at a bad record; skip: leave it out and count it."),
    ] = None

    def given(self) -> dict[str, object]:
        """What was given, as fields of a recipe's `[corpus]` table."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


@dataclass(frozen=True, slots=True)
class Certified:
    """What to certify the new index by."""

    certify: Annotated[
        Path | None,
        typer.Option(metavar="QUERIES", help="Certify the index with these queries (TSV): see `thresher certify`."),
    ] = None
    qrels: Annotated[Path | None, typer.Option(help="With --certify: TREC judgments.")] = None
    baseline: Annotated[
        Path | None, typer.Option(help="With --certify: an unpruned index. By default the first tier against both.")
    ] = None
    margin: Annotated[float, typer.Option(help="With --certify: the smallest loss that would matter.")] = MARGIN
    measures: Annotated[str, typer.Option(help="With --certify: measures, separated by blanks.")] = "nDCG@10"
    pipelines: Annotated[str, typer.Option(help="With --certify: as in `thresher certify`.")] = ""

    def check(self, recipe: Recipe, decision: Path | None) -> None:
        """Refuse before the build what could not be certified after it."""
        from thresher.errors import ConfigError

        if self.certify is None and (self.qrels is not None or self.baseline is not None):
            raise ConfigError("--qrels and --baseline say what to certify by; name the queries with --certify QUERIES")
        if self.certify is None or self.baseline is not None or decision is not None:
            return
        if recipe.prune is None or recipe.prune.rest != "tier-2":
            raise ConfigError(
                "there is nothing to compare the index with: a recipe whose [prune] keeps pruned passages in a second "
                "tier compares its first tier with both; otherwise name an unpruned index with --baseline"
            )


@dataclass(frozen=True, slots=True)
class Sharded:
    """Whether the index is built in shards, and by whom."""

    shards: Annotated[
        int, typer.Option(min=0, help="Build in N shards, by --executor; each is a segment. 0: in one piece.")
    ] = 0
    executor: Annotated[
        str,
        typer.Option(
            metavar="WHO",
            help="With shards: local:WORKERS (processes of this machine), folder:PATH (every process that runs this "
            "command on that folder), or ray[:ADDRESS]. Default: local; 16 shards.",
        ),
    ] = ""
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With shards: show the plan, and build nothing.")] = False

    @property
    def wanted(self) -> bool:
        """Whether to build in shards."""
        return bool(self.shards or self.executor or self.dry_run)

    def check(self, *given: Path | None) -> None:
        """Refuse what belongs to a corpus in one piece.

        Raises:
            ConfigError: encoded passages, a decision or vectors are given.
        """
        from thresher.errors import ConfigError

        names = [name for name, path in zip(("--encoded", "--decision", "--vectors"), given, strict=True) if path]
        if self.wanted and names:
            raise ConfigError(
                f"{names[0]} belongs to a corpus in one piece; a build in shards prunes and encodes itself: leave it "
                "out, or build without --shards and --executor"
            )

    def build(
        self,
        target: Path,
        source: str | None,
        recipe: Recipe,
        *,
        overwrite: bool,
        device: str,
        memory_gb: float | None,
    ) -> BuildReport:
        """Build in shards."""
        from thresher.distributed.building import SHARDS, build_shards

        return build_shards(
            target, source, recipe, shards=self.shards or SHARDS, executor=self.executor or "local",
            overwrite=overwrite, device=device, memory_gb=memory_gb, progress=progress_wanted(),
        )  # fmt: skip

    def show_plan(self, target: Path, source: str | None, recipe: Recipe, *, json: bool) -> None:
        """Print what a build in shards would do."""
        from thresher.distributed.building import SHARDS, plan_shards

        kind, _, argument = self.executor.partition(":")
        work = argument if kind == "folder" else None
        plan = plan_shards(target, source, recipe, shards=self.shards or SHARDS, work=work)
        if json:
            emit_json(plan.as_json())
            return
        table(["stage", "tasks"], [(stage, f"{count:,}") for stage, count in plan.stages], numeric=["tasks"])
        for file in plan.counted:
            echo(f"{file}: its records are counted first, since it cannot be cut at bytes")
        for number, part in enumerate(plan.parts, 1):
            ranges = ", ".join(
                piece.file + (f" ({piece.first:,} to {piece.after:,})" if piece.after >= 0 else "") for piece in part
            )
            echo(f"shard {number}: {ranges}")
        echo(f"{plan.target}: unfinished work goes to {plan.work}")


@grouped
def build(
    reading: Reading,
    certified: Certified,
    sharded: Sharded,
    source: Annotated[str, typer.Argument(help=_SOURCE)] = "",
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write.")],
    recipe: Annotated[str, typer.Option("--recipe", help=_RECIPE)] = "",
    corpus: Annotated[str, typer.Option("--corpus", help="Corpus for the recipe given as SOURCE.")] = "",
    encoded: Annotated[
        Path | None,
        typer.Option(help="Passages encoded before: from `thresher encode`, or Anserini JSON, .parquet or .npz."),
    ] = None,
    query_encoder: Annotated[str, typer.Option(help="Encoder for queries to passages of another system.")] = "",
    decision: Annotated[Path | None, typer.Option(help="Apply this decision of `thresher prune -o`.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Store these vectors of `thresher encode --dense`.")] = None,
    device: Annotated[str, typer.Option(help="Device of the recipe's models: auto, cpu, cuda, ...")] = "auto",
    memory_gb: MemoryOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing index.")] = False,
    json: JsonOption = False,
) -> None:
    """Build an index: read the corpus once, weight its terms, write postings, texts and vectors.

    The directory appears when it is complete; an interrupted build leaves the previous index intact. With --certify the
    exit code is 3 where the index is built and its claim is not shown.

    \b
    Examples:
      thresher build docs/ -o my-index
      thresher build corpus.jsonl --recipe bm25 -o my-index
      zcat corpus.gz | thresher build - --format jsonl -o my-index
      thresher build books.jsonl -o my-index --split-tokens 200 --split-overlap 40 --on-error skip
      thresher build corpus.jsonl --recipe bm25 -o my-index --memory-gb 2
      thresher build corpus.jsonl --encoded encoded --vectors vectors --decision decision -o my-index
      thresher build corpus.jsonl -o my-index --shards 16 --executor local:4
      thresher build pruned.toml -o my-index --certify queries.tsv --qrels qrels.txt --margin .02
    """
    from thresher.build.stream import build_index

    chosen, origin = _resolve(source, recipe, corpus, encoded)
    certified.check(chosen, decision)
    sharded.check(encoded, decision, vectors)
    recipe_given = _with_options(chosen, reading.given(), query_encoder)
    if sharded.dry_run:
        return sharded.show_plan(output, origin, recipe_given, json=json)
    if sharded.wanted:
        report = sharded.build(output, origin, recipe_given, overwrite=overwrite, device=device, memory_gb=memory_gb)
    else:
        report = build_index(
            output, origin, recipe_given, encoded=encoded, decision=decision, vectors=vectors, overwrite=overwrite,
            device=device, memory_gb=memory_gb, progress=progress_wanted() and not json,
        )  # fmt: skip
    made = None
    if certified.certify is not None:
        made = certify_built(output, certified, device)
    if json:
        emit_json(report.as_json() | ({} if made is None else {"certificate": made.as_json()}))
    else:
        show_build(report)
    return finish(made, json=json) if made is not None else None


def _with_options(recipe: Recipe, fields: dict[str, object], query_encoder: str) -> Recipe:
    """The recipe with what the command line says of the corpus and of queries."""
    from thresher.build.recipe import checked

    settings = recipe.model_dump()
    settings["corpus"].update(fields)
    settings["encode"].update({"query_encoder": query_encoder} if query_encoder else {})
    return checked(type(recipe), settings, "options")


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
        echo(skipped_line(reason, count))
    total = sum(file.stat().st_size for file in report.path.rglob("*") if file.is_file())
    counts = report.counts
    echo(
        f"{report.path}: {counts['passages']:,} passages, {counts['postings']:,} postings, "
        f"{counts['terms']:,} terms, {total:,} bytes"
    )


def _resolve(source: str, recipe: str, corpus: str, encoded: Path | None) -> tuple[Recipe, str | None]:
    """The recipe and the corpus that SOURCE and the options name; without a corpus None."""
    from thresher.build.recipe import Recipe, best_recipe, load_recipe, shipped
    from thresher.errors import ConfigError

    if source.endswith(".toml") or (source in shipped("indexes") and not Path(source).exists()):
        if recipe:
            raise ConfigError(f"{source} is already a recipe; do not pass --recipe")
        chosen = load_recipe(source)
        origin = corpus or chosen.corpus.source
        if not origin and not encoded and not chosen.encode.source:
            raise ConfigError(f"the recipe {source} names no corpus; pass --corpus FILE, or set corpus.source in it")
        return chosen, origin or None
    if source and corpus:
        raise ConfigError(f"{source} is taken as a corpus; do not pass --corpus as well")
    origin = source or corpus
    if not origin and not encoded:
        raise ConfigError("there is nothing to build from; give a corpus, a recipe, or --encoded")
    if recipe:
        return load_recipe(recipe), origin or None
    return (Recipe() if encoded else best_recipe()), origin or None
