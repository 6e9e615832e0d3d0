"""Cutting texts into the batches of forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["batches"]

_ALIKE = 0.9
"""How long the shortest text of a batch of like texts is, relative to the longest."""


def batches(lengths: Sequence[int], size: int, *, alike: bool) -> list[list[int]]:
    """Places of texts in batches of at most `size`, the longest first.

    Args:
        lengths: of the texts, in characters or tokens.
        size: texts in a batch, at most.
        alike: end a batch at a text that is a tenth shorter than its first. On a CPU padding is paid for, and a small
            batch costs no more a text than a large one.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    for place in order:
        full = not found or len(found[-1]) == size
        if full or (alike and lengths[place] < _ALIKE * lengths[found[-1][0]]):
            found.append([])
        found[-1].append(place)
    return found
