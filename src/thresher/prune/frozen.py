"""Pruning with what was fitted when an index was built, for passages that are added to it later.

A build decides by comparing passages with each other: the best fraction, or what a budget allows. Passages that come
later are compared with what that gave: the score of the worst passage that was kept is frozen as the threshold, and
the quality estimator keeps the statistics of the corpus it was fitted on. So what becomes of a passage does not depend
on what else comes with it, but for two things. **First come stays**: a duplicate of a passage that the index holds, or
of an earlier one among the new passages, is folded into that one, whatever their scores. And a floor counts what is new
together: of every group the best ones are kept, as many as the floor asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from thresher.errors import ConfigError
from thresher.index.commit import QUALITY
from thresher.index.layout import encoder_folder
from thresher.prune.decision import REASONS, TIER_DROPPED, TIER_ONE, TIER_TWO, Decision
from thresher.prune.policy import floors, preference
from thresher.quality.duplicates import fold_duplicates
from thresher.quality.estimator import QualityEstimator
from thresher.quality.junk import JunkRules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.prune.plan import PruneStep

_KEPT, _PINNED, _FLOOR, _JUNK, _DUPLICATE, _SCORE = range(len(REASONS))


def frozen_estimator(index: Path, pruning: Mapping[str, object], device: str = "auto") -> QualityEstimator:
    """The estimator that an index was pruned by, with the statistics of that time.

    Args:
        index: its directory.
        pruning: what its commit froze of the pruning: `estimator` and `fingerprint`.
        device: for models.

    Raises:
        ConfigError: this machine has another one by that name.
        DataNotFoundError: its model is not on this machine.
        MissingExtraError: an optional dependency is not installed.
    """
    name, wanted = str(pruning.get("estimator", "")), str(pruning.get("fingerprint", ""))
    folder = index / QUALITY / encoder_folder(wanted)
    if folder.is_dir():
        return QualityEstimator.load(folder)
    estimator = QualityEstimator.from_name(name, device=device)
    if estimator.fingerprint != wanted:
        raise ConfigError(
            f"the index was pruned by the estimator {name!r} ({wanted[:12]}), but this machine has another one by that "
            f"name ({estimator.fingerprint[:12]}); restore it, or build again"
        )
    return estimator


def threshold_of(step: PruneStep, decision: Decision, scores: NDArray[np.floating]) -> float | None:
    """The least score that a decision kept for its score; None where it cut nothing off.

    Args:
        step: what was pruned.
        decision: what a build decided.
        scores: float[n], what it decided by, in corpus order.
    """
    if step.threshold is not None:
        return step.threshold
    below = decision.reasons == _SCORE
    if not below.any() or len(scores) != len(decision):
        return None
    kept = decision.reasons == _KEPT
    if kept.any():
        return float(scores[kept].min())
    return float(np.nextafter(np.float64(scores[below].max()), np.inf))


def junk_of(step: PruneStep, docnos: Sequence[str], texts: Sequence[str]) -> dict[int, str]:
    """Positions of junk passages to the rule that matches; pinned passages are none."""
    if not step.junk:
        return {}
    rules, pins = JunkRules(), set(step.pins)
    found = ((row, rules.reason(text)) for row, (docno, text) in enumerate(zip(docnos, texts, strict=True)))
    named = ((row, reason) for row, reason in found if reason)
    return {row: reason for row, reason in named if docnos[row] not in pins}


def decide_added(
    step: PruneStep,
    threshold: float | None,
    docnos: Sequence[str],
    texts: Sequence[str],
    scores: NDArray[np.floating],
    *,
    junk: Mapping[int, str],
    live: Mapping[int, str],
    groups: NDArray[np.int64] | None = None,
    fold_groups: NDArray[np.int64] | None = None,
    work: Path | None = None,
) -> Decision:
    """Decide which tier each passage that is added to an index goes to.

    Args:
        step: what to prune.
        threshold: the least score of a passage that is kept; None keeps all.
        docnos: identifiers, in the order the passages came; may be read from disk.
        texts: title and text of the passages; may be read from disk.
        scores: float[n], one a passage.
        junk: what `junk_of` found.
        live: position of a passage to the docno of a passage in the index that it is a duplicate of.
        groups: number of each passage's group for the floor.
        fold_groups: number of each passage's group within which duplicates are folded.
        work: an existing folder for temporary files.

    Returns:
        the decision; passages of `live` have their own position as canonical.
    """
    n = len(docnos)
    pins = set(step.pins)
    pinned = np.array([row for row, docno in enumerate(docnos) if docno in pins] if pins else [], np.int64)
    reasons = np.full(n, _SCORE, np.uint8)
    canonical = np.arange(n, dtype=np.int64)
    others = np.setdiff1d(np.arange(n), np.fromiter((*junk, *live), np.int64, len(junk) + len(live)))
    if step.fold:
        within = None if fold_groups is None else fold_groups[others]
        folding = fold_duplicates(Chosen(texts, others), similarity=step.similarity, groups=within, work=work)
        canonical[others] = others[folding.canonical]
        reasons[others[folding.folded]] = _DUPLICATE
        reasons[list(live)] = _DUPLICATE
    reasons[list(junk)] = _JUNK
    reasons[pinned] = _PINNED
    canonical[pinned] = pinned
    left = reasons == _SCORE
    reasons[left & (np.asarray(scores) >= threshold if threshold is not None else True)] = _KEPT
    if step.floor and groups is not None:
        order = preference(np.asarray(scores, np.float64), docnos)
        held = np.isin(reasons, (_KEPT, _PINNED))
        reasons[floors(step.floor, order, reasons, groups.tolist(), held)] = _FLOOR
    tiers = np.full(n, TIER_DROPPED, np.uint8)
    tiers[np.isin(reasons, (_KEPT, _PINNED, _FLOOR))] = TIER_ONE
    if step.rest == "tier-2":
        tiers[reasons == _SCORE] = TIER_TWO
        if not step.drop_junk:
            tiers[reasons == _JUNK] = TIER_TWO
    return Decision(tiers, reasons, canonical, dict(junk))


class Chosen(Sequence[str]):
    """Some of `texts`, in a given order, read where they are asked for.

    Args:
        texts: may be read from disk.
        rows: int64[n], positions in `texts`.
    """

    def __init__(self, texts: Sequence[str], rows: NDArray[np.int64]) -> None:
        self._texts, self._rows = texts, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self._texts[row] for row in self._rows[number].tolist()]
        return self._texts[int(self._rows[number])]
