"""Leases: a reader's hold on the commit that it opened, so that no writer removes what it names.

A lease is a shared lock (`flock`) on `commits/N.json`, see `thresher.index.commit`. It ends when the reader closes it,
or its process ends in whatever way.
"""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

from thresher import artifact
from thresher.checks import path_of
from thresher.durable import lock
from thresher.errors import DamagedArtifactError
from thresher.files import ABSENT
from thresher.index.commit import COMMITS, Commit
from thresher.manifest import missing, parse_manifest
from thresher.publish import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thresher.manifest import Manifest

    Document = tuple[Manifest, Commit]

ATTEMPTS = 1000
"""Times that an index is opened again because a writer replaced the commit meanwhile."""


class Lease:
    """A commit that no writer removes while this is open, or until it is garbage collected.

    Attributes:
        path: the index, absolute: the working directory may change.
        manifest: its document.
        commit: the same, read.
        file: device and inode of its file.
        stamp: device, inode, size and time of the `manifest.json` that held it; empty where it was opened by number.
    """

    def __init__(
        self, path: Path, document: Document, descriptor: int, stamp: tuple[int, ...], *, locked: bool
    ) -> None:
        self.path, self.stamp = path.absolute(), stamp
        self.manifest, self.commit = document
        found = os.fstat(descriptor)
        self.file = (found.st_dev, found.st_ino)
        token = object()
        _HELD[token] = self.file
        self._closing = weakref.finalize(self, _give_back, token, descriptor if locked else None)
        self._closing.atexit = False
        if not locked:  # nothing to hold
            os.close(descriptor)

    def close(self) -> None:
        """Give the lease back."""
        self._closing()

    def in_place(self) -> bool:
        """Whether the commit is still there."""
        try:
            found = (self.path / COMMITS / f"{self.commit.number}.json").stat()
        except ABSENT:
            return False
        return (found.st_dev, found.st_ino) == self.file

    def is_current(self) -> bool:
        """Whether the index has had no commit since."""
        try:
            return self.stamp == stamp_of((self.path / MANIFEST).stat())
        except ABSENT:
            return False


_HELD: dict[object, tuple[int, int]] = {}
"""The files of this process's leases."""


def _give_back(token: object, descriptor: int | None) -> None:
    _HELD.pop(token, None)
    if descriptor is not None:
        os.close(descriptor)


def held_here(file: Path) -> bool:
    """Whether this process itself holds the commit in `file`, which not every file system's locks tell."""
    try:
        found = file.stat()
    except ABSENT:
        return False
    return (found.st_dev, found.st_ino) in list(_HELD.values())


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """What tells one `manifest.json` from the next."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def take_lease(path: Path, number: int | None = None, sha256: str = "") -> Lease:
    """A lease on the commit of the index `path`: the last one, or the one with this number and checksum.

    Raises:
        ArtifactError: there is no index; or that commit is gone.
        DamagedArtifactError: the commit cannot be read.
    """
    for _ in range(ATTEMPTS):
        content, stamp = _read(path / MANIFEST)
        if content is None:
            raise missing(path)
        if number is not None:
            lease = _lease(path, number)
            if lease is None or (sha256 and lease.commit.sha256 != sha256):
                raise artifact.replaced(path)
            return lease
        document = _parsed(content, path / MANIFEST, path)
        lease = _lease(path, document[1].number, (content, document), stamp)
        if lease is not None:
            return lease
        if _read(path / MANIFEST)[0] == content:
            file = path / COMMITS / f"{document[1].number}.json"
            raise DamagedArtifactError(str(file), f"is not what {MANIFEST} holds, or missing; build the index again")
    raise artifact.busy(path)


def _parsed(content: bytes, file: Path, path: Path) -> Document:
    manifest = parse_manifest(content, file)
    return manifest, Commit.of(manifest, path)


def _read(file: Path) -> tuple[bytes | None, tuple[int, ...]]:
    """The content of a file and its stamp; None where there is none."""
    try:
        with file.open("rb") as stream:
            return stream.read(), stamp_of(os.fstat(stream.fileno()))
    except ABSENT:
        return None, ()


def _lease(
    path: Path, number: int, wanted: tuple[bytes, Document] | None = None, stamp: tuple[int, ...] = ()
) -> Lease | None:
    """A lease on commit `number`; None where it is gone, about to be removed, or not the text that is wanted."""
    file = path / COMMITS / f"{number}.json"
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except ABSENT:
        return None
    try:
        try:
            locked = lock(descriptor, shared=True)
            found = os.fstat(descriptor)
            if not os.path.samestat(found, file.stat()):
                return None
        except (BlockingIOError, *ABSENT):  # being removed
            return None
        content = os.pread(descriptor, found.st_size, 0)
        if wanted is not None and content != wanted[0]:
            return None
        document = _parsed(content, file, path) if wanted is None else wanted[1]
        kept, descriptor = descriptor, -1
        return Lease(path, document, kept, stamp, locked=locked)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def leased(path: str | Path, number: int | None = None, sha256: str = "") -> Iterator[Lease]:
    """Hold a commit of the index `path` while the block runs; as `take_lease`."""
    lease = take_lease(path_of(path), number, sha256)
    try:
        yield lease
    finally:
        lease.close()
