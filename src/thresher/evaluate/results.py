"""Result files: measured rows with the circumstances they were measured under, a table, and a plot.

    NAME.json   {"made": {"command", "commit", "date", "machine", "versions", "seed"}, "rows": [{...}, ...]}
    NAME.md     the rows as a Markdown table
    NAME.svg    the plot, where there is one

Contract: a row is flat; every file appears whole or not at all, the JSON last; the machine is described, not named.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher._version import __version__
from thresher.errors import DataNotFoundError, InputError, require
from thresher.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import altair as alt

Row = dict[str, Any]


def write_results(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    command: str,
    seed: int | None = None,
    plot: alt.Chart | Any | None = None,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    packages: Iterable[str] = (),
    title: str = "",
    note: str = "",
) -> None:
    """Write NAME.json, NAME.md and, with a plot, NAME.svg.

    Args:
        path: the JSON file, `eval/results/NAME.json`.
        rows: the measurements, one flat mapping each; values are strings, numbers, booleans, None, or lists of strings
            (numpy scalars are turned into Python's, tuples into lists).
        command: the command line that made them, as a reader would type it in the root of the checkout.
        seed: the seed of everything random in them, where there is one.
        plot: any altair chart; needs the `eval` extra.
        columns: which keys the table shows, in order, by themselves or with a format (`{"nDCG@10": ".4f"}`); by
            default all keys in the order they first appear, and floats with four decimals.
        packages: distributions besides thresher, numpy and numba whose versions bear on the figures.
        title: heading of the table; the file's name where there is none.
        note: a paragraph under the table: what the rows are, what to mind.

    Raises:
        InputError: no rows, a nested or non-finite value, a column that no row has, a name that does not end in .json.
        MissingExtraError: a plot is given and altair or vl-convert is not installed.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise InputError(f"results are written to NAME.json, not to {path.name!r}")
    flat = [_flat(row, number, path) for number, row in enumerate(rows, 1)]
    if not flat:
        raise InputError("there are no rows to write", str(path))
    made = provenance(command=command, seed=seed, packages=packages)
    image = path.with_suffix(".svg")
    shown = image if plot is not None else None
    page = _page(title or path.stem, markdown_table(flat, columns), made, image=shown, note=note)
    texts = {path.with_suffix(".md"): page}
    if plot is not None:
        texts[image] = _svg(plot)
    texts[path] = json.dumps({"made": made, "rows": flat}, indent=1, ensure_ascii=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_atomic(file, text)


def read_results(path: str | Path) -> tuple[dict[str, Any], list[Row]]:
    """The `made` block and the rows of a result file.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is not a result file.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return dict(document["made"]), [dict(row) for row in document["rows"]]
    except FileNotFoundError:
        raise DataNotFoundError(f"{path} does not exist") from None
    except (ValueError, KeyError, TypeError) as err:
        message = f"this is not a result file with `made` and `rows` ({type(err).__name__}: {err})"
        raise InputError(message, str(path)) from err


def provenance(*, command: str, seed: int | None = None, packages: Iterable[str] = ()) -> dict[str, Any]:
    """The circumstances of a measurement: command, commit, date (UTC), machine, versions, seed."""
    versions = {"thresher": __version__, "python": platform.python_version()}
    for package in ("numpy", "numba", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": _machine(),
        "versions": versions,
        "seed": seed,
    }


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | Mapping[str, str] | None = None) -> str:
    """Rows as a Markdown table; columns of numbers are right-aligned.

    Args:
        rows: flat mappings; a key that a row lacks, or None, is an empty cell.
        columns: as in `write_results`.

    Raises:
        InputError: a column that no row has, or a format that does not fit its values.
    """
    present = list(dict.fromkeys(key for row in rows for key in row))
    formats = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns or present, "")
    if missing := [name for name in formats if name not in present]:
        raise InputError(f"no row has the column {missing[0]!r}; there are: {', '.join(present)}")
    numeric = {name for name in formats if all(_is_number(row.get(name)) for row in rows)}
    lines = [
        "| " + " | ".join(_escaped(name) for name in formats) + " |",
        "|" + "|".join("--:" if name in numeric else "---" for name in formats) + "|",
    ]
    lines += ["| " + " | ".join(_cell(row.get(name), form) for name, form in formats.items()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return _escaped(", ".join(value))
    if not form and isinstance(value, float):
        form = ".4f"
    try:
        return _escaped(format(value, form))
    except (ValueError, TypeError) as err:
        raise InputError(f"the format {form!r} does not fit the value {value!r} ({err})") from err


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _page(title: str, body: str, made: Mapping[str, Any], *, image: Path | None, note: str) -> str:
    parts = [f"# {title}\n", body]
    if note:
        parts.append(note.strip() + "\n")
    if image is not None:
        parts.append(f"![{title}]({image.name})\n")
    seed = "" if made["seed"] is None else f", seed {made['seed']}"
    parts.append(f"Made by `{made['command']}` at commit {made['commit']}, {made['date']}{seed}.\n")
    machine = "{cpu}, {cores} cores, {memory_gib} GiB, {os}".format_map(made["machine"])
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    parts.append(f"Machine: {machine}. {versions}.\n")
    return "\n".join(parts)


def _flat(row: Mapping[str, Any], number: int, path: Path) -> Row:
    """A row of JSON scalars and lists of strings, numpy's turned into Python's."""
    flat: Row = {}
    for key, given in row.items():
        value = given.item() if hasattr(given, "item") and getattr(given, "ndim", 0) == 0 else given
        if isinstance(value, Path):
            value = str(value)
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            value = list(value)
        elif not isinstance(value, str | int | float | None):
            raise InputError(f"row {number}: {key!r} is a {type(value).__name__}; rows are flat", str(path))
        if isinstance(value, float) and value - value != 0.0:
            raise InputError(f"row {number}: {key!r} is {value}; leave out what was not measured", str(path))
        flat[str(key)] = value
    return flat


def _svg(plot: Any) -> str:
    converter: Any = require("vl_convert", extra="eval", purpose="writing a plot")
    require("altair", extra="eval", purpose="writing a plot")
    return str(converter.vegalite_to_svg(plot.to_dict()))


def _commit() -> str:
    """The commit of the checkout that this code or the current directory lies in, `-dirty` where src/ was changed."""
    for place in (Path(__file__).parent, Path.cwd()):
        root = _git(place, "rev-parse", "--show-toplevel")
        if root and (Path(root) / "src" / "thresher" / "_version.py").is_file():
            changed = _git(Path(root), "status", "--porcelain", "--", "src")
            return _git(Path(root), "rev-parse", "HEAD") + ("-dirty" if changed else "")
    return "unknown: not run in a checkout"


def _git(place: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _machine() -> dict[str, Any]:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # not on this system
        memory = 0.0
    return {"cpu": _cpu(), "cores": _cores(), "memory_gib": round(memory, 1), "os": _system()}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as stream:  # Linux alone has it
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name or platform.system()}, {platform.machine()}"
