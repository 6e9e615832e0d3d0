"""What files an index is made of, and how they are opened.

Documents carry dense internal ids `0 … passages - 1`, in index order. They are cut into **blocks** of `block`
consecutive ids, and blocks into **tiles** of `step` blocks (about 2,048 documents), whose accumulators fit the
first-level cache. Every term has one posting list, in ascending id order, in one of two forms:

* a **common** term (long list) stores each id modulo the tile (`locals`) and owns one row of the directory, which says
  where each tile and block begins within the list, and its largest impact in each block;
* a **rare** term (short list) stores gaps between ids (`gaps`): its list is decoded from end to end whenever a query
  names it, which costs less time than a row would cost space. A gap of 65,535 stands for a step without posting.

The border between them is the shortest list length at which all rows together take at most `DIRECTORY_BYTES` a
posting. Impacts lie in one array, list after list.

| file | dtype and shape | content |
|---|---|---|
| `layout.json` | | the counts that give the shapes below, `block`, `bits`, `scale` |
| `starts` | int64[terms + 1] | where a term's impacts begin |
| `bases` | int64[terms] | where a term's ids begin, in `locals` or in `gaps` |
| `rows` | int32[terms] | row of the directory, -1 for a rare term |
| `kth` | uint8 or uint16[terms, 4] | largest, 10th, 100th and 1000th largest impact, 0 where the list is shorter |
| `impacts` | uint8 or uint16[postings] | stored impacts, at least 1 |
| `locals` | uint16[common postings] | internal id modulo the tile |
| `gaps` | uint16[gaps] | steps from id to id, the first from -1 |
| `tiles` | uint32[rows, tiles + 1] | first posting of each tile, counted from the list's begin |
| `offsets` | uint16[rows, tiles, step + 1] | first posting of each block, counted from the tile's; and the tile's end |
| `maxima` | uint8[rows, blocks] | largest impact in the block; if 16-bit, in 255ths of the list's largest, rounded up |
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
from thresher.errors import DamagedArtifactError
from thresher.index.arrays import map_array
from thresher.index.strings import StringStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DIRECTORY_BYTES", "FORMAT", "KIND", "KTH", "Counts", "Layout", "open_layout"]

KIND = "index"
FORMAT = 1
TILE = 2048
DIRECTORY_BYTES = 0.8
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
        common_postings: postings of those terms.
        gaps: entries of the rare terms' gaps.
        block: documents in a block.
        bits: 8 or 16, width of an impact.
        scale: what one unit of impact is worth in the encoder's weights.
        reordered: internal ids are not in the order the passages came.
    """

    passages: int
    terms: int
    postings: int
    common: int
    common_postings: int
    gaps: int
    block: int
    bits: int
    scale: float
    reordered: bool

    def check(self, file: Path) -> None:
        """Refuse counts that no builder writes.

        Raises:
            DamagedArtifactError: naming `file`.
        """
        whole = (self.passages, self.terms, self.postings, self.common, self.common_postings, self.gaps)
        sound = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48 for n in whole)
        sound = sound and self.passages < 2**32 and self.terms < 2**32 and self.common <= self.terms
        sound = sound and self.common_postings <= self.postings
        sound = sound and isinstance(self.block, int) and 1 <= self.block <= 256 and self.bits in (8, 16)
        sound = sound and isinstance(self.scale, float) and math.isfinite(self.scale) and self.scale > 0
        if not sound or not isinstance(self.reordered, bool):
            raise DamagedArtifactError(str(file), "holds counts that no index has; rebuild the index")

    @property
    def blocks(self) -> int:
        """Blocks of the collection, the last one possibly short."""
        return -(-self.passages // self.block)

    @property
    def step(self) -> int:
        """Blocks in a tile."""
        return max(1, TILE // self.block)

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
    starts: NDArray[np.int64]
    bases: NDArray[np.int64]
    rows: NDArray[np.int32]
    kth: NDArray[Any]
    impacts: NDArray[Any]
    locals: NDArray[np.uint16]
    gaps: NDArray[np.uint16]
    tiles: NDArray[np.uint32]
    offsets: NDArray[np.uint16]
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
        ArtifactError: there is no index at `path`, or a newer thresher wrote it.
        DamagedArtifactError: a file is missing, of the wrong size, or the counts make no sense.
    """
    path = Path(path)
    manifest = read_manifest(path, kind=KIND, format=FORMAT)
    n = read_counts(path / "layout.json")
    impact = np.uint8 if n.bits == 8 else np.uint16
    return Layout(
        path=path,
        manifest=manifest,
        counts=n,
        starts=map_array(path / "starts", np.int64, (n.terms + 1,)),
        bases=map_array(path / "bases", np.int64, (n.terms,)),
        rows=map_array(path / "rows", np.int32, (n.terms,)),
        kth=map_array(path / "kth", impact, (n.terms, len(KTH))),
        impacts=map_array(path / "impacts", impact, (n.postings,)),
        locals=map_array(path / "locals", np.uint16, (n.common_postings,)),
        gaps=map_array(path / "gaps", np.uint16, (n.gaps,)),
        tiles=map_array(path / "tiles", np.uint32, (n.common, n.tiles + 1)),
        offsets=map_array(path / "offsets", np.uint16, (n.common, n.tiles, n.step + 1)),
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
