"""The query side of BM25 plus a learned encoder: the terms of both, the learned ones with the weight of their part.

BM25's are counts, which the index multiplies by the IDF that its live passages give (`thresher.search.statistics`). The
learned encoder's have no IDF. The ids of both come from the index.
"""

from __future__ import annotations

import math
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import real
from thresher.encode.bm25_queries import Bm25QueryEncoder
from thresher.encode.encoder import DOCUMENT, load_query_encoder, read_document
from thresher.encode.hybrid import LEARNED, LEARNED_FOLDER, LEXICAL_FOLDER, saved_learned
from thresher.errors import DamagedArtifactError
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thresher.encode.encoder import QueryEncoder


class HybridQueryEncoder:
    """The query side of a saved `bm25+NAME` encoder. `load` opens one, `with_vocabulary` gives it term ids.

    Attributes:
        name: human-readable name.
        fingerprint: that of the encoder that weighed the passages.
        weight: factor of the learned part of a score.
        lexical: the query side of BM25.
        learned: that of the learned encoder.
    """

    def __init__(
        self,
        lexical: Bm25QueryEncoder,
        learned: QueryEncoder,
        terms: Sequence[str],
        *,
        name: str,
        fingerprint: str,
        weight: float,
        ceiling: float,
    ) -> None:
        self.lexical, self.learned = lexical, learned
        self.name, self.fingerprint, self.weight = name, fingerprint, weight
        self._terms, self._ceiling = terms, ceiling
        self._find: Callable[[str], int] | None = None
        self._last: tuple[str, SparseBatch] | None = None
        self._ids: dict[int, int] = {}

    @classmethod
    def load(cls, directory: str | Path) -> HybridQueryEncoder:
        """Open what `HybridTerms.save` wrote.

        Raises:
            DamagedArtifactError: a file is missing or invalid.
            ArtifactVersionError: this release does not know the learned encoder's type.
            MissingExtraError: the learned encoder needs an optional dependency that is not installed.
        """
        directory = Path(directory)
        document = read_document(directory)
        name, fingerprint, ceiling = (document.get(key) for key in ("name", "fingerprint", "ceiling"))
        _, terms, weight = saved_learned(directory)
        named = isinstance(name, str) and isinstance(fingerprint, str) and isinstance(ceiling, float)
        if not named or not 0 < float(str(ceiling)) < math.inf or not 0 <= weight < math.inf:
            problem = "lacks name, fingerprint, weight or ceiling; rebuild the index"
            raise DamagedArtifactError(str(directory / DOCUMENT), problem)
        return cls(
            Bm25QueryEncoder.load(directory / LEXICAL_FOLDER),
            load_query_encoder(directory / LEARNED_FOLDER),
            terms,
            name=str(name),
            fingerprint=str(fingerprint),
            weight=weight,
            ceiling=float(str(ceiling)),
        )

    @property
    def average_length(self) -> float:
        """Terms of an average passage, as it was when BM25 was fitted."""
        return self.lexical.average_length

    def with_vocabulary(self, find: Callable[[str], int]) -> HybridQueryEncoder:
        """This encoder with the term ids that `find` gives, -1 for unknown terms."""
        bound = copy(self)
        bound.lexical, bound._find, bound._ids = self.lexical.with_vocabulary(find), find, {}
        return bound

    def with_weight(self, weight: float) -> HybridQueryEncoder:
        """This encoder with another weight of the learned part, at least 0; passages stay as they are.

        Raises:
            InputError: the weight is negative or not finite.
        """
        other = copy(self)
        other.weight = real("weight", weight, 0)
        return other

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i; unknown terms are dropped. The index adds BM25's IDF.

        Raises:
            InputError: no vocabulary gives the terms ids; an open index's `encoder` has one.
        """
        lexical, learned = self.lexical.encode_queries(texts), self._learned_terms(texts)
        factor = np.float32(self.weight * self._ceiling)  # passages hold learned weights divided by the ceiling
        ids, given = self._ids_of(learned.terms.tolist()), (learned.weights * factor).tolist()
        own, counts = lexical.terms.tolist(), lexical.weights.tolist()
        indptr, terms, weights = [0], list[int](), list[float]()
        starts = zip(lexical.indptr.tolist(), learned.indptr.tolist(), strict=True)  # lists: rows have a few terms
        for (low, first), (high, after) in pairwise(starts):
            row = [*zip(own[low:high], counts[low:high], strict=True)]
            row += [pair for pair in zip(ids[first:after], given[first:after], strict=True) if pair[0] >= 0]
            row.sort()
            terms += [term for term, _ in row]
            weights += [weight for _, weight in row]
            indptr.append(len(terms))
        return SparseBatch(np.array(indptr, np.int64), np.array(terms, np.uint32), np.array(weights, np.float32))

    def _learned_terms(self, texts: Sequence[str]) -> SparseBatch:
        """The learned part's terms; those of the last single query are kept, since a pipeline searches by it twice."""
        if len(texts) != 1:
            return self.learned.encode_queries(texts)
        known = self._last  # replaced as a whole, so threads see one query's or another's
        if known is None or known[0] != texts[0]:
            known = self._last = texts[0], self.learned.encode_queries(texts)
        return known[1]

    def _ids_of(self, learned: list[int]) -> list[int]:
        """The ids in the index of the learned encoder's terms; -1 for those it lacks."""
        find, ids = self._find, self._ids
        try:
            return [ids[term] for term in learned]
        except KeyError:
            for term in learned:
                if term not in ids and find is not None:
                    ids[term] = find(LEARNED + self._terms[term]) if term < len(self._terms) else -1
        return [ids.get(term, -1) for term in learned]
