"""`thresher info` and `thresher verify`: the manifest of an artifact, and every byte against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, say, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def info(
    directory: Annotated[Path, typer.Argument(help="An index, or any other directory that thresher wrote.")],
    json: JsonOption = False,
) -> None:
    """Show what an index holds: counts, encoder, recipe, the usage of the build, and the size of each file.

    \b
    Examples:
      thresher info my-index
      thresher info my-index --json
    """
    from thresher.artifact import read_manifest

    manifest = read_manifest(directory)
    if json:
        emit_json(
            {
                "path": str(directory),
                "kind": manifest.kind,
                "format": manifest.format,
                "version": manifest.version,
                **manifest.fields,
                "files": {name: dict(entry) for name, entry in manifest.files.items()},
            }
        )
        return
    facts = [
        ("kind", f"{manifest.kind}, format {manifest.format}"),
        ("written by", f"thresher {manifest.version}"),
        *_flat(manifest.fields),
    ]
    table(["", str(directory)], facts)
    echo()
    table(
        ["file", "bytes"],
        [(name, f"{entry['bytes']:,}") for name, entry in manifest.files.items()],
        numeric=["bytes"],
    )


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


def _flat(fields: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested fields as dotted names, in the order written."""
    for key, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                yield f"{prefix}{key}", ", ".join(f"{name} {shown(part)}" for name, part in item.items())
        else:
            yield f"{prefix}{key}", shown(value)


def shown(value: object) -> str:
    """A value as a person reads it: thousands separated, floats short, hashes cut."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items())
    return str(value)
