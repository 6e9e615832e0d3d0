"""The keys of a pruning, as a recipe's `[prune]` table and `thresher prune` spell them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PruneStep(BaseModel):
    """What to prune, as recipes and the command line spell it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    estimator: str = "embedded"
    """Name of a quality estimator, or the directory of a fitted one."""
    scores: str = ""
    """A score store to take the scores from, instead of scoring; refused where it is not this corpus's."""
    keep: float | None = Field(default=None, ge=0, le=1)
    """Fraction of the passages to keep."""
    threshold: float | None = None
    """Least score to keep."""
    budget: str = ""
    """What the kept passages may cost: `2 GB`, `3 hours`; needs `rate`."""
    rate: float = Field(default=0.0, ge=0)
    """Words a second of encoding, or bytes a word of index, as measured; the budget's unit says which."""
    floor: int = Field(default=0, ge=0)
    """Passages every group keeps at least."""
    floor_field: str = ""
    """The metadata field that names a passage's group (source, document)."""
    pins: tuple[str, ...] = Field(default=(), strict=False)
    """Docnos that stay."""
    junk: bool = True
    """Junk rules first."""
    fold: bool = True
    """Fold duplicates to one canonical passage."""
    similarity: float | None = Field(default=0.8, gt=0, le=1)
    """Least Jaccard similarity of near-duplicates; null folds exact ones alone."""
    rest: Literal["tier-2", "drop"] = "tier-2"
    """Where passages go that only their score condemns."""

    @property
    def active(self) -> bool:
        """Whether anything is asked for beyond junk rules and folding."""
        return self.keep is not None or self.threshold is not None or bool(self.budget)
