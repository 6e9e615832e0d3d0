"""CIFF, the Common Index File Format (Lin et al., SIGIR 2020): posting lists, then documents, as protobuf messages.

One file is a header, the posting lists in bytewise order of their terms, and a record for each document; a posting is
the gap to the document before and a number, which here is the impact. The records' lengths are the sums of impacts,
and of BM25 the terms. What the scale of the impacts is stands as JSON in the description of the header.

Lists are read as often as rows of a range of documents are made from them, so that no more than one range is held.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from thresher.checks import shown
from thresher.durable import replacing
from thresher.encode.terms import LinearScale
from thresher.errors import InputError
from thresher.files import COMPRESSED, opened
from thresher.index.exchange import ciff_codec as codec
from thresher.index.exchange.facts import Facts
from thresher.index.exchange.formats import Format
from thresher.index.exchange.gather import term_lists
from thresher.index.exchange.given import BYTE, CHUNK, GivenVectors, passage_of, weights_of
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.exchange.documents import Documents
    from thresher.index.exchange.given import Names
    from thresher.records import Passage

POSTINGS = 2**25
"""Postings of a range of documents that are held at a time, about 200 MB."""
_BLOCK = 2**20
"""Bytes that are read at a time; more than any field takes that is not skipped."""
_ROOM, _RECORDS = 2**18, 2**14
"""Postings and documents that are decoded at a time."""
_LEAST, _PACKED = 4, 8
"""Bytes of a document's record at least; records that a byte of a compressed file may hold at most."""


class Ciff(Format):
    """Posting lists of other engines: PISA, BMP, Lucene, JASS."""

    name = "ciff"
    title = "Common Index File Format"
    suffixes = (".ciff",)
    loses = "titles, texts and metadata"

    def write(self, documents: Documents, file: Path) -> None:
        """Header, posting lists, documents; lists come from the index as they are."""
        lengths, lists = np.zeros(len(documents), np.int64), 0
        for some in term_lists(documents):
            lists += int(np.count_nonzero(np.diff(some.ends, prepend=0)))
            lengths += np.bincount(some.docs, some.impacts, len(documents)).astype(np.int64)
        if documents.facts.idf:
            tokens = [batch.tokens for batch in documents.batches(2**16)]
            lengths = np.concatenate([own for own in tokens if own is not None]).astype(np.int64)
        with replacing(file) as stream:
            stream.write(_header(documents, lists, int(lengths.sum())))
            for some in term_lists(documents):
                words = [word.encode("utf-8", "surrogatepass") for word in some.words]
                ends = np.stack([some.ends, np.cumsum([len(word) for word in words], dtype=np.int64)], axis=1)
                joined = np.frombuffer(b"".join(words), np.uint8)
                out = np.empty(22 * len(some.docs) + 64 * len(words) + len(joined), np.uint8)
                stream.write(out[: codec.encode_lists(some.docs, some.impacts, ends, joined, out)].tobytes())
            for number, (docno, length) in enumerate(zip(documents.docnos(), lengths.tolist(), strict=True)):
                stream.write(_record(number, docno.encode("utf-8", "surrogatepass"), length))

    def open(self, path: Path, names: Names) -> CiffVectors:
        """A file."""
        return CiffVectors(path, names)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(*fields: tuple[int, int | bytes | float]) -> bytes:
    """A message with its length in front; fields of 0 are absent, as proto3 has it."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, bytes):
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
        elif isinstance(value, float):
            out += _varint(number << 3 | 1) + struct.pack("<d", value)
        elif value:
            out += _varint(number << 3) + _varint(value)
    return _varint(len(out)) + bytes(out)


def _header(documents: Documents, lists: int, total: int) -> bytes:
    n = len(documents)
    counts = [(1, 1), (2, lists), (3, n), (4, lists), (5, n), (6, total)]
    return _message(*counts, (7, total / max(n, 1)), (8, documents.facts.text().encode()))


def _record(number: int, docno: bytes, length: int) -> bytes:
    return _message((1, number), (2, docno), (3, length))


class _Reader:
    """The bytes of a file in blocks, and where in it they are."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self.block = np.zeros(0, np.uint8)
        self.at = self._start = 0

    def more(self, what: str) -> None:
        """Put the next bytes behind those that were not used.

        Raises:
            InputError: the file ends, or a field takes more than a block.
        """
        rest = self.block[self.at :]
        if len(rest) > _BLOCK:
            raise self.fault(f"a field of more than {_BLOCK:,} bytes in {what}")
        content = self._stream.read(_BLOCK)
        if not content:
            raise self.fault(f"the file ends within {what}; it was cut short")
        self._start += self.at
        self.block, self.at = np.concatenate([rest, np.frombuffer(content, np.uint8)]), 0

    def fault(self, problem: str) -> InputError:
        """The error about what is at the current place."""
        return InputError(f"{problem}, at byte {self._start + self.at:,}; not CIFF, or damaged", str(self._path))

    def message(self, what: str) -> bytes:
        """The next message, which fits in a block."""
        while True:
            length, start = codec.read_varint(self.block, self.at, len(self.block))
            if start == -2 or (start >= 0 and not 0 <= length <= _BLOCK):
                raise self.fault(f"a length of {length} bytes for {what}")
            if start >= 0 and start + length <= len(self.block):
                content, self.at = self.block[start : start + length].tobytes(), int(start + length)
                return content
            self.more(what)

    def ended(self) -> bool:
        """Whether nothing follows."""
        return self.at == len(self.block) and not self._stream.read(1)


