"""Segments merged into one: their live passages, in order, with the impacts that they have.

Rows are taken from the posting lists, docnos and texts are copied as they are stored, so nothing is analysed or encoded
again, and the new segment answers as a fresh one of the surviving passages with the same frozen statistics would, to
the last bit. A merge makes one commit. Readers go on with the segments they have; a merge that is killed leaves the
last commit, and the next writer removes what it had written.
"""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from thresher import artifact
from thresher.build.changes import MergeReport
from thresher.build.folding import EXACT, ExactWriter, open_exact
from thresher.build.known import Known
from thresher.build.merging import planned_merges
from thresher.build.recipe import Recipe
from thresher.build.segment import vectors_of
from thresher.build.states import merge_states, stores_of
from thresher.build.vectors import merge_vectors
from thresher.corpus.spool import docno_keys
from thresher.errors import ThresherError
from thresher.index.builder import IndexBuilder
from thresher.index.collection import joint_vocabulary, open_collection
from thresher.index.column_writer import ColumnWriter
from thresher.index.commit import SECOND
from thresher.index.layout import FORMAT, KIND
from thresher.index.records import open_records
from thresher.index.uninvert import uninvert
from thresher.prune.decision import FOLDER, TIER_ONE, TIER_TWO, Decision, write_decision
from thresher.prune.dropped import Dropped
from thresher.records import SparseBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from thresher.build.known import KnownSegment
    from thresher.build.segment import Options
    from thresher.index.collection import Collection, Part
    from thresher.index.commit import SegmentDraft, SegmentEntry
    from thresher.index.memory import MemoryLimit
    from thresher.index.transaction import Transaction

_log = logging.getLogger(__name__)
MERGING = "thresher-merge"
"""Name of the thread that merges in the background."""
POSTINGS = 2**26
"""Postings of a part that are turned into rows at a time, about 600 MB."""
ROW_BYTES = 9
"""Bytes that such a posting takes."""
_CHUNK = 4096


def merge_index(
    transaction: Transaction, *, all: bool = False, small: bool = False, refit: bool = False, options: Options
) -> MergeReport:
    """Merge segments of an index, one commit a group.

    Args:
        transaction: of the index; nothing is pending in it.
        all: merge all segments into one.
        small: only what is quickly merged.
        refit: fit the average length of BM25 anew, which merges all segments.
        options: for progress bars and the limit on memory.
    """
    started, merged, made, passages = time.perf_counter(), 0, 0, 0
    for group in planned_merges(transaction.base.segments, all=all, small=small, refit=refit):
        collection = open_collection(transaction.path)
        collection.close()  # the merge's own commit removes what it merged; no other writer can
        _merge(transaction, collection, group, options, refit=refit)
        merged += len(group)
        made += 1
        passages += sum(entry.live for entry in group)
    base = transaction.base
    return MergeReport(base.number, merged, made, len(base.segments), passages, time.perf_counter() - started)


def _merge(
    transaction: Transaction,
    collection: Collection,
    group: Sequence[SegmentEntry],
    options: Options,
    *,
    refit: bool,
) -> None:
    """Merge a group of segments in one commit."""
    known = Known(collection, transaction.deleted)
    names = {entry.name for entry in group}
    segments = [segment for segment in known.segments if segment.entry.name in names]
    draft = transaction.segment(before=group[0].name)
    fields: dict[str, Any] = {}
    try:
        merge = Merge(collection, known, segments, draft, options)
        if refit:
            from thresher.build.refit import refit_tiers

            fields = refit_tiers(transaction, merge)
        else:
            merge.tiers()
        merge.vectors()
        merge.states()
        merge.pruning()
        for name in names:
            transaction.drop(name)
        transaction.commit(**fields)
    except BaseException:
        transaction.discard()
        raise


def merge_later(path: Path, all: bool, refit: bool) -> None:
    """Merge the segments of an index in a thread of its own; what goes wrong is logged."""
    from thresher.build.writer import IndexWriter

    try:
        with IndexWriter.open(path) as writer:
            writer.merge(all=all, refit=refit)
    except (ThresherError, OSError) as err:
        _log.warning("%s was not merged: %s", path, err)


