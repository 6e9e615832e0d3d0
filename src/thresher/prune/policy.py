"""From scores to tiers: which passages are indexed in full, which go to the cheap second tier, and which are dropped.

The decisions, in order, each recorded with its reason:

1. pinned passages are kept unconditionally;
2. junk (`quality.junk`) goes below the cut, whatever its score, or is dropped if that is asked for;
3. duplicates are folded into one canonical passage, which keeps its position; where a field is named, only into one
   with the same value of it (a source, a tenant, permissions);
4. the remaining passages are kept best first until the fraction, the threshold or the budget is reached; pinned
   passages and those kept by a floor count towards it;
5. floors: of every group (a metadata field, or any other grouping) at least this many passages are kept, the best ones,
   so that no document loses all of its passages. A duplicate is kept for a floor only if nothing else of its group can
   be; junk never is.

Equal scores are ordered by a hash of the docno, so the result does not depend on the order of the corpus. Raising a
fraction or a budget never removes a passage that was kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.corpus.spool import docno_keys
from thresher.errors import ConfigError, InputError
from thresher.prune.decision import REASONS, TIER_DROPPED, TIER_ONE, TIER_TWO, Decision
from thresher.quality.duplicates import Folding, fold_duplicates
from thresher.quality.lexical import words_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.quality.junk import JunkRules

_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86400,
    "day": 86400,
}
_BUDGET = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*$")

_KEPT, _PINNED, _FLOOR, _JUNK, _DUPLICATE, _SCORE = range(len(REASONS))


@checked_call
@dataclass(frozen=True, slots=True)
class Policy:
    """What to keep. At most one of `keep`, `threshold` and `budget`; with none of them, all but junk and duplicates.

    Attributes:
        keep: fraction of all passages, in [0, 1].
        threshold: minimum score. Scores of different estimators have different scales: look at the histogram first.
        budget: what the kept passages may cost together, in the unit of the costs given to `decide` (bytes, seconds).
        floor: minimum number of passages kept of every group; 0 for none.
        pins: docnos that are always kept.
        junk: rules that put a passage below the cut before scores count; None for none.
        drop_junk: drop it, instead of moving it where other passages below the cut go.
        fold: fold duplicates.
        similarity: minimum Jaccard similarity of near-duplicates; None folds exact duplicates only.
        rest: where passages below the cut go: `tier-2` (searchable at low cost) or `drop`.
    """

    keep: float | None = None
    threshold: float | None = None
    budget: float | None = None
    floor: int = 0
    pins: frozenset[str] = field(default_factory=frozenset)
    junk: JunkRules | None = None
    drop_junk: bool = False
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
class Signs:
    """What a decision needs of passages, read from parts of a corpus by other processes.

    Attributes:
        keys: uint64[n], hashes of the docnos (`docno_keys`).
        junk: position of each passage whose text a junk rule matches, to the rule.
        signatures: folders that `thresher.quality.duplicates.write_signatures` filled, of the parts in order.
    """

    keys: NDArray[np.uint64]
    junk: Mapping[int, str]
    signatures: Sequence[Path] = ()


def preference(scores: NDArray[np.floating], docnos: Sequence[str]) -> NDArray[np.int64]:
    """Positions from the best to the worst score; equal scores by a hash of the docno, int64[n]."""
    return _by_score(np.asarray(scores, np.float64), docno_keys(docnos))


def _by_score(scores: NDArray[np.float64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.lexsort((keys, -scores)).astype(np.int64)


@checked_call
def decide(
    policy: Policy,
    docnos: Sequence[str],
    scores: NDArray[np.floating],
    *,
    texts: Sequence[str] | None = None,
    groups: Sequence[str] | NDArray[np.int64] | None = None,
    fold_groups: NDArray[np.integer] | None = None,
    costs: NDArray[np.floating] | None = None,
    work: Path | None = None,
    signs: Signs | None = None,
) -> Decision:
    """Decide which tier each passage goes to.

    Args:
        policy: what to keep.
        docnos: identifiers, in corpus order; may be read from disk.
        scores: float[n], one a passage, higher is better.
        texts: title and text of the passages; needed for junk rules and folding; may be read from disk.
        groups: name or number of the source or document of each passage; needed for floors.
        fold_groups: int[n], the number of each passage's group within which duplicates are folded; by default a
            passage may be folded into any other.
        costs: float[n], what each passage costs, in the budget's unit; needed for a budget.
        work: an existing folder for temporary files; default: the system's.
        signs: what was read of docnos and texts before; they are then read for pins and candidates of folding alone.

    Raises:
        InputError: arrays of different lengths, a pin that no passage has, scores or costs that are not finite.
        ConfigError: the policy needs texts, groups or costs that are not given.
    """
    n = len(docnos)
    values: NDArray[np.float64] = np.asarray(scores, np.float64)
    _check(policy, n, values, groups, costs)
    order = preference(values, docnos) if signs is None else _by_score(values, signs.keys)
    reasons = np.full(n, _SCORE, np.uint8)
    pinned = _pinned(policy.pins, docnos)
    read = _needed_texts(policy, texts, n)
    if signs is None:
        junk = _junk(policy.junk, read, pinned)
    else:
        safe = set(pinned.tolist())
        junk = {row: rule for row, rule in signs.junk.items() if row not in safe}
    signatures = () if signs is None else signs.signatures
    folding = _fold(policy, read, order, pinned, junk, fold_groups, work, signatures)
    reasons[folding.folded] = _DUPLICATE
    reasons[list(junk)] = _JUNK
    reasons[pinned] = _PINNED
    remaining = order[reasons[order] == _SCORE]
    if policy.floor:
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1].tolist()
        reasons[floors(policy.floor, order, reasons, numbers, reasons == _PINNED)] = _FLOOR
    already = np.flatnonzero(np.isin(reasons, (_PINNED, _FLOOR)))
    reasons[_affordable(policy, remaining, values, already, costs, n)] = _KEPT
    tiers = np.full(n, TIER_DROPPED, np.uint8)
    tiers[np.isin(reasons, (_KEPT, _PINNED, _FLOOR))] = TIER_ONE
    if policy.rest == "tier-2":
        tiers[reasons == _SCORE] = TIER_TWO
        if not policy.drop_junk:
            tiers[reasons == _JUNK] = TIER_TWO
    return Decision(tiers, reasons, folding.canonical, junk)


def _check(
    policy: Policy,
    n: int,
    scores: NDArray[np.float64],
    groups: Sequence[str] | NDArray[np.int64] | None,
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


def _needed_texts(policy: Policy, texts: Sequence[str] | None, n: int) -> Sequence[str] | None:
    if policy.junk is None and not policy.fold:
        return None
    if texts is None:
        raise ConfigError("junk rules and duplicate folding read the passages: give their texts")
    if len(texts) != n:
        raise InputError(f"{len(texts)} texts for {n} docnos")
    return texts


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
    groups: NDArray[np.integer] | None,
    work: Path | None,
    signatures: Sequence[Path],
) -> Folding:
    """Fold, pins first and junk last among the candidates for canonical; a pinned passage is never folded."""
    n = len(order)
    if not policy.fold or texts is None:
        return Folding(np.arange(n, dtype=np.int64), 0, 0, 0)
    rank = np.full(n, 1, np.int8)
    rank[pinned] = 0
    rank[list(junk)] = 2
    preferred = order[np.argsort(rank[order], kind="stable")]
    folding = fold_duplicates(
        texts, preferred, similarity=policy.similarity, groups=groups, work=work,
        signatures=signatures,
    )  # fmt: skip
    canonical = folding.canonical.copy()
    canonical[pinned] = pinned
    return Folding(canonical, folding.exact, folding.near, folding.compared)


def floors(
    floor: int,
    order: NDArray[np.int64],
    reasons: NDArray[np.uint8],
    groups: Sequence[int],
    held: NDArray[np.bool_],
) -> list[int]:
    """The best passages of each group, as many as the floor asks for beyond those held; duplicates only where need be.

    Args:
        floor: how many of each group.
        order: int64[n], positions, best first.
        reasons: uint8[n], so far.
        groups: number of each passage's group.
        held: bool[n], passages that are kept already.
    """
    having: dict[int, int] = {}
    for position in np.flatnonzero(held).tolist():
        having[groups[position]] = having.get(groups[position], 0) + 1
    chosen = []
    for reason in (_SCORE, _DUPLICATE):
        for position in order[reasons[order] == reason].tolist():
            group = groups[position]
            if having.get(group, 0) < floor:
                having[group] = having.get(group, 0) + 1
                chosen.append(position)
    return chosen


def _affordable(
    policy: Policy,
    remaining: NDArray[np.int64],
    scores: NDArray[np.float64],
    already: NDArray[np.int64],
    costs: NDArray[np.floating] | None,
    n: int,
) -> NDArray[np.int64]:
    """The best of `remaining` that fraction, threshold or budget allow after those kept `already`."""
    free = remaining[~np.isin(remaining, already)]
    if policy.keep is not None:
        return free[: max(round(policy.keep * n) - len(already), 0)]
    if policy.threshold is not None:
        good: NDArray[np.bool_] = scores[free] >= policy.threshold
        return free[good]
    if policy.budget is not None and costs is not None:
        costs = np.asarray(costs, np.float64)
        spent: NDArray[np.float64] = costs[already].sum() + np.cumsum(costs[free])
        within: NDArray[np.bool_] = spent <= policy.budget
        return free[within]
    return free


def parse_budget(text: str) -> tuple[float, str]:
    """`2 GB` gives (2e9, "bytes"), `3 hours` gives (10800.0, "seconds").

    Raises:
        ConfigError: the text is not a number with a unit of bytes or time.
    """
    found = _BUDGET.match(text)
    unit = found.group(2).lower() if found else ""
    if found and unit in _BYTES:
        return float(found.group(1)) * _BYTES[unit], "bytes"
    singular = unit if unit in _SECONDS else unit.removesuffix("s")
    if found and singular in _SECONDS:
        return float(found.group(1)) * _SECONDS[singular], "seconds"
    raise ConfigError(f"budget {text!r} is not a number and a unit, such as '2 GB', '500 MiB', '3 hours' or '90 min'")


def costs_by_words(texts: Iterable[str], total: float, words: int) -> NDArray[np.float64]:
    """What each text costs where `words` words cost `total` (bytes, seconds), float64[n]; an empty text counts a word.

    Raises:
        ConfigError: the measurement is not of some words and some cost.
    """
    if words <= 0 or not total > 0:
        raise ConfigError(f"a rate needs a measurement: {total} for {words} words is none")
    return np.array([max(len(words_of(text)), 1) for text in texts], np.float64) * (total / words)
