"""A pruning decision: which tier every passage of a corpus goes to, and why; in memory and on disk.

On disk it is an artifact with one entry a passage, in corpus order, so that a decision can be inspected, applied to a
build, and undone:

tiers.u1        uint8: 0 dropped, 1 first tier, 2 second tier
reasons.u1      uint8, numbers of `REASONS`
canonical.i8    int64 little-endian: position of the passage that represents each
docnos.txt      one a line
junk.json       position to rule name
estimator/      the quality estimator, where it can be saved; only of decisions that `thresher prune` wrote

The decision of an index (`pruning/` of a segment) has more, so that passages can be added: `thresher.prune.dropped`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import read_manifest, writing
from thresher.durable import write_atomic, write_names
from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.files import read_json, read_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from thresher.prune.dropped import Dropped
    from thresher.quality.estimator import QualityEstimator

KIND = "pruning"
FORMAT = 1
TIER_DROPPED, TIER_ONE, TIER_TWO = 0, 1, 2
FOLDER = "pruning"
"""Where an index keeps its decision."""
ESTIMATOR = "estimator"
"""Where a decision keeps the quality estimator."""
REASONS = ("kept", "pinned", "floor", "junk", "duplicate", "score")


@dataclass(frozen=True, slots=True)
class Decision:
    """Where every passage goes, in corpus order.

    Attributes:
        tiers: uint8[n]: TIER_ONE, TIER_TWO or TIER_DROPPED.
        reasons: uint8[n], numbers of `REASONS`.
        canonical: int64[n]: position of the passage that represents each; its own unless it is a duplicate.
        junk: position of a junk passage to the name of the rule that matched it.
    """

    tiers: NDArray[np.uint8]
    reasons: NDArray[np.uint8]
    canonical: NDArray[np.int64]
    junk: dict[int, str]

    def __len__(self) -> int:
        return len(self.tiers)

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

    @checked_call
    def reordered(self, positions: NDArray[np.integer]) -> Decision:
        """The decision for the same passages in another order: passage i is the one now at `positions[i]`, int[n]."""
        if not np.array_equal(np.sort(positions), np.arange(len(self))):
            raise InputError(f"positions must name each of the {len(self)} passages once")
        inverse = np.empty(len(self), np.int64)
        inverse[positions] = np.arange(len(self))
        junk = {int(inverse[row]): rule for row, rule in self.junk.items()}
        return Decision(self.tiers[positions], self.reasons[positions], inverse[self.canonical[positions]], junk)


@checked_call
def write_decision(
    path: str | Path,
    decision: Decision,
    docnos: Iterable[str],
    *,
    corpus_fingerprint: str,
    estimator: str,
    policy: Mapping[str, object],
    overwrite: bool = False,
    dropped: Dropped | None = None,
    threshold: float | None = None,
    fitted: QualityEstimator | None = None,
) -> None:
    """Write `decision` as an artifact.

    Args:
        path: the directory to write.
        decision: where each passage goes.
        docnos: identifiers, in corpus order.
        corpus_fingerprint: of the corpus decided on.
        estimator: fingerprint of the estimator whose scores decided.
        policy: the policy as plain JSON, kept in the manifest.
        overwrite: replace an existing decision.
        dropped: what an index keeps of the passages that are in none of its tiers.
        threshold: the least score of a passage that was kept; None where nothing was cut off.
        fitted: the estimator, kept for passages that are added to an index later, where it can be saved.
    """
    with writing(path, kind=KIND, format=FORMAT, overwrite=overwrite) as draft:
        decision.tiers.astype("u1").tofile(draft.path / "tiers.u1")
        decision.reasons.astype("u1").tofile(draft.path / "reasons.u1")
        decision.canonical.astype("<i8").tofile(draft.path / "canonical.i8")
        write_names(draft.path / "docnos.txt", docnos)
        write_atomic(draft.path / "junk.json", json.dumps({str(k): v for k, v in decision.junk.items()}))
        if dropped is not None:
            dropped.write(draft.path)
        if getattr(fitted, "can_save", False):
            (draft.path / ESTIMATOR).mkdir()
            fitted.save(draft.path / ESTIMATOR)  # type: ignore[union-attr]
        draft.fields |= {
            "corpus_fingerprint": corpus_fingerprint,
            "estimator_fingerprint": estimator,
            "threshold": threshold,
            "policy": dict(policy),
            "reasons": list(REASONS),
            "counts": decision.counts(),
        }


@checked_call
def read_decision(path: str | Path, *, corpus: str = "") -> tuple[Decision, list[str]]:
    """The decision at `path`, and the docnos it is for, in order.

    Args:
        path: the artifact's directory.
        corpus: fingerprint of the corpus it must belong to.

    Raises:
        ArtifactError: there is none, or it is of another corpus.
        DamagedArtifactError: its files disagree.
    """
    path = Path(path)
    manifest = read_manifest(path, kind=KIND, format=FORMAT)
    found = str(manifest.fields.get("corpus_fingerprint"))
    if corpus and corpus != found:
        raise ArtifactError(f"{path} was made for the corpus {found[:12]}, not {corpus[:12]}; run thresher prune again")
    tiers = np.fromfile(path / "tiers.u1", "u1")
    reasons = np.fromfile(path / "reasons.u1", "u1")
    canonical = np.fromfile(path / "canonical.i8", "<i8")
    docnos = read_names(path / "docnos.txt")
    n = len(tiers)
    sizes = {len(reasons), len(canonical), len(docnos)}
    if sizes != {n} or (n and (tiers.max() > 2 or reasons.max() >= len(REASONS))):
        raise DamagedArtifactError(str(path), "its files do not fit together; run thresher prune again")
    if n and (canonical.min() < 0 or canonical.max() >= n):
        raise DamagedArtifactError(str(path / "canonical.i8"), "points outside the corpus; run thresher prune again")
    file = path / "junk.json"
    try:
        junk = {int(row): str(rule) for row, rule in read_json(file).items()}
    except ValueError as err:
        raise DamagedArtifactError(str(file), f"names no passages ({err}); run thresher prune again") from err
    if junk and not 0 <= min(junk) <= max(junk) < n:
        raise DamagedArtifactError(str(file), "points outside the corpus; run thresher prune again")
    return Decision(tiers, reasons, canonical, junk), docnos
