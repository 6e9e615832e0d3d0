"""BM25 as precomputed impacts: passages carry the whole weight, and a query counts its terms.

The weight of term t in passage d is Lucene's form of BM25 (Robertson and Zaragoza 2009, with the idf that is never
negative and without the constant factor k1 + 1; Kamphuis et al., ECIR 2020):

    ln(1 + (N - df + 1/2) / (df + 1/2)) * tf / (tf + k1 * (1 - b + b * |d| / avgdl))

where N is the number of passages with at least one term, and avgdl is their mean length. The weight of a term in a
query is the number of its occurrences, so the inner product is the BM25 score.

Lucene rounds |d| to one byte (four significant bits, exact up to 39) before it divides. Lengths are exact here
unless `lengths="lucene"` asks for the same rounding.

Term ids are ranks in the sorted vocabulary, so the query side needs no dictionary (`encode/vocabulary.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.encode.encoder import DOCUMENT, SparseEncoder, read_document, write_document
from thresher.encode.vocabulary import SortedVocabulary, write_vocabulary
from thresher.errors import ConfigError, DamagedArtifactError
from thresher.records import SparseBatch
from thresher.text.analyzer import analyzer as analyzer_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

_TYPE = "bm25"
_EXACT_LENGTHS = 24  # Lucene's SmallFloat stores lengths below this exactly
Lengths = Literal["exact", "lucene"]


class Bm25Encoder(SparseEncoder):
    """BM25 with the statistics of a collection. `fit` makes one.

    Args:
        document_frequencies: term to the number of passages that contain it.
        passages: number of passages with at least one term.
        tokens: number of terms in all passages, repetitions included.
        analyzer: name of the analyzer (`thresher.text.analyzer`).
        k1: saturation of term frequency; 0 ignores repetitions.
        b: length normalisation, from 0 (none) to 1 (full).
        lengths: `exact`, or `lucene` for lengths rounded as Lucene stores them.

    Raises:
        ConfigError: a parameter is out of range, or no analyzer has that name.
    """

    name: str = ""
    vocabulary: Sequence[str] = ()

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
        self.vocabulary = sorted(document_frequencies)
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
        """Take the collection's statistics from `texts`, in one pass.

        Memory grows with the vocabulary (about 150 bytes per term), not with the number of texts.

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
        """BM25 weights of passages, row i for text i. Terms that `fit` did not see only count as length."""
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
        """Term counts of queries, row i for text i; terms that occur in no passage are dropped."""
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
        write_document(directory, document)


class Bm25QueryEncoder:
    """The query side of a saved BM25 encoder: its analyzer, and its vocabulary in mapped files. `load` opens one."""

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
            DamagedArtifactError: a file is missing or invalid.
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
                f"was written with analyzer {document.get('analyzer_fingerprint')!r}, but this release has "
                f"{encoder._analyze.fingerprint!r}, which would not match the terms of the passages; rebuild the index"
            )
            raise DamagedArtifactError(str(directory / DOCUMENT), problem)
        return encoder

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Term counts of queries, row i for text i; terms that occur in no passage are dropped."""
        return _encode_queries(texts, self._analyze, self._lookup, len(self.vocabulary))

    def _lookup(self, term: str, default: int) -> int:
        number = self._find(term)
        return number if number >= 0 else default


def lucene_length(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths as Lucene's norms store them (`SmallFloat.intToByte4` and back): four significant bits above 24.

    Args:
        lengths: int64[n], not negative.
    """
    beyond = np.maximum(lengths - _EXACT_LENGTHS, 0)
    _, bits = np.frexp(beyond.astype(np.float64))
    shift = np.maximum(bits.astype(np.int64) - 4, 0)
    return np.where(lengths < _EXACT_LENGTHS, lengths, _EXACT_LENGTHS + ((beyond >> shift) << shift))


def fit_bm25(
    argument: str,
    *,
    texts: Iterable[str] | None = None,
    analyzer: str = "english",
    k1: float = 0.9,
    b: float = 0.4,
    lengths: Lengths = "exact",
) -> Bm25Encoder:
    """What `SparseEncoder.from_name("bm25", texts=...)` calls.

    Raises:
        ConfigError: no texts, an argument, or a parameter out of range.
    """
    if argument:
        raise ConfigError(f"'bm25:{argument}': bm25 takes no argument; give k1=, b=, analyzer= and lengths=")
    if texts is None:
        raise ConfigError("bm25 takes its statistics from the passages; give texts=")
    return Bm25Encoder.fit(texts, analyzer=analyzer, k1=k1, b=b, lengths=lengths)


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


def _check(k1: float, b: float, lengths: str) -> None:
    if not (np.isfinite(k1) and k1 >= 0):
        raise ConfigError(f"k1 is {k1!r}; it must be a finite number of at least 0")
    if not 0 <= b <= 1:
        raise ConfigError(f"b is {b!r}; it must lie between 0 and 1")
    if lengths not in ("exact", "lucene"):
        raise ConfigError(f"lengths is {lengths!r}; known are: exact, lucene")
