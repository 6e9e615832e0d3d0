"""BM25 and a learned sparse encoder in one vocabulary, so that one exact search adds their scores.

A passage has the terms of both. Those of the learned encoder are prefixed (`LEARNED`), which no analyzer's term can be,
so the two never meet in one posting list, and parts of an index merge their vocabularies by string as those of BM25 do.
The score of a passage is

    BM25(q, d) + weight * learned(q, d)

where the weight is a factor of the learned query weights (`thresher.encode.hybrid_queries`). BM25's weights of passages
lie between 0 and 1 and have impacts of a constant scale. Learned weights are divided by `CEILING` to fit into that
range, and the query's are multiplied by it; larger ones are clamped by the index, which counts them. With 16 bits a
step is 1/8192 of a learned weight, finer than the 8 bits that learned weights alone are stored with.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import real
from thresher.durable import write_names
from thresher.encode.bm25 import Bm25Encoder, fit_bm25
from thresher.encode.encoder import DOCUMENT, SparseEncoder, read_document, write_document
from thresher.errors import ConfigError, DamagedArtifactError
from thresher.files import read_names
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.encode.bm25 import Lengths
    from thresher.encode.query_side import QuerySide

BM25 = "bm25"
TYPE, PREFIX = "bm25+learned", "bm25+"
LEARNED = "learned "
"""What terms of the learned encoder begin with. No analyzer makes a term with a space."""
CEILING = 8.0
"""The largest learned weight of a passage that is stored as it is; a power of two, so that dividing by it is exact."""
WEIGHT = 0.4
"""Of the learned part of a score: best on held-out topics for a small SPLADE, with vectors; .3 to .6 are as good."""
LEXICAL_FOLDER, LEARNED_FOLDER, VOCABULARY = "lexical", "learned", "learned.txt"
"""Where a saved query side has those of its parts, and the learned encoder's terms."""


def is_hybrid(encoder: str) -> bool:
    """Whether a recipe's encoder is `bm25+NAME`."""
    return encoder.startswith(PREFIX)


def learned_part(encoder: str) -> str:
    """The name of the learned encoder in a recipe's encoder, which is that itself or `bm25+NAME`; empty for `bm25`.

    Raises:
        ConfigError: there is no name after `bm25+`.
    """
    if encoder == PREFIX:
        raise ConfigError(f"{encoder!r} names no learned encoder; write, for example, {PREFIX}thresher-mini")
    return "" if encoder == BM25 else encoder.removeprefix(PREFIX)


