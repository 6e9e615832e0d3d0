"""`thresher compare`: runs side by side, and whether their differences are real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from thresher.cli.eval import Added, names_of, warn_of_grades
from thresher.cli.output import JsonOption, echo, note, refuse_input_as_output, say, table, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thresher.evaluate import Evaluation
    from thresher.evaluate.holes import Support
    from thresher.evaluate.run_table import RunTable
    from thresher.ranking import Run
    from thresher.records import Qrels

Form = Literal["table", "markdown", "latex", "csv"]
NOT_SHOWN = 3
"""Exit code where nothing went wrong and a run is not shown to be not worse by the margin."""


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="TREC runs, gzipped or not.")],
    qrels: Annotated[Path, typer.Option(help="TREC judgments, gzipped or not.")],
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run to compare with. By default the first.")
    ] = None,
    measures: Annotated[str, typer.Option(help="Measures, separated by blanks.")] = "nDCG@10 AP",
    margin: Annotated[
        float | None, typer.Option(help="The smallest loss that would matter, such as .02. Choose it before looking.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Chance of any false claim.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Random seed of the randomisation test.")] = 0,
    per_query: Annotated[bool, typer.Option("--per-query", help="Also show the values of every query.")] = False,
    filled: Annotated[
        Path | None, typer.Option(help="Judgments by `thresher judge`: compare without and with.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How the tables are written.")] = "table",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write to this file.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare runs: means, differences to a baseline with intervals, significance, wins and losses.

    \b
    Letters after a mean name the runs that it is significantly better than. p values are corrected by Holm's method
    over all runs and measures of the call. With --margin every run is tested for non-inferiority (not worse than the
    baseline by the margin) and equivalence, and runs that show neither are told how many topics would.

    \b
    Exit code 0: done; with --margin, every run is not worse on every measure. 3: that is not shown. 1: an error.

    \b
    Examples:
      thresher compare bm25.run new.run --qrels qrels.txt --measures "nDCG@10 AP(rel=2)"
      thresher compare pruned.run --baseline full.run --qrels qrels.txt --margin .02
      thresher compare *.run --qrels qrels.txt --format latex -o table.tex
    """
    from thresher.evaluate import read_qrels, read_run
    from thresher.evaluate.run_table import compare_runs

    names = named(runs, baseline)
    _check(form, len(names), measures, output, filled, [qrels, baseline, filled, *runs], json=json)
    judgments = read_qrels(qrels)
    read = {name: read_run(path) for name, path in names.items()}
    first = next((name for name, path in names.items() if path == baseline), next(iter(names)))

    def compared(by: Qrels) -> RunTable:
        evaluations = {name: _evaluated(one, by, measures, names[name]) for name, one in read.items()}
        return compare_runs(evaluations, first, margin=margin, alpha=alpha, seed=seed)

    made = compared(judgments)
    _remark(read, judgments, made)
    again = None if filled is None else ((added := Added.of(filled, judgments)), compared(added.qrels))
    supports = _supports(read, judgments, made) if json or form == "table" else {}
    if json:
        _put(to_json(_documents(made, qrels, supports, again, per_query=per_query), indent=2) + "\n", output)
    else:
        _write(made, form, output, per_query=per_query)
        _say(made, supports, again, per_query=per_query)
    if margin is not None and not made.proven:
        raise typer.Exit(NOT_SHOWN)


def _check(
    form: Form,
    runs: int,
    measures: str,
    output: Path | None,
    filled: Path | None,
    inputs: list[Path | None],
    *,
    json: bool,
) -> None:
    """Refuse options that do not go together, and measures that there are not."""
    from thresher.evaluate.measures import parse_measures

    parse_measures(measures)
    if runs < 2:
        raise typer.BadParameter("there is one run; give at least two, or --baseline RUN")
    if filled is not None and form != "table" and not json:
        raise typer.BadParameter("--filled shows two comparisons, in a table or with --json")
    if output is not None:
        if form == "table" and not json:
            raise typer.BadParameter("--output needs --format markdown, latex or csv, or --json")
        refuse_input_as_output(output, *inputs)


def named(runs: Sequence[Path], baseline: Path | None) -> dict[str, Path]:
    """The runs by name, the baseline first where it is not one of them."""
    paths = [baseline, *runs] if baseline is not None and baseline not in runs else list(runs)
    return dict(zip(names_of(paths), paths, strict=True))


