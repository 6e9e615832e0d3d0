"""Similarities of a query's candidates to each other and to the query, by the retrievers of an index.

`terms`     the index's weighted terms: the score of a search for the query, and between passages the cosine of their
            weighted terms, each taken as a query
`vectors`   the index's dense vectors, where it has them: dot products
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.records import Query
    from thresher.search.index import Index
    from thresher.vectors.store import VectorStore

    Floats = NDArray[np.float64]
    Row = tuple[NDArray[np.int64], NDArray[np.float32]]

TERMS, VECTORS = "terms", "vectors"
_KEPT = 50_000
"""Passages whose term weights are kept for other queries."""


@dataclass(frozen=True, slots=True)
class Similarities:
    """What one retriever says of n candidates.

    Attributes:
        query: float64[n], of the query and each candidate.
        passages: float64[n, n], of the candidates; symmetric.
    """

    query: Floats
    passages: Floats


class IndexSimilarities:
    """Similarities by the retrievers of an index.

    Args:
        index: an open index, or the directory of one.
    """

    def __init__(self, index: Index | str | Path) -> None:
        if isinstance(index, str | Path):
            from thresher.search.index import Index as Opened

            index = Opened.open(index)
        self.index = index
        self._rows: dict[str, Row] = {}
        self._commit = -1

    @property
    def retrievers(self) -> tuple[str, ...]:
        """The names of the index's retrievers."""
        return (TERMS,) if self.index.vectors is None else (TERMS, VECTORS)

    def of(self, query: Query, docnos: Sequence[str], retrievers: Sequence[str]) -> list[Similarities]:
        """The similarities by each of these retrievers.

        Args:
            query: the query.
            docnos: the candidates.
            retrievers: names, as `retrievers` has them.

        Raises:
            ConfigError: the index does not have one of them.
            InputError: a candidate is not in the index.
        """
        if missing := sorted(set(retrievers) - set(self.retrievers)):
            raise ConfigError(
                f"the index {self.index.path} has no {missing[0]!r}, by which the model compares passages; build it "
                "with a [vectors] table in its recipe, or train the model on this index"
            )
        numbers = self.index.numbers(docnos)
        if len(numbers) and int(numbers.min()) < 0:
            lacking = docnos[int(np.argmin(numbers))]
            raise InputError(f"query {query.qid!r}: candidate {lacking!r} is not in the index {self.index.path}")
        vectors = self.index.vectors
        return [
            self._by_terms(query, docnos, numbers)
            if vectors is None or name == TERMS
            else self._by_vectors(query, numbers, vectors)
            for name in retrievers
        ]

    def _by_terms(self, query: Query, docnos: Sequence[str], numbers: NDArray[np.int64]) -> Similarities:
        allowed = np.zeros(len(self.index.live), bool)
        allowed[numbers] = True
        found = self.index.search(query, k=len(docnos), tiers="both", allow=allowed)
        score_of = dict(zip(found.numbers.tolist(), found.scores.tolist(), strict=True))
        rows = self._rows_of(docnos)
        known = np.unique(np.concatenate([np.empty(0, np.int64), *(terms for terms, _ in rows)]))
        weights = np.zeros((len(rows), len(known)), np.float32)
        for place, (terms, values) in enumerate(rows):
            weights[place, np.searchsorted(known, terms)] = values
        to_query = np.array([score_of.get(number, 0.0) for number in numbers.tolist()])
        return Similarities(to_query, (weights @ weights.T).astype(np.float64))

    def _rows_of(self, docnos: Sequence[str]) -> list[Row]:
        """The known terms of passages and their weights, of unit length; kept until the index is refreshed."""
        if self._commit != self.index.commit or len(self._rows) >= _KEPT:
            self._rows, self._commit = {}, self.index.commit
        rows = self._rows
        if missing := [docno for docno in docnos if docno not in rows]:
            for docno, passage in zip(missing, self.index.passages(missing), strict=True):
                terms, weights = self.index.terms(passage.contents)
                terms, weights = terms[terms >= 0], weights[terms >= 0]
                rows[docno] = terms, weights / max(float(np.linalg.norm(weights)), 1e-9)
        return [rows[docno] for docno in docnos]

    def _by_vectors(self, query: Query, numbers: NDArray[np.int64], store: VectorStore) -> Similarities:
        positions = store.find_numbers(numbers)
        held = np.flatnonzero(positions >= 0)
        rows, starts = store.rows_of(positions[held])
        vectors = np.zeros((len(numbers), store.dimensions), np.float32)
        if len(held):
            vectors[held] = np.add.reduceat(store.stored.decode(rows), starts[:-1], axis=0)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        asked = np.asarray(self.index.dense_encoder.encode_queries([query.text])[0], np.float32)
        return Similarities((vectors @ asked).astype(np.float64), (vectors @ vectors.T).astype(np.float64))
