"""Publishing a directory: one writer at a time, a temporary sibling, and one rename that gives it the final name.

A writer locks `.NAME.lock` alongside the target and fills `.NAME.partial-…`. What killed writers left is removed by the
next one. The name of a partial directory says who writes it (process, its start, boot, process namespace, host), which
counts where the file system has no locks, or several machines use it.

An existing directory is exchanged with the new one in one system call (Linux `renameat2`). Where that call does not
exist, the old one is moved aside first, to `.NAME.previous`. A directory that cannot be renamed at all (a mount point,
a lower layer of overlayfs) stays, and its files are moved out and in, the manifest last.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import logging
import os
import re
import shutil
import socket
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from thresher.durable import lock, sync_path
from thresher.errors import ArtifactError, BusyArtifactError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST = "manifest.json"
_log = logging.getLogger(__name__)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"})
_UNKNOWN_AGE = 86400.0
_OTHERS_AGE = 7 * 86400.0
"""Seconds without a change after which a directory of a writer that cannot be asked, or of another target, is left
over."""


def place_of(target: str | Path) -> Path:
    """The absolute name under which `target` is made; a symbolic link is followed, so that it stays one.

    Raises:
        InputError: no directory can have that name, or it is not UTF-8.
    """
    text = os.path.abspath(target)  # noqa: PTH100  (folders above are not resolved: the name asked for is the name made)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"the name {text!r} is not UTF-8; choose another") from None
    if "\0" in text:
        raise InputError(f"{text!r} cannot be the name of a directory: it holds a NUL")
    return Path(os.path.realpath(text)) if os.path.islink(text) else Path(text)  # noqa: PTH114


def children(target: Path) -> list[Path]:
    """What is in `target`, sorted, but for what publishing puts there and what systems leave in every folder."""
    own = f".{target.name}."
    return sorted(c for c in target.iterdir() if not c.name.startswith((own, "._", ".nfs")) and c.name not in _LITTER)


def shards_of(target: str | Path) -> Path:
    """The directory alongside `target` that keeps finished shards of an encoding, so that a killed run resumes."""
    target = place_of(target)
    return _home(target) / f".{target.name}.encoding"


def discard_shards(target: str | Path) -> None:
    """Remove the shards of a finished `target`, unless another process is writing it by now."""
    target, shards = place_of(target), shards_of(target)
    with suppress(ArtifactError, OSError), _locked(shards.with_name(f".{target.name}.lock"), target):
        for left in shards.parent.iterdir():
            if left.name == shards.name or left.name.startswith(f"{shards.name}-"):
                shutil.rmtree(left, ignore_errors=True)


def _home(target: Path) -> Path:
    """Where what belongs to a writer of `target` is kept: its folder, or itself where it is a mount point."""
    return target if os.path.ismount(target) else target.parent


@contextmanager
def claimed(target: Path) -> Iterator[Path]:
    """A new, empty sibling of `target` to fill and `publish`; other writers of `target` are locked out meanwhile.

    It is removed at the end unless it was published.

    Raises:
        ArtifactError: another process is writing `target`.
        OSError: the folder cannot be written.
    """
    home = _home(target)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / f".{target.name}.lock", target) as locked:
            _sweep(home, target.name, locked=locked)
            partial = home / f".{target.name}.partial-{_identity()}-{uuid.uuid4().hex[:8]}"
            partial.mkdir()
            try:
                yield partial
            except FileNotFoundError as err:
                if partial.is_dir():
                    raise
                raise ArtifactError(f"{partial} was removed while {target} was written; write it again") from err
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as err:
        _explain(err, home, target)


@contextmanager
def writing_in(target: Path) -> Iterator[None]:
    """Hold the lock of the writers of `target`, to change what is in it.

    Raises:
        BusyArtifactError: another process is writing `target`.
        ArtifactError: one may be, where the file system has no locks.
        OSError: the folder cannot be written.
    """
    home = _home(target)
    try:
        with _locked(home / f".{target.name}.lock", target, alone=True) as locked:
            _sweep(home, target.name, locked=locked)
            yield
    except OSError as err:
        _explain(err, home, target)


def publish(partial: Path, target: Path) -> None:
    """Give the complete directory `partial` the name `target`; what was there is removed afterwards.

    Raises:
        ArtifactError: another process made `target` meanwhile.
        OSError: the disk failed; `target` is what it was.
    """
    previous = partial.with_name(f".{target.name}.previous")
    try:
        if partial.parent == target:
            _swap_children(partial, target, previous)
        elif not os.path.lexists(target):
            _renamed(partial, target)
        elif not _swapped(partial, target, previous):
            _swap_children(partial, target, previous)
    except OSError as err:
        if err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise ArtifactError(f"{target} was made by another process meanwhile; that one stays") from err
        raise
    for left in (partial, previous):
        shutil.rmtree(left, ignore_errors=True)
        if left.exists():
            _log.warning("%s is in place, but %s could not be removed; remove it by hand", target, left)


def _renamed(partial: Path, target: Path) -> None:
    partial.rename(target)
    try:
        sync_path(target.parent)
    except OSError:
        target.rename(partial)
        raise


def _swapped(partial: Path, target: Path, previous: Path) -> bool:
    """Exchange the names, in one step or in two; False, with nothing changed, where `target` cannot be renamed."""
    try:
        if _exchange(partial, target):
            try:
                sync_path(target.parent)
            except OSError:
                _exchange(partial, target)
                raise
            return True
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    except OSError as err:
        if err.errno in (errno.EXDEV, errno.EBUSY):
            return False
        raise
    try:
        _renamed(partial, target)
    except OSError:
        previous.rename(target)
        raise
    return True


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # another system than Linux
        return False
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(b))


def _swap_children(partial: Path, target: Path, previous: Path) -> None:
    """Move what is in `target` to `previous`, and what is in `partial` to `target`; undone if any step fails."""
    shutil.rmtree(previous, ignore_errors=True)
    previous.mkdir()
    old = sorted(children(target), key=lambda child: child.name != MANIFEST)  # first, so that no part looks whole
    new = sorted(partial.iterdir(), key=lambda child: child.name == MANIFEST)
    done: list[tuple[Path, Path]] = []
    try:
        for source, folder in [*((c, previous) for c in old), *((c, target) for c in new)]:
            done.append((source, folder / source.name))
            shutil.move(source, folder / source.name)
        sync_path(target)
    except BaseException:
        for source, place in reversed(done):
            if not os.path.lexists(source) and os.path.lexists(place):
                shutil.move(place, source)
        with suppress(OSError):
            previous.rmdir()
        raise


@contextmanager
def _locked(file: Path, target: Path, *, alone: bool = False) -> Iterator[bool]:
    """Hold `file` as a lock, and remove it at the end; yields whether the file system has locks.

    Without locks, a writer that cannot be asked whether it still runs counts as running if this must be `alone`.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            writer = os.pread(descriptor, 200, 0).decode(errors="replace")
            try:
                locked = lock(descriptor)
            except BlockingIOError:
                _refuse(target, writer)
            if not locked and _lives(writer):
                _refuse(target, writer)
            if not locked and alone and writer and not _is_here(writer):
                raise ArtifactError(
                    f"{target} is on a file system without locks, and another machine may be writing it; if none is, "
                    f"remove {file}"
                )
            if not _is_file(descriptor, file):  # its last holder removed it meanwhile
                continue
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, _identity().encode(), 0)
            try:
                yield locked
            finally:
                with suppress(OSError):
                    if os.name == "nt":
                        os.ftruncate(descriptor, 0)  # an open file cannot be removed there
                    elif _is_file(descriptor, file):
                        file.unlink()
            return
        finally:
            os.close(descriptor)


