"""Bulk files of search engines: what their formats share.

An engine takes records in requests of limited size, into a collection that is defined first. So an export is several
files, each of which is one request, and beside them the definition. Impacts are written as they are, whole numbers; a
query's weights times the scale (`Request.weights`) give the scores of the index.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec

from thresher.checks import shown
from thresher.durable import replacing
from thresher.encode.encoder import from_mappings
from thresher.errors import InputError
from thresher.files import line_limit, opened, too_long
from thresher.index.exchange.formats import Format
from thresher.index.exchange.given import CHUNK, GivenVectors, Names, check_weight, numbered, passage_of, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from thresher.index.exchange.documents import Document, Documents
    from thresher.index.exchange.facts import Facts
    from thresher.records import Passage, SparseBatch

MEGABYTE = 1 << 20
TERMS = "terms"
"""The field that holds weighted terms, in every engine."""
_NUMBER = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_LARGEST_ID = 2**32 - 2
"""The largest id of a term in engines that number them."""


class Request(NamedTuple):
    """A query as an engine is asked it.

    Attributes:
        weights: by term as the engine names it; times the scale of the impacts.
        ids: term ids, ascending, for engines that number terms.
        values: weights in the order of `ids`.
        k: documents to return.
    """

    weights: Mapping[str, float]
    ids: Sequence[int]
    values: Sequence[float]
    k: int


class Bulk(Format):
    """A bulk format.

    Attributes:
        limit: bytes of a file, before compression; a record that is larger has a file of its own.
        head, joint, tail: what is written before, between and after the records of a file.
        numbers: whether the engine names terms by numbers.
    """

    limit: ClassVar[int] = 8 * MEGABYTE
    head: ClassVar[bytes] = b""
    joint: ClassVar[bytes] = b"\n"
    tail: ClassVar[bytes] = b"\n"
    numbers: ClassVar[bool] = False

    @abstractmethod
    def record(self, number: int, document: Document, ids: Mapping[str, int]) -> bytes:
        """One document.

        Args:
            number: its place in the export, from 0.
            document: what it is.
            ids: term ids by string.
        """

    @abstractmethod
    def definition(self, facts: Facts) -> Mapping[str, bytes]:
        """The files that define the collection, by name."""

    @abstractmethod
    def request(self, request: Request) -> Mapping[str, object]:
        """The JSON body of a search."""

    @abstractmethod
    def records(self, file: Path, *, exported: bool) -> Iterator[Record]:
        """The documents of a file; nothing in it is trusted.

        Args:
            file: what to read.
            exported: whether thresher wrote it.

        Raises:
            InputError: it is damaged; names file and record.
        """

    def name_of(self, term: str) -> str:
        """A term as the engine names it."""
        return term

    def write(self, documents: Documents, file: Path) -> None:
        """All documents in one file, whatever its size."""
        with replacing(file) as stream:
            stream.write(self.head)
            for number, record in enumerate(self._records_of(documents)):
                stream.write(self.joint + record if number else record)
            stream.write(self.tail)

    def write_files(
        self, documents: Documents, folder: Path, stem: str, suffix: str, size: int | None
    ) -> tuple[list[str], list[str]]:
        """Files of at most `limit` bytes or `size` documents, and the definition."""
        names = []
        for number, records in enumerate(_grouped(self._records_of(documents), self.limit, size, len(self.joint))):
            names.append(f"{stem}-{number:05}{suffix}")
            with replacing(folder / names[-1]) as stream:
                stream.write(self.head + self.joint.join(records) + self.tail)
        others = self.definition(documents.facts)
        for name, content in others.items():
            (folder / name).write_bytes(content)
        return names, list(others)

    def _records_of(self, documents: Documents) -> Iterator[bytes]:
        ids = {word: number for number, word in enumerate(documents.words)} if self.numbers else {}
        for number, document in enumerate(documents):
            yield self.record(number, document, ids)

    def open(self, path: Path, names: Names) -> GivenVectors:
        """A file, or a folder of files."""
        return BulkVectors(self, path, names)


def _grouped(records: Iterable[bytes], limit: int, size: int | None, joint: int) -> Iterator[list[bytes]]:
    """Records in runs of at most `limit` bytes and `size` records; at least one run, and one record in each."""
    group: list[bytes] = []
    total, first = 0, True
    for record in records:
        if group and (total + len(record) + joint > limit or len(group) == size):
            yield group
            group, total, first = [], 0, False
        group.append(record)
        total += len(record) + joint
    if group or first:
        yield group


def as_json(value: object) -> bytes:
    """Compact JSON as UTF-8."""
    return msgspec.json.encode(value)


def as_file(value: object) -> bytes:
    """JSON as people read it."""
    return msgspec.json.format(as_json(value), indent=2) + b"\n"


class Record(NamedTuple):
    """A document of a file.

    Attributes:
        passage: its docno, texts and metadata.
        weights: by term, or by term id.
        source: the file.
        number: 1-based line or record.
    """

    passage: Passage
    weights: Mapping[str, float] | Mapping[int, float]
    source: str
    number: int


class BulkVectors(GivenVectors):
    """Documents of bulk files as encoded passages."""

    def __init__(self, form: Bulk, path: Path, names: Names) -> None:
        self.path, self.facts, self._form = path, names.facts, form
        self._files = _files_of(path, form.suffixes)
        self._scale = 1.0 if names.facts is None else names.facts.scale
        vocabulary = names.vocabulary
        self.named = not form.numbers or vocabulary is not None
        if vocabulary is None:
            vocabulary = self._found()
        self.vocabulary = tuple(vocabulary)
        self._numbers = {} if form.numbers else self.numbers_of_words()

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        records = self._records()
        while chunk := list(islice(records, CHUNK)):
            yield [record.passage for record in chunk], from_mappings([self._row(record) for record in chunk])

    def _records(self) -> Iterator[Record]:
        for file in self._files:
            yield from self._form.records(file, exported=self.facts is not None)

    def _found(self) -> Sequence[str]:
        """The vocabulary: terms sorted by code point, or their numbers."""
        weights = (record.weights for record in self._records())
        terms = {term for one in weights for term, weight in one.items() if weight}
        if self._form.numbers:
            return numbered(max((int(term) for term in terms), default=-1) + 1, self.path)
        return sorted(str(term) for term in terms)

    def _row(self, record: Record) -> dict[int, float]:
        try:
            if self._form.numbers:
                row = {int(term): weight * self._scale for term, weight in record.weights.items() if weight}
                if row and max(row) >= len(self.vocabulary):
                    raise KeyError(max(row))
                return row
            numbers = self._numbers
            return {numbers[str(term)]: weight * self._scale for term, weight in record.weights.items() if weight}
        except KeyError as err:
            raise InputError(f"term {err.args[0]!r} is not in the vocabulary", record.source, record.number) from None


def _files_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and plain_name(file).endswith(suffixes))
    if not found:
        raise InputError(f"no file in this folder has a name that ends in {' or '.join(suffixes)}", str(path))
    return found


def read_document(file: Path, key: str) -> list[object]:
    """The list under `key` of the JSON object that is a file.

    Raises:
        InputError: the file holds something else, or is larger than a line may be (`THRESHER_MAX_LINE`).
    """
    limit = line_limit()
    with opened(file) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise InputError(too_long("the file"), str(file))
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise InputError(f"not JSON ({err})", str(file)) from None
    found = document.get(key) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise InputError(f"expected a JSON object with a list {key!r}; got {shown(document)}", str(file))
    return found


def object_of(value: object, what: str, source: str, number: int) -> Mapping[str, object]:
    """A JSON object; empty for null.

    Raises:
        InputError: it is something else; the message calls it `what`.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{what} is {shown(value)}; it must be an object", source, number)
    return value


