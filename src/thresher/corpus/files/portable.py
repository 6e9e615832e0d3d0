"""PDF and DOCX to blocks (extra `files`): their text, since neither has one that offsets could point into.

PDF: the text layer by pypdf, page after page; the outline (bookmarks) gives headings, and lines that several pages have
at their head or foot are left out. DOCX: paragraphs and tables in order by python-docx; styles say what is a heading or
a list.

A small file may hold a lot: what it unpacks to, its text and the time to read it are limited. pypdf has limits of its
own for the pages and streams of a file.
"""

from __future__ import annotations

import io
import logging
import re
import time
import zipfile
from collections import Counter
from typing import TYPE_CHECKING

from thresher.corpus.files.blocks import Block, Document, UnreadableError
from thresher.corpus.files.plain import CONTENTS_LINE
from thresher.errors import require
from thresher.files import line_limit
from thresher.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTRA = "files"
_FEW_PAGES = 4
_EDGE = 2
"""Lines at the head and foot of a page among which repeated ones are looked for."""
_NUMBER = re.compile(r"\W*(?:page )?(?:\d+|[ivxlc]+)\W*", re.IGNORECASE)
"""A line that is the number of a page."""
_DIGITS = re.compile(r"\d+")
_SECONDS = 600.0
"""That reading one file may take; looked at between pages and paragraphs."""
_COLUMNS = 1000
"""Of a table; Word allows 63."""
_IMAGES = 8
"""Times the text's limit that a file may have, packed and unpacked, with its images."""


class _Allowance:
    """What is left to be read of one file: characters and seconds."""

    def __init__(self) -> None:
        self._most = self._left = line_limit()
        self._until = time.monotonic() + _SECONDS

    def spend(self, characters: int = 0) -> None:
        """Take note of text that was read.

        Raises:
            UnreadableError: it is more than is allowed, or the time is over.
        """
        self._left -= characters
        if self._left < 0:
            raise _oversized("its text", self._most)
        if time.monotonic() > self._until:
            raise UnreadableError("oversized-file", f"reading it takes more than {_SECONDS:g} seconds")


def _oversized(what: str, most: int) -> UnreadableError:
    reason = f"{what} is longer than {most >> 20} megabytes; set THRESHER_MAX_LINE to allow more"
    return UnreadableError("oversized-file", reason)


def check_packed_size(size: int) -> None:
    """Refuse a file that is too large to be read at once, of this number of bytes.

    Raises:
        UnreadableError: it is.
    """
    if size > _IMAGES * line_limit():
        raise _oversized("it", _IMAGES * line_limit())


def read_pdf(data: bytes) -> Document:
    """The text layer of a PDF.

    Raises:
        UnreadableError: it is encrypted, damaged, or too long.
        MissingExtraError: pypdf is not installed.
    """
    pypdf = require("pypdf", extra=EXTRA, purpose="reading PDF")
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    allowance = _Allowance()
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError("locked-file", "it is encrypted with a password")
        pages = []
        for page in reader.pages:
            pages.append(page.extract_text() or "")
            allowance.spend(len(pages[-1]))
        headings = _outline(reader, allowance)
        title = str((reader.metadata or {}).get("/Title") or "")
    except UnreadableError:
        raise
    except Exception as err:  # whatever a parser of damaged files meets
        encrypted = "Encrypt" in type(err).__name__ or "Crypto" in type(err).__name__ or "crypto" in str(err)
        reason = "locked-file" if encrypted else "damaged-file"
        raise UnreadableError(reason, f"cannot be read as PDF: {err or type(err).__name__}") from err
    return _of_pages(_without_running_heads(pages), headings, title.strip(), allowance)


def _outline(reader: object, allowance: _Allowance) -> dict[int, list[tuple[int, str]]]:
    """Bookmarks by page from 0: (level, title) in order."""
    found: dict[int, list[tuple[int, str]]] = {}

    def walk(entries: list[object], level: int) -> None:
        for entry in entries:
            allowance.spend()
            if isinstance(entry, list):
                walk(entry, level + 1)
                continue
            number = reader.get_destination_page_number(entry)  # type: ignore[attr-defined]
            name = str(getattr(entry, "title", "") or "").strip()
            if name and number is not None and number >= 0:
                found.setdefault(number, []).append((level, name))

    try:
        walk(reader.outline, 1)  # type: ignore[attr-defined]
    except Exception:  # bookmarks are an aid, and often broken
        return {}
    return found


def _without_running_heads(pages: list[str]) -> list[list[str]]:
    """The lines of each page without its number, what several pages have at their head or foot, and contents."""
    lines = [[line.rstrip() for line in page.splitlines()] for page in pages]
    lines = [[line for line in page if line.strip() and not CONTENTS_LINE.fullmatch(line)] for page in lines]
    if len(pages) < _FEW_PAGES:
        return lines
    edges = Counter(
        key for page in lines for key in {_DIGITS.sub("0", line.strip()) for line in page[:_EDGE] + page[-_EDGE:]}
    )
    running = {key for key, count in edges.items() if count >= _FEW_PAGES - 1}
    kept = []
    for page in lines:
        edge = {*range(_EDGE), *range(len(page) - _EDGE, len(page))}
        kept.append([
            line for at, line in enumerate(page)
            if at not in edge or not (_NUMBER.fullmatch(line) or _DIGITS.sub("0", line.strip()) in running)
        ])  # fmt: skip
    return kept


