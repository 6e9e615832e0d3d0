"""Building an index from passages and their weighted terms, in bounded memory.

Passages come in batches and leave memory at once: their texts go to the store they will be read from, their weighted
terms to a spool, row after row. `finish` then knows every list's length and the largest weight, fixes the scale of the
impacts, sorts the docnos, chooses an order of documents, and places each posting by one pass over the memory-mapped
spool, or as many as a limit on memory asks for (`thresher.index.invert`).

Impacts are linear: weight / scale, rounded to nearest, at least 1, where scale = largest weight / 255 (or 65,535).
Weights that are whole numbers and fit already are kept as they are, with scale 1. Where the scale is given, as for
passages that are added to an index, larger weights get the largest impact.
"""

from __future__ import annotations

import errno
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from thresher.arguments import checked_call
from thresher.checks import is_a, path_of, real, shown, strings
from thresher.encode.terms import fit_scale
from thresher.errors import InputError
from thresher.index.arrays import PackedWriter, StringStore, StringWriter, create_array, map_array, write_array
from thresher.index.counts import BLOCKS, SUPERBLOCK, Counts, write_counts
from thresher.index.layout import (
    CHUNK,
    COMMON,
    DENSE,
    DENSE_BYTES,
    DIRECTORY_BYTES,
    KTH,
    LONG,
    NUMBERED,
    SPARSEST,
    rows_of_kinds,
)
from thresher.index.packing import pack_passage
from thresher.index.records import RecordWriter
from thresher.mapping import release
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.invert import Lists, Spool
    from thresher.index.memory import MemoryLimit

ORDERS = ("source", "bp", "similarity")
SPOOL = "spool"
RENUMBERED = 2**20
"""Postings whose terms get new numbers at a time."""
SORTING = 40
"""Bytes of memory that sorting docnos takes for each passage."""
BAR_DELAY = 2
"""Seconds of `finish` before a progress bar appears."""


