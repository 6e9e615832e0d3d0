"""`ShardedIndex`: one index in several shards, searched as if it were whole.

    with ShardedIndex.open("shards/shards.toml") as index:
        index.search("what separates grain from chaff?", k=10)

The answer is what one index over all passages would give: the same docnos and the same scores, to the last bit, for any
number of shards. A query is weighed once, by the sum of the statistics of all shards, and goes to them with its final
weights; each sums in the ascending order of its own term ids, which is the same order of terms everywhere. The k-th
score found so far goes along with each request, and a shard whose bound does not reach it is not asked at all. How the
answers of the tiers are merged, and when the second is searched, is decided here, on what all shards found.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from thresher.checks import is_a, one_of, shown, strings
from thresher.distributed.asking import Asking, rows_of
from thresher.distributed.gathering import first_of, gather
from thresher.distributed.messages import (
    CommitGoneError,
    EncodeRequest,
    FacetsRequest,
    NamesRequest,
    PassagesRequest,
)
from thresher.distributed.opened_shards import WAYS, OnMissing, OpenShards
from thresher.distributed.shard_ranking import ShardedRanking, passage_of
from thresher.errors import InputError, ShardError
from thresher.ranking import Run
from thresher.records import Query
from thresher.search.effort import checked_effort
from thresher.search.kernels.types import FOREVER
from thresher.search.queries import check_arguments, check_tiers, listed, qids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from thresher.distributed.gathering import Gathered
    from thresher.distributed.messages import Facets, Names, Rows, Text, Texts
    from thresher.distributed.opening import State
    from thresher.distributed.weighing import Failed
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.records import Passage, SparseBatch
    from thresher.search.any_index import Allow, By
    from thresher.search.effort import Effort
    from thresher.search.queries import AnyQuery, Tiers

_log = logging.getLogger(__name__)
T = TypeVar("T")
_ATTEMPTS = 5
"""Times that a search begins anew since a shard took up another commit."""
_TOGETHER = 256
"""Queries that shards are asked at a time."""
_WORDS = 64
"""Terms of a shard of which one is in a passage, most likely."""


class ShardedIndex(OpenShards):
    """An index in shards. Safe to share between threads. Open one with `ShardedIndex.open`.

    Attributes:
        shards: the shards with their replicas.
        on_missing: what becomes of an answer that lacks a shard: an `error`, or a `partial` answer that says so.
        scope: what the passages of a restricted view match; None for all passages.
        watch: called with a shard's name and the seconds of each of its answers to a search; None for nothing.
        missed: called with the name of a shard that is missing from an answer; None for nothing.
    """

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        recall: float | None = None,
        deadline_ms: float | None = None,
        plan: str = "auto",
        explain: bool = False,
        by: By = "sparse",
        vector: NDArray[np.floating] | None = None,
        where: Filter | None = None,
        allow: Allow | None = None,
        on_missing: OnMissing | None = None,
    ) -> ShardedRanking:
        """The k best passages for `query` of all shards; arguments as `Index.search`.

        Args:
            query: a text, a `Query`, a mapping from term strings to weights; or term ids and weights, where all shards
                have one vocabulary, which those of a learned encoder do.
            k: how many, at least 0.
            tiers: as `Index.search`.
            effort: as `Index.search`; each shard goes to these limits.
            recall: as `Index.search` of an index where nothing was measured: the answer is exact, which keeps every
                promise. What `calibrate_recall` measured is of one index, and its shards skip other parts.
            deadline_ms: milliseconds by which there is an answer; shards return what they have found shortly before,
                and those that have not answered by then are missing.
            plan: as `Index.search`.
            explain: as `Index.search`; the statistics are sums over the shards that were asked.
            by: `sparse` only: shards compare no vectors.
            vector: not taken.
            where: as `Index.search`.
            allow: docnos; a mask by number is not taken, since passages of shards have no common numbers.
            on_missing: in place of the index's own.

        Raises:
            InputError: an argument is out of range.
            ShardError: a shard is missing, and `on_missing` is `error`; names it.
        """
        if not is_a(by, str) or by != "sparse" or vector is not None:
            raise InputError(
                f"an index in shards is searched by weighted terms, by='sparse', without a vector; got by={shown(by)}. "
                "Search an index in one directory by vectors"
            )
        asking = self._asking(k, tiers, plan, where, allow, effort, recall, deadline_ms, explain=explain)
        asking.patience = self.options.timeout
        found, failed = self._answered([query], asking)
        self._note(failed, on_missing)
        return found[0]

    def search_batch(
        self,
        queries: Sequence[AnyQuery] | SparseBatch,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        recall: float | None = None,
        deadline_ms: float | None = None,
        plan: str = "auto",
        explain: bool = False,
        threads: int = 1,
        where: Filter | None = None,
        allow: Allow | None = None,
        on_missing: OnMissing | None = None,
    ) -> Run:
        """The k best passages for each of `queries`; `threads` of each shard share them. Other arguments as `search`.

        Returns:
            rankings by the qid of a `Query`, and by the position (`"0"`, `"1"`, ...) of other queries.

        Raises:
            InputError: as `search`; or two queries have the same qid.
            ShardError: as `search`.
        """
        asked = listed(queries)
        qids, rows = qids_of(asked), rows_of(asked)
        asking = self._asking(
            k, tiers, plan, where, allow, effort, recall, deadline_ms, explain=explain, threads=threads
        )
        made: list[ShardedRanking] = []
        for first in range(0, len(rows), _TOGETHER):
            found, failed = self._answered(rows[first : first + _TOGETHER], asking)
            self._note(failed, on_missing)
            made += found
        return Run(dict(zip(qids, made, strict=True)))

    def _asking(
        self,
        k: int,
        tiers: Tiers,
        plan: str,
        where: Filter | None,
        allow: Allow | None,
        effort: Effort | None = None,
        recall: float | None = None,
        deadline_ms: float | None = None,
        *,
        explain: bool = False,
        threads: int = 1,
    ) -> Asking:
        """The arguments of a search, checked."""
        k, _, deadline, threads = check_arguments(k, effort, plan, threads, recall, deadline_ms, explain=explain)
        check_tiers(tiers)
        if isinstance(allow, np.ndarray):
            raise InputError("allow must be a list of docnos: passages of different shards have no common numbers")
        if recall is not None:
            _tell_exact()
        return Asking(
            k=k,
            tiers=tiers,
            effort=checked_effort(effort),
            plan=plan,
            where=self._narrowed(where),
            allow=None if allow is None else tuple(strings("allow", allow)),
            explain=explain,
            threads=threads,
            due=math.inf if deadline == FOREVER else time.monotonic() + float(cast("float", deadline_ms)) / 1000,
        )

    def _answered(self, queries: Sequence[AnyQuery], asking: Asking) -> tuple[list[ShardedRanking], Failed]:
        """The best passages for each query, and the shards that are missing."""
        return self._at_one_state(lambda state: asking.rankings(self, state, queries))

    def _at_one_state(self, call: Callable[[State], T]) -> T:
        """What `call` makes of one commit of each shard; it is called again where one of them has another by now."""
        for _ in range(_ATTEMPTS):
            try:
                return call(self._state)
            except CommitGoneError:
                self.refresh()
        raise ShardError("the shards take up new commits faster than a search takes; try again")

    def _note(self, failed: Failed, on_missing: OnMissing | None) -> None:
        """Tell of the shards that are missing.

        Raises:
            ShardError: there are some, and an answer without them is not wanted.
        """
        if on_missing is not None:
            one_of("way with missing shards", on_missing, WAYS)
        if self.missed is not None:
            for shard in failed:
                self.missed(self.shards[shard].name)
        if failed and (on_missing or self.on_missing) == "error":
            reasons = dict.fromkeys(str(failed[shard]) for shard in sorted(failed))
            raise ShardError("; ".join(reasons))

    def terms(self, query: AnyQuery) -> dict[str, float]:
        """The query's weighted terms by their strings, which `search` also takes; before they are weighed by the IDF.

        Raises:
            InputError: it is a query of term ids, or of no known type.
            ShardError: no shard answers.
        """
        if isinstance(query, Mapping):
            return dict(query)
        if not isinstance(query, str | Query):
            raise InputError(f"the terms of a text or a mapping are known by their strings; got {shown(query)}")
        text = query.text if isinstance(query, Query) else query
        (row,) = cast("Rows", first_of(self.shards, EncodeRequest((text,), 1))).rows
        return dict(zip(row.terms, row.weights, strict=True))

    def names(self, ids: Sequence[int]) -> tuple[str | None, ...]:
        """The strings of the first tier's term ids, where these mean the same in all shards; None for those of no term.

        Raises:
            ShardError: no shard answers.
        """
        unknown = tuple(one for one in dict.fromkeys(ids) if one not in self._names)
        if unknown:
            answer = cast("Names", first_of(self.shards, NamesRequest(unknown, 1)))
            self._names |= zip(unknown, answer.names, strict=True)
        return tuple(self._names[one] for one in ids)

    def facets(
        self,
        field: str,
        query: AnyQuery | None = None,
        *,
        where: Filter | None = None,
        allow: Allow | None = None,
    ) -> dict[Value, int]:
        """How many passages have each value of a metadata field, as `Index.facets`.

        Raises:
            InputError: there is no such field.
            ShardError: a shard does not answer: counts without it would say nothing.
        """
        counts, _ = self.counted(field, query, where=where, allow=allow, on_missing="error")
        return counts

    def counted(
        self,
        field: str,
        query: AnyQuery | None = None,
        *,
        where: Filter | None = None,
        allow: Allow | None = None,
        deadline_ms: float | None = None,
        on_missing: OnMissing | None = None,
    ) -> tuple[dict[Value, int], tuple[str, ...]]:
        """As `facets`, for those who take counts of the shards that answered: with the names of those that did not."""
        if not is_a(field, str):
            raise InputError(f"a field is named by a string; got {shown(field)}")
        asking = self._asking(0, "auto", "auto", where, allow, deadline_ms=deadline_ms)
        asking.patience = self.options.timeout
        found = self._at_one_state(lambda state: self._values(state, field, query, asking))
        self._note(found.failed, on_missing)
        counts: dict[Value, int] = {}
        for answer in found.answers.values():
            for value, count in cast("Facets", answer).values:
                counts[value] = counts.get(value, 0) + count
        missing = tuple(self.shards[shard].name for shard in sorted(found.failed))
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))), missing

    def _values(self, state: State, field: str, query: AnyQuery | None, asking: Asking) -> Gathered:
        """The values of a field that each shard counts.

        Raises:
            CommitGoneError: a shard has another commit.
        """
        terms = None if query is None else asking.positive_terms(self, state, query)
        requests = {
            i: FacetsRequest(one.sha256, field, terms, asking.where, asking.allow) for i, one in enumerate(state.facts)
        }
        found = gather(self.shards, requests, due=min(asking.due, self.options.due), hedge=self.options.hedge)
        gone = next((one for one in found.failed.values() if isinstance(one, CommitGoneError)), None)
        if gone is not None:
            raise gone
        return found

    def any_passage(self) -> Passage | None:
        """One of the passages that shards which answer have; None where there is none."""
        asked = NamesRequest(tuple(range(_WORDS)), 1)
        named = cast("Names", first_of(self.shards, asked, self.options.due)).names
        found = self.search({one: 1.0 for one in named if one is not None}, 1, on_missing="partial")
        return found.passages()[0] if len(found) else None

    def takes_texts(self) -> bool:
        """Whether queries may be texts, since the shards hold an encoder for them; it is loaded."""
        if not self._state.facts[0].encoders[0]:
            return False
        try:
            first_of(self.shards, EncodeRequest(("",), 1), self.options.due)
        except InputError:
            return False
        return True

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, in their order.

        Raises:
            InputError: no shard has one.
            ShardError: a shard does not answer.
        """
        return [passage_of(text) for text in self.fetch(strings("docnos", docnos))]

    def aliases(self, docnos: Sequence[str]) -> list[tuple[str, ...]]:
        """Of each of these passages, the docnos of the duplicates that were folded into it; errors as `passages`."""
        return [text.aliases for text in self.fetch(strings("docnos", docnos))]

    def fetch(self, docnos: Sequence[str], shards: Sequence[int] | None = None) -> list[Text]:
        """The texts of passages; `shards` says where each is, by default all are asked. Errors as `passages`."""
        wanted: dict[int, list[str]] = {}
        for place, docno in enumerate(docnos):
            for shard in range(len(self.shards)) if shards is None else (shards[place],):
                wanted.setdefault(shard, []).append(docno)
        where = "" if self.scope is None else str(self.scope)
        asks = {shard: PassagesRequest(tuple(own), where) for shard, own in wanted.items()}
        found = gather(self.shards, asks, due=self.options.due, hedge=self.options.hedge)
        texts = {text.docno: text for answer in found.answers.values() for text in cast("Texts", answer).passages}
        missing = next((docno for docno in docnos if docno not in texts), None)
        if missing is None:
            return [texts[docno] for docno in docnos]
        if found.failed:
            raise next(iter(found.failed.values()))
        raise InputError(f"docno {missing!r} is in none of the {len(self.shards)} shards; was it deleted?")

    def __contains__(self, docno: object) -> bool:
        if not isinstance(docno, str):
            return False
        try:
            self.fetch([docno])
        except InputError:
            return False
        return True


@cache
def _tell_exact() -> None:
    """Say once that a recall is answered exactly."""
    _log.warning("no recall curve holds for an index in shards, so its searches with recall= are exact")
