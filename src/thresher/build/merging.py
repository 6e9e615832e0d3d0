"""Which segments are merged: a policy by levels of size.

Every commit with new passages adds a segment, and a search visits each. The idea is that of Lucene's log and tiered
merge policies (`LogByteSizeMergePolicy`; `TieredMergePolicy`, M. McCandless 2011): segments of like size are merged, so
each passage is written again about once a level, and the number of segments grows with the logarithm of the index. A
level holds segments of up to `MOST` times the bytes of the level below, counted by live passages. Where a level has
`PER_LEVEL` segments, its smallest ones are merged, which need not be neighbours. A segment too large to be merged is
left alone, unless so much of it is deleted that it is written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.index.commit import SegmentEntry

PER_LEVEL = 8
"""Segments of one level of size from which on they are merged."""
MOST = 8
"""Segments merged into one at most; and how much larger one level is than the one below."""
FLOOR = 2 * 2**20
"""Bytes that every segment counts as at least: small ones are all alike."""
LARGEST = 5 * 2**30
"""Bytes of live passages of the largest segment that a merge makes by itself."""
DELETED = 0.25
"""Share of deleted passages from which on a segment is written anew."""
SMALL = 32 * 2**20
"""Bytes of live passages that a writer merges itself after a commit; larger merges wait for `merge`."""


def live_bytes(entry: SegmentEntry) -> int:
    """Bytes of a segment's live passages, by their share."""
    total = sum(entry.passages)
    return entry.bytes * entry.live // total if total else 0


def choose_merges(entries: Sequence[SegmentEntry], *, small: bool = False) -> list[list[SegmentEntry]]:
    """Groups of segments that are to be merged, each into one; the groups are disjoint.

    Args:
        entries: the segments of an index, in order.
        small: only groups that a writer merges by itself.
    """
    groups: list[list[SegmentEntry]] = []
    left = sorted(entries, key=live_bytes, reverse=True)
    limit = SMALL if small else LARGEST
    while (group := _next(left, limit)) is not None:
        groups.append([entry for entry in entries if entry in group])
        left = [entry for entry in left if entry not in group]
    groups += [[entry] for entry in left if is_worn(entry) and live_bytes(entry) <= limit]
    return groups


def planned_merges(
    entries: Sequence[SegmentEntry], *, all: bool = False, small: bool = False, refit: bool = False
) -> list[list[SegmentEntry]]:
    """What a merge would do.

    Args:
        entries: the segments of an index, in order.
        all: merge all into one.
        small: only groups that a writer merges by itself.
        refit: weigh all passages anew, which merges all.
    """
    if not (all or refit):
        return choose_merges(entries, small=small)
    needed = refit or len(entries) > 1 or any(entry.deletes for entry in entries)
    return [list(entries)] if needed else []


def is_worn(entry: SegmentEntry) -> bool:
    """Whether so much of a segment is deleted that it should be written anew."""
    return sum(entry.deleted) >= max(DELETED * sum(entry.passages), 1)


def _next(entries: Sequence[SegmentEntry], limit: int) -> list[SegmentEntry] | None:
    """The group to merge first, of segments that descend in size; None where no level is full."""
    levels: dict[int, list[SegmentEntry]] = {}
    for entry in entries:
        levels.setdefault(_level(live_bytes(entry)), []).append(entry)
    for level in sorted(levels):
        group = levels[level][-MOST:]
        while len(group) > 1 and sum(map(live_bytes, group)) > limit:
            group = group[1:]
        if len(levels[level]) >= PER_LEVEL and len(group) > 1:
            return group
    return None


def _level(size: int) -> int:
    """The level of a segment of this size in bytes; 0 for the smallest ones."""
    level = 0
    while size > FLOOR:
        size //= MOST
        level += 1
    return level
