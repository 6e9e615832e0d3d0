"""Queries without a model: a tokenizer and a learned weight per word piece (inference-free retrieval).

The query side of Li-LSR, SPLADE-doc and similar models (Geng et al., arXiv 2411.04403): the weight of a term does not
depend on the rest of the query, so encoding a query is tokenising it and looking up weights. Neither torch nor
transformers is loaded; the index holds the description of the tokenizer, which is the `tokenizers` library's. If
inflected forms share a term, or rare words have their own (`thresher.encode.terms`), the index holds that as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.encode.encoder import read_document, write_document
from thresher.encode.rows import from_mappings
from thresher.encode.terms import WordPieceTerms
from thresher.errors import DamagedArtifactError, InputError, require
from thresher.files import read_names, write_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.records import SparseBatch

_TYPE = "inference-free"
_TOKENIZER, _WEIGHTS, _VOCABULARY = "tokenizer.json", "query_weights.npy", "vocabulary.txt"
_SHARED = "shared_terms.npy"
MAX_TOKENS = 512
"""The most word pieces read of a query."""


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

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i; terms of weight 0 are dropped."""
        table = self._table
        rows: list[dict[int, float]] = []
        if self.terms is not None:
            for text in texts:
                found, _ = self.terms.count(self._tokenizer.encode(text, add_special_tokens=False))
                rows.append({term: count * table[term] for term, count in found.items()})
            return from_mappings(rows)
        for text in texts:
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
            terms = None
            if "buckets" in document:
                buckets = int(document["buckets"])
                shared = np.load(directory / _SHARED, allow_pickle=False)
                terms = WordPieceTerms(words[: len(words) - buckets], shared, buckets)
        except (OSError, ValueError, KeyError, InputError) as err:
            raise DamagedArtifactError(
                str(directory), f"the query side cannot be read ({type(err).__name__}: {err}); rebuild the index"
            ) from err
        if weights.dtype != np.float32 or weights.shape != (len(words),) or not np.isfinite(weights).all():
            raise DamagedArtifactError(
                str(directory / _WEIGHTS),
                f"holds {weights.dtype}{weights.shape}, expected {len(words)} finite float32; rebuild the index",
            )
        return cls(description, weights, words, repeats=repeats, fingerprint=fingerprint, name=name, terms=terms)
