"""The tasks that read a corpus: its records counted, its parts copied, the facts that need all parts.

A part is copied into a spool (`thresher.corpus.spool`) while its terms are counted. What all parts share is put
together from theirs: the average length of BM25, the types of metadata fields, the counts of words that quality
estimators compare with. Docnos must differ among all parts.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec
import numpy as np

from thresher.build.sources import corpus_of, expected_fields
from thresher.corpus.parts import (
    PASSAGES,
    Piece,
    Slice,
    check_unchanged,
    count_records,
    in_file,
    part_of,
)
from thresher.corpus.spool import Spool, docno_keys
from thresher.distributed.task import RESULTS, Task, read_result, recipe_of
from thresher.encode.bm25 import Bm25Encoder, TermCounts
from thresher.errors import ConfigError, InputError
from thresher.index.fields import Inference
from thresher.quality.lexical import CollectionStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.build.recipe import Recipe
    from thresher.corpus.base import Corpus
    from thresher.corpus.stream import RecordCorpus
    from thresher.records import Passage

CORPUS, COUNTS, KEYS, WORDS = "corpus", "counts", "docno-keys", "words.tsv"
"""What reading a part leaves: the spool, its term counts, uint64 hashes of its docnos, its words."""
_KEYS = 1 << 25
"""Hashes of docnos that are sorted at a time."""


class Counted(msgspec.Struct):
    """Records of a file, or passages of a source."""

    records: int


class CountRecords(Task, frozen=True, kw_only=True):
    """Counts the records of a file that cannot be cut at bytes, or the passages of a source that has no records.

    Attributes:
        recipe: how it is read: the table `corpus`.
        piece: the file or the source.
        split_tokens: as `corpus_of` takes it.
    """

    stage: ClassVar[str] = "count"
    recipe: str
    piece: dict[str, str | int]
    split_tokens: int = 0

    def make(self, folder: Path) -> Counted:
        """Nothing but the count."""
        recipe, piece = recipe_of(self.recipe), msgspec.convert(self.piece, Piece)
        table = recipe.corpus
        corpus = corpus_of(piece.file, recipe, self.split_tokens) if piece.unit == PASSAGES else ()
        names = (table.id_field, table.text_field, table.title_field)
        return Counted(count_records(piece.file, piece.unit, corpus, table.format, names))


class Read(msgspec.Struct):
    """A part that was read.

    Attributes:
        passages: in it.
        content: sha256 of all that was read of them.
        about: of the spool, as `Spool.about` gives it.
        lengths: passages with a term, and terms in all, repetitions included; 0 where terms were not counted.
        documents: that its passages were split from.
        format: as of `RecordCorpus`.
        found: types of metadata fields, as `Inference.state` gives them.
        values: likewise.
    """

    passages: int
    content: str
    about: dict[str, str | bool | dict[str, int]]
    lengths: tuple[int, int]
    documents: int
    format: str
    found: dict[str, str]
    values: dict[str, list[int]]


class ReadShard(Task, frozen=True, kw_only=True):
    """Copies a part of the corpus, and counts what is counted.

    Attributes:
        recipe: how it is read: the tables `corpus` and `fields`.
        source: the corpus.
        pieces: the part.
        last: whether it is the last part.
        split_tokens: as `corpus_of` takes it.
        analyzer: of the terms; empty where they are not counted.
        words: count words for a quality estimator.
    """

    stage: ClassVar[str] = "read"
    recipe: str
    source: str
    pieces: list[dict[str, str | int]]
    last: bool
    split_tokens: int
    analyzer: str
    words: bool

    def make(self, folder: Path) -> Read:
        """Spool, counts, hashes of docnos, words."""
        recipe, pieces = recipe_of(self.recipe), [msgspec.convert(piece, Piece) for piece in self.pieces]
        check_unchanged(pieces)
        corpus = self._open(recipe, pieces)
        spool = Spool(folder / CORPUS, str(corpus.name))
        counts = TermCounts(folder / COUNTS, self.analyzer) if self.analyzer else None
        found = Inference(recipe.fields, expected=expected_fields(corpus) or getattr(corpus, "fields", None))
        with (folder / KEYS).open("wb") as keys:
            try:
                for chunk in spool.fill(corpus, complaint_of=found.complaint):
                    found.add(chunk)
                    docno_keys(passage.docno for passage in chunk).tofile(keys)
                    if counts is not None:
                        counts.add([passage.contents for passage in chunk])
            except InputError as err:
                raise in_file(err, pieces) from err.__cause__  # not from itself, which loops for whoever follows causes
        check_unchanged(pieces)
        lengths = (0, 0)
        if counts is not None:
            counts.close()
            tokens = counts.tokens(np.arange(len(spool)))
            lengths = int(np.count_nonzero(tokens)), int(tokens.sum(dtype=np.int64))
        if self.words:
            CollectionStatistics.of(spool.texts).save(folder / WORDS)
        with (spool.directory / "passages").open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        state = found.state()
        return Read(
            len(spool), content, msgspec.convert(spool.about(), dict[str, str | bool | dict[str, int]]), lengths,
            int(getattr(corpus, "documents", 0)), str(getattr(corpus, "format", "")), state["found"], state["values"],
        )  # fmt: skip

    def _open(self, recipe: Recipe, pieces: Sequence[Piece]) -> RecordCorpus | Slice:
        corpus, table = corpus_of(self.source, recipe, self.split_tokens), recipe.corpus
        if pieces[0].unit == PASSAGES:
            return Slice(corpus, pieces[0], last=self.last)  # type: ignore[arg-type]
        names = (table.id_field, table.text_field, table.title_field)
        return part_of(corpus, pieces, table.format, names)  # type: ignore[arg-type]


class Part:
    """A part as later tasks see it.

    Args:
        work: the work folder.
        name: of the task that read it.
    """

    def __init__(self, work: str, name: str) -> None:
        self.place = Path(work) / RESULTS / name
        self.read = read_result(self.place, Read)

    @property
    def spool(self) -> Spool:
        """The passages."""
        return Spool.open(self.place / CORPUS, self.read.about)

    def counts(self, analyzer: str) -> TermCounts:
        """Their terms."""
        return TermCounts.open(self.place / COUNTS, analyzer)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Hashes of their docnos, uint64[n]."""
        if not self.read.passages:
            return np.zeros(0, np.uint64)
        return np.memmap(self.place / KEYS, np.uint64, "r")


