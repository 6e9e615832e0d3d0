"""Source files to blocks: a section for each class and function.

Python is parsed (`ast`, nothing is run). Of other languages lines are read: what begins in the first column and names a
function, class or type starts a section, and blank lines part blocks.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import Block, Document, Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_NAMES = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([^)]*\))?|unsafe|open"
    r"|override|virtual|inline|extern|const|local|sealed|partial|data|case)\s+)*"
    r"(?:function|class|def|func|fn|fun|struct|enum|union|interface|trait|impl|module|namespace|type|object|record"
    r"|protocol|extension|sub|typedef\s+struct|create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure))"
    r"\s*\*?\s+(?:\([^)]*\)\s*)?(?P<name>[\w$:.<>~-]+)",
    re.IGNORECASE,
)
_C = re.compile(r"(?:[A-Za-z_][\w:<>,]*[\s*&]+){1,6}(?P<name>[A-Za-z_~][\w:~]*)\s*\(")
_SHELL = re.compile(r"(?P<name>[A-Za-z_][\w-]*)\s*\(\)\s*\{?\s*$")


def read_python(text: str) -> Document:
    """The blocks of a Python file: the docstring of the module, its classes, functions and methods."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return read_source(text)
    document = Document(text)
    lines = Lines(text)
    if len(lines) < max((node.end_lineno or 0 for node in tree.body), default=0):
        return read_source(text)  # form feeds or other line ends that Python does not count as we do
    starts = sorted(_definitions(tree, 1))
    here = 0
    for first, level, name in [*starts, (len(lines), 0, "")]:
        _code(document, lines, here, first)
        if level:
            stop = _signature_end(lines, first)
            span = lines.span(first, stop)
            document.blocks.append(Block(span.start, span.end, "heading", level, name, shown=True))
            here = stop
    return document


def _definitions(node: ast.Module | Named, level: int) -> Iterator[tuple[int, int, str]]:
    """(line from 0, level, name) of classes, functions and methods, with their decorators."""
    for child in node.body:
        if isinstance(child, Named):
            first = min([child.lineno, *(one.lineno for one in child.decorator_list)]) - 1
            yield first, level, child.name
            if isinstance(child, ast.ClassDef):
                yield from _definitions(child, level + 1)


def _signature_end(lines: Lines, first: int) -> int:
    """The line after the decorators and the first line of a definition."""
    number = first
    while number < len(lines) and not re.match(r"\s*(?:async\s+def|def|class)\s", lines[number]):
        number += 1
    return min(number, len(lines) - 1) + 1


def read_source(text: str) -> Document:
    """The blocks of a source file of any language."""
    document = Document(text)
    lines = Lines(text)
    here = 0
    for number in range(len(lines)):
        name = _name(lines, number)
        if not name:
            continue
        first = _comment_start(lines, here, number)
        _code(document, lines, here, first)
        span = lines.span(first, number + 1)
        document.blocks.append(Block(span.start, span.end, "heading", 1, name, shown=True))
        here = number + 1
    _code(document, lines, here, len(lines))
    return document


def _name(lines: Lines, number: int) -> str:
    """The name of what a line in the first column defines; empty where it defines nothing."""
    line = lines[number]
    if not line or line[0] in " \t#/*-;'\"})]" or len(line) > 300:
        return ""
    found = _NAMES.match(line) or _SHELL.match(line)
    if found is None and line.rstrip().endswith(("{", ")", ",")) and not line.rstrip().endswith(("};", ");")):
        found = _C.match(line) if "(" in line and "=" not in line.partition("(")[0] else None
    return found["name"].rstrip(":<") if found else ""


def _comment_start(lines: Lines, first: int, number: int) -> int:
    """The first of the lines right above `number` that are not blank: its comment or its decorators."""
    at = number
    while at > first and not lines.is_blank(at - 1) and lines[at - 1][:1] in ("#", "/", "*", "-", " ", "@", ";", "["):
        at -= 1
    return at if at == first or lines.is_blank(at - 1) or lines[at][:1] not in " " else number


def _code(document: Document, lines: Lines, first: int, after: int) -> None:
    """Blocks of the lines from `first` to `after`, parted at blank lines."""
    number = first
    while number < after:
        if lines.is_blank(number):
            number += 1
            continue
        stop = number
        while stop < after and not lines.is_blank(stop):
            stop += 1
        span = lines.span(number, stop)
        document.blocks.append(Block(span.start, span.end, "code"))
        number = stop
