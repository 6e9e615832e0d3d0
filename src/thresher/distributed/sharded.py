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

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, cast

import numpy as np

from thresher.arguments import checked_call
from thresher.checks import is_a, one_of, real, shown, strings, whole
from thresher.distributed.asking import Asking, Options
from thresher.distributed.gathering import first_of, gather
from thresher.distributed.messages import (
    CommitGoneError,
    EncodeRequest,
    Facets,
    FacetsRequest,
    NamesRequest,
    PassagesRequest,
    Texts,
)
from thresher.distributed.opening import RUNS, Running, listed_shards, open_shards, read_state
from thresher.distributed.replicas import LocalReplica
from thresher.distributed.shard_ranking import ShardedRanking, passage_of
from thresher.errors import InputError, ShardError
from thresher.index.fields import typed
from thresher.index.filters import Where
from thresher.ranking import Run
from thresher.records import Query
from thresher.search.effort import checked_effort
from thresher.search.queries import check_tiers, listed, qids_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from thresher.distributed.gathering import ShardReplicas, Watch
    from thresher.distributed.messages import Names, Rows, Text
    from thresher.distributed.opening import Run as RunsIn
    from thresher.distributed.opening import Shards, State
    from thresher.index.fields import Value
    from thresher.index.filters import Filter
    from thresher.records import Passage, SparseBatch
    from thresher.search.effort import Effort
    from thresher.search.queries import AnyQuery, Tiers

OnMissing: TypeAlias = Literal["error", "partial"]
_ATTEMPTS = 5
"""Times that a search begins anew since a shard took up another commit."""


