"""Keys of servers: where they come from, and how they are hidden wherever text could show them.

A key is handled in `Key`, which no message, log, traceback or pickle shows. What a server says is searched for the
key, in every form of `Key.forms`, before it becomes a message or an answer.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, quote_plus

from thresher.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

HIDDEN = "***"

SHORT = 8
"""Keys of fewer characters may be ordinary words (`EMPTY`): they are hidden only as whole words."""

KEY_BYTES = 64 << 10

_URL_SAFE = str.maketrans("+/", "-_")


class Key:
    """A key, which only the server is shown: not in a repr, a pickle, or the variables of a traceback.

    Args:
        value: the key; empty for none.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"Key({HIDDEN if self._value else ''})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")

    def sign(self, request: httpx2.Request) -> httpx2.Request:
        """Put the key into the header of a request."""
        if self._value:
            request.headers["Authorization"] = f"Bearer {self._value}"
        return request

    def forms(self) -> list[str]:
        """The key as servers and libraries repeat it, longest first: plain, quoted, escaped and encoded."""
        key = self._value
        quoted = (repr(key)[1:-1], json.dumps(key)[1:-1], json.dumps(key)[1:-1].replace("/", "\\/"), html.escape(key))
        urls = (quote(key, safe=""), quote(key), quote_plus(key))
        found = {key, *quoted, *urls, *map(_lower_escapes, urls)}
        if len(key) >= SHORT:
            data = key.encode()
            found |= {data.hex(), data.hex().upper()}
            for before in range(3):  # the three ways in which the key's bytes can lie in a longer text's base64
                whole = base64.b64encode(b"." * before + data).decode()
                part = whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
                found |= {part, part.translate(_URL_SAFE)}
        return sorted(found, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """`text` with asterisks in place of the key, in any of its forms; a short key is hidden as a whole word."""
        if not self._value:
            return text
        for form in self.forms():
            if len(self._value) >= SHORT:
                text = text.replace(form, HIDDEN)
            elif form in text:
                text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", HIDDEN, text)
        return text

    def hidden(self, document: object) -> object:
        """Decoded JSON without the key in any text. A key of under four characters is none."""
        if len(self._value) < 4:
            return document
        if isinstance(document, str):
            return self.hide(document)
        if isinstance(document, list):
            return [self.hidden(one) for one in document]
        if isinstance(document, dict):
            return {self.hide(name): self.hidden(value) for name, value in document.items()}
        return document


@dataclass(frozen=True, slots=True, repr=False)
class KeySource:
    """Where a key comes from.

    Attributes:
        source: the name of an environment variable, the path of a file, or a function without arguments that returns
            the key. White space around a key is dropped.
        required: whether a missing variable is an error; local servers need no key.

    Raises:
        ConfigError: the source is none of these.
    """

    source: str | Path | Callable[[], object]
    required: bool = False

    def __post_init__(self) -> None:
        named = isinstance(self.source, str) and self.source.isidentifier()
        if not named and not isinstance(self.source, Path) and not callable(self.source):
            raise ConfigError(
                "a key is given as the name of an environment variable, the path of a file or a function, never as the "
                "key itself"
            )

    def read(self) -> Key:
        """The key; empty if none is set and none is required.

        Raises:
            ConfigError: the variable is required and not set, the file or function fails, or what they hold cannot be
                sent as a key. The message names the source and shows nothing of the key.
        """
        key, problem = self._checked()  # this frame never holds the key as text: tracebacks can show variables
        if problem:
            raise ConfigError(f"{self._place} {problem}")
        return key

    def _checked(self) -> tuple[Key, str]:
        """The key, and why it cannot be sent; errors of a function may hold the key and are not passed on."""
        value: object
        try:
            if isinstance(self.source, str):
                value = os.environ.get(self.source, "")
            elif isinstance(self.source, Path):
                with self.source.open(encoding="utf-8") as file:
                    value = file.read(KEY_BYTES)
            else:
                value = self.source()
        except UnicodeDecodeError:
            return Key(), "cannot be read: it is not text"
        except OSError as err:
            return Key(), f"cannot be read: {os.strerror(err.errno) if err.errno else type(err).__name__}"
        except Exception as err:
            return Key(), f"cannot be read: the function failed with {type(err).__name__}"
        if not isinstance(value, str):
            return Key(), f"is {type(value).__name__}, not text"
        value = value.strip().strip("\ufeff").strip()
        odd = next((char for char in value if not "!" <= char <= "~"), "")
        if odd:
            kind = {"\n": "a line break", "\r": "a line break", "\0": "a NUL", " ": "a space"}.get(odd, "a character")
            return Key(), f"contains {kind} that no key has; it must be one word of ASCII characters"
        return Key(value), "is not set; it must hold the server's key" if self.required and not value else ""

    @property
    def _place(self) -> str:
        if isinstance(self.source, str):
            return f"the key in the environment variable {self.source}"
        return f"the key in {self.source}" if isinstance(self.source, Path) else "the key that the function returns"

    def __repr__(self) -> str:
        return f"KeySource({'a function' if callable(self.source) else self.source})"


def _lower_escapes(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text)
