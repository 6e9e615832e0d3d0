"""The dense vectors of an index as an export (`thresher export --format faiss`): a file of faiss, and its docnos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.checks import one_of
from thresher.errors import InputError
from thresher.index.exchange.formats import Format
from thresher.vectors.faiss_files import FLAT, KINDS, SUFFIX, write_faiss

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.exchange.documents import Documents, Vectors


class FaissVectors(Format):
    """A faiss index file: `faiss`, `faiss:ivf` or `faiss:hnsw`. The id of a vector is the line of its docno, from 0."""

    name = "faiss"
    title = "faiss"
    suffixes = (SUFFIX,)
    loses = "titles, texts, metadata, weighted terms"
    reads = packs = docnos = False
    vectors = True

    def __init__(self, argument: str = "") -> None:
        one_of("kind of faiss index", argument or FLAT, KINDS)
        self._kind = argument or FLAT

    def check(self, documents: Documents) -> None:
        """Refuse an index without vectors."""
        if documents.vectors is None:
            raise InputError("the index has no vectors; build it with a [vectors] table in its recipe")

    def write(self, documents: Documents, file: Path) -> None:
        """The vectors of the documents, in their order.

        Raises:
            InputError: a document has no vector.
        """
        self.check(documents)
        found = [part.layout.numbers_of(np.flatnonzero(wanted)) + part.start for part, wanted in documents.parts]
        numbers = np.concatenate(found).astype(np.int64)
        first = documents.vectors(numbers[:1])  # type: ignore[misc]  # checked
        write_faiss(_Rows(documents.vectors, numbers, first.shape[1]), file, kind=self._kind)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Rows:
    """Vectors of passages by number, as rows."""

    vectors: Vectors
    numbers: NDArray[np.int64]
    dimensions: int

    def __len__(self) -> int:
        return len(self.numbers)

    def decode(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of these rows."""
        found = self.vectors(self.numbers[rows])
        lacking = int(np.count_nonzero(~np.isfinite(found).all(axis=1)))
        if lacking:
            raise InputError(
                f"{lacking} passages have no vector; export the first tier alone (--tiers first), or encode them"
            )
        return found
