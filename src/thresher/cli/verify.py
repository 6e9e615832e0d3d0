"""`thresher verify`: every byte of an artifact against its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thresher.cli.output import JsonOption, emit_json, say


def verify(
    directory: Annotated[Path, typer.Argument(help="An index, or any other directory that thresher wrote.")],
    json: JsonOption = False,
) -> None:
    """Check every file of an index against the sizes and checksums in its manifest.

    Exit code 0: nothing is damaged. Exit code 1: the message names the damaged file.

    \b
    Examples:
      thresher verify my-index
      thresher verify my-index --json
    """
    from thresher.artifact import verify as check

    manifest = check(directory)
    total = sum(int(entry["bytes"]) for entry in manifest.files.values())
    if json:
        emit_json({"path": str(directory), "kind": manifest.kind, "files": len(manifest.files), "bytes": total})
    else:
        say(f"{directory}: {manifest.kind}, {len(manifest.files)} files, {total:,} bytes, all as written")
