"""An index split into shards: complete indexes that together hold its passages, with everything it froze.

Impacts are copied as they are stored, as a merge copies them, so that a passage has the same score in a shard as it had
in the index (`thresher.distributed.sharded` gives the shards one set of statistics). Each shard keeps the encoders, the
scale, the average length of BM25, the pruning, the routing of the tiers, texts, metadata and vectors. Deleted passages
are left out. A duplicate that was folded goes where the passage is that stands for it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from thresher.arguments import checked_call
from thresher.build.known import Known, document_of
from thresher.build.merge import Merge
from thresher.build.segment import Options
from thresher.checks import path_of, whole
from thresher.corpus.spool import docno_keys
from thresher.distributed.shard_file import write_shard_file
from thresher.errors import ArtifactError, InputError
from thresher.index.collection import open_collection, read_mask
from thresher.index.commit import CALIBRATION, ENCODERS, QUALITY, writing_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.build.known import KnownSegment
    from thresher.index.collection import Collection
    from thresher.index.commit import IndexDraft

By: TypeAlias = Literal["docno", "range"]
MOST = 4096
"""Shards that an index is split into at most."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What a split made.

    Attributes:
        path: the file that lists the shards, which `ShardedIndex.open` takes.
        shards: the folder of each.
        passages: how many each holds.
    """

    path: Path
    shards: tuple[Path, ...]
    passages: tuple[int, ...]


@checked_call
def split_index(
    index: str | Path,
    target: str | Path,
    shards: int,
    *,
    by: By = "docno",
    overwrite: bool = False,
    progress: bool = False,
) -> SplitReport:
    """Split the last commit of an index into shards, which are written into the folder `target`.

    Args:
        index: the index, which stays as it is.
        target: the folder for the shards `shard-0000`, ..., and `shards.toml`, which lists them.
        shards: how many, from 1 to 4,096.
        by: which passages go together: `docno`, by a hash of the docno, the passages of a document that was split by
            its own; `range`, those that are next to each other in the index.
        overwrite: replace shards that are there. Other files in the folder stay.
        progress: show progress bars.

    Raises:
        InputError: the number of shards is out of range, or `by` is neither.
        ArtifactError: there is no index, or there is something in the place of a shard.
    """
    count = whole("shards", shards, 1)
    if count > MOST:
        raise InputError(f"an index is split into {MOST} shards at most; got {count}")
    source, folder = path_of(index), path_of(target)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"shard-{number:04}" for number in range(count)]
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not overwrite:
        raise ArtifactError(
            f"{taken} is there already; give another folder, or overwrite it (overwrite=True, --overwrite)"
        )
    sizes = []
    with open_collection(source) as collection:
        known = Known(collection, lambda name: _deleted(collection, name))
        owners = _owners(known, count, by)
        starts = {segment.entry.name: segment.start for segment in known.segments}
        for number, path in enumerate(paths):

            def others(name: str, number: int = number) -> NDArray[np.bool_]:
                gone = _deleted(collection, name)
                elsewhere: NDArray[np.bool_] = owners[starts[name] : starts[name] + len(gone)] != number
                return gone | elsewhere

            with writing_index(path, overwrite=overwrite) as draft:
                _write(collection, Known(collection, others), draft, Options(progress=progress))
                draft.fields["shard"] = {"number": number, "of": count, "by": by, "commit": collection.commit.sha256}
            with open_collection(path) as made:
                sizes.append(made.live)
    file = folder / "shards.toml"
    write_shard_file(file, [[path.name] for path in paths])
    return SplitReport(file, tuple(paths), tuple(sizes))


def _deleted(collection: Collection, segment: str) -> NDArray[np.bool_]:
    """bool[records]: what the commit deleted of a segment."""
    entry = collection.commit.segment(segment)
    sizes = (*entry.passages, entry.dropped)
    if not entry.deletes:
        return np.zeros(sum(sizes), bool)
    masks = zip(read_mask(collection.path / entry.masks[0], entry), sizes, strict=True)
    return np.concatenate([np.zeros(size, bool) if mask is None else mask for mask, size in masks])


def _write(collection: Collection, known: Known, draft: IndexDraft, options: Options) -> None:
    """Write the passages that are not gone as a fresh index."""
    commit = collection.commit
    draft.fields.update({**commit.fields, "fields": commit.schema, "frozen": commit.frozen, "routing": commit.routing})
    for kind in (ENCODERS, QUALITY):
        if (collection.path / kind).is_dir():
            shutil.copytree(collection.path / kind, draft.path / kind)
    if (collection.path / CALIBRATION).is_file():
        shutil.copyfile(collection.path / CALIBRATION, draft.path / CALIBRATION)
    merge = Merge(collection, known, known.segments, draft.segment, options)
    merge.tiers()
    merge.vectors()
    merge.states()
    merge.pruning()


def _owners(known: Known, count: int, by: By) -> NDArray[np.int64]:
    """int64[records]: the shard that each record goes to."""
    owners = np.zeros(len(known), np.int64)
    place = _places(known) if by == "range" else None
    for segment in known.segments:
        for bound, (keys, _) in zip(segment.bounds, segment.records, strict=False):
            first, after = segment.start + bound, segment.start + bound + len(keys)
            hashed = (keys % np.uint64(count)).astype(np.int64)
            owners[first:after] = hashed if place is None else place(first, after, count)
    if by == "docno" and "document" in known.schema:
        _keep_documents(known, owners, count)
    _follow_representatives(known, owners)
    return owners


def _places(known: Known) -> Callable[[int, int, int], NDArray[np.int64]]:
    """Which shard the live records of a tier go to, where each gets an equal range of the tier's passages."""
    live = ~known.gone

    def place(first: int, after: int, count: int) -> NDArray[np.int64]:
        own = live[first:after]
        total = max(int(np.count_nonzero(own)), 1)
        rank = np.maximum(np.cumsum(own) - 1, 0)
        owners: NDArray[np.int64] = np.minimum(rank * count // total, count - 1)
        return owners

    return place


def _keep_documents(known: Known, owners: NDArray[np.int64], count: int) -> None:
    """Deal the passages of documents that were split by the hash of the document: they are changed together."""
    for record in np.flatnonzero(~known.gone).tolist():
        passage = known.passage(record)
        document = "" if passage is None else document_of(passage)
        if document:
            owners[record] = int(docno_keys([document])[0] % np.uint64(count))


def _follow_representatives(known: Known, owners: NDArray[np.int64]) -> None:
    """Deal what was folded to the shard of the passage that stands for it."""
    for segment in known.segments:
        if segment.decision is None or not segment.decision.folds:
            continue
        folded, docnos = segment.decision.folded, segment.decision.representatives()
        names = list(dict.fromkeys(docnos))  # `find` takes each once
        records = dict(zip(names, known.find(names).tolist(), strict=True))
        found = np.array([records[docno] for docno in docnos], np.int64)
        there = found >= 0
        owners[_dropped_start(segment) + folded[there]] = owners[found[there]]


def _dropped_start(segment: KnownSegment) -> int:
    """The first record of the dropped passages of a segment."""
    return segment.start + segment.bounds[-2]
