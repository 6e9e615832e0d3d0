"""From scores to tiers: which passages are indexed in full, which go to the cheap second tier, which nowhere.

Order of the decisions, each with its reason on record:

1. pinned passages stay, whatever else is true of them;
2. junk (`quality.junk`) goes;
3. duplicates are folded to one canonical passage, whose position they keep;
4. the rest is kept best first, until the fraction, the threshold or the budget is reached; pins count towards it, and
   so does what the floors bring back;
5. floors: of every source (a metadata field, or any other grouping) at least so many passages stay, its best ones, so
   that no document loses everything. A duplicate comes back for a floor where nothing else of its group can; junk
   never.

Equal scores are ordered by a hash of the docno, so neither the order of the corpus nor the alphabet decides what goes.
Raising a fraction or a budget never removes a passage that was kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import ConfigError, InputError
from thresher.quality.duplicates import Folding, fold_duplicates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from thresher.quality.junk import JunkRules

TIER_DROPPED, TIER_ONE, TIER_TWO = 0, 1, 2
REASONS = ("kept", "pinned", "floor", "junk", "duplicate", "score")
_KEPT, _PINNED, _FLOOR, _JUNK, _DUPLICATE, _SCORE = range(len(REASONS))


@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep. At most one of `keep`, `threshold` and `budget`; none of them keeps every sound passage.

    Attributes:
        keep: fraction of all passages, in [0, 1].
        threshold: least score. Scores of different estimators have different scales: look at the histogram first.
        budget: what the kept passages may cost together, in the unit of the costs given to `decide` (bytes, seconds).
        floor: passages every group keeps at least; 0 for none.
        pins: docnos that stay.
        junk: rules whose passages go first; None for none.
        fold: fold duplicates.
        similarity: least Jaccard similarity of near-duplicates; None folds exact ones alone.
        rest: where passages go that only their score condemns: `tier-2` (searchable, cheaply) or `drop`.
    """

    keep: float | None = None
    threshold: float | None = None
    budget: float | None = None
    floor: int = 0
    pins: frozenset[str] = field(default_factory=frozenset)
    junk: JunkRules | None = None
    fold: bool = False
    similarity: float | None = 0.8
    rest: str = "tier-2"

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.keep, self.threshold, self.budget)) > 1:
            raise ConfigError("give one of keep, threshold and budget: each alone decides how much stays")
        if self.keep is not None and not 0 <= self.keep <= 1:
            raise ConfigError(f"keep is {self.keep}, expected a fraction between 0 and 1")
        if self.budget is not None and not self.budget >= 0:
            raise ConfigError(f"budget is {self.budget}, expected a number that is not negative")
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise ConfigError(f"threshold is {self.threshold}, expected a finite score")
        if self.floor < 0:
            raise ConfigError(f"floor is {self.floor}, expected a number that is not negative")
        if self.rest not in ("tier-2", "drop"):
            raise ConfigError(f"rest is {self.rest!r}, expected 'tier-2' or 'drop'")


@dataclass(frozen=True, slots=True)
class Decision:
    """Where every passage goes, in corpus order.

    Attributes:
        tiers: uint8[n]: TIER_ONE, TIER_TWO or TIER_DROPPED.
        reasons: uint8[n], numbers of `REASONS`.
        canonical: int64[n]: position of the passage that stands for each; its own where it is no duplicate.
        junk: for passages that went as junk the rule's name, by position.
    """

    tiers: NDArray[np.uint8]
    reasons: NDArray[np.uint8]
    canonical: NDArray[np.int64]
    junk: dict[int, str]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """bool[n]: passages of tier 1."""
        result: NDArray[np.bool_] = self.tiers == TIER_ONE
        return result

    def counts(self) -> dict[str, int]:
        """Passages by tier and by reason."""
        by_reason = np.bincount(self.reasons, minlength=len(REASONS))
        return {
            "passages": len(self.tiers),
            "tier_1": int((self.tiers == TIER_ONE).sum()),
            "tier_2": int((self.tiers == TIER_TWO).sum()),
            "dropped": int((self.tiers == TIER_DROPPED).sum()),
            **{reason: int(count) for reason, count in zip(REASONS, by_reason, strict=True)},
        }


def tie_keys(docnos: Sequence[str]) -> NDArray[np.uint64]:
    """A hash of each docno, by which equal scores are ordered, uint64[n]."""
    digests = (hashlib.blake2b(d.encode("utf-8", "surrogatepass"), digest_size=8).digest() for d in docnos)
    return np.fromiter((int.from_bytes(d, "big") for d in digests), np.uint64)


def preference(scores: NDArray[np.floating], docnos: Sequence[str]) -> NDArray[np.int64]:
    """Positions from the best to the worst score; equal scores by a hash of the docno, int64[n]."""
    return np.lexsort((tie_keys(docnos), -np.asarray(scores, np.float64))).astype(np.int64)