class ShardedIndex:
    """An index in shards. Safe to share between threads. Open one with `ShardedIndex.open`.

    Attributes:
        shards: the shards with their replicas.
        on_missing: what becomes of an answer that lacks a shard: an `error`, or a `partial` answer that says so.
        scope: what the passages of a restricted view match; None for all passages.
        watch: called with a shard's name and the seconds of each of its answers to a search; None for nothing.
    """

    watch: Watch | None = None

    def __init__(self, shards: Sequence[ShardReplicas], state: State, options: Options, on_missing: OnMissing) -> None:
        self.shards, self.on_missing, self.options = tuple(shards), on_missing, options
        self.scope: Where | None = None
        self._state = state
        self._names: dict[int, str | None] = {}
        self._lock = threading.Lock()

    @classmethod
    @checked_call
    def open(
        cls,
        shards: Shards,
        *,
        run: RunsIn = "threads",
        threads: int = 1,
        on_missing: OnMissing = "error",
        share: bool = True,
        hedge: bool = True,
        key_env: str = "",
        timeout: float = 30.0,
    ) -> Self:
        """Open the shards of one index.

        Args:
            shards: a file that lists them (`thresher split` writes one), or a list of folders and URLs of servers
                (`thresher serve --shard`); in place of one, a list of replicas that hold the same shard.
            run: where folders are searched: `threads` of this process, `processes` (one for each, with the files mapped
                by all), or `ray` actors.
            threads: of this process, for `threads`; with 1, the caller's thread searches shard after shard.
            on_missing: `error`, or `partial`: answer without shards that fail or take too long, and say so in the
                ranking's `complete` and `missing_shards`.
            share: send the k-th score found so far along with later requests. Results are the same without.
            hedge: ask a replica too where a shard takes longer than 95 of 100 of its last answers.
            key_env: environment variable that holds the key of the servers.
            timeout: seconds after which a server's answer is no longer waited for.

        Raises:
            InputError: the file or the list names no shards.
            ShardError: a shard does not answer, or the shards do not belong together; says how to mend it.
            ArtifactError: a folder is not an index.
        """
        one_of("place to search shards in", run, RUNS)
        one_of("way with missing shards", on_missing, ("error", "partial"))
        running = Running(run, whole("threads", threads, 1), key_env, real("timeout", timeout, 0))
        opened = open_shards(listed_shards(shards), running)
        local = all(isinstance(replica, LocalReplica) for one in opened for replica in one.replicas)
        try:
            state = read_state(opened)
        except BaseException:
            for one in opened:
                one.close()
            raise
        return cls(opened, state, Options(share, hedge, local and running.threads == 1), on_missing)

    def search(
        self,
        query: AnyQuery,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        plan: str = "auto",
        explain: bool = False,
        where: Filter | None = None,
        allow: Sequence[str] | None = None,
        deadline_ms: float | None = None,
        on_missing: OnMissing | None = None,
    ) -> ShardedRanking:
        """The k best passages for `query` of all shards; arguments as `Index.search`.

        Args:
            query: a text, a `Query`, a mapping from term strings to weights; or term ids and weights, where all shards
                have one vocabulary, which those of a learned encoder do.
            k: how many, at least 0.
            tiers: as `Index.search`.
            effort: as `Index.search`; each shard goes to these limits.
            plan: as `Index.search`.
            explain: as `Index.search`; the statistics are sums over the shards that were asked.
            where: as `Index.search`.
            allow: docnos; a mask by number is not taken, since passages of shards have no common numbers.
            deadline_ms: milliseconds by which there is an answer; shards that have none by then are missing.
            on_missing: in place of the index's own.

        Raises:
            InputError: an argument is out of range.
            ShardError: a shard is missing, and `on_missing` is `error`.
        """
        asking = self._asking(k, tiers, plan, where, allow, effort=effort, explain=explain, deadline_ms=deadline_ms)
        (found,) = self._answered([query], asking, on_missing)
        return found

    def search_batch(
        self,
        queries: Sequence[AnyQuery] | SparseBatch,
        k: int = 10,
        *,
        tiers: Tiers = "auto",
        effort: Effort | None = None,
        plan: str = "auto",
        explain: bool = False,
        threads: int = 1,
        where: Filter | None = None,
        allow: Sequence[str] | None = None,
        deadline_ms: float | None = None,
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
        qids = qids_of(asked)
        asking = self._asking(
            k,
            tiers,
            plan,
            where,
            allow,
            effort=effort,
            explain=explain,
            deadline_ms=deadline_ms,
            threads=whole("threads", threads, 1),
        )
        found = self._answered(asked, asking, on_missing)
        return Run(dict(zip(qids, found, strict=True)))

    def _asking(
        self,
        k: int,
        tiers: Tiers,
        plan: str,
        where: Filter | None,
        allow: Sequence[str] | None,
        *,
        effort: Effort | None = None,
        explain: bool = False,
        deadline_ms: float | None = None,
        threads: int = 1,
    ) -> Asking:
        check_tiers(tiers)
        if isinstance(allow, np.ndarray):
            raise InputError("allow must be a list of docnos: passages of different shards have no common numbers")
        if not is_a(explain, bool):
            raise InputError(f"explain must be True or False; got {shown(explain)}")
        limit = None if deadline_ms is None else real("deadline_ms", deadline_ms, 0)
        return Asking(
            k=whole("k", k),
            tiers=tiers,
            effort=checked_effort(effort),
            plan=plan,
            where=self._narrowed(where),
            allow=None if allow is None else tuple(strings("allow", allow)),
            explain=explain,
            threads=threads,
            due=float("inf") if limit is None else time.monotonic() + limit / 1000,
        )

    def _narrowed(self, where: Filter | None) -> str:
        """A filter, and what the scope asks for, as text."""
        if where is None:
            return "" if self.scope is None else str(self.scope)
        parsed = Where.parse(where)
        parsed.check(self._state.schema)
        return str(parsed if self.scope is None else self.scope & parsed)

    def _answered(
        self, queries: Sequence[AnyQuery] | SparseBatch, asking: Asking, on_missing: OnMissing | None
    ) -> list[ShardedRanking]:
        if on_missing is not None:
            one_of("way with missing shards", on_missing, ("error", "partial"))
        for _ in range(_ATTEMPTS):
            state = self._state
            try:
                found, failed = asking.rankings(self, state, queries)
            except CommitGoneError:
                self.refresh()
                continue
            break
        else:
            raise ShardError("the shards take up new commits faster than a search takes; try again")
        if failed and (on_missing or self.on_missing) == "error":
            raise next(iter(failed.values()))
        return found

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
        allow: Sequence[str] | None = None,
    ) -> dict[Value, int]:
        """How many passages have each value of a metadata field, as `Index.facets`.

        Raises:
            InputError: there is no such field.
            ShardError: a shard does not answer: counts without it would say nothing.
        """
        if not is_a(field, str):
            raise InputError(f"a field is named by a string; got {shown(field)}")
        asking = self._asking(0, "auto", "auto", where, allow)
        state = self._state
        terms = None if query is None else asking.positive_terms(self, state, query)
        requests = {
            i: FacetsRequest(one.sha256, field, terms, asking.where, asking.allow) for i, one in enumerate(state.facts)
        }
        found = gather(self.shards, requests, hedge=self.options.hedge)
        if found.failed:
            raise next(iter(found.failed.values()))
        counts: dict[Value, int] = {}
        for answer in found.answers.values():
            if isinstance(answer, Facets):
                for value, count in answer.values:
                    counts[value] = counts.get(value, 0) + count
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def passages(self, docnos: Sequence[str]) -> list[Passage]:
        """The passages with these docnos, in their order.

        Raises:
            InputError: no shard has one.
            ShardError: a shard does not answer.
        """
        return [passage_of(text) for text in self.fetch(strings("docnos", docnos))]

    def passage(self, docno: str) -> Passage:
        """The passage with this docno; errors as `passages`."""
        return self.passages([docno])[0]

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
        found = gather(self.shards, asks, hedge=self.options.hedge)
        texts = {
            text.docno: text
            for answer in found.answers.values()
            if isinstance(answer, Texts)
            for text in answer.passages
        }
        missing = next((docno for docno in docnos if docno not in texts), None)
        if missing is None:
            return [texts[docno] for docno in docnos]
        if found.failed:
            raise next(iter(found.failed.values()))
        raise InputError(f"docno {missing!r} is in none of the {len(self.shards)} shards; was it deleted?")

    def refresh(self) -> bool:
        """Take up the last commit of each shard. Returns whether any is another than before.

        Raises:
            ShardError: a shard does not answer.
        """
        with self._lock:
            for one in self.shards:
                for replica in one.replicas:
                    if isinstance(replica, LocalReplica):
                        replica.refresh()
            before = self._state
            self._state = read_state(self.shards, before)
            return self._state is not before

    def restricted(self, where: Filter) -> ShardedIndex:
        """A view of the passages that match `where`, as `Index.restricted`; it shares the shards.

        Raises:
            InputError: a field does not exist or has another type.
        """
        made = type(self)(self.shards, self._state, self.options, self.on_missing)
        made.scope, made.watch = Where.parse(self._narrowed(where)), self.watch
        return made

    @property
    def schema(self) -> dict[str, str]:
        """The metadata fields that filters and facets may name, with their types."""
        return typed(self._state.schema)

    @property
    def tiered(self) -> bool:
        """Whether there is a second tier with passages."""
        return self._state.tiered

    @property
    def commits(self) -> tuple[int, ...]:
        """The number of the commit that each shard answers from."""
        return tuple(one.commit for one in self._state.facts)

    def close(self) -> None:
        """Close the shards: files, processes, connections."""
        for one in self.shards:
            one.close()

    def __len__(self) -> int:
        """Passages of all shards and tiers, without those that are deleted; those of a view are not counted apart."""
        return sum(self._state.live)

    def __contains__(self, docno: object) -> bool:
        if not isinstance(docno, str):
            return False
        try:
            self.fetch([docno])
        except InputError:
            return False
        return True

    def __repr__(self) -> str:
        view = "" if self.scope is None else f" where {self.scope}"
        kinds = sorted(
            {type(replica).__name__.removesuffix("Replica").lower() for one in self.shards for replica in one.replicas}
        )
        return f"<ShardedIndex: {len(self):,} passages in {len(self.shards)} shards ({', '.join(kinds)}){view}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
