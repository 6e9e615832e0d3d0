"""Remembered answers: the response cache, which lasts between runs, and the journal, which lets a killed run resume.

The cache is an sqlite file. Its key is a sha256 over model, parameters and prompt, so it holds answers and token counts
but no prompts or passages.

The journal is JSON lines, appended and flushed at once: `{"sent": key, "cost": [...]}` before a call, and after it
`{"answered": key, "cost": [...], "reply": {...}}` or `{"failed": key, "cost": [...]}`. Opening an existing journal
restores the answers, which are not requested again, and what was spent, so a budget holds across the interruption: a
call that was sent and has no second line counts at its reservation. A last line that the kill cut short is dropped; a
file with any other line that is not of a journal is refused and left as it is. If the disk is full, the run goes on
without its journal and says so.

Both files are readable by their user only, and keys and headers are never written to them. A file that cannot be read
is an error, never an empty cache.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.arguments import checked_call
from thresher.durable import lock
from thresher.errors import ArtifactError, ConfigError, InputError
from thresher.files import cache_folder
from thresher.llm.budget import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from thresher.llm.model import Json

_log = logging.getLogger(__name__)
_EVENTS = (b'{"sent": "', b'{"answered": "', b'{"failed": "')
BUSY_SECONDS = 10.0
"""Seconds to wait for another process that is writing a cache."""

_OF_THE_MACHINE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}
_SCHEMA = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"


def default_cache_path() -> Path:
    """`responses.sqlite` in thresher's cache folder.

    Raises:
        ConfigError: there is no home directory and `THRESHER_CACHE` is not set.
    """
    folder = cache_folder()
    if folder is None:
        raise ConfigError("there is no home directory for the response cache; set THRESHER_CACHE or give a path")
    return folder / "responses.sqlite"


class ResponseCache:
    """Replies by key. Safe to use from several threads and processes.

    Args:
        path: the file, created (with its directory) if missing; by default `responses.sqlite` in the cache folder.

    Raises:
        ArtifactError: the file is not a response cache (it is left as it is), or another process has locked it.
        OSError: it cannot be made or written.
    """

    @checked_call
    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_cache_path()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_database(self.path)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self.path.chmod(0o600)  # also if it existed with wider permissions
        self._lock = threading.Lock()
        self._failed = False
        self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and "replies" not in tables:
                raise sqlite3.DatabaseError(f"a database with the tables {', '.join(sorted(tables))[:80]}")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if not tables:
                self._db.execute(_SCHEMA)
            self._db.execute("SELECT key, reply FROM replies LIMIT 1")
        except sqlite3.Error as err:
            self._db.close()
            raise self._unusable(err) from None

    def _unusable(self, err: sqlite3.Error) -> ArtifactError | OSError:
        """Why the file cannot be used."""
        if _code(err) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return ArtifactError(
                f"{self.path} is in use by another process ({err}); wait for it, or name another file with --cache-file"
            )
        if _code(err) in _OF_THE_MACHINE:
            return OSError(_OF_THE_MACHINE[_code(err)], f"the response cache cannot be written ({err})", str(self.path))
        return ArtifactError(f"{self.path} is not a response cache ({err}); name another file with --cache-file")

    @checked_call
    def get(self, key: str) -> Json | None:
        """The reply to the call with this key, None if it is not cached or cannot be read."""
        try:
            with self._lock:
                row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
            reply = None if row is None else json.loads(row[0])
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as err:
            self._note("read", err)
            return None
        return reply if isinstance(reply, dict) else None

    @checked_call
    def put(self, key: str, reply: Mapping[str, object]) -> None:
        """Store a reply. One that cannot be stored has been paid for and is used; the failure is logged once."""
        try:
            with self._lock:
                self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(reply)))
        except sqlite3.Error as err:
            self._note("written", err)

    def _note(self, done: str, err: Exception) -> None:
        """Log that the cache fails, once, and do not wait for its lock again."""
        if not self._failed:
            self._failed = True
            _log.warning("%s cannot be %s (%s): answers are not remembered from here on", self.path, done, err)
            with self._lock:
                self._db.execute("PRAGMA busy_timeout=0")

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM replies").fetchone()[0])

    @checked_call
    def clear(self) -> None:
        """Delete all replies."""
        with self._lock:
            self._db.execute("DELETE FROM replies")
            self._db.execute("VACUUM")

    @checked_call
    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Journal:
    """Append-only record of the calls of one run.

    Args:
        path: the file; created if missing, read if it exists.

    Raises:
        InputError: the file is not a journal, or another run is writing it.

    Attributes:
        replies: reply by key.
        spent: what all calls in the journal cost, open ones at their reservation.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.lstat()
        except ValueError:  # a NUL, or a character that the file system's encoding lacks
            raise InputError(f"{str(path)!r} is not a possible file name; give another one") from None
        except OSError:
            pass  # opening it says what is wrong
        self.replies: dict[str, Json] = {}
        self.spent = Cost()
        self._lost = False
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        try:
            _lock(descriptor, self.path)
            data = self.path.read_bytes()
            whole = self._load(data)
            self._file.truncate(whole)
            self._file.seek(0, os.SEEK_END)
            if whole and not data[:whole].endswith(b"\n"):
                self._file.write(b"\n")
        except BaseException:
            self._file.close()
            raise

    def sent(self, key: str, cost: Cost) -> None:
        """Record that a call is about to be sent."""
        self._write({"sent": key, "cost": _plain(cost)})

    def answered(self, key: str, cost: Cost, reply: Json) -> None:
        """Record the reply to a call."""
        self._write({"answered": key, "cost": _plain(cost), "reply": reply})
        self.replies[key] = reply

    def failed(self, key: str, cost: Cost) -> None:
        """Record that a call failed."""
        self._write({"failed": key, "cost": _plain(cost)})

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # the disk is full, which has been reported
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, event: Mapping[str, object]) -> None:
        if self._lost:
            return
        try:
            self._file.write(json_line(event))
            self._file.flush()  # survives a kill of this process; a power cut may lose the last answers
        except OSError as err:
            self._lost = True
            _log.warning("%s: %s; the run goes on, but cannot be resumed from here", self.path, err.strerror or err)

    def _load(self, data: bytes) -> int:
        """Read the file; returns the length of its complete lines."""
        whole = data.rfind(b"\n") + 1
        rest = data[whole:]
        begun = whole or len(rest) > max(map(len, _EVENTS))  # a file that consists of "{" may be anybody's
        if rest and not (begun and any(rest.startswith(event[: len(rest)]) for event in _EVENTS)):
            raise InputError("this is not a rerank journal; name another file", str(self.path))
        if rest.endswith(b"}") and _is_json(rest):
            whole = len(data)  # a line without its end
        open_calls: dict[str, list[Cost]] = {}
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                event = json.loads(line)
                cost = _cost(event["cost"])
                if "sent" in event:
                    open_calls.setdefault(event["sent"], []).append(cost)
                    continue
                key = event["answered"] if "answered" in event else event["failed"]
                if "answered" in event:
                    self.replies[key] = event["reply"]
                open_calls[key].pop()
                self.spent = self.spent.plus(cost)
            except (ValueError, KeyError, TypeError, IndexError, RecursionError) as err:
                raise InputError(
                    f"this is not a line of a rerank journal ({type(err).__name__}); remove the file to start over",
                    str(self.path),
                    number,
                ) from None
        for cost in (cost for costs in open_calls.values() for cost in costs):
            self.spent = self.spent.plus(cost)
        return whole


