"""The certificate of an index: what was claimed of it, against what, and whether it was proven.

It is the file `certificate.json` of the index directory, outside of the commits: a commit does not change it, and it
names the commit that was tested. After a later commit it is stale, and says by how many passages.

    {"format": 1, "kind": "judged", "margin": 0.02, ..., "claims": [{"pipeline": "sparse", "fraction": 0.3, ...}, ...]}

Everything that was tested is in it, also what was not proven.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from thresher.certify.claims import Claim, Kind

CERTIFICATE = "certificate.json"
"""Its name in the index directory."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """What was tested, or what it was compared with.

    Attributes:
        path: as it was given.
        commit: number of the commit; 0 for a run.
        sha256: checksum of the commit, or of the run's file.
        passages: live passages; 0 for a run.
        changes: passages `added`, `replaced` and `deleted` since the index was built.
    """

    path: str
    commit: int
    sha256: str
    passages: int
    changes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stale:
    """What has happened to an index since its certificate was made.

    Attributes:
        commits: commits since.
        added, replaced, deleted: passages since.
        other: the index is another one than the one that was tested.
    """

    commits: int
    added: int
    replaced: int
    deleted: int
    other: bool = False

    @property
    def stale(self) -> bool:
        """Whether the certificate is of an earlier commit, or of another index."""
        return self.other or self.commits > 0

    @property
    def changed(self) -> int:
        """Passages changed since."""
        return self.added + self.replaced + self.deleted

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was claimed of a system, and whether it was proven.

    Attributes:
        kind: `judged`, by relevance judgments; or `reference`, by the baseline's own rankings, which is weaker.
        margin: the smallest loss that would matter.
        alpha: accepted chance of any false claim.
        claim: `non-inferiority` or `equivalence`.
        measures: canonical names.
        queries: where they came from.
        n: topics.
        system: what was tested.
        baseline: what it was compared with.
        claims: everything that was tested.
        holes: unjudged documents, in figures; empty without judgments.
        note: what to mind, in words.
        made: `version` and `date` (UTC).
        settings: the arguments it was made with, to make it again.
    """

    kind: Literal["judged", "reference"]
    margin: float
    alpha: float
    claim: Kind
    measures: tuple[str, ...]
    queries: str
    n: int
    system: Subject
    baseline: Subject
    claims: tuple[Claim, ...]
    holes: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    made: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def certified(self) -> bool:
        """Whether every claim about the system as it is was proven; of runs and settings, every claim."""
        raise NotImplementedError

    def largest(self, pipeline: str) -> float | None:
        """The largest fraction that is proven on all measures, with every smaller tested one; None where none is."""
        raise NotImplementedError

    def as_json(self) -> dict[str, object]:
        """Plain JSON."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, document: Mapping[str, object], source: str = "") -> Certificate:
        """The certificate that `as_json` made.

        Raises:
            DamagedArtifactError: it is not one.
            ArtifactVersionError: a later release wrote it.
        """
        raise NotImplementedError

    def write(self, index: str | Path) -> Path:
        """Write it into an index directory, in place of an earlier one; returns the file."""
        raise NotImplementedError

    @classmethod
    def read(cls, index: str | Path) -> Certificate | None:
        """The certificate of an index directory; None where there is none.

        Raises:
            DamagedArtifactError: the file is not a certificate.
            ArtifactVersionError: a later release wrote it.
        """
        raise NotImplementedError


def staleness(index: str | Path, certificate: Certificate) -> Stale:
    """What has changed in an index since its certificate was made."""
    raise NotImplementedError
