"""What a writer has changed since the last commit: passages that wait for it, and those that are given up for them.

Each call's passages are compared with what the index knows (`thresher.build.known`) and with those that wait
(`thresher.build.pending`); what it adds, replaces and deletes comes back as a `Change`. A call that fails changes
nothing.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from thresher.build.changes import Change
from thresher.build.known import Known
from thresher.corpus.spool import docno_keys
from thresher.errors import InputError
from thresher.index.fields import Inference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from thresher.build.pending import Batch, Pending
    from thresher.index.collection import Collection
    from thresher.index.filters import Where

_REPLACE = "replace=True, --replace"


class Staged:
    """The changes to a collection that wait for a commit.

    Args:
        collection: the last commit.
        deleted: as `Known` takes it.
        pending: the passages that wait.
        check_encodes: raises where the index has no encoder for new texts.

    Attributes:
        pending: as given.
        schema: the metadata fields of the commit and of the passages that wait.
    """

    def __init__(
        self,
        collection: Collection,
        deleted: Callable[[str], NDArray[np.bool_]],
        pending: Pending,
        check_encodes: Callable[[], None],
    ) -> None:
        self.pending = pending
        self.schema: Mapping[str, str] = collection.schema
        self._collection, self._marked, self._check_encodes = collection, deleted, check_encodes

    @cached_property
    def known(self) -> Known:
        """What the commit holds, read when it is first needed."""
        return Known(self._collection, self._marked)

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit."""
        return bool(len(self.pending)) or self.known.changed

    def clear(self) -> None:
        """Forget everything since the commit."""
        self.pending.clear()
        if "known" in self.__dict__:
            self.known.restore()
        self.schema = self._collection.schema

    def add(self, batch: Batch, schema: Mapping[str, str], *, replace: bool) -> Change:
        """Add the passages of a call; `schema` is the one with their fields.

        Raises:
            InputError: as `IndexWriter.add`; the passages are forgotten then.
        """
        try:
            change = self._take(batch, replace=replace)
        except BaseException:
            self.pending.forget(batch)
            raise
        self.schema = schema
        return change

    def match(self, batch: Batch, schema: Mapping[str, str]) -> Change:
        """Make the index hold the passages of a call and no others, after `clear`."""
        known = self.known
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
        self.pending.take(batch)
        self.schema = schema
        added = len(batch.keys) - len(rows) + dropped
        unchanged = int(np.count_nonzero(same)) if has_text else 0
        return Change(added, len(changed) - dropped, unchanged, tuple(deleted), skipped=batch.spool.skipped)

    def delete(self, docnos: Sequence[str]) -> Change:
        """Give up the passages with these docnos."""
        names = list(dict.fromkeys(docnos))
        waiting = self.pending.locate(docno_keys(names))
        records = self.known.find(names)
        absent = [
            name
            for place, name in enumerate(names)
            if place not in waiting and (records[place] < 0 or self._is_dropped(int(records[place])))
        ]
        return self._deleted(records[records >= 0], list(waiting.values()), absent)

    def delete_matching(self, where: Where) -> Change:
        """Give up the passages that match a filter.

        Raises:
            InputError: it names a field that there is not.
        """
        where.check(self.schema)
        return self._deleted(self.known.matching(where), self.pending.matching(where, self.schema), [])

    def return_folded(self) -> int:
        """Let what was folded into passages that are gone take part in this commit; returns how many.

        Passages that take the place of such a representative come first, so that what was folded into it can be folded
        into its successor.
        """
        known = self.known
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
        for batch, number in self.pending.locate(docno_keys(stood_for)).values():
            batch.rank[number] = 0
        records = known.members(stood_for)
        known.gone[records] = True
        passages = [passage for record in records if (passage := known.passage(record)) is not None]
        batch = self.pending.read(passages, "pruning", None, Inference(known=self.schema))
        batch.rank[:] = 1
        self.pending.batches.insert(0, batch)
        return len(passages)

    def _take(self, batch: Batch, *, replace: bool) -> Change:
        """Let the passages of a call count, in place of those that they replace."""
        known = self.known
        waiting = self.pending.locate(batch.keys)
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
        for other, number in self.pending.whole_documents(waiting.values()):
            other.alive[number] = False
        deleted = self._give_up(records[rows[~same]], given=records[rows])
        self.pending.take(batch)
        added = len(batch.keys) - len(rows) - len(waiting) + int(np.count_nonzero(dropped))
        return Change(added, replaced + len(waiting), unchanged, deleted, skipped=batch.spool.skipped)

    def _check_encoded(self, batch: Batch) -> None:
        """Refuse new passages without weighted terms where the recipe has no encoder for them."""
        if batch.rows is None and batch.alive.any():
            self._check_encodes()

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
        known, others = self.known, np.zeros(0, np.int64)
        if given is not None:
            others = np.setdiff1d(known.whole_documents(records), np.union1d(records, given))
        known.gone[records] = True
        known.gone[others] = True
        return tuple(known.docno(record) for record in others[~known.is_dropped(others)].tolist())

    def _deleted(self, records: NDArray[np.int64], waiting: Sequence[tuple[Batch, int]], absent: list[str]) -> Change:
        """Give up these records and these pending passages."""
        known = self.known
        records = known.whole_documents(records)
        names = [known.docno(record) for record in records[~known.is_dropped(records)].tolist()]
        known.gone[records] = True
        for batch, number in self.pending.whole_documents(waiting):
            batch.alive[number] = False
            names.append(batch.spool.docnos[number])
        return Change(deleted=tuple(dict.fromkeys(names)), absent=tuple(absent))

    def _is_dropped(self, record: int) -> bool:
        return bool(self.known.is_dropped(np.array([record]))[0])
