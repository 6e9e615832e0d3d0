"""Keys: who a request comes from, and what it may see.

Of a key only its SHA-256 is kept. A given key is compared with all of them, each in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thresher.errors import ConfigError, InputError
from thresher.index.filters import Where

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEX = re.compile("[0-9a-f]{64}")
_KNOWN = {"name", "key", "sha256", "where", "indexes", "admin"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from.

    Attributes:
        name: of the key; empty where the server has none.
        admin: may change indexes.
        where: only passages that match it are there for this caller; None for all.
        indexes: the indexes that are there for this caller; None for all.
    """

    name: str = ""
    admin: bool = False
    where: Where | None = None
    indexes: tuple[str, ...] | None = None

    @property
    def restricted(self) -> bool:
        """Whether something is hidden from this caller."""
        return self.where is not None or self.indexes is not None


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its caller; make one with `key_of`.

    Attributes:
        digest: sha256 of the key.
        caller: who has it.
    """

    digest: bytes = field(repr=False)
    caller: Caller


def key_of(secret: str, caller: Caller) -> Key:
    """The key whose text is `secret`.

    Raises:
        ConfigError: it is empty, or holds what no header can.
    """
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigError(f"the key of {caller.name!r} is empty or holds a space or a character that is not ASCII")
    return Key(hashlib.sha256(secret.encode()).digest(), caller)


def caller_of(keys: Sequence[Key], authorization: str) -> Caller | None:
    """Who sent this `Authorization` header; None for a key that is not known. All callers are one where no key is set.

    Args:
        keys: those known.
        authorization: the header's value, empty where there is none.
    """
    if not keys:
        return Caller()
    scheme, _, secret = authorization.partition(" ")
    given = hashlib.sha256(secret.strip().encode()).digest() if scheme.lower() == "bearer" else b""
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, given):
            found = key.caller
    return found


def keys_from_environment(name: str, *, admin: bool = False) -> tuple[Key, ...]:
    """Keys in an environment variable, separated by commas or spaces.

    Raises:
        ConfigError: the variable is not set, or empty.
    """
    secrets = os.environ.get(name, "").replace(",", " ").split()
    if not secrets:
        raise ConfigError(f"the environment variable {name} holds no key; set it, for example to the output of "
                          "`openssl rand -hex 32`")  # fmt: skip
    kind = "admin" if admin else "key"
    return tuple(key_of(secret, Caller(f"{kind}-{n}", admin)) for n, secret in enumerate(secrets, 1))


def keys_from_file(path: Path) -> tuple[Key, ...]:
    """Keys in a TOML file, one table `[[key]]` each: name, key or sha256, and optionally where, indexes and admin.

        [[key]]
        name = "team-a"
        sha256 = "…"                    # of the key, in hex; or key = "…"
        where = "team = a"              # only passages that match are there for this key
        indexes = ["docs"]              # and only these indexes
        admin = false

    Raises:
        ConfigError: the file is not TOML, or a key lacks something; names the file and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: not a TOML file of keys ({err})") from None
    tables = document.get("key")
    if not isinstance(tables, list) or not tables or set(document) != {"key"}:
        raise ConfigError(f"{path}: give each key as a table [[key]] with name and key")
    keys = tuple(_of_table(table, f"{path}: key {n}") for n, table in enumerate(tables, 1))
    names = [key.caller.name for key in keys]
    if len({key.digest for key in keys}) < len(keys) or len(set(names)) < len(names):
        raise ConfigError(f"{path}: two keys are the same, or have the same name; give each its own")
    return keys


def _of_table(table: object, place: str) -> Key:
    if not isinstance(table, dict) or not set(table) <= _KNOWN:
        raise ConfigError(f"{place}: a key has {', '.join(sorted(_KNOWN))} and nothing else")
    name, secret, digest = (table.get(part, "") for part in ("name", "key", "sha256"))
    indexes, admin, where = table.get("indexes"), table.get("admin", False), table.get("where")
    if not (isinstance(name, str) and name and isinstance(secret, str) and isinstance(digest, str)):
        raise ConfigError(f"{place}: name, and key or sha256, must be text")
    if bool(secret) == bool(digest) or (digest and not _HEX.fullmatch(digest.lower())):
        raise ConfigError(f"{place} ({name}): give either the key, or its sha256 in 64 hexadecimal digits")
    if not isinstance(admin, bool) or not (
        indexes is None or (isinstance(indexes, list) and all(isinstance(one, str) for one in indexes))
    ):
        raise ConfigError(f"{place} ({name}): admin must be true or false, and indexes a list of names")
    if admin and (where is not None or indexes is not None):
        raise ConfigError(f"{place} ({name}): an admin key changes whole indexes, so it takes no where and no indexes")
    try:
        scope = None if where is None else Where.parse(where)
    except InputError as err:
        raise ConfigError(f"{place} ({name}): where: {err}") from None
    caller = Caller(name, admin, scope, None if indexes is None else tuple(indexes))
    return Key(bytes.fromhex(digest), caller) if digest else key_of(secret, caller)
