"""Opens what is at a path: an index, or the shards of one, which a file lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from thresher.checks import path_of
from thresher.distributed.sharded import ShardedIndex
from thresher.search.index import Index

if TYPE_CHECKING:
    from pathlib import Path

    from thresher.distributed.opened_shards import OnMissing
    from thresher.distributed.opening import Run

Opened: TypeAlias = Index | ShardedIndex
SUFFIX = ".toml"
"""How the name of a file that lists shards ends."""


@dataclass(frozen=True)
class Reaching:
    """How the shards are reached that a file lists; as the arguments of `ShardedIndex.open`."""

    run: Run = "threads"
    threads: int = 1
    on_missing: OnMissing = "error"
    key_env: str = ""
    timeout: float = 30.0


def lists_shards(path: Path) -> bool:
    """Whether there is a file that lists shards, and not a directory."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def open_path(path: str | Path, reaching: Reaching | None = None) -> Opened:
    """The index in a directory, or the one whose shards a file lists.

    Args:
        path: a directory, or a TOML file such as `thresher split` writes.
        reaching: how shards are reached; the defaults where it is None.

    Raises:
        ArtifactError: there is no index.
        InputError: the file lists no shards.
        ShardError: a shard does not answer, or the shards do not belong together.
    """
    found, how = path_of(path), reaching or Reaching()
    if not lists_shards(found):
        return Index.open(found)
    return ShardedIndex.open(
        found,
        run=how.run,
        threads=how.threads,
        on_missing=how.on_missing,
        key_env=how.key_env,
        timeout=how.timeout,
    )
