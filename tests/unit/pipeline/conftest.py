"""A small index with vectors and two tiers, and parts that need no model: real stages, a clock that tests turn."""

import hashlib
import random

import numpy as np
import pytest

from thresher.build.recipe import AskStep, Recipe
from thresher.build.stream import build_index
from thresher.context.scorers import LexicalScorer
from thresher.pipeline import Pipeline
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.vectors.store import VectorStore

WORDS = ("grain", "chaff", "mill", "flour", "wheat", "rye", "oven", "bread", "field", "plough", "seed", "rain", "sun")
SETTINGS = AskStep(rerank="lexical", context="lexical", k=3, read=6)


class HashedWords:
    """Vectors of texts: one random direction a word, summed; a query and a passage meet by the words they share."""

    dimensions = 16

    def encode_queries(self, texts):
        return np.stack([self._vector(text) for text in texts])

    encode_passages = encode_queries
    fingerprint = "hashed-words"

    def _vector(self, text):
        total = np.zeros(self.dimensions)
        for word in text.lower().replace(".", "").split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
            total += np.random.default_rng(seed).normal(size=self.dimensions)
        return (total / max(np.linalg.norm(total), 1e-9)).astype(np.float32)


class Clock:
    """Seconds that only tests and slow parts move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_(self, milliseconds):
        self.now += milliseconds / 1000


class SlowScorer(LexicalScorer):
    """The lexical scorer, taking its time by a clock: so many milliseconds a passage."""

    def __init__(self, clock, milliseconds):
        super().__init__()
        self.clock, self.milliseconds = clock, milliseconds
        self.calls = 0

    def score(self, pairs):
        self.calls += len(pairs)
        self.clock.pass_(self.milliseconds * len(pairs))
        return super().score(pairs)


def made_passages(n=60, seed=1):
    rng = random.Random(seed)
    out = []
    for i in range(n):
        sentences = [" ".join(rng.choices(WORDS, k=rng.randint(4, 9))).capitalize() + "." for _ in range(4)]
        out.append(Passage(f"p{i}", " ".join(sentences), title=f"About {rng.choice(WORDS)}", metadata={"n": str(i)}))
    return out


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    passages = made_passages()
    build_index(folder / "plain", passages, Recipe(ask=SETTINGS))
    build_index(folder / "tiered", passages, Recipe(ask=SETTINGS, prune=PruneStep(estimator="length", keep=0.5)))
    encoder = HashedWords()
    vectors = encoder.encode_passages([p.contents for p in passages])
    VectorStore.build(folder / "vectors", [vectors], docnos=[p.docno for p in passages], storage="float16", sketch=8)
    return folder


@pytest.fixture
def whole_cascade(place):
    return Pipeline.open(place / "plain", vectors=place / "vectors", query_encoder=HashedWords())
