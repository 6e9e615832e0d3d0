"""What files an index is made of, and how they are opened.

Documents carry dense internal ids `0 ... passages - 1`, in index order. They are divided into **blocks** of `block`
consecutive ids (a power of two), blocks into **superblocks** of 2,048 ids, and superblocks into **chunks** of 65,536.
Every term has one posting list, in ascending id order: an impact and the id modulo the chunk for each posting, in two
arrays side by side. There are three kinds of lists, by length:

* a **dense** term, one that many documents hold, has a dense posting list: a row of impacts, one a document, 0 where
  the document lacks the term. From a third of the documents on that takes less room than ids, is added without looking
  up where to, and answers for one document at once;
* a **common** term has a row in the directory, which gives where each superblock begins within the list, and its
  largest impact in each block. Dense terms are common; their rows count the postings before each superblock;
* the list of any other term is scanned from its beginning. If postings follow in a later chunk, the postings of a chunk
  are preceded by a **skip entry**: an entry of impact 0 whose id is their number. So a list within the first chunk has
  no skip entry in front of its postings, only one for each empty chunk before, and a collection of up to 65,536
  passages has none;
* a term of fewer than ten postings has no row of `kth` either: it is not **numbered**.

Terms are dense from the longest list on, while all dense rows together take at most `DENSE_BYTES` a posting more than
lists would, and hold more than one document in `SPARSEST`. Common terms are those from the shortest list length on at
which all rows together take at most `DIRECTORY_BYTES` a posting; lists of more than 65,535 postings are always common.

| file | dtype and shape | content |
|---|---|---|
| `layout.json` | | the counts that give the shapes below, `block`, `bits`, `scale` |
| `lengths` | uint8[terms] | entries of each list, 0 for dense ones; 255 where the number is in `long` |
| `long` | uint32[long] | lengths of the lists of 255 entries or more, by term |
| `kinds` | uint8[ceil(terms / 4)] | 3 dense, 2 common, 1 numbered, 0 none of these; term 4 i + j in bits 2 j, 2 j + 1 |
| `kth` | uint8 or uint16[numbered, 4] | largest, 10th, 100th and 1000th largest impact, 0 where the list is shorter |
| `dense` | uint8 or uint16[dense, passages] | impacts of the dense terms by internal id |
| `impacts` | uint8 or uint16[entries] | stored impacts, at least 1; 0 in skip entries |
| `ids` | uint16[entries] | internal id modulo the chunk; in skip entries, the postings of the chunk |
| `tiles` | uint32[common, superblocks + 1] | first posting of each superblock, counted from the list's beginning |
| `maxima` | uint8[common, blocks] | largest impact in the block; 16-bit ones in 255ths of the list's, rounded up |
| `ranks` | uint32[passages] | place of the docno among all docnos in bytewise order |
| `sources` | uint32[passages] | number of the passage in the order it came (absent where that is the id) |
| `passages` | plain string store | by number of the passage |
| `docnos` | packed string store | by number of the passage |
| `keys` | uint64[passages] | a hash of the docno, by number of the passage (`thresher.index.records`) |
| `contents` | uint64[passages] | a hash of docno, title, text and metadata, likewise |
| `vocabulary` | packed string store | the term strings in bytewise order |
| `sorted_terms` | uint32[terms] | their term ids (absent where these ascend) |
| `tokens` | uint32[passages] | terms of each passage with repetitions, by number of the passage (only where `idf`) |

Rows of `kth`, `maxima`, `tiles` and `dense` are numbered alike: the dense terms first, then the other common ones, then
the other numbered ones, by term id within each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from thresher.arguments import checked_call
from thresher.artifact import read_manifest
from thresher.checks import is_a, path_of, shown
from thresher.errors import ArtifactVersionError, DamagedArtifactError, InputError
from thresher.index.arrays import PackedStore, StringStore, map_array
from thresher.index.counts import read_counts
from thresher.index.packing import unpack_fields
from thresher.records import Passage

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.index.arrays import Array
    from thresher.index.counts import Counts
    from thresher.manifest import Manifest

KIND = "segment"
FORMAT = 4
CHUNK = 65_536
DIRECTORY_BYTES = 0.4
DENSE_BYTES = 0.05
SPARSEST = 16
NUMBERED = 10
"""Postings of the shortest list with a row of `kth`."""
KTH = (1, 10, 100, 1000)
"""For which k every list stores its k-th largest impact."""
SCATTERED = 32
"""Lists that are sampled for `Layout.scatter`."""
DENSE, COMMON = 3, 2
LONG = 255
VALID, IDS_FAULT, SUPERBLOCKS_FAULT = range(3)
"""What may be wrong with a posting list; `FAULT_FILES` names the file."""
FAULT_FILES = ("", "ids", "tiles")


@dataclass(frozen=True)
class Layout:
    """An open index: its arrays, as the module's table names them, and its strings."""

    path: Path
    manifest: Manifest
    counts: Counts
    lengths: NDArray[np.uint8]
    long: NDArray[np.uint32]
    kinds: NDArray[np.uint8]
    kth: Array
    dense: Array
    impacts: Array
    ids: NDArray[np.uint16]
    superblocks: NDArray[np.uint32]
    maxima: NDArray[np.uint8]
    ranks: NDArray[np.uint32]
    sources: NDArray[np.uint32] | None
    docnos: PackedStore
    passages: StringStore
    vocabulary: PackedStore
    sorted_terms: NDArray[np.uint32] | None
    tokens: NDArray[np.uint32] | None
    encoder: Path | None
    """Folder of the encoder that turns a query into the tier's terms; None where there is none."""

    @cached_property
    def starts(self) -> Array:
        """uint32[terms + 1], int64 from 2^32 entries on: where each term's list begins; read-only.

        Raises:
            DamagedArtifactError: the stored lengths are not those of the lists.
        """
        n = self.counts
        lengths = self.lengths.astype(np.int64)
        long = np.flatnonzero(self.lengths == LONG)
        if len(long) == n.long:
            lengths[long] = self.long
        starts = np.zeros(n.terms + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        if len(long) != n.long or int(starts[-1]) != n.entries:
            raise DamagedArtifactError(str(self.path / "lengths"), "does not add up to the lists; rebuild the index")
        starts = starts.astype(n.start_type)
        starts.flags.writeable = False
        return starts

    @cached_property
    def rows(self) -> NDArray[np.int32]:
        """int32[terms]: each term's row of `kth` and the other arrays, -1 where it has none; read-only.

        Raises:
            DamagedArtifactError: the stored kinds are not those of the rows.
        """
        n = self.counts
        kinds = ((self.kinds[:, None] >> np.arange(0, 8, 2, dtype=np.uint8)) & np.uint8(3)).ravel()[: n.terms]
        rows = rows_of_kinds(kinds)
        if [int((kinds >= kind).sum()) for kind in (DENSE, COMMON, 1)] != [n.dense, n.common, n.numbered]:
            raise DamagedArtifactError(str(self.path / "kinds"), "does not fit the rows; rebuild the index")
        rows.flags.writeable = False
        return rows

    @cached_property
    def scatter(self) -> float:
        """Blocks that some common lists touch, over those they would touch in random order; 1 where there are none.

        It measures how well the order of documents brings similar ones together: only then are block maxima tight
        bounds.
        """
        n = self.counts
        if n.common == n.dense:
            return 1.0
        rows = np.linspace(n.dense, n.common - 1, min(SCATTERED, n.common - n.dense)).astype(np.int64)
        lengths = self.superblocks[rows, -1].astype(np.float64)
        touched = sum(int(np.count_nonzero(self.maxima[row])) for row in rows)
        at_random = float((n.blocks * -np.expm1(lengths * np.log1p(-1 / max(n.blocks, 2)))).sum())
        return touched / at_random if at_random > 0 else 1.0

    @cached_property
    def token_counts(self) -> tuple[int, int]:
        """Passages with at least one term, and terms of all passages; both 0 where `tokens` is not kept."""
        if self.tokens is None:
            return 0, 0
        return int(np.count_nonzero(self.tokens)), int(self.tokens.sum(dtype=np.int64))

    @checked_call
    def numbers_of(self, docs: Array) -> NDArray[np.int64]:
        """int64[n]: numbers, in the order passages came, of the passages with these internal ids.

        Raises:
            DamagedArtifactError: the index maps an id to a passage it does not have.
        """
        if not is_a(docs, np.ndarray) or docs.ndim != 1 or docs.dtype.kind not in "iu":
            raise InputError(f"docs must be whole numbers in an array of one dimension, got {shown(docs)}")
        if len(docs) and not 0 <= int(docs.min()) <= int(docs.max()) < self.counts.passages:
            raise InputError(f"docs must be below {self.counts.passages}, got {shown(docs)}")
        if self.sources is None:
            return docs.astype(np.int64)
        numbers: NDArray[np.int64] = self.sources[docs].astype(np.int64)
        if len(numbers) and int(numbers.max()) >= self.counts.passages:
            raise DamagedArtifactError(str(self.path / "sources"), "names a passage that does not exist")
        return numbers

    @property
    def words(self) -> list[str]:
        """The term strings by term id, read from the file at every call.

        Raises:
            DamagedArtifactError: what is stored is not what the builder wrote.
        """
        try:
            words = [word.decode() for word in self.vocabulary.several(np.arange(self.counts.terms))]
            if self.sorted_terms is None:
                return words
            out = [""] * len(words)
            for term, word in zip(self.sorted_terms.tolist(), words, strict=True):
                out[term] = word
        except (UnicodeDecodeError, IndexError) as err:
            raise DamagedArtifactError(str(self.path / "vocabulary.bytes"), f"{err}; rebuild the index") from err
        return out

    @checked_call
    def passage(self, number: int) -> Passage:
        """The passage with this number.

        Raises:
            DamagedArtifactError: what is stored is not what the builder wrote.
        """
        if not 0 <= number < self.counts.passages:
            raise InputError(f"there is no passage {number}; the index has {self.counts.passages}")
        docno = self.docnos[number]
        try:
            title, text, metadata = unpack_fields(self.passages.raw(number))
        except (ValueError, TypeError, RecursionError) as err:
            problem = f"passage {number} cannot be read ({err}); rebuild the index"
            raise DamagedArtifactError(str(self.path / "passages.bytes"), problem) from err
        try:
            return Passage(docno, text, title, metadata)
        except InputError as err:
            raise DamagedArtifactError(str(self.path / "docnos.bytes"), f"{err}; rebuild the index") from err

    @checked_call
    def find(self, docno: str) -> int:
        """The number of the passage with this docno, -1 where there is none: binary search over the sorted docnos.

        Raises:
            DamagedArtifactError: `ranks` is not a permutation.
        """
        wanted = docno.encode("utf-8", "surrogatepass")
        low, high = 0, self.counts.passages
        while low < high:
            middle = (low + high) // 2
            number = int(self._by_docno[middle])
            here = self.docnos.raw(number)
            if here == wanted:
                return number
            if here < wanted:
                low = middle + 1
            else:
                high = middle
        return -1

    @cached_property
    def _by_docno(self) -> NDArray[np.int64]:
        """int64[passages]: numbers of the passages, by docno in bytewise order; the inverse of `ranks`."""
        n = self.counts.passages
        docs = np.full(n, -1, np.int64)
        if n == 0 or int(self.ranks.max()) < n:
            docs[self.ranks] = np.arange(n)
        if (docs < 0).any():
            raise DamagedArtifactError(str(self.path / "ranks"), "is not a permutation; rebuild the index")
        return self.numbers_of(docs)

    @checked_call
    def postings_of(self, terms: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[n]: entries of the lists of `terms`, which is their postings, and skip entries where there are any."""
        if len(terms) and not 0 <= int(terms.min()) <= int(terms.max()) < len(self.rows):
            raise InputError(f"terms must be below {len(self.rows)}, got {shown(terms)}")
        found = self.starts[terms + 1].astype(np.int64) - self.starts[terms].astype(np.int64)
        rows = self.rows[terms]
        dense = (rows >= 0) & (rows < self.counts.dense)
        found[dense] = self.superblocks[rows[dense], -1]
        return found


def rows_of_kinds(kinds: Array) -> NDArray[np.int32]:
    """Rows by term: the dense ones first, then the common ones, then the numbered ones; -1 for others."""
    rows = np.full(len(kinds), -1, np.int32)
    first = 0
    for kind in (DENSE, COMMON, 1):
        own = np.flatnonzero(kinds == kind)
        rows[own] = np.arange(first, first + len(own), dtype=np.int32)
        first += len(own)
    return rows


def open_layout(path: str | Path, encoders: Path | None = None) -> Layout:
    """Open one tier of a segment by memory mapping: sizes are checked, only the manifest and the counts are read.

    Args:
        path: the segment, or its `tier-2`.
        encoders: the folder of the index's query encoders.

    Raises:
        ArtifactError: there is no segment at `path`.
        ArtifactVersionError: its layout is older or newer than what this thresher reads.
        DamagedArtifactError: a file is missing, of the wrong size, or the counts make no sense.
    """
    path = path_of(path)
    manifest = read_manifest(path, kind=KIND, format=FORMAT)
    check_format(path, manifest)
    n = read_counts(path / "layout.json")
    impact = np.uint8 if n.bits == 8 else np.uint16
    return Layout(
        path=path,
        manifest=manifest,
        counts=n,
        lengths=map_array(path / "lengths", np.uint8, (n.terms,)),
        long=map_array(path / "long", np.uint32, (n.long,)),
        kinds=map_array(path / "kinds", np.uint8, (-(-n.terms // 4),)),
        kth=map_array(path / "kth", impact, (n.numbered, len(KTH))),
        dense=map_array(path / "dense", impact, (n.dense, n.passages)),
        impacts=map_array(path / "impacts", impact, (n.entries,)),
        ids=map_array(path / "ids", np.uint16, (n.entries,)),
        superblocks=map_array(path / "tiles", np.uint32, (n.common, n.superblocks + 1)),
        maxima=map_array(path / "maxima", np.uint8, (n.common, n.blocks)),
        ranks=map_array(path / "ranks", np.uint32, (n.passages,)),
        sources=map_array(path / "sources", np.uint32, (n.passages,)) if n.reordered else None,
        docnos=PackedStore(path, "docnos", n.passages),
        passages=StringStore(path, "passages", n.passages),
        vocabulary=PackedStore(path, "vocabulary", n.terms),
        sorted_terms=None if n.alphabetical else map_array(path / "sorted_terms", np.uint32, (n.terms,)),
        tokens=map_array(path / "tokens", np.uint32, (n.passages,)) if n.idf else None,
        encoder=_encoder_of(manifest, encoders),
    )


def check_format(path: Path, manifest: Manifest) -> None:
    """Refuse an older format.

    Raises:
        ArtifactVersionError: it is one.
    """
    if manifest.format < FORMAT:
        raise ArtifactVersionError(
            f"{path} has format {manifest.format}, written by thresher {manifest.version}; this release reads format "
            f"{FORMAT} only. Build the index again"
        )


def encoder_folder(fingerprint: str) -> str:
    """The name of the folder in `encoders/` of the encoder with this fingerprint: its first 12 hexadecimal digits."""
    known = fingerprint if re.match(r"[0-9a-f]{12}", fingerprint) else sha256(fingerprint.encode()).hexdigest()
    return known[:12]


def _encoder_of(manifest: Manifest, encoders: Path | None) -> Path | None:
    said = manifest.fields.get("encoder")
    fingerprint = said.get("fingerprint") if isinstance(said, dict) else None
    if encoders is None or not isinstance(fingerprint, str):
        return None
    folder = encoders / encoder_folder(fingerprint)
    return folder if folder.is_dir() else None
