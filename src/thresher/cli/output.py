"""What commands print: JSON for programs, tables for people; and how an option's help is worded once."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


_quiet = False
"""Whether `-q` was given: then results are printed, and summaries and notes are not."""


def be_quiet(wanted: bool) -> None:
    """Print no summaries and notes from now on, or print them."""
    global _quiet  # noqa: PLW0603  (one process, one command line)
    _quiet = wanted


def is_quiet() -> bool:
    """Whether `-q` was given."""
    return _quiet


def say(message: str) -> None:
    """Print a summary on standard output, unless `-q` was given."""
    if not _quiet:
        typer.echo(message)


def console() -> Console:
    """The terminal on standard output. Markup in data is never interpreted: build rich objects instead."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def emit_json(document: Any) -> None:
    """Print `document` as JSON on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def note(message: str) -> None:
    """Say something to the person at the terminal, on standard error, unless `-q` was given."""
    if not _quiet:
        sys.stderr.write(message + "\n")


def progress_wanted() -> bool:
    """Whether progress bars make sense: a person is watching standard error, and did not ask for quiet."""
    return sys.stderr.isatty() and not _quiet


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, numeric: Sequence[str] = ()
) -> None:
    """Print a table. Columns named in `numeric` are right-aligned; floats get four decimals."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(f"{cell:.4f}" if isinstance(cell, float) else printable(str(cell))) for cell in row))
    console().print(grid)


def printable(text: str) -> str:
    """`text` without control characters, which a terminal would obey."""
    return "".join(char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
