"""Queries without a model: a tokenizer and a learned weight per word piece (inference-free retrieval).

The query side of Li-LSR, SPLADE-doc and similar models (Geng et al., arXiv 2411.04403): the weight of a term does not
depend on the rest of the query, so encoding a query is tokenising it and looking up weights. Neither torch nor
transformers is loaded; the index holds the description of the tokenizer, which is the `tokenizers` library's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import sound, strings
from thresher.durable import write_names
from thresher.encode.encoder import from_mappings, read_document, write_document
from thresher.errors import DamagedArtifactError, InputError, MissingExtraError, require
from thresher.files import UNREADABLE_ARRAYS, read_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from thresher.records import SparseBatch

_TYPE = "inference-free"
_TOKENIZER, _WEIGHTS, _VOCABULARY = "tokenizer.json", "query_weights.npy", "vocabulary.txt"
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
    ) -> None:
        self.name = name
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
        except UNREADABLE_ARRAYS as err:
            raise DamagedArtifactError(
                str(directory), f"the query side cannot be read ({type(err).__name__}: {err}); rebuild the index"
            ) from err
        if weights.dtype != np.float32 or weights.shape != (len(words),) or not np.isfinite(weights).all():
            raise DamagedArtifactError(
                str(directory / _WEIGHTS),
                f"holds {weights.dtype}{weights.shape}, expected {len(words)} finite float32; rebuild the index",
            )
        try:
            found = cls(description, weights, words, repeats=repeats, fingerprint=fingerprint, name=name)
        except MissingExtraError:
            raise
        except Exception as err:  # the tokenizers library has no exception of its own
            problem = f"does not describe a tokenizer ({err}); rebuild the index"
            raise DamagedArtifactError(str(directory / _TOKENIZER), problem) from err
        return found
