"""The certificate of an index: what was claimed of it, against what, and whether it was proven.

It is the file `certificate.json` of the index directory, outside of the commits: a commit does not change it, and it
names the commit that was tested. After a later commit it is stale, and says by how many passages.

    {"format": 1, "kind": "judged", "margin": 0.02, ..., "claims": [{"pipeline": "sparse", "fraction": 0.3, ...}, ...]}

Everything that was tested is in it, also what was not proven. Opening and searching an index do not read it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thresher._version import __version__
from thresher.arguments import checked_call
from thresher.certify.claims import Claim, Kind, decisive_of
from thresher.checks import shown
from thresher.durable import write_atomic
from thresher.errors import ArtifactError, ArtifactVersionError, DamagedArtifactError
from thresher.files import read_json
from thresher.index.commit import CERTIFICATE, INDEX, Commit, read_commit
from thresher.manifest import load_manifest

if TYPE_CHECKING:
    from thresher.evaluate.results import Row

FORMAT = 1
LARGEST = 16 * 2**20
"""Bytes of a certificate file that are read."""
CHANGES = ("added", "replaced", "deleted")
_AGAIN = "make it again with `thresher certify`, or remove the file"


@dataclass(frozen=True, slots=True)
class Subject:
    """What was tested, or what it was compared with.

    Attributes:
        path: as it was given.
        commit: number of the commit; 0 for a run.
        sha256: checksum of the commit, or of the run's file.
        passages: live passages; 0 for a run.
        build: names the build that the commits go back to; empty for a run.
        changes: passages `added`, `replaced` and `deleted` since then.
    """

    path: str
    commit: int
    sha256: str
    passages: int
    build: str = ""
    changes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str | Path, commit: Commit) -> Subject:
        """The subject that is this commit of the index at `path`."""
        return cls(str(path), commit.number, commit.sha256, commit.live, commit.build, commit.changes)


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

    def as_json(self) -> Row:
        """Plain JSON."""
        return {"stale": self.stale, **asdict(self)}

    def __str__(self) -> str:
        if self.other:
            return "the certificate is of another index"
        if not self.commits:
            return "the certificate is of the index as it is"
        since = "1 commit" if self.commits == 1 else f"{self.commits:,} commits"
        parts = [f"{count:,} {name}" for name in CHANGES if (count := getattr(self, name))]
        changed = f"passages {', '.join(parts)}" if parts else "no passage changed"
        return f"stale: {since} since the certificate, {changed}"


def made_now() -> dict[str, str]:
    """What a certificate says of how it came about."""
    return {"version": __version__, "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


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
        holes: what the judgments can support of the first decisive claim, in figures: those of
            `thresher.evaluate.holes.Support`; empty without judgments.
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
    made: Mapping[str, str] = field(default_factory=made_now)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decisive(self) -> tuple[Claim, ...]:
        """The claims that `certified` asks for, as `thresher.certify.claims.decisive_of` says."""
        return decisive_of(self.claims)

    @property
    def certified(self) -> bool:
        """Whether the system was shown not to be worse: every decisive claim is proven."""
        return bool(self.decisive) and all(one.proven for one in self.decisive)

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The pipelines that were tested, in order."""
        return tuple(dict.fromkeys(one.pipeline for one in self.claims))

    def largest(self, pipeline: str) -> float | None:
        """The largest fraction that is proven on all measures, with every smaller tested one; None where none is."""
        found = None
        fractions = sorted({one.fraction for one in self.claims if one.fraction is not None})
        for fraction in fractions:
            own = [one for one in self.claims if one.pipeline == pipeline and one.fraction == fraction]
            if not own or not all(one.proven for one in own):
                break
            found = fraction
        return found

    def as_json(self) -> Row:
        """Plain JSON, with the verdict and the largest fractions beside what they follow from."""
        return {
            "format": FORMAT,
            **{name: asdict(value) for name, value in (("system", self.system), ("baseline", self.baseline))},
            "kind": self.kind,
            "claim": self.claim,
            "margin": self.margin,
            "alpha": self.alpha,
            "measures": list(self.measures),
            "queries": self.queries,
            "n": self.n,
            "certified": self.certified,
            "largest": {name: self.largest(name) for name in self.pipelines},
            "claims": [one.as_row() for one in self.claims],
            "holes": dict(self.holes),
            "note": self.note,
            "made": dict(self.made),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, object], source: str = "") -> Certificate:
        """The certificate that `as_json` made; what follows from the claims is not taken from it.

        Args:
            document: plain JSON.
            source: the file it came from, for messages.

        Raises:
            DamagedArtifactError: it is not one.
            ArtifactVersionError: a later release wrote it.
        """
        source = source or CERTIFICATE
        if not isinstance(document, Mapping):
            raise DamagedArtifactError(source, f"not a certificate: it is {shown(document)}; {_AGAIN}")
        found = document.get("format")
        if type(found) is int and found > FORMAT:
            raise ArtifactVersionError(
                f"{source} has format {found}, and this release reads {FORMAT}; install a newer thresher, or {_AGAIN}"
            )
        try:
            if found != FORMAT:
                raise TypeError(f"the format is {shown(found)}")
            return _certificate(document)
        except (KeyError, TypeError, ValueError) as err:
            reason = f"there is no {err.args[0]!r}" if isinstance(err, KeyError) else str(err)
            raise DamagedArtifactError(source, f"not a certificate: {reason}; {_AGAIN}") from err

    @checked_call
    def write(self, index: str | Path) -> Path:
        """Write it into an index directory, in place of an earlier one.

        Returns:
            the file.

        Raises:
            ArtifactError: there is no index.
            OSError: the folder cannot be written.
        """
        if load_manifest(Path(index)).kind != INDEX:
            raise ArtifactError(f"{index} is not an index; a certificate is kept in the index that was tested")
        return self.save(Path(index) / CERTIFICATE)

    @checked_call
    def save(self, file: str | Path) -> Path:
        """Write it into a file of any name, which `read` reads."""
        file = Path(file)
        write_atomic(file, json.dumps(self.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return file

    @classmethod
    @checked_call
    def read(cls, index: str | Path) -> Certificate | None:
        """The certificate of an index directory, or of a file; None where there is none.

        Raises:
            DamagedArtifactError: the file is not a certificate.
            ArtifactVersionError: a later release wrote it.
        """
        file = Path(index) / CERTIFICATE if Path(index).is_dir() else Path(index)
        if not file.exists():
            return None
        if file.is_file() and file.stat().st_size > LARGEST:
            raise DamagedArtifactError(
                str(file), f"{file.stat().st_size:,} bytes are too many for a certificate; {_AGAIN}"
            )
        return cls.from_json(read_json(file), str(file))


def staleness(index: str | Path, certificate: Certificate) -> Stale:
    """What has changed in an index since its certificate was made.

    Args:
        index: the index, of which the last commit is looked at.
        certificate: of the index.

    Raises:
        ArtifactError: there is no index.
    """
    now = read_commit(index)
    then = certificate.system
    commits = now.number - then.commit
    if then.build != now.build or commits < 0 or (commits == 0 and then.sha256 != now.sha256):
        return Stale(0, 0, 0, 0, other=True)
    added, replaced, deleted = (max(0, now.changes.get(one, 0) - then.changes.get(one, 0)) for one in CHANGES)
    return Stale(commits, added, replaced, deleted)


def certified_since(index: str | Path) -> Stale | None:
    """What has changed in an index since the certificate in it was made; None where there is none.

    Raises:
        ArtifactError: the certificate is of another index.
        DamagedArtifactError: the file is not a certificate.
        ArtifactVersionError: a later release wrote it.
    """
    found = Certificate.read(index)
    since = None if found is None else staleness(index, found)
    if since is not None and since.other:
        raise ArtifactError(f"{Path(index) / CERTIFICATE} is not of this index, or of an earlier build of it; {_AGAIN}")
    return since


def _certificate(document: Mapping[str, Any]) -> Certificate:
    """The certificate of a document of this format.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    kind, claim = document["kind"], document["claim"]
    if kind not in ("judged", "reference") or claim not in ("non-inferiority", "equivalence"):
        raise ValueError(f"the kind is {shown(kind)} and the claim {shown(claim)}")
    given = {name: typed(name, document[name], "float") for name in ("margin", "alpha")}
    texts = {name: typed(name, document[name], "str") for name in ("queries", "note")}
    return Certificate(
        kind=kind,
        claim=claim,
        measures=tuple(typed("measures", one, "str") for one in typed("measures", document["measures"], "list")),
        n=typed("n", document["n"], "int"),
        system=subject_from(document["system"]),
        baseline=subject_from(document["baseline"]),
        claims=tuple(made_from(Claim, row) for row in typed("claims", document["claims"], "list")),
        holes={name: typed(name, share, "float") for name, share in typed("holes", document["holes"], "dict").items()},
        made={name: typed(name, one, "str") for name, one in typed("made", document["made"], "dict").items()},
        settings=typed("settings", document["settings"], "dict"),
        **given,
        **texts,
    )


def subject_from(document: object) -> Subject:
    """The subject that a document of plain JSON is.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    made: Subject = made_from(Subject, document)
    for name, count in made.changes.items():
        typed(name, count, "int")
    return made


def made_from(kind: type[Any], document: object) -> Any:
    """A flat dataclass of JSON values; keys that it does not have are left out.

    Raises:
        KeyError, TypeError, ValueError: a value is missing, or not of its type.
    """
    row = typed(kind.__name__, document, "dict")
    values = {}
    for one in fields(kind):
        if one.name not in row and (one.default is not MISSING or one.default_factory is not MISSING):
            continue
        values[one.name] = typed(one.name, row[one.name], str(one.type))
    return kind(**values)


def typed(name: str, value: Any, annotation: str) -> Any:
    """A value that is of the annotated type: a scalar, a list or a mapping, or None where that may be.

    Raises:
        TypeError: it is not.
        ValueError: it is not finite.
    """
    wanted = [one.strip().partition("[")[0].replace("Mapping", "dict") for one in annotation.split("|")]
    found = type(value).__name__.replace("NoneType", "None")
    if found == "int" and "float" in wanted:
        return float(value)
    if found not in wanted:
        raise TypeError(f"{name} is {shown(value)}")
    if found == "float" and not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value