class IndexBuilder:
    """Writes the files of an index into a directory, usually the draft of an artifact of kind `index`.

    Args:
        directory: where the files go; it exists.
        vocabulary: the term strings by term id; distinct.
        bits: 8 or 16, the width of an impact.
        block: documents in a block, a power of two up to 256.
        order: order of the documents inside the index: `source`, as they come; `bp`, by recursive graph bisection;
            `similarity`, by a similarity hash. Docnos are unaffected.
        scale: what a unit of impact is worth in the weights, above 0; by default the largest weight gives it.
        progress: show a progress bar: True, False, or None for "on a terminal".
        memory: how much memory may be resident; None for no limit. The files do not depend on it.

    Raises:
        InputError: an option is out of range, or a term occurs twice in the vocabulary.
    """

    def __init__(
        self,
        directory: Path,
        vocabulary: Sequence[str],
        *,
        bits: Literal[8, 16] = 8,
        block: int = 64,
        order: str = "source",
        scale: float | None = None,
        progress: bool | None = False,
        memory: MemoryLimit | None = None,
    ) -> None:
        if not is_a(bits, int) or bits not in (8, 16):
            raise InputError(f"bits is {shown(bits)}; impacts are 8 or 16 bits wide")
        if not is_a(block, int) or block not in BLOCKS:
            raise InputError(f"block is {shown(block)}; choose one of {', '.join(map(str, BLOCKS))}")
        if not is_a(order, str) or order not in ORDERS:
            raise InputError(f"order is {shown(order)}; choose one of {', '.join(ORDERS)}")
        if scale is not None and real("scale", scale, 0) == 0:
            raise InputError("scale is 0; it must be above 0")
        directory, vocabulary = path_of(directory), strings("the terms of a vocabulary", vocabulary)
        if not directory.is_dir():
            raise InputError(f"an index is built in a directory; there is none at {directory}")
        self._directory, self._bits, self._block, self._order = directory, bits, block, order
        self._progress, self._scale, self._memory = progress, scale, memory
        self._terms = len(vocabulary)
        self._strings, self._by_string = _sorted_terms(vocabulary)
        self._docnos = PackedWriter(directory, "docnos")
        self._unsorted = StringWriter(directory, f"{SPOOL}.docnos")
        self._passages = StringWriter(directory, "passages")
        self._records = RecordWriter(directory)
        self._spool = {name: (directory / f"{SPOOL}.{name}").open("wb") for name in ("indptr", "terms", "weights")}
        np.zeros(1, np.int64).tofile(self._spool["indptr"])
        self._lengths = np.zeros(self._terms, np.int64)
        self._largest = np.zeros(self._terms, np.float32)
        self._whole = True
        self._clamped = 0
        self._count = 0
        self._postings = 0

    @checked_call
    def add(self, passages: Sequence[Passage], batch: SparseBatch) -> None:
        """Append `passages`, whose weighted terms are the rows of `batch`.

        Raises:
            InputError: rows and passages differ in number; a term is unknown, repeated or out of order; a weight is not
                positive and finite. Nothing of the batch has been added then.
        """
        if not is_a(batch, SparseBatch) or not all(is_a(passage, Passage) for passage in passages):
            raise InputError(f"an index is built of Passages and a SparseBatch; got {shown(passages)}, {shown(batch)}")
        if len(passages) != len(batch):
            raise InputError(f"{len(passages)} passages came with {len(batch)} rows of terms")
        _check_rows(passages, batch, self._terms)
        docnos, packed = [_encoded("docno", passage.docno) for passage in passages], list(map(pack_passage, passages))
        self._append(docnos, packed, batch)
        self._records.extend(passages)

    @checked_call
    def copy(
        self,
        docnos: Sequence[bytes],
        passages: Sequence[bytes],
        keys: NDArray[np.uint64],
        contents: NDArray[np.uint64],
        batch: SparseBatch,
    ) -> None:
        """Append passages of another index as they are stored there: docnos, packed passages and records.

        Args:
            docnos: as `Layout.docnos` holds them.
            passages: as `Layout.passages` holds them.
            keys: uint64[n], of their records.
            contents: uint64[n], likewise.
            batch: their weighted terms.

        Raises:
            InputError: they differ in number, or in type from these; or as `add`. Nothing has been added then.
        """
        hashes = all(is_a(one, np.ndarray) and one.dtype == np.uint64 for one in (keys, contents))
        if not (hashes and is_a(batch, SparseBatch)):
            raise InputError("passages are copied as a Layout holds them: bytes, uint64 arrays, and a SparseBatch")
        counts = [len(one) for one in (docnos, passages, keys, contents, batch)]
        if len(set(counts)) > 1:
            raise InputError(f"docnos, passages, keys, contents and rows differ in number: {counts}")
        _check_rows(docnos, batch, self._terms)
        self._append(docnos, passages, batch)
        self._records.copy(keys, contents)

    def _append(self, docnos: Sequence[bytes], packed: Sequence[bytes], batch: SparseBatch) -> None:
        from thresher.index.invert import count_terms

        if self._count + len(docnos) >= 2**32 - 1:
            raise InputError("an index holds fewer than 2^32 - 1 passages; split the corpus")
        self._docnos.extend(docnos)
        self._unsorted.extend(docnos)
        self._passages.extend(packed)
        (batch.indptr[1:] + self._postings).tofile(self._spool["indptr"])
        batch.terms.tofile(self._spool["terms"])
        batch.weights.tofile(self._spool["weights"])
        count_terms(batch.terms, batch.weights, self._lengths, self._largest)
        if self._scale is None:
            self._whole = self._whole and bool(np.all(batch.weights == np.rint(batch.weights)))
        elif float(batch.weights.max(initial=0)) > self._scale * self._top:
            impacts = np.rint(batch.weights.astype(np.float64) / self._scale)
            self._clamped += int(np.count_nonzero(impacts > self._top))
        self._count += len(docnos)
        self._postings += int(batch.terms.shape[0])
        if self._memory is not None:
            self._memory.require(0, "adding passages")

    def abandon(self) -> None:
        """Close the files of an index that will not be finished; they stay as they are."""
        for store in (self._passages, self._docnos, self._unsorted):
            store.abandon()
        self._records.close()
        for stream in self._spool.values():
            stream.close()

    @checked_call
    def finish(self, tokens: NDArray[np.uint32] | None = None) -> dict[str, Any]:
        """Write the index. Returns its counts, for the manifest.

        Args:
            tokens: for BM25, uint32[passages], the number of terms of each passage with repetitions. The index then
                multiplies query weights by the IDF, and its vocabulary is the terms that occur.

        Raises:
            InputError: two passages have the same docno, or `tokens` is not one number a passage.
        """
        if tokens is not None:
            if tokens.shape != (self._count,) or tokens.dtype.kind not in "iu":
                raise InputError(f"tokens must be {self._count} whole numbers, one a passage; got {shown(tokens)}")
            write_array(self._directory / "tokens", tokens.astype(np.uint32))
        from thresher.index.invert import invert

        off = None if self._progress is None else not self._progress
        with tqdm(total=3, desc="ordering", unit=" steps", disable=off, delay=BAR_DELAY) as bar:
            for store in (self._passages, self._docnos, self._unsorted):
                store.close()
            self._records.close()
            for stream in self._spool.values():
                stream.close()
            if tokens is not None:
                self._drop_unused_terms()
            self._write_vocabulary()
            spool = self._open_spool()
            reordered = bool(np.any(spool.order[1:] < spool.order[:-1]))
            bar.update()
            bar.set_description("inverting")
            kinds = self._kinds()
            lists, counts = self._open_lists(spool, kinds, reordered, tokens is not None)
            invert(spool, lists, self._lengths, self._memory)
            bar.update()
            bar.set_description("writing")
            self._write_lengths(np.diff(lists.starts), kinds)
            write_counts(self._directory / "layout.json", counts)
            for file in self._directory.glob(f"{SPOOL}.*"):
                file.unlink()
            bar.update()
        return self._account(counts)

    def _open_spool(self) -> Spool:
        """The rows that were added, in the order that documents will have; writes docnos, ranks and sources."""
        from thresher.index.invert import Spool

        directory = self._directory
        indptr = map_array(directory / f"{SPOOL}.indptr", np.int64, (self._count + 1,))
        terms = map_array(directory / f"{SPOOL}.terms", np.uint32, (self._postings,))
        weights = map_array(directory / f"{SPOOL}.weights", np.float32, (self._postings,))
        by_docno = self._sort_docnos()
        order = self._choose_order(indptr, terms, weights)
        ranks = np.empty(self._count, np.uint32)
        ranks[by_docno] = np.arange(self._count, dtype=np.uint32)
        write_array(directory / "ranks", ranks[order])
        if np.any(order[1:] < order[:-1]):
            write_array(directory / "sources", order)
        return Spool(indptr, terms, weights, order)

    def _open_lists(self, spool: Spool, kinds: NDArray[np.uint8], reordered: bool, idf: bool) -> tuple[Lists, Counts]:
        """The files of the posting lists, zeroed, and the counts that give their shapes."""
        from thresher.index.invert import Lists, last_chunks, windows

        directory, top, scale = self._directory, self._top, self._scale
        if scale is None:
            largest = float(self._largest.max(initial=0))
            # whole weights that fit are impacts already, and are stored as they are
            scale = 1.0 if self._whole and largest <= top else fit_scale(largest, self._bits).scale
        rows = rows_of_kinds(kinds)
        common = int((kinds >= COMMON).sum())
        # the last chunk that each list without a directory row reaches: it has a skip entry for each chunk before
        last = np.zeros(self._terms, np.uint16)
        for docs in windows(spool, None if self._memory is None else self._memory.left() // 2):
            last_chunks(docs, spool, last)
        last[kinds >= COMMON] = 0
        lengths = np.where(kinds == DENSE, 0, self._lengths + last)
        starts = np.zeros(self._terms + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        n = Counts(
            passages=self._count,
            terms=self._terms,
            postings=self._postings,
            dense=int((kinds == DENSE).sum()),
            common=common,
            numbered=int((rows >= 0).sum()),
            entries=int(starts[-1]),
            long=int((lengths >= LONG).sum()),
            block=self._block,
            bits=self._bits,
            scale=scale,
            reordered=reordered,
            alphabetical=bool(np.all(self._by_string[1:] > self._by_string[:-1])),
            idf=idf,
        )
        self._check_disk(n)
        impact = np.uint8 if n.bits == 8 else np.uint16
        lists = Lists(
            starts=starts,
            rows=rows,
            last=last,
            kth=create_array(directory / "kth", impact, (n.numbered, len(KTH))),
            dense=create_array(directory / "dense", impact, (n.dense, n.passages)),
            impacts=create_array(directory / "impacts", impact, (n.entries,)),
            ids=create_array(directory / "ids", np.uint16, (n.entries,)),
            superblocks=create_array(directory / "tiles", np.uint32, (n.common, n.superblocks + 1)),
            maxima=create_array(directory / "maxima", np.uint8, (n.common, n.blocks)),
            scale=scale,
            top=top,
            block=n.block,
        )
        return lists, n

    def _check_disk(self, n: Counts) -> None:
        """Say how much the lists take before the first of their files is made.

        Raises:
            OSError: the disk has no room for them.
        """
        width = n.bits // 8
        size = n.entries * (width + 2) + n.dense * n.passages * width + n.common * (4 * n.superblocks + 4 + n.blocks)
        free = shutil.disk_usage(self._directory).free
        if size > free:
            problem = f"the posting lists take {size:,} bytes, and {free:,} are free"
            raise OSError(errno.ENOSPC, problem, str(self._directory))

    def _write_lengths(self, lengths: NDArray[np.int64], kinds: NDArray[np.uint8]) -> None:
        directory = self._directory
        write_array(directory / "lengths", np.minimum(lengths, LONG).astype(np.uint8))
        write_array(directory / "long", lengths[lengths >= LONG].astype(np.uint32))
        quads = np.zeros((-(-self._terms // 4), 4), np.uint8)
        quads.ravel()[: self._terms] = kinds
        write_array(directory / "kinds", (quads << np.arange(0, 8, 2, dtype=np.uint8)).sum(axis=1, dtype=np.uint8))

    @property
    def _top(self) -> int:
        """The largest impact."""
        return int(2**self._bits - 1)

    def _drop_unused_terms(self) -> None:
        """Leave the terms out that no passage has, and number the others anew, in the same order."""
        used = self._lengths > 0
        if used.all():
            return
        numbers = (np.cumsum(used) - 1).astype(np.uint32)
        if self._postings:
            terms = np.memmap(self._directory / f"{SPOOL}.terms", np.uint32, "r+")
            for first in range(0, len(terms), RENUMBERED):
                terms[first : first + RENUMBERED] = numbers[terms[first : first + RENUMBERED]]
                if self._memory is not None:
                    release(terms[first : first + RENUMBERED])
            terms.flush()
        self._by_string = numbers[self._by_string[used[self._by_string]]].astype(np.int64)
        self._strings = [self._strings[term] for term in np.flatnonzero(used).tolist()]
        self._lengths, self._largest, self._terms = self._lengths[used], self._largest[used], len(self._strings)

    def _write_vocabulary(self) -> None:
        """Write the strings in bytewise order."""
        writer = PackedWriter(self._directory, "vocabulary")
        writer.extend(map(self._strings.__getitem__, self._by_string.tolist()))
        writer.close()
        if np.any(self._by_string[1:] < self._by_string[:-1]):
            write_array(self._directory / "sorted_terms", self._by_string.astype(np.uint32))

    def _sort_docnos(self) -> NDArray[np.uint32]:
        """The numbers of the passages in bytewise order of their docnos."""
        from thresher.index.string_order import string_order

        if self._memory is not None:
            self._memory.require(SORTING * self._count, f"sorting the docnos of {self._count:,} passages")
        store = StringStore(self._directory, f"{SPOOL}.docnos", self._count)
        order, repeated = string_order(np.frombuffer(store.letters, np.uint8), store.offsets)
        if repeated.any():
            at = int(np.argmax(repeated))
            a, b = order[at - 1 : at + 1].tolist()
            raise InputError(f"docno {store[a]!r} belongs to two passages, number {a + 1} and {b + 1}")
        return order

    def _choose_order(
        self, indptr: NDArray[np.int64], terms: NDArray[np.uint32], weights: NDArray[np.float32]
    ) -> NDArray[np.uint32]:
        """Internal id -> number of the passage in the order they came."""
        if self._order == "source" or self._count == 0:
            return np.arange(self._count, dtype=np.uint32)
        from thresher.index.reorder import bisection_order, similarity_order

        if self._order == "similarity":
            return np.asarray(similarity_order(indptr, terms, weights, 0), np.uint32)
        return np.asarray(bisection_order(indptr, terms, weights, self._terms, memory=self._memory), np.uint32)

    def _kinds(self) -> NDArray[np.uint8]:
        """uint8[terms]: which terms are dense, common and numbered, see `thresher.index.layout`."""
        lengths, n = self._lengths, self._count
        blocks = -(-n // self._block)
        superblocks = -(-n // SUPERBLOCK)
        kinds = np.zeros(self._terms, np.uint8)
        kinds[lengths >= NUMBERED] = 1
        wanted = int(DIRECTORY_BYTES * self._postings / (blocks + 4 * (superblocks + 1)))
        shortest = max(blocks // 8, 1)  # below this a row answers fewer queries than it costs bounds
        if wanted < self._terms:
            kept = np.partition(lengths, self._terms - wanted - 1)[self._terms - wanted - 1]
            shortest = max(shortest, int(kept) + 1)
        kinds[(lengths >= shortest) | (lengths >= CHUNK)] = COMMON
        size = self._bits // 8
        candidates = np.flatnonzero((lengths * SPARSEST > n) & (kinds == COMMON))
        candidates = candidates[np.argsort(-lengths[candidates], kind="stable")]
        more = np.cumsum(size * n - (size + 2) * lengths[candidates])
        kinds[candidates[: int(np.count_nonzero(more <= DENSE_BYTES * self._postings))]] = DENSE
        return kinds

    def _account(self, counts: Counts) -> dict[str, Any]:
        sizes = {file.name: file.stat().st_size for file in sorted(self._directory.iterdir()) if file.is_file()}
        return {
            "passages": counts.passages,
            "postings": counts.postings,
            "terms": counts.terms,
            "block": counts.block,
            "bits": counts.bits,
            "scale": counts.scale,
            "clamped": self._clamped,
            "order": self._order,
            "bytes": sizes,
        }


def _sorted_terms(vocabulary: Sequence[str]) -> tuple[list[bytes], NDArray[np.int64]]:
    """The terms as UTF-8, and their ids in bytewise order.

    Raises:
        InputError: one occurs twice.
    """
    encoded = [_encoded("term", term) for term in vocabulary]
    order = sorted(range(len(encoded)), key=encoded.__getitem__)
    for a, b in pairwise(order):
        if encoded[a] == encoded[b]:
            raise InputError(f"duplicate vocabulary term {vocabulary[a]!r} (ids {a} and {b})")
    return encoded, np.array(order, np.int64)


def _encoded(what: str, name: str) -> bytes:
    """A docno or term as UTF-8.

    Raises:
        InputError: it holds half of a surrogate pair, which is not text.
    """
    try:
        return name.encode()
    except UnicodeEncodeError as err:
        raise InputError(f"{what} {name!r} holds half of a surrogate pair, which is not text") from err


def _check_rows(passages: Sequence[Passage] | Sequence[bytes], batch: SparseBatch, terms: int) -> None:
    """Refuse rows that kernels could not use as places in memory."""
    if batch.terms.shape[0] == 0:
        return
    if bool(np.any(np.diff(batch.indptr) < 0)):
        raise InputError("SparseBatch.indptr does not ascend")
    wrong = (batch.terms >= terms) | ~(np.isfinite(batch.weights) & (batch.weights > 0))
    steps = np.zeros(batch.terms.shape[0], bool)
    steps[1:] = batch.terms[1:] <= batch.terms[:-1]
    steps[batch.indptr[:-1][batch.indptr[:-1] < batch.terms.shape[0]]] = False
    wrong |= steps
    if bool(wrong.any()):
        at = int(np.argmax(wrong))
        one = passages[int(np.searchsorted(batch.indptr, at, side="right")) - 1]
        docno = one.decode(errors="replace") if isinstance(one, bytes) else one.docno
        raise InputError(
            f"passage {docno!r} gives term {int(batch.terms[at])} weight {float(batch.weights[at])!r}; "
            f"terms must ascend without repetition and stay below {terms}, weights must be positive and finite"
        )
