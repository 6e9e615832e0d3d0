"""The CSR files of the Big-ANN benchmarks' sparse track: passages or queries, one row each.

int64 rows, columns and entries; int64[rows + 1] row ends; int32[entries] columns; float32[entries] values. All numbers
are little-endian. What is written are impacts, which float32 holds exactly.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from thresher.durable import replacing
from thresher.errors import InputError
from thresher.files import opened
from thresher.index.exchange.csr import PIECE, CsrVectors, count_rows, read_array
from thresher.index.exchange.formats import Format
from thresher.index.exchange.given import plain_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thresher.index.exchange.documents import Documents
    from thresher.index.exchange.given import Names

_HEADER, _INDPTR, _INDEX, _VALUE = (np.dtype(name) for name in ("<i8", "<i8", "<i4", "<f4"))


class BigAnn(Format):
    """A matrix of compressed rows after a header of three numbers."""

    name = "bigann"
    title = "Big-ANN CSR"
    suffixes = (".csr",)
    loses = "titles, texts and metadata"
    docnos = False

    def write(self, documents: Documents, file: Path) -> None:
        """Header, row ends, columns, values."""
        indptr = count_rows(documents)
        with replacing(file) as stream:
            sizes = [len(documents), len(documents.words), int(indptr[-1])]
            stream.write(np.array(sizes, _HEADER).tobytes() + indptr.astype(_INDPTR).tobytes())
            for batch in documents.batches():
                stream.write(batch.rows.terms.astype(_INDEX).tobytes())
            for batch in documents.batches():
                stream.write(batch.rows.impacts.astype(_VALUE).tobytes())

    def open(self, path: Path, names: Names) -> BigAnnVectors:
        """A file."""
        return BigAnnVectors(path, names)


class BigAnnVectors(CsrVectors):
    """The rows of a Big-ANN file."""

    index_type, value_type = _INDEX, _VALUE

    def __init__(self, path: Path, names: Names) -> None:
        with opened(path) as stream:
            rows, width, entries = (int(n) for n in read_array(stream, _HEADER, 3, path, "header"))
            after = 3 * _HEADER.itemsize + (rows + 1) * _INDPTR.itemsize
            size = after + entries * (_INDEX.itemsize + _VALUE.itemsize)
            given = path.stat().st_size
            plain = plain_name(path) == path.name
            if min(rows, width, entries) < 0 or width > 2**31 or (plain and size != given):
                problem = f"its header says {rows} x {width} with {entries} entries"
                raise InputError(f"{problem}, and it has {given:,} bytes; not a Big-ANN CSR file", str(path))
            indptr = read_array(stream, _INDPTR, rows + 1, path, "row ends").astype(np.int64)
        if int(indptr[-1]) != entries:
            raise InputError(f"its rows end at {indptr[-1]}, but it has {entries} entries; write it again", str(path))
        self._starts = after, after + entries * _INDEX.itemsize
        self._take(path, names, indptr, width)

    @contextmanager
    def streams(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """The columns and the values."""
        with ExitStack() as held:
            indices, values = (held.enter_context(opened(self.path)) for _ in range(2))
            for stream, start in zip((indices, values), self._starts, strict=True):
                skip(stream, start)
            yield indices, values


def skip(stream: BinaryIO, count: int) -> None:
    """Go forward by a number of bytes, or to the end; compressed streams are read."""
    if stream.seekable():
        stream.seek(count)
        return
    while count > 0 and (piece := stream.read(min(count, PIECE))):
        count -= len(piece)
