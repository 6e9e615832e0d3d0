"""When a failed call is worth another try, and how long to wait before it.

Exponential backoff with full jitter: attempt a waits a random time up to `first * 2**(a - 1)`, at most `longest`,
and at least half of it, so that a wait is never nothing. Where the server says how long to wait (Retry-After), that
is what is waited, up to `patience`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from thresher.errors import ModelError


class TransientModelError(ModelError):
    """A call that failed and may succeed when tried again.

    Args:
        message: what happened, free of secrets.
        retry_after: seconds the server asked to wait, None where it did not say.
        may_have_run: the model may have worked on the call (and billed it): False only where the server refused it or
            was never reached.
    """

    def __init__(self, message: str, retry_after: float | None = None, may_have_run: bool = True) -> None:
        super().__init__(message, retry_after, may_have_run)

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asked to wait."""
        value = self.args[1]
        return None if value is None else float(value)

    @property
    def may_have_run(self) -> bool:
        """Whether the call may have cost something."""
        return bool(self.args[2])

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently transient failures are tried again.

    Attributes:
        attempts: tries in all, the first included.
        first: seconds of the first backoff.
        longest: seconds no backoff exceeds.
        patience: the longest Retry-After, in seconds, that is obeyed; a longer one is cut to this.
    """

    attempts: int = 4
    first: float = 0.5
    longest: float = 20.0
    patience: float = 60.0

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the attempt of that number, counted from 1."""
        if retry_after is not None:
            return min(max(retry_after, 0.0), self.patience)
        ceiling = min(self.first * 2.0 ** (attempt - 1), self.longest)
        return ceiling * (0.5 + 0.5 * random.random())  # noqa: S311


def retry_after_seconds(value: str | None) -> float | None:
    """The seconds a Retry-After header asks for: a number, or the time until a date; None if it says neither."""
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)
