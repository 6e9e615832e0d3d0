"""`thresher add`, `delete`, `sync` and `merge`: an index changed in place, while others read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, MemoryOption, echo, emit_json, is_quiet, progress_wanted, skipped_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thresher.build.changes import Change, CommitReport
    from thresher.build.writer import IndexWriter
    from thresher.corpus import Corpus

_CORPUS = (
    "The passages: a folder of documents, .jsonl[.gz|.zst], .tsv, .csv, .parquet, TREC text, a BEIR folder, - for "
    "standard input, or ir_datasets:ID; read as the index's recipe says."
)
_NAMED = 5
"""Docnos that a summary names."""

IndexArgument = Annotated[Path, typer.Argument(help="The index.")]
FormatOption = Annotated[
    str, typer.Option(help="jsonl, tsv, csv, trec, parquet, beir or files, if the name does not say.")
]
EncodedOption = Annotated[
    Path | None,
    typer.Option(
        help="The passages' weighted terms, encoded before: from `thresher encode`, .jsonl, .parquet or .npz."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Device of the recipe's models: auto, cpu, cuda, ...")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")]


def add(
    index: IndexArgument,
    corpus: Annotated[str, typer.Argument(help=_CORPUS)] = "",
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace passages whose docno is there; otherwise that is an error.")
    ] = False,
    encoded: EncodedOption = None,
    format: FormatOption = "",
    device: DeviceOption = "auto",
    memory_gb: MemoryOption = None,
    dry_run: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Add passages to an index, by the recipe that it was built with.

    Readers see the passages when all are there; an interrupted command changes nothing.

    \b
    Examples:
      thresher add my-index new.jsonl
      zcat today.jsonl.gz | thresher add my-index - --format jsonl --replace
      thresher add my-index new.jsonl --dry-run --json
    """
    if not corpus and encoded is None:
        raise typer.BadParameter("give a CORPUS, or --encoded passages, or both")
    with _writer(index, device, memory_gb, json=json) as writer:
        change = writer.add(_source(corpus, format, writer), replace=replace, encoded=encoded)
        _finish(index, writer, change, dry_run=dry_run, json=json)


def delete(
    index: IndexArgument,
    *,
    docno: Annotated[list[str] | None, typer.Option("--docno", help="A passage to delete; may be repeated.")] = None,
    docnos: Annotated[Path | None, typer.Option(help="A file of docnos to delete, one a line.")] = None,
    where: Annotated[
        str, typer.Option(help="Delete all passages that this filter fits, as in `thresher search --where`.")
    ] = "",
    dry_run: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Delete passages from an index, by docno or by a filter over their metadata.

    A docno that the index does not have is reported. All passages of a document that was split go together.

    \b
    Examples:
      thresher delete my-index --docno page-17 --docno page-18
      thresher delete my-index --docnos gone.txt
      thresher delete my-index --where "source = wiki and year < 2010" --dry-run
    """
    from thresher.files import read_names

    if bool(docno or docnos) == bool(where):
        raise typer.BadParameter("give --docno or --docnos, or else --where, to say what is deleted")
    with _writer(index, "auto", json=json) as writer:
        if where:
            change = writer.delete(where=where)
        else:
            change = writer.delete(docnos=[*(docno or ()), *(read_names(docnos) if docnos is not None else ())])
        _finish(index, writer, change, dry_run=dry_run, json=json)


def sync(
    index: IndexArgument,
    corpus: Annotated[str, typer.Argument(help=_CORPUS)],
    *,
    encoded: EncodedOption = None,
    format: FormatOption = "",
    device: DeviceOption = "auto",
    memory_gb: MemoryOption = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Let an empty corpus delete everything; otherwise it is refused.")
    ] = False,
    dry_run: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Make an index hold what a corpus holds: add what is new, replace what changed, delete what is gone.

    Passages are compared by docno, title, text and metadata; only those that differ are encoded and written.

    \b
    Examples:
      thresher sync my-index corpus.jsonl
      thresher sync my-index docs/
      thresher sync my-index corpus.jsonl --dry-run
    """
    with _writer(index, device, memory_gb, json=json) as writer:
        source = _source(corpus, format, writer)
        change = writer.sync(source or corpus, encoded=encoded, allow_empty=allow_empty)
        _finish(index, writer, change, dry_run=dry_run, json=json)


def merge(
    index: IndexArgument,
    *,
    all: Annotated[bool, typer.Option("--all", help="Merge all segments into one.")] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit BM25's average length anew, and weigh all passages by it.")
    ] = False,
    memory_gb: MemoryOption = None,
    dry_run: DryOption = False,
    json: JsonOption = False,
) -> None:
    """Merge the segments of an index, so that searches visit fewer, and deleted passages give their space back.

    Results stay the same, but for --refit. Readers are not disturbed, and an interrupted merge changes nothing.

    \b
    Examples:
      thresher merge my-index
      thresher merge my-index --all
      thresher merge my-index --refit
    """
    from thresher.build.merging import planned_merges
    from thresher.index.commit import read_commit

    if dry_run:
        groups = planned_merges(read_commit(index).segments, all=all, refit=refit)
        if json:
            emit_json({"path": str(index), "dry_run": True, "merges": [[e.name for e in group] for group in groups]})
            return
        for group in groups:
            live = sum(entry.live for entry in group)
            names = ", ".join(entry.name for entry in group)
            echo(f"{index}: would merge {_segments(len(group))} with {live:,} passages: {names}")
        if not groups:
            echo(f"{index}: nothing to merge")
        return
    with _writer(index, "auto", memory_gb, json=json) as writer:
        report = writer.merge(all=all, refit=refit)
    if json:
        emit_json({"path": str(index), **report.as_json()})
    elif not is_quiet():
        said = f"merged {_segments(report.merged)} into {report.made}" if report.merged else "nothing to merge"
        echo(f"{index}: {said}; {_segments(report.segments)}, commit {report.commit}, {report.seconds:.2f} s")


