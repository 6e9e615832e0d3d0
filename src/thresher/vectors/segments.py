"""The vectors of an index with many segments as one store, and those of the segments that are added or merged.

Each segment holds the vectors of its own passages, the first tier's, then the second's where they have vectors. A
passage has a number in the collection: segments one after the other, deleted passages included. `SegmentVectors` finds
a passage's vector by that number, and scores what one store of all the vectors would score, to the last bit: a dense
score depends on one stored vector and the query alone, and a bound to stop by never changes the top k.

What a store learns from its vectors (the codebook of product quantisation, the axes of the sketch) is learned by the
first segment and used by those after it. So scores mean the same everywhere, and a merge copies what is stored.

A ranking belongs to the commit it was found in, whose numbers another commit may use for other passages. A ranking
whose source names its segments (`spans`) is therefore matched by segment: a segment never changes, and its name is
never used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import check_build, replaced, writing
from thresher.checks import is_a, places, shown
from thresher.errors import ArtifactError, ConfigError, DamagedArtifactError, InputError
from thresher.publish import MANIFEST
from thresher.ranking import Ranking
from thresher.vectors.codecs import CHUNK, Sketch, Stored, close_array, create_array
from thresher.vectors.store import FOLDER, FORMAT, KIND, VectorStore
from thresher.vectors.writer import Spool, as_batches, write_store

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from thresher.vectors.codecs import Decoded


MARK = f"{FOLDER}/{MANIFEST}"
"""What the manifest of a segment lists if it has vectors."""


class Span(NamedTuple):
    """The numbers of a segment's passages.

    Attributes:
        name: the segment's; no other segment ever has it.
        start: the number of its first passage in the collection.
        passages: how many it has in its tiers, deleted ones included.
    """

    name: str
    start: int
    passages: int


def _by_part(firsts: NDArray[np.int64], rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64] | slice]]:
    """The parts that rows are in, and which of the rows are in each; part i has the rows from `firsts[i]` on."""
    owners = np.searchsorted(firsts, rows, side="right") - 1
    found = np.unique(owners).tolist()
    if len(found) == 1:
        yield found[0], slice(None)
        return
    for part in found:
        yield part, np.flatnonzero(owners == part)


@dataclass(frozen=True, slots=True)
class _JoinedVectors:
    """Stored vectors one part after the other; part i has the rows `firsts[i]` to `firsts[i + 1]`."""

    parts: tuple[Decoded, ...]
    firsts: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.firsts[-1])

    @property
    def dimensions(self) -> int:
        return self.parts[0].dimensions

    def decode(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors = np.empty((len(rows), self.dimensions), np.float32)
        for part, which in _by_part(self.firsts, rows):
            vectors[which] = self.parts[part].decode(rows[which] - self.firsts[part])
        return vectors


@dataclass(frozen=True, slots=True)
class _JoinedSketch:
    """Sketches one part after the other, all with the same axes."""

    parts: tuple[Sketch, ...]
    firsts: NDArray[np.int64]

    def bounds(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        n, width = len(rows), self.parts[0].codes.shape[1]
        joined = Sketch(
            self.parts[0].rotation, np.empty((n, width), np.int8), np.empty(n, np.float32), np.empty((n, 2), np.float32)
        )
        for part, which in _by_part(self.firsts, rows):
            found = self.parts[part].at(rows[which] - self.firsts[part])
            joined.codes[which], joined.scales[which], joined.lengths[which] = found.codes, found.scales, found.lengths
        return joined.all_bounds(query)


class SegmentVectors(VectorStore):
    """The vectors of an index's segments as one store. Open one with `SegmentVectors.open_segments`.

    Positions go through the segments' stores one after the other; passages without vectors have none.

    Args:
        folder: where the segments are.
        spans: the segments in the order of the collection.
        stores: the store of each segment by its name; those without vectors have none.

    Attributes:
        spans: the segments.

    Raises:
        DamagedArtifactError: the stores are of different encoders or dimensions.
    """

    def __init__(self, folder: Path, spans: Sequence[Span], stores: Mapping[str, VectorStore]) -> None:
        self.spans = tuple(spans)
        self._folder, self._stores = folder, dict(stores)
        held = [(span, stores[span.name]) for span in self.spans if span.name in stores]
        known = [(span, store) for span, store in held if store.dimensions]
        filled = [(span, store) for span, store in known if len(store)] or known[:1] or held[:1]
        self._check(filled)
        opened = [store for _, store in filled]
        self._firsts = np.cumsum([0, *map(len, opened)]).astype(np.int64)
        self._starts = np.array([span.start for span, _ in filled], np.int64)
        self._parts = tuple(zip(self._firsts[:-1].tolist(), opened, strict=True))
        one = len(opened) == 1
        stored = opened[0].stored if one else _JoinedVectors(tuple(store.stored for store in opened), self._firsts)
        sketch = opened[0].sketch if one else _joined([store.sketch for store in opened], self._firsts)
        super().__init__(opened[0].manifest, None, None, stored, sketch)

    @classmethod
    def open_segments(
        cls,
        folder: Path,
        spans: Sequence[Span],
        earlier: SegmentVectors | None = None,
        having: Container[str] = (),
    ) -> SegmentVectors | None:
        """The vectors of these segments, None where they have none.

        Args:
            folder: holds a directory for each segment.
            spans: the segments in the order of the collection.
            earlier: the vectors of another commit of the same index; what both have is not opened again.
            having: segments that must have vectors, as their manifests say.

        Raises:
            ArtifactError: a segment is no longer there.
            DamagedArtifactError: a file is missing or inconsistent, or the vectors do not fit together.
        """
        known = {} if earlier is None or earlier._folder != folder else earlier._stores
        stores = {}
        for span in spans:
            directory = folder / span.name / FOLDER
            if span.name in known:
                stores[span.name] = known[span.name]
            elif span.name in having or directory.is_dir():
                stores[span.name] = _opened(directory)
        return cls(folder, spans, stores) if stores else None

    def _check(self, filled: Sequence[tuple[Span, VectorStore]]) -> None:
        first = filled[0][1]
        for span, store in filled:
            where = str(self._folder / span.name / FOLDER / "manifest.json")
            if store.docnos is not None or store.firsts is not None or len(store) > span.passages:
                problem = f"holds {len(store)} vectors by docno or for {span.passages} passages"
            elif (store.dimensions, store.encoder_fingerprint) != (first.dimensions, first.encoder_fingerprint):
                problem = (
                    f"holds vectors of {store.dimensions} dimensions by the encoder {store.encoder_fingerprint[:12]}, "
                    f"and the first segment {first.dimensions} by {first.encoder_fingerprint[:12]}"
                )
            else:
                continue
            raise DamagedArtifactError(where, f"{problem}; build the index again")

    def __reduce__(self) -> tuple[Callable[..., SegmentVectors], tuple[object, ...]]:
        """Pickled, and copied, by its path: opened again, and refused where a segment is no longer there."""
        builds = {name: store.manifest.sha256 for name, store in self._stores.items()}
        return _reopened, (self._folder.absolute(), self.spans, builds)

    def store_of(self, name: str) -> VectorStore | None:
        """The store of the segment with this name, None where it has no vectors; rows are numbers within it."""
        return self._stores.get(name)

    @property
    def parts(self) -> tuple[tuple[int, VectorStore], ...]:
        """The segments' stores and the position of the first vector of each."""
        return self._parts

    @property
    def bytes(self) -> int:
        """Size of the files of all segments."""
        return sum(store.bytes for store in self._stores.values())

    @cached_property
    def largest_length(self) -> float:
        """As that of a store of all the vectors."""
        return max(store.largest_length for _, store in self._parts)

    def of_commit(self, ranking: Ranking) -> VectorStore:
        """As `VectorStore.of_commit`; the source of a ranking offers the vectors of its commit as `vectors`."""
        spans = self._spans_of(ranking)
        if not spans or spans is self.spans or spans == self.spans:
            return self
        found = getattr(ranking._passages, "vectors", None)
        return found if isinstance(found, SegmentVectors) and found._folder == self._folder else self

    def find_ranking(self, ranking: Ranking) -> NDArray[np.int64]:
        """As `VectorStore.find_ranking`; passages of segments that this store lacks have no vector."""
        if not is_a(ranking, Ranking):
            raise InputError(f"vectors are found for a Ranking; got {shown(ranking)}")
        numbers, spans = ranking.numbers, self._spans_of(ranking)
        if not spans or spans is self.spans or spans == self.spans:
            return self.find_numbers(numbers)
        starts = {span.name: span.start for span in self.spans}
        translated = np.full(len(numbers), -1)
        for name, start, passages in spans:
            if name in starts:
                inside = (numbers >= start) & (numbers < start + passages)
                translated[inside] = numbers[inside] - start + starts[name]
        return self.find_numbers(translated)

    @checked_call
    def find_numbers(self, numbers: ArrayLike) -> NDArray[np.int64]:
        """Positions of the passages with these numbers in the collection, -1 for those without vectors."""
        wanted = places(numbers)
        positions = np.full(len(wanted), -1)
        for (first, store), start in zip(self._parts, self._starts.tolist(), strict=True):
            inside = (wanted >= start) & (wanted < start + len(store))
            positions[inside] = wanted[inside] - start + first
        return positions

    def numbers_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers in the collection of the passages at `positions`, int64[n]."""
        checked = self.checked_positions(positions)
        owners = np.searchsorted(self._firsts, checked, side="right") - 1
        return checked - self._firsts[owners] + self._starts[owners]

    @checked_call
    def positions_in(self, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which positions a mask by number in the collection allows, bool[len(store)]."""
        mask, last = self._mask(allowed), self.spans[-1].start + self.spans[-1].passages
        if len(mask) != last:
            raise InputError(f"a mask of {len(mask)} passages for an index that numbers {last}")
        starts = self._starts.tolist()
        return np.concatenate(
            [mask[start : start + len(store)] for (_, store), start in zip(self._parts, starts, strict=True)]
        )


