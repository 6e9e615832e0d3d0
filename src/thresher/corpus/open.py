"""Opening a corpus: the reader for a source, by the format named, else by its suffix or what its folder holds."""

from __future__ import annotations

import logging
import re
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.corpus.formats import read_csv, read_ir_dataset, read_jsonl, read_parquet, read_tsv
from thresher.corpus.installed import InstalledDocumentation
from thresher.corpus.sgml import read_trec
from thresher.corpus.split import Splitter
from thresher.corpus.stream import RecordCorpus
from thresher.errors import ConfigError, DataNotFoundError, InputError
from thresher.files import COMPRESSED, STDIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from thresher.corpus.base import Corpus
    from thresher.corpus.stream import Problem, Row

    Reader = Callable[..., Iterator[Row | Problem]]
    from thresher.corpus.stream import OnError

_log = logging.getLogger(__name__)

INSTALLED = "installed"
_PREFIX = "ir_datasets:"

FORMATS = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "tsv": (".tsv", ".tab"),
    "csv": (".csv",),
    "trec": (".trec", ".trectext", ".sgml", ".sgm"),
    "parquet": (".parquet",),
    "beir": (),
    "files": (),
}
"""Formats by name, with the file suffixes that mean them (each may be followed by .gz or .zst, but for parquet);
`files` reads documents."""
_UNDECIDED = (".json", ".csv")
"""Suffixes of records that folders of documents have as well."""

_BEIR = tuple(f"corpus.jsonl{packed}" for packed in ("", *COMPRESSED))
_ABOUT = re.compile(r"readme|licen[cs]e|copying|notice|citation|requirements", re.IGNORECASE)
_MANY = 1000
_NO_PASSAGES = re.compile(r"(?:queries|query|topics|qrels|qrel)(?:[._-]|$)", re.IGNORECASE)
"""Names of files that hold the queries and judgments of a collection."""


@checked_call
def open_corpus(
    source: str | Path,
    *,
    format: str = "",
    id_field: str | None = None,
    text_field: str | None = None,
    title_field: str | None = None,
    on_error: OnError = "raise",
    split_tokens: int | None = None,
    split_overlap: int = 0,
    limit: int = 0,
) -> Corpus:
    """Open a corpus. Nothing is read before it is iterated.

    Args:
        source: a file (JSON lines, TSV, CSV, TREC text, parquet; plain, `.gz` or `.zst`), a BEIR folder (`corpus.jsonl`
            in it), a folder of such files (those named queries, topics or qrels are passed over), a document or a
            folder of documents at any depth (Markdown, HTML, reStructuredText, text, source; PDF and DOCX with the
            extra `files`), `-` for standard input, `ir_datasets:ID`, or `installed` for the documentation installed
            with Python (`installed:numpy,numba`: of the standard library and these packages).
        format: a key of `FORMATS`, where the suffix does not give it.
        id_field: field that holds the docno; default: the first there is of `ID_FIELDS`, a passage's own first.
        text_field: field that holds the text; default: the first there is of `TEXT_FIELDS`.
        title_field: field that holds the title; default: title. All other fields become metadata.
        on_error: `raise` at the first record that is not a passage, or `skip` such records and count them by reason in
            `Corpus.skipped`.
        split_tokens: split documents into passages of at most this many tokens; 0 takes each record, and each section
            of a document, as one passage. Default: records are not split, documents into passages of 180 tokens.
        split_overlap: tokens that neighbouring passages of a document may share.
        limit: stop after this many passages; 0 reads all.

    Raises:
        DataNotFoundError: there is no such file, folder or data set.
        ConfigError: the format is not known, or an option is out of range.
        InputError: while iterating, a record that is not a passage; names file and line.
    """
    name = str(source)
    if not name:
        raise ConfigError("the corpus has no name; give a file, a folder, ir_datasets:ID or installed")
    names = (id_field or "", text_field or "", title_field or "")
    if name.partition(":")[0] == INSTALLED and not Path(name).exists():
        if format or any(names) or split_tokens or split_overlap:
            raise ConfigError(f"{name} has no fields to name and comes as passages; leave format, fields and split out")
        return _installed(name, limit)
    if is_documents(source, format):
        if any(names):
            raise ConfigError(f"{name} holds documents, which have no fields; leave id, text and title field out")
        return _documents(Path(source), split_tokens, split_overlap, on_error, limit)
    if split_overlap and not split_tokens:
        raise ConfigError(f"split_overlap is {split_overlap}, but documents are not split; set split_tokens as well")
    split = Splitter(split_tokens, split_overlap) if split_tokens else None
    records = partial(
        RecordCorpus, name, id_field=names[0], text_field=names[1], title_field=names[2], on_error=on_error,
        split=split, limit=limit,
    )  # fmt: skip
    if name.startswith(_PREFIX):
        return records(partial(read_ir_dataset, name.removeprefix(_PREFIX)))
    files = _files(Path(source), format)
    readers = [(reader_of(file, format, names), file) for file in files]
    return records(partial(_read_all, readers), once=not all(map(Path.is_file, files)))