class Merge:
    """One merge: the live passages of some segments of a collection, written into a new segment.

    Args:
        collection: the index.
        known: its records.
        segments: those that are merged, in order.
        draft: the new segment.
        options: for progress bars.
    """

    def __init__(
        self,
        collection: Collection,
        known: Known,
        segments: Sequence[KnownSegment],
        draft: SegmentDraft,
        options: Options,
    ) -> None:
        self.collection, self.known, self.segments, self.draft = collection, known, segments, draft
        self.recipe = Recipe.model_validate(collection.commit.fields.get("recipe") or {})
        self.progress, self.memory = options.progress, options.memory

    def parts(self, tier: int) -> list[tuple[Part, NDArray[np.bool_]]]:
        """The parts of a tier that are merged, and which of their passages live, by number."""
        found = []
        for segment in self.segments:
            for part, bound in zip(segment.parts, segment.bounds, strict=False):
                if part.tier == tier:
                    start = segment.start + bound
                    found.append((part, ~self.known.gone[start : start + part.size]))
        return found

    def tiers(self) -> None:
        """Write both tiers."""
        self.tier(1)
        if any(live.any() for _, live in self.parts(2)):
            self.tier(2)

    def tier(self, tier: int) -> None:
        """Write a tier by copying what is stored."""
        parts, order, schema = self.parts(tier), self.recipe.index.order, self.collection.schema
        encoder = parts[0][0].layout.manifest.fields["encoder"]
        if tier == TIER_ONE:
            counts = merge_tier(self.draft.path, parts, order, schema, self.progress, self.memory)
            self.draft.fields.update(counts=counts, encoder=encoder)
            return
        with artifact.writing(self.draft.path / SECOND, kind=KIND, format=FORMAT) as made:
            counts = merge_tier(made.path, parts, "source", schema, self.progress, self.memory)
            made.fields.update(counts=counts, encoder=encoder, tier=TIER_TWO)

    def vectors(self) -> None:
        """Write the vectors of the surviving passages."""
        store = vectors_of(self.collection)
        if store is None:
            return
        chunks = []
        for tier in (1, 2):
            for segment in self.segments:
                own = store.store_of(segment.entry.name)
                if own is None or tier > len(segment.parts):
                    continue
                start, size = segment.bounds[tier - 1], segment.parts[tier - 1].size
                live = ~self.known.gone[segment.start + start : segment.start + start + size]
                numbers = np.flatnonzero(live) + start
                chunks.append((own, numbers[numbers < len(own)]))
                if numbers.size > chunks[-1][1].size:  # rows that follow would be those of other passages
                    break
        merge_vectors(self.draft.path, chunks)

    def states(self) -> None:
        """Write the states of the surviving passages of the first tier."""
        stores = stores_of(self.collection)
        if not stores:
            return
        chunks = []
        for segment in self.segments:
            first, after = segment.bounds[:2]
            live = ~self.known.gone[segment.start + first : segment.start + after]
            chunks.append((segment.entry.name, np.flatnonzero(live)))
        merge_states(self.draft.path, stores, chunks)

    def pruning(self) -> None:
        """Write the decisions of the surviving passages, as one."""
        decided = [segment for segment in self.segments if segment.decision is not None]
        if not decided:
            return
        policy = artifact.read_manifest(decided[0].decision.path).fields  # type: ignore[union-attr]
        decision, dropped, docnos = merged_decision(self.known, self.segments)
        self.draft.fields["dropped"] = decision.counts()["dropped"]
        write_decision(
            self.draft.path / FOLDER, decision, docnos, corpus_fingerprint="",
            estimator=str(policy.get("estimator_fingerprint", "")), policy=policy.get("policy") or {}, dropped=dropped,
        )  # fmt: skip


def merge_tier(
    directory: Path,
    parts: Sequence[tuple[Part, NDArray[np.bool_]]],
    order: str,
    schema: Mapping[str, str],
    progress: bool,
    memory: MemoryLimit | None,
) -> dict[str, Any]:
    """Write the live passages of parts of one tier as one layout; returns its counts."""
    vocabulary, renumbered = joint_vocabulary([part for part, _ in parts])
    layouts = [part.layout for part, _ in parts]
    counts, lexical = layouts[0].counts, layouts[0].counts.idf
    builder = IndexBuilder(
        directory, vocabulary, bits=counts.bits, order=order, scale=counts.scale, progress=progress,  # type: ignore[arg-type]
        memory=memory,
    )  # fmt: skip
    columns = ColumnWriter(directory / "fields", schema)
    folds = all((layout.path / EXACT).is_file() for layout in layouts)
    exact = ExactWriter(directory) if folds else None
    total = sum(int(np.count_nonzero(live)) for _, live in parts)
    tokens = []
    with tqdm(desc="merging", total=total, unit=" passages", disable=not progress, mininterval=0.5, delay=1) as bar:
        for (part, live), terms in zip(parts, renumbered, strict=True):
            for numbers, batch in live_rows(part, live, _at_a_time(memory)):
                mapped = batch if terms is None else SparseBatch(batch.indptr, terms[batch.terms], batch.weights)
                _copy(builder, part, numbers, mapped)
                columns.add_columns(part.columns, numbers)
                bar.update(len(numbers))
            if lexical and part.layout.tokens is not None:
                tokens.append(part.layout.tokens[live])
            if exact is not None:
                exact.copy(open_exact(part.layout.path, part.size)[live])
    if exact is not None:
        exact.close()
    made = builder.finish(np.concatenate(tokens) if lexical else None)
    made["bytes"] |= columns.close()
    return made


