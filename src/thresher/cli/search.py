"""`thresher search`: ask an index, one query at a time or a file of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thresher.cli.output import JsonOption, console, emit_json, note, printable, say

if TYPE_CHECKING:
    from thresher.search import SearchResult
    from thresher.search.tiers import TieredResult


def search(
    directory: Annotated[Path, typer.Argument(help="The index.")],
    query: Annotated[list[str] | None, typer.Argument(help="The query; several words need no quotes.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 10,
    queries: Annotated[Path | None, typer.Option(help="A TSV file of queries: qid, tab, text.")] = None,
    run: Annotated[Path | None, typer.Option(help="Write a TREC run here (with --queries).")] = None,
    tag: Annotated[str, typer.Option(help="The run's name, its last column.")] = "thresher",
    threads: Annotated[int, typer.Option(min=1, help="Queries searched at a time (with --queries).")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the index was searched.")] = False,
    tier_2: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="Of an index with pruned passages: search them where the first tier looks unsure (auto)."),
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Find the k best passages for a query, or write a run for a file of queries.

    \b
    Examples:
      thresher search my-index how do I ignore NaN when taking a median
      thresher search my-index "what is wifi" -k 3 --json
      thresher search my-index --queries queries.tsv --run bm25.run -k 1000
    """
    from thresher.search.tiers import TieredSearcher, open_tiers

    if (queries is None) == (not query):
        raise typer.BadParameter("give a question, or --queries FILE with --run OUT")
    started = time.perf_counter()
    searcher = open_tiers(directory)
    if tier_2 != "auto" and not isinstance(searcher, TieredSearcher):
        raise typer.BadParameter(f"--tier-2 {tier_2}: {directory} has no second tier")
    if queries is not None:
        if run is None:
            raise typer.BadParameter("--queries needs --run OUT, the file to write")
        _search_file(searcher, queries, run, tag, k, threads, tier_2, json)
        return
    text = " ".join(query or [])
    _search(searcher, text, k, tier_2)  # loads the query encoder and compiles the kernels: not the query's time
    opened = time.perf_counter()
    result = _search(searcher, text, k, tier_2, explain)
    milliseconds = (time.perf_counter() - opened) * 1000
    if json:
        emit_json({**_as_json(result, milliseconds, explain), "open_seconds": opened - started})
        return
    show_hits(result)
    say(f"{len(result)} passages, {_exactness(result)}, {milliseconds:.1f} ms (and {opened - started:.1f} s to open)")
    if explain:
        for explanation in _explanations(result):
            typer.echo(str(explanation))


def _search(searcher: Any, query: str, k: int, tier_2: str, explain: bool = False) -> SearchResult | TieredResult:
    """One query; an index with two tiers is asked as `tier_2` says, by default where its first tier looks unsure."""
    from thresher.search.tiers import TieredSearcher

    result: SearchResult | TieredResult
    if not isinstance(searcher, TieredSearcher):
        result = searcher.search(query, k, explain=explain)
    elif tier_2 == "auto":
        result = searcher.search_uncalibrated(query, k, explain=explain)
    else:
        result = searcher.search(query, k, second=tier_2, explain=explain)
    return result


def _exactness(result: SearchResult | TieredResult) -> str:
    fell_through = getattr(result, "fell_through", None)
    if fell_through is None:
        return "exact" if result.exact else "approximate"
    return "from both tiers" if fell_through else "from the first tier"


def _explanations(result: Any) -> list[Any]:
    one = getattr(result, "explanation", None)
    return [one] if one is not None else list(getattr(result, "explanations", ()))


def _search_file(
    searcher: Any, queries: Path, run: Path, tag: str, k: int, threads: int, tier_2: str, json: bool
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from thresher.evaluate.trec import read_queries, write_run
    from thresher.ranking import Ranking, Run
    from thresher.search import Searcher

    asked = list(read_queries(queries))
    started = time.perf_counter()
    texts = [query.text for query in asked]
    results: list[SearchResult] | list[SearchResult | TieredResult]
    if isinstance(searcher, Searcher):
        results = searcher.search_batch(texts, k, threads=threads)
    else:
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(lambda text: _search(searcher, text, k, tier_2), texts))
    seconds = time.perf_counter() - started
    rankings = {query.qid: Ranking(result.docnos, result.scores) for query, result in zip(asked, results, strict=True)}
    write_run(Run(rankings, tag), run)
    empty = sum(not ranking for ranking in rankings.values())
    if json:
        emit_json({"run": str(run), "queries": len(asked), "without_results": empty, "seconds": seconds})
    else:
        note(f"{run}: {len(asked):,} questions, {empty:,} without results, {seconds:.2f} s")


def _as_json(result: SearchResult | TieredResult, milliseconds: float, explain: bool) -> dict[str, Any]:
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
    tiers = getattr(result, "tiers", None)
    if tiers is not None:
        document["fell_through"] = bool(getattr(result, "fell_through", False))
        for hit, tier in zip(document["hits"], tiers, strict=True):
            hit["tier"] = tier
    if explain:
        from dataclasses import asdict

        explained = [asdict(one) for one in _explanations(result)]
        document["explanation"] = explained[0] if tiers is None and explained else explained
    return document


def show_hits(result: SearchResult | TieredResult, *, width: int = 400) -> None:
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
