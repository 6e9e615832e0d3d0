"""Lines of a file as bytes, decompressed on the way; a file that ends too early is an error, never a short corpus."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

from thresher.errors import DataNotFoundError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BOM", "COMPRESSED", "read_lines"]

COMPRESSED = (".gz", ".zst")
BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(1-based number, line without its end) of `path`; a byte order mark at its start is dropped.

    Raises:
        DataNotFoundError: there is no such file.
        InputError: it cannot be decompressed to its end.
    """
    number = 0
    try:
        for number, line in enumerate(_raw_lines(path), 1):
            if number == 1 and line.startswith(BOM):
                line = line[len(BOM) :]  # noqa: PLW2901
            yield number, line.rstrip(b"\r\n")
    except FileNotFoundError as err:
        raise DataNotFoundError(f"{path}: no such file") from err
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
    """The frames of `path`, read by hand, since the library's reader takes a file cut short for a whole one."""
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
