"""`Running`: the sequential test of a pruned system's live queries, with what is known of it, in a file.

The test is of two commits, the system's and the baseline's, and of one margin, alpha and measure. Where one of them
changes it starts anew, since what was shown of the passages before says nothing of those after; what it had come to is
kept in a short history. That the margin was exceeded once is kept apart from the test, and only `reset` or a
certificate made afterwards ends it: a system that was given up and taken back by the same test's turns would go back
and forth for as long as its loss is about the margin.

The file is JSON, replaced atomically, and locked by the process that writes it. It holds no query.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from thresher.certify.certificate import CHANGES, Certificate, Subject, made_from, staleness, subject_from, typed
from thresher.certify.shadow_report import Earlier, ShadowReport, ShadowSettings
from thresher.checks import one_of
from thresher.durable import lock, write_atomic
from thresher.errors import ArtifactError, ArtifactVersionError, BusyArtifactError, DamagedArtifactError, ThresherError
from thresher.evaluate.sequential import SequentialTest
from thresher.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Outcome = Literal["certified", "undecided", "lost"]

_log = logging.getLogger(__name__)
FORMAT: Final = 1
LARGEST: Final = 2**20
"""Bytes of a state file that are read."""
KEPT: Final = 20
"""Earlier tests in the history."""
EVERY: Final = 1.0
"""Seconds between two writes of the file, at least."""
_LOOK: Final = 5.0
"""Seconds between two looks for a renewed certificate."""
_UNDER_WAY: Final = 300.0
"""Seconds that a query may take which was under way when a commit came."""
OUTCOMES: Final[Mapping[str, Outcome]] = {"proven": "certified", "undecided": "undecided", "lost": "lost"}
_REMEDY: Final = "move it away to start the test anew, or name another file"


def now() -> str:
    """The time, as it is kept."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class _Held:
    """What the file holds."""

    settings: ShadowSettings
    system: Subject
    baseline: Subject
    test: SequentialTest
    asked: int
    dropped: int
    failed: int
    began: str
    since: str
    outcome: Outcome
    lost_since: str | None
    history: list[Earlier]

    @classmethod
    def fresh(cls, settings: ShadowSettings, system: Subject, baseline: Subject) -> _Held:
        test, at = SequentialTest(settings.margin, low=0.0, high=1.0, alpha=settings.alpha), now()
        return cls(settings, system, baseline, test, 0, 0, 0, at, at, "undecided", None, [])

    def as_json(self) -> dict[str, object]:
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("settings", "system", "baseline"):
            plain[name] = asdict(plain[name])
        history = [asdict(one) for one in self.history]
        return {"format": FORMAT, **plain, "test": self.test.as_json(), "history": history}

    @classmethod
    def read(cls, file: Path) -> _Held:
        """What a file holds.

        Raises:
            DamagedArtifactError: it is not the state of a shadow test.
            ArtifactVersionError: a later release wrote it.
        """
        try:
            if file.stat().st_size > LARGEST:
                raise ValueError(f"{file.stat().st_size:,} bytes are too many")
            document = read_json(file)
            if isinstance(document.get("format"), int) and document["format"] > FORMAT:
                raise ArtifactVersionError(f"{file} was written by a later thresher; upgrade, or {_REMEDY}")
            return cls._of(document)
        except ArtifactVersionError:
            raise
        except (KeyError, TypeError, ValueError, DamagedArtifactError) as err:
            reason = f"there is no {err}" if isinstance(err, KeyError) else str(err)
            raise DamagedArtifactError(str(file), f"not the state of a shadow test ({reason}); {_REMEDY}") from err

    @classmethod
    def _of(cls, document: Mapping[str, object]) -> _Held:
        counts = {name: typed(name, document[name], "int") for name in ("asked", "dropped", "failed")}
        texts = {name: typed(name, document[name], "str") for name in ("began", "since", "outcome")}
        system, baseline = (subject_from(document[name]) for name in ("system", "baseline"))
        if min(counts.values()) < 0:
            raise ValueError(f"a count is {min(counts.values())}")
        one_of("outcome", texts["outcome"], OUTCOMES.values())
        settings = made_from(ShadowSettings, document["settings"])
        test = SequentialTest.from_json(typed("test", document["test"], "dict"))
        if (test.margin, test.alpha, test.low, test.high) != (settings.margin, settings.alpha, 0.0, 1.0):
            raise ValueError("the test is not that of the settings")
        history = [made_from(Earlier, one) for one in typed("history", document["history"], "list")]
        lost_since = typed("lost_since", document["lost_since"], "str | None")
        return cls(settings, system, baseline, test, **counts, **texts, lost_since=lost_since, history=history)


