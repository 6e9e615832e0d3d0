"""A corpus cut into parts that different processes read.

Uncompressed JSON lines and TSV are cut at bytes: a line belongs to the part in which it begins. Other files of records
are read whole where there are enough of them; otherwise they are cut at records. What is not a file of records
(documents, data sets) is cut at passages. To cut at records or passages they are counted first, and each process reads
from the start and keeps its own. Parts come in the order of the corpus, and together they are the corpus.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thresher.corpus.formats import read_jsonl, read_tsv
from thresher.corpus.open import reader_of, record_files
from thresher.corpus.stream import Lead, Problem, Row
from thresher.errors import ConfigError, DataNotFoundError, InputError
from thresher.files import STDIN, line_limit, opened, read_lines, too_long

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from thresher.corpus.base import Corpus
    from thresher.corpus.stream import RecordCorpus
    from thresher.records import Passage

    Names = tuple[str, str, str]

Unit = Literal["bytes", "records", "passages"]
PASSAGES = "passages"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a file, or of the passages of a source that is not a file of records.

    Attributes:
        file: the file, or the source.
        unit: what `first` and `after` count.
        first: where it begins.
        after: where it ends; -1 for the end of the file.
        size, changed: bytes of the file, and when it was last changed (nanoseconds), so that another one is noticed.
    """

    file: str
    unit: Unit
    first: int = 0
    after: int = -1
    size: int = 0
    changed: int = 0

    def as_json(self) -> dict[str, object]:
        """Plain JSON: the keywords of this class."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """What is cut: a file, or a source that is not a file of records.

    Attributes:
        file: its name.
        unit: what it can be cut at.
        size, changed: as of a `Piece`.
    """

    file: str
    unit: Unit
    size: int = 0
    changed: int = 0

    @property
    def counted(self) -> bool:
        """Whether records must be counted before it can be cut."""
        return self.unit != "bytes"


def sources_of(source: str | Path, format: str, names: Names) -> list[Source]:
    """What the corpus `source` consists of.

    Args:
        source: as `open_corpus` takes it.
        format: likewise.
        names: its fields of docno, text and title; empty ones are found.

    Raises:
        ConfigError: it is a pipe, which one process can read once; or its format is unknown.
        DataNotFoundError: there is no such source.
    """
    files = record_files(source, format)
    if files is None:
        return [Source(str(source), "passages")]
    found = []
    for file in files:
        if str(file) == STDIN or not file.is_file():
            raise ConfigError(f"{file} is a pipe, which only one process can read; save it to a file and give that")
        reader, stat = reader_of(file, format, names), file.stat()
        cut = _is_lines(reader) and not _is_packed(file)
        found.append(Source(str(file.absolute()), "bytes" if cut else "records", stat.st_size, stat.st_mtime_ns))
    return found


def to_count(sources: Sequence[Source], parts: int) -> list[Source]:
    """The sources whose records must be counted to make `parts` parts: none where there are enough whole files."""
    if parts < 2 or (sum(source.counted for source in sources) >= parts and all(s.unit != PASSAGES for s in sources)):
        return []
    return [source for source in sources if source.counted]


def cut(sources: Sequence[Source], counts: Mapping[str, int], parts: int) -> list[list[Piece]]:
    """The parts, each a list of pieces; of about equal size, and empty where there is too little.

    Args:
        sources: of the corpus, in order.
        counts: records of those that were counted, by name.
        parts: how many parts.
    """
    sizes = [max(source.size, counts.get(source.file, 0), 1) for source in sources]
    total = sum(sizes)
    made: list[list[Piece]] = [[] for _ in range(parts)]
    before = 0
    for source, size in zip(sources, sizes, strict=True):
        length = source.size if source.unit == "bytes" else counts.get(source.file)
        if length is None:
            place = min((2 * before + size) * parts // (2 * total), parts - 1)
            made[place].append(Piece(source.file, source.unit, size=source.size, changed=source.changed))
        else:
            for place in range(before * parts // total, min((before + size) * parts // total + 1, parts)):
                first, after = (
                    min(max((total * edge // parts - before) * length // size, 0), length)
                    for edge in (place, place + 1)
                )
                if first < after:
                    made[place].append(Piece(source.file, source.unit, first, after, source.size, source.changed))
        before += size
    return made


def count_records(source: str, unit: Unit, corpus: Corpus | Iterable[Passage], format: str, names: Names) -> int:
    """How many records a file has, with bad ones, or how many passages a source."""
    if unit == "passages":
        return sum(1 for _ in corpus)
    return sum(1 for _ in reader_of(Path(source), format, names)(Path(source)))


class Slice:
    """Some of the passages of a corpus that is not a file of records.

    Args:
        corpus: the corpus, read from its start.
        piece: which passages.
        last: whether the records that were left out are counted here.
    """

    def __init__(self, corpus: Corpus, piece: Piece, *, last: bool) -> None:
        self.name, self.documents = corpus.name, 0
        self.format, self.fields = str(getattr(corpus, "format", "")), getattr(corpus, "fields", None)
        self.skipped: Mapping[str, int] = {}
        self._corpus, self._piece, self._last = corpus, piece, last

    def __iter__(self) -> Iterator[Passage]:
        passages = iter(self._corpus)
        yield from islice(passages, self._piece.first, self._piece.after)
        if self._last:
            for _ in passages:
                pass
            self.skipped = self._corpus.skipped
            self.documents = int(getattr(self._corpus, "documents", 0))


def part_of(corpus: RecordCorpus, pieces: Sequence[Piece], format: str, names: Names) -> RecordCorpus:
    """The passages of these pieces of a corpus of files.

    Args:
        corpus: the whole corpus, opened and not read.
        pieces: what to read of it.
        format: as the corpus was opened.
        names: likewise.
    """

    def read() -> Iterator[Row | Problem | Lead]:
        for piece in pieces:
            yield from _records(piece, format, names)

    return corpus.part(read)


def check_unchanged(pieces: Iterable[Piece]) -> None:
    """Refuse files that were changed since they were cut.

    Raises:
        InputError: one was.
        DataNotFoundError: one is not there, or not on this machine.
    """
    for piece in pieces:
        if piece.unit == "passages":
            continue
        try:
            stat = Path(piece.file).stat()
        except FileNotFoundError:
            raise DataNotFoundError(
                f"{piece.file}: no such file; every process must see the corpus under one name"
            ) from None
        if (stat.st_size, stat.st_mtime_ns) != (piece.size, piece.changed):
            raise InputError(
                "the file changed while it was read in parts; build again when nothing writes to it", piece.file
            )


def in_file(err: InputError, pieces: Iterable[Piece]) -> InputError:
    """An error of a part with the line counted in the whole file."""
    for piece in pieces:
        if piece.file == err.source and piece.unit == "bytes" and piece.first and err.line > 1:
            return InputError(str(err.args[0]), err.source, err.line - 1 + _lines_before(piece))
    return err


def _records(piece: Piece, format: str, names: Names) -> Iterator[Row | Problem | Lead]:
    file = Path(piece.file)
    reader = reader_of(file, format, names)
    whole = piece.first == 0 and piece.after < 0
    if whole or piece.unit == "records":
        after = None if piece.after < 0 else piece.after
        for number, record in enumerate(islice(reader(file), after)):
            if number >= piece.first:
                yield record
            elif number == 0 and isinstance(record, Row):
                yield Lead(record)
        return
    with_lines: Callable[..., Iterator[Row | Problem]] = reader
    for record in with_lines(file, lines=_lines(piece)):
        if piece.first and record.line == 1:
            if isinstance(record, Row):
                yield Lead(record)
            continue
        yield record


def _lines(piece: Piece) -> Iterator[tuple[int, bytes]]:
    """The first line of the file, as number 1, and then the numbered lines that begin in a piece."""
    limit, number = line_limit(), 1
    yield from islice(read_lines(piece.file), 1)
    with Path(piece.file).open("rb") as stream:
        stream.seek(max(piece.first - 1, 0))
        while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):  # of a line that begins before
            pass
        while stream.tell() < piece.after and (line := stream.readline(limit + 1)):
            number += 1
            if len(line) > limit:
                raise InputError(too_long("the line"), piece.file, number)
            yield number, line.rstrip(b"\r\n")


def _lines_before(piece: Piece) -> int:
    """Lines that begin before a piece."""
    count, left = 0, piece.first - 1
    with Path(piece.file).open("rb") as stream:
        while left > 0 and (block := stream.read(min(left, 1 << 20))):
            count += block.count(b"\n")
            left -= len(block)
    return count + 1


def _is_lines(reader: object) -> bool:
    function = reader.func if isinstance(reader, partial) else reader
    return function in (read_jsonl, read_tsv)


def _is_packed(file: Path) -> bool:
    """Whether a file is compressed, whatever its name."""
    with file.open("rb") as raw:
        start = raw.read(4)
    with opened(file) as stream:
        return stream.read(4) != start
