"""`thresher search`: query an index, with one query or a file of them."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer

from thresher.checks import printable
from thresher.cli.output import (
    JsonOption,
    WhereOption,
    console,
    counted,
    echo,
    emit_json,
    grouped,
    note,
    refuse_input_as_output,
    say,
    shortened,
)
from thresher.cli.shard_options import ShardOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from thresher.distributed.door import Opened
    from thresher.ranking import Run
    from thresher.records import Hit
    from thresher.search import Effort
    from thresher.search.any_index import IndexRanking

_HITS = 2**20
"""Hits of a run that are held at a time."""
_NAMED = 3
"""Duplicates of a hit that are named."""
TiersOption = Annotated[
    Literal["auto", "both", "first"],
    typer.Option(
        help="For an index with a second tier: search both tiers, only the first, or decide per query if the index is "
        "calibrated (auto)."
    ),
]

RecallOption = Annotated[
    float | None,
    typer.Option(
        help="Share of the exact answer to expect, such as .99, by what `thresher calibrate recall` measured."
    ),
]

EffortOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=VALUE,...",
        help="Limits to what is done, for approximate answers: terms=10,candidates=100 scores the 100 best passages by "
        "10 terms of the query again by all of them; also left_out, postings, blocks, superblocks.",
    ),
]

DeadlineOption = Annotated[
    float | None, typer.Option(min=0, help="Return what has been found after this many milliseconds.")
]


class _Limits(TypedDict):
    """Arguments of both ways to search."""

    effort: Effort | None
    recall: float | None
    deadline_ms: float | None
    tiers: Literal["auto", "both", "first"]


@grouped
def search(
    directory: Annotated[Path, typer.Argument(metavar="INDEX", help="The index, or the file that lists its shards.")],
    query: Annotated[list[str] | None, typer.Argument(help="The query; several words need no quotes.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of passages.")] = 10,
    queries: Annotated[
        Path | None, typer.Option(help="TSV (qid, text or terms), or JSON lines (text, vector).")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Write a TREC run to this file (with --queries).")] = None,
    tag: Annotated[str, typer.Option(help="The run's name, its last column.")] = "thresher",
    threads: Annotated[int, typer.Option(min=1, help="Queries searched at a time (with --queries).")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Show how the index was searched.")] = False,
    tiers: TiersOption = "auto",
    effort: EffortOption = None,
    deadline_ms: DeadlineOption = None,
    by: Annotated[
        Literal["sparse", "dense", "both"],
        typer.Option(help="Search by weighted terms, by the index's vectors, or by both, fused."),
    ] = "sparse",
    recall: RecallOption = None,
    where: WhereOption = None,
    allow: Annotated[Path | None, typer.Option(help="File of the only docnos to return, one a line.")] = None,
    *,
    shards: ShardOptions,
    json: JsonOption = False,
) -> None:
    """Find the k best passages for a query, or write a run for a file of queries.

    \b
    Examples:
      thresher search my-index how do I ignore NaN when taking a median
      thresher search my-index "what is wifi" -k 3 --json
      thresher search my-index --queries queries.tsv --run bm25.run -k 1000
      thresher search my-index "what is wifi" --where "lang = en and year >= 2020"
      thresher search shards/shards.toml --queries queries.tsv --run bm25.run -k 1000
    """
    from thresher.distributed.door import open_path
    from thresher.search import Effort

    if (queries is None) == (not query):
        raise typer.BadParameter("give a query, or --queries FILE with --run OUT")
    if queries is not None and (run is None or by != "sparse"):
        raise typer.BadParameter("--queries needs --run OUT, the file to write, and takes no --by")
    if run is not None:
        refuse_input_as_output(run, queries)
    docnos = None if allow is None else _docnos(allow)
    cut = None if effort is None else Effort.parse(effort)
    limits: _Limits = {"effort": cut, "recall": recall, "deadline_ms": deadline_ms, "tiers": tiers}
    with open_path(directory, shards.reaching) as index:
        if queries is not None and run is not None:
            how = partial(index.search_batch, k=k, threads=threads, where=where, allow=docnos, **limits)
            _search_file(index, queries, run, tag, how, min(k, len(index)), json)
            return
        started = time.perf_counter()
        words = " ".join(query or [])
        ranking = index.search(words, k, explain=explain, by=by, where=where, allow=docnos, **limits)
        seconds, tiered = time.perf_counter() - started, index.tiered
        if json:  # while it is open: shards are asked for the texts
            emit_json(_as_json(ranking, tiered, seconds))
        else:
            _show(ranking, tiered, seconds)


def _show(ranking: IndexRanking, tiered: bool, seconds: float) -> None:
    """Print the hits of a query, and how they were found."""
    show_hits(ranking)
    of = "" if not tiered else ", both tiers searched" if ranking.escalated else ", first tier searched"
    say(f"{counted(len(ranking), 'passage', 'passages')}, {_exactness(ranking)}{of}; {seconds:.2f} s with loading")
    for explanation in ranking.explanations:
        echo(str(explanation))


def _exactness(ranking: IndexRanking) -> str:
    if ranking.missing_shards:
        return f"without the shards {', '.join(ranking.missing_shards)}"
    if not ranking.complete:
        return "cut short by the deadline"
    expected = ranking.expected_recall
    return "exact" if ranking.exact else "approximate" + (f", expected recall {expected:.3f}" if expected else "")


def _search_file(
    index: Opened,
    queries: Path,
    run: Path,
    tag: str,
    answer: Callable[..., Run],
    k: int,
    json: bool,
) -> None:
    """Write a run of a file of queries; `answer` gives that of some of them."""
    from thresher.encode.preencoded import read_queries_for
    from thresher.evaluate.trec import write_runs
    from thresher.ranking import Run
    from thresher.search.any_index import IndexRanking

    read = read_queries_for(queries, texts=_takes_texts(index))
    qids, given = list(read), list(read.values())
    seconds, empty, cut = 0.0, 0, 0

    def parts() -> Iterator[Run]:
        nonlocal seconds, empty, cut
        step = max(_HITS // max(k, 1), 1)
        for first in range(0, len(given), step):
            started = time.perf_counter()
            found = answer(given[first : first + step])
            seconds += time.perf_counter() - started
            empty += sum(not ranking for ranking in found.values())
            cut += sum(isinstance(one, IndexRanking) and not one.complete for one in found.values())
            yield Run(dict(zip(qids[first : first + step], found.values(), strict=True)), tag)

    write_runs(parts(), run)
    if json:
        told = {"run": str(run), "queries": len(given), "without_results": empty, "incomplete": cut, "seconds": seconds}
        emit_json(told)
    else:
        incomplete = f", {cut:,} incomplete" if cut else ""
        note(f"{run}: {counted(len(given))}, {empty:,} without results{incomplete}, {seconds:.2f} s")


def _takes_texts(index: Opened) -> bool:
    """Whether queries are texts, and not weighted terms."""
    from thresher.distributed.sharded import ShardedIndex
    from thresher.encode.query_side import TermsOnly

    return index.takes_texts() if isinstance(index, ShardedIndex) else not isinstance(index.encoder, TermsOnly)


def _docnos(file: Path) -> list[str]:
    """The docnos in a file, one a line."""
    from thresher.files import read_text_lines

    return [line for _, line in read_text_lines(file) if line]


def _as_json(ranking: IndexRanking, tiered: bool, seconds: float) -> dict[str, object]:
    from dataclasses import asdict

    hits: list[dict[str, object]] = [
        {
            "rank": hit.rank,
            "docno": hit.docno,
            "score": hit.score,
            "title": hit.title,
            "text": hit.text,
            "metadata": dict(hit.metadata),
            "aliases": list(hit.aliases),
        }
        for hit in ranking
    ]
    document: dict[str, object] = {
        "exact": ranking.exact,
        "expected_recall": ranking.expected_recall,
        "complete": ranking.complete,
        "seconds": seconds,
        "hits": hits,
    }
    if ranking.missing_shards:
        document["missing_shards"] = list(ranking.missing_shards)
    if tiered:
        document["escalated"] = ranking.escalated
        for hit, tier in zip(hits, ranking.tiers.tolist(), strict=True):
            hit["tier"] = tier
    if ranking.explanations:
        document["explanations"] = [asdict(one) for one in ranking.explanations]
    return document


def show_hits(hits: Iterable[Hit], *, width: int = 400) -> None:
    """Print hits: rank, docno, score, title, and at most `width` characters of the text."""
    from shutil import get_terminal_size
    from textwrap import fill

    from rich.text import Text

    out, columns = console(), min(get_terminal_size().columns, 100)
    for hit in hits:
        title = f"  {hit.title}" if hit.title and hit.title != hit.docno else ""
        score = f"  {hit.score:.3f}"
        out.print(Text.assemble(f"{hit.rank:>2}  ", (printable(hit.docno), "bold"), printable(title), (score, "dim")))
        text = shortened(printable(hit.text), width)
        out.print(Text(fill(text, columns, initial_indent="    ", subsequent_indent="    ")))
        if hit.aliases:
            out.print(Text(f"    {duplicates(hit.aliases)}", style="dim"))
        out.print()


def duplicates(aliases: Sequence[str]) -> str:
    """The duplicates that a passage stands for, in a line."""
    more = len(aliases) - _NAMED
    return f"stands for {printable(', '.join(aliases[:_NAMED]))}" + (f" and {more:,} more" if more > 0 else "")