class CiffVectors(GivenVectors):
    """The documents of a CIFF file, which are made from its posting lists. Every number in it is checked."""

    def __init__(self, path: Path, names: Names) -> None:
        self.path = path
        with self._reader() as (reader, lists, documents, description):
            self.facts = names.facts or Facts.from_text(description, str(path))
            counts, largest, words = np.zeros(documents, np.int64), 0, []
            try:
                for decoded, _ in self._lists(reader, lists, documents):
                    largest = max(largest, codec.count_docs(decoded, counts))
                    words += _words(decoded)
                terms = [word.decode() for word in words]
            except UnicodeDecodeError as err:
                raise reader.fault(f"the term {err.object!r:.60} is not UTF-8") from None
            self._read_records(reader, documents)
        self._lists_total, self._largest = lists, largest
        self.indptr = np.zeros(documents + 1, np.int64)
        np.cumsum(counts, out=self.indptr[1:])
        self.vocabulary = tuple(terms)
        self._ids: NDArray[np.int64] | None = None
        self.numbers_of_words()
        if names.vocabulary is not None:
            own, self.vocabulary = self.vocabulary, tuple(names.vocabulary)
            numbers = self.numbers_of_words()
            lacking = next((word for word in own if word not in numbers), None)
            if lacking is not None:
                raise InputError(f"term {shown(lacking)} is not in the vocabulary", str(path))
            self._ids = np.array([numbers[word] for word in own], np.int64)

    @property
    def impacts(self) -> LinearScale | None:
        """The scale of the impacts."""
        if self.facts is not None:
            return self.facts.impacts
        return LinearScale(1.0, 16) if self._largest > BYTE else None

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        n, first = len(self.docnos), 0
        while first < n:
            after = int(np.searchsorted(self.indptr, self.indptr[first] + POSTINGS, side="right")) - 1
            after = min(max(after, first + 1), n)
            low, size = int(self.indptr[first]), int(self.indptr[after] - self.indptr[first])
            terms, impacts = np.empty(size, np.uint32), np.empty(size, np.uint16)
            cursors = self.indptr[first:after] - low
            with self._reader() as (reader, lists, documents, _):
                if (lists, documents) != (self._lists_total, n):
                    raise reader.fault("the file changed while it was read")
                for decoded, done in self._lists(reader, lists, documents):
                    codec.put_rows(decoded, done, first, cursors, terms, impacts)
            for start, stop in pairwise([*range(first, after, CHUNK), after]):
                yield self._rows(start, stop, terms, impacts, low)
            first = after

    def _rows(
        self, start: int, stop: int, terms: NDArray[np.uint32], impacts: NDArray[np.uint16], low: int
    ) -> tuple[list[Passage], SparseBatch]:
        own = slice(int(self.indptr[start]) - low, int(self.indptr[stop]) - low)
        indptr = self.indptr[start : stop + 1] - self.indptr[start]
        ids, weights = terms[own], weights_of(impacts[own], self.facts)
        if self._ids is not None:
            ids = self._ids[ids].astype(np.uint32)
            order = np.lexsort((ids, np.repeat(np.arange(stop - start), np.diff(indptr))))
            ids, weights = ids[order], weights[order]
        docnos = enumerate(self.docnos[start:stop], start + 1)
        return [passage_of(docno, "", "", str(self.path), i) for i, docno in docnos], SparseBatch(indptr, ids, weights)

    @contextmanager
    def _reader(self) -> Iterator[tuple[_Reader, int, int, str]]:
        """The file after its header: how many lists and documents there are, and the description.

        Raises:
            InputError: the header makes no sense, or counts more documents than the file has room for.
        """
        with opened(self.path) as stream:
            reader = _Reader(stream, self.path)
            counts: dict[int, int] = {}
            description = ""
            content = np.frombuffer(reader.message("the header"), np.uint8)
            at, end = 0, len(content)
            while at < end:
                tag, at = codec.read_varint(content, at, end)
                begun = at
                if at >= 0 and tag & 7 == 0:
                    counts[tag >> 3], at = codec.read_varint(content, at, end)
                elif at >= 0:
                    at = codec.skip_field(content, at, end, tag & 7)
                    if at >= 0 and tag == 66:
                        after = codec.read_varint(content, begun, end)[1]
                        description = content[after:at].tobytes().decode("utf-8", "replace")
                if at < 0:
                    raise reader.fault("a damaged header")
            lists, documents = int(counts.get(2, 0)), int(counts.get(3, 0))
            if counts.get(1) != 1 or not 0 <= lists < 2**31 or not 0 <= documents < 2**31:
                problem = f"version {counts.get(1, 0)}, {lists} posting lists, {documents} documents"
                raise reader.fault(f"a header with {problem}")
            size = self.path.stat().st_size
            room = size * _PACKED if self.path.name.endswith(COMPRESSED) else size // _LEAST
            if documents > room:
                raise reader.fault(f"a header with {documents:,} documents in a file of {size:,} bytes")
            yield reader, lists, documents, description

    def _lists(self, reader: _Reader, lists: int, documents: int) -> Iterator[tuple[codec.Decoded, int]]:
        """The posting lists, some at a time, and how many were completed before.

        Raises:
            InputError: a list is damaged; says where in the file.
        """
        out = codec.Decoded(
            np.empty(_ROOM, np.uint32),
            np.empty(_ROOM, np.uint16),
            np.empty((_ROOM // 4, 2), np.int64),
            np.empty(4 * codec.LONGEST_TERM, np.uint8),
            np.zeros(3, np.int64),
        )
        state = np.zeros(6, np.int64)
        state[[codec.LEFT, codec.TERM]] = -1
        while True:
            done, kept = int(state[codec.LISTS]), max(int(state[codec.TERM]), 0) if state[codec.LEFT] >= 0 else 0
            used = int(out.used[2])
            out.terms[:kept] = out.terms[used - kept : used].copy()
            out.used[:] = 0, 0, kept
            reader.at, why = codec.decode_lists(reader.block, reader.at, state, lists, documents, out)
            yield out, done
            if why == codec.DONE:
                return
            if why in codec.FAULTS:
                raise reader.fault(f"{codec.FAULTS[why]}, in posting list {int(state[codec.LISTS]) + 1:,}")
            if why == codec.MORE:
                reader.more(f"posting list {int(state[codec.LISTS]) + 1:,} of {lists:,}")

    def _read_records(self, reader: _Reader, documents: int) -> None:
        """Read docnos and lengths; records may come in any order.

        Raises:
            InputError: a record is damaged, a document has none or two, or something follows the last.
        """
        found: list[str] = []
        numbers, lengths = np.empty(_RECORDS, np.int64), np.empty(_RECORDS, np.int64)
        spans = np.empty((_RECORDS, 2), np.int64)
        all_numbers, all_lengths = [], []
        while len(found) < documents:
            room = min(documents - len(found), _RECORDS)
            at, n, why = codec.decode_records(reader.block, reader.at, numbers[:room], lengths[:room], spans)
            content = reader.block.tobytes()
            try:
                found += [content[first:after].decode() for first, after in spans[:n].tolist()]
            except UnicodeDecodeError as err:
                raise reader.fault(f"the docno {err.object!r:.60} is not UTF-8") from None
            all_numbers.append(numbers[:n].copy())
            all_lengths.append(lengths[:n].copy())
            reader.at = int(at)
            if why in codec.FAULTS:
                raise reader.fault(f"{codec.FAULTS[why]}, in the record of document {len(found) + 1:,}")
            if why == codec.MORE and len(found) < documents:
                reader.more(f"the record of document {len(found) + 1:,} of {documents:,}")
        if not reader.ended():
            raise reader.fault("more bytes after the last document")
        order = np.concatenate(all_numbers) if all_numbers else np.zeros(0, np.int64)
        places = np.full(documents, -1, np.int64)
        inside = (order >= 0) & (order < documents)
        places[order[inside]] = np.flatnonzero(inside)
        if bool((places < 0).any()):
            at = int(np.argmin(places))
            raise InputError(f"document {at} has no record, and another has two or is out of range", str(self.path))
        self.docnos = [found[place] for place in places.tolist()]
        if self.facts is not None and self.facts.idf:
            self.tokens = np.concatenate(all_lengths)[places].clip(0, 2**32 - 1).astype(np.uint32)


def _words(decoded: codec.Decoded) -> list[bytes]:
    """The terms of the lists that were completed."""
    lists = int(decoded.used[1])
    ends = np.cumsum(decoded.ends[:lists, 1]).tolist()
    content = decoded.terms[: ends[-1] if ends else 0].tobytes()
    return [content[first:after] for first, after in pairwise([0, *ends])]
