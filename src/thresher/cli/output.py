"""Output and options of commands.

Output is JSON for programs, tables and messages for people. Options that belong together are the fields of a dataclass,
which `grouped` shows to typer one by one.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters annotated with a dataclass are replaced by the dataclass's fields.

    Each field is a parameter with its annotation and default; the command gets the dataclasses, made of the values
    given. Field names are distinct over all groups.
    """
    hints = get_type_hints(command, include_extras=True)
    plain: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., object], list[str]]] = {}
    for name in inspect.signature(command).parameters:
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            plain.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind))
            continue
        own = get_type_hints(kind, include_extras=True)
        fields = inspect.signature(kind).parameters
        groups[name] = (kind, list(fields))
        plain += [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=own[key])
            for key, one in fields.items()
        ]

    @wraps(command)
    def flat(**values: object) -> None:
        made = {name: kind(**{key: values.pop(key) for key in keys}) for name, (kind, keys) in groups.items()}
        command(**values, **made)

    flat.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    flat.__annotations__ = {one.name: one.annotation for one in plain}
    return flat
