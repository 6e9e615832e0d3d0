"""A table of runs as Markdown, LaTeX (booktabs) or CSV, or as blocks that a terminal shows."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thresher.arguments import checked_call
from thresher.checks import printable
from thresher.evaluate.run_table import ties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.evaluate.comparison import Comparison
    from thresher.evaluate.run_table import RunTable
    from thresher.evaluate.significance import Equivalence, NonInferiority

Format = Literal["markdown", "latex", "csv"]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with the letters of the runs that it is significantly better than; `best` of its column."""

    value: float
    letters: str
    best: bool


Cell = str | float | int | None | Mean


@dataclass(frozen=True, slots=True)
class Block:
    """One table: columns named in `words` are aligned to the left; `note` explains the others."""

    caption: str
    columns: tuple[str, ...]
    words: frozenset[str]
    rows: tuple[tuple[Cell, ...], ...]
    note: str


def blocks(table: RunTable, *, per_query: bool = False) -> list[Block]:
    """Means, differences, claims where a margin was given, and where wanted the values of every query."""
    found = [_means(table), _differences(table)]
    if table.margin is not None:
        found.append(_claims(table))
    if per_query:
        found.append(_queries(table))
    return found


def _means(table: RunTable) -> Block:
    measures = table.measures
    best = {m: max(one.mean[m] for one in table.evaluations.values()) for m in measures}
    rows: list[tuple[Cell, ...]] = [
        (
            table.letters[name],
            name,
            *(Mean(one.mean[m], table.better_than[name][m], one.mean[m] == best[m]) for m in measures),
        )
        for name, one in table.evaluations.items()
    ]
    return Block(
        f"Means over {len(table.topics):,} topics",
        ("", "run", *measures),
        frozenset(("", "run")),
        tuple(rows),
        f"Letters after a mean name the runs that it is significantly better than: paired t test, Holm over all pairs "
        f"and measures, at {table.alpha:g}.",
    )


def _compared(table: RunTable) -> list[tuple[str, str, Comparison]]:
    return [(name, measure, one) for name, found in table.comparisons.items() for measure, one in found.items()]


def _differences(table: RunTable) -> Block:
    columns = ("run", "measure", "diff", "low", "high", "p", "rand.", "effect", "wins", "ties", "losses")
    rows = [
        (
            name, measure, c.difference, c.interval.low, c.interval.high,
            c.p if c.p_adjusted is None else c.p_adjusted, c.p_randomisation,
            None if c.effect is None else c.effect.value, c.better, ties(c), c.worse,
        )
        for name, measure, c in _compared(table)
    ]  # fmt: skip
    return Block(
        f"Differences to {table.baseline}",
        columns,
        frozenset(("run", "measure")),
        tuple(rows),
        f"diff: run minus {table.baseline}, with its {1 - table.alpha:.0%} t interval; p: paired t test, by Holm over "
        "these rows; rand.: randomisation test, unadjusted; effect: in standard deviations of the differences.",
    )


def _claims(table: RunTable) -> Block:
    columns = ("run", "measure", "not worse", "p", "loss <", "equivalent", "p equiv.", "provable", "topics")
    rows: list[tuple[Cell, ...]] = []
    for name, measure, c in _compared(table):
        low, both = c.non_inferiority, c.equivalence
        if low is not None and both is not None:
            verdict = "no, worse" if c.interval.high <= -low.margin else _verdict(low)
            row = (verdict, _p(low), max(0.0, -low.low), _verdict(both), _p(both), c.provable)
            rows.append((name, measure, *row, table.topics_needed(name, measure)))
    return Block(
        f"Claims at a margin of {table.margin:g}",
        columns,
        frozenset(("run", "measure", "not worse", "equivalent")),
        tuple(rows),
        "not worse: non-inferior at the margin; equivalent: within it either way; p by Holm over these rows; loss <: "
        f"what the loss is below, at {1 - table.alpha:.0%}; provable: the margin that these topics show at power .80 "
        "if nothing is lost; topics: how many would show this margin if nothing is lost, so something probably is "
        f"where they are no more than these {len(table.topics):,}.",
    )


