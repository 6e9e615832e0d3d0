"""A pruning decision on disk, aligned to its corpus, so that it can be looked at, applied again, and undone.

tiers.u1        uint8, one a passage in corpus order: 0 dropped, 1 first tier, 2 second tier
reasons.u1      uint8, numbers of `policy.REASONS`
canonical.i8    int64 little-endian: position of the passage that stands for each
docnos.txt      one a line
junk.json       position to rule name
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.artifact import read_manifest, writing
from thresher.errors import ArtifactError, DamagedArtifactError
from thresher.files import read_names, write_names
from thresher.prune.policy import REASONS, Decision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIND = "pruning"
FORMAT = 1


def write_decision(
    path: str | Path,
    decision: Decision,
    docnos: Sequence[str],
    *,
    corpus_fingerprint: str,
    estimator: str,
    policy: Mapping[str, object],
    overwrite: bool = False,
) -> None:
    """Write `decision` as an artifact.

    Args:
        path: the directory to write.
        decision: where each passage goes.
        docnos: identifiers, in corpus order.
        corpus_fingerprint: of the corpus decided on.
        estimator: fingerprint of the estimator whose scores decided.
        policy: the policy as plain JSON, for the record.
        overwrite: replace a decision that stands there.
    """
    with writing(path, kind=KIND, format=FORMAT, overwrite=overwrite) as draft:
        decision.tiers.astype("u1").tofile(draft.path / "tiers.u1")
        decision.reasons.astype("u1").tofile(draft.path / "reasons.u1")
        decision.canonical.astype("<i8").tofile(draft.path / "canonical.i8")
        write_names(draft.path / "docnos.txt", docnos)
        (draft.path / "junk.json").write_text(
            json.dumps({str(k): v for k, v in decision.junk.items()}), encoding="utf-8"
        )
        draft.fields |= {
            "corpus_fingerprint": corpus_fingerprint,
            "estimator_fingerprint": estimator,
            "policy": dict(policy),
            "reasons": list(REASONS),
            "counts": decision.counts(),
        }


def read_decision(path: str | Path, *, corpus: str = "") -> tuple[Decision, list[str]]:
    """The decision at `path`, and its docnos.

    Args:
        path: the artifact's directory.
        corpus: fingerprint of the corpus it must belong to.

    Raises:
        ArtifactError: there is none, or it is of another corpus.
        DamagedArtifactError: its files disagree.
    """
    path = Path(path)
    manifest = read_manifest(path, kind=KIND, format=FORMAT)
    found = str(manifest.fields["corpus_fingerprint"])
    if corpus and corpus != found:
        raise ArtifactError(f"{path} decides on the corpus {found[:12]}, not on {corpus[:12]}; decide again")
    tiers = np.fromfile(path / "tiers.u1", "u1")
    reasons = np.fromfile(path / "reasons.u1", "u1")
    canonical = np.fromfile(path / "canonical.i8", "<i8")
    docnos = read_names(path / "docnos.txt")
    n = len(tiers)
    sizes = {len(reasons), len(canonical), len(docnos)}
    if sizes != {n} or (n and (tiers.max() > 2 or reasons.max() >= len(REASONS))):
        raise DamagedArtifactError(str(path), "its files disagree; decide again")
    if n and (canonical.min() < 0 or canonical.max() >= n):
        raise DamagedArtifactError(str(path / "canonical.i8"), "points outside the corpus; decide again")
    junk = {int(k): str(v) for k, v in json.loads((path / "junk.json").read_bytes()).items()}
    return Decision(tiers, reasons, canonical, junk), docnos
