"""How many tokens a text costs its reader.

Any function from text to a number will do: `len(tiktoken_encoding.encode(text))`, a transformers tokenizer, a served
model's count. Without one, `approximate_tokens` estimates what a byte-pair vocabulary of today makes of a text.
"""

from __future__ import annotations

import re

_PIECE = re.compile(r"[A-Za-z]+|\d{1,3}|\s*\n\s*|[^\sA-Za-z\d]")


def approximate_tokens(text: str) -> int:
    """How many tokens `text` costs, about.

    One for each word of Latin letters up to ten letters and one more for every further six, for each three digits, for
    each line break and each other character that is not white space. Errs on the high side for other scripts.
    """
    return sum(1 + max(0, (len(piece) - 5) // 6) for piece in _PIECE.findall(text))
