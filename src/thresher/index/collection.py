"""A collection: an index as one commit has it, opened. It never changes, whatever writers do.

Each tier of each segment is a **part**. Passages are numbered through the parts, segment by segment, the first tier of
a segment before its second; deleted passages keep their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.artifact import busy, check_files, read_manifest, replaced, verify_files
from thresher.checks import path_of
from thresher.errors import ArtifactError, DamagedArtifactError
from thresher.files import ABSENT
from thresher.index.columns import Columns
from thresher.index.commit import ENCODERS, INDEX, SECOND, Commit, SegmentEntry
from thresher.index.layout import open_layout
from thresher.index.lease import ATTEMPTS, Lease, take_lease
from thresher.manifest import load_manifest
from thresher.publish import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.layout import Layout

    TermCounts = tuple[NDArray[np.uint32], NDArray[np.uint32]]


@dataclass(frozen=True, eq=False)
class Part:
    """One tier of one segment.

    Attributes:
        layout: its files.
        folder: of the segment.
        segment: the segment, as the commit names it.
        tier: 1 or 2.
        start: number of its first passage in the collection.
        columns: its metadata fields.
        deleted: bool[passages] by number within the part, None where nothing is deleted.
        deleted_counts: terms uint32[n], ascending, and how many deleted passages had each, uint32[n]; None where
            nothing is deleted.
    """

    layout: Layout
    folder: Path
    segment: SegmentEntry
    tier: int
    start: int
    columns: Columns
    deleted: NDArray[np.bool_] | None = None
    deleted_counts: TermCounts | None = None

    @property
    def size(self) -> int:
        """Passages, with those that are deleted."""
        return self.layout.counts.passages

    @property
    def live(self) -> int:
        """Passages that are not deleted."""
        return self.size - self.segment.deleted[self.tier - 1]


class Collection:
    """The parts of an index at one commit, and the lease that keeps them.

    Attributes:
        path: the index, absolute.
        commit: the commit.
        parts: in the order of the passage numbers.
    """

    def __init__(self, lease: Lease, parts: tuple[Part, ...]) -> None:
        self.path, self.commit, self.parts = lease.path, lease.commit, parts
        self._lease = lease

    @property
    def schema(self) -> Mapping[str, str]:
        """Type of each metadata field by its name."""
        return self.commit.schema

    @property
    def size(self) -> int:
        """Passages of all parts, with those that are deleted."""
        return self.commit.passages

    @property
    def live(self) -> int:
        """Passages that are not deleted."""
        return self.commit.live

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """int64[parts + 1]: number of each part's first passage, and of all passages."""
        return np.array([*(part.start for part in self.parts), self.size], np.int64)

    def is_current(self) -> bool:
        """Whether the index has had no commit since; looks at one file."""
        return self._lease.is_current()

    def close(self) -> None:
        """Give the lease back; it also ends with the last reference to the collection. What is mapped stays mapped."""
        self._lease.close()

    def __reduce__(self) -> tuple[Callable[..., Collection], tuple[object, ...]]:
        """A collection is pickled by path and commit: that commit is opened again, and refused where it is gone."""
        return open_collection, (self.path, self.commit.number, self.commit.sha256)

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_collection(
    path: str | Path, number: int | None = None, sha256: str = "", earlier: Collection | None = None
) -> Collection:
    """Open the index `path` by memory mapping: at its last commit, or at the one with this number and checksum.

    Args:
        path: the index's directory.
        number: of the commit.
        sha256: checksum of the commit.
        earlier: the index at another commit; what both have in common is taken from there.

    Raises:
        ArtifactError: there is no index, or it has another format; or that commit is gone.
        DamagedArtifactError: a file is missing, has the wrong size, or cannot be read.
    """
    path = path_of(path)
    for _ in range(ATTEMPTS):
        lease = take_lease(path, number, sha256)
        try:
            return Collection(lease, tuple(_parts(lease.path, lease.commit, earlier)))
        except (ArtifactError, *ABSENT) as err:
            if lease.in_place():
                raise
            if number is not None:
                raise replaced(path) from err
    raise busy(path)


def verify(path: str | Path) -> tuple[str, int, int]:
    """Check every byte of an artifact against its manifest; of an index, at the commit that is the last one now.

    Returns:
        its kind, and how many files, of how many bytes, were read.

    Raises:
        ArtifactError: there is no artifact.
        DamagedArtifactError: naming the first file whose content is not what was written.
    """
    path = path_of(path)
    manifest = load_manifest(path)
    if manifest.kind != INDEX:
        return manifest.kind, *verify_files(path, read_manifest(path).files)
    with open_collection(path) as collection:
        return INDEX, *verify_files(path, collection.commit.files)