def weights_of_terms(value: object, source: str, number: int, name: Callable[[str], str] = str) -> dict[str, float]:
    """Weights by term, from a JSON object.

    Args:
        value: the object.
        source: the file.
        number: of the record.
        name: from the engine's name of a term to the term.

    Raises:
        InputError: it is not an object of weights, or two names are of one term.
    """
    given = object_of(value, "the mapping from terms to weights", source, number)
    for term, weight in given.items():
        check_weight(term, weight, source, number)
    made = {name(term): float(weight) for term, weight in given.items()}  # type: ignore[arg-type]  # checked
    if len(made) < len(given):
        raise InputError("two names of its terms stand for the same term", source, number)
    return made


def weights_of_ids(value: object, source: str, number: int) -> dict[int, float]:
    """Weights by term id: `{"indices": [...], "values": [...]}`, or an object with ids as its keys.

    Raises:
        InputError: it is neither, an id comes twice or is out of range, or a weight is.
    """
    given = object_of(value, "the sparse vector", source, number)
    if "indices" not in given:
        for name, weight in given.items():
            if not _NUMBER.fullmatch(name):
                raise InputError(f"term {shown(name)} is not a whole number", source, number)
            check_weight(name, weight, source, number)
        return {_id(int(name), source, number): float(weight) for name, weight in given.items()}  # type: ignore[arg-type]
    indices, values = given["indices"], given.get("values")
    if not isinstance(indices, list) or not isinstance(values, list) or len(indices) != len(values):
        raise InputError("its indices and values must be lists of one length", source, number)
    for one, weight in zip(indices, values, strict=True):
        check_weight(str(_id(one, source, number)), weight, source, number)
    made = dict(zip(indices, map(float, values), strict=True))
    if len(made) < len(indices):
        twice = next(one for place, one in enumerate(indices) if one in indices[:place])
        raise InputError(f"index {twice} comes twice in the sparse vector", source, number)
    return made


def _id(value: object, source: str, number: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_ID:
        raise InputError(f"index {shown(value)} is not a whole number from 0 to {_LARGEST_ID}", source, number)
    return value


def passage_from(fields: Mapping[str, object], docno: object, source: str, number: int) -> Passage:
    """A passage from the fields `title`, `text` and `metadata` of a record."""
    return passage_of(docno, fields.get("text"), fields.get("title"), source, number, fields.get("metadata"))
