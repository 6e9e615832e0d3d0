"""`thresher curves`: which configurations are worth their cost, from measured rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, say, table

if TYPE_CHECKING:
    from thresher.evaluate.front import Point
    from thresher.evaluate.results import Row


def curves(
    file: Annotated[Path, typer.Argument(help="Measured rows: a result file (NAME.json), .csv or .tsv.")],
    cost: Annotated[str, typer.Option(help="Column of the cost: lower is better.")],
    effect: Annotated[str, typer.Option(help="Column of the effectiveness: higher is better.")] = "nDCG@10",
    name: Annotated[list[str] | None, typer.Option(help="Column that names a configuration; repeat to join.")] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Only rows with this value.")] = None,
    at_least: Annotated[float | None, typer.Option(help="Also name the cheapest that reaches this value.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the points to this SVG file (needs thresher[eval]).")] = None,
    json: JsonOption = False,
) -> None:
    """Show the configurations that no other beats in both cost and effectiveness (the Pareto front).

    \b
    Examples:
      thresher curves eval/results/cascade.json --cost ms_p50 --name stages --where collection=trec-dl-2019
      thresher curves mine.csv --cost calls --name plan --at-least .7 --plot mine.svg
    """
    from thresher.evaluate.front import cheapest, front
    from thresher.evaluate.front import plot as draw

    points = points_of(file, cost, effect, name or [], where or [])
    best = front(points)
    chosen = cheapest(points, at_least=at_least) if at_least is not None else None
    if plot is not None:
        from thresher.durable import write_atomic
        from thresher.evaluate.results import to_svg

        write_atomic(plot, to_svg(draw(points, cost=cost, effect=effect)))
    if json:
        emit_json(
            {
                "points": len(points),
                "front": [{"name": p.name, "cost": p.cost, "effect": p.effect} for p in best],
                "cheapest": None if chosen is None else chosen.name,
            }
        )
        return
    table(["configuration", cost, effect], [(p.name, p.cost, p.effect) for p in best], numeric=[cost, effect])
    say(f"{len(best)} of {len(points)} configurations are not beaten in both")
    if at_least is not None:
        echo(f"cheapest with {effect} >= {at_least:g}: {chosen.name if chosen else 'none'}")


def points_of(file: Path, cost: str, effect: str, names: list[str], where: list[str]) -> list[Point]:
    """The rows of a result file or table that have both values."""
    from thresher.errors import InputError
    from thresher.evaluate.front import Point

    conditions = []
    for text in where:
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"--where {text!r} is not COLUMN=VALUE")
        conditions.append((key, value))
    rows = _rows(file)
    columns = dict.fromkeys(key for row in rows for key in row)
    for key in (cost, effect, *names, *(key for key, _ in conditions)):
        if key not in columns:
            raise InputError(f"there is no column {key!r}; there are: {', '.join(columns)}", str(file))
    points = []
    for number, row in enumerate(rows, 1):
        if any(_text(row.get(key)) != value for key, value in conditions):
            continue
        if row.get(cost) in (None, "") or row.get(effect) in (None, ""):
            continue  # not measured
        label = " ".join(_text(row.get(key)) for key in names) or f"row {number}"
        points.append(Point(label, _number(row, cost, file, number), _number(row, effect, file, number)))
    if not points:
        raise InputError(f"no row has both {cost!r} and {effect!r}" + (" where asked" if where else ""), str(file))
    return points


def _rows(file: Path) -> list[Row]:
    if file.suffix == ".json":
        from thresher.evaluate.results import read_results

        return read_results(file)[1]
    import csv

    from thresher.errors import InputError
    from thresher.files import read_lines

    if file.suffix not in (".csv", ".tsv"):
        raise InputError("rows are read from a result file (.json), .csv or .tsv", str(file))
    lines = (line.decode("utf-8") + "\n" for _, line in read_lines(file))
    return list(csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","))


def _text(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _number(row: Row, key: str, file: Path, number: int) -> float:
    from thresher.errors import InputError

    try:
        return float(row[key])
    except (TypeError, ValueError):
        raise InputError(f"row {number}: {key!r} is {row[key]!r}, not a number", str(file)) from None
