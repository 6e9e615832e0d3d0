"""What a recipe's `[vectors]` table adds to a build: a vector of each passage, in `vectors/` inside the index.

Vectors are kept in shards beside the index until it is whole, so that a killed build goes on where it stopped. Where
the sparse encoder is a head on the embedded MiniLM and the vectors are MiniLM's, a passage is encoded once for both.
"""

from __future__ import annotations

import hashlib
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.encode.shards import dense_shards, encode_shards
from thresher.models.files import is_embedded
from thresher.records import SparseBatch
from thresher.vectors.store import FOLDER, VectorStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.recipe import VectorsStep
    from thresher.corpus import Corpus
    from thresher.encode import SparseEncoder
    from thresher.records import Passage, Usage


def shares_states(encoder: SparseEncoder, step: VectorsStep | None) -> bool:
    """Whether one forward pass over a passage gives both its weighted terms and its vector."""
    return step is not None and is_embedded(step.encoder) and hasattr(encoder, "encode_pooled")


def encoded_twice(
    encoder: Any, dense: Any, corpus: Corpus, shards: Path, progress: bool
) -> Iterator[tuple[Sequence[Passage], SparseBatch]]:
    """Weighted terms of the corpus; the vectors they were made from stay in `shards` for `store_vectors`."""
    for passages, arrays in encode_shards(
        corpus, _both(encoder, dense), shards, _joint_fingerprint(encoder, dense), progress=progress
    ):
        yield passages, SparseBatch(arrays["indptr"], arrays["terms"], arrays["weights"])


def store_vectors(
    directory: Path,
    step: VectorsStep,
    encoder: SparseEncoder,
    dense: Any,
    corpus: Corpus,
    pruned: Sequence[Passage],
    shards: Path,
    usage: Usage,
    progress: bool,
) -> Usage:
    """Write `vectors/` into the index being built, and add its account to the usage.

    Args:
        directory: the index being built.
        step: the recipe's table.
        encoder: the sparse encoder, which may have left vectors in `shards`.
        dense: the encoder of vectors.
        corpus: the passages of the first tier.
        pruned: those of the second, encoded where the step asks for it.
        shards: where encoded shards wait until the index is whole.
        usage: the build's.
        progress: show a bar.
    """
    started = time.perf_counter()
    shared = shares_states(encoder, step)
    if shared:
        joint = _joint_fingerprint(encoder, dense)
        kept: Iterable[NDArray[np.floating]] = (
            arrays["vectors"]
            for _, arrays in encode_shards(corpus, _both(encoder, dense), shards, joint, progress=False)
        )
    else:
        kept = _vectors(dense, corpus, shards.with_name(f"{shards.name}-vectors"), progress)
    rest = _vectors(dense, pruned, shards.with_name(f"{shards.name}-pruned"), progress) if step.second_tier else ()
    store = VectorStore.build(
        directory / FOLDER,
        chain(kept, rest),
        storage=step.storage,
        sketch=step.sketch,
        encoder=dense.fingerprint,
        encoder_name=step.encoder,
    )
    seconds = time.perf_counter() - started
    counts = {"vectors": len(store), "bytes": store.bytes, "with_encode": int(shared)}
    return usage.with_stage("vectors", seconds, **counts)


def _vectors(dense: Any, passages: Iterable[Passage], shards: Path, progress: bool) -> Iterator[NDArray[np.floating]]:
    for _, vectors in dense_shards(dense, passages, shards, progress=progress):
        yield vectors


def _both(encoder: Any, dense: Any) -> Any:
    def encode(batch: Sequence[Passage]) -> dict[str, Any]:
        texts = [passage.contents for passage in batch]
        vectors = dense.encode_passages(texts)
        rows = encoder.encode_pooled(vectors, texts)
        return {
            "indptr": rows.indptr,
            "terms": rows.terms,
            "weights": rows.weights,
            "vectors": vectors.astype(np.float16),
        }

    return encode


def _joint_fingerprint(encoder: Any, dense: Any) -> str:
    return hashlib.sha256(f"{encoder.fingerprint}+{dense.fingerprint}".encode()).hexdigest()
