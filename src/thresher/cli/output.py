"""Output and options of commands.

Output is JSON for programs, tables and messages for people. Options that belong together are the fields of a dataclass,
which `grouped` shows to typer one by one.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import sys
import unicodedata
from dataclasses import is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from thresher.checks import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory-gb",
        min=0.0,
        metavar="N",
        help="Hold at most N GB of memory, mapped files and models included. The index is the same; less takes longer.",
    ),
]
WhereOption = Annotated[
    str | None, typer.Option("--where", help="Only passages whose metadata match: 'lang = en and year >= 2020'.")
]


_JOINER = "\u200d"
_quiet = False
"""Whether `-q` was given: only results and errors are printed."""


def be_quiet(wanted: bool) -> None:
    """Turn summaries and notes off or on."""
    global _quiet  # noqa: PLW0603  (one process, one command line)
    _quiet = wanted


def is_quiet() -> bool:
    """Whether `-q` was given."""
    return _quiet


def refuse_input_as_output(output: Path | None, *inputs: Path | str | None) -> None:
    """Refuse to write over a file that the command reads.

    Raises:
        BadParameter: `output` is one of `inputs`, by whatever name.
    """
    if output is None:
        return
    for one in inputs:
        if one is not None and output.is_file() and Path(one).exists() and output.samefile(one):
            raise typer.BadParameter(f"{output} is read by this command; give the output another name")


class _Nowhere(io.TextIOBase):
    """Takes the place of a stream that is closed."""

    def write(self, text: str, /) -> int:
        """Forget `text`."""
        return len(text)


def prepare_streams() -> None:
    """Let standard output and error take any text: what their encoding lacks is escaped, and closed ones swallow it."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # so that no file that is opened later gets their numbers
        pass
    os.close(free)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _Nowhere())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """Send what is left of standard output nowhere: writing it failed, and Python would try again at the end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no file behind it
        sys.stdout = _Nowhere()


def echo(message: str = "") -> None:
    """Print a line on standard output, whatever it is made of."""
    sys.stdout.write(printable(message) + "\n")


def complain(message: str) -> None:
    """Print a line on standard error, whatever it is made of."""
    sys.stderr.write(printable(message) + "\n")


def say(message: str) -> None:
    """Print a summary on standard output, unless `-q` was given."""
    if not _quiet:
        echo(message)


def console() -> Console:
    """A console on standard output that does not interpret markup in data."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def emit_json(document: Any) -> None:
    """Print `document` as JSON on standard output."""
    sys.stdout.write(to_json(document, indent=2) + "\n")


_ESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def to_json(document: Any, *, indent: int | None = None) -> str:
    """`document` as JSON that a terminal can show: controls and marks of direction are escaped.

    So is all that is not ASCII where standard output cannot encode it.
    """
    text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    text = _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent, allow_nan=False, default=str)
    return text


def note(message: str) -> None:
    """Print a message on standard error, unless `-q` was given."""
    if not _quiet:
        complain(message)


def progress_wanted() -> bool:
    """Whether to show progress bars: standard error is a terminal and `-q` was not given."""
    return sys.stderr.isatty() and not _quiet


def skipped_line(reason: str, count: int) -> str:
    """What is said of records or files that were left out; the word is the reason's own where it names what it is."""
    thing = next((word for word in ("file", "folder", "link", "loop") if reason.endswith(f"-{word}")), "")
    what = {"": "record", "loop": "link"}.get(thing, thing)
    what = "file" if reason == "needs-extra-files" else "link" if reason == "linked-twice" else what
    return f"skipped {count:,} {what}{'' if count == 1 else 's'}: {reason}"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, numeric: Sequence[str] = ()
) -> None:
    """Print a table. Columns named in `numeric` are right-aligned; floats get four decimals.

    Numbers are never folded or cut, and words not into pieces shorter than `_FOLDED`: rather than that, a table is
    wider than the terminal.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    title = None if title is None else printable(title)
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else printable(str(cell)) for cell in row] for row in rows]
    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    needed = 2 * (len(columns) - 1)
    for at, column in enumerate(columns):
        number = column in numeric
        name = printable(column)
        grid.add_column(Text(name), justify="right" if number else "left", overflow="fold", no_wrap=number)
        widest = max(map(cell_len, [name, *(row[at] for row in cells)]))
        needed += widest if number else min(widest, _FOLDED)
    for row in cells:
        grid.add_row(*map(Text, row))
    out = console()
    out.width = max(out.width, needed)
    out.print(grid)


_FOLDED = 12
"""Columns that a cell of words keeps in a narrow terminal."""


def counted(n: int, one: str = "query", many: str = "queries") -> str:
    """The number with its noun: `1 query`, `1,200 queries`."""
    return f"{n:,} {one if n == 1 else many}"


def shortened(text: str, width: int) -> str:
    """At most `width` characters of `text` on one line, cut between words where it can be, and never in a letter."""
    text = re.sub("[ \t\n\r\f\v]+", " ", text).strip()
    if len(text) <= width:
        return text
    end = max(width - 2, 1)
    space = text.rfind(" ", end // 2, end + 1)
    if space > 0:
        end = space
    while end > 1 and (text[end - 1] == _JOINER or text[end] == _JOINER or unicodedata.category(text[end])[0] == "M"):
        end -= 1
    return text[:end].rstrip() + " …"


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters annotated with a dataclass are replaced by the dataclass's fields.

    Each field is a parameter with its annotation and default; the command gets the dataclasses, made of the values
    given. Field names are distinct over all groups.
    """
    hints = get_type_hints(command, include_extras=True)
    plain: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., object], list[str]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        if not (isinstance(kind, type) and is_dataclass(kind)):
            default = parameter.default
            plain.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
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