def _joined(sketches: Sequence[object], firsts: NDArray[np.int64]) -> _JoinedSketch | None:
    """The sketches as one; None where a part has none, or has axes of its own: stopping goes by length then."""
    parts = tuple(sketch for sketch in sketches if isinstance(sketch, Sketch))
    if len(parts) < len(sketches):
        return None
    first = parts[0]
    same = all(p.codes.shape[1:] == first.codes.shape[1:] and np.array_equal(p.rotation, first.rotation) for p in parts)
    return _JoinedSketch(parts, firsts) if same else None


def _opened(directory: Path) -> VectorStore:
    """The vectors of a segment.

    Raises:
        ArtifactError: the segment was removed, which happens when no commit names it any more.
    """
    try:
        return VectorStore.open(directory)
    except (ArtifactError, FileNotFoundError) as err:
        if (directory.parent / MANIFEST).is_file():
            raise
        raise replaced(directory.parent.parent.parent) from err


def _reopened(folder: Path, spans: Sequence[Span], builds: Mapping[str, str]) -> SegmentVectors:
    """What pickled vectors become."""
    stores = {}
    for name, build in builds.items():
        path = folder / name / FOLDER
        stores[name] = _opened(path)
        check_build(path, stores[name].manifest, build)
    return SegmentVectors(folder, spans, stores)


