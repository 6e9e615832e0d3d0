"""Opens the shards of an index, and sees that they can be searched as one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from thresher.checks import path_of, shown
from thresher.distributed.gathering import ShardReplicas, gather
from thresher.distributed.messages import FIRST, SECOND, Facts, FactsRequest
from thresher.distributed.replicas import HttpReplica, LocalReplica, ProcessReplica, checked_address
from thresher.distributed.shard_file import is_url, read_shard_file
from thresher.distributed.shared_terms import SharedTerms
from thresher.errors import InputError, ShardError
from thresher.search.routing import RoutingModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.distributed.replicas import Replica

Run: TypeAlias = Literal["threads", "processes", "ray"]
RUNS = ("threads", "processes", "ray")
Shards: TypeAlias = "str | Path | Sequence[str | Path | Sequence[str | Path]]"
"""A file that lists shards, or the shards themselves: each an address, or several of its replicas."""


@dataclass(frozen=True)
class Running:
    """How shards are reached.

    Attributes:
        run: where folders are searched: `threads` of this process, `processes`, or `ray` actors.
        threads: threads of this process, for `threads`; 1 for the caller's own.
        key_env: environment variable with the key of the servers.
        timeout: seconds after which a server's answer is no longer waited for.
    """

    run: Run = "threads"
    threads: int = 1
    key_env: str = ""
    timeout: float = 30.0


def listed_shards(shards: Shards) -> list[list[str]]:
    """The addresses of each shard's replicas.

    Raises:
        InputError: it is neither a file that lists shards nor a list of addresses, or names no shard, or one twice.
    """
    if isinstance(shards, str | Path):
        if is_url(shards):
            raise InputError(f"{shards!r} is one shard; give a list of them")
        found = read_shard_file(path_of(shards))
    elif isinstance(shards, Iterable):
        found = [
            [checked_address(one)] if isinstance(one, str | Path) else [checked_address(inner) for inner in one]
            for one in shards
        ]
    else:
        raise InputError(f"shards are a list of folders or URLs, or a file that lists them; got {shown(shards)}")
    every = [address for replicas in found for address in replicas]
    if not found or not all(found):
        raise InputError("give at least one shard, and an address for each")
    if len(set(every)) < len(every):
        twice = next(one for one in every if every.count(one) > 1)
        raise InputError(f"the shard {twice} is named twice; each passage must be in one shard")
    return found


def open_shards(shards: Sequence[Sequence[str]], running: Running) -> list[ShardReplicas]:
    """Open every replica.

    Raises:
        ThresherError: one cannot be opened.
    """
    pool = None
    if running.run == "threads" and running.threads > 1:
        pool = ThreadPoolExecutor(running.threads, thread_name_prefix="thresher-shards")
    opened: list[ShardReplicas] = []
    try:
        opened += (ShardReplicas([_opened(address, running, pool) for address in replicas]) for replicas in shards)
    except BaseException:
        for one in opened:
            one.close()
        raise
    return opened


def _opened(address: str, running: Running, pool: ThreadPoolExecutor | None) -> Replica:
    if is_url(address):
        return HttpReplica(address, key_env=running.key_env, timeout=running.timeout)
    if running.run == "processes":
        return ProcessReplica(address)
    if running.run == "ray":
        from thresher.distributed.actors import RayReplica

        return RayReplica(address)
    return LocalReplica(address, pool)


@dataclass(frozen=True)
class State:
    """What a coordinator knows of its shards, each at one commit.

    Attributes:
        facts: of each shard.
        spaces: the terms of the first tier, and of the second where that has others.
        comparable: whether the scores of the tiers compare.
        live: live passages of each tier, of all shards.
        schema: type of each metadata field by its name.
        model: decides when the second tier is searched; None where it always is.
    """

    facts: tuple[Facts, ...]
    spaces: tuple[SharedTerms, ...]
    comparable: bool
    live: tuple[int, ...]
    schema: dict[str, str]
    model: RoutingModel | None

    @property
    def tiered(self) -> bool:
        """Whether there is a second tier with passages."""
        return len(self.live) > 1

    @property
    def by_ids(self) -> bool:
        """Whether term ids mean the same in all shards."""
        names = {one.vocabularies[0] for one in self.facts}
        return len(names) == 1 and "" not in names

    def space(self, tier: int) -> int:
        """The tier whose space of terms a tier has: its own, or the first."""
        return FIRST if self.comparable else tier


def read_state(shards: Sequence[ShardReplicas], due: float, earlier: State | None = None) -> State:
    """What shards say of themselves now.

    Args:
        shards: all of them; each must answer.
        due: when to stop waiting, by `time.monotonic`.
        earlier: what is known; terms are kept where no shard has another commit.

    Raises:
        ShardError: one does not answer, or cannot be searched together with the others.
    """
    found = gather(shards, dict.fromkeys(range(len(shards)), FactsRequest()), due=due)
    if found.failed:
        raise next(iter(found.failed.values()))
    facts = tuple(cast("Facts", found.answers[i]) for i in range(len(shards)))
    names = [one.name for one in shards]
    if earlier is not None and facts == earlier.facts:
        return earlier
    _check(facts, names)
    tiers = max(len(one.passages) for one in facts)
    live = tuple(sum(one.passages[t] for one in facts if t < len(one.passages)) for t in range(tiers))
    comparable = False
    if tiers > 1:
        first, second = (next(one.encoders[t] for one in facts if t < len(one.encoders)) for t in range(2))
        comparable = first == second != ""
    kinds = range(1 if comparable or tiers == 1 else 2)
    spaces = [
        SharedTerms(
            len(facts),
            next(one.lexical[t] for one in facts if t < len(one.lexical)),
            sum(one.counted[t] for one in facts if t < len(one.counted)),
        )
        for t in kinds
    ]
    routing = facts[0].routing
    model = RoutingModel.from_json(json.loads(routing)) if routing else None
    return State(facts, tuple(spaces), comparable, live, facts[0].schema, model)


def _check(facts: Sequence[Facts], names: Sequence[str]) -> None:
    """Refuse shards whose scores do not compare, or that say different things of their passages.

    Raises:
        ShardError: says which, and how to mend it.
    """
    for tier in (FIRST, SECOND):
        having = [(one, name) for one, name in zip(facts, names, strict=True) if len(one.passages) >= tier]
        for what, wanted in (("encoders", "encoder"), ("lexical", "kind of terms"), ("scales", "scale of the impacts")):
            values = [getattr(one, what)[tier - 1] for one, _ in having]
            for value, (_, name) in zip(values, having, strict=True):
                if value != values[0]:
                    raise ShardError(
                        f"the shards {having[0][1]} and {name} differ in the {wanted} of tier {tier} ({values[0]} and "
                        f"{value}), so their scores do not compare; split one index (`thresher split`), or build the "
                        "shards together with one recipe"
                    )
    for what, meaning in (
        ("average_length", "average length that BM25 was fitted with"),
        ("schema", "types of the metadata fields"),
        ("routing", "calibration of the tiers"),
    ):
        for one, name in zip(facts, names, strict=True):
            if getattr(one, what) != getattr(facts[0], what):
                raise ShardError(
                    f"the shards {names[0]} and {name} differ in the {meaning} ({shown(getattr(facts[0], what))} and "
                    f"{shown(getattr(one, what))}); split one index (`thresher split`), or build the shards together"
                )
