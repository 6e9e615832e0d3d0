"""Counting and cutting text in a model's tokens.

With the model's own tokenizer, token counts are exact. Without it, a token is taken as four UTF-8 bytes where text is
cut, and as one byte where a budget must hold: no byte-level vocabulary has tokens shorter than a byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thresher.errors import DataNotFoundError, InputError, require

if TYPE_CHECKING:
    import tokenizers

BYTES_A_TOKEN = 4


class Tokens(Protocol):
    """Counts and cuts text."""

    @property
    def special(self) -> tuple[str, ...]:
        """Strings that encode as control tokens, which passages must not contain."""

    def count(self, text: str) -> int:
        """Tokens of a text, exact or estimated."""

    def bound(self, text: str) -> int:
        """An upper bound on the tokens of a text."""

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of the text that has at most `limit` tokens by `count`."""


class ByteTokens:
    """Estimates from the length in UTF-8, for models without a local tokenizer."""

    special: tuple[str, ...] = ()

    def count(self, text: str) -> int:
        """A quarter of the bytes, rounded up."""
        return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN)

    def bound(self, text: str) -> int:
        """The bytes."""
        return len(text.encode("utf-8", "surrogatepass"))

    def cut(self, text: str, limit: int) -> str:
        """The beginning that fits, cut back to the last white space where there is one."""
        data = text.encode("utf-8", "surrogatepass")
        if len(data) <= limit * BYTES_A_TOKEN:
            return text
        head = data[: limit * BYTES_A_TOKEN].decode("utf-8", "ignore")
        return head[: head.rfind(" ")] if " " in head else head


class TokenizerTokens:
    """Exact counts by a `tokenizers.Tokenizer`.

    Args:
        tokenizer: the tokenizer; special tokens it would add around a text are not counted.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self.special = tuple(token.content for token in added if token.special and token.content.strip())

    def count(self, text: str) -> int:
        """Tokens of the text."""
        return len(self._encode(text).ids)

    bound = count

    def cut(self, text: str, limit: int) -> str:
        """The beginning of the text up to the end of token number `limit`."""
        encoding = self._encode(text)
        if len(encoding.ids) <= limit:
            return text
        cut = text[: encoding.offsets[limit - 1][1]] if limit > 0 else ""
        while cut and self.count(cut) > limit:  # cutting inside a merge can add tokens
            cut = cut[:-1]
        return cut

    def _encode(self, text: str) -> tokenizers.Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)


def load_tokens(path: str | Path) -> TokenizerTokens:
    """Load a `tokenizer.json`, or the one in a model's directory.

    Raises:
        DataNotFoundError: there is none.
        MissingExtraError: the tokenizers package is not installed.
    """
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    if not file.is_file():
        raise DataNotFoundError(f"no tokenizer at {file}; give a tokenizer.json or a model's directory")
    library = require("tokenizers", extra="models", purpose="counting a model's tokens")
    try:
        tokenizer = library.Tokenizer.from_file(str(file))
    except Exception as err:  # the library raises nothing narrower
        raise InputError(f"not a tokenizer: {err}", str(file)) from err
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenizerTokens(tokenizer)


def tokens_of(given: Tokens | str | Path | None) -> Tokens:
    """`given`, the tokenizer at a path, or estimates if None."""
    if isinstance(given, str | Path):
        return load_tokens(given)
    return ByteTokens() if given is None else given