def _evaluated(run: Run, qrels: Qrels, measures: str, path: Path) -> Evaluation:
    from thresher.errors import InputError
    from thresher.evaluate import evaluate

    try:
        return evaluate(run, qrels, measures)
    except InputError as err:
        raise InputError(err.args[0], err.source or str(path), err.line) from err


def _remark(runs: Mapping[str, Run], qrels: Qrels, made: RunTable) -> None:
    """Say what a reader of the table could miss: topics without results, runs that are the same, levels of grades."""
    for name, run in runs.items():
        missing = [qid for qid in qrels.judgments if qid not in run or not len(run[qid])]
        if missing:
            note(
                f"{name} has no results for {len(missing):,} of {len(qrels.judgments):,} topics, such as "
                f"{missing[0]!r}; they count 0"
            )
    for name, compared in made.comparisons.items():
        if all(one.better == one.worse == 0 for one in compared.values()):
            note(f"{name} has the same values as {made.baseline} on every topic")
    warn_of_grades(qrels, made.measures)


def document(made: RunTable, qrels: Path, *, per_query: bool) -> dict[str, object]:
    """The table as JSON: runs with their means, then a row for each run and measure that was compared."""
    runs: list[dict[str, object]] = []
    for name, one in made.evaluations.items():
        run: dict[str, object] = {"run": name, "letter": made.letters[name], "measured": dict(one.mean)}
        run["better_than"] = {measure: letters for measure, letters in made.better_than[name].items() if letters}
        runs.append(run | ({"per_query": one.per_query} if per_query else {}))
    compared = [row for row in made.as_rows() if row["run"] != made.baseline]
    found: dict[str, object] = {
        "qrels": str(qrels), "queries": len(made.topics), "baseline": made.baseline, "alpha": made.alpha,
        "margin": made.margin, "runs": runs, "compared": compared,
    }  # fmt: skip
    return found | ({} if made.margin is None else {"proven": made.proven})


def _supports(runs: Mapping[str, Run], qrels: Qrels, made: RunTable) -> dict[str, Support]:
    """By run, what the judgments can support of its difference from the baseline, on the first measure."""
    from thresher.evaluate.holes import support

    against = runs[made.baseline]
    return {name: support(run, against, qrels, made.measures[0]) for name, run in runs.items() if name != made.baseline}


def _documents(
    made: RunTable,
    qrels: Path,
    supports: Mapping[str, Support],
    again: tuple[Added, RunTable] | None,
    *,
    per_query: bool,
) -> dict[str, object]:
    """As `document`, with what the judgments can support, and with filled judgments the comparison with them."""
    found = document(made, qrels, per_query=per_query)
    found["judgments"] = [{"run": name, **one.as_row()} for name, one in supports.items()]
    if again is not None:
        found["filled"] = again[0].as_json() | document(again[1], qrels, per_query=per_query)
    return found


def _say(
    made: RunTable, supports: Mapping[str, Support], again: tuple[Added, RunTable] | None, *, per_query: bool
) -> None:
    """Say what the judgments can support, and show the comparison with filled judgments."""
    for name, one in supports.items():
        if one.open:
            echo(f"{name} against {made.baseline}: {' '.join(one.sentences())}")
    if again is not None:
        echo(f"\nAgain, {again[0]}:")
        _show(again[1], per_query=per_query)


def _write(made: RunTable, form: Form, output: Path | None, *, per_query: bool) -> None:
    if form == "table":
        _show(made, per_query=per_query)
    else:
        from thresher.evaluate.run_table_text import render

        _put(render(made, form, per_query=per_query), output)


def _put(text: str, output: Path | None) -> None:
    if output is None:
        echo(text.rstrip("\n"))
        return
    from thresher.durable import write_atomic

    write_atomic(output, text)
    say(f"The comparison is in {output}.")


def _show(made: RunTable, *, per_query: bool) -> None:
    from thresher.evaluate.run_table_text import Mean, blocks, plain

    for at, block in enumerate(blocks(made, per_query=per_query)):
        if at:
            echo()
        widest = max((len(cell.letters) for row in block.rows for cell in row if isinstance(cell, Mean)), default=0)
        rows = [
            [
                plain(c) + " " * (widest - len(c.letters) + (not c.letters)) if isinstance(c, Mean) else plain(c)
                for c in row
            ]
            for row in block.rows
        ]
        table(block.columns, rows, title=block.caption, numeric=[c for c in block.columns if c not in block.words])
        if block.note:
            echo(block.note)