class Facts(msgspec.Struct):
    """What all parts share.

    Attributes:
        passages: in all parts.
        fingerprint: sha256 of the fingerprints of the parts, in order.
        schema: types of the metadata fields.
        average_length: terms of an average passage; 0 where terms were not counted.
        skipped: records left out, by reason.
        documents: that passages were split from.
        format: as of `RecordCorpus`.
    """

    passages: int
    fingerprint: str
    schema: dict[str, str]
    average_length: float
    skipped: dict[str, int]
    documents: int
    format: str


class GatherFacts(Task, frozen=True, kw_only=True):
    """Puts together what the parts have in common.

    Attributes:
        recipe: the table `fields`.
        contents: of the parts.
        reads: the tasks that read them.
        skipped: records that each left out, in all.
        words: put the counts of words together.
        counted: whether terms were counted.
    """

    stage: ClassVar[str] = "facts"
    places: ClassVar[frozenset[str]] = frozenset(("reads",))
    recipe: str
    contents: list[str]
    reads: list[str]
    skipped: list[int]
    words: bool
    counted: bool

    def make(self, folder: Path) -> Facts:
        """The counts of words, where they are wanted."""
        parts = [Part(self.work, name) for name in self.reads]
        refuse_repeated(parts)
        found = Inference(recipe_of(self.recipe).fields)
        skipped: dict[str, int] = {}
        fingerprint, passages, tokens = hashlib.sha256(), 0, 0
        for part in parts:
            read = part.read
            found.merge_state({"found": read.found, "values": read.values})
            fingerprint.update(str(read.about["fingerprint"]).encode())
            passages, tokens = passages + read.lengths[0], tokens + read.lengths[1]
            for reason, count in part.spool.skipped.items():
                skipped[reason] = skipped.get(reason, 0) + count
        if self.words:
            _joined_words([part.place / WORDS for part in parts]).save(folder / WORDS)
        average = Bm25Encoder({}, passages, tokens).average_length if self.counted else 0.0
        return Facts(
            sum(part.read.passages for part in parts), fingerprint.hexdigest(), found.schema, average, skipped,
            sum(part.read.documents for part in parts), next((p.read.format for p in parts if p.read.format), ""),
        )  # fmt: skip


def refuse_repeated(parts: Sequence[Part]) -> None:
    """Check that no docno is in two parts, some hashes at a time.

    Raises:
        InputError: one is; names it.
    """
    total = sum(part.read.passages for part in parts)
    ranges = -(-total // _KEYS)
    edges = [number * 2**64 // max(ranges, 1) for number in range(ranges + 1)]
    for low, high in pairwise(edges):
        found, owners = [], []
        for number, part in enumerate(parts):
            keys = part.keys
            rows = np.flatnonzero((keys >= np.uint64(low)) & (keys <= np.uint64(high - 1)))
            found.append(keys[rows])
            owners.append(np.stack([np.full(len(rows), number), rows], axis=1))
        keys, places = np.concatenate(found), np.concatenate(owners)
        order = np.argsort(keys, kind="stable")
        for at in np.flatnonzero(keys[order][1:] == keys[order][:-1]).tolist():
            (a, row), (b, other) = places[order[at]].tolist(), places[order[at + 1]].tolist()
            docno = parts[a].spool.docnos[row]
            if docno == parts[b].spool.docnos[other]:
                raise InputError(
                    f"docno {docno!r} is in two parts of the corpus ({a + 1} and {b + 1}); docnos must be unique",
                    parts[a].spool.name,
                )


def _joined_words(files: Iterable[Path]) -> CollectionStatistics:
    """The counts of all parts, added."""
    counts: dict[str, int] = {}
    tokens = passages = 0
    for file in files:
        part = CollectionStatistics.load(file)
        for word, count in part.counts.items():
            counts[word] = counts.get(word, 0) + count
        tokens, passages = tokens + part.tokens, passages + part.passages
    return CollectionStatistics(counts, tokens, passages)


def check_source(source: Corpus | Iterable[Passage] | str | Path | None) -> str:
    """The name of a corpus that every process can open.

    Raises:
        ConfigError: it is a corpus in memory.
    """
    if not isinstance(source, str | Path) or not str(source):
        raise ConfigError(
            "a build in shards reads the corpus in several processes; give it as a file, a folder or a data set, "
            f"not as a {type(source).__name__}"
        )
    return str(source)