def model_of(store: VectorStore | None) -> VectorStore | None:
    """The store of a segment whose codebook and axes added vectors take; None where none was learned from vectors."""
    if store is None:
        return None
    found = store.parts[0][1]
    return found if len(found) or _learned(found)[0].codebook is not None else None


def build_like(target: Path, batches: Iterable[ArrayLike], like: VectorStore) -> VectorStore:
    """Write the vectors of an added segment, stored as those of `like` are; keyed by passage number.

    Args:
        target: the directory to make.
        batches: float[n, dimensions], in the order of passage numbers.
        like: a store of another segment, opened from its directory.

    Raises:
        InputError: the vectors have other dimensions, or a value that does not fit.
        ArtifactError: `target` exists.
    """
    stored, sketch, fields = _learned(like)
    with writing(target, kind=KIND, format=FORMAT) as draft, Spool(draft.path / "spool") as spool:
        for batch in as_batches(batches):
            spool.append(batch)
        if not len(spool):
            spool.dimensions = like.dimensions
        if spool.dimensions != like.dimensions:
            raise InputError(
                f"the added vectors have {spool.dimensions} dimensions, and those of the index {like.dimensions}"
            )
        written = write_store(
            draft.path,
            spool,
            None,
            str(fields["storage"]),
            0 if sketch is None else sketch.codes.shape[1],
            codebook=stored.codebook,
            rotation=None if sketch is None else sketch.rotation,
        )
        draft.fields |= {**fields, **written, "passages": len(spool)}
    return VectorStore.open(target)