class Running:
    """The test of a system's live queries. Safe to share between threads.

    Args:
        settings: what is tested; where they differ from the file's, the test starts anew.
        system: what is tested.
        baseline: what it is compared with.
        file: where the state is kept between processes; None to keep it in memory alone.

    Attributes:
        settings: as given.

    Raises:
        BusyArtifactError: another test, of this process or another, keeps its state in the file.
        DamagedArtifactError: the file is not the state of a test.
        ArtifactVersionError: a later release wrote it.
        OSError: the file cannot be written.
    """

    def __init__(self, settings: ShadowSettings, system: Subject, baseline: Subject, file: Path | None = None) -> None:
        self.settings, self._file = settings, file
        self._lock, self._writing = threading.RLock(), threading.Lock()
        self._changed, self._problem, self._written, self._looked = True, "", -math.inf, -math.inf
        self._superseded: dict[str, float] = {}
        self._held = _Held.fresh(settings, system, baseline)
        self._guard = None if file is None else _guarded(file)
        try:
            if file is not None and file.exists():
                self._held = _Held.read(file)
                self._continue(settings, system, baseline)
            if file is not None:
                self._write(file)
        except BaseException:
            self.close()
            raise

    def _continue(self, settings: ShadowSettings, system: Subject, baseline: Subject) -> None:
        """Go on with what the file held, or start anew where it is of something else."""
        before, self._held.settings = self._held.settings, settings
        if before.tested != settings.tested:
            self._anew(f"margin, alpha or measure changed from {before.margin:g}, {before.alpha:g}, {before.measure}")
            self._held.system, self._held.baseline = system, baseline
        self.at(system, baseline)
        self._superseded.clear()

    @classmethod
    def read(cls, file: Path) -> ShadowReport:
        """The report that a state file holds, also while a process writes it.

        Raises:
            DamagedArtifactError: the file is not the state of a test.
            ArtifactVersionError: a later release wrote it.
        """
        if not file.exists():
            raise ArtifactError(f"there is no state of a shadow test at {file}")
        made = cls.__new__(cls)
        made._held, made._lock, made._problem = _Held.read(file), threading.RLock(), ""
        made.settings = made._held.settings
        return made.report()

    @classmethod
    def reset_file(cls, file: Path) -> ShadowReport:
        """Start the test of a state file anew.

        Raises:
            BusyArtifactError: a process writes it: ask that one, for example `thresher shadow URL --reset`.
            DamagedArtifactError: the file is not the state of a test.
        """
        before = cls.read(file)
        made = cls(before.settings, before.system, before.baseline, file)
        try:
            made.reset()
            return made.report()
        finally:
            made.close()

    def number(self) -> int:
        """The number of the next live query, counted from 0 over all processes that kept this state."""
        with self._lock:
            found = self._held.asked
            self._held.asked, self._changed = found + 1, True
            return found

    def at(self, system: Subject, baseline: Subject) -> bool:
        """Say which commits are asked now; whether the test is of them. Of later ones it starts anew.

        False of commits that others have just taken the place of: of queries that were under way meanwhile.
        """
        with self._lock:
            held, at = self._held, time.monotonic()
            pairs = (("system", held.system, system), ("baseline", held.baseline, baseline))
            moved = [(name, old, new) for name, old, new in pairs if old.sha256 != new.sha256]
            if not moved:
                return True
            if any(at < self._superseded.get(new.sha256, -math.inf) + _UNDER_WAY for _, _, new in moved):
                return False
            self._superseded |= {old.sha256: at for _, old, _ in moved}
            why = " and ".join(_what_happened(name, old, new) for name, old, new in moved)
            self._anew(why)
            held.system, held.baseline = system, baseline
            _log.info("the shadow test starts anew: %s", why)
            return True

    def add(self, loss: float, system: Subject, baseline: Subject) -> None:
        """Count the loss of a query that these commits answered; a query of an earlier commit is dropped.

        Raises:
            InputError: it is not a number from 0 to 1.
        """
        with self._lock:
            if not self.at(system, baseline):
                self.drop()
                return
            held = self._held
            held.test.add(loss)
            self._changed = True
            outcome = OUTCOMES[held.test.outcome]
            if outcome != held.outcome:
                held.outcome, held.since = outcome, now()
                _log.info("the shadow test is now %s after %d sampled queries", outcome, held.test.n)
                if outcome == "lost" and held.lost_since is None:
                    held.lost_since = held.since
                    _log.warning("the mean loss of live queries exceeded the margin: %s", self.report())

    def drop(self) -> None:
        """Count a query that was chosen and is not compared."""
        with self._lock:
            self._held.dropped, self._changed = self._held.dropped + 1, True

    def fail(self) -> None:
        """Count a query whose comparison failed."""
        with self._lock:
            self._held.failed, self._changed = self._held.failed + 1, True

    @property
    def falls_back(self) -> bool:
        """Whether queries are to be answered by the baseline."""
        return self.settings.policy == "fall-back" and self._held.lost_since is not None

    def reset(self, why: str = "reset") -> None:
        """Start anew, and answer from the system again.

        Args:
            why: what the history says.
        """
        with self._lock:
            self._anew(why)
            self._held.lost_since = None
        self.keep(hurry=True)

    def look(self) -> None:
        """Where the margin was exceeded, end that if the system has been certified since; looks every 5 s at most."""
        with self._lock:
            lost_since, system, baseline = self._held.lost_since, self._held.system, self._held.baseline
            if lost_since is None or time.monotonic() - self._looked < _LOOK:
                return
            self._looked = time.monotonic()
        with suppress(ThresherError, OSError):  # as good as none
            made = Certificate.read(system.path) if system.sha256 else None
            if made is not None and made.certified and made.made.get("date", "") > lost_since:
                ours = made.system.sha256 == system.sha256 and made.baseline.build == baseline.build
                if ours and not staleness(system.path, made).stale:
                    self.reset(f"a certificate of {made.made['date']} renews the claim")

    def report(self) -> ShadowReport:
        """What is known now."""
        with self._lock:
            held, test = self._held, self._held.test
            interval = test.interval()
            return ShadowReport(
                self.settings,
                held.system,
                held.baseline,
                test.n,
                held.dropped,
                held.failed,
                test.mean if test.n else None,
                interval.low,
                interval.high,
                held.outcome,
                held.since,
                held.began,
                test.more_to_prove(),
                test.lost_at,
                held.lost_since,
                self.falls_back,
                tuple(held.history),
                self._problem,
            )

    def keep(self, *, hurry: bool = False) -> None:
        """Write the state, where it has changed and was not written within the last second.

        A state that cannot be written is logged once and in the report: queries are answered all the same.
        """
        file = self._file
        if file is None or self._guard is None or not self._changed:
            return
        if not hurry and time.monotonic() - self._written < EVERY:
            return
        try:
            self._write(file)
            self._problem = ""
        except OSError as err:
            if str(err) != self._problem:
                _log.warning("the state of the shadow test cannot be written: %s", err)
            self._problem = str(err)

    def _write(self, file: Path) -> None:
        with self._writing:
            with self._lock:
                content, self._changed = json.dumps(self._held.as_json(), allow_nan=False), False
            self._written = time.monotonic()
            try:
                write_atomic(file, content + "\n")
            except OSError:
                self._changed = True
                raise

    def close(self) -> None:
        """Write the state, and let other processes have the file."""
        self.keep(hurry=True)
        guard, self._guard = self._guard, None
        if guard is not None:
            os.close(guard)

    def _anew(self, why: str) -> None:
        """End the test, and start another."""
        held, at = self._held, now()
        mean = held.test.mean if held.test.n else None
        ended = Earlier(held.outcome, held.test.n, mean, held.began, at, why, held.system.commit, held.baseline.commit)
        fresh = _Held.fresh(self.settings, held.system, held.baseline)
        fresh.asked, fresh.lost_since = held.asked, held.lost_since
        fresh.history = [ended, *held.history][:KEPT]
        for one in fields(fresh):
            setattr(held, one.name, getattr(fresh, one.name))
        self._changed = True


def _what_happened(name: str, old: Subject, new: Subject) -> str:
    """What has become of a side."""
    if old.build != new.build:
        return f"the {name} is another index"
    changes = sum(abs(new.changes.get(one, 0) - old.changes.get(one, 0)) for one in CHANGES)
    return f"the {name} went from commit {old.commit} to {new.commit} ({changes:,} passages changed)"


def _guarded(file: Path) -> int:
    """The descriptor of a lock beside a state file, which is replaced and so cannot be locked itself.

    Raises:
        BusyArtifactError: another has it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise BusyArtifactError(
            f"{file} is the state of a shadow test that is running; give each test a file of its own, stop the process "
            "that has it, or ask that one: `thresher shadow URL`"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
