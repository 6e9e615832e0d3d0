"""`thresher search`: ask an index, one question at a time or a file of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, console, emit_json, note, printable

if TYPE_CHECKING:
    from thresher.search import Searcher, SearchResult

__all__ = ["search", "show_hits"]


def search(
    directory: Annotated[Path, typer.Argument(help="The index.")],
    query: Annotated[list[str] | None, typer.Argument(help="The question; several words need no quotes.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 10,
    queries: Annotated[Path | None, typer.Option(help="A TSV file of questions: qid, tab, text.")] = None,
    run: Annotated[Path | None, typer.Option(help="Write a TREC run here (with --queries).")] = None,
    tag: Annotated[str, typer.Option(help="The run's name, its last column.")] = "thresher",
    threads: Annotated[int, typer.Option(min=1, help="Questions searched at a time (with --queries).")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the index was searched.")] = False,
    json: JsonOption = False,
) -> None:
    """Find the k best passages for a question, or write a run for a file of questions.

    \b
    Examples:
      thresher search my-index how do I ignore NaN when taking a median
      thresher search my-index "what is wifi" -k 3 --json
      thresher search my-index --queries queries.tsv --run bm25.run -k 1000
    """
    from thresher.search import Searcher

    if (queries is None) == (not query):
        raise typer.BadParameter("give a question, or --queries FILE with --run OUT")
    searcher = Searcher.open(directory)
    if queries is not None:
        if run is None:
            raise typer.BadParameter("--queries needs --run OUT, the file to write")
        _search_file(searcher, queries, run, tag, k, threads, json)
        return
    started = time.perf_counter()
    result = searcher.search(" ".join(query or []), k, explain=explain)
    milliseconds = (time.perf_counter() - started) * 1000
    if json:
        emit_json(_as_json(result, milliseconds, explain))
        return
    show_hits(result)
    typer.echo(f"{len(result)} passages, {'exact' if result.exact else 'approximate'}, {milliseconds:.1f} ms")
    if explain:
        typer.echo(str(result.explanation))


def _search_file(searcher: Searcher, queries: Path, run: Path, tag: str, k: int, threads: int, json: bool) -> None:
    from thresher.evaluate.trec import read_queries, write_run
    from thresher.records import Run, ScoredDoc

    asked = list(read_queries(queries))
    started = time.perf_counter()
    results = searcher.search_batch([query.text for query in asked], k, threads=threads)
    seconds = time.perf_counter() - started
    rankings = {
        query.qid: tuple(ScoredDoc(hit.docno, hit.score) for hit in result)
        for query, result in zip(asked, results, strict=True)
    }
    write_run(Run(rankings, tag), run)
    empty = sum(not ranking for ranking in rankings.values())
    if json:
        emit_json({"run": str(run), "queries": len(asked), "without_results": empty, "seconds": seconds})
    else:
        note(f"{run}: {len(asked):,} questions, {empty:,} without results, {seconds:.2f} s")


def _as_json(result: SearchResult, milliseconds: float, explain: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "exact": result.exact,
        "milliseconds": milliseconds,
        "hits": [
            {
                "rank": hit.rank,
                "docno": hit.docno,
                "score": hit.score,
                "title": hit.title,
                "text": hit.text,
                "metadata": dict(hit.metadata),
            }
            for hit in result
        ],
    }
    if explain:
        from dataclasses import asdict, is_dataclass

        explanation: Any = result.explanation
        known = is_dataclass(explanation) and not isinstance(explanation, type)
        document["explanation"] = asdict(explanation) if known else explanation
    return document


def show_hits(result: SearchResult, *, width: int = 400) -> None:
    """Print hits: rank, docno, score, title, and at most `width` characters of the text."""
    from shutil import get_terminal_size
    from textwrap import fill, shorten

    from rich.text import Text

    out, columns = console(), min(get_terminal_size().columns, 100)
    for hit in result:
        title = f"  {hit.title}" if hit.title and hit.title != hit.docno else ""
        score = f"  {hit.score:.3f}"
        out.print(Text.assemble(f"{hit.rank:>2}  ", (printable(hit.docno), "bold"), printable(title), (score, "dim")))
        text = shorten(printable(hit.text), width, placeholder=" …")
        out.print(Text(fill(text, columns, initial_indent="    ", subsequent_indent="    ") + "\n"))
