"""Figures of the result files, in Markdown: single ones and tables.

A page holds figures between markers, and `python -m eval tables` writes what is between them:

    <!-- table: NAME -->
    | ... |
    <!-- /table -->

    BM25 has <!-- figure: bm25 collection=scifact measure=nDCG@10 measured:.4f -->0.6776<!-- /figure --> on SciFact

A reference to a figure is the name of a result file (`NAME.rows` for the rows in NAME.rows.jsonl.gz), conditions
`key=value` that one row meets (quoted where a value has blanks), and a template: a key with a Python format, or several
in braces. A list in a row is written `a,b` in a condition.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from eval.bench import RESULTS
from thresher.errors import InputError
from thresher.evaluate.results import read_details, read_results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from eval.bench import Row

Where = dict[str, Any]

_TABLE = re.compile(r"(?P<open><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<close><!-- /table -->)", re.DOTALL)
_FIGURE = re.compile(r"(?P<open><!-- figure: (?P<reference>.+?) -->).*?(?P<close><!-- /figure -->)", re.DOTALL)
_FIELD = re.compile(r"\{([^{}:]+):?([^{}]*)\}")
_EMBEDDED = re.compile(r"\{\{(.+?)\}\}")


@cache
def rows_of(name: str) -> list[Row]:
    """The rows of a result file, or with `NAME.rows` those of its compressed file.

    Raises:
        DataNotFoundError: there is no such file.
    """
    if name.endswith(".rows"):
        return read_details(RESULTS / f"{name.removesuffix('.rows')}.json")
    return read_results(RESULTS / f"{name}.json")[1]


def matching(name: str, where: Mapping[str, Any]) -> list[Row]:
    """The rows that meet all conditions."""
    return [row for row in rows_of(name) if all(_meets(row.get(key), value) for key, value in where.items())]


def _meets(found: object, wanted: object) -> bool:
    if isinstance(found, list):
        return ",".join(found) == (",".join(wanted) if isinstance(wanted, list | tuple) else wanted)
    return found == wanted or (isinstance(wanted, str) and not isinstance(found, str) and str(found) == wanted)


def shown(name: str, where: Mapping[str, Any], template: str) -> str:
    """A template filled from the row that meets the conditions; "" where its values are None.

    Raises:
        InputError: no row meets them, or rows that differ in what is shown.
    """
    texts = {_filled(template, row) for row in matching(name, where)}
    if len(texts) != 1:
        said = ", ".join(f"{key}={value!r}" for key, value in where.items())
        problem = "no row" if not texts else f"{len(texts)} different rows"
        raise InputError(f"{name} has {problem} with {said} for {template!r}")
    return texts.pop()


def _filled(template: str, row: Row) -> str:
    """`{key:format}` of the row's values; "" where one of them is None or missing."""
    if any(row.get(key) is None for key, _ in _FIELD.findall(template)):
        return ""
    return _FIELD.sub(lambda found: format(row[found[1]], found[2]), template)


def figure(reference: str) -> str:
    """What a reference in a page shows.

    Raises:
        InputError: it is not a reference, or names no row.
    """
    parts = shlex.split(reference)
    if len(parts) < 2 or any("=" not in part for part in parts[1:-1]):
        raise InputError(f"{reference!r} is not a reference; write FILE key=value ... KEY:FORMAT")
    where = dict(part.split("=", 1) for part in parts[1:-1])
    template = parts[-1] if "{" in parts[-1] else f"{{{parts[-1]}}}"
    return shown(parts[0], where, template)


def embedded(text: str) -> str:
    """Text with every `{{reference}}` in it replaced by its figure."""
    return _EMBEDDED.sub(lambda found: figure(found[1]), text)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a pivot table.

    Attributes:
        heading: its heading.
        template: what a cell shows of its row.
        where: conditions beside those of the line.
        file: the result file, where it is not the table's.
    """

    heading: str
    template: str
    where: Where = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True, slots=True)
class Pivot:
    """A table with a row of a result file in each cell.

    Attributes:
        file: the result file.
        columns: columns after the first.
        lines: text of the first column, and conditions.
        corner: heading of the first column.
    """

    file: str
    columns: Sequence[Column]
    lines: Sequence[tuple[str, Where]]
    corner: str = ""

    def __call__(self) -> str:
        """The table; a cell without a row is empty."""
        body = []
        for label, where in self.lines:
            cells = [self._cell(column, where) for column in self.columns]
            body.append([label, *cells])
        return markdown([self.corner, *(column.heading for column in self.columns)], body)

    def _cell(self, column: Column, where: Where) -> str:
        file, conditions = column.file or self.file, {**where, **column.where}
        return shown(file, conditions, column.template) if matching(file, conditions) else ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A table with one line a row of a result file.

    Attributes:
        file: the result file.
        columns: heading and template of each column.
        where: conditions that a row must meet to be listed.
        left: columns from the left that hold text.
    """

    file: str
    columns: Sequence[tuple[str, str]]
    where: Where = field(default_factory=dict)
    left: int = 1

    def __call__(self) -> str:
        """The table."""
        body = [[_filled(template, row) for _, template in self.columns] for row in matching(self.file, self.where)]
        return markdown([heading for heading, _ in self.columns], body, left=self.left)


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table whose cells are text with `{{references}}`."""

    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    left: int = 1

    def __call__(self) -> str:
        """The table."""
        return markdown(self.headings, [[embedded(cell) for cell in line] for line in self.lines], left=self.left)


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table; all but the first `left` columns are right-aligned."""
    rule = ["---"] * left + ["--:"] * (len(headings) - left)
    rows = [headings, *lines]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    text.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(text).replace("|  |", "| |").replace("|  |", "| |") + "\n"


def rendered(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A page with its tables and figures written again.

    Raises:
        InputError: a marker names no table or no figure.
    """

    def table(found: re.Match[str]) -> str:
        if found["name"] not in tables:
            raise InputError(f"there is no table {found['name']!r}; known are: {', '.join(tables)}")
        return found["open"] + tables[found["name"]]() + found["close"]

    return _FIGURE.sub(lambda f: f["open"] + figure(f["reference"]) + f["close"], _TABLE.sub(table, page))


def pages(root: Path) -> list[Path]:
    """README, documents and model cards: the files that may hold figures."""
    cards = (root / "src" / "thresher" / "models" / "weights").glob("*/README.md")
    return [root / "README.md", *sorted((root / "docs").rglob("*.md")), *sorted(cards)]
