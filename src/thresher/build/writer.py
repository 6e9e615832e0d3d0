"""`IndexWriter`: adds, replaces and deletes passages of an index, and brings it in line with a corpus.

    with index.writer() as writer:
        writer.add(passages)
        writer.delete(where="source = wiki and year < 2010")

Nothing is visible before `commit()`, which the end of the block calls; a block that raises changes nothing. One writer
at a time has an index, any number of readers go on reading the commit that they opened. New passages become a segment
of their own by the index's recipe (`thresher.build.segment`); what is deleted is marked, and goes for good when
segments are merged (`thresher.build.merge`). What each call changes is worked out in `thresher.build.staged`.
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

from thresher.arguments import checked_call
from thresher.build.changes import Change, CommitReport, MergeReport
from thresher.build.known import term_counts
from thresher.build.pending import Pending, given_rows
from thresher.build.recipe import CorpusSource, Recipe
from thresher.build.segment import Addition, Options, check_encodes, remove_shards
from thresher.build.sources import corpus_of, expected_fields
from thresher.build.staged import Staged
from thresher.checks import path_of, strings
from thresher.corpus.spool import Spool
from thresher.corpus.stream import RecordCorpus
from thresher.errors import InputError
from thresher.index.collection import Collection, open_collection
from thresher.index.commit import SegmentDraft
from thresher.index.fields import Inference
from thresher.index.filters import Where
from thresher.index.memory import MemoryLimit
from thresher.index.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from thresher.build.pending import Batch
    from thresher.build.segment import Made
    from thresher.build.sources import Source
    from thresher.encode.preencoded import Encoding
    from thresher.encode.shards import PassageEncoder
    from thresher.index.filters import Filter
    from thresher.records import SparseBatch

    Encoded = SparseBatch | Encoding | str | Path

_log = logging.getLogger(__name__)


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
        memory_gb: float | None = None,
    ) -> IndexWriter:
        """Open the index at `path` for writing. No other writer can open it until this one is closed.

        Args:
            path: the index.
            device: for the models that its recipe names: `auto` (an accelerator if there is one), or a torch device.
            progress: show progress bars.
            dense: the encoder of dense vectors itself, in place of the one that the recipe names.
            merge: after a commit, merge small segments where the merge policy says so.
            memory_gb: how much memory this process may hold, in GB; see `build_index`.

        Raises:
            ConfigError: the limit on memory is too low.
            ArtifactError: there is no index at `path`, or another process is writing it.
        """
        with ExitStack() as held:
            transaction = held.enter_context(Transaction(path_of(path)))
            memory = None if memory_gb is None else MemoryLimit(memory_gb)
            writer = cls(transaction, Options(device, progress, dense, memory), merge=merge)
            writer._held = held.pop_all()
        return writer

    def _begin(self) -> None:
        """Start from the last commit."""
        self._collection: Collection = open_collection(self.path)
        self._collection.close()  # none but this writer removes its files, and it removes them with the next commit
        self._folder = None
        pending = Pending(self._work, progress=self._options.progress)
        self._staged = Staged(self._collection, self._transaction.deleted, pending, self._check_encodes)
        self._total = CommitReport(self._collection.commit.number)

    @cached_property
    def recipe(self) -> Recipe:
        """How the index was built."""
        return Recipe.model_validate(self._collection.commit.fields.get("recipe") or {})

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
        return self._counted(self._staged.add(batch, schema, replace=replace))

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
            return self._counted(self._staged.delete(strings("docnos", docnos)))
        return self._counted(self._staged.delete_matching(Where.parse(where or "")))

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
            self._staged.pending.forget(batch)
            name = batch.spool.name
            raise InputError(
                "there are no passages in it, and nothing is deleted for that; allow_empty deletes all", name
            )
        self._forget()
        return self._counted(self._staged.match(batch, schema))

    def commit(self) -> CommitReport:
        """Make everything since the last commit visible, at once. Without a change no commit is made.

        Raises:
            ConfigError: the recipe's encoder or estimator is not on this machine as the index was built with it.
            OSError: the disk is full or failed; nothing was changed, and it can be tried again. Only where the disk
                failed at the very end the commit is there, and nothing is left to commit.
        """
        started = time.perf_counter()
        total = self._total
        if not self._staged.changed:
            self.discard()
            return replace(total, seconds=time.perf_counter() - started)
        staged = self._staged
        returned, number = staged.return_folded(), self._transaction.base.number
        try:
            name, made = self._add_segment() if len(staged.pending) else ("", None)
            self._delete_gone(made=made is not None)
            fields = {} if staged.schema == self._collection.schema else {"fields": dict(staged.schema)}
            commit = self._transaction.commit(changes=self._changes(), **fields)
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

    def _changes(self) -> dict[str, int]:
        """Passages added, replaced and deleted since the index was built, with those of this commit."""
        before, total = self._transaction.base.changes, self._total
        now = {"added": total.added, "replaced": total.replaced, "deleted": total.deleted}
        return {name: before.get(name, 0) + count for name, count in now.items()}

    def _add_segment(self) -> tuple[str, Made]:
        """Write the pending passages as a segment; its name, and what became of them."""
        draft, staged = self._transaction.segment(), self._staged
        folder = Path(tempfile.mkdtemp(prefix="commit-", dir=self._work()))
        spool = Spool(folder / "corpus", str(self._collection.commit.fields["corpus"]["name"]))
        for _ in spool.fill(staged.pending.passages(), texts=False):
            pass
        addition = Addition(self._collection, staged.known, self.recipe, draft, folder, self._options)
        made = addition.make(spool, staged.pending.rows(), staged.schema)
        return draft.name, made

    def discard(self) -> None:
        """Forget everything since the last commit."""
        self._forget()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _forget(self) -> None:
        self._staged.clear()
        self._total = CommitReport(self._collection.commit.number)

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

        if self._staged.changed:
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
        inference = Inference(known=self._staged.schema, expected=expected_fields(passages))
        name = str(getattr(passages, "name", "memory"))
        return self._staged.pending.read(passages, name, rows, inference), inference.schema

    def _reading(self, source: Source) -> Recipe:
        """The recipe as far as it says how to read `source`: of passages in memory, only how they are split."""
        corpus = self.recipe.corpus
        if not isinstance(source, str | Path):
            kept = {"split_tokens": 0 if isinstance(source, RecordCorpus) else corpus.split_tokens}
            corpus = CorpusSource(**kept, split_overlap=corpus.split_overlap if kept["split_tokens"] else 0)
        return self.recipe.model_copy(update={"corpus": corpus})

    def _delete_gone(self, *, made: bool) -> None:
        """Mark what is gone in the transaction; a segment of which nothing is left goes as a whole."""
        known = self._staged.known
        left = int(made) + sum(not known.is_empty(segment) for segment in known.segments)
        for segment in known.segments:
            numbers = known.newly_gone(segment)
            if not len(numbers):
                continue
            if known.is_empty(segment) and left:
                self._transaction.drop(segment.entry.name)
                continue
            left += known.is_empty(segment)
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

    def _check_encodes(self) -> None:
        check_encodes(self._collection, self.recipe.encode)

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
