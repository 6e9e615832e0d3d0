"""Files: the one place that writes them atomically, reads their lines, and finds the cache folder.

A file is written to a temporary sibling, flushed to disk and renamed, so it is complete or as it was. Lines are
read as bytes, decompressed by the name's suffix (`.gz`, `.zst`), without a byte order mark and without their ends.
"""

from __future__ import annotations

import gzip
import os
import uuid
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMPRESSED = (".gz", ".zst")
BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary stream whose content takes the name `path` when the block ends without an error.

    A name that ends in `.gz` is compressed, the same input to the same bytes. Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        with partial.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield cast("BinaryIO", packed)
            else:
                yield raw
            raw.flush()
            with suppress(OSError):  # some file systems refuse
                os.fsync(raw.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) under the name `path`, whole or not at all."""
    with replacing(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def write_names(path: str | Path, names: Iterable[str]) -> None:
    """Write one name a line (docnos, terms), as `read_names` reads them."""
    with replacing(path) as stream:
        stream.writelines(name.encode("utf-8", "surrogatepass") + b"\n" for name in names)


def read_names(path: str | Path) -> list[str]:
    """The names that `write_names` wrote, of a file that belongs to an artifact.

    Raises:
        DamagedArtifactError: the file is missing, is not UTF-8, or was cut short.
    """
    try:
        content = Path(path).read_bytes()
        if content and not content.endswith(b"\n"):
            raise ValueError("the last line has no end")
        return content.decode("utf-8", "surrogatepass").split("\n")[:-1]
    except (OSError, ValueError) as err:
        raise DamagedArtifactError(str(path), f"cannot be read ({err}); build it again") from err


def cache_folder() -> Path | None:
    """The folder for what can be made again: `THRESHER_CACHE`, or `thresher` in the user's cache directory.

    It is not made. None where there is no home directory and no variable names a folder.
    """
    base = os.environ.get("THRESHER_CACHE")
    if base:
        return Path(base)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "thresher"
    try:
        return Path.home() / ".cache" / "thresher"
    except RuntimeError:
        return None


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, line without its end) of `path`; a byte order mark at its start is dropped.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, or cannot be decompressed to its end.
    """
    path = Path(path)
    number = 0
    try:
        for number, line in enumerate(_raw_lines(path), 1):
            if number == 1 and line.startswith(BOM):
                line = line[len(BOM) :]  # noqa: PLW2901
            yield number, line.rstrip(b"\r\n")
    except FileNotFoundError as err:
        raise DataNotFoundError(f"{path}: no such file") from err
    except IsADirectoryError as err:
        raise InputError("this is a directory, not a file", str(path)) from err
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise InputError(f"cannot be decompressed: {err}; the file is damaged or cut short", str(path), number) from err


def _raw_lines(path: Path) -> Iterator[bytes]:
    if path.suffix == ".zst":
        yield from _zst_lines(path)
        return
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        yield from stream


def _zst_lines(path: Path) -> Iterator[bytes]:
    rest = b""
    for chunk in _zst_chunks(path):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _zst_chunks(path: Path) -> Iterator[bytes]:
    """The frames of `path`, read by hand: the library takes a file that was cut short for a whole one."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    begun = False
    try:
        with path.open("rb") as stream:
            while data := stream.read(_CHUNK):
                while data:
                    begun = True
                    yield frame.decompress(data)
                    data = frame.unused_data if frame.eof else b""
                    if frame.eof:
                        frame, begun = decompressor.decompressobj(), False
    except zstandard.ZstdError as err:
        raise EOFError(str(err)) from err
    if begun:
        raise EOFError("the compressed data ends before its end mark")
