"""Passages and queries that were encoded before; `thresher build --encoded` indexes them.

Passages come from what `thresher encode` wrote or from files that others wrote (`thresher.index.exchange`), queries
from lines of terms or from JSON lines with their weights.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.errors import InputError
from thresher.files import read_text_lines
from thresher.records import Passage, SparseBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.encode.query_side import QuerySide
    from thresher.encode.terms import LinearScale
    from thresher.records import Query

_VECTOR = "vector"
_MOST = float(np.finfo(np.float32).max)
"""What a weight is below."""


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


def read_queries_for(path: str | Path, *, texts: bool) -> dict[str, Query | Mapping[str, float]]:
    """The queries of a file by qid: texts, or weighted terms where the file has them or the index takes no texts.

    Args:
        path: as `read_queries` or `read_encoded_queries` takes it.
        texts: whether the index takes texts; without them the words of a line are terms.

    Raises:
        DataNotFoundError, InputError: as theirs.
    """
    from thresher.evaluate.trec import read_queries

    if texts and not _has_weights(Path(path)):
        return {query.qid: query for query in read_queries(path)}
    return dict(read_encoded_queries(path))


def read_encoded_queries(path: str | Path) -> dict[str, Mapping[str, float]]:
    """Encoded queries (`.gz` or not), qid to term to weight, in one of two forms.

    Lines `qid <TAB> term term ...`, a weight being the number of times that the term is repeated; or JSON lines with
    a qid as `read_queries` takes it and `"vector": {term: weight}`.

    Raises:
        DataNotFoundError: the file does not exist.
        InputError: a line has no tab, an object has no qid or vector, a weight is not a number of at least 0, or a qid
            occurs twice.
    """
    path = Path(path)
    queries: dict[str, Mapping[str, float]] = {}
    read: Callable[[Path, int, str], tuple[str, Mapping[str, float]]] | None = None
    for number, line in read_text_lines(path):
        if not line.strip():
            continue
        read = read or (_from_object if _holds_weights(line) else _from_terms)
        qid, weights = read(path, number, line)
        if qid in queries:
            raise InputError(f"query {qid!r} occurs twice; keep one", str(path), number)
        queries[qid] = weights
    return queries


def _has_weights(path: Path) -> bool:
    """Whether a file, not a pipe, has weighted queries in JSON lines."""
    return path.is_file() and _holds_weights(next((line for _, line in read_text_lines(path) if line.strip()), ""))


def _holds_weights(line: str) -> bool:
    """Whether a line is a JSON object with the field `vector`."""
    try:
        found = json.loads(line) if line.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and _VECTOR in found


def _from_terms(path: Path, number: int, line: str) -> tuple[str, Mapping[str, float]]:
    """Qid and weights of a line of terms."""
    qid, tab, terms = line.partition("\t")
    if not tab or not qid.strip():
        raise InputError(f"expected 'qid<TAB>term term ...', found {line[:60]!r}", str(path), number)
    return qid, {term: float(count) for term, count in Counter(terms.split()).items()}


def _from_object(path: Path, number: int, line: str) -> tuple[str, Mapping[str, float]]:
    """Qid and weights of a JSON object."""
    from thresher.evaluate.trec import QID_FIELDS, json_row, text_field

    row = json_row(path, number, line.encode())
    qid, weights = text_field(path, number, row, QID_FIELDS), row.get(_VECTOR)
    if qid.split() != [qid]:
        raise InputError(f"the qid {qid!r} is empty or holds white space", str(path), number)
    if not isinstance(weights, dict) or not all(map(_is_weight, weights.values())):
        problem = f"query {qid!r} has no vector: {{term: weight}} with finite weights of at least 0"
        raise InputError(problem, str(path), number)
    return qid, {term: float(weight) for term, weight in weights.items()}


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST
