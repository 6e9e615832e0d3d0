"""Queries without a model: a tokenizer and a learned weight per word piece (inference-free retrieval).

The query side of Li-LSR, SPLADE-doc and similar models (Geng et al., arXiv 2411.04403): the weight of a term does not
depend on the rest of the query, so encoding a query is tokenising it and looking up weights. Neither torch nor
transformers is loaded; the index holds the description of the tokenizer, which is the `tokenizers` library's. If
inflected forms share a term, or rare words have their own, the index holds that as well.

A word piece is a term. Pieces that are forms of one word (`pond`, `ponds`) can share a term, that of the most frequent
form: BM25 stems, and an encoder that does not loses lexical evidence. A word without a piece of its own (`hydrolysate`)
is cut into pieces that mean little. They count `SPLIT` each, and the word's stem counts as a term too: one of a fixed
number of buckets that words are hashed into (Weinberger et al., ICML 2009). Words that collide in a bucket cannot be
told apart; with a few rare words per passage and thousands of buckets, that is rare. If the stem is that of a known
form, the term is that form's.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import Stemmer

from thresher.arguments import checked_call
from thresher.checks import sound, strings, whole
from thresher.encode.encoder import from_mappings, read_document, write_document
from thresher.errors import DamagedArtifactError, InputError, MissingExtraError, require
from thresher.files import read_names, write_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from thresher.records import SparseBatch

_TYPE = "inference-free"
_TOKENIZER, _WEIGHTS, _VOCABULARY = "tokenizer.json", "query_weights.npy", "vocabulary.txt"
_SHARED = "shared_terms.npy"
MAX_TOKENS = 512
"""The most word pieces read of a query."""

FIRST_TERM = 999
"""Ids below are [PAD], [unused..], [CLS] and other special pieces, which are never terms."""

SPLIT = 0.5
"""Count of a piece that is part of a longer word."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Terms of n texts in compressed rows, ascending within a row.

    Attributes:
        indptr: int64[n + 1].
        terms: int64[nnz].
        counts: float32[nnz], occurrences of each; multiples of 0.5.
        lengths: float32[n], words in each text.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.int64]
    counts: NDArray[np.float32]
    lengths: NDArray[np.float32]

    def rows(self) -> NDArray[np.int64]:
        """The row of each entry, int64[nnz]."""
        return np.repeat(np.arange(len(self.lengths)), np.diff(self.indptr))


class WordPieceTerms:
    """Counts the terms of texts, without a model.

    Args:
        pieces: word pieces by id.
        shared: int64[pieces], the term of each piece; None if each has its own.
        buckets: number of terms that words cut into pieces are hashed into; 0 counts only their pieces.

    Raises:
        InputError: `shared` does not give a valid term for each piece.
    """

    def __init__(
        self, pieces: Sequence[str], shared: NDArray[np.int64] | NDArray[np.int32] | None = None, buckets: int = 0
    ) -> None:
        table = np.arange(len(pieces)) if shared is None else np.asarray(shared, dtype=np.int64)
        if table.shape != (len(pieces),) or buckets < 0 or not ((table >= 0) & (table < len(pieces))).all():
            raise InputError(
                f"{len(pieces)} word pieces need one term each, and buckets must be at least 0; got {buckets}"
            )
        self.pieces, self.shared, self.buckets = tuple(pieces), table, buckets
        self.vocabulary = (*self.pieces, *(f"[word{i}]" for i in range(buckets)))
        self._shared: list[int] = table.tolist()
        self._stem = Stemmer.Stemmer("english").stemWord
        self._by_stem = self._stems() if buckets else {}
        self._words: dict[tuple[int, ...], int] = {}

    def count(self, encoding: Encoding) -> tuple[dict[int, float], int]:
        """Terms of a text and their counts, and its number of words; `encoding` has no special tokens."""
        ids: list[int] = encoding.ids
        shared, found, words = self._shared, dict[int, float](), encoding.word_ids
        if not self.buckets:
            for piece in ids:
                found[shared[piece]] = found.get(shared[piece], 0.0) + 1.0
            return found, len(ids)
        start, length, size = 0, 0, len(ids)
        while start < size:
            end, word = start + 1, words[start]
            while end < size and words[end] == word:
                end += 1
            length += 1
            if end == start + 1:
                term = shared[ids[start]]
                found[term] = found.get(term, 0.0) + 1.0
            else:
                term = self._whole(tuple(ids[start:end]))
                found[term] = found.get(term, 0.0) + 1.0
                for piece in ids[start:end]:
                    found[shared[piece]] = found.get(shared[piece], 0.0) + SPLIT
            start = end
        return found, length

    def count_all(self, encodings: Sequence[Encoding]) -> Counted:
        """Terms of many texts."""
        indptr, terms, counts = [0], list[int](), list[float]()
        lengths = np.zeros(len(encodings), dtype=np.float32)
        for i, encoding in enumerate(encodings):
            found, lengths[i] = self.count(encoding)
            order = sorted(found)
            terms += order
            counts += [found[term] for term in order]
            indptr.append(len(terms))
        return Counted(
            np.array(indptr, dtype=np.int64), np.array(terms, dtype=np.int64), np.array(counts, np.float32), lengths
        )

    def _whole(self, pieces: tuple[int, ...]) -> int:
        """The term of a word that was cut into pieces."""
        term = self._words.get(pieces)
        if term is None:
            word = "".join(self.pieces[piece].removeprefix("##") for piece in pieces)
            stem = self._stem(word) if _inflects(word) else word
            known = self._by_stem.get(stem)
            term = len(self.pieces) + zlib.crc32(stem.encode()) % self.buckets if known is None else known
            if len(self._words) < _CACHED:
                self._words[pieces] = term
        return term

    def _stems(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for i, piece in enumerate(self.pieces):
            if i >= FIRST_TERM and _inflects(piece):
                found.setdefault(self._stem(piece), self._shared[i])
        return found


def shared_forms(pieces: Sequence[str]) -> NDArray[np.int64]:
    """The term of each word piece, int64[pieces]: pieces with one English stem share the lowest id among them.

    Only whole words of more than two ASCII letters are forms of another; ids of BERT's pieces ascend as frequency
    descends.
    """
    stem = Stemmer.Stemmer("english").stemWord
    shared, first = np.arange(len(pieces), dtype=np.int64), dict[str, int]()
    for i, piece in enumerate(pieces):
        if i >= FIRST_TERM and _inflects(piece):
            shared[i] = first.setdefault(stem(piece), i)
    return shared


def _inflects(word: str) -> bool:
    return len(word) > 2 and word.isascii() and word.isalpha()


_CACHED = 200_000
"""The most words whose terms are cached."""


class LookupQueryEncoder:
    """Queries as bags of word pieces with a looked-up weight.

    Args:
        tokenizer: the `tokenizers` library's JSON description.
        weights: float32[n_terms]; 0 where a term is dropped from queries.
        vocabulary: term strings by id.
        repeats: count every occurrence of a repeated term (else one).
        fingerprint: of the encoder whose query side this is.
        name: of that encoder.
        terms: how word pieces become terms; None if each piece is a term. With it, every occurrence counts.
    """

    def __init__(
        self,
        tokenizer: str,
        weights: NDArray[np.float32],
        vocabulary: Sequence[str],
        *,
        repeats: bool,
        fingerprint: str,
        name: str,
        terms: WordPieceTerms | None = None,
    ) -> None:
        self.name = name
        self.terms = terms
        self.fingerprint = fingerprint
        self.vocabulary = vocabulary
        self.repeats = repeats
        self.weights = weights
        self._description = tokenizer
        self._table: list[float] = weights.tolist()
        library = require("tokenizers", extra="models", purpose="encoding queries by word pieces")
        self._tokenizer = library.Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i; terms of weight 0 are dropped."""
        table = self._table
        rows: list[dict[int, float]] = []
        if self.terms is not None:
            for text in map(sound, strings("texts", texts)):
                found, _ = self.terms.count(self._tokenizer.encode(text, add_special_tokens=False))
                rows.append({term: count * table[term] for term, count in found.items()})
            return from_mappings(rows)
        for text in map(sound, strings("texts", texts)):
            row: dict[int, float] = {}
            for piece in self._tokenizer.encode(text, add_special_tokens=False).ids:
                if piece < len(table):
                    row[piece] = row.get(piece, 0.0) + table[piece] if self.repeats else table[piece]
            rows.append(row)
        return from_mappings(rows)

    def save(self, directory: Path) -> None:
        """Write table, tokenizer and vocabulary into `directory`, for `load`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _TOKENIZER).write_text(self._description, encoding="utf-8")
        np.save(directory / _WEIGHTS, self.weights, allow_pickle=False)
        write_names(directory / _VOCABULARY, self.vocabulary)
        document: dict[str, object] = {
            "type": _TYPE,
            "name": self.name,
            "repeats": self.repeats,
            "fingerprint": self.fingerprint,
        }
        if self.terms is not None:
            np.save(directory / _SHARED, self.terms.shared.astype(np.int32), allow_pickle=False)
            document["buckets"] = self.terms.buckets
        write_document(directory, document)

    @classmethod
    def load(cls, directory: Path) -> LookupQueryEncoder:
        """Read what `save` wrote.

        Raises:
            DamagedArtifactError: a file is missing or inconsistent with the others.
            MissingExtraError: the `tokenizers` library is not installed.
        """
        directory = Path(directory)
        try:
            document = read_document(directory)
            weights = np.load(directory / _WEIGHTS, allow_pickle=False)
            words = read_names(directory / _VOCABULARY)
            description = (directory / _TOKENIZER).read_text(encoding="utf-8")
            repeats, fingerprint, name = document["repeats"], document["fingerprint"], document["name"]
            if not (isinstance(repeats, bool) and isinstance(fingerprint, str) and isinstance(name, str)):
                raise InputError(f"repeats is {repeats!r}, fingerprint {fingerprint!r} and name {name!r}")
            terms = None
            if "buckets" in document:
                buckets = whole("buckets", document["buckets"])
                shared = np.load(directory / _SHARED, allow_pickle=False)
                terms = WordPieceTerms(words[: len(words) - buckets], shared, buckets)
        except (OSError, ValueError, TypeError, LookupError, EOFError, MemoryError) as err:
            raise DamagedArtifactError(
                str(directory), f"the query side cannot be read ({type(err).__name__}: {err}); rebuild the index"
            ) from err
        if weights.dtype != np.float32 or weights.shape != (len(words),) or not np.isfinite(weights).all():
            raise DamagedArtifactError(
                str(directory / _WEIGHTS),
                f"holds {weights.dtype}{weights.shape}, expected {len(words)} finite float32; rebuild the index",
            )
        try:
            found = cls(description, weights, words, repeats=repeats, fingerprint=fingerprint, name=name, terms=terms)
        except MissingExtraError:
            raise
        except Exception as err:  # the tokenizers library has no exception of its own
            problem = f"does not describe a tokenizer ({err}); rebuild the index"
            raise DamagedArtifactError(str(directory / _TOKENIZER), problem) from err
        last = max(found._tokenizer.get_vocab().values(), default=-1)
        if terms is not None and last >= len(terms.pieces):
            problem = f"has word pieces up to {last}, but there are {len(terms.pieces)}; rebuild the index"
            raise DamagedArtifactError(str(directory / _TOKENIZER), problem)
        return found
