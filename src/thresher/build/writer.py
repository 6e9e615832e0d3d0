"""`IndexWriter`: adds, replaces and deletes passages of an index, and brings it in line with a corpus.

    with index.writer() as writer:
        writer.add(passages)
        writer.delete(where="source = wiki and year < 2010")

Nothing is visible before `commit()`, which the end of the block calls; a block that raises changes nothing. One writer
at a time has an index, any number of readers go on reading the commit that they opened. New passages become a segment
of their own by the index's recipe (`thresher.build.segment`); what is deleted is marked, and goes for good when
segments are merged (`thresher.build.merge`).
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.build.changes import Change, CommitReport, MergeReport
from thresher.build.known import Known, term_counts
from thresher.build.pending import Pending, given_rows
from thresher.build.recipe import CorpusSource, Recipe
from thresher.build.segment import Addition, Options, check_encodes, remove_shards
from thresher.build.sources import corpus_of, expected_fields
from thresher.checks import path_of, strings
from thresher.corpus.spool import Spool, docno_keys
from thresher.corpus.stream import RecordCorpus
from thresher.errors import InputError
from thresher.index.collection import Collection, open_collection
from thresher.index.commit import SegmentDraft
from thresher.index.fields import Inference
from thresher.index.filters import Where
from thresher.index.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from thresher.build.pending import Batch
    from thresher.build.segment import Made
    from thresher.build.sources import Source
    from thresher.encode.preencoded import Encoding
    from thresher.encode.shards import PassageEncoder
    from thresher.index.filters import Filter
    from thresher.records import SparseBatch

    Encoded = SparseBatch | Encoding | str | Path

_log = logging.getLogger(__name__)
_REPLACE = "replace=True, --replace"


class IndexWriter:
    """Changes an index. `Index.writer` and `IndexWriter.open` make one; use it in a `with` block, or close it.

    Attributes:
        path: the index.
        recipe: how the index was built; new passages are read, pruned, encoded and stored as it says.
    """

    def __init__(self, transaction: Transaction, options: Options, *, merge: bool) -> None:
        self.path = transaction.path
        self._transaction, self._options, self._merges = transaction, options, merge
        self._held = ExitStack()
        self._later: Thread | None = None
        self._folder: Path | None = None
        self._begin()

    @classmethod
    @checked_call
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        progress: bool = False,
        dense: PassageEncoder | None = None,
        merge: bool = True,
    ) -> IndexWriter:
        """Open the index at `path` for writing. No other writer can open it until this one is closed.

        Args:
            path: the index.
            device: for the models that its recipe names: `auto` (an accelerator if there is one), or a torch device.
            progress: show progress bars.
            dense: the encoder of dense vectors itself, in place of the one that the recipe names.
            merge: after a commit, merge small segments where the merge policy says so.

        Raises:
            ArtifactError: there is no index at `path`, or another process is writing it.
        """
        with ExitStack() as held:
            transaction = held.enter_context(Transaction(path_of(path)))
            writer = cls(transaction, Options(device, progress, dense), merge=merge)
            writer._held = held.pop_all()
        return writer

    def _begin(self) -> None:
        """Start from the last commit."""
        self._collection: Collection = open_collection(self.path)
        self._collection.close()  # none but this writer removes its files, and it removes them with the next commit
        self._schema: Mapping[str, str] = self._collection.schema
        self._folder = None
        self._pending = Pending(self._work, progress=self._options.progress)
        self._total = CommitReport(self._collection.commit.number)
        self.__dict__.pop("_known", None)

    @cached_property
    def recipe(self) -> Recipe:
        """How the index was built."""
        return Recipe.model_validate(self._collection.commit.fields.get("recipe") or {})

    @cached_property
    def _known(self) -> Known:
        return Known(self._collection, self._transaction.deleted)

    def add(self, passages: Source | None = None, *, replace: bool = False, encoded: Encoded | None = None) -> Change:
        """Add passages.

        Args:
            passages: a corpus, a file or data set name that `open_corpus` knows, or passages; read once. Files are read
                as the index's recipe says. May be left out where `encoded` brings the passages.
            replace: passages whose docno the index has take the place of those; equal ones are left alone. Of a
                document that was split, all old passages go.
            encoded: their weighted terms, if they were encoded before: a `SparseBatch` of one row a passage, or what
                `open_encoded` opens.

        Raises:
            InputError: the index has a docno already (without `replace`), a docno comes twice, a passage cannot be
                indexed, or a metadata field has another type than in the index; names it, and its record. Nothing of
                this call is taken then.
        """
        batch, schema = self._read(passages, encoded)
        try:
            change = self._take(batch, replace=replace)
        except BaseException:
            self._pending.forget(batch)
            raise
        self._schema = schema
        return self._counted(change)

    def replace(self, passages: Source | None = None, *, encoded: Encoded | None = None) -> Change:
        """Add passages, in place of those with the same docnos; as `add` with `replace=True`."""
        return self.add(passages, replace=True, encoded=encoded)

    @checked_call
    def delete(self, *, docnos: Sequence[str] | None = None, where: Filter | None = None) -> Change:
        """Delete passages by docno, or all whose metadata fits a filter.

        A passage that was split from a document takes the document's other passages with it.

        Args:
            docnos: identifiers; those that the index does not have are in the result's `absent`.
            where: a filter, as `Index.search` takes it.

        Raises:
            InputError: neither or both are given; or the filter names a field that the index does not have.
        """
        if (docnos is None) == (where is None):
            raise InputError("give either docnos or where, to say which passages are deleted")
        if docnos is not None:
            names = list(dict.fromkeys(strings("docnos", docnos)))
            waiting = self._pending.locate(docno_keys(names))
            records = self._known.find(names)
            absent = [
                name for place, name in enumerate(names)
                if place not in waiting and (records[place] < 0 or self._is_dropped(int(records[place])))
            ]  # fmt: skip
            return self._counted(self._deleted(records[records >= 0], list(waiting.values()), absent))
        wanted = Where.parse(where or "")
        wanted.check(self._schema)
        return self._counted(
            self._deleted(self._known.matching(wanted), self._pending.matching(wanted, self._schema), [])
        )

    @checked_call
    def sync(self, corpus: Source, *, encoded: Encoded | None = None, allow_empty: bool = False) -> Change:
        """Make the index hold what `corpus` holds: add new passages, replace changed ones, delete those it lacks.

        Passages are compared by docno, title, text and metadata; also those that pruning dropped or folded, so an
        unchanged corpus changes nothing. Whatever this writer had pending before is forgotten.

        Args:
            corpus: as `add` takes it.
            encoded: the weighted terms of all passages, if they were encoded before.
            allow_empty: let an empty corpus delete everything.

        Raises:
            InputError: the corpus is empty; or as `add`. Nothing is changed then.
        """
        batch, schema = self._read(corpus, encoded)
        if not len(batch.keys) and not allow_empty:
            self._pending.forget(batch)
            name = batch.spool.name
            raise InputError(
                "there are no passages in it, and nothing is deleted for that; allow_empty deletes all", name
            )
        self._forget()
        known = self._known
        records = known.locate(batch.keys)
        rows = np.flatnonzero(records >= 0)
        same = known.contents(records[rows]) == batch.contents[rows]
        has_text = batch.rows is None or batch.spool.has_text
        batch.alive[rows[same]] = not has_text
        self._check_encoded(batch)
        seen = np.zeros(len(known), bool)
        seen[records[rows]] = True
        changed = records[rows[~same]] if has_text else records[rows]
        dropped = int(np.count_nonzero(known.is_dropped(changed)))
        gone = np.flatnonzero(~seen & ~known.gone)
        deleted = [known.docno(record) for record in gone[~known.is_dropped(gone)].tolist()]
        known.gone[gone] = True
        self._give_up(changed)
        self._pending.take(batch)
        self._schema = schema
        added = len(batch.keys) - len(rows) + dropped
        unchanged = int(np.count_nonzero(same)) if has_text else 0
        skipped = batch.spool.skipped
        return self._counted(Change(added, len(changed) - dropped, unchanged, tuple(deleted), skipped=skipped))

    def commit(self) -> CommitReport:
        """Make everything since the last commit visible, at once. Without a change no commit is made.

        Raises:
            ConfigError: the recipe's encoder or estimator is not on this machine as the index was built with it.
            OSError: the disk is full or failed; nothing was changed, and it can be tried again. Only where the disk
                failed at the very end the commit is there, and nothing is left to commit.
        """
        started = time.perf_counter()
        total = self._total
        if not len(self._pending) and not self._known.changed:
            self.discard()
            return replace(total, seconds=time.perf_counter() - started)
        returned, number = self._returned(), self._transaction.base.number
        try:
            name, made = self._add_segment() if len(self._pending) else ("", None)
            self._delete_gone(made=made is not None)
            fields = {} if self._schema == self._collection.schema else {"fields": dict(self._schema)}
            commit = self._transaction.commit(**fields)
        except BaseException:
            self._transaction.reset()
            if self._transaction.base.number > number:  # it is visible, though not flushed to the end
                self._begin()
            raise
        remove_shards(self.path)
        self._begin()
        merged = self._merge_small() if self._merges else 0
        return replace(
            total, commit=commit.number, segment=name, merged=merged,
            tier_2=made.tiers[1] if made else 0, pruned=made.pruned if made else {}, returned=returned,
            seconds=time.perf_counter() - started,
        )  # fmt: skip

    def _add_segment(self) -> tuple[str, Made]:
        """Write the pending passages as a segment; its name, and what became of them."""
        draft = self._transaction.segment()
        folder = Path(tempfile.mkdtemp(prefix="commit-", dir=self._work()))
        spool = Spool(folder / "corpus", str(self._collection.commit.fields["corpus"]["name"]))
        for _ in spool.fill(self._pending.passages(), texts=False):
            pass
        addition = Addition(self._collection, self._known, self.recipe, draft, folder, self._options)
        made = addition.make(spool, self._pending.rows(), self._schema)
        return draft.name, made

    def discard(self) -> None:
        """Forget everything since the last commit."""
        self._forget()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _forget(self) -> None:
        self._pending.clear()
        if "_known" in self.__dict__:
            self._known.restore()
        self._total = CommitReport(self._collection.commit.number)
        self._schema = self._collection.schema

    @checked_call
    def merge(self, *, all: bool = False, refit: bool = False, background: bool = False) -> MergeReport:
        """Merge segments, so that there are fewer, and what is deleted is gone; results stay the same.

        Args:
            all: merge all segments into one, also where the merge policy asks for nothing.
            refit: fit the average length of BM25 again, from the stored texts, and weigh all passages anew.
            background: merge in a thread of its own once this writer is closed, and return at once. Readers are not
                disturbed; other writers are refused until it ends. It may be killed: then nothing was changed.

        Raises:
            InputError: there are changes that are not committed.
        """
        from thresher.build.merge import MERGING, merge_index, merge_later

        if len(self._pending) or self._known.changed:
            raise InputError("there are changes that are not committed; commit or discard them before a merge")
        if background:
            self._later = Thread(target=merge_later, args=(self.path, all, refit), name=MERGING, daemon=True)
            commit = self._collection.commit
            return MergeReport(commit.number, 0, 0, len(commit.segments), 0, 0.0)
        try:
            return merge_index(self._transaction, all=all, refit=refit, options=self._options)
        finally:
            self._begin()

    def close(self) -> None:
        """Forget what was not committed, and let other writers at the index."""
        self._held.close()
        if self._later is not None:
            self._later.start()
            self._later = None

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        except BaseException as err:
            self._held.__exit__(type(err), err, err.__traceback__)  # says where a disk is full
            raise
        self._held.__exit__(kind, error, trace)
        self.close()

    def _read(self, source: Source | None, encoded: Encoded | None) -> tuple[Batch, Mapping[str, str]]:
        """The passages of a call, spooled, and the schema with their fields."""
        passages, rows = (None, None) if encoded is None else given_rows(self._collection, encoded)
        if source is not None:
            split = 0 if encoded is not None else int(self._collection.commit.frozen.get("split_tokens") or 0)
            passages = corpus_of(source, self._reading(source), split)
        if passages is None:
            raise InputError("there is nothing to add; give passages, or encoded ones")
        inference = Inference(known=self._schema, expected=expected_fields(passages))
        name = str(getattr(passages, "name", "memory"))
        return self._pending.read(passages, name, rows, inference), inference.schema

    def _reading(self, source: Source) -> Recipe:
        """The recipe as far as it says how to read `source`: of passages in memory, only how they are split."""
        corpus = self.recipe.corpus
        if not isinstance(source, str | Path):
            kept = {"split_tokens": 0 if isinstance(source, RecordCorpus) else corpus.split_tokens}
            corpus = CorpusSource(**kept, split_overlap=corpus.split_overlap if kept["split_tokens"] else 0)
        return self.recipe.model_copy(update={"corpus": corpus})

    def _take(self, batch: Batch, *, replace: bool) -> Change:
        """Let the passages of a call count, in place of those that they replace."""
        known = self._known
        waiting = self._pending.locate(batch.keys)
        records = known.locate(batch.keys)
        rows = np.flatnonzero(records >= 0)
        dropped = known.is_dropped(records[rows])
        self._refuse_existing(batch, rows[~dropped], waiting, replace=replace)
        has_text = batch.rows is None or batch.spool.has_text
        same = (known.contents(records[rows]) == batch.contents[rows]) & ~dropped & has_text
        batch.alive[rows[same]] = False
        self._check_encoded(batch)
        unchanged = int(np.count_nonzero(same))
        replaced = len(rows) - unchanged - int(np.count_nonzero(dropped))
        for other, number in self._pending.whole_documents(waiting.values()):
            other.alive[number] = False
        deleted = self._give_up(records[rows[~same]], given=records[rows])
        self._pending.take(batch)
        added = len(batch.keys) - len(rows) - len(waiting) + int(np.count_nonzero(dropped))
        return Change(added, replaced + len(waiting), unchanged, deleted, skipped=batch.spool.skipped)

    def _check_encoded(self, batch: Batch) -> None:
        """Refuse new passages without weighted terms where the recipe has no encoder for them."""
        if batch.rows is None and batch.alive.any():
            check_encodes(self._collection, self.recipe.encode)

    def _refuse_existing(
        self, batch: Batch, rows: NDArray[np.int64], waiting: Mapping[int, object], *, replace: bool
    ) -> None:
        """Refuse docnos that are taken; and those whose key another docno has, which cannot be told apart."""
        places = sorted({*rows.tolist(), *waiting})
        if not places or replace:
            return
        docno, name = batch.spool.docnos[places[0]], batch.spool.name
        more = f" (and {len(places) - 1:,} more)" if len(places) > 1 else ""
        where = "is in the index already" if places[0] not in waiting else "was added already"
        raise InputError(
            f"docno {docno!r}{more} {where}; replace it ({_REPLACE}), or leave it out", name, places[0] + 1
        )

    def _give_up(self, records: NDArray[np.int64], given: NDArray[np.int64] | None = None) -> tuple[str, ...]:
        """Give up the old passages of docnos that are replaced; returns the docnos of others that go with them.

        Args:
            records: int64[n], of the old passages.
            given: records of all docnos in the batch; None where no other passages of documents go.
        """
        known, others = self._known, np.zeros(0, np.int64)
        if given is not None:
            others = np.setdiff1d(known.whole_documents(records), np.union1d(records, given))
        known.gone[records] = True
        known.gone[others] = True
        return tuple(known.docno(record) for record in others[~known.is_dropped(others)].tolist())

    def _deleted(self, records: NDArray[np.int64], waiting: Sequence[tuple[Batch, int]], absent: list[str]) -> Change:
        """Give up these records and these pending passages."""
        known = self._known
        records = known.whole_documents(records)
        names = [known.docno(record) for record in records[~known.is_dropped(records)].tolist()]
        known.gone[records] = True
        for batch, number in self._pending.whole_documents(waiting):
            batch.alive[number] = False
            names.append(batch.spool.docnos[number])
        return Change(deleted=tuple(dict.fromkeys(names)), absent=tuple(absent))

    def _is_dropped(self, record: int) -> bool:
        return bool(self._known.is_dropped(np.array([record]))[0])

    def _returned(self) -> int:
        """Let what was folded into passages that are gone take part in this commit; returns how many.

        Passages that take the place of such a representative come first, so that what was folded into it can be folded
        into its successor.
        """
        known = self._known
        if not known.folds:
            return 0
        names = [
            known.docno(segment.start + number)
            for segment in known.segments
            for number in known.newly_gone(segment).tolist()
        ]
        stood_for = [name for name in names if known.members([name])]
        if not stood_for:
            return 0
        for batch, number in self._pending.locate(docno_keys(stood_for)).values():
            batch.rank[number] = 0
        records = known.members(stood_for)
        known.gone[records] = True
        passages = [passage for record in records if (passage := known.passage(record)) is not None]
        batch = self._pending.read(passages, "pruning", None, Inference(known=self._schema))
        batch.rank[:] = 1
        self._pending.batches.insert(0, batch)
        return len(passages)

    def _delete_gone(self, *, made: bool) -> None:
        """Mark what is gone in the transaction; a segment of which nothing is left goes as a whole."""
        left = int(made) + sum(not self._known.is_empty(segment) for segment in self._known.segments)
        for segment in self._known.segments:
            numbers = self._known.newly_gone(segment)
            if not len(numbers):
                continue
            if self._known.is_empty(segment) and left:
                self._transaction.drop(segment.entry.name)
                continue
            left += self._known.is_empty(segment)
            numbers = numbers[
                ~self._transaction.deleted(segment.entry.name)[numbers]
            ]  # a commit that failed marked them
            self._transaction.delete(segment.entry.name, numbers, term_counts(segment, numbers))

    def _merge_small(self) -> int:
        """Merge small segments where the policy says so; how many."""
        from thresher.build.merge import merge_index

        try:
            return merge_index(self._transaction, small=True, options=self._options).merged
        except OSError as err:  # what was committed stays so
            _log.warning("%s: small segments were not merged: %s", self.path, err)
            return 0
        finally:
            self._begin()

    def _counted(self, change: Change) -> Change:
        total = self._total
        self._total = replace(
            total,
            added=total.added + change.added,
            replaced=total.replaced + change.replaced,
            unchanged=total.unchanged + change.unchanged,
            deleted=total.deleted + len(change.deleted),
            absent=total.absent + len(change.absent),
        )
        return change

    def _work(self) -> Path:
        """A folder for temporary files. The transaction removes it, as it does that of a killed writer."""
        if self._folder is None:
            self._folder = SegmentDraft.new(self.path, self._transaction.number).path
        return self._folder
