"""Whether a search's deadline has passed, asked inside compiled loops: once a window or a superblock."""

# Kernels take arrays whose types the docstrings give; annotations would mean nothing to the compiler.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from thresher._lazy import njit
from thresher.search.kernels.intrinsics import clock
from thresher.search.kernels.types import COMPLETE, EXACT, FOREVER


@njit(cache=True, nogil=True)
def is_late(deadline, statistics):
    """Whether the deadline has passed; marks the answer, in its statistics, as cut short.

    deadline   int64                  nanoseconds by `clock`, or `FOREVER`
    statistics float64[STATISTICS]    in and out
    """
    if deadline == FOREVER or clock() < deadline:
        return False
    statistics[COMPLETE] = statistics[EXACT] = 0.0
    return True
