"""Passages that a writer was given and has not committed yet: on disk, whatever their number.

Passages come in calls, and each call's are checked and spooled before any of them counts, so a call that fails changes
nothing. What is held is 20 bytes a passage. Spools of small calls are merged, each time with one of like size, which
leaves few. Weighted terms that come with passages are brought into the vocabulary of the index.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.build.known import document_of, fitting
from thresher.build.sources import reading_bar
from thresher.build.weights import in_order_of
from thresher.checks import shown
from thresher.corpus.spool import Spool, docno_keys, match_docnos
from thresher.encode.encoder import concatenate, take_rows
from thresher.encode.hybrid import is_saved_hybrid, saved_learned
from thresher.encode.preencoded import with_query_encoder
from thresher.errors import InputError
from thresher.index.arrays import map_array
from thresher.index.exchange.opening import open_encoded
from thresher.index.records import content_keys
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.encode.preencoded import Encoding
    from thresher.index.collection import Collection
    from thresher.index.fields import Inference
    from thresher.index.filters import Where
    from thresher.records import Passage

    Given = Callable[[Spool], tuple[Spool, Iterable[SparseBatch]]]


_SMALL = 65_536
"""Spools are merged up to this many passages."""
_PARTS = 64
"""Numbers of a document's passages that are looked up at a time."""


@dataclass(slots=True)
class Batch:
    """Passages of one call, spooled.

    Attributes:
        spool: the passages.
        keys, contents: uint64[n], hashes of docnos and contents.
        alive: bool[n], passages that are to be committed.
        rank: uint8[n], in which order passages are committed: 0 before 1.
        rows: their weighted terms, where these were given.
    """

    spool: Spool
    keys: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    alive: NDArray[np.bool_]
    rank: NDArray[np.uint8]
    rows: GivenRows | None = None

    def document(self, number: int) -> str:
        """The docno of the document that a passage was split from; empty if from none."""
        return document_of(self.spool.read(np.array([number]))[0])

    @property
    def is_small(self) -> bool:
        """Whether it may be merged with another."""
        return self.rows is None and len(self.keys) <= _SMALL // 2


class GivenRows:
    """Weighted terms of the passages of a batch, in files of `directory`; written once, read by number."""

    def __init__(self, directory: Path, batches: Iterable[SparseBatch]) -> None:
        directory.mkdir(parents=True)
        parts, end = [np.zeros(1, np.int64)], 0
        with (directory / "terms").open("wb") as terms, (directory / "weights").open("wb") as weights:
            for batch in batches:
                parts.append(batch.indptr[1:] + end)
                end += len(batch.terms)
                batch.terms.tofile(terms)
                batch.weights.tofile(weights)
        self._indptr = np.concatenate(parts)
        self._terms = map_array(directory / "terms", np.uint32, (end,))
        self._weights = map_array(directory / "weights", np.float32, (end,))

    def __len__(self) -> int:
        return len(self._indptr) - 1

    def take(self, numbers: NDArray[np.int64]) -> SparseBatch:
        """The rows of these passages, int64[n], ascending."""
        if not len(numbers):
            return SparseBatch(np.zeros(1, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32))
        first, after = int(numbers[0]), int(numbers[-1]) + 1
        low, high = int(self._indptr[first]), int(self._indptr[after])
        indptr = self._indptr[first : after + 1] - low
        return take_rows(SparseBatch(indptr, self._terms[low:high], self._weights[low:high]), numbers - first)