def _parts(path: Path, commit: Commit, earlier: Collection | None) -> Iterator[Part]:
    """The parts of a commit of the index `path`; what `earlier` has too is not opened again."""
    known = {} if earlier is None else earlier.commit.files
    check_files(path, {name: entry for name, entry in commit.files.items() if known.get(name) != entry})
    parts = {} if earlier is None else {(part.segment.name, part.tier): part for part in earlier.parts}
    start = 0
    for entry in commit.segments:
        old = [parts[entry.name, tier] for tier in (1, 2) if (entry.name, tier) in parts]
        if not old or old[0].segment.sha256 != entry.sha256:
            old = []
        layouts = [part.layout for part in old] or _open_layouts(path, commit, entry)
        if old and old[0].segment.deletes == entry.deletes:
            masks, counts = [part.deleted for part in old], [part.deleted_counts for part in old]
        else:
            masks, counts = _deletes(path, entry)
        for i, layout in enumerate(layouts):
            columns = old[i].columns if old else None
            if columns is None or columns.schema != commit.schema:
                columns = Columns.open(layout.path / "fields", commit.schema, layout.counts.passages)
            yield Part(layout, path / entry.folder, entry, i + 1, start, columns, masks[i], counts[i])
            start += layout.counts.passages


def _open_layouts(path: Path, commit: Commit, entry: SegmentEntry) -> list[Layout]:
    """The tiers of a segment.

    Raises:
        DamagedArtifactError: it is not what the commit says, or a file is damaged.
    """
    folder = path / entry.folder
    layouts = [open_layout(folder, path / ENCODERS)]
    if layouts[0].manifest.sha256 != entry.sha256:
        raise DamagedArtifactError(str(folder / MANIFEST), "is not that of the commit; build the index again")
    if len(entry.passages) > 1:
        layouts.append(open_layout(folder / SECOND, path / ENCODERS))
    if [layout.counts.passages for layout in layouts] != list(entry.passages):
        problem = f"has other numbers of passages than commit {commit.number} says; build the index again"
        raise DamagedArtifactError(str(folder / "layout.json"), problem)
    return layouts


def _deletes(path: Path, entry: SegmentEntry) -> tuple[list[NDArray[np.bool_] | None], list[TermCounts | None]]:
    """By tier of a segment: which passages are deleted, and the counts of their terms."""
    if not entry.deletes:
        return [None, None], [None, None]
    mask, counts = (path / name for name in entry.masks)
    return list(read_mask(mask, entry))[:-1], list(read_counts(counts))


def joint_vocabulary(parts: Sequence[Part]) -> tuple[list[str], list[NDArray[np.uint32] | None]]:
    """The terms of parts that one encoder made, and for each part its term ids' new ones; None where they stay.

    BM25 parts have what occurs in their passages, in bytewise order; purely learned ones all have the encoder's terms.
    """
    words = [part.layout.words for part in parts]
    if not parts[0].layout.counts.idf or len(parts) == 1:
        return words[0], [None for _ in parts]
    joint = sorted(set().union(*words), key=lambda word: word.encode("utf-8", "surrogatepass"))
    numbers = {word: number for number, word in enumerate(joint)}
    return joint, [np.fromiter(map(numbers.__getitem__, own), np.uint32, len(own)) for own in words]


def read_mask(file: Path, entry: SegmentEntry) -> Iterator[NDArray[np.bool_] | None]:
    """By tier, and of the dropped passages, bool[passages]: which are deleted; None where none is.

    Raises:
        DamagedArtifactError: the file does not hold that.
    """
    packed = np.frombuffer(_content(file), np.uint8)
    n = sum(entry.passages) + entry.dropped
    if len(packed) != -(-n // 8):
        raise DamagedArtifactError(str(file), f"is not a mask of {n} passages; build the index again")
    whole, first = np.unpackbits(packed, count=n).view(np.bool_), 0
    for passages, deleted in zip((*entry.passages, entry.dropped), (*entry.deleted, None), strict=True):
        mask, first = whole[first : first + passages], first + passages
        found = int(np.count_nonzero(mask))
        if deleted is not None and found != deleted:
            raise DamagedArtifactError(str(file), f"has not the {deleted} deletes of the commit; build the index again")
        mask.flags.writeable = False
        yield mask if found else None


def read_counts(file: Path) -> Iterator[TermCounts]:
    """By tier: terms, ascending, and how many deleted passages had each.

    Raises:
        DamagedArtifactError: the file does not hold that.
    """
    content = _content(file)
    numbers = np.frombuffer(content, np.uint32, len(content) // 4)
    if len(content) % 4 or len(numbers) < 2 or len(numbers) != 2 + 2 * int(numbers[:2].sum()):
        raise DamagedArtifactError(str(file), "does not hold counts of terms; build the index again")
    first = 2
    for n in numbers[:2].tolist():
        terms, counts = numbers[first : first + 2 * n].reshape(n, 2).T
        first += 2 * n
        yield np.ascontiguousarray(terms), np.ascontiguousarray(counts)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except ABSENT as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); build the index again") from err