def decide(
    policy: Policy,
    docnos: Sequence[str],
    scores: NDArray[np.floating],
    *,
    texts: Sequence[str] | Callable[[], Iterable[str]] | None = None,
    groups: Sequence[str] | None = None,
    costs: NDArray[np.floating] | None = None,
) -> Decision:
    """Carry `policy` out.

    Args:
        policy: what to keep.
        docnos: identifiers, in corpus order.
        scores: float[n], one a passage, higher is better.
        texts: title and text of the passages; needed for junk rules and folding.
        groups: the source or document of each passage; needed for floors. Passages with the same name form a group.
        costs: float[n], what each passage costs, in the budget's unit; needed for a budget.

    Raises:
        InputError: arrays of different lengths, a pin that no passage has, scores or costs that are not finite.
        ConfigError: the policy needs texts, groups or costs that are not given.
    """
    n = len(docnos)
    values: NDArray[np.float64] = np.asarray(scores, np.float64)
    _check(policy, n, values, groups, costs)
    order = preference(values, docnos)
    reasons = np.full(n, _SCORE, np.uint8)
    pinned = _pinned(policy.pins, docnos)
    held = _held_texts(policy, texts, n)
    junk = _junk(policy.junk, held, pinned)
    folding = _fold(policy, held, order, pinned, junk, n)
    reasons[folding.folded] = _DUPLICATE
    reasons[list(junk)] = _JUNK
    reasons[pinned] = _PINNED
    sound = order[reasons[order] == _SCORE]
    if policy.floor:
        reasons[_floors(policy.floor, order, reasons, groups or [])] = _FLOOR
    already = np.flatnonzero(np.isin(reasons, (_PINNED, _FLOOR)))
    reasons[_affordable(policy, sound, values, already, costs, n)] = _KEPT
    tiers = np.full(n, TIER_DROPPED, np.uint8)
    tiers[np.isin(reasons, (_KEPT, _PINNED, _FLOOR))] = TIER_ONE
    if policy.rest == "tier-2":
        tiers[reasons == _SCORE] = TIER_TWO
    return Decision(tiers, reasons, folding.canonical, junk)


def _check(
    policy: Policy,
    n: int,
    scores: NDArray[np.float64],
    groups: Sequence[str] | None,
    costs: NDArray[np.floating] | None,
) -> None:
    if scores.shape != (n,) or not np.isfinite(scores).all():
        raise InputError(f"expected {n} finite scores, one a passage, got an array of shape {scores.shape}")
    if policy.floor and (groups is None or len(groups) != n):
        raise ConfigError("a floor needs the group (source, document) of every passage; name the metadata field")
    if policy.budget is not None:
        if costs is None or np.shape(costs) != (n,):
            raise ConfigError("a budget needs the cost of every passage, in the budget's unit")
        if not np.isfinite(costs).all() or (np.asarray(costs) < 0).any():
            raise InputError("every cost must be a finite number that is not negative")


def _pinned(pins: Collection[str], docnos: Sequence[str]) -> NDArray[np.int64]:
    if not pins:
        return np.zeros(0, np.int64)
    found = [row for row, docno in enumerate(docnos) if docno in pins]
    if len(found) < len(pins):
        missing = sorted(set(pins) - {docnos[row] for row in found})
        raise InputError(
            f"pinned docno {missing[0]!r} is not in the corpus ({len(missing)} of {len(pins)} pins are not)"
        )
    return np.array(found, np.int64)


def _held_texts(
    policy: Policy, texts: Sequence[str] | Callable[[], Iterable[str]] | None, n: int
) -> Sequence[str] | None:
    if policy.junk is None and not policy.fold:
        return None
    if texts is None:
        raise ConfigError("junk rules and folding read the passages: give their texts")
    held = list(texts()) if callable(texts) else texts
    if len(held) != n:
        raise InputError(f"{len(held)} texts for {n} docnos")
    return held


def _junk(rules: JunkRules | None, texts: Sequence[str] | None, pinned: NDArray[np.int64]) -> dict[int, str]:
    if rules is None or texts is None:
        return {}
    safe = set(pinned.tolist())
    found = ((row, rules.reason(text)) for row, text in enumerate(texts) if row not in safe)
    return {row: reason for row, reason in found if reason}


def _fold(
    policy: Policy,
    texts: Sequence[str] | None,
    order: NDArray[np.int64],
    pinned: NDArray[np.int64],
    junk: dict[int, str],
    n: int,
) -> Folding:
    """Fold, pins first and junk last among the candidates for canonical; a pinned passage is never folded."""
    if not policy.fold or texts is None:
        return Folding(np.arange(n, dtype=np.int64), 0, 0, 0)
    rank = np.full(n, 1, np.int8)
    rank[pinned] = 0
    rank[list(junk)] = 2
    preferred = order[np.argsort(rank[order], kind="stable")]
    folding = fold_duplicates(texts, preferred, similarity=policy.similarity)
    canonical = folding.canonical.copy()
    canonical[pinned] = pinned
    return Folding(canonical, folding.exact, folding.near, folding.compared)


def _floors(floor: int, order: NDArray[np.int64], reasons: NDArray[np.uint8], groups: Sequence[str]) -> list[int]:
    """The best passages of each group, as many as the floor asks for beyond its pins; duplicates only where need be."""
    held: dict[str, int] = {}
    for position in np.flatnonzero(reasons == _PINNED).tolist():
        held[groups[position]] = held.get(groups[position], 0) + 1
    chosen = []
    for reason in (_SCORE, _DUPLICATE):
        for position in order[reasons[order] == reason].tolist():
            group = groups[position]
            if held.get(group, 0) < floor:
                held[group] = held.get(group, 0) + 1
                chosen.append(position)
    return chosen


def _affordable(
    policy: Policy,
    sound: NDArray[np.int64],
    scores: NDArray[np.float64],
    already: NDArray[np.int64],
    costs: NDArray[np.floating] | None,
    n: int,
) -> NDArray[np.int64]:
    """The best of `sound` that fraction, threshold or budget allow beside what is kept `already`."""
    open_ = sound[~np.isin(sound, already)]
    if policy.keep is not None:
        return open_[: max(round(policy.keep * n) - len(already), 0)]
    if policy.threshold is not None:
        good: NDArray[np.bool_] = scores[open_] >= policy.threshold
        return open_[good]
    if policy.budget is not None and costs is not None:
        costs = np.asarray(costs, np.float64)
        spent: NDArray[np.float64] = costs[already].sum() + np.cumsum(costs[open_])
        within: NDArray[np.bool_] = spent <= policy.budget
        return open_[within]
    return open_