def copy_rows(target: Path, chunks: Sequence[tuple[VectorStore, NDArray[np.int64]]]) -> VectorStore:
    """Write the vectors of a merged segment: the stored rows of others, copied bit for bit.

    Args:
        target: the directory to make.
        chunks: stores of segments, opened from their directories, and which of their rows come next, int64[n]; at
            least one.

    Raises:
        ConfigError: the stores were not made like one another.
        ArtifactError: `target` exists.
    """
    given = [(store, store.checked_positions(rows)) for store, rows in chunks]
    filled = [one for one in given if model_of(one[0]) is not None]
    filled = filled or [one for one in given if one[0].dimensions][:1]  # all were deleted: their width is kept
    if not filled:
        empty = chunks[0][0]
        return VectorStore.build(
            target,
            [],
            storage=str(empty.manifest.fields["storage"]),
            encoder=empty.encoder_fingerprint,
            encoder_name=empty.encoder_name,
        )
    stored, sketch, fields = _learned(filled[0][0])
    sources = [(*_alike(store, stored, sketch), rows) for store, rows in filled]
    count = sum(len(rows) for _, rows in filled)
    with writing(target, kind=KIND, format=FORMAT) as draft:
        _copy(draft.path / "codes.npy", [(one.codes, rows) for one, _, rows in sources])
        if stored.scales is not None:
            _copy(draft.path / "scales.npy", [(one.scales, rows) for one, _, rows in sources])
        if stored.codebook is not None:
            np.save(draft.path / "codebook.npy", stored.codebook, allow_pickle=False)
        if sketch is not None:
            np.save(draft.path / "sketch_rotation.npy", sketch.rotation, allow_pickle=False)
            for name in ("codes", "scales", "lengths"):
                _copy(draft.path / f"sketch_{name}.npy", [(getattr(two, name), rows) for _, two, rows in sources])
        draft.fields |= {**fields, "documents": count, "vectors": count, "passages": count}
    return VectorStore.open(target)


def _copy(file: Path, sources: Sequence[tuple[NDArray[np.generic] | None, NDArray[np.int64]]]) -> None:
    """Write these rows of arrays of one type to a `.npy` file, one after the other."""
    arrays = [(array, rows) for array, rows in sources if array is not None]
    first = arrays[0][0]
    made = create_array(file, first.dtype, (sum(len(rows) for _, rows in arrays), *first.shape[1:]))
    place = 0
    for array, rows in arrays:
        for low in range(0, len(rows), CHUNK):
            some = rows[low : low + CHUNK]
            made[place : place + len(some)] = array[some]
            place += len(some)
    close_array(file, made)


def _learned(store: VectorStore) -> tuple[Stored, Sketch | None, Mapping[str, object]]:
    """The stored vectors and the sketch of a store that was opened from its directory, and what its manifest says."""
    stored, sketch = store.stored, store.sketch
    if not isinstance(stored, Stored) or not isinstance(sketch, Sketch | None) or store.docnos is not None:
        raise ConfigError("vectors of a segment are made like those of another segment, not of a whole index")
    return stored, sketch, store.manifest.fields


def _alike(store: VectorStore, stored: Stored, sketch: Sketch | None) -> tuple[Stored, Sketch | None]:
    """The stored vectors and the sketch of a store, where its rows mean what those of the first one mean.

    Raises:
        ConfigError: they do not.
    """
    own, own_sketch, _ = _learned(store)
    same = (
        own.codes.dtype == stored.codes.dtype
        and own.codes.shape[1:] == stored.codes.shape[1:]
        and _equal(own.codebook, stored.codebook)
        and (own_sketch is None) == (sketch is None)
    )
    if same and own_sketch is not None and sketch is not None:
        same = own_sketch.codes.shape[1:] == sketch.codes.shape[1:] and _equal(own_sketch.rotation, sketch.rotation)
    if not same:
        raise ConfigError("the segments' vectors are not stored alike, and cannot be merged; build the index again")
    return own, own_sketch


def _equal(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
