"""The response cache: what a model answered to exactly this call, kept in sqlite.

The key is a sha256 over model, parameters and prompt, so prompts (and the passages in them) are not stored, only
answers and token counts. The file and its directory are readable by their user alone. No key or header ever comes
near it. An unreadable file is an error, never an empty cache.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import ArtifactError
from thresher.files import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_SCHEMA = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"


def default_cache_path() -> Path:
    """`THRESHER_CACHE/responses.sqlite`, or the same under the user's cache directory."""
    folder = cache_folder()
    if folder is None:
        raise ArtifactError("there is no home directory to keep replies in; set THRESHER_CACHE to a folder")
    return folder / "responses.sqlite"


class ResponseCache:
    """Replies by key. Safe to use from several threads and processes.

    Args:
        path: the file, made (with its directory) where missing; `default_cache_path()` unless given.

    Raises:
        ArtifactError: the file is not a response cache.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_cache_path()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        self.path.chmod(0o600)  # also one that was there with wider rights
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

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The reply to the call of that key, None if it is not known."""
        with self._lock:
            row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, reply: Mapping[str, Any]) -> None:
        """Remember a reply."""
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(reply)))

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM replies").fetchone()[0])

    def clear(self) -> None:
        """Forget everything."""
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
