"""The journal of a run: every call is written before it is sent and after it is answered, so a killed run can go on.

One JSON line an event, appended and flushed at once: `{"sent": key, "cost": [...]}` before, and after it `{"answered":
key, "cost": [...], "reply": {...}}` or `{"failed": key, "cost": [...]}`. Opening an existing journal brings back the
answers, which are not asked for again, and what was spent, so that a budget holds over the interruption: a call that
was sent and of which nothing more is known counts at its reservation. A last line that the kill cut short is dropped.
The file is readable by its user alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import InputError
from thresher.rerank.budget import Cost

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType, TracebackType


class Journal:
    """Append-only memory of the calls of one run.

    Args:
        path: the file; made where it is missing, read where it exists.

    Raises:
        InputError: a line that is not the last one cannot be read, or another run is writing the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.replies: dict[str, Mapping[str, Any]] = {}
        self.spent = Cost()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        try:
            _lock(descriptor, self.path)
            self._file.truncate(self._load())
            self._file.seek(0, os.SEEK_END)
        except BaseException:
            self._file.close()
            raise

    def sent(self, key: str, cost: Cost) -> None:
        """A call is about to go out."""
        self._write({"sent": key, "cost": _plain(cost)})

    def answered(self, key: str, cost: Cost, reply: Mapping[str, Any]) -> None:
        """A call was answered."""
        self._write({"answered": key, "cost": _plain(cost), "reply": reply})
        self.replies[key] = reply

    def failed(self, key: str, cost: Cost) -> None:
        """A call brought no answer."""
        self._write({"failed": key, "cost": _plain(cost)})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, event: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(event, ensure_ascii=False).encode() + b"\n")
        self._file.flush()  # survives a kill of this process; a power cut may cost the last answers

    def _load(self) -> int:
        """Read what is there; returns the length of the whole lines."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if not data[whole:].startswith(b'{"'[: len(data) - whole]):
            raise InputError("this is not a rerank journal; name another file", str(self.path))
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
            except (ValueError, KeyError, TypeError, IndexError) as err:
                raise InputError(
                    f"this is not a line of a rerank journal ({type(err).__name__}); remove the file to start anew",
                    str(self.path),
                    number,
                ) from None
        for cost in (cost for costs in open_calls.values() for cost in costs):
            self.spent = self.spent.plus(cost)
        return whole


def _lock(descriptor: int, path: Path) -> None:
    """Keep other runs out, where the system can; the lock ends with the process."""
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError("another run is writing this journal; wait for it, or name another file", str(path)) from None


def _plain(cost: Cost) -> list[float]:
    return [cost.calls, cost.prompt_tokens, cost.answer_tokens, cost.money]
