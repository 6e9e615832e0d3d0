"""What an index knows already: every passage that it was given and did not forget, by docno and content.

These are the passages of both tiers, those that were folded into another one, and those that pruning dropped. They are
numbered through the segments, in each the first tier's passages first, then the second's, then the dropped ones. What
is looked up are 64-bit keys (`thresher.index.records`); a docno's string is read only where its key is found. A lookup
of many keys reads all records once; from the third lookup on the keys are kept sorted, in 16 bytes a passage.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.corpus.spool import docno_keys
from thresher.index.column_writer import ColumnWriter
from thresher.index.columns import Columns
from thresher.index.records import open_records
from thresher.index.uninvert import count_deleted
from thresher.prune.decision import FOLDER
from thresher.prune.dropped import StoredDecision, StoredDecisions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.index.collection import Collection, Part
    from thresher.index.commit import SegmentEntry
    from thresher.index.filters import Where
    from thresher.records import Passage

_SCANS = 2
"""Lookups that read all keys before these are sorted."""
_PARTS = 64
"""Numbers of a document's passages that are looked up at a time."""


@dataclass(frozen=True, slots=True)
class KnownSegment:
    """A segment and its records.

    Attributes:
        entry: as the commit names it.
        parts: its tiers.
        decision: its dropped passages; None where nothing was pruned.
        start: number of its first record.
        bounds: where the records of each tier begin, and of the dropped ones, and where they end, within the segment.
    """

    entry: SegmentEntry
    parts: tuple[Part, ...]
    decision: StoredDecision | None
    start: int
    bounds: tuple[int, ...]

    @property
    def records(self) -> list[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
        """Docno keys and content keys of each tier and of the dropped ones."""
        tiers = [open_records(part.layout.path, part.size) for part in self.parts]
        return tiers if self.decision is None else [*tiers, (self.decision.keys, self.decision.contents)]


class Known:
    """The records of an open collection, and which of them a writer has given up.

    Args:
        collection: the index at one commit.
        deleted: gives bool[records] of a segment: what the commit deleted or forgot of it.

    Attributes:
        segments: in the order of the collection.
        gone: bool[records], deleted or forgotten, by the commit or since.
        changed: whether any is gone that was not by the commit.
    """

    def __init__(self, collection: Collection, deleted: Callable[[str], NDArray[np.bool_]]) -> None:
        self.segments: list[KnownSegment] = []
        masks, start = [], 0
        for entry in collection.commit.segments:
            parts = tuple(part for part in collection.parts if part.segment is entry)
            mask = deleted(entry.name)
            sizes = [part.size for part in parts]
            decision = None
            if (parts[0].folder / FOLDER).is_dir():
                forgotten = mask[sum(sizes) :]
                decision = StoredDecision(parts[0].folder / FOLDER, sizes, forgotten if forgotten.any() else None)
                sizes = [*sizes, len(decision)]
            bounds = tuple(np.cumsum([0, *sizes]).tolist())
            self.segments.append(KnownSegment(entry, parts, decision, start, bounds))
            masks.append(mask[: bounds[-1]])
            start += bounds[-1]
        self._committed = np.concatenate(masks)
        self.gone = self._committed.copy()
        self._lookups, self.schema = 0, collection.schema

    def __len__(self) -> int:
        """Records, with those that are gone."""
        return len(self.gone)

    @property
    def changed(self) -> bool:
        """Whether a record is gone that the commit still has."""
        return bool((self.gone != self._committed).any())

    def restore(self) -> None:
        """Take back what is gone since the commit."""
        self.gone = self._committed.copy()

    def newly_gone(self, segment: KnownSegment) -> NDArray[np.int64]:
        """Numbers within the segment of what is gone since the commit, int64[n]."""
        own = slice(segment.start, segment.start + segment.bounds[-1])
        return np.flatnonzero(self.gone[own] & ~self._committed[own])

    def locate(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The record of each docno key, int64[n]; -1 for those without one. No docno is compared yet."""
        found = np.full(len(keys), -1, np.int64)
        if not len(keys):
            return found
        self._lookups += 1
        if self._lookups > _SCANS:
            known, records = self._sorted
            low, high = np.searchsorted(known, keys), np.searchsorted(known, keys, "right")
            once = np.flatnonzero(high - low == 1)
            found[once] = records[low[once]]
            for row in np.flatnonzero(high - low > 1).tolist():  # replaced before: all but one are gone
                several = records[low[row] : high[row]]
                found[row] = next(iter(several[~self.gone[several]].tolist()), -1)
            held = np.flatnonzero(found >= 0)
            found[held[self.gone[found[held]]]] = -1
            return found
        order = np.argsort(keys, kind="stable")
        wanted = keys[order]
        for start, known in self._keys():
            places = np.minimum(np.searchsorted(wanted, known), len(wanted) - 1)
            here = np.flatnonzero((wanted[places] == known) & ~self.gone[start : start + len(known)])
            found[order[places[here]]] = here + start
        return found

    def _keys(self) -> Iterable[tuple[int, NDArray[np.uint64]]]:
        for segment in self.segments:
            for bound, (keys, _) in zip(segment.bounds, segment.records, strict=False):
                yield segment.start + bound, keys

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """All keys in ascending order, uint64[records], and the record of each, int64[records]."""
        keys = np.concatenate([np.zeros(0, np.uint64), *(keys for _, keys in self._keys())])
        order = np.argsort(keys, kind="stable")
        return keys[order], order

    def contents(self, records: NDArray[np.int64]) -> NDArray[np.uint64]:
        """The content key of each record, uint64[n]."""
        out = np.zeros(len(records), np.uint64)
        for segment in self.segments:
            for bound, (_, contents) in zip(segment.bounds, segment.records, strict=False):
                own = np.flatnonzero(
                    (records >= segment.start + bound) & (records < segment.start + bound + len(contents))
                )
                out[own] = contents[records[own] - (segment.start + bound)]
        return out

    def is_dropped(self, records: NDArray[np.int64]) -> NDArray[np.bool_]:
        """bool[n]: whether pruning dropped these passages, and they were not folded into another one."""
        out = np.zeros(len(records), bool)
        for segment in self.segments:
            if segment.decision is not None:
                first, after = (segment.start + bound for bound in segment.bounds[-2:])
                own = (records >= first) & (records < after)
                out[own] = ~np.isin(records[own] - first, segment.decision.folded)
        return out

    def docno(self, record: int) -> str:
        """The docno of a record."""
        segment, number = self._segment(record)
        for part, bound in zip(segment.parts, segment.bounds, strict=False):
            if number < bound + part.size:
                return part.layout.docnos[number - bound]
        decision = _decided(segment)
        return decision.docno(int(decision.positions[number - segment.bounds[-2]]))

    def passage(self, record: int) -> Passage | None:
        """The passage of a record; None where it was dropped and not folded, and its text is not kept."""
        segment, number = self._segment(record)
        for part, bound in zip(segment.parts, segment.bounds, strict=False):
            if number < bound + part.size:
                return part.layout.passage(number - bound)
        return _decided(segment).passage(number - segment.bounds[-2])

    def find(self, docnos: Sequence[str]) -> NDArray[np.int64]:
        """The record of each of these docnos, int64[n]; -1 for those that are not known, or gone."""
        found = self.locate(docno_keys(docnos))
        for row in np.flatnonzero(found >= 0).tolist():
            if self.docno(int(found[row])) != docnos[row]:
                found[row] = -1
        return found

    def whole_documents(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """These records, and those of all other passages of the documents that they were split from, int64[m]."""
        if "document" not in self.schema:  # which every passage of a split document has
            return np.unique(records)
        documents = {name for record in records.tolist() if (name := self._document(record))}
        taken = [records]
        pending, first = sorted(documents), 1
        while pending:
            numbers = range(first, first + _PARTS)
            names = [name if n == 1 else f"{name}#{n}" for name in pending for n in numbers]
            found = self.find(names).reshape(len(pending), _PARTS)
            live = [(name, [r for r in row if r >= 0]) for name, row in zip(pending, found.tolist(), strict=True)]
            taken += [np.array([r for r in row if self._document(r) in (name, None)], np.int64) for name, row in live]
            pending, first = [name for name, row in live if row], first + _PARTS
        return np.unique(np.concatenate(taken))

    def matching(self, where: Where) -> NDArray[np.int64]:
        """Records of the passages that fit a filter, also of those that are folded into others, int64[n]."""
        found = [np.zeros(0, np.int64)]
        for segment in self.segments:
            for part, bound in zip(segment.parts, segment.bounds, strict=False):
                start = segment.start + bound
                fits = part.columns.mask(where) & ~self.gone[start : start + part.size]
                found.append(np.flatnonzero(fits) + start)
            if segment.decision is not None:
                start = segment.start + segment.bounds[-2]
                places = segment.decision.folded
                places = places[~self.gone[places + start]]
                folded = [segment.decision.passage(place) for place in places.tolist()]
                kept = [passage for passage in folded if passage is not None]
                found.append(places[fitting([kept], len(kept), where, self.schema)] + start)
        return np.concatenate(found)

    def is_empty(self, segment: KnownSegment) -> bool:
        """Whether all of a segment is gone."""
        return bool(self.gone[segment.start : segment.start + segment.bounds[-1]].all())

    def members(self, docnos: Iterable[str]) -> list[int]:
        """Records of the passages that are folded into passages with these docnos, and are not gone."""
        decided = [segment for segment in self.segments if segment.decision is not None]
        found: set[int] = set()
        for docno in docnos:
            for number, place in self._decisions.members(docno):
                segment = decided[number]
                found.add(segment.start + segment.bounds[-2] + place)
        return sorted(record for record in found if not self.gone[record])

    @property
    def folds(self) -> bool:
        """Whether anything is folded."""
        return self._decisions.folds

    @cached_property
    def _decisions(self) -> StoredDecisions:
        return StoredDecisions([segment.decision for segment in self.segments if segment.decision is not None])

    def _segment(self, record: int) -> tuple[KnownSegment, int]:
        """The segment of a record, and the record's number in it."""
        segment = next(one for one in self.segments if record < one.start + one.bounds[-1])
        return segment, record - segment.start

    def _document(self, record: int) -> str | None:
        """The document that a passage was split from, empty if from none; None where that is not kept."""
        passage = self.passage(record)
        return None if passage is None else document_of(passage)


def fitting(
    chunks: Iterable[Sequence[Passage]], count: int, where: Where, schema: Mapping[str, str], folder: Path | None = None
) -> NDArray[np.bool_]:
    """Which of `count` passages fit a filter, bool[count].

    Args:
        chunks: the passages, some at a time.
        count: how many they are.
        where: the filter, which fits the schema.
        schema: type of each metadata field by its name.
        folder: for temporary files; default: the system's.
    """
    with tempfile.TemporaryDirectory(prefix="fields-", dir=folder) as name:
        directory = Path(name) / "columns"
        columns = ColumnWriter(directory, schema)
        for chunk in chunks:
            columns.add(chunk)
        columns.close()
        return Columns.open(directory, schema, count).mask(where)


def document_of(passage: Passage) -> str:
    """The docno of the document that a passage was split from (`thresher.corpus.split`); empty if from none."""
    if not {"document", "start", "end"} <= passage.metadata.keys():
        return ""
    name = str(passage.metadata["document"])
    own = passage.docno == name or re.fullmatch(r"#\d+", passage.docno.removeprefix(name)) is not None
    return name if own else ""


def term_counts(
    segment: KnownSegment, numbers: NDArray[np.int64]
) -> dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """By tier with BM25 weights: terms of the passages with these numbers, and how many of them have each."""
    found = {}
    for part, bound in zip(segment.parts, segment.bounds, strict=False):
        own = numbers[(numbers >= bound) & (numbers < bound + part.size)] - bound
        if len(own) and part.layout.counts.idf:
            mask = np.zeros(part.size, bool)
            mask[own] = True
            counts = count_deleted(part.layout, mask)
            terms = np.flatnonzero(counts)
            found[part.tier] = terms.astype(np.uint32), counts[terms].astype(np.uint32)
    return found


def _decided(segment: KnownSegment) -> StoredDecision:
    if segment.decision is None:
        raise IndexError(f"segment {segment.entry.name} has no such record")
    return segment.decision
