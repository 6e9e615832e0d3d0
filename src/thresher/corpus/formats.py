"""Readers of corpus formats: JSON lines, TSV, CSV, TREC text, parquet and `ir_datasets`.

Each yields rows with their source and line, or problems with the reason; nothing is dropped silently. TREC text is
`<DOC>` elements in SGML with a `<DOCNO>`, a title (the first of `<TITLE>`, `<HEADLINE>`, `<HEAD>`) and running text:
what `<TEXT>` holds, or without one everything but docno and title. Tags are removed, character references resolved.
"""

from __future__ import annotations

import csv
import re
import sys
from html import unescape
from typing import TYPE_CHECKING, Protocol

import msgspec

from thresher.corpus.stream import ID_FIELDS, TEXT_FIELDS, Problem, Row
from thresher.errors import DataNotFoundError, InputError, require
from thresher.files import read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DOC = re.compile(rb"\s*<DOC(?:\s[^>]*)?>", re.IGNORECASE)
_END = re.compile(rb"\s*</DOC>", re.IGNORECASE)
_DOCNO = re.compile(r"<DOCNO>(.*?)</DOCNO>", re.IGNORECASE | re.DOTALL)
_TEXT = re.compile(r"<TEXT(?:\s[^>]*)?>(.*?)</TEXT>", re.IGNORECASE | re.DOTALL)
_TITLES = tuple(
    re.compile(rf"<{tag}(?:\s[^>]*)?>(.*?)</{tag}>", re.IGNORECASE | re.DOTALL) for tag in ("TITLE", "HEADLINE", "HEAD")
)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_BATCH = 2048


def read_jsonl(path: Path) -> Iterator[Row | Problem]:
    """One JSON object a line; empty lines are ignored."""
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
        csv.field_size_limit(sys.maxsize)  # a long document is not an error
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


def read_trec(path: Path) -> Iterator[Row | Problem]:
    """The `<DOC>` elements of `path`; each begins on a line of its own and ends on one."""
    source = str(path)
    lines: list[bytes] = []
    first = 0
    for number, line in read_lines(path):
        if _DOC.match(line):
            if first:
                yield Problem(source, first, "malformed", "a <DOC> that no </DOC> closes before the next one")
            lines, first = [line], number
        elif first:
            lines.append(line)
        elif line.strip():
            yield Problem(source, number, "malformed", f"text outside <DOC>: {line[:60]!r}")
        if first and _END.match(line[line.rfind(b"<") :] if b"</" in line else line):
            yield _document(source, first, lines)
            first = 0
    if first:
        yield Problem(source, first, "malformed", "a <DOC> that the file ends without closing")


def _document(source: str, first: int, lines: list[bytes]) -> Row | Problem:
    decoded = []
    for number, line in enumerate(lines, first):
        try:
            decoded.append(line.decode())
        except UnicodeDecodeError as err:
            return utf8_problem(source, number, err)
    document = "\n".join(decoded)
    docno = _DOCNO.search(document)
    if docno is None:
        return Problem(source, first, "missing-field", "the document has no <DOCNO>")
    title = next((found for tag in _TITLES if (found := tag.search(document))), None)
    texts = _TEXT.findall(document)
    if not texts:
        rest = document.replace(docno[0], " ")
        texts = [rest.replace(title[0], " ") if title else rest]
    fields = {
        "docno": docno[1].strip(),
        "title": " ".join(_plain(title[1]).split()) if title else "",
        "text": "\n".join(_plain(text) for text in texts).strip(),
    }
    return Row(source, first, fields)


def _plain(markup: str) -> str:
    return unescape(_TAG.sub(" ", markup))


def read_parquet(path: Path) -> Iterator[Row | Problem]:
    """The rows of a parquet file, a batch in memory at a time; the line of a row is its number."""
    parquet = require("pyarrow.parquet", extra="parquet", purpose="reading parquet")
    if not path.is_file():
        reason = "parquet cannot be read from a pipe; save it to a file" if path.exists() else "no such file"
        raise DataNotFoundError(f"{path}: {reason}")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(str(path), number, fields)
    except UnicodeDecodeError as err:
        raise InputError(f"a string is not UTF-8 ({err.reason})", str(path), number + 1) from err
    except (OSError, ValueError) as err:  # pyarrow's errors are of these kinds
        raise InputError(f"cannot be read as parquet: {err}", str(path), number) from err


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
