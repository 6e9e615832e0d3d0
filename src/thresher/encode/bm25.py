"""BM25 as precomputed impacts: passages carry the part of term frequency and length, queries carry the IDF.

The score is Lucene's form of BM25 (Robertson and Zaragoza 2009, with the idf that is never negative and without the
constant factor k1 + 1; Kamphuis et al., ECIR 2020). It is the inner product of two weights of each term t, that in the
passage d and that in the query:

    tf / (tf + k1 * (1 - b + b * |d| / avgdl))      and      qtf * ln(1 + (N - df + 1/2) / (df + 1/2))

where N is the number of passages with at least one term. The passage's weight depends on the collection through its
average length alone, which is frozen when the encoder is fitted. It lies between 0 and 1, so impacts have a constant
scale (`bm25_scale`). N and df count the live passages of an index, which weighs queries itself
(`thresher.search.statistics`); `Bm25Encoder` weighs them by the passages it was fitted on.

Lucene rounds |d| to one byte (four significant bits, exact up to 39) before it divides, and so do we, which gives
Anserini's figures; `lengths="exact"` does not round.

Term ids are ranks in the sorted vocabulary. The saved query side has no vocabulary: an index finds the ids of the terms
among its own.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain, repeat
from typing import TYPE_CHECKING, Literal

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import is_a, shown, sound, strings
from thresher.durable import write_names
from thresher.encode.encoder import SparseEncoder, write_document
from thresher.errors import ConfigError, InputError
from thresher.files import read_names
from thresher.records import SparseBatch
from thresher.text.analyzer import analyzer as analyzer_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TYPE = "bm25"
_WORDS = "words"
_READ = 1 << 20
"""Term ids read at a time."""
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
        lengths: `lucene` for lengths rounded as Lucene stores them, or `exact`.
        average_length: terms of an average passage; by default `tokens / passages`.

    Raises:
        ConfigError: a parameter is out of range, or no analyzer has that name.
    """

    name: str = ""
    vocabulary: Sequence[str] = ()

    @checked_call
    def __init__(
        self,
        document_frequencies: dict[str, int],
        passages: int,
        tokens: int,
        *,
        analyzer: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        lengths: Lengths = "lucene",
        average_length: float | None = None,
    ) -> None:
        _check(k1, b, lengths)
        self.k1, self.b, self.lengths = float(k1), float(b), lengths
        self.passages, self.tokens = passages, tokens
        self.average_length = _average(passages, tokens, average_length)
        self.name = f"bm25(k1={k1:g},b={b:g},{analyzer})"
        self.vocabulary = sorted(document_frequencies)
        self._analyze = analyzer_named(analyzer)
        self._ids = {term: number for number, term in enumerate(self.vocabulary)}
        df = np.fromiter((document_frequencies[term] for term in self.vocabulary), np.int64, len(self.vocabulary))
        self.idf: NDArray[np.float64] = idf(passages, df)

    @classmethod
    @checked_call
    def fit(
        cls,
        texts: Iterable[str],
        *,
        analyzer: str = "english",
        k1: float = 0.9,
        b: float = 0.4,
        lengths: Lengths = "lucene",
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
        """sha256 over what determines the weights of a passage: the analyzer, the parameters and the average length."""
        settings = [_TYPE, 2, self._analyze.fingerprint, self.k1, self.b, self.lengths, self.average_length]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    @property
    def rows_fingerprint(self) -> str:
        """sha256 over what determines rows of term ids and weights: the fingerprint and the vocabulary."""
        return hashlib.sha256("\n".join((self.fingerprint, *self.vocabulary)).encode()).hexdigest()

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """BM25 weights of passages, row i for text i. Terms that `fit` did not see only count as length."""
        return self.encode_with_tokens(texts)[0]

    @checked_call
    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[SparseBatch, NDArray[np.uint32]]:
        """As `encode_passages`, and the number of terms of each text with repetitions, uint32[n]."""
        rows = [self._analyze(text) for text in strings("texts", texts)]
        indptr, terms, counts = _count(rows, self._ids.get, len(self.vocabulary))
        tokens = np.fromiter(map(len, rows), np.int64, len(rows))
        return self.weigh(indptr, terms, counts, tokens), tokens.astype(np.uint32)

    @checked_call
    def weigh(
        self,
        indptr: NDArray[np.int64],
        terms: NDArray[np.uint32],
        counts: NDArray[np.integer],
        lengths: NDArray[np.int64],
    ) -> SparseBatch:
        """BM25 weights of passages whose terms are counted already.

        Args:
            indptr: int64[n + 1], where each passage's terms begin.
            terms: uint32[nnz], term ids that ascend within a passage.
            counts: int[nnz], occurrences of each term.
            lengths: int64[n], terms of each passage with repetitions.

        Raises:
            InputError: the arrays do not fit each other, or an id is not one of the vocabulary's.
        """
        fits = lengths.ndim == 1 and indptr.shape == (len(lengths) + 1,) and terms.ndim == 1
        fits = fits and terms.shape == counts.shape == (int(indptr[-1]),) and bool((np.diff(indptr) >= 0).all())
        if not fits or (terms >= len(self.vocabulary)).any():
            raise InputError("indptr, terms, counts and lengths do not describe passages of this vocabulary")
        if self.lengths == "lucene":
            lengths = lucene_length(lengths)
        norms = self.k1 * (1 - self.b + self.b * lengths / self.average_length)
        tf = counts.astype(np.float64)
        weights = tf / (tf + np.repeat(norms, np.diff(indptr)))
        return SparseBatch(indptr, terms, weights.astype(np.float32))

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Counts of query terms times their IDF, row i for text i; terms that `fit` did not see are dropped.

        The inner product with a passage's weights is its score. An index takes texts or counts instead, and weighs
        them by the passages that it holds.
        """
        rows = [self._analyze(text) for text in strings("texts", texts)]
        indptr, terms, counts = _count(rows, self._ids.get, len(self.vocabulary))
        return SparseBatch(indptr, terms, (counts * self.idf[terms]).astype(np.float32))

    @checked_call
    def save(self, directory: Path) -> None:
        """Write analyzer, parameters and average length into `directory`, for `load_query_encoder`."""
        directory.mkdir(parents=True, exist_ok=True)
        document = {
            "type": _TYPE,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "analyzer": self._analyze.name,
            "analyzer_fingerprint": self._analyze.fingerprint,
            "k1": self.k1,
            "b": self.b,
            "lengths": self.lengths,
            "average_length": self.average_length,
        }
        write_document(directory, document)


class TermCounts:
    """Passages analysed once, their term counts kept in files: for a BM25 encoder that has to see all before it weighs.

    Term ids are numbers in order of first occurrence until `encoder` sorts the vocabulary. Memory grows with the
    vocabulary and by 8 bytes a passage, not with the text.

    Args:
        directory: where the files go; made.
        analyzer: name of the analyzer.

    Raises:
        ConfigError: no analyzer has that name.
    """

    def __init__(self, directory: Path, analyzer: str = "english") -> None:
        directory.mkdir(parents=True)
        self._begin(directory, analyzer)
        self._numbers = _Numbers()
        self._df = np.zeros(1024, np.int64)

    @classmethod
    def open(cls, directory: Path, analyzer: str = "english") -> TermCounts:
        """The counts that an earlier process made and closed.

        Raises:
            DamagedArtifactError: the file of the terms is missing, or was cut short.
        """
        made = cls.__new__(cls)
        made._begin(directory, analyzer)
        made._numbers = _Numbers((word, number) for number, word in enumerate(read_names(directory / _WORDS)))
        made._df = np.zeros(len(made._numbers), np.int64)
        with made._files["terms"].open("rb") as stream:
            while len(terms := np.fromfile(stream, np.uint32, _READ)):
                made._df += np.bincount(terms, minlength=len(made._df))
        return made

    def close(self) -> None:
        """Write what `open` needs; nothing can be added after that."""
        for file in self._files.values():
            file.touch()  # an empty corpus wrote none
        write_names(self._files["terms"].with_name(_WORDS), self._numbers)

    def _begin(self, directory: Path, analyzer: str) -> None:
        self._analyzer = analyzer
        self._analyze = analyzer_named(analyzer)
        self._files = {name: directory / name for name in ("terms", "counts", "sizes", "lengths")}
        self._ranks: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._starts: NDArray[np.int64] = np.zeros(1, np.int64)

    def add(self, texts: Sequence[str]) -> None:
        """Analyse and count the next passages."""
        rows = [self._analyze(text) for text in texts]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.fromiter(map(self._numbers.__getitem__, chain.from_iterable(rows)), np.int64, int(lengths.sum()))
        known = len(self._numbers)
        keys = np.repeat(np.arange(len(rows)), lengths) * (known + 1) + ids
        distinct, counts = np.unique(keys, return_counts=True)
        terms = distinct % (known + 1)
        if known > len(self._df):
            self._df = np.concatenate([self._df, np.zeros(max(known, 2 * len(self._df)) - len(self._df), np.int64)])
        self._df[:known] += np.bincount(terms, minlength=known)
        sizes = np.bincount(distinct // (known + 1), minlength=len(rows))
        for name, values in (("terms", terms), ("counts", counts), ("sizes", sizes), ("lengths", lengths)):
            with self._files[name].open("ab") as stream:
                values.astype(np.uint32).tofile(stream)

    def encoder(
        self, *, k1: float = 0.9, b: float = 0.4, lengths: Lengths = "lucene", average_length: float | None = None
    ) -> Bm25Encoder:
        """The encoder fitted on all passages added; none can be added after that.

        `average_length` is that of the index that the passages are added to; by default it is theirs.

        Raises:
            ConfigError: a parameter is out of range.
        """
        for file in self._files.values():
            file.touch()  # an empty corpus wrote none
        sizes, tokens = (np.fromfile(self._files[name], np.uint32) for name in ("sizes", "lengths"))
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
        words = list(self._numbers)
        order = np.array(sorted(range(len(words)), key=words.__getitem__), np.int64)
        self._ranks = np.empty(len(words), np.uint32)
        self._ranks[order] = np.arange(len(words), dtype=np.uint32)
        frequencies = dict(zip(words, self._df[: len(words)].tolist(), strict=True))
        self._numbers.clear()
        passages, total = int(np.count_nonzero(tokens)), int(tokens.sum(dtype=np.int64))
        return Bm25Encoder(
            frequencies,
            passages,
            total,
            analyzer=self._analyzer,
            k1=k1,
            b=b,
            lengths=lengths,
            average_length=average_length,
        )

    @property
    def postings(self) -> int:
        """Terms of all passages, without repetitions in one."""
        return int(self._starts[-1])

    def tokens(self, numbers: NDArray[np.integer]) -> NDArray[np.uint32]:
        """uint32[n]: terms, with repetitions, of the passages with these numbers."""
        lengths: NDArray[np.uint32] = np.fromfile(self._files["lengths"], np.uint32)[numbers]
        return lengths

    def rows(self, encoder: Bm25Encoder, numbers: NDArray[np.integer]) -> SparseBatch:
        """Weights of the passages with these numbers, int[n], ascending."""
        first, after = int(numbers[0]), int(numbers[-1]) + 1
        low, high = int(self._starts[first]), int(self._starts[after])
        terms = np.fromfile(self._files["terms"], np.uint32, high - low, offset=4 * low)
        counts = np.fromfile(self._files["counts"], np.uint32, high - low, offset=4 * low)
        lengths = np.fromfile(self._files["lengths"], np.uint32, after - first, offset=4 * first).astype(np.int64)
        sizes = np.diff(self._starts[first : after + 1])
        wanted = np.zeros(after - first, bool)
        wanted[numbers - first] = True
        kept = np.repeat(wanted, sizes)
        row = np.repeat(np.arange(len(numbers)), sizes[wanted])
        ranks = self._ranks[terms[kept]]
        order = np.lexsort((ranks, row))
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[wanted])])
        return encoder.weigh(indptr, ranks[order], counts[kept][order].astype(np.int64), lengths[wanted])


class _Numbers(dict[str, int]):
    """Strings to numbers in order of first occurrence."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


def idf(passages: int, df: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64[n]: ln(1 + (N - df + 1/2) / (df + 1/2)) of terms that `df`, int64[n], of N passages contain."""
    weights: NDArray[np.float64] = np.log1p((passages - df + 0.5) / (df + 0.5))
    return weights


def bm25_scale(bits: int) -> float:
    """What a unit of impact is worth: weights of passages are below 1, and 1 is the largest impact of this width."""
    return 1.0 / float(2**bits - 1)


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
    lengths: Lengths = "lucene",
) -> Bm25Encoder:
    """What `SparseEncoder.from_name("bm25", texts=...)` calls.

    Raises:
        ConfigError: no texts, an argument, or a parameter out of range.
    """
    if argument:
        raise ConfigError(f"'bm25:{argument}': bm25 takes no argument; give k1=, b=, analyzer= and lengths=")
    if texts is None:
        raise ConfigError("bm25 takes its statistics from the passages; give texts=")
    if isinstance(texts, str | bytes) or not is_a(texts, Iterable):
        raise InputError(f"texts must be a list of strings; got {shown(texts)}")
    each = (sound(strings("texts", [text])[0]) for text in texts)  # read once, not held
    return Bm25Encoder.fit(each, analyzer=analyzer, k1=k1, b=b, lengths=lengths)


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


def _average(passages: int, tokens: int, given: float | None) -> float:
    """The average length: the one given, or that of the passages; 1 where there are none."""
    if given is None:
        return tokens / passages if passages else 1.0
    if not 0 < given < math.inf:
        raise ConfigError(f"average_length is {shown(given)}; it must be a finite number above 0")
    return float(given)


def _check(k1: float, b: float, lengths: str) -> None:
    for name, value, most in (("k1", k1, math.inf), ("b", b, 1)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most or value == math.inf:
            wanted = "lie between 0 and 1" if most == 1 else "be a finite number of at least 0"
            raise ConfigError(f"{name} is {shown(value)}; it must {wanted}")
    if lengths not in ("exact", "lucene"):
        raise ConfigError(f"lengths is {lengths!r}; known are: exact, lucene")
