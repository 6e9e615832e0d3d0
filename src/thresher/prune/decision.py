"""A pruning decision: which tier every passage of a corpus goes to, and why; in memory and on disk.

On disk it is an artifact with one entry a passage, in corpus order, so that a decision can be inspected, applied to a
build, and undone:

tiers.u1        uint8: 0 dropped, 1 first tier, 2 second tier
reasons.u1      uint8, numbers of `REASONS`
canonical.i8    int64 little-endian: position of the passage that represents each
docnos.txt      one a line
junk.json       position to rule name
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import map_file, read_manifest, writing
from thresher.errors import ArtifactError, DamagedArtifactError, InputError
from thresher.files import read_json, read_names, write_atomic, write_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

KIND = "pruning"
FORMAT = 1
TIER_DROPPED, TIER_ONE, TIER_TWO = 0, 1, 2
FOLDER = "pruning"
"""Where an index keeps its decision."""
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
    """
    with writing(path, kind=KIND, format=FORMAT, overwrite=overwrite) as draft:
        decision.tiers.astype("u1").tofile(draft.path / "tiers.u1")
        decision.reasons.astype("u1").tofile(draft.path / "reasons.u1")
        decision.canonical.astype("<i8").tofile(draft.path / "canonical.i8")
        write_names(draft.path / "docnos.txt", docnos)
        write_atomic(draft.path / "junk.json", json.dumps({str(k): v for k, v in decision.junk.items()}))
        draft.fields |= {
            "corpus_fingerprint": corpus_fingerprint,
            "estimator_fingerprint": estimator,
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


_OUTCOMES = {"junk": "was pruned as junk", "score": "was pruned for its score"}


class StoredDecision:
    """The decision of an index, mapped: what became of the passages that the index lacks.

    It stays readable when the index is closed or replaced. Passages are numbered as in the index: the first tier's in
    corpus order, then the second's. What is held is a few dozen bytes for each folded passage.

    Args:
        path: the decision.
        sizes: passages of each tier.

    Attributes:
        folds: whether anything was folded.

    Raises:
        ArtifactError: there is no decision.
        DamagedArtifactError: a file is missing or has the wrong size.
    """

    def __init__(self, path: Path, sizes: Sequence[int]) -> None:
        counts = read_manifest(path, kind=KIND, format=FORMAT).fields.get("counts")
        self.folds = not isinstance(counts, dict) or counts.get("duplicate") != 0
        self._path, self._sizes = path, tuple(sizes)
        self._docnos, self._tiers, self._reasons, self._canonical = (
            map_file(path / name) for name in ("docnos.txt", "tiers.u1", "reasons.u1", "canonical.i8")
        )

    def aliases(self, number: int) -> tuple[str, ...]:
        """The docnos of the duplicates that were folded into the passage with this number, in corpus order."""
        numbers, _ = self._folded
        low, high = np.searchsorted(numbers, [number, number + 1]).tolist()
        return tuple(self._docno(place) for place in range(low, high))

    def representative(self, docno: str) -> int:
        """The number of the passage that `docno` was folded into, -1 where it was not folded or that one was pruned."""
        return self._representatives.get(docno, -1)

    def outcome(self, docno: str) -> str:
        """What became of a passage that the index lacks, as a sentence says it; empty where nothing is known of it."""
        wanted = docno.encode("utf-8", "surrogatepass") + b"\n"
        starts = (found.start() for found in re.finditer(re.escape(wanted), self._docnos))
        start = next((at for at in starts if bytes(self._docnos[at - 1 : at]) in (b"", b"\n")), None)
        if start is None:
            return ""
        row = int(np.count_nonzero(np.frombuffer(self._docnos, np.uint8)[:start] == 10))
        tiers, reasons, canonical = self._arrays
        reason = REASONS[reasons[row]]
        if tiers[row] != TIER_DROPPED or reason not in (*_OUTCOMES, "duplicate"):
            return ""
        if reason != "duplicate":
            return _OUTCOMES[reason]
        target = int(canonical[row])
        name = bytes(self._docnos).split(b"\n", target + 1)[target].decode("utf-8", "replace")
        pruned = ", which was pruned" if tiers[target] == TIER_DROPPED else ""
        return f"was folded into its duplicate {name!r}{pruned}"

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
        """Tiers, reasons and canonical positions, checked."""
        n = len(self._tiers)
        if len(self._reasons) != n or len(self._canonical) != 8 * n:
            raise DamagedArtifactError(str(self._path), "its files do not fit together; rebuild the index")
        tiers, reasons = np.frombuffer(self._tiers, np.uint8), np.frombuffer(self._reasons, np.uint8)
        canonical = np.frombuffer(self._canonical, "<i8")
        in_tiers = [int((tiers == tier).sum()) for tier in (TIER_ONE, TIER_TWO)]
        if in_tiers != [*self._sizes, 0][:2] or (n and reasons.max() >= len(REASONS)):
            raise DamagedArtifactError(str(self._path), "does not fit the index; rebuild it")
        if n and not 0 <= int(canonical.min()) <= int(canonical.max()) < n:
            raise DamagedArtifactError(str(self._path / "canonical.i8"), "points outside the corpus; rebuild the index")
        return tiers, reasons, canonical

    @cached_property
    def _folded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the representatives, ascending, int64[m]; where the docno of each folded one stands, [m, 2]."""
        tiers, reasons, canonical = self._arrays
        rows = np.flatnonzero((reasons == REASONS.index("duplicate")) & (tiers == TIER_DROPPED))
        rows = rows[tiers[canonical[rows]] != TIER_DROPPED]
        first, second = (np.cumsum(tiers == tier) - 1 for tier in (TIER_ONE, TIER_TWO))
        targets = canonical[rows]
        numbers = np.where(tiers[targets] == TIER_ONE, first[targets], second[targets] + self._sizes[0])
        order = np.argsort(numbers, kind="stable")
        ends = np.flatnonzero(np.frombuffer(self._docnos, np.uint8) == 10)
        if len(ends) != len(tiers):
            raise DamagedArtifactError(str(self._path / "docnos.txt"), "has not one docno a line; rebuild the index")
        rows = rows[order]
        begins = np.where(rows > 0, ends[rows - 1] + 1, 0)
        return numbers[order], np.stack([begins, ends[rows]], axis=1)

    @cached_property
    def _representatives(self) -> dict[str, int]:
        numbers, _ = self._folded
        return {self._docno(place): number for place, number in enumerate(numbers.tolist())}

    def _docno(self, place: int) -> str:
        start, end = self._folded[1][place].tolist()
        try:
            return bytes(self._docnos[start:end]).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as err:
            problem = f"is not UTF-8 ({err.reason}); rebuild the index"
            raise DamagedArtifactError(str(self._path / "docnos.txt"), problem) from err
