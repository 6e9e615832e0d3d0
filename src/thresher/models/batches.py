"""Cutting texts into the batches of forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALIKE = 0.9
"""How long the shortest text of a batch of like texts is, relative to the longest."""


def batches(
    lengths: Sequence[int], size: int | None = None, *, tokens: int | None = None, alike: bool
) -> list[list[int]]:
    """Places of texts in batches, the longest first.

    Args:
        lengths: of the texts, in characters or tokens.
        size: texts in a batch, at most; None for no such limit.
        tokens: lengths in a batch, at most, each as long as the longest (one text always fits); None for no such limit.
        alike: end a batch at a text that is a tenth shorter than its first. On a CPU padding is paid for, and a small
            batch costs no more a text than a large one.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    found: list[list[int]] = []
    most = longest = 0
    for place in order:
        if not found or len(found[-1]) >= most or (alike and lengths[place] < _ALIKE * longest):
            longest = lengths[place]
            fitting = len(lengths) if tokens is None else max(1, tokens // max(1, longest))
            most = fitting if size is None else min(size, fitting)
            found.append([])
        found[-1].append(place)
    return found