def _refuse(target: Path, writer: str) -> NoReturn:
    pid = writer.partition("-")[0]
    who = f"process {pid}" if pid.isdigit() else "another process"
    raise BusyArtifactError(f"{target} is being written by {who}; wait until that has ended, or choose another name")


def _is_file(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _identity() -> str:
    """Who writes: process, its start, boot, process namespace and host."""
    pid = os.getpid()
    return "-".join((str(pid), _started(pid), *_machine()))


def _machine() -> tuple[str, str, str]:
    """What tells boots, process namespaces and hosts apart."""
    boot = space = "0"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        space = str(Path("/proc/self/ns/pid").stat().st_ino)
    return boot, space, hashlib.sha256(socket.gethostname().encode(errors="replace")).hexdigest()[:8]


def _started(pid: int) -> str:
    """When the process started, in ticks of this boot; 0 where the system does not say."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return "0"


def _is_here(identity: str) -> bool:
    """Whether it is known of a writer if it runs still: it is of this machine, or was before that started again."""
    boot, _, host = here = _machine()
    parts = tuple(identity.split("-")[2:])
    return parts == here or (len(parts) == 3 and parts[2] == host and parts[0] != boot)


def _lives(identity: str) -> bool:
    """Whether a writer of this machine is known to run still."""
    parts = identity.split("-")
    if len(parts) != 5 or not parts[0].isdigit() or tuple(parts[2:]) != _machine() or os.name == "nt":
        return False
    try:
        os.kill(int(parts[0]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return parts[1] == _started(int(parts[0]))


def _sweep(home: Path, name: str, *, locked: bool) -> None:
    """Remove what killed writers left in `home`: those of `name`, and long since abandoned ones of other targets."""
    pattern = re.compile(r"\.(.+)\.partial-(\d+)-(?:(\d+)-([0-9a-f]+)-(\d+)-([0-9a-f]+)-)?[0-9a-f]{8}", re.DOTALL)
    for left in home.iterdir():
        found = pattern.fullmatch(left.name)
        if found is None:
            continue
        own, identity = found[1] == name, "-".join(part or "" for part in found.groups()[1:])
        if own and _is_over(left, identity, locked=locked):
            shutil.rmtree(left, ignore_errors=True)
        elif not own and found[3] and not _lives(identity) and _age(left) > _OTHERS_AGE:
            shutil.rmtree(left, ignore_errors=True)


def _is_over(left: Path, identity: str, *, locked: bool) -> bool:
    """Whether the writer of a partial directory has ended, seen by the one that holds the target."""
    pid, start, boot, space, host = identity.split("-")
    if not start:  # its name says only the process
        return int(pid) in (0, 1) or not _lives("-".join((pid, _started(int(pid)), *_machine())))
    here = _machine()
    if boot == here[0] and (locked or space == here[1]):
        return locked or not _lives(identity)  # of this kernel, whose locks tell
    if boot != here[0] and host == here[2]:
        return True  # this machine was started again
    return _age(left) > _UNKNOWN_AGE


def _age(left: Path) -> float:
    """Seconds since anything in the directory changed."""
    newest = 0.0
    with suppress(OSError):
        newest = max(one.lstat().st_mtime for one in (left, *left.rglob("*")))
    return time.time() - newest if newest else 0.0


def _explain(error: OSError, home: Path, target: Path) -> NoReturn:
    """Raise `error` again, in plain words where it is a full disk or a folder that may not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or (error.errno is None and _cut_short(error)):
        code = error.errno or errno.ENOSPC
        known = "" if error.errno is None or error.strerror == os.strerror(code) else f": {error.strerror}"
        raise OSError(code, f"no space left in {home}{known}; nothing was changed") from error
    if error.errno == errno.EMFILE:
        raise OSError(
            error.errno, f"too many open files while {target} was written; raise the limit: ulimit -n"
        ) from error
    if error.errno == errno.EFBIG:
        raise OSError(error.errno, f"a file of {target} is larger than the limit; raise it: ulimit -f") from error
    if isinstance(error.filename, str | bytes | Path):
        file = Path(os.fsdecode(error.filename))
        if file.parent == home and file.name.startswith(f".{target.name}."):
            raise OSError(error.errno, error.strerror, str(home)) from error
    raise error


def _cut_short(error: OSError) -> bool:
    """Whether numpy wrote a part of an array alone, which it reports without the system's error."""
    return re.search(r"\d+ requested and \d+ written", str(error)) is not None
