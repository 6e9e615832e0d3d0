"""`thresher compress`: make an encoder, a cross-encoder or a causal reranker smaller, and measure what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, grouped, note, say, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.compress.compressor import Compression
    from thresher.compress.data import Task


@dataclass(frozen=True)
class Level:
    """How far to go."""

    method: Annotated[str, typer.Option(help="How to choose what is removed; a wrong name lists them all.")] = (
        "block-influence"
    )
    keep_layers: Annotated[str, typer.Option(help="Keep exactly these layers: 0,1,3.")] = ""
    drop_layers: Annotated[int | None, typer.Option(min=1, help="Remove this many layers.")] = None
    remove: Annotated[float | None, typer.Option(help="Remove this share of neurons, heads or weights.")] = None
    target_speedup: Annotated[
        float | None, typer.Option(help="The best level that is at least this many times as fast.")
    ] = None
    margin: Annotated[float, typer.Option(help="The largest difference of nDCG@10 that does not matter.")] = 0.02
    heal: Annotated[int, typer.Option(min=0, help="Steps of low-rank training on the whole model's scores.")] = 0
    random: Annotated[int, typer.Option(min=0, help="Seeds of random removal of as much, for comparison.")] = 3
    curve_only: Annotated[
        bool, typer.Option("--curve-only", "--dry-run", help="Measure every level and write no model.")
    ] = False


@dataclass(frozen=True)
class Data:
    """What calibrates and measures."""

    queries: Annotated[Path | None, typer.Option(help="Queries: TSV (qid, tab, text) or JSON lines.")] = None
    run: Annotated[Path | None, typer.Option(help="A TREC run with the candidates of the queries.")] = None
    corpus: Annotated[str | None, typer.Option(help="The passages of the run, or a corpus to sample from.")] = None
    qrels: Annotated[Path | None, typer.Option(help="TREC judgments of the queries.")] = None
    depth: Annotated[int, typer.Option(min=2, help="First passages of each ranking.")] = 50

    def task(self) -> Task:
        """The lists, read from the files."""
        from thresher.compress.compressor import NO_DATA
        from thresher.compress.data import read_task

        if all(value is None for value in (self.queries, self.run, self.corpus, self.qrels)):
            return NO_DATA
        return read_task(self.queries, self.run, self.corpus, self.qrels, depth=self.depth)


@grouped
def compress(
    model: Annotated[str, typer.Argument(help="A directory, a hub identifier (org/name), or minilm.")],
    level: Level,
    data: Data,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Directory of the compressed model.")] = None,
    kind: Annotated[str, typer.Option(help="dense, sparse, cross-encoder, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16, of the computation.")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result of this command.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a ranking model smaller, and measure on ranking what that costs.

    Half of the queries choose what is removed, the other half measure it: nDCG@10 with intervals, by group of queries
    (short, long, rare terms, negation), bytes and milliseconds, and whether a level is equivalent to the whole model
    within the margin. Without a level, the smallest that is proven equivalent is written. The result loads wherever the
    model did. Interrupted runs resume.

    \b
    Examples:
      thresher compress minilm -o small --keep-layers 0,1,3,5
      thresher compress minilm -o small --drop-layers 2 --corpus corpus.jsonl
      thresher compress org/model -o small --queries q.tsv --run bm25.run --corpus corpus.jsonl \\
          --qrels qrels.txt --margin .02
      thresher compress ./cross-encoder -o small --method greedy --target-speedup 2 --heal 200 \\
          --queries q.tsv --run bm25.run --corpus corpus.jsonl --qrels qrels.txt
      thresher compress minilm --curve-only --method angular --queries q.tsv --run bm25.run \\
          --corpus corpus.jsonl --qrels qrels.txt --json
    """
    from thresher.compress.compressor import Wanted
    from thresher.compress.compressor import compress as run_compression
    from thresher.compress.methods import METHODS
    from thresher.compress.ranker import Ranker
    from thresher.compress.saving import check_target

    METHODS.factory(level.method.partition(":")[0])
    wanted = Wanted(_numbers(level.keep_layers), level.drop_layers, level.remove, level.target_speedup)
    if not level.curve_only:
        if output is None:
            raise typer.BadParameter("give -o DIRECTORY, or --curve-only")
        check_target(output, overwrite=overwrite)
    task = data.task()
    found = run_compression(
        Ranker.load(model, kind=kind, device=device, dtype=dtype),
        output,
        task=task,
        method=level.method,
        wanted=wanted,
        margin=level.margin,
        heal=level.heal,
        baselines=level.random,
        curve_only=level.curve_only,
        overwrite=overwrite,
        tell=note,
    )
    if json:
        emit_json(found.report)
    else:
        _show(found, output, level.curve_only)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"layers are numbers with commas between, as 0,1,3; got {text!r}") from None


def _show(found: Compression, output: Path | None, curve_only: bool) -> None:
    rows: Sequence[Mapping[str, object]] = found.report["rows"]
    if rows:
        _table(("method", "level"), [row for row in rows if row["group"] == "all"])
        last = found.chosen or found.levels[0]
        echo()
        mine = [row for row in rows if (row["method"], row["level"]) == (last.method, last.label)]
        _table(("group", "queries"), mine)
        echo(f"equivalent: within {found.report['margin']:g} nDCG@10 of the whole model, each row tested alone")
    elif found.levels:
        levels = [found.whole, *found.levels]
        cells = [(one.method or "none", one.label, one.bytes / 1e6, one.ms, one.speedup) for one in levels]
        table(["method", "level", "MB", "ms", "speedup"], cells, numeric=["MB", "ms", "speedup"])
    if found.chosen is None:
        say("no level is proven equivalent" if rows else "nothing is judged, so no level is chosen")
    elif curve_only:
        say(f"the level to choose: {found.chosen.label} ({found.chosen.method})")
    else:
        smaller = found.whole.bytes / max(1, found.chosen.bytes)
        say(
            f"{output}: {found.chosen.label}; {smaller:.2f} times smaller and {found.chosen.speedup:.2f} times faster "
            f"than {found.report['model']}"
        )


def _table(first: tuple[str, str], rows: Sequence[Mapping[str, object]]) -> None:
    numeric = ["MB", "ms", "speedup", "nDCG@10", "R@10", "difference"]
    cells = [
        [row[name] for name in first]
        + [f"{float(str(row['bytes'])) / 1e6:.1f}", f"{row['ms']:.1f}", f"{row['speedup']:.2f}"]
        + [row[name] for name in numeric[3:]]
        + ["yes" if row["equivalent"] else "no"]
        for row in rows
    ]
    table([*first, *numeric, "equivalent"], cells, numeric=[*numeric, "queries"])
