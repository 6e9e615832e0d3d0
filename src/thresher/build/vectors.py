"""What a recipe's `[vectors]` table adds to a build: a dense vector of each passage, in `vectors/` inside the index.

Vectors are written in the order of the passage numbers: the first tier, then the second unless the table says not to.
They are kept in shards alongside the index until it is complete, so that a killed build resumes where it stopped.

The vectors of a segment that is added are made by the same encoder as those of the index, and stored with what was
learned from the first ones; those of segments that are merged are copied.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from thresher.encode import DenseEncoder
from thresher.encode.shards import Unread, dense_shards
from thresher.errors import ConfigError, InputError, require
from thresher.records import StageUsage
from thresher.vectors.codecs import CENTROIDS, parse_storage
from thresher.vectors.segments import build_like, copy_rows, model_of
from thresher.vectors.store import FOLDER, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.recipe import EncodeStep, Recipe, VectorsStep
    from thresher.corpus.spool import Spool
    from thresher.encode.shards import PassageEncoder


class VectorSource(Protocol):
    """Vectors of the passages of a spool."""

    @property
    def storage(self) -> str:
        """How they are stored: `float16`, `int8` or `pq<bytes>`."""

    @property
    def fingerprint(self) -> str:
        """Of their encoder."""

    @property
    def name(self) -> str:
        """The name that opens their encoder."""

    @property
    def dimensions(self) -> int:
        """Numbers in a vector; 0 where that is not known yet."""

    def accepts(self, fingerprint: str) -> bool:
        """Whether they go with vectors made by the encoder with this fingerprint ("": unknown)."""

    def has(self, docnos: Sequence[str]) -> bool:
        """Whether there is a vector of each of these passages."""

    def batches(
        self, spool: Spool, first: NDArray[np.int64], second: NDArray[np.int64], *, progress: bool
    ) -> Iterator[NDArray[np.floating]]:
        """Vectors of the passages with the numbers `first`, then `second`, float[n, dimensions] at a time."""


class EncodedVectors:
    """The vectors of a recipe's encoder.

    Args:
        step: the recipe's table.
        encoder: the encoder itself.
        shards: where finished shards of the weighted terms are; those of vectors go alongside.
    """

    def __init__(self, step: VectorsStep, encoder: PassageEncoder, shards: Path) -> None:
        self.storage, self.fingerprint, self.name = step.storage, encoder.fingerprint, step.encoder
        self.dimensions = int(getattr(encoder, "dimensions", 0))
        self.unread = Unread(encoder)
        self._encoder, self._shards = encoder, shards

    def accepts(self, fingerprint: str) -> bool:
        """As the encoder does, for one that knows which fingerprints mean the same vectors."""
        if not fingerprint or fingerprint == self.fingerprint:
            return True
        same: Callable[[str], bool] | None = getattr(self._encoder, "accepts", None)
        return same is not None and bool(same(fingerprint))

    def has(self, docnos: Sequence[str]) -> bool:
        """Every passage can be encoded."""
        return True

    def batches(
        self, spool: Spool, first: NDArray[np.int64], second: NDArray[np.int64], *, progress: bool
    ) -> Iterator[NDArray[np.floating]]:
        """Vectors of the first tier's passages, then of the second's."""
        yield from self._encoded(spool, first, "vectors", progress)
        if len(second):
            yield from self._encoded(spool, second, "pruned", progress)

    def sample(self, texts: Sequence[str]) -> int:
        """Encode `texts`, and say how many bytes their vectors take."""
        dimensions = int(self._encoder.encode_passages(texts).shape[1])
        kind, parts = parse_storage(self.storage)
        return len(texts) * {"float16": 2 * dimensions, "int8": dimensions + 4, "pq": parts}[kind]

    def _encoded(
        self, spool: Spool, numbers: NDArray[np.int64], suffix: str, progress: bool
    ) -> Iterator[NDArray[np.floating]]:
        folder = self._shards.with_name(f"{self._shards.name}-{suffix}")
        for _, vectors in dense_shards(
            self._encoder,
            spool.rows(numbers),
            folder,
            total=len(numbers),
            progress=progress,
            unread=self.unread,
            label="vectors",
        ):
            yield vectors


class GivenVectors:
    """Vectors that were encoded before (`thresher encode --dense`), found by docno.

    Args:
        path: the vectors.

    Raises:
        ArtifactError: there are none.
    """

    dimensions = 0

    def __init__(self, path: str | Path) -> None:
        self._store = store = VectorStore.open(path)
        self.storage = str(store.manifest.fields["storage"])
        self.fingerprint, self.name = store.encoder_fingerprint, store.encoder_name
        self._path = str(path)

    def accepts(self, fingerprint: str) -> bool:
        """Whether it is that of the encoder that made them, or one of the two is not known."""
        return fingerprint in ("", self.fingerprint) or not self.fingerprint

    def has(self, docnos: Sequence[str]) -> bool:
        """Whether all of them were encoded."""
        return bool((self._store.find(docnos) >= 0).all())

    def batches(
        self, spool: Spool, first: NDArray[np.int64], second: NDArray[np.int64], *, progress: bool
    ) -> Iterator[NDArray[np.floating]]:
        """Vectors of the first tier's passages, then of the second's.

        Raises:
            InputError: a passage has no vector; names it.
        """
        for chunk in spool.rows(np.concatenate([first, second])).chunks():
            docnos = [passage.docno for passage in chunk]
            found = self._store.find(docnos)
            if len(found) and found.min() < 0:
                docno = docnos[int(np.argmin(found))]
                raise InputError(
                    f"docno {docno!r} has no vector; encode a corpus that holds all passages that are indexed "
                    "(thresher encode --dense)",
                    self._path,
                )
            rows, starts = self._store.rows_of(found)
            if len(rows) != len(docnos):
                raise InputError(f"docno {docnos[int(np.argmax(np.diff(starts)))]!r} has several vectors", self._path)
            yield self._store.stored.decode(rows)


def open_vectors(
    step: VectorsStep, dense: PassageEncoder | None, shards: Path, encode: EncodeStep, device: str
) -> VectorSource:
    """Where vectors come from.

    Args:
        step: the recipe's table.
        dense: the encoder of vectors, in place of the one that `step` names.
        shards: where finished shards are kept.
        encode: the recipe's table, for the batch size.
        device: for the encoder.
    """
    if step.source:
        return GivenVectors(step.source)
    dense = dense or DenseEncoder.from_name(step.encoder, device=device, batch_size=encode.batch_size)
    return EncodedVectors(step, dense, shards)


def check_vectors(step: VectorsStep, vectors: VectorSource, passages: int, *, like: VectorStore | None = None) -> None:
    """Check that vectors can be stored as `step` says, before any passage is encoded.

    Args:
        step: the recipe's table.
        vectors: where the vectors come from.
        passages: how many passages get one.
        like: the vectors of the index that the passages are added to; None for a new index.

    Raises:
        ConfigError: the encoder is not the index's; product quantisation does not fit the dimensions, or there are too
            few passages for it.
        MissingExtraError: it needs an optional dependency that is not installed.
    """
    if like is not None:
        _check_encoder(vectors, like)
    learned = model_of(like)
    kind, parts = parse_storage(vectors.storage if learned is None else str(learned.manifest.fields["storage"]))
    if kind == "pq" and (learned is not None or not step.source):
        require("faiss", extra="faiss-cpu", purpose="product quantisation")
    if kind != "pq" or step.source or learned is not None:
        return
    if vectors.dimensions % parts:
        raise ConfigError(
            f"vectors.storage is {step.storage!r}, but {parts} does not divide {vectors.dimensions} dimensions"
        )
    if passages < CENTROIDS:
        raise ConfigError(
            f"vectors.storage is {step.storage!r}, which needs at least {CENTROIDS} passages; there are {passages}"
        )


def _check_encoder(vectors: VectorSource, like: VectorStore) -> None:
    """Refuse vectors that do not compare with those of the index."""
    made_by = like.encoder_name or "an encoder"
    if not vectors.accepts(like.encoder_fingerprint):
        raise ConfigError(
            f"the index's vectors were made by {made_by} with the fingerprint {like.encoder_fingerprint[:12]}, but "
            f"those of the added passages by {vectors.name or 'an encoder'} with {vectors.fingerprint[:12]}; use the "
            "index's encoder, or build the index again"
        )
    if vectors.dimensions and like.dimensions and vectors.dimensions != like.dimensions:
        raise ConfigError(
            f"the index's vectors have {like.dimensions} dimensions, but those of the added passages "
            f"{vectors.dimensions}; use the index's encoder ({made_by}), or build the index again"
        )


def store_vectors(
    directory: Path,
    step: VectorsStep,
    vectors: VectorSource,
    spool: Spool,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    *,
    progress: bool,
    like: VectorStore | None = None,
) -> StageUsage:
    """Write `vectors/` into the segment being built; returns what it took.

    Args:
        directory: the segment being built.
        step: the recipe's table.
        vectors: where the vectors come from.
        spool: the corpus.
        first: numbers of the first tier's passages.
        second: numbers of the second tier's passages that get vectors.
        progress: show a bar.
        like: the vectors of the index that the segment is added to, which decide how these are stored; None for a new
            index.
    """
    started, learned = time.perf_counter(), model_of(like)
    batches = vectors.batches(spool, first, second, progress=progress)
    if learned is not None:
        store = build_like(directory / FOLDER, batches, learned)
    else:
        store = VectorStore.build(
            directory / FOLDER,
            batches,
            storage=vectors.storage,
            sketch=step.sketch,
            encoder=vectors.fingerprint,
            encoder_name=vectors.name,
        )
    counts: dict[str, float] = {"vectors": len(store), "bytes": store.bytes}
    if isinstance(vectors, EncodedVectors):
        counts |= vectors.unread.counts()
    return StageUsage("vectors", time.perf_counter() - started, counts)


def second_with_vectors(
    recipe: Recipe, vectors: VectorSource, spool: Spool, second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The passages of the second tier that get vectors: all, or none where the recipe asks for none.

    Vectors that were encoded before may be of the first tier alone (`thresher encode --decision`).

    Args:
        recipe: how the index is built.
        vectors: where the vectors come from.
        spool: the corpus.
        second: numbers of the second tier's passages.
    """
    wanted = recipe.encodes_second_tier and vectors.has([spool.docnos[number] for number in second.tolist()])
    return second if wanted else second[:0]


def merge_vectors(directory: Path, chunks: Sequence[tuple[VectorStore, NDArray[np.int64]]]) -> StageUsage:
    """Write `vectors/` into a segment that others are merged into; returns what it took.

    Args:
        directory: the segment being built.
        chunks: the stores of segments and which of their rows come next, int64[n], in the order of the passage numbers
            of the new segment; nothing is written where there are none.

    Raises:
        ConfigError: the stores were not made like one another.
    """
    started = time.perf_counter()
    if not chunks:
        return StageUsage("vectors", 0.0, {"vectors": 0, "bytes": 0})
    store = copy_rows(directory / FOLDER, chunks)
    return StageUsage("vectors", time.perf_counter() - started, {"vectors": len(store), "bytes": store.bytes})