class HybridTerms:
    """The joint vocabulary of a BM25 encoder and a learned one, and rows of both in it.

    Args:
        lexical: the BM25 encoder.
        learned: the learned one, as far as an index keeps it.
        weight: factor of the learned part of a score, at least 0.

    Attributes:
        name: human-readable name.
        vocabulary: the terms of both, sorted; ids are ranks.

    Raises:
        InputError: the weight is negative or not finite.
    """

    def __init__(self, lexical: Bm25Encoder, learned: QuerySide, *, weight: float = WEIGHT) -> None:
        self.lexical, self.weight = lexical, real("weight", weight, 0)
        self._learned_side = learned
        self.name = f"{lexical.name}+{learned.name}"
        names = [*lexical.vocabulary, *(LEARNED + term for term in learned.vocabulary)]
        order = sorted(range(len(names)), key=names.__getitem__)
        self.vocabulary: Sequence[str] = [names[i] for i in order]
        ranks = np.empty(len(names), np.uint32)
        ranks[order] = np.arange(len(names), dtype=np.uint32)
        self._lexical_ids, self._learned_ids = np.split(ranks, [len(lexical.vocabulary)])

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) over the fingerprints of both, the weight and the ceiling."""
        settings = [TYPE, 1, self.lexical.fingerprint, self._learned_side.fingerprint, self.weight, CEILING]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    @property
    def rows_fingerprint(self) -> str:
        """Sha256 (hex) over what determines rows of term ids and weights: the fingerprint and the vocabulary."""
        return hashlib.sha256("\n".join((self.fingerprint, *self.vocabulary)).encode()).hexdigest()

    def join(self, lexical: SparseBatch, learned: SparseBatch) -> SparseBatch:
        """Rows of passages with the terms of both.

        Args:
            lexical: their BM25 weights, in BM25's own term ids.
            learned: their learned weights, in the learned encoder's own term ids.
        """
        return self._joined(lexical, learned, 1 / CEILING)

    def _joined(self, lexical: SparseBatch, learned: SparseBatch, factor: float) -> SparseBatch:
        terms = np.concatenate([self._lexical_ids[lexical.terms], self._learned_ids[learned.terms]])
        weights = np.concatenate([lexical.weights, learned.weights * np.float32(factor)])
        rows = np.concatenate([np.repeat(np.arange(len(one)), np.diff(one.indptr)) for one in (lexical, learned)])
        order = np.lexsort((terms, rows))
        return SparseBatch(lexical.indptr + learned.indptr, terms[order], weights[order])

    def save(self, directory: Path) -> None:
        """Write the query sides of both and the weight into `directory`, for `load_query_encoder`."""
        directory.mkdir(parents=True, exist_ok=True)
        self.lexical.save(directory / LEXICAL_FOLDER)
        self._learned_side.save(directory / LEARNED_FOLDER)
        write_names(directory / VOCABULARY, self._learned_side.vocabulary)
        document = {
            "type": TYPE,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "weight": self.weight,
            "ceiling": CEILING,
            "learned": {"name": self._learned_side.name, "fingerprint": self._learned_side.fingerprint},
        }
        write_document(directory, document)


class HybridEncoder(HybridTerms, SparseEncoder):
    """BM25 plus a learned encoder. An index is built with it by the name `bm25+NAME`.

    Args:
        lexical: the BM25 encoder.
        learned: the learned one.
        weight: factor of the learned part of a score, at least 0.

    Raises:
        InputError: the weight is negative or not finite.
    """

    name: str = ""
    vocabulary: Sequence[str] = ()

    @checked_call
    def __init__(self, lexical: Bm25Encoder, learned: SparseEncoder, *, weight: float = WEIGHT) -> None:
        super().__init__(lexical, learned, weight=weight)
        self.learned = learned
        self.max_tokens = learned.max_tokens

    @checked_call
    def count_tokens(self, texts: Sequence[str]) -> Sequence[int]:
        """The number of the learned encoder's word pieces of each text."""
        return self.learned.count_tokens(texts)

    @checked_call
    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """BM25 weights of passages and learned weights divided by `CEILING`, row i for text i."""
        return self.encode_with_tokens(texts)[0]

    @checked_call
    def encode_with_tokens(self, texts: Sequence[str]) -> tuple[SparseBatch, NDArray[np.uint32]]:
        """As `encode_passages`, and the number of BM25's terms of each text with repetitions, uint32[n]."""
        lexical, tokens = self.lexical.encode_with_tokens(texts)
        return self.join(lexical, self.learned.encode_passages(texts)), tokens

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """BM25 weights with the IDF of the texts it was fitted on, and learned weights times weight and `CEILING`."""
        lexical, learned = self.lexical.encode_queries(texts), self.learned.encode_queries(texts)
        return self._joined(lexical, learned, self.weight * CEILING)


def is_saved_hybrid(directory: Path) -> bool:
    """Whether `HybridTerms.save` wrote the query side in `directory`.

    Raises:
        DamagedArtifactError: the file that says so is missing or unreadable.
    """
    return bool(read_document(directory).get("type") == TYPE)


def saved_learned(directory: Path) -> tuple[dict[str, str], tuple[str, ...], float]:
    """Name and fingerprint of the learned encoder that `HybridTerms.save` wrote, its terms, and the weight.

    Raises:
        DamagedArtifactError: a file is missing or invalid.
    """
    file, document = directory / DOCUMENT, read_document(directory)
    learned, weight = document.get("learned"), document.get("weight")
    said = learned if isinstance(learned, dict) else {}
    named = all(isinstance(said.get(key), str) for key in ("name", "fingerprint"))
    if not named or isinstance(weight, bool) or not isinstance(weight, int | float):
        raise DamagedArtifactError(str(file), "lacks weight, or name and fingerprint of the learned encoder")
    return said, tuple(read_names(directory / VOCABULARY)), float(weight)


def fit_hybrid(
    argument: str,
    *,
    texts: Iterable[str] | None = None,
    weight: float = WEIGHT,
    analyzer: str = "english",
    k1: float = 0.9,
    b: float = 0.4,
    lengths: Lengths = "lucene",
    device: str = "auto",
    download: bool = False,
    batch_size: int = 32,
    max_active_terms: int | None = None,
) -> HybridEncoder:
    """What `SparseEncoder.from_name("bm25+NAME", texts=...)` calls.

    Raises:
        ConfigError: no texts, no name, or a parameter out of range; or as `SparseEncoder.from_name`.
    """
    name = learned_part(PREFIX + argument)
    lexical = fit_bm25("", texts=texts, analyzer=analyzer, k1=k1, b=b, lengths=lengths)
    learned = SparseEncoder.from_name(
        name, device=device, download=download, batch_size=batch_size, max_active_terms=max_active_terms
    )
    return HybridEncoder(lexical, learned, weight=weight)