class Pending:
    """Passages that wait for a commit.

    Args:
        folder: gives a folder for temporary files, made when it is first needed.
        progress: show a progress bar where many passages are read.
    """

    def __init__(self, folder: Callable[[], Path], *, progress: bool = False) -> None:
        self.batches: list[Batch] = []
        self._folder, self._progress = folder, progress
        self._made = 0

    def read(self, source: Iterable[Passage], name: str, given: Given | None, fields: Inference) -> Batch:
        """Spool passages; they do not count before `take`.

        Args:
            source: a corpus or passages; read once.
            name: where they come from.
            given: what gives their weighted terms, and the passages in the order of these.
            fields: takes up their metadata fields, and refuses values of another type than the index has.

        Raises:
            InputError: a passage cannot be indexed, comes twice, or has no row of weighted terms.
        """
        directory = self._directory()
        try:
            spool = Spool(directory / "corpus", name)
            keys, contents = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
            with reading_bar(source, progress=self._progress) as bar:
                for chunk in spool.fill(source, texts=given is None, complaint_of=fields.complaint):
                    fields.add(chunk)
                    keys.append(docno_keys(passage.docno for passage in chunk))
                    contents.append(content_keys(chunk))
                    bar.update(len(chunk))
            joined, rows = (np.concatenate(keys), np.concatenate(contents)), None
            if given is not None:
                ordered, batches = given(spool)
                rows = GivenRows(directory / "rows", batches)
                if len(rows) != len(spool):
                    raise InputError(f"{len(spool):,} passages came with {len(rows):,} rows of weighted terms", name)
                if ordered is not spool:
                    order = match_docnos(ordered.docnos, spool.docnos, wanted_name=name, given_name=name)
                    joined, spool = (joined[0][order], joined[1][order]), ordered
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        n = len(spool)
        return Batch(spool, *joined, np.ones(n, bool), np.ones(n, np.uint8), rows)

    def forget(self, batch: Batch) -> None:
        """Remove a batch that was read, and not taken."""
        shutil.rmtree(batch.spool.directory.parent, ignore_errors=True)

    def locate(self, keys: NDArray[np.uint64]) -> dict[int, tuple[Batch, int]]:
        """For each place in `keys` whose passage is pending: its batch, and its number in it."""
        found: dict[int, tuple[Batch, int]] = {}
        order = np.argsort(keys, kind="stable")
        wanted = keys[order]
        for batch in self.batches if len(keys) else ():
            places = np.minimum(np.searchsorted(wanted, batch.keys), len(wanted) - 1)
            for number in np.flatnonzero((wanted[places] == batch.keys) & batch.alive).tolist():
                found[int(order[places[number]])] = batch, number
        return found

    def whole_documents(self, found: Iterable[tuple[Batch, int]]) -> list[tuple[Batch, int]]:
        """These pending passages, and all other pending ones of the documents that they were split from."""
        taken = {(id(batch), number): (batch, number) for batch, number in found}
        for name in sorted({name for batch, number in taken.values() if (name := batch.document(number))}):
            first = 1
            while True:
                names = [name if n == 1 else f"{name}#{n}" for n in range(first, first + _PARTS)]
                others = self.locate(docno_keys(names)).values()
                taken |= {(id(b), n): (b, n) for b, n in others if b.document(n) == name}
                if not others:
                    break
                first += _PARTS
        return list(taken.values())

    def matching(self, where: Where, schema: Mapping[str, str]) -> list[tuple[Batch, int]]:
        """Pending passages that fit a filter."""
        found: list[tuple[Batch, int]] = []
        for batch in self.batches:
            fits = fitting(batch.spool.rows().chunks(), len(batch.spool), where, schema, self._folder()) & batch.alive
            found += [(batch, row) for row in np.flatnonzero(fits).tolist()]
        return found

    def take(self, batch: Batch) -> None:
        """Let the passages of a batch count."""
        self.batches.append(batch)
        if not batch.alive.any():
            self.forget(self.batches.pop())
        while len(self.batches) > 1 and all(one.is_small for one in self.batches[-2:]):
            first, second = self.batches[-2:]
            if len(second.keys) * 2 < len(first.keys):
                break
            self.batches[-2:] = [self._merged(first, second)]

    def _merged(self, *batches: Batch) -> Batch:
        spool = Spool(self._directory() / "corpus", batches[-1].spool.name)
        kept = [np.flatnonzero(batch.alive) for batch in batches]
        passages = (p for batch, numbers in zip(batches, kept, strict=True) for p in batch.spool.rows(numbers))
        for _ in spool.fill(passages, texts=False):
            pass
        keys, contents, rank = (
            np.concatenate([getattr(batch, name)[numbers] for batch, numbers in zip(batches, kept, strict=True)])
            for name in ("keys", "contents", "rank")
        )
        for batch in batches:
            self.forget(batch)
        return Batch(spool, keys, contents, np.ones(len(keys), bool), rank)

    def _directory(self) -> Path:
        self._made += 1
        return self._folder() / f"pending-{self._made}"

    def __len__(self) -> int:
        """Passages that wait."""
        return sum(int(np.count_nonzero(batch.alive)) for batch in self.batches)

    def clear(self) -> None:
        """Forget all."""
        for batch in self.batches:
            self.forget(batch)
        self.batches = []

    def passages(self) -> Iterator[Passage]:
        """All passages, in the order they are committed."""
        for batch, numbers in self._ordered():
            yield from batch.spool.rows(numbers)

    def rows(self) -> tuple[NDArray[np.bool_], Callable[[NDArray[np.int64]], SparseBatch]] | None:
        """Which passages, in order, came with weighted terms, and what gives the rows of some; None where none did."""
        if not any(batch.rows is not None for batch in self.batches):
            return None
        ordered = list(self._ordered())
        starts = np.cumsum([0, *(len(numbers) for _, numbers in ordered)])
        has = np.concatenate([np.full(len(numbers), batch.rows is not None) for batch, numbers in ordered])

        def take(wanted: NDArray[np.int64]) -> SparseBatch:
            parts = []
            for (batch, numbers), start in zip(ordered, starts.tolist(), strict=False):
                own = wanted[(wanted >= start) & (wanted < start + len(numbers))] - start
                if len(own) and batch.rows is not None:
                    parts.append(batch.rows.take(numbers[own]))
            return concatenate(parts)

        return has, take

    def _ordered(self) -> Iterator[tuple[Batch, NDArray[np.int64]]]:
        for rank in (0, 1):
            for batch in self.batches:
                numbers = np.flatnonzero(batch.alive & (batch.rank == rank))
                if len(numbers):
                    yield batch, numbers


