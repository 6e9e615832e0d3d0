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
import json
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from thresher.errors import ArtifactError, ConfigError, InputError
from thresher.files import cache_folder, lock
from thresher.llm.budget import Cost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from thresher.llm.model import Json

_log = logging.getLogger(__name__)
_EVENTS = (b'{"sent": "', b'{"answered": "', b'{"failed": "')
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
        ArtifactError: the file is not a response cache.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_cache_path()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self.path.chmod(0o600)  # also if it existed with wider permissions
        self._lock = threading.Lock()
        self._db = sqlite3.connect(self.path, timeout=30, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)
        except sqlite3.DatabaseError as err:
            self._db.close()
            raise ArtifactError(
                f"{self.path} is not a response cache ({err}); remove it or name another file"
            ) from None

    def get(self, key: str) -> Json | None:
        """The reply to the call with this key, None if it is not cached."""
        with self._lock:
            row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, reply: Mapping[str, object]) -> None:
        """Store a reply."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(reply)))

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM replies").fetchone()[0])

    def clear(self) -> None:
        """Delete all replies."""
        with self._lock:
            self._db.execute("DELETE FROM replies")
            self._db.execute("VACUUM")

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
                cost = Cost(*event["cost"])
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
    return [cost.calls, cost.prompt_tokens, cost.answer_tokens, cost.money]
