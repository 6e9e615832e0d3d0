"""BM25 as precomputed impacts: the passage side carries the whole weight, a query counts its terms.

The weight of term t in passage d is Lucene's form of BM25 (Robertson and Zaragoza 2009, with the idf that is never
negative and without the constant factor k1 + 1; Kamphuis et al., ECIR 2020):

    ln(1 + (N - df + 1/2) / (df + 1/2)) * tf / (tf + k1 * (1 - b + b * |d| / avgdl))

where N counts the passages that have a term at all, and avgdl is the mean length over those. A query weighs each
term by how often it occurs in it, so that the inner product is the BM25 score.

Lucene rounds |d| to one byte (four significant bits, exact up to 39) before it divides; here the length is exact
unless `lengths="lucene"` asks for the same rounding.

Term ids are ranks in the sorted vocabulary, so that the query side needs no dictionary (`encode/vocabulary.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thresher.encode import DOCUMENT, read_document
from thresher.encode.vocabulary import SortedVocabulary, write_vocabulary
from thresher.errors import ConfigError, DamagedArtifactError
from thresher.records import SparseBatch
from thresher.text.analyzer import analyzer as analyzer_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

_TYPE = "bm25"
_EXACT_LENGTHS = 24  # Lucene's SmallFloat keeps lengths below this apart from the rounded ones
Lengths = Literal["exact", "lucene"]


class Bm25Encoder:
    """BM25 over the passages it was fitted on. Made by `fit`.

    Args:
        document_frequencies: term to the number of passages that hold it.
        passages: how many passages hold a term at all.
        tokens: how many terms they hold together, repetitions counted.
        analyzer: name of the analyzer (`thresher.text.analyzer`).
        k1: how slowly repetitions saturate; 0 ignores them.
        b: how much long passages are held back, from 0 (not) to 1 (in proportion).
        lengths: `exact`, or `lucene` for lengths rounded as Lucene stores them.

    Raises:
        ConfigError: a parameter is out of range, or no analyzer has that name.
    """

    def __init__(
        self,
        document_frequencies: dict[str, int],
        passages: int,
        tokens: int,
        *,
        analyzer: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        lengths: Lengths = "exact",
    ) -> None:
        _check(k1, b, lengths)
        self.k1, self.b, self.lengths = float(k1), float(b), lengths
        self.passages, self.tokens = passages, tokens
        self.name = f"bm25(k1={k1:g},b={b:g},{analyzer})"
        self.vocabulary: Sequence[str] = sorted(document_frequencies)
        self._analyze = analyzer_named(analyzer)
        self._ids = {term: number for number, term in enumerate(self.vocabulary)}
        df = np.fromiter((document_frequencies[term] for term in self.vocabulary), np.int64, len(self.vocabulary))
        self._df: NDArray[np.int64] = df
        self._idf: NDArray[np.float64] = np.log1p((passages - df + 0.5) / (df + 0.5))
        self._fingerprint = ""

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        analyzer: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        lengths: Lengths = "exact",
    ) -> Bm25Encoder:
        """Read the collection's statistics from `texts`, once, in a stream.

        Memory grows with the vocabulary (about 150 bytes a term), not with the number of texts.

        Raises:
            ConfigError: a parameter is out of range, or no analyzer has that name.
        """
        _check(k1, b, lengths)
        analyze = analyzer_named(analyzer)
        frequencies: Counter[str] = Counter()
        passages = tokens = 0
        for text in texts:
            terms = analyze(text)
            if terms:
                frequencies.update(set(terms))
                passages += 1
                tokens += len(terms)
        return cls(frequencies, passages, tokens, analyzer=analyzer, k1=k1, b=b, lengths=lengths)

    @property
    def fingerprint(self) -> str:
        """sha256 over the analyzer, the parameters and the collection's statistics."""
        if not self._fingerprint:
            settings = [_TYPE, 1, self._analyze.fingerprint, self.k1, self.b, self.lengths, self.passages, self.tokens]
            digest = hashlib.sha256(json.dumps(settings).encode())
            digest.update("\n".join(self.vocabulary).encode())
            digest.update(self._df.astype("<i8").tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """BM25 weights of passages, row i for text i. Terms unknown to `fit` weigh nothing but count as length."""
        rows = [self._analyze(text) for text in texts]
        indptr, terms, counts = _count(rows, self._ids.get, len(self.vocabulary))
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        if self.lengths == "lucene":
            lengths = lucene_length(lengths)
        average = self.tokens / self.passages if self.passages else 1.0
        norms = self.k1 * (1 - self.b + self.b * lengths / average)
        tf = counts.astype(np.float64)
        weights = self._idf[terms] * (tf / (tf + np.repeat(norms, np.diff(indptr))))
        return SparseBatch(indptr, terms, weights.astype(np.float32))

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Term counts of queries, row i for text i; terms that no passage holds are dropped."""
        return _encode_queries(texts, self._analyze, self._ids.get, len(self.vocabulary))

    def save(self, directory: Path) -> None:
        """Write vocabulary, analyzer and parameters into `directory`, for `load_query_encoder`."""
        directory.mkdir(parents=True, exist_ok=True)
        write_vocabulary(directory, self.vocabulary)
        document = {
            "type": _TYPE,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "analyzer": self._analyze.name,
            "analyzer_fingerprint": self._analyze.fingerprint,
            "k1": self.k1,
            "b": self.b,
            "lengths": self.lengths,
            "passages": self.passages,
            "tokens": self.tokens,
            "terms": len(self.vocabulary),
        }
        (directory / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


class Bm25QueryEncoder:
    """The query side of a saved BM25 encoder: analyzer and vocabulary, nothing held in memory. Made by `load`."""

    def __init__(self, vocabulary: SortedVocabulary, analyzer: str, fingerprint: str, name: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.vocabulary: Sequence[str] = vocabulary
        self._find = vocabulary.find
        self._analyze = analyzer_named(analyzer)

    @classmethod
    def load(cls, directory: str | Path) -> Bm25QueryEncoder:
        """Open what `Bm25Encoder.save` wrote.

        Raises:
            DamagedArtifactError: a file is missing, or says what cannot be.
        """
        directory = Path(directory)
        document = read_document(directory)
        name, fingerprint, analyzer, terms = (document.get(k) for k in ("name", "fingerprint", "analyzer", "terms"))
        if not (isinstance(terms, int) and all(isinstance(value, str) for value in (name, fingerprint, analyzer))):
            problem = "lacks name, fingerprint, analyzer or number of terms; rebuild the index"
            raise DamagedArtifactError(str(directory / DOCUMENT), problem)
        encoder = cls(SortedVocabulary(directory, terms), str(analyzer), str(fingerprint), str(name))
        if encoder._analyze.fingerprint != document.get("analyzer_fingerprint"):
            problem = (
                f"was made with analyzer {document.get('analyzer_fingerprint')!r}, this release has "
                f"{encoder._analyze.fingerprint!r}: questions would become other terms than passages; rebuild the index"
            )
            raise DamagedArtifactError(str(directory / DOCUMENT), problem)
        return encoder

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Term counts of queries, row i for text i; terms that no passage holds are dropped."""
        return _encode_queries(texts, self._analyze, self._lookup, len(self.vocabulary))

    def _lookup(self, term: str, default: int) -> int:
        number = self._find(term)
        return number if number >= 0 else default


def lucene_length(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths as Lucene's norms keep them (`SmallFloat.intToByte4` and back): 24 more than four significant bits hold.

    Args:
        lengths: int64[n], not negative.
    """
    beyond = np.maximum(lengths - _EXACT_LENGTHS, 0)
    _, bits = np.frexp(beyond.astype(np.float64))
    shift = np.maximum(bits.astype(np.int64) - 4, 0)
    return np.where(lengths < _EXACT_LENGTHS, lengths, _EXACT_LENGTHS + ((beyond >> shift) << shift))


def _encode_queries(
    texts: Sequence[str], analyze: Callable[[str], list[str]], lookup: Callable[[str, int], int], terms: int
) -> SparseBatch:
    indptr, ids, counts = _count([analyze(text) for text in texts], lookup, terms)
    return SparseBatch(indptr, ids, counts.astype(np.float32))


def _count(
    rows: Sequence[Sequence[str]], lookup: Callable[[str, int], int], terms: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]:
    """Distinct known terms of each row and how often each occurs: indptr int64[n + 1], ids uint32, counts int64."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    unknown = terms  # one id past the last
    ids = np.fromiter(map(lookup, chain.from_iterable(rows), repeat(unknown)), np.int64, int(lengths.sum()))
    keys = np.repeat(np.arange(len(rows)), lengths) * (terms + 1) + ids
    distinct, counts = np.unique(keys[ids != unknown], return_counts=True)
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.bincount(distinct // (terms + 1), minlength=len(rows)), out=indptr[1:])
    return indptr, (distinct % (terms + 1)).astype(np.uint32), counts


def _check(k1: Any, b: Any, lengths: str) -> None:
    if not (np.isfinite(k1) and k1 >= 0):
        raise ConfigError(f"k1 is {k1!r}; it must be a finite number of at least 0")
    if not 0 <= b <= 1:
        raise ConfigError(f"b is {b!r}; it must lie between 0 and 1")
    if lengths not in ("exact", "lucene"):
        raise ConfigError(f"lengths is {lengths!r}; known are: exact, lucene")
