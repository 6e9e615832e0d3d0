"""Options of commands that take the file of an index's shards in place of a directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from thresher.distributed.door import Reaching


@dataclass
class ShardOptions:
    """How shards are reached."""

    on_missing: Annotated[
        Literal["error", "partial"],
        typer.Option(help="Of an index in shards: an answer that lacks a shard is an error, or is given and says so."),
    ] = "error"
    shard_run: Annotated[
        Literal["threads", "processes", "ray"],
        typer.Option(
            help="Where shards in folders are searched: threads of this process, or a process or Ray actor each."
        ),
    ] = "threads"
    shard_threads: Annotated[
        int, typer.Option(min=1, help="Threads that search folders for one query, with --shard-run threads.")
    ] = 1
    shard_key_env: Annotated[str, typer.Option(help="Environment variable that holds the key of shards at URLs.")] = ""
    shard_timeout: Annotated[float, typer.Option(min=0, help="Seconds after which a shard is missing.")] = 30.0

    @property
    def reaching(self) -> Reaching:
        """The same, for whoever opens the shards."""
        from thresher.distributed.door import Reaching

        return Reaching(self.shard_run, self.shard_threads, self.on_missing, self.shard_key_env, self.shard_timeout)
