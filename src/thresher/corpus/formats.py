"""Readers of corpus formats: JSON lines, TSV, CSV, parquet and `ir_datasets`; TREC text is in `corpus/sgml.py`.

Each yields rows with their source and line, or problems with the reason; nothing is dropped silently.
"""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Protocol

import msgspec

from thresher.corpus.stream import ID_FIELDS, TEXT_FIELDS, Problem, Row
from thresher.errors import DataNotFoundError, InputError, ThresherError, require
from thresher.files import line_limit, read_lines, too_long

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pyarrow as pa

_BATCH = 512


def read_jsonl(path: Path, lines: Iterable[tuple[int, bytes]] | None = None) -> Iterator[Row | Problem]:
    """One JSON object a line; empty lines are ignored. `lines`: some numbered ones of them, in place of all."""
    source = str(path)
    decoder = msgspec.json.Decoder(dict)
    for number, line in read_lines(path) if lines is None else lines:
        if not line.strip():
            continue
        try:
            fields = decoder.decode(line)
        except UnicodeDecodeError as err:
            yield utf8_problem(source, number, err)
        except msgspec.DecodeError as err:
            half = _holds_half_a_pair(line)
            message = "holds half of a surrogate pair, which is not text" if half else f"not a JSON object: {err}"
            reason = "invalid-utf8" if half else "malformed"
            yield Problem(source, number, reason, f"{message}; the line begins {line[:60]!r}")
        except RecursionError:
            yield Problem(source, number, "malformed", f"nested too deep; the line begins {line[:60]!r}")
        else:
            twice = _repeated_key(line, fields)
            if twice is None:
                yield Row(source, number, fields)
            else:
                yield Problem(source, number, "malformed", f"the record has two fields {twice!r}; remove or rename one")


def _holds_half_a_pair(line: bytes) -> bool:
    """Whether a line is JSON but for an escape that is half of a surrogate pair."""
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        pass
    return False


def _repeated_key(line: bytes, fields: dict[str, object]) -> str | None:
    """A key that a JSON object has twice, though the decoder keeps only the last one's value."""
    if all(line.count(b'"%b"' % key.encode()) < 2 for key in fields):
        return None

    def hook(pairs: list[tuple[str, object]]) -> object:
        names = [name for name, _ in pairs]
        seen.append(next((name for name in names if names.count(name) > 1), None))
        return None

    seen: list[str | None] = []
    json.loads(line, object_pairs_hook=hook)
    return seen[-1]  # the outermost object ends last


def read_tsv(
    path: Path, named: tuple[str, ...] = (), lines: Iterable[tuple[int, bytes]] | None = None
) -> Iterator[Row | Problem]:
    """Tab-separated records; `lines`: some numbered ones of them, with the first, in place of all.

    A first line that holds names (an id and a text field by their usual names, or those of `named`) is a header.
    Without one, two columns are docno and text, three are docno, title and text, four are docno, url, title and text,
    and quotes are part of the text. With a header, a cell that is quoted as CSV quotes (`"Say ""hi"" twice"`) is
    unquoted where it holds doubled quotes, or where the header itself is quoted.
    """
    source = str(path)
    columns: tuple[str, ...] = ()
    quoted: re.Pattern[str] | None = None
    for number, line in read_lines(path) if lines is None else lines:
        if not line.strip():
            continue
        try:
            cells = line.decode().split("\t")
        except UnicodeDecodeError as err:
            yield utf8_problem(source, number, err)
            continue
        if not columns:
            names = [_unquoted(cell, _QUOTED) for cell in cells]
            if _is_header(names, named):
                columns = _distinct(names, source, number)
                quoted = _QUOTED if names != cells else _DOUBLED
                continue
            if named:
                raise InputError(
                    f"the first line has no columns named {', '.join(map(repr, named))}; it has {cells!r:.80}",
                    source,
                    number,
                )
            columns = _POSITIONAL.get(len(cells), ())
        if quoted is not None and '"' in (text := line.decode()):
            cells = _quoted_cells(text, len(columns)) if len(cells) > len(columns) else cells
            cells = [_unquoted(cell, quoted) for cell in cells]
        if len(cells) != len(columns):
            wanted = f"{len(columns)} columns" if columns else "two to four columns, or a header line"
            yield Problem(source, number, "malformed", f"{len(cells)} tab-separated columns where {wanted} belong")
            continue
        yield Row(source, number, dict(zip(columns, cells, strict=True)))


