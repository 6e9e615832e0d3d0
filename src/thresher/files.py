"""Files: the one place that writes them atomically, reads their lines, and finds the cache folder.

A file is written to a temporary sibling, flushed to disk and renamed, so it is complete or as it was. A file is read
decompressed, whatever its name, where it begins like gzip or Zstandard, and without a byte order mark; lines come
without their ends.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import uuid
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from thresher.errors import DamagedArtifactError, DataNotFoundError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMPRESSED = (".gz", ".zst")
STDIN = "-"
"""The path that means standard input."""
BOM = b"\xef\xbb\xbf"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20
_WINDOW = 1 << 31
"""Longest window of a Zstandard file, in bytes: what `zstd --long=31` writes."""


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
    """Write `content` (text as UTF-8) under the name `path`, atomically."""
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


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of `path`, or of standard input for `-`, decompressed. Only reads forward, so it may be a pipe.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, or (while reading) cannot be decompressed to its end.
    """
    path = Path(path)
    try:
        raw = cast("io.BufferedReader", sys.stdin.buffer) if str(path) == STDIN else path.open("rb")
    except FileNotFoundError as err:
        raise DataNotFoundError(f"{path}: no such file") from err
    except IsADirectoryError as err:
        raise InputError("this is a directory, not a file", str(path)) from err
    with raw:
        start = raw.peek(4)[:4]
        try:
            if start.startswith(_GZIP) or (start and path.suffix == ".gz"):
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast("BinaryIO", unpacked)
            elif start == _ZSTD or (start and path.suffix == ".zst"):
                yield io.BufferedReader(_Chunks(_zst_chunks(raw)), _CHUNK)
            else:
                yield raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as err:
            problem = f"cannot be decompressed: {err}; the file is damaged or cut short"
            raise InputError(problem, str(path)) from err


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, line without its end) of `path`; a byte order mark at its start is dropped.

    Lines end with a line feed, which a carriage return may precede. Blank lines are yielded too: whether they count is
    the caller's decision.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, or cannot be decompressed to its end.
    """
    with opened(path) as stream:
        for number, line in enumerate(stream, 1):
            if number == 1 and line.startswith(BOM):
                line = line[len(BOM) :]  # noqa: PLW2901
                if not line:  # a file of a mark alone has no line
                    return
            yield number, line.rstrip(b"\r\n")


def read_text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """As `read_lines`, for UTF-8 text.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, cannot be decompressed to its end, or is not UTF-8.
    """
    for number, line in read_lines(path):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as err:
            problem = f"not UTF-8 text ({err.reason} at byte {err.start} of the line); convert the file"
            raise InputError(problem, str(path), number) from None


def read_content(path: str | Path) -> bytes:
    """All of `path`, without a byte order mark.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, or cannot be decompressed to its end.
    """
    with opened(path) as stream:
        return stream.read().removeprefix(BOM)


class _Chunks(io.RawIOBase):
    """A raw stream of the bytes that `chunks` yields."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # BufferedReader gives a memoryview
        while not self._rest:
            following = next(self._chunks, None)
            if following is None:
                return 0
            self._rest = memoryview(following)
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def _zst_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The frames of a Zstandard stream, read by hand: the library takes a file that was cut short for a whole one."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    frame = decompressor.decompressobj()
    begun = False
    try:
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
