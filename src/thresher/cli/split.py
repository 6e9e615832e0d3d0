"""`thresher split`: an index into shards that are searched together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from thresher.cli.output import JsonOption, echo, emit_json, progress_wanted


def split(
    index: Annotated[Path, typer.Argument(help="The index.")],
    *,
    shards: Annotated[int, typer.Option(min=1, help="How many shards.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards and shards.toml.")],
    by: Annotated[
        Literal["docno", "range"],
        typer.Option(help="Which passages go together: by a hash of the docno, or ranges of the index's order."),
    ] = "docno",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards that are there.")] = False,
    json: JsonOption = False,
) -> None:
    """Split an index into shards: complete indexes that are searched together as if they were one.

    Scores and rankings stay the same to the last bit. The index itself is not changed. Deleted passages are left out.

    \b
    Examples:
      thresher split my-index --shards 3 -o shards
      thresher serve shards/shard-0000 --shard --port 8081
    """
    from thresher.distributed.splitting import split_index

    report = split_index(index, output, shards, by=by, overwrite=overwrite, progress=progress_wanted())
    if json:
        emit_json({
            "shards": str(report.path),
            "passages": {path.name: count for path, count in zip(report.shards, report.passages, strict=True)},
        })  # fmt: skip
        return
    for path, count in zip(report.shards, report.passages, strict=True):
        echo(f"{path}: {count:,} passages")
    echo(f"{report.path} lists them")
