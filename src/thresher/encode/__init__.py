"""Texts to weighted terms or to vectors.

    from thresher.encode import SparseEncoder
    encoder = SparseEncoder.from_name("thresher-mini")
    batch = encoder.encode_passages(["Grain is kept.", "Chaff is dropped."])

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thresher._lazy import load

if TYPE_CHECKING:
    from thresher.encode.bm25 import Bm25Encoder
    from thresher.encode.encoded import encode_corpus
    from thresher.encode.encoder import DenseEncoder, QueryEncoder, SparseEncoder

__all__ = ["Bm25Encoder", "DenseEncoder", "QueryEncoder", "SparseEncoder", "encode_corpus"]

_HOMES = {
    "Bm25Encoder": "bm25",
    "DenseEncoder": "encoder",
    "QueryEncoder": "encoder",
    "SparseEncoder": "encoder",
    "encode_corpus": "encoded",
}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