def _writer(index: Path, device: str, memory_gb: float | None = None, *, json: bool) -> IndexWriter:
    from thresher.build.writer import IndexWriter

    progress = progress_wanted() and not json
    return IndexWriter.open(index, device=device, progress=progress, memory_gb=memory_gb)


def _source(corpus: str, format: str, writer: IndexWriter) -> str | Corpus | None:
    """The corpus of the command line, opened where options say how."""
    from thresher.corpus import open_corpus

    if not format or not corpus:
        return corpus or None
    settings = writer.recipe.corpus.model_dump(exclude={"source"}, exclude_defaults=True)
    return open_corpus(corpus, **{**settings, "format": format})


def _finish(index: Path, writer: IndexWriter, change: Change, *, dry_run: bool, json: bool) -> None:
    """Commit, unless this is a dry run, and say what was changed."""
    if dry_run:
        writer.discard()
        report = None
    else:
        report = writer.commit()
    if json:
        document: Mapping[str, object] = {"path": str(index), "dry_run": dry_run, **change.as_json()}
        emit_json(document if report is None else {**document, "report": report.as_json()})
    elif not is_quiet():
        _show(index, change, report)


def _show(index: Path, change: Change, report: CommitReport | None) -> None:
    """Print what a command changed, or would change."""
    counts = {
        "added": change.added,
        "replaced": change.replaced,
        "deleted": len(change.deleted),
        "unchanged": change.unchanged,
    }
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing to change"
    if report is None:
        echo(f"{index}: would change: {said}")
    else:
        extra = [f"{count:,} {'folded' if reason == 'duplicate' else f'pruned ({reason})'}"
                 for reason, count in report.pruned.items()]  # fmt: skip
        extra += [f"{report.returned:,} returned"] if report.returned else []
        extra += [f"{_segments(report.merged)} merged"] if report.merged else []
        echo(f"{index}: {'; '.join([said, *extra])}; commit {report.commit}, {report.seconds:.2f} s")
    for reason, count in change.skipped.items():
        echo(skipped_line(reason, count))
    if change.absent:
        named = ", ".join(change.absent[:_NAMED]) + (", ..." if len(change.absent) > _NAMED else "")
        echo(f"not in the index: {len(change.absent):,} ({named})")


def _segments(count: int) -> str:
    """`1 segment`, `2 segments`."""
    return f"{count} segment{'' if count == 1 else 's'}"
