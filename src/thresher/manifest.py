"""`manifest.json`, which an artifact has of its own: what it says, how it is read and written, and its checksum.

It holds the artifact's kind and format version, the release that wrote it, and the size and sha256 of every file. The
checksum of itself is the mark by which thresher knows its own (`thresher.artifact`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thresher._version import __version__
from thresher.errors import ArtifactError, ArtifactVersionError, DamagedArtifactError
from thresher.publish import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Fields = Mapping[str, Any]
    """What a manifest says, plain JSON."""
    Files = Mapping[str, Fields]
    """File name to its size and sha256."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an artifact.

    Attributes:
        kind: what the directory is (`index`, `quality-scores`, `vectors`).
        format: version of its layout, a whole number.
        version: the thresher release that wrote it.
        files: file name (relative, `/`-separated) to `{"bytes": int, "sha256": str}`.
        fields: everything else: recipe, counts, fingerprints, usage; plain JSON.
        sha256: its checksum, which names one build.
    """

    kind: str
    format: int
    version: str
    files: Files
    fields: Fields
    sha256: str = ""


def check_kind(path: Path, manifest: Manifest, kind: str | None, format: int | None) -> None:
    """Refuse an artifact of another kind than `kind`, or of a newer format than `format`, where they are given.

    Raises:
        ArtifactError: it is of another kind.
        ArtifactVersionError: its format is newer.
    """
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{path} is a {manifest.kind!r} artifact, not {kind!r}")
    if format is not None and manifest.format > format:
        raise ArtifactVersionError(
            f"{path} has format {manifest.format}, written by thresher {manifest.version}; this is thresher "
            f"{__version__}, which reads formats up to {format}. Upgrade with: pip install -U thresher"
        )


def load_manifest(path: Path) -> Manifest:
    """The manifest of the artifact `path`; its files are not looked at.

    Raises:
        ArtifactError: there is no artifact there.
        DamagedArtifactError: the manifest cannot be read.
    """
    file = path / MANIFEST
    if not file.is_file():
        raise missing(path)
    try:
        content = file.read_bytes()
    except FileNotFoundError:  # replaced or removed since
        raise missing(path) from None
    return parse_manifest(content, file)


def parse_manifest(content: bytes, file: Path) -> Manifest:
    """The manifest whose text is `content`, which was read from `file`.

    Raises:
        DamagedArtifactError: it is not the text of a manifest.
    """
    try:
        document = json.loads(content)
        own = document.pop("manifest_sha256")
        if own != document_sha256(document):
            raise ValueError("its checksum does not match its content")
        files = {_checked_name(name): _checked_entry(name, entry) for name, entry in document.pop("files").items()}
        kind, format, version = (document.pop(key) for key in ("kind", "format", "version"))
        if not isinstance(kind, str) or type(format) is not int or not isinstance(version, str):
            raise TypeError(f"kind {kind!r}, format {format!r} or version {version!r} is of a wrong type")
        return Manifest(kind, format, version, files, document, str(own))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        problem = f"{type(err).__name__}: {err}"
        problem = problem if len(problem) <= _SHOWN else problem[: _SHOWN - 1] + "…"
        raise DamagedArtifactError(str(file), f"the manifest cannot be read ({problem}); rebuild the artifact") from err


def missing(path: Path) -> ArtifactError:
    """The error for a directory without a manifest; says where the last good one is, if a write was killed."""
    for previous in (path.parent / f".{path.name}.previous", path / f".{path.name}.previous"):
        if (previous / MANIFEST).is_file():
            first = f"rm -r {path} && " if path.is_dir() and previous.parent != path else ""
            back = f"mv {previous}/* {path}" if previous.parent == path else f"{first}mv {previous} {path}"
            return ArtifactError(
                f"{path} is not complete: a write was killed while it replaced it. The last good one is {previous}; "
                f"bring it back with: {back}"
            )
    why = f"there is no {MANIFEST} in it" if path.is_dir() else "there is no such directory"
    return ArtifactError(f"{path} is not a thresher artifact: {why}")


def _checked_name(name: str) -> str:
    """A file name of the manifest, refused where it would leave the directory or cannot be a file's."""
    parts = name.replace("\\", "/").split("/")
    if not name or "\0" in name or name.startswith("/") or ".." in parts or any(len(p) > _NAME_MAX for p in parts):
        raise ValueError(f"file name {name!r} leaves the directory")
    return name


def _checked_entry(name: str, entry: object) -> dict[str, int | str]:
    if isinstance(entry, dict):
        size, digest = entry.get("bytes"), entry.get("sha256")
        if type(size) is int and isinstance(digest, str):
            return {"bytes": size, "sha256": digest}
    raise TypeError(f"the entry of file {name!r} is not its size and sha256")


def document_sha256(document: Mapping[str, object]) -> str:
    """The checksum of a manifest without it."""
    return hashlib.sha256(
        json.dumps(document, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def manifest_text(kind: str, format: int, fields: Fields, files: Files) -> bytes:
    """The text of a manifest, with its checksum."""
    document = {"kind": kind, "format": format, "version": __version__, **fields, "files": files}
    document = json.loads(json.dumps(document, ensure_ascii=False, default=dict))  # as the reader will see it
    document["manifest_sha256"] = document_sha256(document)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")  # a corpus may have a name that is not UTF-8


_SHOWN = 200

_NAME_MAX = 255
"""Characters of a name that file systems take."""