def named(source: Iterable[Passage]) -> str:
    """What passages are called in messages."""
    return str(getattr(source, "name", "memory"))


class IndexSide:
    """The learned encoder of an index as far as its passages need it: its terms.

    Attributes:
        name, fingerprint: of the encoder.
        vocabulary: the term strings by term id.

    Raises:
        InputError: the index has none, but weighs terms by BM25.
    """

    def __init__(self, collection: Collection) -> None:
        layout = collection.parts[0].layout
        self.vocabulary: Sequence[str]
        if not is_lexical(collection):
            encoder = collection.commit.fields["encoder"]
            self.name, self.fingerprint = str(encoder["name"]), str(encoder["fingerprint"])
            self.vocabulary = layout.words  # a learned encoder's, in every part of its tier
            return
        if layout.encoder is None or not is_saved_hybrid(layout.encoder):
            raise InputError(
                f"{collection.path} weighs terms by BM25, which it counts in the texts; add the passages without "
                "encoded="
            )
        learned, self.vocabulary, _ = saved_learned(layout.encoder)
        self.name, self.fingerprint = learned["name"], learned["fingerprint"]

    def save(self, directory: Path) -> None:
        """Nothing: the index has it already."""


def given_rows(
    collection: Collection, encoded: SparseBatch | Encoding | str | Path
) -> tuple[Iterable[Passage] | None, Given]:
    """The passages that encoded ones bring, and what gives their rows.

    Args:
        collection: the index.
        encoded: rows in the order of the passages, or an encoding.

    Returns:
        the passages, None where `encoded` has rows alone, or where BM25 counts terms in texts; and a function that
        takes the spooled passages and returns them in the order of the rows, and the rows.

    Raises:
        InputError: the index weighs terms by BM25 alone, or a term is none of its encoder's.
    """
    side = IndexSide(collection)
    if isinstance(encoded, SparseBatch):
        terms = len(side.vocabulary)
        if len(encoded.terms) and int(encoded.terms.max()) >= terms:
            raise InputError(f"encoded has term {int(encoded.terms.max())}; the index has {terms} terms")
        if not (np.isfinite(encoded.weights) & (encoded.weights > 0)).all():
            raise InputError("encoded has a weight that is not a finite number above 0")
        return None, lambda spool: (spool, [encoded])
    opened = open_encoded(encoded) if isinstance(encoded, str | Path) else encoded
    if not all(hasattr(opened, name) for name in ("docnos", "query_side", "path")):
        raise InputError(f"encoded must be a SparseBatch, or what open_encoded opens; got {shown(encoded)}")
    encoding = opened if opened.query_side.fingerprint == side.fingerprint else with_query_encoder(opened, side)
    bring = not is_lexical(collection)  # else texts are needed, which encoded passages may lack
    passages = (passage for chunk, _ in opened for passage in chunk) if bring else None
    return passages, lambda spool: (in_order_of(encoding, spool), _rows(encoding))


def _rows(encoding: Encoding) -> Iterator[SparseBatch]:
    return (batch for _, batch in encoding)


def is_lexical(collection: Collection) -> bool:
    """Whether weights of the first tier are BM25's, all or some."""
    return any(part.layout.counts.idf for part in collection.parts if part.tier == 1)
