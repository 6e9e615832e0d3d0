"""The counts of one tier of a segment, from which every array has its shape: `layout.json`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from thresher.errors import DamagedArtifactError
from thresher.files import ABSENT

if TYPE_CHECKING:
    from pathlib import Path


SUPERBLOCK = 2048

BLOCKS = tuple(2**i for i in range(9))
"""The sizes a block may have."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers that give every array its shape.

    Attributes:
        passages: documents.
        terms: size of the vocabulary.
        postings: non-zero impacts.
        dense: terms with a row of `dense`.
        common: terms with a row in the block directory.
        numbered: terms with a row of `kth`.
        entries: postings of the other terms, and skip entries.
        long: lists of 255 entries or more.
        block: documents in a block.
        bits: 8 or 16, width of an impact.
        scale: what one unit of impact is worth in the encoder's weights.
        reordered: internal ids are not in the order the passages came.
        alphabetical: term ids ascend with the terms' strings, bytewise.
        idf: impacts are BM25's term-frequency parts: query weights are multiplied by the IDF, which `tokens` and the
            lists give.
    """

    passages: int
    terms: int
    postings: int
    dense: int
    common: int
    numbered: int
    entries: int
    long: int
    block: int
    bits: int
    scale: float
    reordered: bool
    alphabetical: bool
    idf: bool

    def check(self, file: Path) -> None:
        """Refuse counts that no builder writes.

        Raises:
            DamagedArtifactError: naming `file`.
        """
        whole = (
            self.passages, self.terms, self.postings, self.dense, self.common, self.numbered, self.entries, self.long,
        )  # fmt: skip
        valid = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48 for n in whole)
        valid = valid and self.passages < 2**32 and self.terms < 2**32
        valid = valid and self.dense <= self.common <= self.numbered <= self.terms and self.long <= self.terms
        valid = valid and isinstance(self.block, int) and self.block in BLOCKS and self.bits in (8, 16)
        valid = valid and isinstance(self.scale, float) and math.isfinite(self.scale) and self.scale > 0
        flags = (self.reordered, self.alphabetical, self.idf)
        if not (valid and all(isinstance(flag, bool) for flag in flags)):
            raise DamagedArtifactError(str(file), "holds counts that no index has; rebuild the index")

    @property
    def start_type(self) -> type[np.uint32] | type[np.int64]:
        """Type of the places where lists begin."""
        return np.uint32 if self.entries < 2**32 else np.int64

    @property
    def blocks(self) -> int:
        """Blocks of the collection, the last one possibly short."""
        return -(-self.passages // self.block)

    @property
    def step(self) -> int:
        """Blocks in a superblock."""
        return SUPERBLOCK // self.block

    @property
    def superblocks(self) -> int:
        """Superblocks of the collection, the last one possibly short."""
        return -(-self.blocks // self.step)


def read_counts(file: Path) -> Counts:
    """The counts of an index.

    Raises:
        DamagedArtifactError: the file cannot be read or holds nonsense.
    """
    try:
        counts = Counts(**json.loads(file.read_bytes()))
    except (*ABSENT, ValueError, TypeError, RecursionError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the index") from err
    counts.check(file)
    return counts


def write_counts(file: Path, counts: Counts) -> None:
    """Write what `read_counts` reads."""
    file.write_text(json.dumps(asdict(counts), indent=1) + "\n", encoding="utf-8")
