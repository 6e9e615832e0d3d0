"""A synthetic collection that resembles text: word frequencies by Zipf's law, passages of about sixty words."""

import numpy as np
import pytest

from thresher import Passage, build_index

WORDS = 30_000
PASSAGES = 20_000
QUERIES = 200
SEED = 20_000


class Collection:
    """Passages, and queries made of words of one passage each."""

    def __init__(self, passages: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        words = np.array([f"w{i:05d}" for i in range(WORDS)])
        lengths = np.clip(rng.poisson(60, passages), 5, None)
        ranks = np.minimum(rng.zipf(1.3, lengths.sum()), WORDS) - 1
        rows = np.split(words[ranks], np.cumsum(lengths)[:-1])
        self.passages = [Passage(f"d{n:06d}", self.sentences(row)) for n, row in enumerate(rows)]
        chosen = rng.choice(passages, QUERIES)
        self.queries = [" ".join(rng.choice(rows[n], 6)) for n in chosen]

    @staticmethod
    def sentences(row: np.ndarray) -> str:
        """The words as sentences of twelve."""
        parts = [row[start : start + 12] for start in range(0, len(row), 12)]
        return " ".join(" ".join(part).capitalize() + "." for part in parts)


@pytest.fixture(scope="session")
def collection() -> Collection:
    return Collection(PASSAGES, SEED)


@pytest.fixture(scope="session")
def index_path(collection, tmp_path_factory):
    target = tmp_path_factory.mktemp("benchmarks") / "index"
    build_index(target, collection.passages, "bm25")
    return target