def _lock(descriptor: int, path: Path) -> None:
    """Lock out other runs where the file system can; the lock ends with the process."""
    try:
        locked = lock(descriptor)
    except BlockingIOError:
        raise InputError("another run is writing this journal; wait for it, or name another file", str(path)) from None
    if not locked:
        _log.warning("%s: this file system has no locks; make sure that no other run writes this journal", path)


def json_line(document: Mapping[str, object]) -> bytes:
    """A line of JSON in UTF-8; half a surrogate pair, which UTF-8 cannot hold, is escaped."""
    try:
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(document).encode() + b"\n"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _plain(cost: Cost) -> list[float]:
    return [cost.calls, cost.prompt_tokens, cost.answer_tokens, cost.money, cost.questions]


def _cost(values: object) -> Cost:
    """The cost in a line of a journal; a line without a number of questions has one a call, as all calls once had."""
    numbers = values if isinstance(values, list) and len(values) in (4, 5) else []
    right = [isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < 1e18 for one in numbers]
    if not numbers or not all(right):
        raise ValueError(f"{str(values)[:80]} is not a cost")
    calls, prompt_tokens, answer_tokens, money, *questions = numbers
    return Cost(calls, prompt_tokens, answer_tokens, money, questions[0] if questions else calls)


def _code(err: sqlite3.Error) -> int:
    """The primary result code of an sqlite error; 0 if it has none."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF


def _check_database(path: Path) -> None:
    """Raise if the file exists and is not an sqlite database; it is left as it is."""
    if not path.exists():
        return
    if not path.is_file():
        raise ArtifactError(f"{path} is not a file and so not a response cache; name another with --cache-file")
    with path.open("rb") as file:
        start = file.read(16)
    if start and start != b"SQLite format 3\0":
        raise ArtifactError(f"{path} is not a response cache (no sqlite database); name another with --cache-file")
