"""Where the weighted terms of passages come from: counts for BM25, a learned encoder, both, or an earlier encoding.

Each source yields chunks of passages with their terms, in the order of the passage numbers asked for. BM25 needs the
average length before it can weigh one passage: terms are counted while the corpus is read (`TermCounts`), and the
counts are weighed afterwards, so a passage is analysed once. Passages that are added to an index are weighed with the
average length that was frozen when it was built.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from thresher.corpus.spool import CHUNK, Spool, match_docnos
from thresher.encode import SparseEncoder
from thresher.encode.bm25 import TermCounts, bm25_scale
from thresher.encode.encoder import concatenate, take_rows
from thresher.encode.hybrid import HybridTerms, learned_part
from thresher.encode.shards import Unread, sparse_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.recipe import EncodeStep, IndexStep
    from thresher.encode.preencoded import Encoding
    from thresher.encode.query_side import QuerySide
    from thresher.encode.terms import LinearScale
    from thresher.records import Passage, SparseBatch


_log = logging.getLogger(__name__)


class TermSource(Protocol):
    """Weighted terms of the passages of a spool."""

    @property
    def lexical(self) -> bool:
        """Whether terms are BM25's, all or some: the index then keeps lengths and multiplies queries by the IDF."""

    @property
    def query_side(self) -> QuerySide:
        """What the index keeps, so that queries get terms of the same vocabulary."""

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """The passages with these numbers, int64[n], ascending, and their terms, some at a time."""

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms of a few passages, for a measurement; nothing is kept."""

    @property
    def impacts(self) -> LinearScale | None:
        """The scale by which weights are whole impacts; None where an index fits one."""

    def tokens(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32] | None:
        """BM25's terms of each passage with repetitions, uint32[n]; None where no weights are BM25's."""


class CountedTerms:
    """BM25 weights, from counts that were taken while the corpus was read.

    Args:
        counts: the counts.
        step: the parameters.
        average_length: that of the index that the passages are added to; None for that of the passages counted.
    """

    lexical = True
    impacts = None

    def __init__(self, counts: TermCounts, step: EncodeStep, average_length: float | None = None) -> None:
        self._counts = counts
        self.query_side = counts.encoder(k1=step.k1, b=step.b, lengths=step.lengths, average_length=average_length)

    @property
    def postings(self) -> int:
        """Terms of all passages that were counted, without repetitions in one."""
        return self._counts.postings

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """The passages with these numbers and their weights."""
        for first in range(0, len(numbers), CHUNK):
            chunk = numbers[first : first + CHUNK]
            yield spool.read(chunk), self._counts.rows(self.query_side, chunk)

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms of these passages."""
        return self._counts.rows(self.query_side, numbers)

    def tokens(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Their lengths in terms."""
        return self._counts.tokens(numbers)


class LearnedTerms:
    """What a learned encoder gives, in shards that a killed build resumes after."""

    lexical = False
    impacts = None

    def __init__(self, encoder: SparseEncoder, shards: Path) -> None:
        self.query_side = encoder
        self.unread = Unread(encoder)
        self._shards = shards

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """The passages with these numbers, a shard at a time."""
        return sparse_shards(self.query_side, spool.rows(numbers), self._shards, unread=self.unread)

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms of these passages, encoded now."""
        return self.query_side.encode_passages([passage.contents for passage in spool.read(numbers)])

    def tokens(self, numbers: NDArray[np.int64]) -> None:
        """None: the weights are learned."""


class JoinedTerms:
    """BM25's terms and those of another source, in one vocabulary.

    Args:
        counted: the former.
        learned: the latter.
        weight: factor of the learned part of a score.
    """

    lexical = True
    impacts = None

    def __init__(self, counted: CountedTerms, learned: TermSource, weight: float) -> None:
        self.query_side = HybridTerms(counted.query_side, learned.query_side, weight=weight)
        self._counted, self._learned = counted, learned

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """The passages with these numbers and the weights of both."""
        done = 0
        for passages, learned in self._learned.rows(spool, numbers):
            counted = self._counted.sample(spool, numbers[done : done + len(passages)])
            yield passages, self.query_side.join(counted, learned)
            done += len(passages)

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms of these passages."""
        return self.query_side.join(self._counted.sample(spool, numbers), self._learned.sample(spool, numbers))

    def tokens(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Their lengths in BM25's terms."""
        return self._counted.tokens(numbers)


class GivenTerms:
    """Passages that were encoded before; the encoding holds the passages of the spool in its order."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self.query_side = encoding.query_side
        self.lexical = has_lengths(encoding)

    @property
    def impacts(self) -> LinearScale | None:
        """The scale of the encoding."""
        return self._encoding.impacts

    def rows(self, spool: Spool, numbers: NDArray[np.int64]) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
        """The passages with these numbers and the terms that were given for them."""
        wanted = np.zeros(len(spool), bool)
        wanted[numbers] = True
        done = 0
        for passages, batch in self._encoding:
            rows = np.flatnonzero(wanted[done : done + len(passages)])
            if len(rows):
                yield spool.read(rows + done), take_rows(batch, rows)
            done += len(passages)

    def sample(self, spool: Spool, numbers: NDArray[np.int64]) -> SparseBatch:
        """The terms that were given for these passages."""
        return concatenate([rows for _, rows in self.rows(spool, numbers)])

    def tokens(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32] | None:
        """Their lengths in terms, where the encoding is of BM25."""
        tokens = self._encoding.tokens
        return None if tokens is None else tokens[numbers]


def has_lengths(encoding: Encoding) -> bool:
    """Whether encoded passages have BM25's terms, all or some."""
    return encoding.tokens is not None


def open_learned(step: EncodeStep, device: str = "auto") -> SparseEncoder:
    """The learned encoder of a recipe, of `bm25+NAME` the latter, on a device.

    Raises:
        DataNotFoundError: the model is not on this machine.
    """
    return SparseEncoder.from_name(
        learned_part(step.encoder),
        device=device,
        batch_size=step.batch_size,
        max_active_terms=step.max_active_terms or None,
    )


def open_encoding(step: EncodeStep, given: Encoding | None = None) -> Encoding:
    """The encoded passages of a recipe, with their query side.

    Args:
        step: what the recipe says.
        given: the passages themselves, in place of those that the recipe names.

    Raises:
        DataNotFoundError: there is nothing at the path.
        InputError: it is not encoded passages.
    """
    from thresher.encode.preencoded import with_query_encoder
    from thresher.index.exchange.opening import open_encoded

    encoding = open_encoded(step.source) if given is None else given
    if not step.query_encoder:
        return encoding
    return with_query_encoder(encoding, open_learned(step.model_copy(update={"encoder": step.query_encoder})))


def in_order_of(encoding: Encoding, spool: Spool) -> Spool:
    """The spooled corpus in the order of `encoding`: `spool` itself, or a copy of it where the order differs.

    Raises:
        InputError: the two do not name the same docnos.
    """
    order = match_docnos(encoding.docnos, spool.docnos, wanted_name=str(encoding.path), given_name=spool.name)
    return spool if order is None else spool.reordered(order, spool.directory.with_name("reordered"))


def impact_bits(step: IndexStep, terms: TermSource) -> Literal[8, 16]:
    """The width of an impact that the recipe asks for, for the weights of this source."""
    if step.bits != "auto":
        return step.bits
    if terms.impacts is not None:
        return terms.impacts.bits
    return 16 if terms.lexical else 8


def impact_scale(bits: int, terms: TermSource) -> float | None:
    """The scale of the impacts: BM25's constant one, that of impacts which are given so wide; None to fit one."""
    if terms.lexical:
        return bm25_scale(bits)
    given = terms.impacts
    return given.scale if given is not None and given.bits == bits else None


def count_terms(spool: Spool, directory: Path, analyzer: str) -> TermCounts:
    """The term counts of a spooled corpus, kept in `directory`."""
    counts = TermCounts(directory, analyzer)
    for chunk in spool.rows().chunks():
        counts.add([passage.contents for passage in chunk])
    return counts