def _at_a_time(memory: MemoryLimit | None) -> int:
    """Postings that are turned into rows at a time."""
    return POSTINGS if memory is None else min(max(memory.left() // (2 * ROW_BYTES), 2**16), POSTINGS)


def live_rows(
    part: Part, live: NDArray[np.bool_], postings: int = POSTINGS
) -> Iterator[tuple[NDArray[np.int64], SparseBatch]]:
    """Numbers of the live passages of a part, and their rows, about as many `postings` at a time."""
    n = part.layout.counts
    ranges = max(-(-n.postings // postings), 1)
    bounds = np.linspace(0, n.passages, ranges + 1).astype(np.int64).tolist()
    for first, after in pairwise(bounds):
        numbers = np.flatnonzero(live[first:after]) + first
        if not len(numbers):
            continue
        batch = uninvert(part.layout, live, first, after).batch(n.scale)
        for at in range(0, len(numbers), 2**16):
            stop = min(at + 2**16, len(numbers))
            low, high = int(batch.indptr[at]), int(batch.indptr[stop])
            yield (
                numbers[at:stop],
                SparseBatch(batch.indptr[at : stop + 1] - low, batch.terms[low:high], batch.weights[low:high]),
            )


def _copy(builder: IndexBuilder, part: Part, numbers: NDArray[np.int64], batch: SparseBatch) -> None:
    """Add stored passages to a builder, as they are."""
    layout = part.layout
    keys, contents = open_records(layout.path, part.size)
    builder.copy(
        layout.docnos.several(numbers), layout.passages.several(numbers), keys[numbers], contents[numbers], batch
    )


def merged_decision(known: Known, segments: Sequence[KnownSegment]) -> tuple[Decision, Dropped, list[str]]:
    """The decisions of the surviving passages of some segments: tier 1's, tier 2's and the dropped ones, in order."""
    tiers, reasons, packed, keys, contents = [], [], [], [], []
    junk: dict[int, str] = {}
    docnos: list[str] = []
    stand_for: dict[int, str] = {}
    for tier in (TIER_ONE, TIER_TWO, 0):
        for segment in segments:
            decision, n = segment.decision, len(segment.parts)
            place = n if tier == 0 else tier - 1
            if place >= len(segment.bounds) - 1 or (tier and tier > n):
                continue
            first, after = segment.bounds[place : place + 2]
            live = np.flatnonzero(~known.gone[segment.start + first : segment.start + after])
            before = len(docnos)
            docnos += [known.docno(segment.start + first + number) for number in live.tolist()]
            tiers.append(np.full(len(live), tier, np.uint8))
            if decision is None:
                reasons.append(np.zeros(len(live), np.uint8))
                continue
            positions = np.flatnonzero(decision.arrays[0] == tier)[live]
            reasons.append(decision.arrays[1][positions])
            places = dict(zip(positions.tolist(), range(before, len(docnos)), strict=True))
            junk |= {places[row]: rule for row, rule in decision.junk.items() if row in places}
            if tier == 0:
                packed.append(decision.packed())
                keys.append(decision.keys[live])
                contents.append(decision.contents[live])
                names = zip(decision.positions[decision.folded].tolist(), decision.representatives(), strict=True)
                stand_for |= {places[row]: docno for row, docno in names}
    own = _places(docnos, stand_for)
    canonical = np.arange(len(docnos))
    canonical[list(own)] = list(own.values())
    elsewhere = {row: docno for row, docno in stand_for.items() if row not in own}
    made = Decision(np.concatenate(tiers), np.concatenate(reasons), canonical, junk)
    nothing = [np.zeros(0, np.uint64)]
    dropped = Dropped(
        np.concatenate(nothing + keys), np.concatenate(nothing + contents), (one for part in packed for one in part),
        elsewhere,
    )  # fmt: skip
    return made, dropped, docnos


def _places(docnos: Sequence[str], wanted: Mapping[int, str]) -> dict[int, int]:
    """Where in `docnos` the docno is that each row stands for, where it is there."""
    if not wanted:
        return {}
    keys = docno_keys(docnos)
    order = np.argsort(keys, kind="stable")
    rows = list(wanted)
    places = np.minimum(np.searchsorted(keys[order], docno_keys(wanted.values())), len(keys) - 1)
    found = zip(rows, order[places].tolist(), strict=True)
    return {row: place for row, place in found if docnos[place] == wanted[row]}