def _of_pages(
    pages: list[list[str]], headings: dict[int, list[tuple[int, str]]], title: str, allowance: _Allowance
) -> Document:
    document = Document("", title=title)
    parts: list[str] = []
    size = 0
    for number, lines in enumerate(pages):
        waiting = list(headings.get(number, ()))
        start = size
        for line in lines:
            allowance.spend()
            match = next((h for h in waiting if _same(h[1], line)), None)
            if match is not None:
                waiting.remove(match)
                _block(document, start, size, number)
                document.blocks.append(Block(size, size + len(line), "heading", match[0], match[1], page=number + 1))
                start = size + len(line) + 1
            parts.append(line + "\n")
            size += len(line) + 1
        for level, name in waiting:  # a bookmark whose words are not a line: it begins with the page
            first = next((at for at, b in enumerate(document.blocks) if b.page == number + 1), len(document.blocks))
            place = document.blocks[first].start if first < len(document.blocks) else start
            document.blocks.insert(first, Block(place, place, "heading", level, name, page=number + 1))
        _block(document, start, size, number)
    document.text = "".join(parts)
    return document


def _block(document: Document, start: int, end: int, number: int) -> None:
    if start < end - 1:
        document.blocks.append(Block(start, end - 1, "prose", page=number + 1))


def _same(heading: str, line: str) -> bool:
    """Whether a line is a heading, but for its number and spaces."""
    words = re.sub(r"^[\dA-Z.]*\d[\d.]*\s+", "", " ".join(line.split()))
    return words.casefold() == re.sub(r"^[\dA-Z.]*\d[\d.]*\s+", "", " ".join(heading.split())).casefold()


def read_docx(data: bytes) -> Document:
    """The paragraphs and tables of a DOCX file.

    Raises:
        UnreadableError: it is damaged, another format under this name, or too long.
        MissingExtraError: python-docx is not installed.
    """
    docx = require("docx", extra=EXTRA, purpose="reading DOCX")
    allowance = _Allowance()
    try:
        _check_unpacked(data)
        opened = docx.Document(io.BytesIO(data))
        entries = list(_entries(opened, allowance))
        properties = opened.core_properties
        document = Document("", title=(properties.title or "").strip())
        document.fields = {"author": properties.author} if properties.author else {}
    except UnreadableError:
        raise
    except Exception as err:  # whatever a parser of damaged files meets
        raise UnreadableError("damaged-file", f"cannot be read as DOCX: {err or type(err).__name__}") from err
    parts: list[str] = []
    size = 0
    for kind, level, text, rows in entries:
        block = Block(size, size + len(text), kind, level, text if kind == "heading" else "")  # type: ignore[arg-type]
        spans = []
        here = size
        for row in rows:
            spans.append(Span(here, here + len(row)))
            here += len(row) + 1
        if spans:
            block = Block(block.start, block.end, block.kind, parts=tuple(spans))
        document.blocks.append(block)
        parts.append(text + "\n\n")
        size += len(text) + 2
    document.text = "".join(parts)
    return document


def _check_unpacked(data: bytes) -> None:
    """Refuse an archive that unpacks to more than is allowed, by the sizes that it declares: no more is ever unpacked.

    Raises:
        UnreadableError: it does.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = [(one.filename.lower().endswith((".xml", ".rels")), one.file_size) for one in archive.infolist()]
    for part, most in ((sizes, _IMAGES * line_limit()), ([one for one in sizes if one[0]], line_limit())):
        if sum(size for _, size in part) > most:
            raise _oversized("what it unpacks to", most)


def _entries(opened: object, allowance: _Allowance) -> Iterator[tuple[str, int, str, list[str]]]:
    """(kind, level of a heading, text, rows of a table or items of a list) in order."""
    items: list[str] = []
    for one in opened.iter_inner_content():  # type: ignore[attr-defined]
        style = "" if hasattr(one, "rows") else str(getattr(one.style, "name", "") or "")
        text = "" if hasattr(one, "rows") else one.text.strip()
        allowance.spend(len(text))
        if style.startswith("List") and text:
            items.append(f"- {text}")
            continue
        if items:
            yield "list", 0, "\n".join(items), items
            items = []
        if hasattr(one, "rows"):
            rows = [_row(row, allowance) for row in one.rows]
            rows = [row for row in rows if row.strip(" |")]
            if rows:
                yield "table", 0, "\n".join(rows), rows
        elif text and (style == "Title" or style.startswith("Heading")):
            digits = _DIGITS.search(style)
            yield "heading", int(digits[0]) + 1 if digits else 1, text, []
        elif text and not style.lower().startswith("toc "):
            yield "prose", 0, text, []
    if items:
        yield "list", 0, "\n".join(items), items


def _row(row: object, allowance: _Allowance) -> str:
    """A row of a table as a line."""
    if sum(cell.grid_span for cell in row._tr.tc_lst) > _COLUMNS:  # type: ignore[attr-defined]
        raise UnreadableError("damaged-file", f"a table has more than {_COLUMNS:,} columns")
    text = " | ".join(_cells(row))
    allowance.spend(len(text))
    return text


def _cells(row: object) -> Iterator[str]:
    """The texts of a row's cells; a merged cell once."""
    before = None
    for cell in row.cells:  # type: ignore[attr-defined]
        if cell._tc is not before:
            before = cell._tc
            yield " ".join(cell.text.split())
