"""Result files: measured rows with their provenance, a table, and a plot.

    NAME.json            {"made": {"command", "commit", "date", "machine", "versions", "seed"}, "rows": [{...}, ...]}
    NAME.rows.jsonl.gz   the many rows that those summarise (per query, per threshold), one JSON object a line
    NAME.md              the rows as a Markdown table
    NAME.svg             the plot

Rows are flat. Every file is written atomically, the JSON last. The machine is described, not named. The commit is that
of the checkout; where its code has uncommitted changes, nothing is written unless the caller allows it, and then the
commit ends in `-dirty`.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from thresher._version import __version__
from thresher.durable import write_atomic
from thresher.errors import InputError, ThresherError, require
from thresher.files import read_json_lines, read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Chart(Protocol):
    """An altair chart."""

    def to_dict(self) -> dict[str, object]:
        """The chart in Vega-Lite."""


Row = dict[str, Any]
DIRTY = "-dirty"
_NOT_CODE = ("eval/results", "docs", "*.md")
_CPU_NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}


def write_results(
    path: str | Path,
    rows: Iterable[Mapping[str, object]],
    *,
    command: str | None = None,
    seed: int | None = None,
    plot: Chart | None = None,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    packages: Iterable[str] = (),
    title: str = "",
    note: str = "",
    details: Iterable[Mapping[str, object]] = (),
    allow_dirty: bool = False,
) -> None:
    """Write NAME.json and NAME.md, with a plot also NAME.svg, with details also NAME.rows.jsonl.gz.

    Args:
        path: the JSON file, `eval/results/NAME.json`.
        rows: the measurements, one flat mapping each; values are strings, numbers, booleans, None, or lists of strings
            (numpy scalars become Python's, tuples become lists).
        command: the command line that made them; by default this process's (`command_line`).
        seed: the seed of everything random in them.
        plot: any altair chart; needs the `eval` extra.
        columns: the keys that the table shows, in order, alone or with a format (`{"nDCG@10": ".4f"}`); by default all
            keys in the order they first appear, and floats with four decimals.
        packages: distributions besides thresher, numpy and numba whose versions affect the figures.
        title: heading of the table; by default the file's name.
        note: a paragraph under the table: what the rows are, what to mind.
        details: the many rows that `rows` summarise, for example one a query.
        allow_dirty: write also when the checkout's code has uncommitted changes.

    Raises:
        InputError: no rows, a nested or non-finite value, a column that no row has, or a name that does not end in
            .json.
        ThresherError: the code has uncommitted changes and `allow_dirty` is not set.
        MissingExtraError: a plot is given and altair or vl-convert is not installed.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise InputError(f"results are written to NAME.json, got {path.name!r}")
    flat = [_flat(row, number, path) for number, row in enumerate(rows, 1)]
    if not flat:
        raise InputError("there are no rows to write", str(path))
    made = provenance(command=command, seed=seed, packages=packages)
    if not allow_dirty:
        _check_clean(path, made["commit"])
    image = path.with_suffix(".svg")
    many = [_flat(row, number, path) for number, row in enumerate(details, 1)]
    files: dict[Path, str] = {}
    if many:
        files[details_file(path)] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in many)
        note = f"{note.strip()} The {len(many):,} rows behind the table are in `{details_file(path).name}`.".strip()
    files[path.with_suffix(".md")] = _page(
        title or path.stem, markdown_table(flat, columns), made, image=image if plot is not None else None, note=note
    )
    if plot is not None:
        files[image] = to_svg(plot)
    files[path] = json.dumps({"made": made, "rows": flat}, indent=1, ensure_ascii=False) + "\n"
    for file, text in files.items():
        write_atomic(file, text)


def _check_clean(path: Path, commit: str) -> None:
    if commit.endswith(DIRTY):
        raise ThresherError(
            f"{path.name} was not written: the checkout has uncommitted changes, so its commit would not say which "
            "code was measured; commit them, or allow it (--allow-dirty), which marks the file"
        )


