"""A corpus copied to disk in one pass, so that it can be read again in any order without holding it in memory.

A build reads its source once, which may be a pipe; every later step reads the spool. Passages are MessagePack arrays
of docno, title, text and metadata (JSON), one after another in `passages`; `offsets` (int64[n + 1]) says where each
begins, and `docnos` holds one docno a line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, overload

import msgspec
import numpy as np
from tqdm import tqdm

from thresher.corpus.base import Fingerprint, checked
from thresher.corpus.stream import RecordCorpus
from thresher.errors import InputError
from thresher.records import Passage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK = 4096
"""Passages read, written or handed on at a time."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, str, str]).decode


class Spool:
    """Passages in files of `directory`, which is made. Fill it once; then read it as often as needed.

    Attributes:
        name: where the passages come from.
        skipped: records that the source left out, by reason.
        has_text: whether any passage has a title or text.
    """

    def __init__(self, directory: Path, name: str = "memory") -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.name = name
        self.skipped: dict[str, int] = {}
        self.has_text = False
        self._fingerprint = ""
        self._offsets: NDArray[np.int64] = np.zeros(1, np.int64)

    @classmethod
    def open(cls, directory: Path, about: Mapping[str, object]) -> Spool:
        """A spool that an earlier process filled.

        Args:
            directory: its files.
            about: what `about` gave of it.
        """
        made = cls.__new__(cls)
        made.directory, made.name, made._fingerprint = directory, str(about["name"]), str(about["fingerprint"])
        skipped = about["skipped"]
        made.skipped = dict(skipped) if isinstance(skipped, dict) else {}
        made.has_text = bool(about["has_text"])
        made._offsets = np.fromfile(directory / "offsets", np.int64)
        return made

    def about(self) -> dict[str, object]:
        """What its files do not say, as plain JSON: for `open`."""
        return {
            "name": self.name,
            "fingerprint": self._fingerprint,
            "skipped": self.skipped,
            "has_text": self.has_text,
        }

    def fill(
        self,
        source: Iterable[Passage],
        *,
        texts: bool = True,
        complaint_of: Callable[[Passage], str] | None = None,
    ) -> Iterator[list[Passage]]:
        """Write the passages of `source`, yielding each chunk of them after it has been written.

        Args:
            source: a corpus, or any iterable of passages; read once.
            texts: whether every passage must have a title or text.
            complaint_of: says what else is wrong with a passage; empty where nothing is.

        Raises:
            InputError: a plain iterable holds a passage that cannot be indexed, or a docno twice; or `complaint_of`
                refuses a passage. Names the record, or the line of a file.
        """
        fingerprint = Fingerprint()
        end = 0
        if isinstance(source, RecordCorpus):
            passages = source.passages(complaint_of)
        else:
            passages = iter(source) if hasattr(source, "fingerprint") else checked(source, self.name, texts=texts)
            passages = passages if complaint_of is None else _refusing(passages, complaint_of, self.name)
        with (
            (self.directory / "passages").open("wb") as stream,
            (self.directory / "docnos").open("wb") as docnos,
            (self.directory / "offsets").open("wb") as offsets,
        ):
            np.zeros(1, np.int64).tofile(offsets)
            while chunk := list(islice(passages, CHUNK)):
                packed = [_pack(passage) for passage in chunk]
                stream.write(b"".join(packed))
                docnos.write(b"".join(passage.docno.encode() + b"\n" for passage in chunk))
                ends = np.cumsum([len(one) for one in packed], dtype=np.int64) + end
                ends.tofile(offsets)
                end = int(ends[-1])
                for passage in chunk:
                    fingerprint.add(passage)
                self.has_text = self.has_text or any(passage.text or passage.title for passage in chunk)
                yield chunk
        self._fingerprint = fingerprint.hexdigest()
        self.skipped = dict(getattr(source, "skipped", {}))
        self._offsets = np.fromfile(self.directory / "offsets", np.int64)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Passage]:
        return iter(self.rows())

    def fingerprint(self) -> str:
        """sha256 (hex) over docno, title and text of all passages in order."""
        return self._fingerprint

    def rows(self, numbers: NDArray[np.integer] | None = None) -> SpooledPassages:
        """The passages with these numbers (int[m]) in this order; all of them by default."""
        return SpooledPassages(self, np.arange(len(self)) if numbers is None else numbers)

    def reordered(self, numbers: NDArray[np.integer], directory: Path) -> Spool:
        """A copy of this spool, in `directory`, with its passages in the order of `numbers`, int[n].

        Name, skipped records and fingerprint stay those of the corpus as it was read.
        """
        copy = Spool(directory, self.name)
        for _ in copy.fill(self.rows(numbers), texts=False):
            pass
        copy.skipped, copy._fingerprint = self.skipped, self._fingerprint
        return copy

    @property
    def texts(self) -> SpooledTexts:
        """Title and text of each passage."""
        return SpooledTexts(self)

    @property
    def docnos(self) -> SpooledDocnos:
        """The docno of each passage."""
        return SpooledDocnos(self)

    def read(self, numbers: NDArray[np.integer]) -> list[Passage]:
        """The passages with these numbers, int[m], in this order."""
        first, after = self._offsets[numbers].tolist(), self._offsets[numbers + 1].tolist()
        found = []
        with (self.directory / "passages").open("rb", buffering=0) as stream:
            if len(first) and bool((np.diff(numbers) == 1).all()):
                stream.seek(first[0])
                block = memoryview(_exactly(stream, after[-1] - first[0]))
                return [_unpack(block[a - first[0] : b - first[0]]) for a, b in zip(first, after, strict=True)]
            for low, high in zip(first, after, strict=True):
                stream.seek(low)
                found.append(_unpack(_exactly(stream, high - low)))
        return found