def _installed(name: str, limit: int) -> InstalledDocumentation:
    packages = name.removeprefix(INSTALLED).removeprefix(":").split(",")
    return InstalledDocumentation(limit=limit, packages=[p.strip() for p in packages] if ":" in name else None)


def _documents(path: Path, tokens: int | None, overlap: int, on_error: OnError, limit: int) -> RecordCorpus:
    """The corpus of a document or a folder of them."""
    from thresher.corpus.files.folder import FileCorpus, refuse_without_documents

    corpus = FileCorpus(path, tokens=tokens, overlap=overlap, on_error=on_error, limit=limit)
    refuse_without_documents(path)
    return corpus


def is_documents(source: str | Path, format: str = "") -> bool:
    """Whether a source is read as documents: a file or a folder of Markdown, HTML, text, PDF and so on.

    A format decides where it is given. A folder is read as records where it has itself, not in a folder below,
    a file of a record format; `.json` and `.csv`, which many folders of documents have, count where there is no
    document. Every other folder is read as documents.
    """
    from thresher.corpus.files.walk import kind_of

    path = Path(source)
    if format or str(source) == STDIN or not path.exists():
        if format == "files" and path.is_file() and _format_of(path):
            raise ConfigError(f"{path} holds records, not a document; pass format (--format) {_format_of(path)!r}")
        return format == "files" and path.exists()
    if not path.is_dir():
        return not _format_of(path) and kind_of(path.name) is not None
    named = [file.name for file in path.iterdir() if _format_of(file) and file.is_file() and not _is_hidden(file.name)]
    records = [name for name in named if not _NO_PASSAGES.match(name)]
    if any(_suffix(name) not in _UNDECIDED for name in records):
        return False
    from thresher.corpus.files.folder import has_documents

    return not named or has_documents(path)


def is_collection(source: str | Path, format: str = "") -> bool:
    """Whether the passages of a source have docnos that judgments or others name, so that they should not be split.

    That is a BEIR folder, a file beside queries or judgments, a data set of `ir_datasets`, and the installed
    documentation, which comes as passages.
    """
    name, path = str(source), Path(source)
    if is_documents(source, format):
        return False
    if format == "beir" or name.startswith(_PREFIX) or (name.partition(":")[0] == INSTALLED and not path.exists()):
        return True
    folder = path if path.is_dir() else path.parent
    if name == STDIN or not folder.is_dir():
        return False
    return any(_NO_PASSAGES.match(entry.name) for entry in folder.iterdir())


def _read_all(readers: list[tuple[Reader, Path]]) -> Iterator[Row | Problem]:
    for reader, file in readers:
        yield from reader(file)


