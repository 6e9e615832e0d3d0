"""Files mapped into memory for reading, and room on the disk for files that are written through a mapping."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import sys
import weakref
from functools import cache
from typing import TYPE_CHECKING

from thresher.errors import DamagedArtifactError
from thresher.files import ABSENT

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_ZEROS = bytes(2**20)


def map_file(file: Path) -> memoryview:
    """The bytes of a file, mapped into memory for reading. No descriptor stays open.

    Raises:
        DamagedArtifactError: there is no such file, or it is a pipe or a device.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer
    except ABSENT as err:
        raise DamagedArtifactError(str(file), f"the file cannot be opened ({err}); rebuild it") from err
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DamagedArtifactError(str(file), "it is not a regular file; rebuild the artifact")
        size = found.st_size
        return _mapped(descriptor, size, file) if size else memoryview(b"")
    finally:
        os.close(descriptor)


def reserve(file: Path, size: int) -> None:
    """Make `file` of `size` zero bytes, with room on the disk for all of them.

    What is written through a mapping of a file that has none kills the process when the disk is full (SIGBUS).

    Raises:
        OSError: the disk is full.
    """
    try:
        with file.open("wb") as stream:
            if size and not _allocated(stream.fileno(), size):
                for first in range(0, size, len(_ZEROS)):
                    stream.write(_ZEROS[: size - first])
    except OSError as err:
        raise OSError(err.errno, err.strerror, str(file)) from None


def release(array: NDArray[np.generic]) -> None:
    """Give back the resident pages of an array in a mapped file; they return from the file when they are next read.

    Nothing that was written is lost: the file is mapped shared, and the system writes its pages. Other memory, whose
    contents would be lost, is left alone, and so are all pages where the system cannot do it.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None or not array.nbytes or not sys.platform.startswith("linux") or not _is_mapped(array):
        return
    start = array.ctypes.data
    first = start // mmap.PAGESIZE * mmap.PAGESIZE
    _libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(start + array.nbytes - first), advice)


def _is_mapped(array: NDArray[np.generic]) -> bool:
    """Whether an array lies in a mapped file."""
    held: object = array
    while (base := getattr(held, "base", None)) is not None:
        held = base
    held = held.obj if isinstance(held, memoryview) else held
    return isinstance(held, mmap.mmap | ctypes.Array)


def _allocated(descriptor: int, size: int) -> bool:
    """Whether the file system gave the room for a file; False where it cannot."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except AttributeError:
        return False
    except OSError as err:
        if err.errno in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            return False
        raise
    return True


def _mapped(descriptor: int, size: int, file: Path) -> memoryview:
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, trackfd=False))
    if os.name != "posix":
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_READ))
    libc = _libc()  # mmap.mmap would keep a copy of the descriptor open
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(file))
    held = (ctypes.c_ubyte * size).from_address(address)
    release = weakref.finalize(held, libc.munmap, ctypes.c_void_p(address), ctypes.c_size_t(size))
    release.atexit = False  # threads may still read then
    return memoryview(held).toreadonly()


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    return libc
