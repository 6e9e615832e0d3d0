"""Files: the one place that reads them and their lines, and finds the cache folder. `thresher.durable` writes them.

A file is read once, front to back, so that it may be a pipe,
decompressed, whatever its name, where it begins like gzip or Zstandard, and without a byte order mark; lines come
without their ends. Reading takes bounded memory, whatever a compressed file unpacks to: a line may have at most
`line_limit` bytes, which the environment variable THRESHER_MAX_LINE sets in megabytes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import sys
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from thresher.errors import ConfigError, DamagedArtifactError, DataNotFoundError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPRESSED = (".gz", ".zst")
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What opening a missing file raises. Other errors (descriptors, permissions, disks) are no sign of damage."""
UNREADABLE_ARRAYS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, MemoryError, RuntimeError),
    *(NotImplementedError, OverflowError, SyntaxError, TokenError, zipfile.BadZipFile, zlib.error, struct.error),
)
"""What numpy and zipfile raise for an `.npy` or `.npz` file that is damaged."""
STDIN = "-"
"""The path that means standard input."""
BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {
    b"\xfd7zXZ": "xz",
    b"PK\x03\x04": "zip",
    b"\x1f\x9d": "compress",
    b"7z\xbc\xaf": "7z",
    b"\x04\x22\x4d\x18": "lz4",
}
"""How files begin that are compressed in ways that are not read here."""
_CHUNK = 1 << 20
_PIECE = 1 << 12
"""Compressed bytes unpacked at a time: 128 megabytes at most, a Zstandard block being 3 bytes or more for 128 KiB."""
_LINE_MEGABYTES = 64
_WINDOW = 1 << 31
"""Longest window of a Zstandard file, in bytes: what `zstd --long=31` writes."""


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
    except (*ABSENT, ValueError) as err:
        raise DamagedArtifactError(str(path), f"cannot be read ({err}); build it again") from err


def cache_folder() -> Path | None:
    """The folder for what can be made again: `THRESHER_CACHE`, or `thresher` in the user's cache directory.

    It is not made. None where there is no home directory and no variable names a folder.
    """
    base = os.environ.get("THRESHER_CACHE")
    if base:
        return Path(base)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117  (what the standard says of relative ones: they are ignored)
        return Path(base) / "thresher"
    try:
        home = Path.home()
    except (RuntimeError, KeyError):  # no HOME, and the user has no entry
        return None
    return home / ".cache" / "thresher" if home.is_absolute() else None


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of `path`, or of standard input for `-`, decompressed. Only reads forward, so it may be a pipe.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, or (while reading) cannot be decompressed to its end.
    """
    path = Path(path)
    try:
        raw = _standard_input() if str(path) == STDIN else path.open("rb")
    except FileNotFoundError as err:
        raise DataNotFoundError(f"{path}: no such file") from err
    except IsADirectoryError as err:
        raise InputError("this is a directory, not a file", str(path)) from err
    except InputError:
        raise
    except ValueError as err:  # a NUL in the name
        raise InputError(f"{str(path)!r} cannot be the name of a file: {err}") from err
    with raw:
        start = raw.peek(10)[:10]
        other = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), "")
        other = "bzip2" if start.startswith(b"BZh") and start[4:] == b"1AY&SY" else other
        if other:
            raise InputError(f"compressed with {other}; unpack it, or compress it with gzip or zstd", str(path))
        try:
            if start.startswith(_GZIP) or (start and path.suffix.lower() == ".gz"):
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast("BinaryIO", unpacked)
            elif start.startswith(_ZSTD) or (start and path.suffix.lower() == ".zst"):
                yield io.BufferedReader(_Chunks(_zst_chunks(raw)), _CHUNK)
            else:
                yield raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as err:
            cause = "" if "window" in str(err) else "; the file is damaged or cut short"
            raise InputError(f"cannot be decompressed: {err}{cause}", str(path)) from err


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, line without its end) of `path`; a byte order mark at its start is dropped.

    Lines end with a line feed, which a carriage return may precede. Blank lines are yielded too: whether they count is
    the caller's decision.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, cannot be decompressed to its end, or has a line longer than `line_limit`.
    """
    limit = line_limit()
    with opened(path) as stream:
        for number, line in enumerate(iter(partial(stream.readline, limit + 1), b""), 1):
            if len(line) > limit:
                raise InputError(too_long("the line"), str(path), number)
            if number == 1 and line.startswith(_UTF16):
                raise InputError("the text is UTF-16; convert it: iconv -f utf-16 -t utf-8", str(path), 1)
            if number == 1 and line.startswith(BOM):
                line = line[len(BOM) :]  # noqa: PLW2901
                if not line:  # a file of a mark alone has no line
                    return
            yield number, line.rstrip(b"\r\n")


