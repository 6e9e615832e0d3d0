"""Small indexes that together have every file an index can have."""

import numpy as np
from searching import batch_of

from tests.indexes import segment_of
from thresher.build.recipe import Recipe
from thresher.build.stream import build_index
from thresher.index import IndexBuilder
from thresher.index.commit import writing_index
from thresher.prune import PruneStep
from thresher.records import Passage
from thresher.search import Index, calibrate_tiers
from thresher.vectors import VectorStore


def text(path):
    """BM25 with a calibrated second tier, vectors by number with a sketch, and vectors by docno in `by-docno`."""
    rng = np.random.default_rng(5)
    words = [" ".join(f"w{i}" for i in rng.geometric(0.05, rng.integers(3, 30))) for _ in range(300)]
    passages = [Passage(f"d{i}", one, metadata={"source": "x"}) for i, one in enumerate(words)]
    build_index(path, passages, Recipe(prune=PruneStep(estimator="length", keep=0.7, fold=False)))
    with Index.open(path) as index:
        calibrate_tiers(index, ["w1 w2", "w3 w9", "w5", "w20 w21"], 0.5)
        n = len(index.layouts[0].docnos)
    vectors = rng.normal(size=(n, 16)).astype(np.float32)
    VectorStore.build(segment_of(path) / "vectors", [vectors], storage="int8", sketch=4)
    docnos = [f"d{i // 2}.{i % 2}" for i in range(80)]
    VectorStore.build(path / "by-docno", [vectors[:80]], docnos=docnos, document_of=lambda one: one.partition(".")[0])


def learned(path):
    """16-bit impacts in an order by similarity, with lists of every kind and shuffled term ids."""
    rng = np.random.default_rng(6)
    rows = []
    for _ in range(3000):
        kept = {t: float(rng.gamma(1, 1) + 0.01) for t in range(4) if rng.random() < 0.6}
        kept |= {int(t): float(rng.gamma(1, 1) + 0.01) for t in rng.geometric(0.02, 9) if t < 400}
        rows.append(kept)
    write(path, rows, [f"t{(i * 7) % 400}" for i in range(400)], bits=16, order="similarity", block=64)


def wide(path):
    """More than one chunk of passages, so that scanned lists have skip entries."""
    rng = np.random.default_rng(7)
    rows = [{0: 1.0 + i % 9, int(rng.integers(1, 900)): 2.0} for i in range(66_500)]
    write(path, rows, [f"t{i:03}" for i in range(900)], block=256)


def write(path, rows, vocabulary, **options):
    with writing_index(path) as draft:
        builder = IndexBuilder(draft.segment.path, vocabulary, **options)
        for first in range(0, len(rows), 4096):
            part = rows[first : first + 4096]
            builder.add([Passage(f"d{first + i}", "text") for i in range(len(part))], batch_of(part))
        draft.fields.update(builder.finish())


MAKERS = {"text": text, "learned": learned, "wide": wide}


def make(path, name):
    """Write the index of that name."""
    MAKERS[name](path)
