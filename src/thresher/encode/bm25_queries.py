"""The query side of BM25 as an index keeps it: an analyzer whose terms get their ids from the index.

A query is the counts of its terms; the index multiplies them by the IDF that its live passages give
(`thresher.search.statistics`).
"""

from __future__ import annotations

import math
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import strings
from thresher.encode.encoder import DOCUMENT, read_document
from thresher.errors import ConfigError, DamagedArtifactError, InputError
from thresher.records import SparseBatch
from thresher.text.analyzer import analyzer as analyzer_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Bm25QueryEncoder:
    """The query side of a saved BM25 encoder: its analyzer. `load` opens one, `with_vocabulary` gives it term ids.

    Attributes:
        name: human-readable name.
        fingerprint: that of the encoder that weighed the passages.
        average_length: terms of an average passage, as it was when the encoder was fitted.
    """

    def __init__(self, analyzer: str, fingerprint: str, name: str, average_length: float) -> None:
        self.name, self.fingerprint, self.average_length = name, fingerprint, average_length
        self._analyze = analyzer_named(analyzer)
        self._find: Callable[[str], int] | None = None

    @classmethod
    def load(cls, directory: str | Path) -> Bm25QueryEncoder:
        """Open what `Bm25Encoder.save` wrote.

        Raises:
            DamagedArtifactError: a file is missing or invalid.
        """
        directory = Path(directory)
        document = read_document(directory)
        name, fingerprint, analyzer, average = (
            document.get(key) for key in ("name", "fingerprint", "analyzer", "average_length")
        )
        named = all(isinstance(value, str) for value in (name, fingerprint, analyzer))
        if not named or not isinstance(average, float) or not 0 < average < math.inf:
            problem = "lacks name, fingerprint, analyzer or average length; rebuild the index"
            raise DamagedArtifactError(str(directory / DOCUMENT), problem)
        try:
            encoder = cls(str(analyzer), str(fingerprint), str(name), average)
        except ConfigError as err:
            raise DamagedArtifactError(str(directory / DOCUMENT), f"{err}; rebuild the index") from err
        if encoder._analyze.fingerprint != document.get("analyzer_fingerprint"):
            problem = (
                f"was written with analyzer {document.get('analyzer_fingerprint')!r}, but this release has "
                f"{encoder._analyze.fingerprint!r}, which would not match the terms of the passages; rebuild the index"
            )
            raise DamagedArtifactError(str(directory / DOCUMENT), problem)
        return encoder

    def with_vocabulary(self, find: Callable[[str], int]) -> Bm25QueryEncoder:
        """This encoder with the term ids that `find` gives, -1 for unknown terms."""
        bound = copy(self)
        bound._find = find
        return bound

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Term counts of queries, row i for text i; unknown terms are dropped. The index multiplies them by the IDF.

        Raises:
            InputError: no vocabulary gives the terms ids; an open index's `encoder` has one.
        """
        find = self._find
        if find is None:
            raise InputError(
                f"{self.name} has no vocabulary of its own: take the encoder of an open index (Index.encoder), or give "
                "it one by with_vocabulary"
            )
        indptr, terms, weights = [0], list[int](), list[int]()
        for text in strings("texts", texts):
            counts: dict[int, int] = {}
            for term in self._analyze(text):
                number = find(term)
                if number >= 0:
                    counts[number] = counts.get(number, 0) + 1
            for number in sorted(counts):
                terms.append(number)
                weights.append(counts[number])
            indptr.append(len(terms))
        return SparseBatch(np.array(indptr, np.int64), np.array(terms, np.uint32), np.array(weights, np.float32))