def details_file(path: str | Path) -> Path:
    """NAME.rows.jsonl.gz beside NAME.json."""
    return Path(path).with_suffix(".rows.jsonl.gz")


def read_details(path: str | Path) -> list[Row]:
    """The rows of NAME.rows.jsonl.gz, given the path of NAME.json.

    Raises:
        DataNotFoundError: the result file has no details.
        InputError: a line is not a JSON object.
    """
    return [row for _, row in read_json_lines(details_file(path))]


def read_results(path: str | Path) -> tuple[Row, list[Row]]:
    """The `made` block and the rows of a result file.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is not a result file.
    """
    try:
        document = json.loads(read_text(path))
        return dict(document["made"]), [dict(row) for row in document["rows"]]
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        message = f"this is not a result file with `made` and `rows` ({type(err).__name__}: {err})"
        raise InputError(message, str(path)) from err


def provenance(*, command: str | None = None, seed: int | None = None, packages: Iterable[str] = ()) -> Row:
    """How a measurement was made: command, commit, date (UTC), machine, versions, seed."""
    versions = {"thresher": __version__, "python": platform.python_version()}
    for package in ("numpy", "numba", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "command": command_line() if command is None else command,
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": _machine(),
        "versions": versions,
        "seed": seed,
    }


def command_line(argv: Sequence[str] | None = None) -> str:
    """This process's command line as a reader would type it in the root of the checkout.

    `python -m PACKAGE` is recognised by the script's name; `--allow-dirty` is left out; an absolute path is shortened
    to its last part, so that a result file does not name a machine's folders.
    """
    script, *arguments = sys.argv if argv is None else argv
    place = Path(script)
    program = ["python", "-m", place.parent.name] if place.name == "__main__.py" else [_shortened(script)]
    if place.suffix == ".py" and place.name != "__main__.py":
        program = ["python", "/".join(place.parts[-2:])]
    return shlex.join([*program, *(_shortened(a) for a in arguments if a != "--allow-dirty")])


def _shortened(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return option + equals + Path(value).name if Path(value).is_absolute() else argument


def markdown_table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str] | Mapping[str, str] | None = None
) -> str:
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


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: object, form: str) -> str:
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


def _page(title: str, body: str, made: Row, *, image: Path | None, note: str) -> str:
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


def _flat(row: Mapping[str, object], number: int, path: Path) -> Row:
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


def to_svg(plot: Chart) -> str:
    """A chart as SVG.

    Raises:
        MissingExtraError: altair or vl-convert is not installed.
    """
    converter = require("vl_convert", extra="eval", purpose="writing a plot")
    require("altair", extra="eval", purpose="writing a plot")
    return str(converter.vegalite_to_svg(plot.to_dict()))


def commit() -> str:
    """The commit of the checkout that this code or the current directory lies in.

    It ends in `-dirty` where anything but documents and result files has uncommitted changes.
    """
    for place in (Path(__file__).parent, Path.cwd()):
        root = _git(place, "rev-parse", "--show-toplevel")
        if root and (Path(root) / "src" / "thresher" / "_version.py").is_file():
            changed = _git(Path(root), "status", "--porcelain", "--", ".", *(f":!{name}" for name in _NOT_CODE))
            return _git(Path(root), "rev-parse", "HEAD") + (DIRTY if changed else "")
    return "unknown: not run in a checkout"


def _git(place: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _machine() -> Row:
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
    """Name of the processor with its family, model and stepping, which the name on virtual machines often lacks."""
    found: dict[str, str] = {}
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as stream:  # Linux only
        for line in stream:
            key, _, value = line.partition(":")
            if not key.strip():
                break  # the first processor is enough
            found[key.strip()] = value.strip()
    name = found.get("model name") or platform.processor() or platform.machine() or "unknown"
    numbers = [f"{say} {found[key]}" for say, key in _CPU_NUMBERS.items() if key in found]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name or platform.system()}, {platform.machine()}"
