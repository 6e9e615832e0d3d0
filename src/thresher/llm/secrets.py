"""Keys: read from the environment or a callable at the moment of the call, and kept out of everything else.

A key is never an argument, never an attribute, never part of a name, cache key, manifest, log or error. What servers
say back is scrubbed of it before it becomes a message.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

HIDDEN = "***"


@dataclass(frozen=True, slots=True, repr=False)
class KeySource:
    """Where a key comes from.

    Attributes:
        source: the name of an environment variable, or a function without arguments that returns the key.
        required: whether a missing variable is an error; local servers need no key.
    """

    source: str | Callable[[], str]
    required: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.source, str) and not self.source.isidentifier():
            raise ConfigError(
                "a key is given as the name of an environment variable or as a function, never as the key itself"
            )

    def read(self) -> str:
        """The key; empty where none is set and none is required.

        Raises:
            ConfigError: the variable is required and not set.
        """
        if not isinstance(self.source, str):
            return self.source()
        key = os.environ.get(self.source, "")
        if not key and self.required:
            raise ConfigError(f"the environment variable {self.source} is not set; it must hold the server's key")
        return key

    def __repr__(self) -> str:
        return f"KeySource({self.source if isinstance(self.source, str) else 'a function'})"


def checked_url(url: str) -> str:
    """A server's address without a trailing slash.

    Raises:
        ConfigError: it is not http(s), or carries a user, password or query, which would be secrets in a name.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("a server's address starts with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None or parts.query:
        raise ConfigError(
            f"the address of {parts.hostname} carries a user, password or query; give keys through the environment"
        )
    return url.rstrip("/")


def scrub(text: str, *keys: str) -> str:
    """`text` without any of the keys, as they are or URL-encoded."""
    for key in keys:
        for form in {key, quote(key, safe="")} if key else ():
            text = text.replace(form, HIDDEN)
    return text
