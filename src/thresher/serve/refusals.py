"""Errors that only a server raises: each has the HTTP status and the headers it is answered with.

Other errors of the library have their status here too (`status_of`). How an error is written depends on the route: see
`thresher.serve.dialects`.
"""

from __future__ import annotations

import math

from thresher.errors import (
    BudgetExhaustedError,
    BusyArtifactError,
    ConfigError,
    DataNotFoundError,
    InputError,
    MissingExtraError,
    ShardError,
    ThresherError,
)


class RefusedError(ThresherError):
    """A request that the server does not answer.

    Args:
        message: what is wrong, and how to mend it.
        status: of HTTP.
        retry_after: seconds after which to ask again; None where that does not help.
        allow: the methods that are allowed, where the request's is not.
    """

    def __init__(self, message: str, status: int, retry_after: float | None = None, allow: str = "") -> None:
        super().__init__(message, status, retry_after, allow)

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def status(self) -> int:
        """The status of HTTP."""
        return int(self.args[1])

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        after = self.args[2]
        found = {} if after is None else {"Retry-After": str(max(1, math.ceil(after)))}
        found |= {"Allow": self.args[3]} if self.args[3] else {}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def unknown_key() -> RefusedError:
    """401."""
    return RefusedError("send a key that this server knows, as the header 'Authorization: Bearer KEY'", 401)


def forbidden(message: str) -> RefusedError:
    """403."""
    return RefusedError(message, 403)


def not_found(message: str) -> RefusedError:
    """404."""
    return RefusedError(message, 404)


def too_many(retry_after: float) -> RefusedError:
    """429: the queue is full."""
    return RefusedError("the server has as many requests waiting as it takes; ask again later", 429, retry_after)


def unavailable(message: str, retry_after: float | None = 1.0) -> RefusedError:
    """503."""
    return RefusedError(message, 503, retry_after)


def not_in_shards(name: str, instead: str) -> RefusedError:
    """501: an index in shards does not do this; `instead` says what to do."""
    return RefusedError(f"the index {name!r} is in shards: {instead}", 501)


def headers_of(error: Exception) -> dict[str, str]:
    """The headers that an error is answered with: whoever is told 503 is told when to ask again."""
    if isinstance(error, RefusedError):
        return error.headers
    return {"Retry-After": "1"} if status_of(error) == 503 else {}


def status_of(error: Exception) -> int:
    """The status of HTTP that an error is answered with.

    Only errors of the library's own classes may be the client's fault: a plain `ValueError` is a fault of the code.
    """
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, DataNotFoundError):
        return 404
    if isinstance(error, BusyArtifactError):
        return 409
    if isinstance(error, MissingExtraError):
        return 501
    if isinstance(error, BudgetExhaustedError | ShardError):
        return 503
    return 400 if isinstance(error, InputError | ConfigError) else 500
