"""What an index keeps of an encoder for its queries; `TermsOnly` where they can only be weighted terms."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NoReturn, Protocol

from thresher.arguments import checked_call
from thresher.encode.encoder import read_document, write_document
from thresher.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


TYPE = "weighted-terms"


class QuerySide(Protocol):
    """What an index keeps of an encoder, so that queries get terms of the same vocabulary."""

    @property
    def name(self) -> str:
        """Human-readable name."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder that encoded the passages."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The term strings by term id."""

    def save(self, directory: Path) -> None:
        """Write what queries need into `directory`."""


class TermsOnly:
    """The query side of an index that has no query encoder: queries are terms with weights, never text.

    Args:
        vocabulary: the term strings by term id.
        name: human-readable name.
    """

    def __init__(self, vocabulary: Sequence[str], name: str, fingerprint: str = "") -> None:
        self.vocabulary = vocabulary
        self.name = name
        self.fingerprint = fingerprint or hashlib.sha256("\n".join((TYPE, name, *vocabulary)).encode()).hexdigest()

    @checked_call
    def encode_queries(self, texts: Sequence[str]) -> NoReturn:
        """Refuse texts.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"this index has no query encoder ({self.name}); search it with weighted terms {{term: weight}}, or build "
            "it again with --query-encoder"
        )

    def save(self, directory: Path) -> None:
        """Write name and fingerprint into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        write_document(directory, {"type": TYPE, "name": self.name, "fingerprint": self.fingerprint})

    @classmethod
    def load(cls, directory: Path) -> TermsOnly:
        """Read what `save` wrote.

        Raises:
            DamagedArtifactError: the file is missing or unreadable.
        """
        document = read_document(directory)
        return cls((), str(document.get("name")), str(document.get("fingerprint")))