def record_files(source: str | Path, format: str = "") -> list[Path] | None:
    """The files of records that `open_corpus` reads of a source; None where it is not a file or folder of records.

    Raises:
        DataNotFoundError: there is no such file or folder.
        InputError: the folder holds no file of records.
    """
    name = str(source)
    missing = not Path(source).exists()
    if name.startswith(_PREFIX) or (name.partition(":")[0] == INSTALLED and missing) or is_documents(source, format):
        return None
    return _files(Path(source), format)


def _files(path: Path, format: str) -> list[Path]:
    """The files of a source: itself, the corpus of a BEIR folder, or those of a folder that have a known suffix."""
    if str(path) == STDIN:
        return [path]
    if not path.exists():
        raise DataNotFoundError(
            f"{path}: no such file or folder; a corpus can also be ir_datasets:ID or {INSTALLED} (the documentation "
            "installed with Python)"
        )
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not _is_hidden(file.name))
    found = [file for file in files if file.name.lower() in _BEIR][:1]
    if found or format == "beir":
        others = []
    else:
        named = [file for file in files if format or _format_of(file)]
        found = [file for file in named if not _NO_PASSAGES.match(file.name)]
        others = [file.name for file in named if _NO_PASSAGES.match(file.name)]
    aside = f"{', '.join(others)} by name no passages" if others else ""
    if not found:
        hint = f"; {aside}: give a file by its own name to read it all the same" if aside else ""
        raise InputError(f"the folder holds no corpus.jsonl and no file of a known format{hint}", str(path))
    if aside:
        _log.warning("%s: passed over, being %s; give a file by its own name to read it", path, aside)
    if not format and (beside := _documents_beside(path)):
        _log.warning(
            "%s: read as records, since %s is in it; %s beside it are not read (--format files reads documents)",
            path, found[0].name, beside,
        )  # fmt: skip
    return found


def _documents_beside(path: Path) -> str:
    """The folders of documents and the documents in a folder of records, as a count; empty where there are none.

    What such folders have beside their data, a README and a licence, does not count.
    """
    from thresher.corpus.files.walk import Walk, documents

    found = (file.name for file in documents(path, Walk(), skip=True))
    count = sum("/" in name or not _ABOUT.match(name) for name in islice(found, _MANY))
    return f"{count:,} documents{' or more' if count == _MANY else ''}" if count > 1 else ""


def _is_hidden(name: str) -> bool:
    """Whether other programs left a file beside the user's: companions, swap files, marks of a finished job."""
    return name.startswith((".", "_SUCCESS", "_metadata", "_common_metadata", "#", "~$")) or name.endswith(
        ("~", ":Zone.Identifier")
    )


def reader_of(file: Path, format: str, names: tuple[str, str, str]) -> Reader:
    """What reads the records of a file, by the format named, else by its suffix.

    Raises:
        ConfigError: the format is unknown, or none is named and the suffix gives none.
    """
    format = format or _format_of(file)
    if format in ("jsonl", "beir"):
        return read_jsonl
    if format == "tsv":
        return partial(read_tsv, named=tuple(name for name in names if name))
    if format == "csv":
        return read_csv
    if format == "trec":
        return read_trec
    if format == "parquet":
        return read_parquet
    known = ", ".join(FORMATS)
    if format == "files":
        raise ConfigError(f"{file}: documents are read from files and folders; pass another format (--format)")
    if format:
        raise ConfigError(f"unknown corpus format {format!r}; known are: {known}")
    name = "standard input" if str(file) == STDIN else str(file)
    raise ConfigError(f"{name} has no suffix that gives the format; pass format (--format), one of: {known}")


def _format_of(file: Path) -> str:
    """The format that a file's suffix means; empty where it means none."""
    suffix = _suffix(file.name)
    return next((name for name, endings in FORMATS.items() if suffix and suffix in endings), "")


def _suffix(name: str) -> str:
    """The suffix of a file that says its format, in lower case."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
