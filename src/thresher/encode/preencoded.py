"""Passages and queries that were encoded before; `thresher build --encoded` indexes them.

Passages come from what `thresher encode` wrote or from files that others wrote (`thresher.index.exchange`), queries
from lines of `qid <TAB> term term ...`, a weight being the number of repetitions.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.errors import InputError
from thresher.files import read_text_lines
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.encode.query_side import QuerySide
    from thresher.encode.terms import LinearScale


class Encoding(Protocol):
    """Passages with their weighted terms; can be iterated again and again, in the same order."""

    @property
    def path(self) -> Path:
        """Where they are."""

    @property
    def docnos(self) -> Sequence[str]:
        """The docno of each passage, in order."""

    @property
    def query_side(self) -> QuerySide:
        """What an index keeps of the encoder."""

    @property
    def impacts(self) -> LinearScale | None:
        """The scale by which weights are whole impacts; None where an index fits one."""

    @property
    def tokens(self) -> NDArray[np.uint32] | None:
        """uint32[passages]: for BM25, terms of each passage with repetitions; None for learned weights."""

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]: ...


class WithQueryEncoder:
    """Encoded passages whose terms are numbered as a query encoder numbers them. Made by `with_query_encoder`."""

    def __init__(self, encoding: Encoding, encoder: QuerySide, ids: NDArray[np.int64]) -> None:
        self.path = encoding.path
        self.query_side = encoder
        self._encoding, self._ids = encoding, ids

    @property
    def impacts(self) -> LinearScale | None:
        """The scale by which weights are whole impacts; None where an index fits one."""
        return self._encoding.impacts

    @property
    def tokens(self) -> NDArray[np.uint32] | None:
        """For BM25, uint32[passages]: terms of each passage with repetitions."""
        return self._encoding.tokens

    @property
    def docnos(self) -> Sequence[str]:
        """The docno of each passage, in order."""
        return self._encoding.docnos

    def __iter__(self) -> Iterator[tuple[list[Passage], SparseBatch]]:
        for passages, batch in self._encoding:
            terms = self._ids[batch.terms]
            if len(terms) and terms.min() < 0:
                number = int(batch.terms[int(np.argmin(terms))])
                term = self._encoding.query_side.vocabulary[number]
                raise InputError(
                    f"term {term!r} is not in the vocabulary of the query encoder {self.query_side.name}; use the "
                    "encoder that belongs to these passages",
                    str(self.path),
                )
            rows = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
            order = np.lexsort((terms, rows))
            yield passages, SparseBatch(batch.indptr, terms[order].astype(np.uint32), batch.weights[order])


def with_query_encoder(encoding: Encoding, encoder: QuerySide) -> WithQueryEncoder:
    """The same passages with terms numbered as `encoder` numbers them, so that it can encode queries to them.

    Terms are matched by their strings; terms that the data only numbers are taken as the encoder's own numbers.
    """
    words = encoding.query_side.vocabulary
    if not getattr(encoding, "named", True):
        ids = np.arange(len(words))
        ids[len(encoder.vocabulary) :] = -1
        return WithQueryEncoder(encoding, encoder, ids)
    numbers = {term: number for number, term in enumerate(encoder.vocabulary)}
    return WithQueryEncoder(encoding, encoder, np.array([numbers.get(word, -1) for word in words], np.int64))


def read_encoded_queries(path: str | Path) -> dict[str, Mapping[str, float]]:
    """Encoded queries from `qid <TAB> term term ...` lines (`.gz` or not): qid to term to weight.

    A weight is the number of times the term is repeated.

    Raises:
        DataNotFoundError: the file does not exist.
        InputError: a line has no tab, or a qid occurs twice.
    """
    path = Path(path)
    queries: dict[str, Mapping[str, float]] = {}
    for number, line in read_text_lines(path):
        if not line.strip():
            continue
        qid, tab, terms = line.partition("\t")
        if not tab or not qid.strip():
            raise InputError(f"expected 'qid<TAB>term term ...', found {line[:60]!r}", str(path), number)
        if qid in queries:
            raise InputError(f"query {qid!r} occurs twice; keep one", str(path), number)
        queries[qid] = {term: float(count) for term, count in Counter(terms.split()).items()}
    return queries
