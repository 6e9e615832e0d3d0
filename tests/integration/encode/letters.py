"""An encoder that needs no model, for the process that is killed and the one that kills it."""

import numpy as np

from thresher.encode import SparseEncoder
from thresher.records import SparseBatch


class Letters(SparseEncoder):
    """A real, if trivial, encoder: term i is a letter, its weight how often it occurs."""

    fingerprint = "letters-1"
    vocabulary = tuple("abcdefghijklmnopqrstuvwxyz")

    def __init__(self):
        self.encoded = []

    def encode_passages(self, texts):
        self.encoded.extend(texts)
        rows = [sorted({ord(c) - 97: float(text.count(c)) for c in text if "a" <= c <= "z"}.items()) for text in texts]
        flat = [item for row in rows for item in row]
        return SparseBatch(
            np.cumsum([0] + [len(row) for row in rows]).astype(np.int64),
            np.array([t for t, _ in flat], np.uint32),
            np.array([w for _, w in flat], np.float32),
        )

    name = "letters"

    def encode_queries(self, texts):
        return self.encode_passages(texts)

    def save(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "encoder.json").write_text('{"type": "letters"}')