def _queries(table: RunTable) -> Block:
    rows: list[tuple[Cell, ...]] = [
        (qid, measure, *(one.per_query[measure][qid] for one in table.evaluations.values()))
        for measure in table.measures
        for qid in table.topics
    ]
    columns = ("qid", "measure", *table.evaluations)
    return Block("Values of every topic", columns, frozenset(("qid", "measure")), tuple(rows), "")


def _verdict(claim: Equivalence | NonInferiority) -> str:
    return "proven" if claim.proven else "no"


def _p(claim: Equivalence | NonInferiority) -> float:
    return claim.p if claim.p_adjusted is None else claim.p_adjusted


@checked_call
def render(table: RunTable, form: Format, *, per_query: bool = False) -> str:
    """The table as text.

    Args:
        table: as from `compare_runs`.
        form: `markdown`, `latex` (needs the package booktabs), or `csv`: one table with a row for each run and measure.
        per_query: also the values of every topic; of CSV, a row for each run, measure and topic in place of the others.
    """
    if form == "csv":
        return _csv(table, per_query=per_query)
    made = blocks(table, per_query=per_query)
    if form == "markdown":
        return "\n".join(map(_markdown, made))
    return "% needs \\usepackage{booktabs}\n" + "\n".join(map(_latex, made))


def _csv(table: RunTable, *, per_query: bool) -> str:
    rows = _topic_rows(table) if per_query else table.as_rows()
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _topic_rows(table: RunTable) -> list[dict[str, object]]:
    against = table.evaluations[table.baseline].per_query
    return [
        {"run": name, "measure": measure, "qid": qid, "value": value, "difference": value - against[measure][qid]}
        for name, one in table.evaluations.items()
        for measure, values in one.per_query.items()
        for qid, value in values.items()
    ]


def plain(cell: Cell) -> str:
    """A cell without markup: floats have four decimals."""
    if isinstance(cell, Mean):
        return f"{cell.value:.4f} {cell.letters}".rstrip()
    return f"{cell:.4f}" if isinstance(cell, float) else "" if cell is None else printable(str(cell))


def _markdown(block: Block) -> str:
    def text(cell: Cell) -> str:
        if isinstance(cell, Mean):
            value = f"**{cell.value:.4f}**" if cell.best else f"{cell.value:.4f}"
            return value + (f"<sup>{cell.letters}</sup>" if cell.letters else "")
        return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", plain(cell)) if isinstance(cell, str) else plain(cell)

    lines = [list(map(text, block.columns)), ["---" if one in block.words else "--:" for one in block.columns]]
    lines += [list(map(text, row)) for row in block.rows]
    shown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text(block.caption)}\n\n{shown}\n" + (f"\n{text(block.note)}\n" if block.note else "")


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
} | {one: f"\\{one}" for one in "&%$#_{}"}  # fmt: skip


def _latex(block: Block) -> str:
    def text(cell: Cell) -> str:
        if isinstance(cell, Mean):
            value = f"\\textbf{{{cell.value:.4f}}}" if cell.best else f"{cell.value:.4f}"
            return value + (f"\\textsuperscript{{{cell.letters}}}" if cell.letters else "")
        if isinstance(cell, float):
            return f"${cell:.4f}$"  # a minus, not a hyphen
        return "".join(_LATEX.get(letter, letter) for letter in plain(cell))

    def line(cells: Sequence[Cell]) -> str:
        # an opening bracket after \\ would be read as its argument
        return "  {}" + " & ".join(map(text, cells)) + r" \\"

    note = [rf"\par\smallskip{{\footnotesize {text(block.note)}\par}}"] if block.note else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{text(block.caption)}}}",
            rf"\begin{{tabular}}{{{''.join('l' if one in block.words else 'r' for one in block.columns)}}}",
            r"\toprule",
            line(block.columns),
            r"\midrule",
            *map(line, block.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *note,
            r"\end{table}",
            "",
        ]
    )