_POSITIONAL = {2: ("docno", "text"), 3: ("docno", "title", "text"), 4: ("docno", "url", "title", "text")}
_QUOTED = re.compile(r'"(?:[^"]|"")*+"')
_DOUBLED = re.compile(r'"(?=[^"]*+"")(?:[^"]|"")*+"')


def _unquoted(cell: str, quoted: re.Pattern[str]) -> str:
    return cell[1:-1].replace('""', '"') if quoted.fullmatch(cell) else cell


def _quoted_cells(line: str, count: int) -> list[str]:
    """The cells of a line, where quoted cells may hold tabs; as they are, quotes and all, if that does not fit."""
    cells: list[str] = []
    at = 0
    while at <= len(line):
        cell = _QUOTED.match(line, at)
        end = cell.end() if cell and line[cell.end() : cell.end() + 1] in ("", "\t") else line.find("\t", at)
        end = len(line) if end < 0 else end
        cells.append(line[at:end])
        at = end + 1
    return cells if len(cells) == count else line.split("\t")


def _is_header(cells: list[str], named: tuple[str, ...]) -> bool:
    if named:
        return all(name in cells for name in named)
    names = {cell.lower() for cell in cells}
    return not names.isdisjoint(ID_FIELDS) and not names.isdisjoint(TEXT_FIELDS)


def _distinct(names: Iterable[str], source: str, line: int = 0) -> tuple[str, ...]:
    """The columns by name; one without a name is called after its place.

    Raises:
        InputError: two columns have one name, so that a value would be lost.
    """
    columns = tuple(name or f"column {place}" for place, name in enumerate(names, 1))
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise InputError(f"two columns are named {', '.join(map(repr, twice))}; rename or remove one", source, line)
    return columns


def read_csv(path: Path) -> Iterator[Row | Problem]:
    """Comma-separated records, quoted as spreadsheets do; the first line names the columns."""
    source = str(path)
    csv.field_size_limit(line_limit())  # the default, 128 KiB, is less than a long document
    # Bytes that are not UTF-8 become lone surrogates and are found after parsing, so that the whole record is at fault.
    lines = (line.decode(errors="surrogateescape") + "\n" for _, line in read_lines(path))
    reader = csv.reader(lines, strict=True)
    columns: tuple[str, ...] = ()
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
            if "field limit" in str(err):
                raise InputError(too_long("a field"), source, first) from err
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
            columns = _distinct(cells, source, first)
        elif len(cells) != len(columns):
            yield Problem(source, first, "malformed", f"{len(cells)} columns where {len(columns)} belong")
        else:
            yield Row(source, first, dict(zip(columns, cells, strict=True)))


def utf8_problem(source: str, line: int, err: UnicodeDecodeError) -> Problem:
    """What to say of a line that is not UTF-8."""
    byte = err.object[err.start]
    message = f"byte 0x{byte:02x} at position {err.start} of the line is not UTF-8 ({err.reason}); convert the file"
    return Problem(source, line, "invalid-utf8", message)


def read_parquet(path: Path) -> Iterator[Row | Problem]:
    """The rows of a parquet file, a batch in memory at a time; the line of a row is its number."""
    parquet = require("pyarrow.parquet", extra="parquet", purpose="reading parquet")
    if not path.is_file():
        reason = "parquet cannot be read from a pipe; save it to a file" if path.exists() else "no such file"
        raise DataNotFoundError(f"{path}: {reason}")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            _distinct(file.schema_arrow.names, str(path))
            for batch in file.iter_batches(_BATCH):
                for fields in _rows(batch):
                    number += 1
                    yield Row(str(path), number, fields)
    except UnicodeDecodeError as err:
        raise InputError(f"a string is not UTF-8 ({err.reason})", str(path), number + 1) from err
    except (OSError, ValueError, NotImplementedError, KeyError, TypeError, MemoryError) as err:  # pyarrow's errors
        if isinstance(err, ThresherError):
            raise
        raise InputError(f"cannot be read as parquet: {err or type(err).__name__}", str(path), number) from err


