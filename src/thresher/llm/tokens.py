"""Counting and cutting text in a model's tokens.

With the model's own tokenizer counts are exact. Without it, a token is taken for four UTF-8 bytes where text is cut,
and for one byte where a budget must hold: no byte-level vocabulary has tokens shorter than a byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from thresher.errors import DataNotFoundError, require

BYTES_A_TOKEN = 4


class Tokens(Protocol):
    """Counts and cuts text."""

    @property
    def special(self) -> tuple[str, ...]:
        """Strings that stand for control tokens, which passages must not contain."""

    def count(self, text: str) -> int:
        """Tokens of a text, exact or estimated."""

    def bound(self, text: str) -> int:
        """A number of tokens the text does not exceed."""

    def cut(self, text: str, limit: int) -> str:
        """The longest beginning of the text that has at most `limit` tokens by `count`."""


class ByteTokens:
    """Estimates from the length in UTF-8, for models whose tokenizer is not here."""

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

    def __init__(self, tokenizer: Any) -> None:
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
        while cut and self.count(cut) > limit:  # the cut may have split a merge: a character less is a token less
            cut = cut[:-1]
        return cut

    def _encode(self, text: str) -> Any:
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
        raise DataNotFoundError(f"there is no tokenizer at {file}; name a tokenizer.json or a model's directory")
    tokenizers: Any = require("tokenizers", extra="models", purpose="counting a model's tokens")
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenizerTokens(tokenizer)
