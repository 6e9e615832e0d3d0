"""Files written atomically and flushed to disk, and locks on them.

A file is written to a temporary sibling, flushed to disk and renamed, so it is complete or as it was; what is no
regular file (a pipe, a device) is written through.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import sys
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType


fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


_MAX_LINKS = 40
"""Symbolic links followed to where a name leads; the system follows as many."""


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary stream whose content takes the name `path` when the block ends without an error.

    A symbolic link stays: the file it leads to is replaced. A pipe, a device, and a descriptor of this process
    (`/dev/stdout`, `/dev/fd/3`) are written through, without a temporary file. A file that is replaced keeps its
    permissions and its owner; where its owner cannot be kept, or its folder cannot be written, its content is
    overwritten. A name that ends in `.gz` is compressed, the same input to the same bytes. Missing folders are made.

    Raises:
        InputError: no file can have that name.
        OSError: it cannot be written; the message names it.
    """
    path = Path(path)
    place = writable_place(path)
    if place is None:
        with _written_through(path) as raw, _packing(raw, path) as stream:
            yield stream
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.parent / f".thresher-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        raw = partial.open("xb")
    except OSError as err:
        if err.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not os.access(place, os.W_OK):
            raise OSError(err.errno, err.strerror, str(path)) from None
        with place.open("wb") as raw, _packing(raw, path) as stream:  # only the file itself may be written
            yield stream
        return
    try:
        with raw:
            with _packing(raw, path) as stream:
                yield stream
            _flush(raw, path)
        _take_place(partial, place)
    finally:
        partial.unlink(missing_ok=True)


def writable_place(path: Path) -> Path | None:
    """Where a file of the name `path` is made or replaced: links are followed.

    None where it is written through instead: a pipe, a device, a descriptor of this process.

    Raises:
        InputError: no file can have that name.
        IsADirectoryError: it is a directory.
    """
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} cannot be the name of a file: it holds a NUL")
    if any(
        str(step.parent) == "/dev/fd" or (str(step).startswith("/proc/") and step.parent.name == "fd")
        for step in _links(path)
    ):
        return None
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "this is a directory, not a file", str(path))
    return Path(os.path.realpath(path)) if stat.S_ISREG(mode) else None


@contextmanager
def _written_through(path: Path) -> Iterator[BinaryIO]:
    """`path` opened for writing as it is; a descriptor of this process is shared, so that its position is kept."""
    number = _own_descriptor(path)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # what was printed before comes before
    with path.open("wb") if number is None else os.fdopen(os.dup(number), "wb") as raw:
        yield raw


def _own_descriptor(path: Path) -> int | None:
    """The descriptor of this process that `path` leads to, None where it leads elsewhere."""
    for step in _links(path):
        if step.name.isdigit() and str(step.parent) in ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd"):
            return int(step.name)
    return None


def _links(path: Path) -> Iterator[Path]:
    """`path`, and each place that its symbolic links lead to."""
    for _ in range(_MAX_LINKS):
        yield path
        try:
            path = path.parent / path.readlink()
        except OSError:  # no link, or there is nothing yet
            return


@contextmanager
def _packing(raw: BinaryIO, path: Path) -> Iterator[BinaryIO]:
    """`raw`, or what compresses into it where the name of `path` ends in `.gz`; all is written when the block ends."""
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
            yield cast("BinaryIO", packed)
    else:
        yield raw
    raw.flush()


def _flush(raw: BinaryIO, path: Path) -> None:
    try:
        raw.flush()
        sync(raw.fileno())
    except OSError as err:
        raise OSError(err.errno, err.strerror, str(path)) from err


def _take_place(partial: Path, place: Path) -> None:
    """Give the finished file `partial` the name `place`, with the permissions and the owner of what is there."""
    try:
        old = place.stat()
    except FileNotFoundError:
        partial.replace(place)
        return
    try:
        new = partial.stat()
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.chown(partial, old.st_uid, old.st_gid)
        partial.chmod(stat.S_IMODE(old.st_mode))
        partial.replace(place)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.EACCES, errno.EBUSY, errno.EXDEV, errno.EINVAL):
            raise
        with partial.open("rb") as source, place.open("wb") as raw:  # another's file, or one mounted by itself
            shutil.copyfileobj(source, raw)
            _flush(raw, place)


_NOT_SUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF})


def sync(descriptor: int) -> None:
    """Flush an open file or directory to disk, where its file system can.

    Raises:
        OSError: the disk is full or failed.
    """
    try:
        os.fsync(descriptor)
    except OSError as err:
        if err.errno not in _NOT_SUPPORTED:
            raise


def sync_path(path: Path) -> None:
    """Flush the file or directory `path` to disk, where the system can; directories cannot be on Windows.

    Raises:
        OSError: the disk is full or failed; names `path`.
    """
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        sync(descriptor)
    except OSError as err:
        raise OSError(err.errno, err.strerror, str(path)) from err
    finally:
        os.close(descriptor)


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file or directory against other processes until it is closed, without waiting.

    Args:
        descriptor: the file or directory.
        shared: others may lock it so too.

    Returns:
        False where the system or the file system has no locks: the caller goes on without.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(err.errno, "locked by another process") from None
        if err.errno in _NOT_SUPPORTED or err.errno == errno.ENOLCK:
            return False
        raise
    return True


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) under the name `path`, atomically."""
    with replacing(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def write_names(path: str | Path, names: Iterable[str]) -> None:
    """Write one name a line (docnos, terms), as `read_names` reads them."""
    with replacing(path) as stream:
        stream.writelines(name.encode("utf-8", "surrogatepass") + b"\n" for name in names)
