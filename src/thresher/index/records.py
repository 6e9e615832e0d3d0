"""A record of every passage that an index was given: a hash of its docno and one of its content.

Records answer whether a docno is known and whether its passage has changed, without reading a text or a docno: two
files of 8 bytes a passage, `keys` and `contents`, by number of the passage. Both hashes are BLAKE2b cut to 64 bits. A
content hash covers docno, title, text and metadata (by key, in any order), so an unchanged passage is known by 128
bits. Where a docno only seems to be known, its string is compared before anything is done.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from thresher.corpus.spool import docno_keys
from thresher.index.arrays import map_array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from thresher.records import Passage

KEYS, CONTENTS = "keys", "contents"
"""The files, in the directory of a layout and in `pruning/`."""


def content_keys(passages: Sequence[Passage]) -> NDArray[np.uint64]:
    """A 64-bit hash of docno, title, text and metadata of each passage, uint64[n]."""
    out = np.empty(len(passages), np.uint64)
    for row, passage in enumerate(passages):
        metadata = json.dumps(dict(passage.metadata), sort_keys=True) if passage.metadata else ""
        parts = [part.encode("utf-8", "surrogatepass") for part in (passage.docno, passage.title, passage.text)]
        state = hashlib.blake2b(b"%d %d %d\n" % tuple(map(len, parts)), digest_size=8)
        for part in parts:
            state.update(part)
        state.update(metadata.encode("utf-8", "surrogatepass"))
        out[row] = int.from_bytes(state.digest(), "big")
    return out


class RecordWriter:
    """Appends the records of passages to the files of `directory`. Close it to make them whole."""

    def __init__(self, directory: Path) -> None:
        self._files = [(directory / name).open("wb") for name in (KEYS, CONTENTS)]

    def extend(self, passages: Sequence[Passage]) -> None:
        """Append the record of each passage."""
        self.copy(docno_keys(passage.docno for passage in passages), content_keys(passages))

    def copy(self, keys: NDArray[np.uint64], contents: NDArray[np.uint64]) -> None:
        """Append records that were made before, uint64[n] each."""
        for file, values in zip(self._files, (keys, contents), strict=True):
            np.ascontiguousarray(values, "<u8").tofile(file)

    def close(self) -> None:
        """Write both files."""
        for file in self._files:
            file.close()


def open_records(directory: Path, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The docno keys and content keys of `count` passages, uint64[count] each, mapped.

    Raises:
        DamagedArtifactError: a file is missing or of the wrong size.
    """
    keys, contents = (map_array(directory / name, np.uint64, (count,)) for name in (KEYS, CONTENTS))
    return keys, contents
