"""`thresher info` and `thresher verify`: the manifest of an artifact, and every byte against it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thresher.cli.output import JsonOption, echo, emit_json, say, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from thresher.index.commit import Commit
    from thresher.manifest import Fields, Files, Manifest
    from thresher.models.licence import Licence


RECALL = "recall"
"""The field of a commit that is shown in words."""


def info(
    directory: Annotated[
        Path, typer.Argument(help="An index, the file that lists its shards, or any directory that thresher wrote.")
    ],
    json: JsonOption = False,
) -> None:
    """Show what an index holds: counts, encoder, recipe, the usage of the build, models and their licences, and files.

    \b
    Examples:
      thresher info my-index
      thresher info my-index --json
      thresher info shards/shards.toml
    """
    from thresher.distributed.door import lists_shards

    if lists_shards(directory):
        _about_shards(directory, json)
    else:
        _about(directory, json)


def _about_shards(file: Path, json: bool) -> None:
    """What an index in shards holds, and what each shard answers from."""
    from thresher.distributed.sharded import ShardedIndex

    with ShardedIndex.open(file) as index:
        names = [[_listed(one.name, file) for one in shard.replicas] for shard in index.shards]
        rows = list(zip(names, index.sizes, index.commits, strict=True))
        facts: dict[str, object] = {"live": len(index), "tiered": index.tiered, "fields": index.schema}
        recipe = index.recipe.model_dump(mode="json", exclude_defaults=True)
    shards = [{"replicas": replicas, "live": size, "commit": commit} for replicas, size, commit in rows]
    if json:
        emit_json({"path": str(file), "kind": "shards", **facts, "recipe": recipe, "shards": shards})
        return
    table(["", str(file)], [("kind", f"an index in {len(shards)} shards"), *_flat({**facts, "recipe": recipe})])
    echo()
    shown_shards = [(", ".join(replicas), f"{size:,}", str(commit)) for replicas, size, commit in rows]
    table(["shard", "passages", "commit"], shown_shards, numeric=["passages", "commit"])


def _listed(name: str, file: Path) -> str:
    """A replica as the file names it: a folder beside the file without the way to it."""
    folder = file.parent.absolute()
    return str(Path(name).relative_to(folder)) if Path(name).is_relative_to(folder) else name


def _about(directory: Path, json: bool) -> None:
    """What a directory holds."""
    from thresher.artifact import read_manifest
    from thresher.cli.certify import facts as certificate_facts
    from thresher.index.commit import INDEX
    from thresher.manifest import load_manifest

    manifest, commit = load_manifest(directory), None
    if manifest.kind == INDEX and "segments" in manifest.fields:
        manifest, commit, files = _opened(directory)
    else:
        files = dict(read_manifest(directory).files)
    totals = {} if commit is None else _totals(commit) | _drift(directory) | _states(directory, commit)
    models = [] if commit is None else _models(directory, commit)
    certificate, lines = ({}, []) if commit is None else certificate_facts(directory)
    lines = [*lines, *([] if commit is None else _recall(commit, directory))]
    if json:
        emit_json(
            {
                "path": str(directory),
                "kind": manifest.kind,
                "format": manifest.format,
                "version": manifest.version,
                **manifest.fields,
                **totals,
                **({} if commit is None else {"models": [{**one.as_json(), "used_for": use} for one, use in models]}),
                **({"certificate": certificate} if certificate else {}),
                "files": {name: dict(entry) for name, entry in files.items()},
            }
        )
        return
    fields = manifest.fields if commit is None else {**totals, **_by_build(manifest.fields)}
    facts = [
        ("kind", f"{manifest.kind}, format {manifest.format}"),
        ("written by", f"thresher {manifest.version}"),
        *_flat(fields),
    ]
    table(["", str(directory)], facts)
    if commit is not None:
        _show_segments(commit)
    if models:
        echo()
        shown_models = [(one.model, use, one.name, one.terms) for one, use in models]
        table(["model", "used for", "licence of its weights", "terms"], shown_models)
    if lines:
        echo()
        for line in lines:
            echo(line)
    echo()
    sizes = [(name, f"{size:,}") for name, size in _sizes(files).items()]
    table(["file", "bytes"], sizes, numeric=["bytes"])


def index_facts(directory: Path) -> list[tuple[str, str]]:
    """The facts of an index, as names and values that people read."""
    manifest, commit, _ = _opened(directory)
    fields = {**_totals(commit), **_by_build(manifest.fields)}
    return [("written by", f"thresher {manifest.version}"), *_flat(fields)]


def _by_build(fields: Fields) -> dict[str, object]:
    """The fields of a commit, those that the first build wrote and no commit changes under a name that says so.

    Segments have a table of their own, and so have the sizes of files.
    """
    built: dict[str, object] = {name: fields[name] for name in ("corpus", "usage", "counts") if name in fields}
    if isinstance(counts := built.get("counts"), dict):
        built["counts"] = {name: value for name, value in counts.items() if name != "bytes"}
    others = {name: value for name, value in fields.items() if name not in built and name not in ("segments", RECALL)}
    return {**others, "first build": built}


def _opened(directory: Path) -> tuple[Manifest, Commit, Files]:
    """The manifest of an index, the commit that it is, and the files of the commit and its segments."""
    from thresher.artifact import check_files, read_manifest
    from thresher.index.lease import leased

    with leased(directory) as lease:
        commit = lease.commit
        check_files(directory, commit.files)
        files = dict(commit.files)
        for entry in commit.segments:
            inner = read_manifest(directory / entry.folder).files
            files |= {f"{entry.folder}/{name}": file for name, file in inner.items()}
    return lease.manifest, commit, files


def _sizes(files: Files) -> dict[str, int]:
    """Bytes by name: within a segment, of all segments together."""
    sizes: dict[str, int] = {}
    for path, entry in files.items():
        name = path.split("/", 2)[2] if path.startswith("segments/") else path
        sizes[name] = sizes.get(name, 0) + int(entry["bytes"])
    return sizes


def _totals(commit: Commit) -> dict[str, int]:
    """Passages and bytes of all segments of an index."""
    return {
        "live": commit.live,
        "deleted": commit.passages - commit.live,
        "bytes": sum(entry.bytes for entry in commit.segments),
    }


def _drift(directory: Path) -> dict[str, object]:
    """BM25's average length over the live passages of each tier; what was frozen is among the commit's fields."""
    from thresher.index.collection import open_collection
    from thresher.search.statistics import live_lengths

    collection = open_collection(directory)
    try:
        lexical = [part for part in collection.parts if part.layout.counts.idf]
        passages, tokens = live_lengths(lexical)
        return {"average_length_now": round(tokens / passages, 2)} if passages else {}
    finally:
        collection.close()


def _states(directory: Path, commit: Commit) -> dict[str, object]:
    """What the states of passages take, where the index has some: which model's they are, and their bytes."""
    from thresher.artifact import read_manifest
    from thresher.vectors.states import FOLDER

    folders = [directory / entry.folder / FOLDER for entry in commit.segments]
    found = [read_manifest(folder) for folder in folders if folder.is_dir()]
    if not found:
        return {}
    passages, tokens = (sum(int(one.fields[name]) for one in found) for name in ("passages", "tokens"))
    size = sum(int(entry["bytes"]) for one in found for entry in one.files.values())
    counts = {"passages": passages, "tokens": tokens, "bytes": size, "bytes_a_passage": round(size / max(passages, 1))}
    return {"states": {"model": found[0].fields["model"], **counts}}


