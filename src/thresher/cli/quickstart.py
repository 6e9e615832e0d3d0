"""`thresher quickstart`: the whole way on a corpus that every machine has, the documentation installed with Python."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thresher.cli.output import JsonOption, emit_json, progress_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.build import BuildReport
    from thresher.records import Passage
    from thresher.search import SearchResult

__all__ = ["QUESTIONS", "quickstart"]

QUESTIONS = (
    "how do I ignore NaN when taking a median?",
    "how do I measure the time a small piece of code takes?",
    "how do I copy a directory tree?",
)
PACKAGES = ("llvmlite", "msgspec", "numba", "numpy", "pip", "pydantic", "pygments", "regex", "rich", "tqdm", "typer")
"""Read beside the standard library: what comes with thresher, so that every machine answers alike."""
SAMPLE, SEED = 500, 0
MEASURES = "RR@10 Success@10"


def quickstart(
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the index goes.")] = Path("thresher-quickstart"),
    limit: Annotated[int, typer.Option(min=0, help="Index so many passages only; 0 takes all there are.")] = 0,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build again even where an index stands.")] = False,
    json: JsonOption = False,
) -> None:
    """Index the documentation installed with Python, ask it three questions, and measure how well it answers.

    That is the language reference, the standard library and the packages thresher stands on; `thresher build
    installed` takes every installed package. Sources are parsed, never imported. The measure is known-item search:
    the first sentence of a docstring, taken out of its passage, must find the passage again. A second run opens the
    index that the first one built.

    \b
    Examples:
      thresher quickstart
      thresher quickstart --limit 2000 -o /tmp/quickstart
    """
    from thresher.search import Searcher

    progress = progress_wanted() and not json
    document: dict[str, Any] = {"index": str(output)}
    if rebuild or not output.exists():
        document |= _build_and_measure(output, limit, progress, json)
    elif not json:
        typer.echo(f"opening {output}, built before; --rebuild builds and measures again, with --limit if given\n")
    searcher = Searcher.open(output)
    searcher.search(QUESTIONS[0], 3)  # kernels are compiled once and cached: not part of a question's time
    answers = [(question, *_timed(searcher, question)) for question in QUESTIONS]
    if json:
        document["answers"] = [
            {
                "question": question,
                "milliseconds": milliseconds,
                "hits": [{"docno": hit.docno, "score": hit.score, "text": hit.text} for hit in result],
            }
            for question, result, milliseconds in answers
        ]
        emit_json(document)
        return
    _show(answers, output)


def _build_and_measure(output: Path, limit: int, progress: bool, json: bool) -> dict[str, Any]:
    """Collect the corpus, build the index, measure known-item search on a second one; say so while at it."""
    from dataclasses import asdict

    from thresher.build import build_index
    from thresher.corpus import MemoryCorpus
    from thresher.corpus.installed import InstalledDocumentation

    started = time.perf_counter()
    if not json:
        typer.echo("collecting the documentation installed with Python ...")
    passages = MemoryCorpus(InstalledDocumentation(limit=limit, packages=PACKAGES), "installed")
    collecting = time.perf_counter() - started
    report = build_index(output, passages, overwrite=True, progress=progress)
    measured, asked = _known_item(tuple(passages), progress)
    if not json:
        _show_build(report, collecting)
        typer.echo(
            f"known-item search over {asked} docstrings: RR@10 {measured['RR@10']:.4f}, "
            f"Success@10 {measured['Success@10']:.4f}\n"
        )
    return {
        "collect_seconds": collecting,
        "counts": report.counts,
        "ledger": [asdict(stage) for stage in report.ledger.stages],
        "known_item": {"sample": asked, "seed": SEED, **measured},
    }


def _known_item(passages: Sequence[Passage], progress: bool) -> tuple[dict[str, float], int]:
    """Means of `MEASURES` where each sampled passage is asked for by the sentence taken out of it."""
    from thresher.build import build_index
    from thresher.corpus.known_item import known_items
    from thresher.evaluate import evaluate
    from thresher.records import Run, ScoredDoc
    from thresher.search import Searcher

    items = known_items(passages, sample=SAMPLE, seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        build_index(Path(folder) / "index", items.passages, progress=progress)
        searcher = Searcher.open(Path(folder) / "index")
        rankings = {
            query.qid: tuple(ScoredDoc(hit.docno, hit.score) for hit in searcher.search(query.text, 10))
            for query in items.queries
        }
    return dict(evaluate(Run(rankings), items.qrels, MEASURES).mean), len(items.queries)


def _timed(searcher: Any, question: str) -> tuple[SearchResult, float]:
    started = time.perf_counter()
    result = searcher.search(question, 3)
    return result, (time.perf_counter() - started) * 1000


def _show_build(report: BuildReport, collecting: float) -> None:
    from thresher.cli.build import show_build

    typer.echo(f"collected {report.counts['passages']:,} passages in {collecting:.1f} s\n")
    show_build(report)


def _show(answers: Sequence[tuple[str, SearchResult, float]], output: Path) -> None:
    from rich.text import Text

    from thresher.cli.output import console
    from thresher.cli.search import show_hits

    for question, result, milliseconds in answers:
        console().print(Text(f"{question}   ({milliseconds:.1f} ms)", style="bold"))
        show_hits(result, width=300)
    program = "thresher" if which("thresher") else sys.argv[0]
    typer.echo(f'ask a question of your own:    {program} search {output} "your question"')
    typer.echo(f"index passages of your own:    {program} build passages.jsonl -o my-index")
    typer.echo('                               a line is {"docno": "...", "title": "...", "text": "..."}')
