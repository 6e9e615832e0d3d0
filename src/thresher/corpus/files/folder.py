"""The corpus of a folder of documents: each file read, cut into passages along its headings, and accounted for.

docno: the file's path from the folder, and after `#` the slugs of the headings above the passage and its number among
those of its section: `guide/install.md`, `guide/install.md#linux`, `guide/install.md#linux~2`. It depends on what is
above and in its own section, so that an edit elsewhere changes no other docno. White space, `#` and `%` of a path are
percent-encoded.

Metadata: `document` (the path, as in the docno), `start` and `end` (code points of the decoded file: the text of the
passage, or of HTML the source that it was read from; of PDF and DOCX code points of the extracted text), `path`,
`folder`, `file_type`, `modified`; `anchor` (the fragment of a link to its heading), `page` of a PDF, `encoding` where
it is not UTF-8; and the fields of front matter.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from thresher.corpus.files.blocks import UnreadableError
from thresher.corpus.files.decoding import FALLBACK, decode, is_binary
from thresher.corpus.files.hypertext import read_html
from thresher.corpus.files.markdown import read_markdown
from thresher.corpus.files.packing import pieces
from thresher.corpus.files.plain import read_plain
from thresher.corpus.files.portable import check_packed_size, read_docx, read_pdf
from thresher.corpus.files.restructured import read_rst
from thresher.corpus.files.source import read_python, read_source
from thresher.corpus.files.walk import NEEDS, Walk, documents
from thresher.corpus.split import Splitter
from thresher.corpus.stream import Problem, RecordCorpus, Row
from thresher.errors import DataNotFoundError, InputError
from thresher.files import COMPRESSED, line_limit, opened

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from thresher.corpus.files.blocks import Document
    from thresher.corpus.files.packing import Piece
    from thresher.corpus.files.walk import File
    from thresher.corpus.stream import OnError

TOKENS = 180
"""Tokens of a passage where no encoder says how many it reads; with its title well within the 256 of MiniLM."""
NEAR_EMPTY = 5
"""A file with fewer tokens of text has nothing to find."""
_TEXT: dict[str, Callable[[str], Document]] = {
    "markdown": read_markdown,
    "html": read_html,
    "rst": read_rst,
    "text": read_plain,
    "source": read_source,
    "python": read_python,
}
_PACKED: dict[str, Callable[[bytes], Document]] = {"pdf": read_pdf, "docx": read_docx}
_DATES = ("date", "updated", "lastmod", "created", "published")
_OURS = frozenset(
    ("docno", "text", "title", "document", "start", "end", "path", "folder", "file_type", "modified", "anchor", "page")
) | {"encoding"}
_ESCAPED = re.compile(r"[\s%#\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_log = logging.getLogger(__name__)


class FileCorpus(RecordCorpus):
    """Passages of the documents in a folder, or of one document.

    Args:
        root: the folder or file.
        tokens: the most tokens of a passage and half its title; None for `TOKENS`, 0 for one passage a section.
        overlap: tokens that the pieces of a long paragraph may share.
        on_error: `raise` where the system refuses a file or folder, or `skip` to count it. Files that hold no text are
            counted in any case.
        limit: stop after this many passages; 0 for all.

    `fields` grows while it is read: a date in front matter declares its field.
    """

    def __init__(
        self,
        root: Path,
        *,
        tokens: int | None = None,
        overlap: int = 0,
        on_error: OnError = "raise",
        limit: int = 0,
    ) -> None:
        super().__init__(
            str(root), self._rows, id_field="docno", text_field="text", title_field="title", on_error=on_error,
            limit=limit,
        )  # fmt: skip
        self.format = "files"
        self.fields = {"path": "string", "folder": "string", "modified": "date", **dict.fromkeys(_DATES, "date")}
        self._root, self._skip_refused = root, on_error == "skip"
        self._tokens = TOKENS if tokens is None else tokens
        if self._tokens:
            Splitter(self._tokens, overlap)  # refuses numbers that are out of range
        self._overlap = overlap

    @property
    def is_split(self) -> bool:
        """Its documents are split into passages."""
        return True

    def _rows(self) -> Iterator[Row | Problem]:
        met = Walk()
        fallback: list[str] = []
        read = 0
        for file in self._watched(documents(self._root, met, skip=self._skip_refused)):
            read += 1
            self.documents += 1
            try:
                yield from self._passages_of(file, fallback)
            except UnreadableError as err:
                _log.log(
                    logging.INFO if err.reason == "near-empty-file" else logging.WARNING,
                    "%s: left out (%s): %s",
                    file.path,
                    err.reason,
                    err,
                )
                yield Problem(str(file.path), 0, err.reason, str(err), expected=True)
            except DataNotFoundError:
                continue  # removed since the folder was listed
            except OSError as err:
                if not self._skip_refused:
                    raise
                yield Problem(str(file.path), 0, "unreadable-file", str(err))
        if not read:
            raise InputError(_nothing(met), self.name)
        yield from self._told(met, fallback)

    def _watched(self, files: Iterator[File]) -> Iterable[File]:
        """The files, with a bar over them where one is wanted: they are counted first, which takes little."""
        if not self.progress:
            return files
        total = sum(1 for _ in documents(self._root, Walk(), skip=True))
        bar: Iterable[File] = tqdm(files, "reading", total, unit=" files", mininterval=0.5, delay=1)
        return bar

    def _told(self, met: Walk, fallback: list[str]) -> Iterator[Problem]:
        """Say what was passed over, and count it."""
        if met.lacking:
            _log.warning("%s: %s", self.name, _lacking(met))
        if fallback:
            _log.warning(
                "%s: %d files are not UTF-8 and declare no charset; read as Windows-1252 (%s)",
                self.name, len(fallback), ", ".join(fallback[:3]) + (", ..." if len(fallback) > 3 else ""),
            )  # fmt: skip
        for reason, count in met.left_out.items():
            yield from [Problem(self.name, 0, reason, reason, expected=True)] * count

    def _passages_of(self, file: File, fallback: list[str]) -> Iterator[Row]:
        """The passages of a file as rows.

        Raises:
            UnreadableError: it holds no text.
            OSError: it cannot be read.
        """
        status = file.path.stat()
        document, encoding = read_document(file)
        if encoding in FALLBACK:
            fallback.append(_ESCAPED.sub(_percent, file.name) if not file.name.isprintable() else file.name)
        suffix = file.path.suffix.lower()
        path = _ESCAPED.sub(_percent, file.name)
        shown = file.name if file.name.isprintable() else path
        name = shown[: -len(suffix)] if suffix in COMPRESSED else shown
        found = pieces(document, name, self._tokens, self._overlap)
        if sum(piece.tokens for piece in found) < NEAR_EMPTY:
            raise UnreadableError("near-empty-file", "it has next to no text") if found else _empty(document)
        common: dict[str, object] = {
            "path": shown,
            "folder": shown.rpartition("/")[0] or ".",
            "file_type": file.kind,
            "modified": datetime.fromtimestamp(int(status.st_mtime), UTC).isoformat(),
        }
        if encoding != "utf-8":
            common["encoding"] = encoding
        fields = {f"original_{k}" if k in _OURS else k: v for k, v in document.fields.items()}
        self.fields.update({key: "date" for key, value in fields.items() if isinstance(value, date)})
        line, here = 1, 0
        for piece in found:
            start, end = _source(document, piece)
            line += document.text.count("\n", here, piece.start)
            here = max(here, piece.start)
            address = f"{path}#{piece.address}" if piece.address else path
            place: dict[str, object] = {"document": path, "start": str(start), "end": str(end)}
            more = {"anchor": piece.anchor, "page": piece.page or ""}
            yield Row(
                str(file.path), line,
                {"docno": address, "title": " > ".join(piece.titles), "text": document.text[piece.start : piece.end],
                 **place, **common, **more, **fields},
            )  # fmt: skip


def _empty(document: Document) -> UnreadableError:
    """Why a document without passages has none."""
    return UnreadableError(
        "near-empty-file", "it has no text" if not document.text.strip() else "it has no text to read"
    )


def read_document(file: File) -> tuple[Document, str]:
    """The text and blocks of a file, and its encoding (`utf-8` where it has none of its own).

    Raises:
        UnreadableError: it is binary, damaged, locked, or too large.
        OSError: it cannot be read.
    """
    if file.reads in NEEDS:
        check_packed_size(file.path.stat().st_size)
        return _PACKED[file.reads](file.path.read_bytes()), "utf-8"
    limit = line_limit()
    try:
        with opened(file.path) as stream:
            data = stream.read(limit + 1)
    except InputError as err:
        raise UnreadableError("damaged-file", str(err)) from err
    if len(data) > limit:
        raise UnreadableError(
            "oversized-file", f"it is longer than {limit >> 20} megabytes; set THRESHER_MAX_LINE to allow more"
        )
    if is_binary(data):
        raise UnreadableError("binary-file", "its bytes are no text")
    python = file.kind == "python"
    text, encoding = decode(data, declares="python" if python else file.reads)
    try:
        return _TEXT["python" if python else file.reads](text), encoding
    except RecursionError as err:
        raise UnreadableError("damaged-file", "it is nested too deep") from err


def _source(document: Document, piece: Piece) -> tuple[int, int]:
    """The place of a passage in the decoded file."""
    if document.origin is None:
        return piece.start, piece.end
    return document.origin[piece.start], document.origin[piece.end - 1] + 1


def _percent(found: re.Match[str]) -> str:
    char = found.group()
    data = char.encode("utf-8", "surrogateescape") if not "\ud800" <= char < "\udc80" else b"?"
    return "".join(f"%{byte:02X}" for byte in data)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(12))


def _lacking(met: Walk) -> str:
    """Which files need an extra."""
    return f"{_listed(met.lacking)} left out; the extra `files` reads them: pip install 'thresher[files]'"


def _nothing(met: Walk) -> str:
    """What to say of a folder without a document."""
    found = [f"found {_listed(met.suffixes)}"] if met.suffixes else []
    found += [_lacking(met)] if met.lacking else []
    return "; ".join([
        "the folder holds no corpus.jsonl, no file of a record format, and no document that can be read (Markdown, "
        "HTML, reStructuredText, text, source; PDF and DOCX with the extra `files`)",
        *(found or ["nothing else is in it, or all of it is hidden or ignored"]),
    ])  # fmt: skip


def has_documents(root: Path) -> bool:
    """Whether a folder holds a document at any depth, or would with the extra `files`."""
    met = Walk()
    return next(documents(root, met, skip=True), None) is not None or bool(met.lacking)


def refuse_without_documents(root: Path) -> None:
    """Refuse a folder in which nothing can be read.

    Raises:
        InputError: says what was found, by suffix, and which extra reads it.
    """
    met = Walk()
    if next(documents(root, met, skip=True), None) is None:
        raise InputError(_nothing(met), str(root))
