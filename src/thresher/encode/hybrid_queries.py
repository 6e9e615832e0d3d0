"""The query side of BM25 plus a learned encoder: the terms of both, the learned ones with the weight of their part.

BM25's are counts, which the index multiplies by the IDF that its live passages give (`thresher.search.statistics`). The
learned encoder's have no IDF. The ids of both come from the index.
"""

from __future__ import annotations

import math
from copy import copy
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

    from numpy.typing import NDArray

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

    def factor(self, weights: NDArray[np.float32]) -> float:
        """What the learned weights of a query, float32[n], are multiplied by: the weight, and what passages lack."""
        return self.weight * self._ceiling

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i; unknown terms are dropped. The index adds BM25's IDF.

        Raises:
            InputError: no vocabulary gives the terms ids; an open index's `encoder` has one.
        """
        lexical, learned = self.lexical.encode_queries(texts), self.learned.encode_queries(texts)
        indptr, terms, weights = [0], [lexical.terms[:0]], [lexical.weights[:0]]
        for row in range(len(lexical)):
            own, other = (slice(int(one.indptr[row]), int(one.indptr[row + 1])) for one in (lexical, learned))
            ids, given = self._known(learned.terms[other].tolist()), learned.weights[other]
            known = ids >= 0
            joined = np.concatenate([lexical.terms[own], ids[known].astype(np.uint32)])
            order = np.argsort(joined)
            terms.append(joined[order])
            weights.append(np.concatenate([lexical.weights[own], given[known] * np.float32(self.factor(given))])[order])
            indptr.append(indptr[-1] + len(joined))
        return SparseBatch(np.array(indptr, np.int64), np.concatenate(terms), np.concatenate(weights))

    def _known(self, learned: list[int]) -> NDArray[np.int64]:
        """The ids in the index of the learned encoder's terms, int64[n]; -1 for those it lacks."""
        find, ids = self._find, self._ids
        if find is not None:
            for term in learned:
                if term not in ids:
                    ids[term] = find(LEARNED + self._terms[term]) if term < len(self._terms) else -1
        return np.array([ids.get(term, -1) for term in learned], np.int64)