def _refusing(passages: Iterable[Passage], complaint_of: Callable[[Passage], str], name: str) -> Iterator[Passage]:
    for number, passage in enumerate(passages, 1):
        wrong = complaint_of(passage)
        if wrong:
            raise InputError(wrong, name, number)
        yield passage


def refuse_empty(spool: Spool) -> None:
    """Refuse a corpus without passages: nothing is made of it, and nothing replaced by it.

    Raises:
        InputError: `spool` is empty; says what was left out.
    """
    if not len(spool):
        left = ", ".join(f"{count:,} {reason}" for reason, count in spool.skipped.items())
        raise InputError("there are no passages in it" + (f"; left out were: {left}" if left else ""), spool.name)


class SpooledPassages:
    """Some passages of a spool, in a given order; can be iterated again and again."""

    def __init__(self, spool: Spool, numbers: NDArray[np.integer]) -> None:
        self.numbers = numbers
        self._spool = spool

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Passage]:
        for chunk in self.chunks():
            yield from chunk

    def chunks(self, size: int = CHUNK) -> Iterator[list[Passage]]:
        """The passages, at most `size` at a time."""
        for first in range(0, len(self.numbers), size):
            yield self._spool.read(self.numbers[first : first + size])


class _Spooled(Sequence[str]):
    """A string of each passage of a spool, read from disk."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __len__(self) -> int:
        return len(self._spool)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self._of(passage) for passage in self._spool.read(np.arange(*number.indices(len(self))))]
        return self._of(self._spool.read(np.array([range(len(self))[number]]))[0])

    @staticmethod
    def _of(passage: Passage) -> str:
        raise NotImplementedError


class SpooledTexts(_Spooled):
    """What encoders and estimators read of the passages of a spool: title and text, read from disk."""

    def __init__(self, spool: Spool, label: str = "") -> None:
        super().__init__(spool)
        self._label = label

    def watched(self, label: str) -> SpooledTexts:
        """The same texts, with a progress bar called `label` each time that all of them are read."""
        return SpooledTexts(self._spool, label)

    def __iter__(self) -> Iterator[str]:
        if not self._label:
            return (passage.contents for passage in self._spool)
        bar = tqdm(self._spool, self._label, len(self), unit=" passages", mininterval=0.5, delay=1)
        return (passage.contents for passage in bar)

    @staticmethod
    def _of(passage: Passage) -> str:
        return passage.contents


class SpooledDocnos(_Spooled):
    """The docnos of a spool, read from disk."""

    def __iter__(self) -> Iterator[str]:
        with (self._spool.directory / "docnos").open("rb") as stream:
            for line in stream:
                yield line[:-1].decode()

    @staticmethod
    def _of(passage: Passage) -> str:
        return passage.docno


def docno_keys(docnos: Iterable[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each docno (BLAKE2b), uint64[n]."""
    digests = (hashlib.blake2b(docno.encode("utf-8", "surrogatepass"), digest_size=8).digest() for docno in docnos)
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64)


def match_docnos(
    wanted: Sequence[str], given: Sequence[str], *, wanted_name: str, given_name: str
) -> NDArray[np.int64] | None:
    """Where each docno of `wanted` is in `given`: int64[n], or None where both name the same docnos in the same order.

    Both are read in streams; memory is 40 bytes a docno.

    Raises:
        InputError: a docno of one is missing from the other; the message names the first one.
    """
    if len(wanted) == len(given) and all(a == b for a, b in zip(wanted, given, strict=True)):
        return None
    keys, known = docno_keys(wanted), docno_keys(given)
    _refuse_missing(wanted, keys, known, wanted_name, given_name)
    _refuse_missing(given, known, keys, given_name, wanted_name)
    order = np.argsort(known, kind="stable")
    return order[np.searchsorted(known, keys, sorter=order)]


def _refuse_missing(
    docnos: Sequence[str], keys: NDArray[np.uint64], other: NDArray[np.uint64], name: str, other_name: str
) -> None:
    missing = np.flatnonzero(~np.isin(keys, other))
    if len(missing):
        first = int(missing[0])
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise InputError(
            f"docno {docnos[first]!r}{more} is not in {other_name}; use the corpus that both were made from",
            name,
            first + 1,
        )


def _pack(passage: Passage) -> bytes:
    metadata = json.dumps(dict(passage.metadata)) if passage.metadata else ""
    return _encode((passage.docno, passage.title, passage.text, metadata))


def _unpack(record: bytes | memoryview) -> Passage:
    docno, title, text, metadata = _decode(record)
    return Passage(docno, text, title, json.loads(metadata)) if metadata else Passage(docno, text, title)


def _exactly(stream: FileIO, size: int) -> bytes:
    """`size` bytes; an unbuffered read may return fewer at once."""
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError("the spooled corpus was cut short")
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