def line_limit() -> int:
    """The most bytes of a line: 64 megabytes, or as many as THRESHER_MAX_LINE says.

    Raises:
        ConfigError: the variable is not a whole number of 1 or more.
    """
    value = os.environ.get("THRESHER_MAX_LINE") or str(_LINE_MEGABYTES)
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) and len(value) < 9):
        raise ConfigError(f"THRESHER_MAX_LINE is {value!r:.40}; it must be a whole number of megabytes, 1 or more")
    return int(value) << 20


def too_long(what: str) -> str:
    """What to say of a line, or of a record over many lines, that is longer than `line_limit`."""
    return f"{what} is longer than {line_limit() >> 20} megabytes; split it, or set THRESHER_MAX_LINE to allow more"


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


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(1-based number, JSON object) of each line of `path` that is not blank; all forms of `read_text_lines`.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: a line is not UTF-8 or not a JSON object, or the file cannot be read to its end.
    """
    for number, line in read_text_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise InputError(f"not a JSON object ({err}); one object a line is expected", str(path), number) from None
        if not isinstance(row, dict):
            problem = f"expected a JSON object, found {type(row).__name__}; one object a line is expected"
            raise InputError(problem, str(path), number)
        yield number, row


def read_text(path: str | Path) -> str:
    """All of `path` as text, without a byte order mark; line ends stay as they are.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, cannot be decompressed to its end, or is not UTF-8, with the line.
    """
    content = read_content(path)
    try:
        return content.decode()
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise InputError(f"not UTF-8 text ({err.reason}); convert the file", str(path), line) from None


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file that belongs to an artifact or a model.

    Raises:
        DamagedArtifactError: the file is missing, is not JSON, or holds no object.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except (*ABSENT, ValueError, RecursionError) as err:
        raise DamagedArtifactError(str(path), f"cannot be read ({type(err).__name__}: {err}); make it again") from err
    if not isinstance(document, dict):
        raise DamagedArtifactError(str(path), f"holds {type(document).__name__}, not a JSON object; make it again")
    return document


def read_content(path: str | Path) -> bytes:
    """All of `path`, without a byte order mark.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it is a directory, or cannot be decompressed to its end.
    """
    with opened(path) as stream:
        return stream.read().removeprefix(BOM)


def _standard_input() -> io.BufferedReader:
    if sys.stdin is None or sys.stdin.closed or sys.stdin.buffer.closed:
        raise InputError("standard input is closed, or was read before; it can be read once")
    return cast("io.BufferedReader", sys.stdin.buffer)


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
        while data := stream.read(_PIECE):
            while data:
                begun = True
                yield frame.decompress(data)
                data = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame, begun = decompressor.decompressobj(), False
    except zstandard.ZstdError as err:
        if "too much memory" in str(err):
            raise EOFError(f"its window is longer than {_WINDOW >> 30} GiB") from err
        raise EOFError(str(err)) from err
    except MemoryError as err:
        raise EOFError("there is no memory for its window (it was made with a --long option)") from err
    if begun:
        raise EOFError("the compressed data ends before its end mark")
