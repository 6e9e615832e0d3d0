"""Term ids by string: within one part of an index, and over all parts that one encoder made.

Parts with the same vocabulary, which those of a learned encoder have, number their terms alike. The parts of a BM25
index know the terms of their own passages only: over several, a term's id is its id in the first part that has it, plus
the sizes of the vocabularies before that part. So with one part, ids are those of the part.
"""

from __future__ import annotations

import threading
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from thresher.artifact import load_later
from thresher.checks import sound
from thresher.errors import ArtifactError, DamagedArtifactError
from thresher.search.queries import refuse_weight, to_batch, to_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.encode import QueryEncoder
    from thresher.index.layout import Layout
    from thresher.records import SparseBatch
    from thresher.search.parts import SearchedPart
    from thresher.search.queries import Rows, Terms
    from thresher.search.statistics import Bm25Statistics

_FILES = ("vocabulary.bytes", "vocabulary.offsets", "sorted_terms")


class Vocabulary:
    """The terms of one part: binary search over the mapped strings, so that opening builds no dictionary."""

    def __init__(self, layout: Layout) -> None:
        self._strings = layout.vocabulary
        self._ids = layout.sorted_terms
        self._file = layout.path / "sorted_terms"
        self._known: dict[str, int] = {}
        files = layout.manifest.files
        self.content = tuple(str(files[name]["sha256"]) for name in _FILES if name in files)

    def __len__(self) -> int:
        return len(self._strings)

    def find(self, term: str) -> int:
        """The id of `term`, -1 where the part does not know it.

        Raises:
            DamagedArtifactError: the sorted order names a term that is not there.
        """
        known = self._known.get(term)
        if known is None:
            known = self._search(term.encode("utf-8", "surrogatepass"))
            if known >= 0:  # a term that is not there would be held for ever
                self._known[term] = known
        return known

    def term(self, number: int) -> str:
        """The string of term `number`, 0 ... len - 1."""
        return self._strings[number if self._ids is None else int(self._places[number])]

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """int64[terms]: where each term stands in bytewise order; the inverse of the stored order."""
        places = np.zeros(len(self._strings), np.int64)
        if self._ids is not None:
            if len(self._ids) and int(self._ids.max()) >= len(places):
                raise DamagedArtifactError(str(self._file), f"names a term beyond the {len(places)} of the index")
            places[self._ids] = np.arange(len(places))
        return places

    def _search(self, wanted: bytes) -> int:
        low, high = 0, len(self._strings)
        while low < high:
            middle = (low + high) // 2
            here = self._strings.raw(middle)
            if here == wanted:
                return self._id(middle)
            if here < wanted:
                low = middle + 1
            else:
                high = middle
        return -1

    def _id(self, place: int) -> int:
        number = place if self._ids is None else int(self._ids[place])
        if number >= len(self._strings):
            raise DamagedArtifactError(str(self._file), f"names term {number} of {len(self._strings)}")
        return number