def _models(directory: Path, commit: Commit) -> list[tuple[Licence, str]]:
    """The models that an index was built with or is queried with, each with its licence and what it is used for."""
    from pydantic import ValidationError

    from thresher.artifact import read_manifest
    from thresher.build.recipe import Recipe
    from thresher.encode.dense import engine_of
    from thresher.models.licence import licence_of

    uses: dict[str, list[str]] = {}
    with suppress(ValidationError):  # a recipe of another release
        for name, use in Recipe.model_validate(commit.fields.get("recipe") or {}).models():
            uses.setdefault(name, []).append(use)
    vectors = [directory / entry.folder / "vectors" for entry in commit.segments]
    for folder in filter(Path.is_dir, vectors):
        fields = read_manifest(folder).fields
        name, engine = str(fields.get("encoder_name") or ""), engine_of(str(fields.get("encoder") or ""))
        use = f"vectors, made by {engine}" if engine else "vectors"
        if name:
            mine = uses.setdefault(name, [])
            if "vectors" in mine:
                mine.remove("vectors")
            if use not in mine:
                mine.append(use)
    found = [(licence_of(name), ", ".join(use)) for name, use in uses.items()]
    bases = {one.base: one.model for one, _ in found if one.base}
    there = {one.path for one, _ in found}
    based = [(licence_of(base), f"base of {model}") for base, model in bases.items()]
    return found + [(one, use) for one, use in based if one.path is not None and one.path not in there]


def _recall(commit: Commit, directory: Path) -> Sequence[str]:
    """What the index says of recall: what it was measured on, what has changed since, and what promises cost."""
    from thresher.search.recall import curve_of
    from thresher.search.recall_report import sentences

    curve = curve_of(commit, directory)
    return [] if curve is None else sentences(curve, commit)


def _show_segments(commit: Commit) -> None:
    echo()
    numeric = ["passages", "second tier", "deleted", "bytes"]
    rows = [
        (
            entry.name,
            f"{entry.passages[0]:,}",
            f"{sum(entry.passages[1:]):,}",
            f"{sum(entry.deleted):,}",
            f"{entry.bytes:,}",
        )
        for entry in commit.segments
    ]
    table(["segment", *numeric], rows, numeric=numeric)


def verify(
    directory: Annotated[Path, typer.Argument(help="An index, or any other directory that thresher wrote.")],
    json: JsonOption = False,
) -> None:
    """Check every file of an index against the sizes and checksums in its manifest.

    Exit code 0: nothing is damaged. Exit code 1: the message names the damaged file, or says that the certificate in
    the index is of another index. One of an earlier commit is said to be stale.

    \b
    Examples:
      thresher verify my-index
      thresher verify my-index --json
    """
    from thresher.certify.certificate import certified_since
    from thresher.index.collection import verify as check
    from thresher.index.commit import INDEX

    kind, files, total = check(directory)
    since = certified_since(directory) if kind == INDEX else None
    if json:
        certificate = {} if since is None else {"certificate": since.as_json()}
        emit_json({"path": str(directory), "kind": kind, "files": files, "bytes": total, **certificate})
        return
    say(f"{directory}: {kind}, {files:,} files, {total:,} bytes, all as written")
    if since is not None:
        say(f"{directory}: {since}")


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
