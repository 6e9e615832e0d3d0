"""Queries without a model: a tokenizer and a learned weight per word piece (inference-free retrieval).

The query side of Li-LSR, SPLADE-doc and kin (Geng et al., arXiv 2411.04403): the weight of a term does not depend
on the query it stands in, so encoding is tokenising and looking up. Loads neither torch nor transformers; the
tokenizer is the `tokenizers` library's, of which the index keeps the description. Where inflected forms share a term,
or rare words have one (`thresher.encode.terms`), the index keeps that too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
"""Longest query read, in word pieces."""


class LookupQueryEncoder:
    """Queries as bags of word pieces with a looked-up weight.

    Args:
        tokenizer: the `tokenizers` library's JSON description.
        weights: float32[n_terms]; 0 where a term is dropped from queries.
        vocabulary: term strings by id.
        repeats: a term that a query repeats counts each time (else once).
        fingerprint: of the encoder this is the query side of.
        name: of that encoder.
        terms: how word pieces become terms; None where each is one. Repeated terms then count each time.
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
        library: Any = require("tokenizers", extra="models", purpose="encoding questions by word pieces")
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
        document = {"type": _TYPE, "name": self.name, "repeats": self.repeats, "fingerprint": self.fingerprint}
        if self.terms is not None:
            np.save(directory / _SHARED, self.terms.shared.astype(np.int32), allow_pickle=False)
            document["buckets"] = self.terms.buckets
        (directory / "encoder.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> LookupQueryEncoder:
        """Read what `save` wrote.

        Raises:
            DamagedArtifactError: a file is missing or does not fit the others.
            MissingExtraError: the `tokenizers` library is not installed.
        """
        directory = Path(directory)
        try:
            document = json.loads((directory / "encoder.json").read_bytes())
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
                str(directory), f"the question side cannot be read ({type(err).__name__}: {err}); rebuild the index"
            ) from err
        if weights.dtype != np.float32 or weights.shape != (len(words),) or not np.isfinite(weights).all():
            raise DamagedArtifactError(
                str(directory / _WEIGHTS),
                f"holds {weights.dtype}{weights.shape} where {len(words)} finite float32 belong; rebuild the index",
            )
        return cls(description, weights, words, repeats=repeats, fingerprint=fingerprint, name=name, terms=terms)