class CollectionVocabulary:
    """One numbering of the terms of all parts that one encoder made. Safe to share between threads.

    Args:
        parts: their vocabularies, in the order of the collection; at least one.

    Attributes:
        same: whether a term has the same id in every part, and so needs no translation.
    """

    def __init__(self, parts: Sequence[Vocabulary]) -> None:
        self.parts = tuple(parts)
        first = self.parts[0]
        self.same = all(part is first or (part.content and part.content == first.content) for part in self.parts)
        sizes = [len(first)] if self.same else [len(part) for part in self.parts]
        self._bases: list[int] = [0, *np.cumsum(sizes, dtype=np.int64).tolist()]
        self._known: dict[str, int] = {}
        self._rows: dict[int, int] = {}
        self._table: NDArray[np.int64] = np.full((len(self.parts), 64), -1, np.int64)
        self._filled = 1  # row 0 stands for terms that no part knows
        self._lock = threading.Lock()
        if self.same:
            self.find = first.find  # type: ignore[method-assign]  # nothing to translate

    def __len__(self) -> int:
        return self._bases[-1]

    def find(self, term: str) -> int:
        """The id of `term`, -1 where no part knows it.

        Raises:
            DamagedArtifactError: the sorted order of a part names a term that is not there.
        """
        known = self._known.get(term)
        if known is None:
            known = self._first(term)
            if known >= 0:
                self._known[term] = known
        return known

    def _first(self, term: str) -> int:
        for base, part in zip(self._bases, self.parts, strict=False):
            number = part.find(term)
            if number >= 0:
                return base + number
        return -1

    def term(self, number: int) -> str:
        """The string of the term with this id, 0 ... len - 1."""
        if self.same:
            return self.parts[0].term(number)
        at = int(np.searchsorted(self._bases, number, side="right")) - 1
        return self.parts[at].term(number - self._bases[at])

    def local(self, part: int, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[n]: the ids in part number `part` of terms with these ids, int64[n]; -1 where it lacks the term."""
        if self.same:
            return ids
        places = self._places(ids)  # first: it may replace the table
        found: NDArray[np.int64] = self._table[part][places]
        return found

    def locals(self, ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """`local` for each part: int64[n] each."""
        if self.same:
            return [ids] * len(self.parts)
        places = self._places(ids)
        return [row[places] for row in self._table]

    def _places(self, ids: NDArray[np.int64]) -> list[int]:
        """The column of the table of each term."""
        wanted, rows = ids.tolist(), self._rows
        try:
            return [rows[number] for number in wanted]
        except KeyError:
            self._learn(wanted)
        return [rows.get(number, 0) for number in wanted]

    def _learn(self, wanted: list[int]) -> None:
        """Look up the terms that were not asked for before."""
        with self._lock:
            for number in wanted:
                if number in self._rows or not 0 <= number < len(self):
                    continue
                term = self.term(number)
                at = self._filled
                if at == self._table.shape[1]:
                    self._table = np.concatenate([self._table, np.full(self._table.shape, -1, np.int64)], axis=1)
                self._table[:, at] = [part.find(term) for part in self.parts]
                self._filled = at + 1
                self._rows[number] = at  # last: other threads read without the lock


class Encoders:
    """The query encoders of an index, each loaded once, whatever commits are opened meanwhile."""

    def __init__(self) -> None:
        self._loaded: dict[str, QueryEncoder] = {}
        self._lock = threading.Lock()

    def load(self, layout: Layout) -> QueryEncoder:
        """The encoder that made a part.

        Raises:
            ArtifactError: the index was built without one; search with weighted terms instead. Or it was replaced.
        """
        folder = layout.encoder
        if folder is None:
            raise ArtifactError(
                f"{layout.path} holds no query encoder; search with weighted terms, e.g. {{'median': 1.0}}, "
                "or rebuild it with an encoder"
            )
        from thresher.encode.encoder import load_query_encoder

        with self._lock:
            if folder.name not in self._loaded:
                loaded = load_later(layout.path, layout.manifest, lambda: load_query_encoder(folder))
                self._loaded[folder.name] = loaded
            return self._loaded[folder.name]


class TermSpace:
    """The parts that one encoder made: their terms, how queries are weighted, and the encoder.

    Attributes:
        parts: in the order of the collection.
        vocabulary: of all of them.
        statistics: what query weights are multiplied by; None where the parts hold the whole weight.
    """

    def __init__(self, parts: Sequence[SearchedPart], encoders: Encoders) -> None:
        self.parts = tuple(parts)
        self.vocabulary = CollectionVocabulary([part.searcher.vocabulary for part in self.parts])
        self._encoders = encoders
        self.statistics: Bm25Statistics | None = None
        if self.parts[0].layout.counts.idf:
            from thresher.search.statistics import Bm25Statistics

            self.statistics = Bm25Statistics([part.part for part in self.parts], self.vocabulary)

    @cached_property
    def encoder(self) -> QueryEncoder:
        """What turns query texts into weighted terms, loaded on first use.

        Raises:
            ArtifactError: the index was built without one; search with weighted terms instead.
        """
        loaded = self._encoders.load(self.parts[0].layout)
        bound = getattr(loaded, "with_vocabulary", None)
        return loaded if bound is None else bound(self.vocabulary.find)

    def encode_strings(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The weighted terms of texts by their strings, those that no part knows among them; weights are float32.

        Terms come in the order of their ids; those of an encoder without a vocabulary of its own in bytewise order.

        Raises:
            ArtifactError: as `encoder`.
        """
        loaded = self._encoders.load(self.parts[0].layout)
        bind = getattr(loaded, "with_vocabulary", None)
        seen: dict[str, int] = {}
        batch = (self.encoder if bind is None else bind(lambda term: seen.setdefault(term, len(seen)))).encode_queries(
            [sound(text) for text in texts]
        )
        names, size = list(seen), len(self.vocabulary)
        found = []
        for low, high in pairwise(batch.indptr.tolist()):
            row = zip(batch.terms[low:high].tolist(), batch.weights[low:high].tolist(), strict=True)
            if bind is None:
                found.append({self.vocabulary.term(number): weight for number, weight in row if number < size})
            else:
                found.append(dict(sorted((names[number], weight) for number, weight in row)))
        return found

    def load_encoder(self) -> QueryEncoder:
        """`encoder`, as a function."""
        return self.encoder

    def row(self, query: object) -> Terms:
        """A query's term ids int64[n] (-1 for unknown ones) and weights float32[n].

        Raises:
            InputError: as `to_row`.
        """
        return to_row(query, self.vocabulary, self.load_encoder)

    def batch(self, queries: Sequence[object] | SparseBatch) -> Rows:
        """Queries as indptr int64[q + 1], term ids int64[nnz] and weights float32[nnz].

        Raises:
            InputError: as `to_batch`.
        """
        return to_batch(queries, self.vocabulary, self.load_encoder)

    def weigh(
        self, terms: NDArray[np.int64], weights: NDArray[np.float32], indptr: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """The weights that passages are scored with, float32[n]; `indptr` says where each query begins.

        Raises:
            InputError: a weight of a query that is weighed is negative or not finite.
        """
        return weights if self.statistics is None else self.statistics.weigh(terms, weights, indptr)

    def heaviest(
        self, terms: NDArray[np.int64], weights: NDArray[np.float32], most: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """The `most` heaviest known terms with their weights, and how many others there are.

        Weights of repeated terms are added; among equals the term whose string comes first is kept.

        Raises:
            InputError: a weight is negative or not finite.
        """
        if not (np.isfinite(weights) & (weights >= 0)).all():
            refuse_weight(0, weights)
        known = (terms >= 0) & (terms < len(self.vocabulary)) & (weights > 0)
        distinct, places = np.unique(terms[known], return_inverse=True)
        sums = np.zeros(len(distinct))
        np.add.at(sums, places, weights[known].astype(np.float64))
        total = sums.astype(np.float32)
        if len(distinct) <= most:
            return distinct, total, 0
        names = [self.vocabulary.term(number) for number in distinct.tolist()]
        order = sorted(range(len(names)), key=lambda i: (-total[i], names[i]))[:most]
        return distinct[order], total[order], len(distinct) - most

    def heaviest_rows(self, rows: Rows, most: int) -> tuple[Rows, NDArray[np.int64]]:
        """As `heaviest` for each row, and how many terms each has lost, int64[q]."""
        indptr, terms, weights = rows
        kept = [
            self.heaviest(terms[low:high], weights[low:high], most)
            for low, high in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)
        ]
        counts = [len(own) for own, _, _ in kept]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        flat = [np.concatenate([one[i] for one in kept]) for i in (0, 1)]
        return (starts, flat[0], flat[1]), np.array([lost for _, _, lost in kept], np.int64)
