"""Artifacts: directories that are written atomically, under a manifest with checksums.

An artifact (an index, a score store, a vector store) is a directory of files with one `manifest.json`, which holds the
artifact's kind and format version, the release that wrote it, and the size and sha256 of every file. Its checksum of
itself is the mark by which thresher knows its own: a directory without it is never replaced. An artifact is written to
a temporary sibling, every file is fsynced, the manifest is written last, and `thresher.publish` gives it the final
name, which always holds a complete artifact. Of the artifacts inside it, an index names the manifests alone, so that a
commit need not look at what did not change (`thresher.index.commit`).

Opening checks the kind, the format version, and the existence and size of every file. Hashes are checked by `verify`.
A reader never mixes two builds: what is opened while the artifact is being replaced is opened again (`open_whole`), and
what is loaded later is refused where it would come from another build than the one that was opened (`load_later`).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from thresher.durable import sync_path
from thresher.errors import ArtifactError, DamagedArtifactError
from thresher.files import ABSENT
from thresher.manifest import Manifest, check_kind, load_manifest, manifest_text, parse_manifest
from thresher.publish import MANIFEST, children, claimed, place_of, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Set

    from thresher.manifest import Fields, Files

T = TypeVar("T")
_ATTEMPTS = 100
"""Times that an artifact is opened again because it was replaced meanwhile."""

_BETWEEN = re.compile(
    r"commits/(?:\d+|manifest)\.json|deletes/\d+-[0-9a-f]{8}-\d+\.(?:mask|counts)"
    r"|(?:certificate|score-calibration)\.json"
    r"|((?:encoders|quality)/[0-9a-f]{12}/|segments/\d+-[0-9a-f]{8}/).*",
    re.DOTALL,
)
"""Files of an index that no longer belong to its commit, or not yet: of earlier commits, and of a killed writer. The
certificate and the calibration of scores belong to none."""


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
    with making(target, kind=kind, overwrite=overwrite) as partial:
        draft = Draft(partial)
        yield draft
        seal(partial, kind, format, draft.fields)


@contextmanager
def making(target: str | Path, *, kind: str, overwrite: bool = False) -> Iterator[Path]:
    """As `writing`, where the block itself writes the manifest into the directory that is yielded."""
    target = place_of(target)
    check_replaceable(target, kind, overwrite)
    with claimed(target) as partial:
        yield partial
        check_replaceable(target, kind, overwrite)
        publish(partial, target)


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
    for _ in range(_ATTEMPTS):
        manifest = load_manifest(path)
        check_kind(path, manifest, kind, format)
        try:
            check_files(path, manifest.files)
        except DamagedArtifactError:
            if _build_of(path) == manifest.sha256:
                raise
            continue
        return manifest
    raise busy(path)


def check_files(path: Path, files: Files) -> None:
    """Check that these files of the artifact `path`, as its manifest names them, are there and have their sizes.

    Raises:
        DamagedArtifactError: one is missing, truncated or too long.
    """
    for name, entry in files.items():
        file = path / name
        try:
            size = file.stat().st_size
        except ABSENT:
            raise DamagedArtifactError(str(file), "the file is missing; rebuild the artifact") from None
        if size != entry["bytes"]:
            raise DamagedArtifactError(
                str(file), f"the file has {size} bytes where {entry['bytes']} were written; rebuild the artifact"
            )


def open_whole(path: Path, open: Callable[[], T]) -> T:
    """What `open` makes of the artifact `path`, all from one build: called again where it was replaced meanwhile.

    Raises:
        ArtifactError: it is replaced again and again.
    """
    for _ in range(_ATTEMPTS):
        before = _build_of(path)
        try:
            made = open()
        except (ArtifactError, FileNotFoundError):
            if _build_of(path) == before:
                raise
            continue
        if _build_of(path) == before:
            return made
    raise busy(path)


def load_later(path: Path, manifest: Manifest, load: Callable[[], T]) -> T:
    """What `load` makes of further files of the artifact `path`, opened earlier with this manifest.

    Raises:
        ArtifactError: the artifact was replaced or removed since.
    """
    try:
        made = load()
    except (ArtifactError, FileNotFoundError) as err:
        if _build_of(path) == manifest.sha256:
            raise
        raise replaced(path) from err
    if _build_of(path) != manifest.sha256:
        raise replaced(path)
    return made


def check_build(path: Path, manifest: Manifest, sha256: str) -> None:
    """Refuse an artifact that is not the build with this checksum.

    Raises:
        ArtifactError: it is another one.
    """
    if manifest.sha256 != sha256:
        raise replaced(path)


def _build_of(path: Path) -> str:
    """The checksum that names the build at `path`, empty where there is none that can be read."""
    try:
        return load_manifest(path).sha256
    except ArtifactError:
        return ""


def busy(path: Path) -> ArtifactError:
    """The error for what is replaced faster than it can be opened."""
    return ArtifactError(f"{path} was replaced {_ATTEMPTS} times while it was opened; open it when nothing writes it")


def replaced(path: Path) -> ArtifactError:
    """The error for what was opened once, and is another build now."""
    return ArtifactError(f"{path} was replaced since it was opened; open it again")


def verify(path: str | Path) -> Manifest:
    """Check every byte of the artifact `path`, and of the artifacts inside it, against the manifests.

    Raises:
        ArtifactError: as `read_manifest`.
        DamagedArtifactError: naming the first file whose content is not what was written.
    """
    path = Path(path)
    for _ in range(_ATTEMPTS):
        manifest = read_manifest(path)
        try:
            verify_files(path, manifest.files)
        except (ArtifactError, FileNotFoundError):
            if _build_of(path) == manifest.sha256:
                raise
            continue
        return manifest
    raise busy(path)


def verify_files(path: Path, files: Files) -> tuple[int, int]:
    """Check every byte of these files of the artifact `path`, as its manifest names them.

    Where the manifest of an artifact inside it is named alone, what that one names is checked too.

    Returns:
        how many files, of how many bytes.

    Raises:
        DamagedArtifactError: naming the first file whose content is not what was written.
    """
    check_files(path, files)
    count, size = len(files), sum(int(entry["bytes"]) for entry in files.values())
    known = {folder.as_posix() for name in files for folder in Path(name).parents if Path(name).name != MANIFEST}
    for name, entry in files.items():
        if _sha256(path / name) != entry["sha256"]:
            raise DamagedArtifactError(
                str(path / name), "the content does not match its sha256 in the manifest; rebuild the artifact"
            )
        folder = Path(name).parent
        if Path(name).name == MANIFEST and folder.as_posix() not in known:
            more, bytes = verify_files(path / folder, load_manifest(path / folder).files)
            count, size = count + more, size + bytes
    return count, size


def check_replaceable(target: Path, kind: str, overwrite: bool) -> None:
    """Refuse to replace anything but a readable artifact of the same kind that holds nothing else.

    Raises:
        ArtifactError: there is something at `target` that may not be replaced.
    """
    if not os.path.lexists(target) or (target.is_dir() and not children(target)):
        return
    if not target.is_dir():
        raise ArtifactError(f"{target} is not a directory that thresher wrote, and is not replaced")
    if not overwrite:
        raise ArtifactError(f"{target} exists already; remove it, choose another name, or overwrite it (--overwrite)")
    try:
        manifest = load_manifest(target)
    except DamagedArtifactError as err:
        problem = str(err.args[1]).removesuffix("; rebuild the artifact")
        raise ArtifactError(
            f"{target} is not replaced: {MANIFEST} does not say that thresher wrote it, or is damaged ({problem}). "
            f"If it is an artifact that you no longer need, remove it by hand: rm -r {target}"
        ) from err
    except ArtifactError as err:
        raise ArtifactError(f"{target} is not an artifact that thresher wrote, and is not replaced") from err
    if manifest.kind != kind:
        raise ArtifactError(f"{target} is a {manifest.kind!r} artifact, and is not replaced by {kind!r}")
    others = _others(target, manifest)
    if others:
        more = f" (and {len(others) - 1:,} more)" if len(others) > 1 else ""
        raise ArtifactError(
            f"{target} is not replaced: it holds {others[0]!r}{more}, which thresher did not write. Move that elsewhere"
        )


def _others(path: Path, manifest: Manifest, folder: Path | None = None) -> list[str]:
    """Files in the artifact `path` that neither its manifest nor that of an artifact inside it names, sorted."""
    found: list[str] = []
    for child in children(folder or path):
        name = child.relative_to(path).as_posix()
        if child.is_symlink() or not child.is_dir():
            found += [name] if name != MANIFEST and not left_by_writer(name, manifest) else []
        elif (child / MANIFEST).is_file():
            try:
                inner = [f"{name}/{other}" for other in _others(child, load_manifest(child))]
            except ArtifactError:
                inner = [p.relative_to(path).as_posix() for p in child.rglob("*") if not p.is_dir()]
            found += inner
        else:
            found += _others(path, manifest, child)
    return sorted(name for name in found if name not in manifest.files)


def left_by_writer(name: str, manifest: Manifest) -> bool:
    """Whether a file of an index is of an earlier commit than `manifest`, or was left by a killed writer."""
    found = _BETWEEN.fullmatch(name) if "segments" in manifest.fields else None
    return found is not None and not (found[1] and any(known.startswith(found[1]) for known in manifest.files))


def remove_left(path: Path, folders: Iterable[str], names: Set[str]) -> None:
    """Remove what is in these folders of the index `path` and is not among `names`, where thresher wrote it."""
    for folder in folders:
        if not (path / folder).is_dir():
            continue
        for left in (path / folder).iterdir():
            name = f"{folder}/{left.name}"
            if name in names or left.is_symlink() or not _BETWEEN.fullmatch(name + "/" if left.is_dir() else name):
                continue
            if left.is_dir():
                _remove(left)
            else:
                with suppress(OSError):
                    left.unlink()


def _remove(directory: Path) -> None:
    """Remove a directory that no reader needs; what thresher did not write stays, under the manifest that tells it."""
    try:
        others = set(_others(directory, load_manifest(directory))) if (directory / MANIFEST).is_file() else set()
    except ArtifactError:
        others = set()
    if not others:
        shutil.rmtree(directory, ignore_errors=True)
        return
    for file in sorted(directory.rglob("*"), reverse=True):
        with suppress(OSError):
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            elif file.relative_to(directory).as_posix() not in {MANIFEST, *others}:
                file.unlink()


def seal(directory: Path, kind: str, format: int, fields: Fields) -> Manifest:
    """Fsync every file in `directory`, then write the manifest that names them all.

    Raises:
        OSError: the disk is full or failed.
    """
    files: dict[str, Fields] = {}
    (directory / MANIFEST).unlink(missing_ok=True)  # of an attempt that failed
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        files[file.relative_to(directory).as_posix()] = sealed_entry(file)
    content = manifest_text(kind, format, fields, files)
    manifest = directory / MANIFEST
    manifest.write_bytes(content)
    sync_path(manifest)
    for folder in sorted((p for p in directory.rglob("*") if p.is_dir()), reverse=True):
        sync_path(folder)
    sync_path(directory)
    return parse_manifest(content, manifest)


def sealed_entry(file: Path) -> Fields:
    """Size and sha256 of a file, as a manifest has them, once it is flushed to disk."""
    sync_path(file)
    return {"bytes": file.stat().st_size, "sha256": _sha256(file)}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