def _rows(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """The rows of a batch; values that Python has no type for (nanoseconds) as Arrow writes them."""
    try:
        if not any(_in_nanoseconds(field.type) for field in batch.schema):
            rows: list[dict[str, object]] = batch.to_pylist()
            return rows
    except UnicodeDecodeError:
        raise
    except (ValueError, NotImplementedError, OverflowError):
        pass
    columns = [[_value(scalar) for scalar in column] for column in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _in_nanoseconds(kind: pa.DataType) -> bool:
    """Whether values of a type, or parts of them, count nanoseconds; Arrow gives pandas objects for them if it can."""
    if getattr(kind, "unit", "") == "ns":
        return True
    if hasattr(kind, "value_type"):
        return _in_nanoseconds(kind.value_type)
    return any(_in_nanoseconds(kind.field(number).type) for number in range(kind.num_fields))


def _value(scalar: pa.Scalar) -> object:
    """A value as Python has it, whether or not pandas is installed."""
    try:
        if not _in_nanoseconds(scalar.type):
            return scalar.as_py()
        if hasattr(scalar.type, "unit"):
            return _in_microseconds(scalar).as_py()
    except UnicodeDecodeError:
        raise
    except (ValueError, NotImplementedError, OverflowError):
        pass
    if hasattr(scalar, "items"):
        return {name: _value(one) for name, one in scalar.items()}
    if hasattr(scalar, "values"):
        return None if scalar.values is None else [_value(one) for one in scalar.values]
    return str(scalar.cast("string")) if scalar.is_valid else None


def _in_microseconds(scalar: pa.Scalar) -> pa.Scalar:
    """A time or duration in the unit that Python has; a ValueError where it does not fit."""
    import pyarrow as pa

    kind = scalar.type
    if pa.types.is_timestamp(kind):
        return scalar.cast(pa.timestamp("us", kind.tz))
    return scalar.cast(pa.time64("us") if pa.types.is_time(kind) else pa.duration("us"))


def read_ir_dataset(name: str) -> Iterator[Row | Problem]:
    """The documents of an `ir_datasets` dataset: `doc_id`, `title` where it has one, and its text.

    Raises:
        DataNotFoundError: no dataset has that name, or it has no documents, or they cannot be fetched.
        MissingExtraError: `ir_datasets` is not installed.
    """
    library = require("ir_datasets", extra="eval", purpose=f"the corpus ir_datasets:{name}")
    try:
        dataset = library.load(name)
    except KeyError as err:
        raise DataNotFoundError(f"ir_datasets knows no dataset {name!r}; see ir-datasets.com for the names") from err
    if not dataset.has_docs():
        raise DataNotFoundError(f"the dataset {name!r} of ir_datasets has no documents")
    try:
        for number, document in enumerate(dataset.docs_iter(), 1):
            yield Row(f"ir_datasets:{name}", number, _fields(document))
    except (OSError, RuntimeError) as err:
        raise DataNotFoundError(
            f"the documents of {name!r} are not on this machine and cannot be fetched ({type(err).__name__}: {err}); "
            "download them as ir-datasets.com says, or give a file"
        ) from err


class _Document(Protocol):
    """What is used of a document of `ir_datasets`."""

    def _asdict(self) -> dict[str, object]: ...
    def default_text(self) -> str: ...


def _fields(document: _Document) -> dict[str, object]:
    fields = dict(document._asdict())
    docno = fields.pop("doc_id", None)
    if not isinstance(fields.get("text"), str):
        title = str(fields.get("title") or "")
        text = document.default_text()
        fields = {"title": title, "text": text.removeprefix(title).lstrip() if title else text}
    return {"docno": docno, **fields}
