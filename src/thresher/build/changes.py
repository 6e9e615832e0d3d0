"""What calls of a writer did, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Change:
    """What one call of a writer changed; nothing is visible before the commit.

    Attributes:
        added: passages whose docnos the index did not have.
        replaced: passages that take the place of one with the same docno.
        unchanged: passages that the index has already, with the same title, text and metadata; nothing is done.
        deleted: docnos of the passages that are deleted, in the order they were found.
        absent: docnos that were to be deleted, and that the index does not have.
        skipped: records of the corpus that were left out, by reason; empty unless its reading skips bad ones.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {**asdict(self), "deleted": list(self.deleted), "absent": list(self.absent)}


@dataclass(frozen=True, slots=True)
class CommitReport:
    """What a commit made visible.

    Attributes:
        commit: its number; that of the last commit where nothing had changed.
        added, replaced, deleted, unchanged, absent: passages, summed over the calls since the last commit.
        tier_2: passages that went to the second tier.
        pruned: passages that are not in the first tier, by reason: `junk`, `duplicate` and `score`.
        returned: folded passages that went through the recipe again, because their representative was deleted.
        segment: name of the new segment; empty where there is none.
        merged: segments that were merged afterwards.
        seconds: how long the commit took, with the encoding of its passages.
    """

    commit: int
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unchanged: int = 0
    absent: int = 0
    tier_2: int = 0
    pruned: Mapping[str, int] = field(default_factory=dict)
    returned: int = 0
    segment: str = ""
    merged: int = 0
    seconds: float = 0.0

    @property
    def folded(self) -> int:
        """Passages that were folded into a duplicate."""
        return self.pruned.get("duplicate", 0)

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {**asdict(self), "pruned": dict(self.pruned), "folded": self.folded}


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did.

    Attributes:
        commit: number of the last commit; a merge makes one for every new segment.
        merged: segments that are gone.
        made: segments that took their place.
        segments: segments that the index has now.
        passages: live passages in the new segments.
        seconds: how long it took.
    """

    commit: int
    merged: int
    made: int
    segments: int
    passages: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)
