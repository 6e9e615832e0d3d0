"""Texts to weighted terms: the seam every sparse encoder fits, and how an index finds its query side again.

An encoder has two sides. The passage side runs once, when an index is built. The query side runs at every query;
`save` writes what it needs into the index (`encoder/`), and `load_query_encoder` reads that, whoever wrote it:
`encoder.json` names the type.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from thresher.errors import ArtifactVersionError, DamagedArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thresher.records import SparseBatch

__all__ = ["QueryEncoder", "SparseEncoder", "load_query_encoder", "read_document"]

DOCUMENT = "encoder.json"


class QueryEncoder(Protocol):
    """The query side of a sparse encoder."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder that encoded the passages."""

    def encode_queries(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of queries, row i for text i. Unknown terms are dropped, repeated ones summed."""


class SparseEncoder(QueryEncoder, Protocol):
    """Passages and queries to weighted terms of one vocabulary."""

    @property
    def vocabulary(self) -> Sequence[str]:
        """The term strings by term id."""

    def encode_passages(self, texts: Sequence[str]) -> SparseBatch:
        """Weighted terms of passages (`Passage.contents`), row i for text i."""

    def save(self, directory: Path) -> None:
        """Write what the query side needs into `directory`, `encoder.json` among it."""


def load_query_encoder(directory: str | Path) -> QueryEncoder:
    """Open the query side that an encoder saved.

    Raises:
        DamagedArtifactError: a file of it is missing or unreadable.
        ArtifactVersionError: its type is unknown to this release.
        MissingExtraError: it needs an optional dependency that is not installed.
    """
    directory = Path(directory)
    document = read_document(directory)
    kind = document.get("type")
    if kind == "bm25":
        from thresher.encode.bm25 import Bm25QueryEncoder

        return Bm25QueryEncoder.load(directory)
    if kind == "inference-free":
        from thresher.encode.lookup import LookupQueryEncoder

        return LookupQueryEncoder.load(directory)
    if kind == "sentence-transformers":
        from thresher.encode.learned import LearnedSparseEncoder

        return LearnedSparseEncoder.load(document)
    raise ArtifactVersionError(
        f"{directory / DOCUMENT}: encoder type {kind!r} is unknown to this release; install a newer thresher"
    )


def read_document(directory: Path) -> dict[str, Any]:
    """The JSON object in `encoder.json` of `directory`.

    Raises:
        DamagedArtifactError: it is missing, or is no JSON object.
    """
    file = directory / DOCUMENT
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the index") from err
    if not isinstance(document, dict):
        raise DamagedArtifactError(str(file), f"holds a {type(document).__name__}, not an object; rebuild the index")
    return document
