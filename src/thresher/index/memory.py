"""A limit on the memory that a build holds, and how inversion keeps to it.

What counts is resident memory, as `ps` and `top` show it: what the process allocated, and the pages of mapped files
that it has touched. The second kind is given back window by window (`thresher.mapping.release`): the pages stay in the
system's cache, which a limit for containers may evict at any time, and the files hold what was written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import real
from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

GB = 10**9
SPARE = 48 * 2**20
"""Bytes that are left free below the limit: for threads, buffers, and what the allocator keeps."""
LEAST_ROOM = 32 * 2**20
"""Bytes that inversion works in at least; with less it would pass over the postings hundreds of times."""


class MemoryLimit:
    """How much resident memory a build may take.

    Args:
        gigabytes: of 10^9 bytes, for the whole process, above 0.

    Raises:
        InputError: it is not a number above 0.
        ConfigError: the process takes that much already.
    """

    def __init__(self, gigabytes: float) -> None:
        self.bytes: int = int(real("memory_gb", gigabytes, 0) * GB)
        self.require(0, "the process")

    def left(self) -> int:
        """Bytes that may still be taken."""
        return self.bytes - SPARE - resident()

    def require(self, size: int, what: str) -> None:
        """Refuse what takes more than is left.

        Args:
            size: bytes that it takes.
            what: its name, for the message.

        Raises:
            ConfigError: the limit is too low for it; names the least that is enough.
        """
        if size <= self.left():
            return
        held = resident()
        least = (size + held + SPARE) / GB * 1.02
        raise ConfigError(
            f"{what} takes {size / GB:.2f} GB of memory beside the {held / GB:.2f} GB in use, and the limit is "
            f"{self.bytes / GB:g} GB; allow {least:.1f} GB (--memory-gb, memory_gb=)"
        )


def resident() -> int:
    """Bytes of memory that this process holds now; where the system does not say, the most that it ever held."""
    try:
        with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123  (read often, and Path is slower)
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource
        import sys

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def ranges(sizes: NDArray[np.int64], room: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges (first, after) of items that fit into `room` together; a larger item has one of its own.

    Args:
        sizes: int64[n], bytes of each item.
        room: bytes.
    """
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        after = max(int(np.searchsorted(ends, before + room, side="right")), first + 1)
        yield first, after
        first = after
