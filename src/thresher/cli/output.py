"""Output of commands: JSON for programs, tables and messages for people."""

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
"""Whether `-q` was given: only results and errors are printed."""


def be_quiet(wanted: bool) -> None:
    """Turn summaries and notes off or on."""
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
    """A console on standard output that does not interpret markup in data."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def emit_json(document: Any) -> None:
    """Print `document` as JSON on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def note(message: str) -> None:
    """Print a message on standard error, unless `-q` was given."""
    if not _quiet:
        sys.stderr.write(message + "\n")


def progress_wanted() -> bool:
    """Whether to show progress bars: standard error is a terminal and `-q` was not given."""
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


def counted(n: int, one: str = "query", many: str = "queries") -> str:
    """The number with its noun: `1 query`, `1,200 queries`."""
    return f"{n:,} {one if n == 1 else many}"


def printable(text: str) -> str:
    """`text` with control characters replaced, so that data cannot control the terminal."""
    return "".join(char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
