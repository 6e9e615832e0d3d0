"""`OpenShards`: the shards of one index, open at one commit of each: views, later commits, and what they hold.

`thresher.distributed.sharded` adds the calls that answer queries.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias

from thresher.arguments import checked_call
from thresher.checks import one_of, real, whole
from thresher.distributed.opening import RUNS, Running, listed_shards, open_shards, read_state
from thresher.distributed.replicas import LocalReplica
from thresher.index.fields import typed
from thresher.index.filters import Where
from thresher.search.any_index import AnyIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from thresher.build.recipe import Recipe
    from thresher.distributed.gathering import ShardReplicas, Watch
    from thresher.distributed.opening import Run as RunsIn
    from thresher.distributed.opening import Shards, State
    from thresher.index.filters import Filter

OnMissing: TypeAlias = Literal["error", "partial"]
WAYS = ("error", "partial")


class Options(NamedTuple):
    """How shards are asked.

    Attributes:
        share: send the k-th score so far along.
        hedge: ask replicas of slow shards.
        in_turn: one shard after another, since all answer in this thread.
        timeout: seconds after which an answer is no longer waited for that is not one to a batch.
    """

    share: bool
    hedge: bool
    in_turn: bool
    timeout: float = 30.0

    @property
    def due(self) -> float:
        """When such an answer is no longer waited for that is asked for now, by `time.monotonic`."""
        return time.monotonic() + self.timeout


class OpenShards(AnyIndex):
    """The open shards of one index; `ShardedIndex` says what they are asked.

    Attributes:
        shards: the shards with their replicas.
        on_missing: what becomes of an answer that lacks a shard: an `error`, or a `partial` answer that says so.
        scope: what the passages of a restricted view match; None for all passages.
        watch: called with a shard's name and the seconds of each of its answers to a search; None for nothing.
        missed: called with the name of a shard that is missing from an answer; None for nothing.
    """

    watch: Watch | None = None
    missed: Callable[[str], object] | None = None

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
            timeout: seconds after which a shard's answer to one query, its texts or facets are no longer waited for; of
                a server also that to a batch.

        Raises:
            InputError: the file or the list names no shards.
            ShardError: a shard does not answer, or the shards do not belong together; says how to mend it.
            ArtifactError: a folder is not an index.
        """
        one_of("place to search shards in", run, RUNS)
        one_of("way with missing shards", on_missing, WAYS)
        running = Running(run, whole("threads", threads, 1), key_env, real("timeout", timeout, 0))
        opened = open_shards(listed_shards(shards), running)
        local = all(isinstance(replica, LocalReplica) for one in opened for replica in one.replicas)
        options = Options(share, hedge, local and running.threads == 1, running.timeout)
        try:
            state = read_state(opened, math.inf)
        except BaseException:
            for one in opened:
                one.close()
            raise
        return cls(opened, state, options, on_missing)

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
            self._state = read_state(self.shards, self.options.due, before)
            return self._state is not before

    def restricted(self, where: Filter) -> Self:
        """A view of the passages that match `where`, as `Index.restricted`; it shares the shards.

        Raises:
            InputError: a field does not exist or has another type.
        """
        made = self.pinned()
        made.scope = Where.parse(self._narrowed(where))
        return made

    def pinned(self) -> Self:
        """A view of these commits, which a later `refresh` of this index does not change; it shares the shards.

        Shards keep the last few commits open. A view that is older takes up the last one when it is searched.
        """
        made = type(self)(self.shards, self._state, self.options, self.on_missing)
        made.scope, made.watch, made.missed = self.scope, self.watch, self.missed
        return made

    def _narrowed(self, where: Filter | None) -> str:
        """A filter, and what the scope asks for, as text."""
        if where is None:
            return "" if self.scope is None else str(self.scope)
        parsed = Where.parse(where)
        parsed.check(self._state.schema)
        return str(parsed if self.scope is None else self.scope & parsed)

    @property
    def schema(self) -> dict[str, str]:
        """The metadata fields that filters and facets may name, with their types."""
        return typed(self._state.schema)

    @property
    def tiered(self) -> bool:
        """Whether there is a second tier with passages."""
        return self._state.tiered

    @property
    def commit(self) -> int:
        """The sum of `commits`: it grows with every commit of a shard."""
        return sum(self.commits)

    @property
    def commits(self) -> tuple[int, ...]:
        """The number of the commit that each shard answers from."""
        return tuple(one.commit for one in self._state.facts)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Passages of each shard, without those that are deleted."""
        return tuple(sum(one.passages) for one in self._state.facts)

    @property
    def recipe(self) -> Recipe:
        """The recipe that the first shard was built with.

        Raises:
            ArtifactVersionError: it has keys that this release does not know.
        """
        from pydantic import ValidationError

        from thresher.build.recipe import Recipe
        from thresher.errors import ArtifactVersionError

        try:
            return Recipe.model_validate_json(self._state.facts[0].recipe)
        except ValidationError as err:
            raise ArtifactVersionError(
                f"the shard {self.shards[0].name} was built with a recipe that this release does not read "
                f"({err.errors()[0]['loc']}); use the same release of thresher for coordinator and shards"
            ) from err

    @property
    def built(self) -> tuple[object, ...]:
        """What a pipeline depends on besides the passages."""
        first = self._state.facts[0]
        return first.encoders, first.recipe, self.tiered

    def close(self) -> None:
        """Close the shards: files, processes, connections."""
        for one in self.shards:
            one.close()

    def __len__(self) -> int:
        """Passages of all shards and tiers, without those that are deleted; those of a view are not counted apart."""
        return sum(self._state.live)

    def __repr__(self) -> str:
        view = "" if self.scope is None else f" where {self.scope}"
        kinds = sorted(
            {type(replica).__name__.removesuffix("Replica").lower() for one in self.shards for replica in one.replicas}
        )
        where = f"{len(self.shards)} shards ({', '.join(kinds)})"
        return f"<{type(self).__name__}: {len(self):,} passages in {where}{view}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
