"""A learned sparse encoder that needs no model: a word also means the next one of a list, half as much.

It is installed as other packages install theirs, by an entry point (`registered`), and queries it by a table of weights
as every inference-free encoder does. Some of its terms are also BM25's, and one weight is above what an index of both
stores.
"""

import json
from importlib.metadata import EntryPoint

import numpy as np

from thresher import registry
from thresher.encode import SparseEncoder
from thresher.encode.encoder import from_mappings
from thresher.encode.lookup import LookupQueryEncoder

WORDS = "grain chaff wind mill flour river zebra bread stone oat".split()
KNOWN = [*WORDS, *(f"w{i}" for i in range(6))]
NAME = "word-pairs"
HEAVY = 9.0
"""Weight of the first word, where it occurs."""


def registered(patch):
    """Install the encoder under its name, as long as `patch`, a `pytest.MonkeyPatch`, lasts."""
    point = EntryPoint(NAME, "tests.word_pairs:WordPairs", "thresher.encoders")
    patch.setattr(registry, "entry_points", lambda *, group: [point] if group == point.group else [])


class WordPairs(SparseEncoder):
    """The encoder; the argument of its name changes its fingerprint."""

    name = NAME
    fingerprint = NAME
    vocabulary = (*reversed(KNOWN), "[UNK]")

    def __init__(self, argument=""):
        self.fingerprint = f"{NAME}-{argument}"

    def encode_passages(self, texts):
        return from_mappings([self._row(text.split()) for text in texts])

    def _row(self, words):
        row = {}
        for place, word in enumerate(KNOWN):
            if count := words.count(word):
                row[place] = max(row.get(place, 0), HEAVY if place == 0 else 1 + np.log(count))
                row[(place + 1) % len(KNOWN)] = max(row.get((place + 1) % len(KNOWN), 0), 0.5 + count / 7)
        return {len(KNOWN) - 1 - place: weight for place, weight in row.items()}

    def encode_queries(self, texts):
        return self.query_side.encode_queries(texts)

    @property
    def query_side(self):
        """Each word once, with a weight of its own."""
        pieces = {word: i for i, word in enumerate(self.vocabulary)}
        description = {
            "version": "1.0",
            "model": {"type": "WordLevel", "vocab": pieces, "unk_token": "[UNK]"},
            "pre_tokenizer": {"type": "WhitespaceSplit"},
        }
        weights = np.append(np.linspace(0.3, 2, len(KNOWN), dtype=np.float32), np.float32(0))
        return LookupQueryEncoder(
            json.dumps(description), weights, self.vocabulary, repeats=False, fingerprint=self.fingerprint, name=NAME
        )

    def save(self, directory):
        self.query_side.save(directory)
