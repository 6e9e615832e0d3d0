"""Artifacts: directories that are written atomically, under a manifest with checksums.

An artifact (an index, a score store, a vector store) is a directory of files with one `manifest.json`, which holds the
artifact's kind and format version, the release that wrote it, and the size and sha256 of every file. It is written to a
temporary sibling, every file is fsynced, the manifest is written last, and the sibling takes the final name in one
rename. An existing artifact is exchanged with the new one in one system call (Linux `renameat2`), so that the final
name always holds a complete artifact. Where that call does not exist, the old directory is moved aside first, to
`.NAME.previous`, and `read_manifest` reports it if it finds only that.

Opening checks the kind, the format version, and the existence and size of every file. Hashes are checked by `verify`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher._version import __version__
from thresher.errors import ArtifactError, ArtifactVersionError, DamagedArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANIFEST = "manifest.json"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an artifact.

    Attributes:
        kind: what the directory is (`index`, `quality-scores`, `vectors`).
        format: version of its layout, a whole number.
        version: the thresher release that wrote it.
        files: file name (relative, `/`-separated) to `{"bytes": int, "sha256": str}`.
        fields: everything else: recipe, counts, fingerprints, usage; plain JSON.
    """

    kind: str
    format: int
    version: str
    files: Mapping[str, Mapping[str, Any]]
    fields: Mapping[str, Any]


@dataclass(slots=True)
class Draft:
    """An artifact being written. Put files under `path`; set what the manifest shall say in `fields`."""

    path: Path
    fields: dict[str, Any] = field(default_factory=dict)


@contextmanager
def writing(target: str | Path, *, kind: str, format: int, overwrite: bool = False) -> Iterator[Draft]:
    """Write the artifact `target`: it appears when the block ends, and does not if it raises or the process dies.

    Args:
        target: the final directory.
        kind: what the directory is.
        format: version of its layout.
        overwrite: replace an existing artifact of the same kind. Nothing else is ever replaced.

    Raises:
        ArtifactError: there is something at `target` that may not be replaced.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100  (no symlink resolution: the name asked for is the name made)
    _check_replaceable(target, kind, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    partial = target.parent / f".{target.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial.mkdir()
    draft = Draft(partial)
    try:
        yield draft
        _seal(draft, kind, format)
        _check_replaceable(target, kind, overwrite)
        _publish(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read_manifest(path: str | Path, *, kind: str | None = None, format: int | None = None) -> Manifest:
    """Open the artifact `path`: its manifest, after the cheap checks (kind, format, existence and size of each file).

    Args:
        path: the artifact's directory.
        kind: the kind it must be, if given.
        format: the newest layout the caller can read, if given.

    Raises:
        ArtifactError: there is no artifact there, or it is of another kind.
        ArtifactVersionError: its layout is newer than `format`.
        DamagedArtifactError: the manifest cannot be read, or a file is missing, truncated or too long.
    """
    path = Path(path)
    manifest = _load_manifest(path)
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{path} is a {manifest.kind!r} artifact, not {kind!r}")
    if format is not None and manifest.format > format:
        raise ArtifactVersionError(
            f"{path} has format {manifest.format}, written by thresher {manifest.version}; this is thresher "
            f"{__version__}, which reads formats up to {format}. Upgrade with: pip install -U thresher"
        )
    for name, entry in manifest.files.items():
        file = path / name
        try:
            size = file.stat().st_size
        except OSError:
            raise DamagedArtifactError(str(file), "the file is missing; rebuild the artifact") from None
        if size != entry["bytes"]:
            raise DamagedArtifactError(
                str(file), f"the file has {size} bytes where {entry['bytes']} were written; rebuild the artifact"
            )
    return manifest


def verify(path: str | Path) -> Manifest:
    """Check every byte of the artifact `path` against its manifest.

    Raises:
        ArtifactError: as `read_manifest`.
        DamagedArtifactError: naming the first file whose content is not what was written.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        if _sha256(path / name) != entry["sha256"]:
            raise DamagedArtifactError(
                str(path / name), "the content does not match its sha256 in the manifest; rebuild the artifact"
            )
    return manifest


def _load_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not file.is_file():
        previous = path.parent / f".{path.name}.previous"
        if previous.is_dir() and not path.exists():
            raise ArtifactError(
                f"{path} does not exist: a write was killed while it replaced it. The last good one is {previous}; "
                f"bring it back with: mv {previous} {path}"
            )
        raise ArtifactError(f"{path} is not a thresher artifact: there is no {MANIFEST} in it")
    try:
        document = json.loads(file.read_bytes())
        own = document.pop("manifest_sha256")
        if own != _document_sha256(document):
            raise ValueError("its checksum does not match its content")
        files = {_checked_name(name): dict(entry) for name, entry in document.pop("files").items()}
        for entry in files.values():
            int(entry["bytes"]), str(entry["sha256"])
        return Manifest(
            str(document.pop("kind")), int(document.pop("format")), str(document.pop("version")), files, document
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as err:
        raise DamagedArtifactError(
            str(file), f"the manifest cannot be read ({type(err).__name__}: {err}); rebuild the artifact"
        ) from err


def _checked_name(name: str) -> str:
    """A file name of the manifest, refused where it would leave the directory."""
    if name.startswith("/") or ".." in Path(name).parts:
        raise ValueError(f"file name {name!r} leaves the directory")
    return name


def _document_sha256(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _check_replaceable(target: Path, kind: str, overwrite: bool) -> None:
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise ArtifactError(f"{target} exists already; remove it, choose another name, or overwrite it (--overwrite)")
    if target.is_symlink() or not target.is_dir():
        raise ArtifactError(f"{target} is not a directory that thresher wrote, and is not replaced")
    try:
        found = _load_manifest(target).kind
    except DamagedArtifactError:
        return  # a damaged artifact may be rebuilt in place
    except ArtifactError as err:
        raise ArtifactError(f"{target} is not an artifact that thresher wrote, and is not replaced") from err
    if found != kind:
        raise ArtifactError(f"{target} is a {found!r} artifact, and is not replaced by {kind!r}")


def _seal(draft: Draft, kind: str, format: int) -> None:
    """Fsync every file, then write the manifest that names them all."""
    files: dict[str, dict[str, object]] = {}
    for file in sorted(p for p in draft.path.rglob("*") if p.is_file()):
        _fsync(file)
        files[file.relative_to(draft.path).as_posix()] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    document = {"kind": kind, "format": format, "version": __version__, **draft.fields, "files": files}
    document = json.loads(json.dumps(document, ensure_ascii=False))  # as the reader will see it
    document["manifest_sha256"] = _document_sha256(document)
    manifest = draft.path / MANIFEST
    manifest.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _fsync(manifest)
    for directory in sorted((p for p in draft.path.rglob("*") if p.is_dir()), reverse=True):
        _fsync(directory)
    _fsync(draft.path)


def _publish(partial: Path, target: Path) -> None:
    """Give `partial` the name `target`; what was there is removed."""
    if not os.path.lexists(target):
        partial.rename(target)
    elif _exchange(partial, target):
        shutil.rmtree(partial)
    else:
        previous = target.parent / f".{target.name}.previous"
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
        partial.rename(target)
        shutil.rmtree(previous)
    _fsync(target.parent)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(b))


def _sweep(target: Path) -> None:
    """Remove what killed writers of `target` left in its folder."""
    for left in target.parent.glob(f".{target.name}.partial-*"):
        pid = left.name.rsplit("-", 2)[-2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems refuse to sync a directory
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
