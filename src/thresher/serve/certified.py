"""The certificate of an index that is served: what its faces tell of it, without a path of this machine.

It speaks of all passages (how many changed, how a mean over all topics came out), so only callers from whom nothing is
hidden get it.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from thresher.errors import ThresherError
from thresher.index.commit import CERTIFICATE
from thresher.publish import MANIFEST

if TYPE_CHECKING:
    from thresher.certify.certificate import Certificate, Subject

_log = logging.getLogger(__name__)
State = Literal["none", "certified", "not shown", "stale", "unreadable"]
STATES: Final[tuple[State, ...]] = get_args(State)
"""`none`: the index has no certificate. `stale`: it is of an earlier commit, or of another index."""


@dataclass(frozen=True)
class Told:
    """What is told of a certificate.

    Attributes:
        state: one of `STATES`.
        document: plain JSON; None where the index has no certificate.
    """

    state: State
    document: dict[str, Any] | None

    @property
    def brief(self) -> dict[str, object] | None:
        """The state, the verdict and what has changed since: what an overview of all indexes shows."""
        if self.document is None:
            return None
        return {name: self.document[name] for name in ("state", "verdict", "since") if name in self.document}

    @property
    def sentence(self) -> str:
        """The verdict and what has changed since, in words; empty without a certificate."""
        brief = self.brief or {}
        return " ".join(f"{text[:1].upper()}{text[1:].rstrip('.')}." for name in ("verdict", "since")
                        if (text := str(brief.get(name, ""))))  # fmt: skip


class CertificateFile:
    """The certificate in an index directory, read again once it, or the index, is another. Safe to share.

    Args:
        path: the index.
        name: what the index is called instead.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._lock = threading.Lock()
        self._found: tuple[object, Told] | None = None

    def now(self) -> Told:
        """What is told of it now."""
        found = stamp(self._path / CERTIFICATE)
        if found is None:
            return Told("none", None)
        key = found, stamp(self._path / MANIFEST)
        with self._lock:
            if self._found is None or self._found[0] != key:
                self._found = key, self._read()
            return self._found[1]

    def _read(self) -> Told:
        from thresher.certify.certificate import Certificate

        try:
            made = Certificate.read(self._path)
            return Told("none", None) if made is None else told(made, self._path, self._name)
        except (ThresherError, OSError) as err:
            _log.warning("the index %s is shown without its certificate: %s", self._name, err)
            problem = "the certificate cannot be read; the server's log has the cause"
            return Told("unreadable", {"state": "unreadable", "verdict": problem})


def told(made: Certificate, index: Path, name: str) -> Told:
    """What is told of a certificate of the index at `index`, which is called `name`.

    Raises:
        ArtifactError: there is no index.
    """
    from thresher.certify.certificate import staleness
    from thresher.certify.wording import sentences, verdict

    made = replace(made, system=replace(made.system, path=name), baseline=_without_folder(made.baseline),
                   queries=_last_part(made.queries))  # fmt: skip
    since = staleness(index, made)
    state: State = "stale" if since.stale else "certified" if made.certified else "not shown"
    document = made.as_json()
    for hidden in ("format", "settings"):  # arguments, which name files of this machine
        del document[hidden]
    tested = {one: sorted({claim.fraction for claim in made.claims if claim.pipeline == one and claim.fraction})
              for one in made.pipelines}  # fmt: skip
    words = {"verdict": verdict(made), "since": str(since), "sentences": sentences(made)[1:]}
    return Told(state, {"state": state, **words, "changed": since.as_json(), "tested": tested, **document})


def _without_folder(subject: Subject) -> Subject:
    return replace(subject, path=_last_part(subject.path))


def _last_part(path: str) -> str:
    """A file's name; what is not a path of this machine, such as the name of a collection, stays."""
    return Path(path).name if Path(path).is_absolute() or path.startswith((".", "~")) or Path(path).exists() else path


def stamp(file: Path) -> tuple[int, int, int] | None:
    """What is another when a file was replaced; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
