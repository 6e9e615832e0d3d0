"""Records of JSON lines, TSV and CSV files."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import msgspec

from thresher.corpus.rows import ID_FIELDS, TEXT_FIELDS, Problem, Row
from thresher.errors import InputError
from thresher.files import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_jsonl(path: Path) -> Iterator[Row | Problem]:
    """One JSON object a line; empty lines are passed over."""
    source = str(path)
    decoder = msgspec.json.Decoder(dict)
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            yield Row(source, number, decoder.decode(line))
        except UnicodeDecodeError as err:
            yield utf8_problem(source, number, err)
        except msgspec.DecodeError as err:
            reason = "invalid-utf8" if "surrogate" in str(err) else "malformed"
            yield Problem(source, number, reason, f"not a JSON object: {err}; the line begins {line[:60]!r}")


def read_tsv(path: Path, named: tuple[str, ...] = ()) -> Iterator[Row | Problem]:
    """Tab-separated records without quoting.

    A first line that holds names (an id and a text field by their usual names, or those of `named`) is a header.
    Without one, two columns are docno and text, three are docno, title and text.
    """
    source = str(path)
    columns: tuple[str, ...] = ()
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            cells = line.decode().split("\t")
        except UnicodeDecodeError as err:
            yield utf8_problem(source, number, err)
            continue
        if not columns:
            if _is_header(cells, named):
                columns = tuple(cells)
                continue
            if named:
                raise InputError(
                    f"the first line has no columns named {', '.join(map(repr, named))}; it has {cells!r:.80}",
                    source,
                    number,
                )
            columns = {2: ("docno", "text"), 3: ("docno", "title", "text")}.get(len(cells), ())
        if len(cells) != len(columns):
            wanted = f"{len(columns)} columns" if columns else "two columns, three, or a header line"
            yield Problem(source, number, "malformed", f"{len(cells)} tab-separated columns where {wanted} belong")
            continue
        yield Row(source, number, dict(zip(columns, cells, strict=True)))


def _is_header(cells: list[str], named: tuple[str, ...]) -> bool:
    if named:
        return all(name in cells for name in named)
    return any(name in cells for name in ID_FIELDS) and any(name in cells for name in TEXT_FIELDS)


def read_csv(path: Path) -> Iterator[Row | Problem]:
    """Comma-separated records, quoted as spreadsheets do; the first line names the columns."""
    source = str(path)
    if csv.field_size_limit() < sys.maxsize:
        csv.field_size_limit(sys.maxsize)  # a long document is no error
    # Bytes that are not UTF-8 become lone surrogates and are found after parsing, so that the whole record is at fault.
    lines = (line.decode(errors="surrogateescape") + "\n" for _, line in read_lines(path))
    reader = csv.reader(lines, strict=True)
    columns: list[str] = []
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            if reader.line_num > first and "end of data" in str(err):  # skipping it would lose every line after it
                message = f"a quote that opens here is not closed by the end of the file, line {reader.line_num}"
                raise InputError(message, source, first) from err
            yield Problem(source, first, "malformed", f"not CSV: {err}")
            continue
        if not cells:
            continue
        try:
            "".join(cells).encode()
        except UnicodeEncodeError:
            yield Problem(source, first, "invalid-utf8", "the record holds bytes that are not UTF-8; convert the file")
            continue
        if not columns:
            columns = cells
        elif len(cells) != len(columns):
            yield Problem(source, first, "malformed", f"{len(cells)} columns where {len(columns)} belong")
        else:
            yield Row(source, first, dict(zip(columns, cells, strict=True)))


def utf8_problem(source: str, line: int, err: UnicodeDecodeError) -> Problem:
    """What to say of a line that is not UTF-8."""
    byte = err.object[err.start]
    message = f"byte 0x{byte:02x} at position {err.start} of the line is not UTF-8 ({err.reason}); convert the file"
    return Problem(source, line, "invalid-utf8", message)
