"""What files an index is made of, and how they are opened.

Documents carry dense internal ids `0 … passages - 1`, in index order. They are cut into **blocks** of `block`
consecutive ids (a power of two), blocks into **tiles** of 2,048 ids, and tiles into **segments** of 65,536. Every term
has one posting list, in ascending id order: an impact and the id modulo the segment for each posting, in two arrays
side by side. Lists come in three kinds, by length:

* a **common** term owns one row of the directory, which says where each tile begins within the list, and its largest
  impact in each block;
* the list of any other term is walked from its begin. Where postings follow in a later segment, the postings of a
  segment are preceded by a **head**: an entry of impact 0 whose id is their number. So a list within one segment has no
  head in front of its postings, only one for each empty segment before, and a collection of up to 65,536 passages none;
* a term of fewer than ten postings has no row of `kth` either.

The border of the common terms is the shortest list length at which all rows together take at most `DIRECTORY_BYTES` a
posting; lists of more than 65,535 postings are always common.

| file | dtype and shape | content |
|---|---|---|
| `layout.json` | | the counts that give the shapes below, `block`, `bits`, `scale` |
| `starts` | uint32[terms + 1], int64 from 2^32 entries on | where a term's list begins |
| `rows` | int32[terms] | row of `kth`, common terms first; -1 for a list of fewer than ten postings |
| `kth` | uint8 or uint16[numbered, 4] | largest, 10th, 100th and 1000th largest impact, 0 where the list is shorter |
| `impacts` | uint8 or uint16[entries] | stored impacts, at least 1; 0 in heads |
| `ids` | uint16[entries] | internal id modulo the segment; in heads, the postings of the segment |
| `tiles` | uint32[common, tiles + 1] | first posting of each tile, counted from the list's begin |
| `maxima` | uint8[common, blocks] | largest impact in the block; 16-bit ones in 255ths of the list's, rounded up |
| `ranks` | uint32[passages] | place of the docno among all docnos in bytewise order |
| `sources` | uint32[passages] | number of the passage in the order it came (absent where that is the id) |
| `docnos`, `passages`, `vocabulary` | string stores | by number of the passage; the term strings by term id |
| `sorted_terms` | uint32[terms] | term ids in bytewise order of their strings |
| `encoder/` | | what turns a question into weighted terms; belongs to `thresher.encode` |
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thresher.artifact import Manifest, read_manifest
from thresher.errors import ArtifactVersionError, DamagedArtifactError
from thresher.index.arrays import map_array
from thresher.index.strings import StringStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DIRECTORY_BYTES",
    "FORMAT",
    "KIND",
    "KTH",
    "NUMBERED",
    "SEGMENT",
    "TILE",
    "Counts",
    "Layout",
    "open_layout",
]

KIND = "index"
FORMAT = 2
TILE = 2048
SEGMENT = 65_536
BLOCKS = tuple(2**i for i in range(9))
"""The sizes a block may have."""
DIRECTORY_BYTES = 0.5
NUMBERED = 10
"""Postings of the shortest list with a row of `kth`."""
KTH = (1, 10, 100, 1000)
"""For which k every list stores its k-th largest impact."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers that give every array its shape.

    Attributes:
        passages: documents.
        terms: size of the vocabulary.
        postings: non-zero impacts.
        common: terms with a row in the block directory.
        numbered: terms with a row of `kth`.
        entries: postings and heads.
        block: documents in a block.
        bits: 8 or 16, width of an impact.
        scale: what one unit of impact is worth in the encoder's weights.
        reordered: internal ids are not in the order the passages came.
    """

    passages: int
    terms: int
    postings: int
    common: int
    numbered: int
    entries: int
    block: int
    bits: int
    scale: float
    reordered: bool

    def check(self, file: Path) -> None:
        """Refuse counts that no builder writes.

        Raises:
            DamagedArtifactError: naming `file`.
        """
        whole = (self.passages, self.terms, self.postings, self.common, self.numbered, self.entries)
        sound = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48 for n in whole)
        sound = sound and self.passages < 2**32 and self.terms < 2**32 and self.postings <= self.entries
        sound = sound and self.common <= self.numbered <= self.terms
        sound = sound and isinstance(self.block, int) and self.block in BLOCKS and self.bits in (8, 16)
        sound = sound and isinstance(self.scale, float) and math.isfinite(self.scale) and self.scale > 0
        if not sound or not isinstance(self.reordered, bool):
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
        """Blocks in a tile."""
        return TILE // self.block

    @property
    def tiles(self) -> int:
        """Tiles of the collection, the last one possibly short."""
        return -(-self.blocks // self.step)


@dataclass(frozen=True, slots=True)
class Layout:
    """An open index: its arrays, as the module's table names them, and its strings."""

    path: Path
    manifest: Manifest
    counts: Counts
    starts: NDArray[Any]
    rows: NDArray[np.int32]
    kth: NDArray[Any]
    impacts: NDArray[Any]
    ids: NDArray[np.uint16]
    tiles: NDArray[np.uint32]
    maxima: NDArray[np.uint8]
    ranks: NDArray[np.uint32]
    sources: NDArray[np.uint32] | None
    docnos: StringStore
    passages: StringStore
    vocabulary: StringStore
    sorted_terms: NDArray[np.uint32]


def open_layout(path: str | Path) -> Layout:
    """Open the index `path` by memory mapping: sizes are checked, nothing is read but the manifest and the counts.

    Raises:
        ArtifactError: there is no index at `path`.
        ArtifactVersionError: its layout is older or newer than what this thresher reads.
        DamagedArtifactError: a file is missing, of the wrong size, or the counts make no sense.
    """
    path = Path(path)
    manifest = read_manifest(path, kind=KIND, format=FORMAT)
    if manifest.format < FORMAT:
        raise ArtifactVersionError(
            f"{path} has format {manifest.format}, written by thresher {manifest.version}; this release reads format "
            f"{FORMAT} only. Build the index again"
        )
    n = read_counts(path / "layout.json")
    impact = np.uint8 if n.bits == 8 else np.uint16
    return Layout(
        path=path,
        manifest=manifest,
        counts=n,
        starts=map_array(path / "starts", n.start_type, (n.terms + 1,)),
        rows=map_array(path / "rows", np.int32, (n.terms,)),
        kth=map_array(path / "kth", impact, (n.numbered, len(KTH))),
        impacts=map_array(path / "impacts", impact, (n.entries,)),
        ids=map_array(path / "ids", np.uint16, (n.entries,)),
        tiles=map_array(path / "tiles", np.uint32, (n.common, n.tiles + 1)),
        maxima=map_array(path / "maxima", np.uint8, (n.common, n.blocks)),
        ranks=map_array(path / "ranks", np.uint32, (n.passages,)),
        sources=map_array(path / "sources", np.uint32, (n.passages,)) if n.reordered else None,
        docnos=StringStore(path, "docnos", n.passages),
        passages=StringStore(path, "passages", n.passages),
        vocabulary=StringStore(path, "vocabulary", n.terms),
        sorted_terms=map_array(path / "sorted_terms", np.uint32, (n.terms,)),
    )


def read_counts(file: Path) -> Counts:
    """The counts of an index.

    Raises:
        DamagedArtifactError: the file cannot be read or holds nonsense.
    """
    try:
        counts = Counts(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError) as err:
        raise DamagedArtifactError(str(file), f"cannot be read ({err}); rebuild the index") from err
    counts.check(file)
    return counts


def write_counts(file: Path, counts: Counts) -> None:
    """Write what `read_counts` reads."""
    file.write_text(json.dumps(asdict(counts), indent=1) + "\n", encoding="utf-8")
