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
    from thresher.encode.preencoded import open_encoded

__all__ = ["Bm25Encoder", "DenseEncoder", "QueryEncoder", "SparseEncoder", "encode_corpus", "open_encoded"]

_HOMES = {
    "Bm25Encoder": "bm25",
    "DenseEncoder": "encoder",
    "QueryEncoder": "encoder",
    "SparseEncoder": "encoder",
    "encode_corpus": "encoded",
    "open_encoded": "preencoded",
}


def __getattr__(name: str) -> object:
    return load(__name__, _HOMES, name)
